//! The renderer seen from outside.

mod fleet;
mod fleet_example;
mod sources;
mod substitute;
mod world;
