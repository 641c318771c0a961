//! Manifests that are the same in many clusters, kept once.

use std::sync::{Arc, Mutex, Weak};

use flotilla_core::unit::{ObjectEntry, UnitManifest};
use flotilla_core::{UnitId, UnitSpec};

use crate::content::Content;
use crate::lock::lock;

/// Clusters differ in few ways in what they make of one content.
const MOST: usize = 8;

/// The manifests that were made of one content and that somebody still has. A memory: it makes no content another one.
#[derive(Debug, Default)]
pub struct SharedManifests(Mutex<Vec<Weak<UnitManifest>>>);

impl Clone for SharedManifests {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for SharedManifests {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Content {
    /// The manifest of a unit with these objects.
    pub(crate) fn manifest(&self, id: &UnitId, mut spec: UnitSpec) -> Arc<UnitManifest> {
        let mut known = lock(&self.manifests.0);
        for manifest in known.iter().filter_map(Weak::upgrade) {
            // Both follow from the rest.
            spec.templates.clone_from(&manifest.spec.templates);
            spec.requires.clone_from(&manifest.spec.requires);
            if manifest.id == *id && manifest.spec == spec {
                return manifest;
            }
        }
        known.retain(|manifest| manifest.strong_count() > 0);
        if known.len() == MOST {
            known.remove(0);
        }
        let entries = self.objects.iter().map(ObjectEntry::from).collect();
        let manifest = Arc::new(UnitManifest::new(id.clone(), spec, entries));
        known.push(Arc::downgrade(&manifest));
        manifest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_manifests_are_one_as_long_as_somebody_has_it() {
        let content = Content::default();
        let id = UnitId::kustomization("apps", "web");
        let of = |wait: bool| content.manifest(&id, UnitSpec { wait, ..UnitSpec::default() });
        let first = of(false);
        assert!(Arc::ptr_eq(&first, &of(false)));
        assert!(of(true).spec.wait, "another policy");
        let other = content.manifest(&UnitId::kustomization("apps", "db"), UnitSpec::default());
        assert_eq!(other.id.name, "db", "another unit");
        assert_eq!(*other, UnitManifest::new(other.id.clone(), UnitSpec::default(), Vec::new()));
        assert!(Arc::ptr_eq(&first, &of(false)), "still the first");
        let many: Vec<_> = (0..2 * MOST as u32)
            .map(|timeout| content.manifest(&id, UnitSpec { timeout, ..UnitSpec::default() }))
            .collect();
        assert!(many.iter().enumerate().all(|(n, manifest)| manifest.spec.timeout == n as u32));
        assert_eq!(lock(&content.manifests.0).len(), MOST);
        drop((first, other, many));
        of(true);
        assert_eq!(lock(&content.manifests.0).len(), 1, "what nobody has goes");
    }
}
