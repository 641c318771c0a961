//! HTTP/JSON for people, scripts, the CLI and the console, over the hub's TLS.
//!
//! ```text
//! server (TLS, HTTP/1 and 2) ─► routes (one table: path, role, schema) ─► auth ─► handlers
//!                                     └─► openapi                           show: facts to JSON, pure
//! ```

mod activity;
mod admin;
mod adopt;
mod attention;
mod auth;
mod changes;
mod clusters;
mod enrolment;
mod error;
mod events;
mod fleet;
mod health;
mod images;
mod join_tokens;
mod list;
mod logins;
mod openapi;
mod pipelines;
mod reach;
mod router;
mod routes;
mod secret_uses;
mod secrets;
mod server;
mod show;
mod sources;
mod suspend;
mod system;
mod units;

pub use auth::{FirstTokenError, first_token};
pub use health::serve_health;
pub use router::router;
pub use server::serve;
