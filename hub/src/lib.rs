//! The hub: reads the fleet repo, decides what each cluster should run, and serves agents and people.

pub mod desired;
pub mod fleet;
pub mod store;
pub mod view;
