//! Against real repositories, made by the `git` program.

mod local;
mod remote;
mod ssh;
mod support;
