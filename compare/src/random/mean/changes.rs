//! Fields of a kustomization that change what was read, with patches, patterns and selectors that are mean too.

use std::collections::BTreeMap;

use super::super::rng::Rng;
use super::{Head, block_map, charts, double_quoted, file, object, shape, value};
use crate::tree::Content;

/// A field of the kustomization that changes what was read.
pub(super) fn change(rng: &mut Rng, n: usize, first: Head, files: &mut BTreeMap<String, Content>) -> String {
    let serial = format!("p{n}.yaml");
    match rng.below(10) {
        0 | 1 => {
            let patch = if rng.chance(95) { object(rng, "a", first) } else { "# nothing\n".to_owned() };
            files.insert(serial.clone(), file(rng, patch));
            if rng.chance(15) {
                format!("patchesStrategicMerge: [{serial}]\n")
            } else {
                format!("patches: [{{path: {serial}}}]\n")
            }
        }
        2 | 3 => {
            let target = target(rng);
            let path = rng.word(&[
                "/data/z",
                "/metadata/annotations",
                "/spec/k0",
                "/metadata/labels/k1",
                "data/z",
                "/metadata/name",
                "",
            ]);
            let value = rng.word(&[
                "\"x\"",
                "1",
                "{}",
                "null",
                "9007199254740993",
                "[1, 1.5]",
                "\"\"",
                "{\"k\": \"a\\nb\"}",
                "\"b\"",
            ]);
            let op = rng.word(&["add", "add", "add", "replace", "remove", "test"]);
            let json = format!("[{{\"op\": \"{op}\", \"path\": \"{path}\", \"value\": {value}}}]");
            let yaml = format!("- op: {op}\n  path: {path}\n  value:{}", value_of_patch(rng));
            let patch = if rng.chance(60) { json } else { yaml };
            files.insert(serial.clone(), file(rng, patch));
            format!("patches: [{{path: {serial}, target: {target}}}]\n")
        }
        4 => format!("commonAnnotations:{}", block_map(rng, 2, 0)),
        5 => format!("labels:\n- includeSelectors: true\n  pairs:{}", block_map(rng, 4, 0)),
        6 => {
            let from =
                rng.word(&["spec.k0", "spec.k1", "metadata.annotations.k0", "metadata.name", "spec.k2.0"]);
            let to = rng.word(&[
                "spec.k1",
                "data.z",
                "metadata.annotations.z",
                "metadata.name",
                "spec.k0.[k0=x*]",
            ]);
            let (kind, from) = (first.1, from.replace("spec", first.2));
            format!(
                "replacements: [{{source: {{kind: {kind}, name: a, fieldPath: {from}}}, targets: [{{select: {}, fieldPaths: [\"{to}\"], options: {{create: true}}}}]}}]\n",
                target(rng)
            )
        }
        7 => {
            let text = shape(rng);
            files.insert("f.txt".to_owned(), file(rng, text));
            let text = format!("k={}", rng.word(&["1", "a b", "'q'", "x\n y\n", "\u{85}"]));
            let literal = double_quoted(rng, &text);
            let kind = rng.word(&["configMapGenerator", "secretGenerator"]);
            format!("{kind}: [{{name: g, files: [f.txt], literals: [{literal}]}}]\n")
        }
        8 => charts::field(rng, &serial, files),
        _ => {
            let config = format!(
                "apiVersion: builtin\nkind: AnnotationsTransformer\nmetadata: {{name: t}}\nannotations:{}fieldSpecs: [{{path: metadata/annotations, create: true}}]\n",
                block_map(rng, 2, 0)
            );
            files.insert(serial.clone(), file(rng, config));
            format!("transformers: [{serial}]\n")
        }
    }
}

fn value_of_patch(rng: &mut Rng) -> String {
    value(rng, 2, 1)
}

/// A selector made of parts of patterns.
fn target(rng: &mut Rng) -> String {
    const PARTS: [&str; 44] = [
        "a",
        "a",
        "aa",
        "b",
        ".",
        ".*",
        "a*",
        "a+",
        "a?",
        "[a-c]",
        "[^b]",
        "[[a]",
        "[a[b]]",
        "[a&&b]",
        "[a--b]",
        "a{2}",
        "a{1,}",
        "a{",
        "a{,2}",
        "a{1, 2}",
        "\\141",
        "\\x61",
        "\\Qa\\E",
        "\\.",
        "\\w",
        "\\d",
        "\\b",
        "\\B",
        "\\-",
        "(a)",
        "(?:a|b)",
        "(?i)A",
        "(?i:A)",
        "(?P<n>a)",
        "(?x)a",
        "a**",
        "^",
        "$",
        "|",
        "[[:alpha:]]",
        "[:a]",
        "\\z",
        "(",
        "]",
    ];
    const LABELS: [&str; 22] = [
        "k0",
        "k0=x",
        "k0!=x",
        "!k0",
        "k0 in (x,y)",
        "k0 notin (x)",
        "k0>1",
        "k0<5",
        "k0=",
        "k0='x'",
        "k0==x",
        "k0=x,k1",
        "k0,",
        ",k0",
        "k0 in x",
        "k0 in ()",
        "k0 in (,x)",
        "a/b=c",
        "-k",
        "k0=a b",
        "k0=1",
        "k0 = x",
    ];
    let mut fields = Vec::new();
    if rng.chance(75) {
        let pattern: String = (0..rng.between(1, 3)).map(|_| rng.word(&PARTS)).collect();
        fields.push(format!("name: '{pattern}'"));
    }
    if rng.chance(40) || fields.is_empty() {
        fields.push(format!("kind: {}", rng.word(&["X", "ConfigMap", "'Con.*'", "'X|Secret'", "Custom"])));
    }
    if rng.chance(25) {
        fields.push(format!(
            "{}: \"{}\"",
            rng.word(&["labelSelector", "annotationSelector"]),
            rng.word(&LABELS)
        ));
    }
    format!("{{{}}}", fields.join(", "))
}
