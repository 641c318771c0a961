//! What kustomizations name outside of their source.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use flotilla_core::Digest;
use flotilla_core::source::Source;
use flotilla_kustomize::Answer;
use flotilla_kustomize::files::{MemoryFiles, TreePath};
use flotilla_render::{
    Artifact, ClusterDefinition, ClusterRender, Inputs, RemoteBase, RenderCache, Sources, Unavailable,
    render_cluster,
};

use crate::world::{FLEET, config_map, shown, unit};

/// Bases by address, each with a number that counts its revisions.
#[derive(Default)]
struct Bases {
    known: BTreeMap<&'static str, (u8, String)>,
    asked: Mutex<Vec<(String, u32)>>,
}

impl Sources for Bases {
    fn content(&self, _: &Source) -> Result<Artifact, Unavailable> {
        Err(Unavailable::waiting("is not fetched yet"))
    }

    fn remote(&self, address: &str, interval: u32) -> Result<RemoteBase, Unavailable> {
        self.asked.lock().unwrap().push((address.to_owned(), interval));
        let (revision, text) =
            self.known.get(address).ok_or_else(|| Unavailable::waiting("is not fetched yet"))?;
        let answer = match address.ends_with(".yaml") {
            true => Answer::Text(text.as_str().into()),
            false => {
                let files = MemoryFiles::new([("base/kustomization.yaml", text.as_str())]);
                Answer::Tree { files: Arc::new(files), root: TreePath::from_root("base").unwrap() }
            }
        };
        Ok(RemoteBase { answer, id: Digest::of(&[*revision]) })
    }
}

fn render(bases: &Bases, cache: &RenderCache) -> ClusterRender {
    let clusters = TreePath::from_root("clusters").unwrap();
    let web = unit("web", FLEET, "  path: web\n  postBuild: {substitute: {a: b}}\n");
    let files = MemoryFiles::new([
        ("clusters/x/web.yaml", web.as_str()),
        ("clusters/x/bare.yaml", unit("bare", FLEET, "  path: web\n").replace("1m", "30s").as_str()),
        ("web/kustomization.yaml", "resources: ['https://h.example/o/r//base?ref=v1']\n"),
    ]);
    let fleet = Artifact::new(Arc::new(files), "main@sha1:1", "fleet");
    let root = ClusterDefinition::of_folder("x".parse().unwrap(), TreePath::from_root("clusters/x").unwrap());
    render_cluster(&Inputs::new(&fleet, &clusters, cache, bases), &root).unwrap()
}

#[test]
fn a_base_is_asked_for_followed_and_asked_for_again() {
    let (git, file) = ("https://h.example/o/r//base?ref=v1", "https://h.example/m.yaml");
    let mut bases = Bases::default();
    let cache = RenderCache::new();
    let rendered = render(&bases, &cache);
    let problems = rendered.units.values().flat_map(|unit| &unit.problems);
    let waiting: Vec<bool> = problems.map(|problem| problem.waiting).collect();
    assert!(!waiting.is_empty() && waiting.iter().all(|waiting| *waiting), "{waiting:?}");
    let waits = shown(&rendered);
    let says =
        "the build needs the remote base or file 'https://h.example/o/r//base?ref=v1': is not fetched yet";
    assert!(waits[1].contains("held") && waits[1].contains(says), "{waits:?}");
    // A base names a file in its turn.
    bases.known.insert(git, (1, format!("resources: ['{file}']\n")));
    assert!(shown(&render(&bases, &cache))[2].contains("m.yaml': is not fetched yet"));
    bases.known.insert(file, (1, config_map("m")));
    assert_eq!(shown(&render(&bases, &cache)), ["root: 0", "bare: 1", "web: 1"]);

    // Nothing new is no build, and everything is asked for all the same: it is still wanted.
    let builds = cache.builds();
    bases.asked.lock().unwrap().clear();
    render(&bases, &cache);
    assert_eq!(cache.builds(), builds);
    let mut asked = bases.asked.lock().unwrap().clone();
    asked.sort();
    let twice = |address: &str| [(address.to_owned(), 30), (address.to_owned(), 60)];
    assert_eq!(asked, [twice(file), twice(git)].concat());

    bases.known.insert(file, (2, format!("{}---\n{}", config_map("m"), config_map("n"))));
    assert_eq!(shown(&render(&bases, &cache)), ["root: 0", "bare: 2", "web: 2"]);
    assert_eq!(cache.builds(), builds + 2);
}
