//! What went wrong in other tools that promote changes through groups of clusters, each as a test that shows what happens here.

mod clusters;
mod done;
mod hub;
mod people;
