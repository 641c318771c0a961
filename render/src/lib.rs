//! From a snapshot's files to what each cluster should run, as a pure function with a memory.
//!
//! ```text
//!   Files (one commit) ─► fleet: which clusters there are, with root path and variables
//!                           │
//!                           ▼ for each cluster
//!                         walk: the root unit, then every Kustomization in its output, and theirs …
//!                           │      registry: the sources that their outputs define, and their content
//!                           ▼ for each unit
//!                         content: one kustomize build ─► objects, child definitions, sources, problems
//!                           ▲
//!                         cache: the same build again only if a file that it read has changed
//! ```
//!
//! A broken thing stays one: problems are values beside what could be rendered, never a reason to stop.

pub mod ask;
pub mod attempts;
pub mod budget;
pub mod cache;
mod checks;
mod clashes;
pub mod cluster;
mod config;
pub mod content;
mod decryption;
pub mod duration;
mod encrypted;
mod fate;
mod field;
pub mod fleet;
pub mod flux;
mod footprint;
pub mod generate;
pub mod group;
pub mod helm;
mod lint;
mod lock;
mod origins;
mod overlay;
mod pattern;
pub mod pipeline;
pub mod plan;
mod policy;
mod registry;
mod shared;
pub mod source;
mod splice;
mod substitute;
mod trace;
mod unpack;
mod values;
mod walk;
mod work;

pub use ask::{Ask, NobodyToAsk, Told};
pub use attempts::{Attempt, Attempts};
pub use budget::Budget;
pub use cache::RenderCache;
pub use cluster::{ClusterRender, Inputs, RenderedUnit, Unit, render_cluster, render_in_turns, settle};
pub use content::{Content, Definition};
pub use fate::{Fate, Past, fate};
pub use fleet::{ClusterDefinition, ClusterPolicy, ClusterRoot, Documents, Fleet, discover, discover_anew};
pub use footprint::{Footprint, Held, Recorder};
pub use group::{ClusterGroup, GROUP_FIELDS, Groups};
pub use lint::check_object;
pub use origins::origins;
pub use pipeline::{Claim, PipelineDefinition, Pipelines, UnreadPipeline};
pub use policy::{FleetPolicy, PolicyRead};
pub use source::{Artifact, NothingFetched, RemoteBase, RenderedSource, Sources, Unavailable};
pub use splice::splice;
