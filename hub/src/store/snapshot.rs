//! What a cluster is rendered from: one commit of the fleet repo, what every other source that its render reads was at, and the
//! renderer's version. The same snapshot renders to the same bytes, also after a restart, as long as it is kept. Clusters that
//! read the same have one snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;

use flotilla_core::Digest;

/// The version of the renderer: another one may render the same files to other objects.
const RENDERER: &str = env!("CARGO_PKG_VERSION");

/// Immutable; equal digests are equal content.
#[derive(Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Of the fleet repo; 40 hexadecimal digits.
    commit: Arc<str>,
    /// By the digest of what is fetched (spec and credentials). A source that one cluster suspends while others follow it has
    /// a name of its own there.
    sources: BTreeMap<Digest, SourceAt>,
    renderer: String,
    digest: Digest,
}

/// What a source was at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceAt {
    /// The digest of what is fetched, whatever its name in the snapshot.
    pub key: Digest,
    /// As Flux writes it.
    pub revision: String,
    /// Of all its files.
    pub content: Digest,
}

impl Snapshot {
    /// By the renderer of this process.
    pub fn new(commit: Arc<str>, sources: BTreeMap<Digest, SourceAt>) -> Self {
        Self::of(commit, sources, RENDERER.to_owned())
    }

    /// By a renderer of some version.
    pub fn of(commit: Arc<str>, sources: BTreeMap<Digest, SourceAt>, renderer: String) -> Self {
        let mut parts: Vec<&[u8]> = vec![commit.as_bytes(), renderer.as_bytes()];
        for (name, SourceAt { key, revision, content }) in &sources {
            parts.extend([&name.as_bytes()[..], key.as_bytes(), revision.as_bytes(), content.as_bytes()]);
        }
        let digest = Digest::of_parts(parts);
        Self { commit, sources, renderer, digest }
    }

    pub fn digest(&self) -> Digest {
        self.digest
    }

    pub fn commit(&self) -> &Arc<str> {
        &self.commit
    }

    pub fn renderer(&self) -> &str {
        &self.renderer
    }

    pub fn sources(&self) -> &BTreeMap<Digest, SourceAt> {
        &self.sources
    }
}
