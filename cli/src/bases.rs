//! What kustomizations name outside of their source, for renders without a hub: fetched at once, as `flotilla kustomize
//! build` does, and once in a run.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use flotilla_core::Digest;
use flotilla_render::{RemoteBase, Unavailable};
use flotilla_runtime::chain;
use flotilla_runtime::lock;
use flotilla_source::Remotes;
use tempfile::TempDir;

/// Remote bases and files by their addresses.
#[derive(Default)]
pub(crate) struct Bases {
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    /// For what is fetched; made when it is needed.
    folder: Option<TempDir>,
    bases: BTreeMap<String, Result<RemoteBase, Unavailable>>,
}

impl Bases {
    pub(crate) fn get(&self, address: &str) -> Result<RemoteBase, Unavailable> {
        let mut found = lock(&self.found);
        if let Some(known) = found.bases.get(address) {
            return known.clone();
        }
        let base = found.fetch(address);
        found.bases.insert(address.to_owned(), base.clone());
        base
    }
}

impl Found {
    fn fetch(&mut self, address: &str) -> Result<RemoteBase, Unavailable> {
        let folder = match self.folder.take() {
            Some(folder) => folder,
            None => tempfile::tempdir()
                .map_err(|error| Unavailable::new(format!("cannot make a temporary folder: {error}")))?,
        };
        let dir = self.folder.insert(folder).path().join(self.bases.len().to_string());
        let answer = Remotes::anywhere().answer(address, &dir, &AtomicBool::new(false));
        // One run sees one state of the world.
        let base = answer.map(|answer| RemoteBase { answer, id: Digest::of(address.as_bytes()) });
        base.map_err(|error| Unavailable::new(chain(&error)))
    }
}
