//! `fleet-example/` renders, for every cluster, to what is checked in under `golden/`: a change of the renderer
//! or of the example shows as a diff of what clusters would run. `UPDATE_GOLDEN=1` writes the files anew.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flotilla_kustomize::files::TreePath;
use flotilla_render::{
    Artifact, ClusterRender, Inputs, NothingFetched, RenderCache, discover, render_cluster,
};
use flotilla_source::FolderFiles;
use flotilla_yaml::Node;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn text(render: &ClusterRender) -> String {
    let mut text = String::new();
    for (id, rendered) in &render.units {
        let path = &rendered.definition.path;
        let unit = rendered.unit.as_ref().unwrap_or_else(|| panic!("{id}: {:?}", rendered.problems));
        let spec = serde_json::to_string(&unit.manifest.spec).unwrap();
        writeln!(text, "# unit {id}, from {path}\n# {spec}").unwrap();
        for object in &unit.content.objects {
            let yaml = flotilla_yaml::write_canonical(&Node::from_json(&object.value())).unwrap();
            writeln!(text, "---\n{}", yaml.trim_end()).unwrap();
        }
        text.push('\n');
    }
    text
}

#[test]
fn every_cluster_of_the_example_renders_to_what_is_checked_in() {
    let files = FolderFiles::open(repository().join("fleet-example"), 1 << 20).unwrap();
    let clusters = TreePath::from_root("clusters").unwrap();
    let cache = RenderCache::new();
    let fleet = discover(&files, &clusters).unwrap();
    assert_eq!(fleet.problems, []);
    let names: Vec<_> = fleet.clusters.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["edge-berlin", "edge-oslo", "production", "staging"]);

    let (tree, sources) = (Artifact::new(Arc::new(files), "main", "test"), NothingFetched("is not fetched"));
    let inputs = Inputs::new(&tree, &clusters, &cache, &sources);
    let mut stale = Vec::new();
    for (name, cluster) in &fleet.clusters {
        let render = render_cluster(&inputs, cluster).unwrap();
        let text = text(&render);
        let golden = repository().join(format!("render/tests/golden/{name}.yaml"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&golden, &text).unwrap();
        } else if std::fs::read_to_string(&golden).unwrap_or_default() != text {
            stale.push(name.to_string());
        }
    }
    assert!(
        stale.is_empty(),
        "{stale:?} render to something else than golden/; see with UPDATE_GOLDEN=1 and git diff"
    );

    let builds = cache.builds();
    for cluster in fleet.clusters.values() {
        render_cluster(&inputs, cluster).unwrap();
    }
    assert_eq!(cache.builds(), builds, "a second round over the same files builds nothing");
}
