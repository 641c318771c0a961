//! The promotion engine: which candidate each cluster of a pipeline runs, and why not the newest.
//!
//! A pure state machine. It has no clock, no files and no runtime: the hub tells it what Git has, what each cluster reports
//! and what people ask ([`world`], [`request`]), and it answers with what each cluster runs, what waits for what until when,
//! and which records of its state changed ([`outcome`]). Times are seconds since 1970, durations seconds.
//!
//! ```text
//!  Pipeline ─┐
//!  State  ───┤
//!  World  ───┼─► step ─► decisions, stages, questions, events; the State, changed
//!  requests ─┤
//!  now ──────┘
//! ```

mod absent;
mod align;
mod candidates;
mod decide;
mod fleet;
mod gates;
mod give;
pub mod outcome;
mod people;
pub mod request;
mod run;
mod selection;
pub mod spec;
mod stage;
pub mod state;
mod step;
mod text;
mod window;
pub mod world;

pub use outcome::{
    Assignment, Choice, Decision, Event, EventKind, Measure, Pick, Question, Reason, StageStatus, Step,
};
pub use request::{Actor, Barred, Request, Scope, Verb};
pub use spec::Pipeline;
pub use state::{CandidateId, Key, Record, State};
pub use step::step;
pub use window::Overrun;
pub use world::{Cluster, Commit, Health, Link, Measurement, Projection, Published, Report, World};
