//! Helm's own formats and rules, as pure functions: what the agent needs to install and upgrade a release so that `helm` knows it
//! as its own.
//!
//! - [`engine`]: what a release is to be, and how its author wants it to get there;
//! - [`names`]: names of releases and what else reaches helm's argument list;
//! - [`record`]: release records, which Helm keeps as Secrets beside the release;
//! - [`chart`]: a chart as a record holds it, and [`content`]: what else a revision is made of, as the hub sends it;
//! - [`manifest`]: what a chart rendered to, sorted into objects and [`hook`]s, in Helm's order;
//! - [`owner`]: the labels and annotations by which Helm knows the objects of a release.

pub mod chart;
pub mod content;
pub mod engine;
mod gzip;
pub mod hook;
pub mod manifest;
pub mod names;
mod order;
pub mod owner;
pub mod record;
mod time;

pub use content::Content;
pub use hook::{DeletePolicy, Event, Execution, Hook, LogPolicy, Phase};
pub use record::{Info, Record, RecordError, Release, Status};
