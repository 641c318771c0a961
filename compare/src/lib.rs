//! Our kustomize build held against the real one, on the same trees.
//!
//! ```text
//!   random::tree(seed) ─┐             ┌─► ours      our build, in this process ──────────────┐
//!   folders of others ──┴──► Tree ────┤                                                      ├──► verdict
//!                              ▲      └─► real      kustomize 5.8.1, built once with Go ─────┘       │
//!                              └───────────────── shrink ◄── where they differ ──────────────────────┘
//! ```
//!
//! The same for whole fleet repositories: `random::fleet` makes one, `fleet` renders it here, `flux` by Flux's packages.
//!
//! And on a real API server, for which the agent's tests bring one: `revisions` makes pairs of revisions of a unit, and
//! `flux_apply` applies them as kustomize-controller does.
//!
//! It is lean on purpose (no runtime, no cluster): the benchmarks on it are built and run in little time. `gobuild`
//! builds Go programs once a machine; the test control plane comes from it too.

pub mod campaign;
pub mod child;
pub mod fleet;
pub mod flux;
pub mod flux_apply;
pub mod gobuild;
pub mod large;
pub mod ours;
pub mod random;
pub mod real;
pub mod revisions;
pub mod seeds;
pub mod shrink;
pub mod tree;
pub mod verdict;
