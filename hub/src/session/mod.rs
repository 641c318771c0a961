//! Agents: how they join, and the stream that each keeps open.
//!
//! ```text
//! service (gRPC over TLS) ─► door (how often) ─► enrolment (tokens, certificates)
//!      └──► driver (one task a session) ─► machine (the protocol, pure) ─► delta
//!              └──► registry (who is there, views)
//! ```

mod cluster;
mod delta;
mod door;
mod driver;
mod encoded;
mod enrolment;
mod facts;
mod leaving;
mod machine;
#[cfg(test)]
mod machine_tests;
#[cfg(test)]
mod questions_tests;
#[cfg(test)]
mod recorded_tests;
mod registry;
mod service;
mod wrong_port;

pub use cluster::{ClusterView, Units};
pub use encoded::EncodedBodies;
pub use enrolment::Joined;
pub use registry::{Answered, EndReason, RequestError, Sessions};
pub use service::{ServeError, serve};
