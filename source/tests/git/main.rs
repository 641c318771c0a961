//! Against real repositories, made by the `git` program.

mod flux;
mod github;
mod local;
mod push;
mod references;
mod remote;
mod remotes;
mod ssh;
mod support;
mod work_tree;
