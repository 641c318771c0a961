//! Which file and line set each value of the output.

use std::fmt::Write as _;

use flotilla_kustomize::files::{MemoryFiles, TreePath};
use flotilla_kustomize::{Answer, Answers, BuildError, Options, Output, build, build_with};
use flotilla_yaml::{Node, Value};

/// `path: value @ file:line` for each scalar below a node.
fn list(output: &Output, node: &Node, path: &str, text: &mut String) {
    match &node.value {
        Value::Scalar(scalar) => {
            let origin = output.origin_of(node);
            let file = origin.file.map_or("?".into(), |f| f.to_string());
            writeln!(text, "{path}: {:?} @ {file}:{}", scalar.text(), origin.line).unwrap();
        }
        Value::Seq(seq) => {
            seq.iter().enumerate().for_each(|(n, item)| list(output, item, &format!("{path}[{n}]"), text));
        }
        Value::Map(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|e| e.key.text());
            for entry in entries {
                let key = entry.key.text().unwrap_or_default();
                let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                list(output, &entry.value, &path, text);
            }
        }
    }
}

/// The lines of one document; those of the others are not looked at.
fn origins(output: &Output, kind: &str) -> String {
    let of_kind = |d: &&flotilla_kustomize::Document| d.node.get("kind").and_then(Node::text) == Some(kind);
    let document = output.documents.iter().find(of_kind).expect("the document");
    let mut text = String::new();
    list(output, &document.node, "", &mut text);
    text
}

const WEB: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 1
  template:
    spec:
      containers:
      - name: web
        image: nginx:1
        envFrom:
        - configMapRef: {name: settings}
        env:
        - name: HOST
          value: none
        - name: OLD
          value: 'yes'
";

const BASE: &str = "\
resources: [web.yaml]
namePrefix: p-
labels:
- pairs:
    app: web
  includeSelectors: true
configMapGenerator:
- name: settings
  envs: [settings.env]
  files:
  - motd.txt
  literals:
  - a=b
  options:
    labels: {made: here}
";

const OVERLAY: &str = "\
resources: [../base]
namespace: prod
commonAnnotations:
  team: x
images:
- name: nginx
  newTag: '2'
replicas:
- name: web
  count: 3
patches:
- path: merge.yaml
- target: {kind: Deployment}
  patch: |
    - op: add
      path: /spec/paused
      value: true
    - op: replace
      path: /spec/template/spec/containers/0/env/1/value
      value: 'no'
- path: ops.json
  target: {kind: Deployment}
replacements:
- source:
    kind: ConfigMap
    fieldPath: data.host
  targets:
  - select: {kind: Deployment}
    fieldPaths:
    - spec.template.spec.containers.0.env.0.value
- sourceValue: fixed
  targets:
  - select: {kind: Deployment}
    fieldPaths: [spec.template.spec.hostname]
    options: {create: true}
";

const MERGE: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  template:
    spec:
      containers:
      - name: web
        tty: true
";

const OPS: &str = r#"[
  {"op": "add", "path": "/spec/strategy", "value": {"type": "Recreate"}}
]
"#;

fn tree() -> MemoryFiles {
    MemoryFiles::new([
        ("base/web.yaml", WEB),
        ("base/kustomization.yaml", BASE),
        ("base/settings.env", "# where\nhost=h\n"),
        ("base/motd.txt", "hello\n"),
        ("over/kustomization.yaml", OVERLAY),
        ("over/merge.yaml", MERGE),
        ("over/ops.json", OPS),
    ])
}

const DEPLOYMENT: &str = r#"apiVersion: "apps/v1" @ base/web.yaml:1
kind: "Deployment" @ base/web.yaml:2
metadata.annotations.team: "x" @ over/kustomization.yaml:4
metadata.labels.app: "web" @ base/kustomization.yaml:5
metadata.name: "p-web" @ base/kustomization.yaml:2
metadata.namespace: "prod" @ over/kustomization.yaml:2
spec.paused: "true" @ over/kustomization.yaml:17
spec.replicas: "3" @ over/kustomization.yaml:10
spec.selector.matchLabels.app: "web" @ base/kustomization.yaml:5
spec.strategy.type: "Recreate" @ over/ops.json:2
spec.template.metadata.annotations.team: "x" @ over/kustomization.yaml:4
spec.template.metadata.labels.app: "web" @ base/kustomization.yaml:5
spec.template.spec.containers[0].env[0].name: "HOST" @ base/web.yaml:15
spec.template.spec.containers[0].env[0].value: "h" @ base/settings.env:2
spec.template.spec.containers[0].env[1].name: "OLD" @ base/web.yaml:17
spec.template.spec.containers[0].env[1].value: "no" @ over/kustomization.yaml:20
spec.template.spec.containers[0].envFrom[0].configMapRef.name: "p-settings-tthh425557" @ base/kustomization.yaml:8
spec.template.spec.containers[0].image: "nginx:2" @ over/kustomization.yaml:7
spec.template.spec.containers[0].name: "web" @ base/web.yaml:10
spec.template.spec.containers[0].tty: "true" @ over/merge.yaml:10
spec.template.spec.hostname: "fixed" @ over/kustomization.yaml:31
"#;

const CONFIG_MAP: &str = r#"apiVersion: "v1" @ base/kustomization.yaml:8
data.a: "b" @ base/kustomization.yaml:13
data.host: "h" @ base/settings.env:2
data.motd.txt: "hello\n" @ base/motd.txt:1
kind: "ConfigMap" @ base/kustomization.yaml:8
metadata.annotations.team: "x" @ over/kustomization.yaml:4
metadata.labels.app: "web" @ base/kustomization.yaml:5
metadata.labels.made: "here" @ base/kustomization.yaml:15
metadata.name: "p-settings-tthh425557" @ base/kustomization.yaml:8
metadata.namespace: "prod" @ over/kustomization.yaml:2
"#;

#[test]
fn each_value_knows_the_file_and_line_that_set_it() {
    let output = build(&tree(), &TreePath::from_root("over").unwrap(), &Options::default()).unwrap();
    assert_eq!(origins(&output, "Deployment"), DEPLOYMENT);
    assert_eq!(origins(&output, "ConfigMap"), CONFIG_MAP);
}

#[test]
fn what_helm_rendered_stands_where_the_chart_does() {
    let tree = MemoryFiles::new([("kustomization.yaml", "helmCharts:\n- name: web\n  version: '1'\n")]);
    let options = Options { helm: true, ..Options::default() };
    let Err(BuildError::Needs(needs)) = build(&tree, &TreePath::root(), &options) else {
        panic!("no request")
    };
    let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    let answers = Answers::from([(needs[0].clone(), Answer::Text(manifest.into()))]);
    let output = build_with(&tree, &TreePath::root(), &options, &answers).unwrap();
    assert_eq!(
        origins(&output, "ConfigMap"),
        "apiVersion: \"v1\" @ kustomization.yaml:2
kind: \"ConfigMap\" @ kustomization.yaml:2
metadata.name: \"a\" @ kustomization.yaml:2
"
    );
}
