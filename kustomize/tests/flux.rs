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
fn a_folder_with_nothing_to_build_builds_to_nothing() {
    assert!(names(&flux("none", &FluxOverlay::default()).unwrap()).is_empty());
    for text in ["", "resources:\n", "resources: []\n", "kind: Kustomization\n", "namespace: web\n"] {
        let tree = MemoryFiles::new([("app/kustomization.yaml", text)]);
        let output = build_flux(&tree, &path("app"), &FluxOverlay::default(), &Answers::new());
        assert!(names(&output.unwrap()).is_empty(), "{text:?}");
    }
}

/// Builds `app` of a tree with one Deployment, and gives the notices and the text.
fn built(kustomization: &str, overlay: &FluxOverlay) -> (Vec<String>, String) {
    let tree = MemoryFiles::new([("app/kustomization.yaml", kustomization), ("app/web.yaml", WEB)]);
    let output = build_flux(&tree, &path("app"), overlay, &Answers::new()).unwrap();
    (output.notices.clone(), output.to_yaml().unwrap())
}

#[test]
fn images_are_merged_with_those_of_the_file() {
    let image = |new_name: &str, new_tag: &str, digest: &str| Image {
        name: "nginx".into(),
        new_name: new_name.into(),
        new_tag: new_tag.into(),
        digest: digest.into(),
        ..Image::default()
    };
    for (file, flux, expected) in [
        ("{name: nginx, newName: own/nginx, newTag: '1'}", image("", "2", ""), "own/nginx:2"),
        ("{name: nginx, newName: own/nginx, newTag: '1'}", image("", "", "sha256:a"), "own/nginx@sha256:a"),
        ("{name: nginx, newName: own/nginx, digest: 'sha256:a'}", image("", "2", ""), "own/nginx:2"),
        ("{name: nginx, newTag: '5'}", image("other", "", ""), "other:5"),
        ("{name: nginx, newTag: '5'}", image("", "", ""), "nginx:5"),
        ("{name: redis, newTag: '5'}", image("", "7", ""), "nginx:7"),
    ] {
        let overlay = FluxOverlay { images: vec![flux], ..FluxOverlay::default() };
        let (_, text) = built(&format!("resources: [web.yaml]\nimages: [{file}]\n"), &overlay);
        assert!(text.contains(&format!("image: {expected}\n")), "{file}:\n{text}");
    }
}

#[test]
fn what_kustomize_alone_refuses_is_taken_with_a_notice() {
    let takes = "kustomize refuses this; here, as in Flux,";
    for (file, notice, contains) in [
        ("ressources: [x.yaml]\n", "app/kustomization.yaml:2: ressources: ", "name: web"),
        ("images: [{name: nginx, newTag: 1.20}]\n", "images[0].newTag", "image: nginx:1.2\n"),
        ("images: [{name: nginx, newTag: 15}]\n", "images[0].newTag", "image: nginx:15\n"),
        ("namePrefix: 007\n", "namePrefix", "name: 7web\n"),
        ("commonLabels: {a: yes, b: 1e3}\n", "commonLabels", "a: \"true\"\n    b: \"1000\"\n"),
        ("commonAnnotations: {on: 2024-01-01, x: 0x10}\n", "commonAnnotations", "x: \"16\"\n"),
        ("images: [{name: nginx, newTag: '1', tagg: '2'}]\n", "tagg", "image: nginx:1\n"),
    ] {
        let (notices, text) = built(&format!("resources: [web.yaml]\n{file}"), &FluxOverlay::default());
        assert!(notices.iter().any(|n| n.contains(notice) && n.contains(takes)), "{file}: {notices:?}");
        assert!(text.contains(contains), "{file}:\n{text}");
    }
}

#[test]
fn what_flux_does_not_convert_is_refused() {
    for (fields, refused) in [
        ("configMapGenerator: [{name: 5}]", true),
        ("configMapGenerator: [{name: a, behavior: yes}]", true),
        ("configMapGenerator: [{name: a, options: {labels: {a: y}}}]", true),
        ("secretGenerator: [{name: a, type: 5}]", false),
        ("generatorOptions: {labels: {a: y}}", false),
        ("patches: [{target: {kind: true}, patch: '- {op: remove, path: /x}'}]", true),
        ("patches: [{target: {kind: X, labelSelector: yes}, patch: '- {op: remove, path: /x}'}]", false),
        ("labels: [{pairs: {a: b}, fields: [{path: x, kind: 5}]}]", true),
        ("replacements: [{source: {kind: ConfigMap, name: 5}, targets: []}]", true),
        ("namePrefix: 5", false),
    ] {
        let tree = MemoryFiles::new([
            ("app/kustomization.yaml", format!("resources: [web.yaml]\nnote: x\n{fields}\n").as_str()),
            ("app/web.yaml", WEB),
        ]);
        let result = build_flux(&tree, &path("app"), &FluxOverlay::default(), &Answers::new());
        assert_eq!(result.is_err(), refused, "{fields}: {:?}", result.err());
    }
}

#[test]
fn a_file_that_is_read_loosely_is_read_whole() {
    let tree = MemoryFiles::new([
        ("app/kustomization.yaml", "note: x\nconfigMapGenerator: [{name: a, env: a.env}]\n"),
        ("app/a.env", "A=1\n"),
    ]);
    let output = build_flux(&tree, &path("app"), &FluxOverlay::default(), &Answers::new()).unwrap();
    let text = flotilla_yaml::write_canonical(&output.documents[0].node).unwrap();
    assert!(text.contains("A: \"1\""), "{text}");
}

#[test]
fn a_folder_without_resources_has_flux_placeholder_for_a_namespace() {
    let tree = MemoryFiles::new([
        ("app/README.md", "nothing"),
        (
            "part/kustomization.yaml",
            "kind: Component\napiVersion: kustomize.config.k8s.io/v1alpha1\nconfigMapGenerator: [{name: a}]\n",
        ),
    ]);
    for (namespace, expected) in [(None, "namespace: _placeholder\n"), (Some("shop"), "namespace: shop\n")] {
        let overlay = FluxOverlay {
            components: vec!["../part".into()],
            target_namespace: namespace.map(str::to_owned),
            ..FluxOverlay::default()
        };
        let output = build_flux(&tree, &path("app"), &overlay, &Answers::new()).unwrap();
        let text = flotilla_yaml::write_canonical(&output.documents[0].node).unwrap();
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn only_the_file_of_the_path_is_read_loosely() {
    let tree = MemoryFiles::new([
        ("app/kustomization.yaml", "resources: [base]\n"),
        ("app/base/kustomization.yaml", "resources: [web.yaml]\nressources: []\n"),
        ("app/base/web.yaml", WEB),
    ]);
    let error = build_flux(&tree, &path("app"), &FluxOverlay::default(), &Answers::new()).unwrap_err();
    assert!(error.to_string().contains("unknown field \"ressources\""), "{error}");
}

#[test]
fn without_resources_what_is_made_tells_its_origin() {
    let generator = "configMapGenerator: [{name: c, literals: [a=b]}]\n";
    let origin = "config.kubernetes.io/origin: |\n      configuredIn: kustomization.yaml\n";
    let with = |options: &[&str]| FluxOverlay {
        build_metadata: options.iter().map(|&option| option.to_owned()).collect(),
        ..FluxOverlay::default()
    };
    for (file, overlay, told) in [
        (generator.to_owned(), with(&[]), true),
        (format!("buildMetadata: [managedByLabel]\n{generator}"), with(&[]), true),
        (generator.to_owned(), with(&["transformerAnnotations"]), false),
        (format!("resources: [web.yaml]\n{generator}"), with(&[]), false),
        (
            format!("resources: [web.yaml]\nbuildMetadata: [originAnnotations]\n{generator}"),
            with(&["transformerAnnotations"]),
            false,
        ),
    ] {
        let (_, text) = built(&file, &overlay);
        assert_eq!(text.contains(origin), told, "{file}:\n{text}");
        assert!(!text.contains("managed-by"), "{file}:\n{text}");
    }
}

#[test]
fn patches_of_older_versions_are_laid_on_top() {
    let overlay = FluxOverlay {
        patches_strategic_merge: vec![
            r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},"spec":{"replicas":2}}"#
                .into(),
        ],
        patches_json6902: vec![FluxPatch {
            patch: r#"[{"op":"add","path":"/metadata/labels","value":{"a":"b"}}]"#.into(),
            target: Some(Selector {
                group: "apps".into(),
                version: "v1".into(),
                kind: "Deployment".into(),
                name: "web".into(),
                ..Selector::default()
            }),
        }],
        ..FluxOverlay::default()
    };
    let (_, text) = built("resources: [web.yaml]\n", &overlay);
    assert!(text.contains("replicas: 2") && text.contains("labels:\n    a: b"), "{text}");
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
