//! The renderer seen from outside.

mod ask;
mod boundary;
mod budget;
mod coverage;
mod ends;
mod fields;
mod fleet;
mod fleet_example;
mod flux_live;
mod flux_repos;
mod generate;
mod leniency;
mod nesting;
mod plan;
mod plan_stages;
mod promotion;
mod remotes;
mod secrets;
mod sources;
mod splice;
mod substitute;
mod world;
