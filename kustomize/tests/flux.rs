//! Building as Flux does, seen from outside.

use std::collections::BTreeMap;

use flotilla_kustomize::files::{MemoryFiles, TreePath};
use flotilla_kustomize::{
    Answers, BuildError, FluxOverlay, FluxPatch, Image, Output, Selector, build_flux, generate,
    has_kustomization,
};

fn path(text: &str) -> TreePath {
    TreePath::from_root(text).expect("a path")
}

fn config_map(name: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n")
}

const WEB: &str = "apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  template:
    spec:
      containers:
      - name: web
        image: nginx:1
";

fn tree() -> MemoryFiles {
    MemoryFiles::new([
        ("apps/a.yaml", config_map("a")),
        ("apps/notes.txt", "not YAML".into()),
        ("apps/deep/er/b.yml", config_map("b")),
        ("apps/own/kustomization.yml", "resources: [x.yaml]\n".into()),
        ("apps/own/x.yaml", config_map("x")),
        ("apps/own/left-out.yaml", config_map("left-out")),
        ("apps/.github/workflows/ci.yaml", "on: push\n".into()),
        ("apps/.sops.yaml", "creation_rules: []\n".into()),
        ("web/kustomization.yaml", "resources: [web.yaml]\nimages:\n- {name: nginx, newTag: '2'}\n".into()),
        ("web/web.yaml", WEB.into()),
        ("shared/c.yaml", config_map("c")),
        ("up/kustomization.yaml", "resources: [../shared/c.yaml]\n".into()),
        (
            "extra/kustomization.yaml",
            "kind: Component\napiVersion: kustomize.config.k8s.io/v1alpha1\nnamePrefix: c-\n".into(),
        ),
        ("none/readme.md", "nothing here".into()),
    ])
}

fn names(output: &Output) -> Vec<String> {
    let name = |d: &flotilla_kustomize::Document| {
        d.node.at(&["metadata", "name"]).and_then(|n| n.text()).unwrap_or_default().to_owned()
    };
    output.documents.iter().map(name).collect()
}

fn flux(root: &str, overlay: &FluxOverlay) -> Result<Output, BuildError> {
    build_flux(&tree(), &path(root), overlay, &Answers::new())
}

#[test]
fn a_folder_without_a_kustomization_is_scanned() {
    let tree = tree();
    assert!(!has_kustomization(&tree, &path("apps")).unwrap());
    assert!(has_kustomization(&tree, &path("apps/own")).unwrap());
    let found: Vec<String> =
        generate(&tree, &path("apps")).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(found, ["apps/a.yaml", "apps/deep/er/b.yml", "apps/own"]);
    assert_eq!(names(&flux("apps", &FluxOverlay::default()).unwrap()), ["a", "b", "x"]);
}

#[test]
fn a_folder_with_nothing_to_build_is_an_error() {
    let error = flux("none", &FluxOverlay::default()).unwrap_err();
    assert_eq!(error.to_string(), "kustomization.yaml is empty");
}

#[test]
fn files_of_the_source_outside_the_path_may_be_read() {
    assert_eq!(names(&flux("up", &FluxOverlay::default()).unwrap()), ["c"]);
}

#[test]
fn the_overlay_goes_over_the_file() {
    let overlay = FluxOverlay {
        target_namespace: Some("prod".into()),
        name_prefix: Some("p-".into()),
        name_suffix: Some("-s".into()),
        common_labels: BTreeMap::from([("team".into(), "x".into())]),
        common_annotations: BTreeMap::from([("on".into(), "true".into())]),
        patches: vec![FluxPatch {
            patch: "- {op: add, path: /spec/replicas, value: 3}\n- {op: add, path: /metadata/annotations/x, value: z}\n".into(),
            target: Some(Selector { kind: "Deployment".into(), ..Selector::default() }),
        }],
        images: vec![Image { name: "nginx".into(), new_tag: "3".into(), ..Image::default() }],
        ..FluxOverlay::default()
    };
    let text = flux("web", &overlay).unwrap().to_yaml().unwrap();
    assert_eq!(
        text,
        "apiVersion: apps/v1
kind: Deployment
metadata:
  annotations:
    \"on\": \"true\"
    x: z
  labels:
    team: x
  name: p-web-s
  namespace: prod
spec:
  replicas: 3
  template:
    spec:
      containers:
      - image: nginx:3
        name: web
"
    );
}

#[test]
fn components_are_local_and_may_be_missing_if_told_so() {
    let with = |component: &str, ignore_missing_components| FluxOverlay {
        components: vec![component.into()],
        ignore_missing_components,
        ..FluxOverlay::default()
    };
    assert_eq!(names(&flux("web", &with("../extra", false)).unwrap()), ["c-web"]);
    assert_eq!(names(&flux("web", &with("../missing", true)).unwrap()), ["web"]);
    let missing = flux("web", &with("../missing", false)).unwrap_err().to_string();
    assert!(missing.contains("missing: no such file or directory"), "{missing}");
    let remote = flux("web", &with("https://github.com/x/y", false)).unwrap_err().to_string();
    assert!(remote.contains("must be local and relative"), "{remote}");
}

#[test]
fn a_bad_patch_of_the_overlay_is_named() {
    let patches = vec![FluxPatch { patch: WEB.replace("name: web", "name: other"), target: None }];
    let error = flux("web", &FluxOverlay { patches, ..FluxOverlay::default() }).unwrap_err().to_string();
    assert!(error.starts_with("patches[0]: no resource matches strategic merge patch"), "{error}");
}
