//! The apply engine: keeps one cluster as its desired state says, with or without a hub.
//!
//! ```text
//!   link ── set_desired, request ──► Engine ◄── changes, events ── link
//!                                      │ wakes (no payload)
//!        watches, timers, outcomes ──► coordinator: reads the state anew, plans each dirty unit (core::plan)
//!                                      │ one task a unit that has steps
//!                                      ▼
//!                          unit task: intents ─► apply by stages ─► facts ─► guard ─► prune
//! ```
//!
//! The engine owns no thread and starts nothing before [`Engine::run`], which whoever starts it supervises.

mod adopt;
mod adoption_record;
mod api;
mod apply;
mod coordinator;
mod engine;
mod failure;
mod fights;
mod followed;
mod key_services;
mod memory;
mod object_apply;
mod persist;
mod prune;
mod questions;
mod reasons;
mod replies;
mod shared;
mod template;
mod tools;
mod unit_state;

pub use adopt::AdoptError;
pub use api::{Bodies, BodyError, Memory, MemoryError, Options, Request};
pub use engine::{Engine, Has, HasUnit};
pub use followed::News;
pub use questions::{QuestionError, RehearsedBody};
pub use shared::{Changes, EngineError, Events};

use std::sync::LazyLock;

use flotilla_core::diff::Key;

/// The event of an object that stays in the cluster and is ours no more.
pub(crate) const RELEASED: &str = "Released";

/// What digests of hidden values are made with; another at each start, and told to nobody.
fn hiding_key() -> &'static Key {
    static KEY: LazyLock<Key> = LazyLock::new(rand::random);
    &KEY
}
