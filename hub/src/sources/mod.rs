//! All sources but the fleet repo: which are wanted, what was fetched of them, and the loop that fetches.
//!
//! ```text
//! fleet round ── demand(cluster, sources) ─────► Library ◄── due, done ── fetch loop ──► flotilla_source::flux
//!      ▲    ◄─── content(source), at once ─────     │                                     (one folder for each
//!      └──────────── facts tick ◄── a revision changed                                     spec and credentials)
//! ```
//!
//! Credentials come from a folder of mounted files, else from the hub's own store, where they are encrypted.
//!
//! A source that many clusters define with the same spec and credentials is fetched once. What was fetched last stays in
//! use, also over restarts, until something newer is there.

mod cluster;
mod draft;
mod events;
mod key_services;
mod library;
mod pace;
mod run;
mod secrets;
mod show;
mod slot;
#[cfg(test)]
mod tests;
mod vault;

use std::path::PathBuf;

use flotilla_core::source::SourceId;
use flotilla_sops::service::Servers;
use flotilla_source::flux::Policy;

pub use cluster::{ClusterSources, SourcesRead};
pub use draft::{At, Draft};
pub use events::SourceEvents;
pub(crate) use events::event;
pub use key_services::{KeyServiceError, run_key_services};
pub use library::Library;
pub use run::run;
pub use secrets::{MountedSecrets, SecretLookupError};
pub use vault::{Scope, SecretPlace, Vault, VaultError};

/// What the operator lays down for sources.
#[derive(Debug, Clone)]
pub struct SourceSettings {
    pub policy: Policy,
    /// Sources whose content is used though they ask for verification.
    pub allow_unverified: Vec<SourceId>,
    /// A folder of mounted secrets.
    pub secrets: Option<PathBuf>,
    /// Which key services may be asked for data keys, with the token of whoever has one.
    pub key_services: Servers,
}

impl Default for SourceSettings {
    fn default() -> Self {
        let policy = Policy::new(flotilla_source::Reach::Public(Vec::new()));
        Self { policy, allow_unverified: Vec::new(), secrets: None, key_services: Servers::default() }
    }
}
