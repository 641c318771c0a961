//! Real outputs of `kustomize build`, read and written again.
//!
//! The cases are not part of the repository: see `flotilla_leftout::shared`. Without them only the text of our own below is
//! checked.

use flotilla_yaml::{parse, write_canonical_documents, write_documents};

/// Outputs that [`write_documents`] does not give back byte for byte, because kyaml folds no lines.
const FOLDED: &[&str] = &[
    "own",
    "krusty__baseandoverlaymedium__TestMediumOverlay",
    "krusty__configmaps__TestGeneratorBasics",
    "krusty__originannotation__TestGeneratorWithAnnoOrigin",
    "krusty__stringquoteblank__TestLongLineBreaks",
    "krusty__variableref__TestVarRefBig",
];

/// A text of our own, as kustomize 5.8.1 prints it.
const OWN: &str = r##"apiVersion: v1
data:
  empty: ""
  flags: --listen=0.0.0.0:8080 --log-level=info --metrics-path=/metrics --shutdown-grace=30s
    --color=off
  json: '{"replicas": 3, "ports": [80, 443], "labels": {"app": "front", "tier": "edge"},
    "canary": false}'
  "on": "on"
  port: "8080"
  quoted: 'it''s: fine'
  script: |
    #!/bin/sh
    exec run "$@"
  tabs: "a\tb"
  time: "12:30"
kind: ConfigMap
metadata:
  annotations: {}
  name: settings
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: front
spec:
  replicas: 3
  template:
    spec:
      containers:
      - args:
        - --verbose
        - -c
        - '- x'
        image: front:1.2
        name: front
        resources:
          limits:
            cpu: 1.5
            memory: 100000000
      volumes: []
"##;

fn cases() -> Vec<(String, String)> {
    let mut cases = vec![("own".to_owned(), OWN.to_owned())];
    cases.extend(real_cases());
    cases
}

fn real_cases() -> Vec<(String, String)> {
    let Some(folder) = flotilla_leftout::shared("kustomize-cases") else { return Vec::new() };
    let entries = std::fs::read_dir(folder).expect("the folder of cases can be listed");
    let mut cases: Vec<_> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let text = std::fs::read_to_string(path.join("expected.yaml")).ok()?;
            let compared_as_yaml =
                std::fs::read_to_string(path.join("meta.json")).ok()?.contains("\"compare\": \"yaml\"");
            let name = path.file_name()?.to_string_lossy().into_owned();
            (!compared_as_yaml).then_some((name, text))
        })
        .collect();
    cases.sort();
    cases
}

#[test]
fn outputs_of_kustomize_are_written_byte_for_byte() {
    let mut wrong = Vec::new();
    let cases = cases();
    for (name, text) in &cases {
        let nodes = parse(text).unwrap_or_else(|e| panic!("{name}: {e}"));
        let written = write_canonical_documents(&nodes).unwrap_or_else(|e| panic!("{name}: {e}"));
        if written != *text {
            wrong.push(name);
            if let Some((a, b)) = text.lines().zip(written.lines()).find(|(a, b)| a != b) {
                println!("{name}: expected {a:?}, wrote {b:?}");
            }
        }
    }
    println!("canonical: {} of {} outputs byte for byte", cases.len() - wrong.len(), cases.len());
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn outputs_of_kustomize_keep_their_text() {
    let mut wrong = Vec::new();
    let cases = cases();
    for (name, text) in &cases {
        let written = write_documents(&parse(text).unwrap_or_else(|e| panic!("{name}: {e}")));
        if written != *text {
            wrong.push(name.as_str());
            if let Some((a, b)) = text.lines().zip(written.lines()).find(|(a, b)| a != b) {
                println!("{name}: expected {a:?}, wrote {b:?}");
            }
        }
    }
    println!("kept: {} of {} outputs byte for byte", cases.len() - wrong.len(), cases.len());
    let expected = if cases.len() > 1 { FOLDED } else { &FOLDED[..1] };
    assert_eq!(wrong, expected);
}
