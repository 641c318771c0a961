//! A fleet repository in the format of `kustomize/tests/table` (`-- PATH` before each file): its clusters are found and
//! rendered, Flux objects, substitution, releases and all, within a small budget. Every source has the repository's own
//! files, and helm answers with the file `helm`, where there is one.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::inputs::{on_thread, tree};
use flotilla_core::{Digest, Source};
use flotilla_kustomize::files::{MemoryFiles, TreePath};
use flotilla_render::helm::Renders;
use flotilla_render::source::Unavailable;
use flotilla_render::{Artifact, Budget, Inputs, RenderCache, Sources, discover, render_cluster};

/// Everything that a unit could ask for.
struct Everything {
    fleet: Artifact,
    helm: Option<Arc<str>>,
}

impl Sources for Everything {
    fn content(&self, _: &Source) -> Result<Artifact, Unavailable> {
        Ok(self.fleet.clone())
    }

    fn secret(&self, _: &str, name: &str) -> Result<Option<BTreeMap<String, Vec<u8>>>, Unavailable> {
        Ok(name
            .len()
            .is_multiple_of(2)
            .then(|| BTreeMap::from([("values.yaml".to_owned(), b"a: 1".to_vec())])))
    }
}

impl Renders for Everything {
    fn get(&self, _: Digest) -> Option<Result<Arc<str>, String>> {
        self.helm.clone().map(Ok)
    }
}

pub fn run(bytes: &[u8]) {
    on_thread(|| check(bytes));
}

fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // What stands before the first file is the cluster's own.
    let before = text.find("-- ").map_or(text, |end| &text[..end]);
    let mut files = tree(text);
    files.push(("clusters/x/before.yaml".to_owned(), before.to_owned()));
    let clusters = TreePath::from_root("clusters").expect("a path");
    let helm = files.iter().find(|(path, _)| path == "helm").map(|(_, text)| Arc::from(text.as_str()));
    let fleet = Artifact::new(Arc::new(MemoryFiles::new(files)), "main@sha1:1".to_owned(), "fleet");
    let Ok(found) = discover(&*fleet.files, &clusters) else { return };
    let everything = Everything { fleet: fleet.clone(), helm };
    let cache = RenderCache::new();
    let budget = Budget {
        unit_objects: 100,
        unit_steps: 1_000_000,
        cluster_units: 30,
        tenant_units: 10,
        ..Budget::default()
    };
    for cluster in found.clusters.values().take(4) {
        let inputs = Inputs {
            budget,
            renders: &everything,
            kube_version: Some("v1.36.0"),
            ..Inputs::new(&fleet, &clusters, &cache, &everything)
        };
        let render = render_cluster(&inputs, cluster).expect("a tree in memory can be read");
        assert!(render.units.values().filter(|unit| unit.unit.is_some()).count() <= 31);
    }
}
