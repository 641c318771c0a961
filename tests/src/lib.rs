//! The cluster harness: real Kubernetes control planes on this machine without Docker, for scenarios, demo and
//! benchmarks.
//!
//! ```text
//!   controlplane   finds or builds the binaries ──► etcd (one a process)
//!   cluster        ──► kube-apiserver + kube-controller-manager + kubelet (a fake) for each cluster
//!   process        starts, kills, stops all of them and our own binaries; nothing outlives its owner
//!   git, git_http  repositories with commits made to order, served by path or smart HTTP, failing on demand
//!   registry       charts and artifacts: a real OCI registry, an index by HTTP
//!   proxy          between a client and an API server: sees requests, fails some on demand
//!   limits, disk   disks that are full, read-only or fail
//!   clock          clocks that are wrong and jump
//!   objects, wait  what a scenario reads, changes and waits for
//!   fleet, manifests  a hub and an agent in each cluster upon all that, and what their repository holds
//!   reliability    faults on a cluster under constant change, and what must hold after each
//!   demo           what `flotilla-demo` shows
//! ```
//!
//! Errors are `anyhow`: nobody matches on them, people read them. Scenarios should panic on them (`unwrap`), as the
//! logs of our own binaries are printed while a panic unwinds.

pub mod clock;
pub mod cluster;
mod components;
pub mod controlplane;
pub mod demo;
pub mod disk;
mod etcd;
pub mod fleet;
pub mod git;
pub mod git_http;
pub mod helm;
mod kubelet;
pub mod limits;
pub mod manifests;
pub mod marked;
pub mod objects;
mod pki;
mod ports;
mod preload;
pub mod process;
pub mod prometheus;
pub mod proxy;
pub mod registry;
pub mod reliability;
pub mod settled;
pub mod wait;

pub use cluster::{Cluster, ClusterOptions, Clusters, ControllerManager};
pub use kubelet::{FAIL_ANNOTATION, NOT_READY_ANNOTATION};
pub use ports::Port;
