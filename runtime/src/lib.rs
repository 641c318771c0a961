//! Process scaffolding for the hub and the agent; it knows nothing of fleets.
//!
//! ```text
//! Signals ──► Tasks (named, supervised, joined at shutdown)
//!               │ each uses
//!               ├── backoff    delays between attempts
//!               ├── blocking   work that may block a thread
//!               ├── chain      errors with their causes, on one line
//!               ├── files      writes that survive a crash
//!               ├── lock       mutexes without poison
//!               ├── poll       waiting for what nobody announces
//!               ├── limits     rates, for one and by address
//!               ├── token      what an agent needs to join: hub addresses, CA pin, secret
//!               └── tls        CA, certificates, identities, connecting and accepting
//! telemetry: logs to stderr
//! ```

pub mod backoff;
mod blocking;
mod chain;
pub mod files;
pub mod limits;
mod lock;
mod poll;
pub mod shutdown;
pub mod tasks;
pub mod telemetry;
pub mod tls;
pub mod token;

pub use backoff::Backoff;
pub use blocking::blocking;
pub use chain::chain;
pub use lock::lock;
pub use poll::poll;
pub use shutdown::Signals;
pub use tasks::Tasks;
/// Tells every task that the process is going to end.
pub use tokio_util::sync::CancellationToken;
