//! The domain of Flotilla: what a cluster should run, what it runs, and what has to happen in between.
//!
//! Everything here is a value or a pure function of values: no I/O, no clock, no runtime. Time and
//! randomness are arguments. The hub and the agent share this crate, and so do the tests of both.
//!
//! ```text
//!  object ──┐
//!           ├─► unit (spec + objects) ──► desired (every unit of a cluster) ──► wire
//!  names ───┘                                                                     │
//!  inventory (what is in the cluster) ──► plan ──► guard ──► execute (agent) ◄────┘
//!  health, drift (what became of it) ──► report ──► hub
//! ```

pub mod adopt;
pub mod answer;
pub mod authority;
pub mod capability;
pub mod change;
pub mod decrypt;
pub mod desired;
pub mod diff;
pub mod digest;
pub mod drift;
pub mod envsubst;
pub mod expr;
pub mod flux;
pub mod glob;
pub mod guard;
pub mod health;
pub mod ignore;
pub mod immutable;
pub mod inventory;
pub mod live;
pub mod names;
pub mod nodes;
pub mod normalize;
pub mod object;
pub mod order;
pub mod plan;
pub mod question;
pub mod report;
pub mod reported;
pub mod secret_use;
pub mod selector;
pub mod source;
pub mod template;
pub mod text;
pub mod unit;
pub mod work;

pub use authority::Authority;
pub use capability::Capabilities;
pub use desired::{DesiredState, Generation, UnitEntry};
pub use digest::Digest;
pub use names::ClusterName;
pub use object::{Object, ObjectId, ObjectName, ObjectRef};
pub use source::{Source, SourceId, SourceKind};
pub use unit::{ServiceAccount, UnitId, UnitKind, UnitManifest, UnitSpec};
