//! A fleet repository in the format of `kustomize/tests/table` (`-- PATH` before each file): its clusters are found and
//! rendered, Flux objects, substitution and all, within a small budget.

#![no_main]

use std::sync::Arc;

use flotilla_kustomize::files::{MemoryFiles, TreePath};
use flotilla_render::{Artifact, Budget, Inputs, NothingFetched, RenderCache, discover, render_cluster};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut files: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix("-- "), files.last_mut()) {
            (Some(path), _) => files.push((path.to_owned(), String::new())),
            (None, Some((_, content))) => {
                content.push_str(line);
                content.push('\n');
            }
            // What stands before the first file is the cluster's own.
            (None, None) => files.push(("clusters/x/all.yaml".to_owned(), format!("{line}\n"))),
        }
    }
    let clusters = TreePath::from_root("clusters").expect("a path");
    let fleet = Artifact::new(Arc::new(MemoryFiles::new(files)), "main@sha1:1".to_owned(), "fleet");
    let Ok(found) = discover(&*fleet.files, &clusters) else { return };
    let (cache, sources) = (RenderCache::new(), NothingFetched("nothing is fetched here"));
    let budget = Budget {
        unit_objects: 100,
        unit_steps: 1_000_000,
        cluster_units: 30,
        tenant_units: 10,
        ..Budget::default()
    };
    for cluster in found.clusters.values().take(4) {
        let inputs = Inputs { budget, ..Inputs::new(&fleet, &clusters, &cache, &sources) };
        let render = render_cluster(&inputs, cluster).expect("a tree in memory can be read");
        assert!(render.units.values().filter(|unit| unit.unit.is_some()).count() <= 31);
    }
});
