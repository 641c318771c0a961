//! What every cluster should run: from a rendered snapshot to a published desired state.

mod board;
mod bodies;
pub mod choice;
pub mod project;

pub use board::{Board, Published, Questions};
pub use bodies::Bodies;
