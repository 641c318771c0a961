//! Scenarios: hub, agents and CLI as real programs, on real API servers, fed by real repositories.
//!
//! Each has clusters of its own (an API server, mostly nothing else) and so runs beside the others.

mod adoption;
mod approval;
mod bad_input;
mod change;
mod chart;
mod clocks;
mod deletion;
mod demo;
mod deploy;
mod disk;
mod drift;
mod enrolment;
mod faults;
mod flux_cli;
mod flux_live;
mod helm_example;
mod images;
mod install;
mod kills;
mod large;
mod layouts;
mod loss;
mod multi_tenancy;
mod nesting;
mod promotion;
mod promotion_gates;
mod quiet;
mod releases;
mod reliability;
mod repository;
mod set_aside;
mod shared;
mod sops;
mod sops_repository;
mod sources;
mod suspend;
mod tenants;
mod units;
mod way_out;

use std::time::Duration;

use flotilla_tests::objects::ObjectRef;

/// For how long something that must not happen is watched. What would make it happen has happened before.
const WHILE: Duration = Duration::from_millis(1500);

/// The JSON pointer of what `manifests::config_map` holds.
const VALUE: &str = "/data/value";

/// A ConfigMap in `default`.
fn config(name: &str) -> ObjectRef {
    ObjectRef::new("v1", "ConfigMap", "default", name)
}
