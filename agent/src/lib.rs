//! The agent: keeps one cluster as the hub says, and goes on when the hub is away.
//!
//! ```text
//!   link ── desired state, bodies ──► sync ── requests ──► cluster ──► API server
//!        ◄── reports, events ────────      ◄── watches ───
//! ```

pub mod cluster;
pub mod sync;
