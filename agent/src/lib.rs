//! The agent: keeps one cluster as the hub says, and goes on when the hub is away.
//!
//! ```text
//!   link ── desired state, bodies ──► sync ── requests ──► cluster ──► API server
//!        ◄── reports, events ────────      ◄── watches ───
//! ```

pub mod cluster;
pub mod disk;
pub mod install;
pub mod link;
mod manifest;
pub mod problems;
pub mod release;
pub mod run;
pub mod sync;

/// The agent's version, as it tells it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
