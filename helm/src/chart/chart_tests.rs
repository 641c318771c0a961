//! Charts as records have them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::*;

fn files(files: &[(&str, &str)]) -> Vec<File> {
    let file =
        |(path, text): &(&str, &str)| File { path: (*path).to_owned(), content: text.as_bytes().to_vec() };
    files.iter().map(file).collect()
}

fn made(of: &[(&str, &str)]) -> Value {
    chart(files(of), None).unwrap().value().unwrap()
}

#[test]
fn a_chart_is_what_helm_holds_of_it() {
    let found = made(&[
        (
            "Chart.yaml",
            "\u{feff}apiVersion: v2\nname: own\nversion: 0.1.0\nappVersion: 7\nodd: 1\nkeywords: [a, 1]\nicon: null\nannotations: \
             {a: true}\ndeprecated: false\ndependencies:\n- {name: db, version: 1.x, repository: 'https://example.org', \
             import-values: [a, {child: b, parent: c}], condition: db.enabled}\nmaintainers: [{name: A, email: a@example.org}]\n",
        ),
        (
            "Chart.lock",
            "digest: sha256:1\ngenerated: \"2026-12-02T16:14:54.5+01:00\"\ndependencies: [{name: db, version: 1.2.3}]\n",
        ),
        ("values.yaml", "a: 1\na: 2\nb: {c: null}\n"),
        ("values.schema.json", "{}"),
        ("templates/b.yaml", "b: {{ .x }}\n"),
        ("templates/a.yaml", "\u{feff}a: 1\n"),
        ("templates/sub/NOTES.txt", "n"),
        ("crds/a.yaml", "c"),
        ("README.md", "r"),
        ("charts/db/Chart.yaml", "d"),
        ("charts/db.tgz", "d"),
        ("charts/db.tgz.prov", "p"),
    ]);
    let file = |name: &str, text: &str| json!({"name": name, "data": STANDARD.encode(text)});
    assert_eq!(
        found,
        json!({
            "metadata": {
                "apiVersion": "v2", "name": "own", "version": "0.1.0", "appVersion": "7", "keywords": ["a", "1"],
                "annotations": {"a": "true"},
                "dependencies": [{
                    "name": "db", "version": "1.x", "repository": "https://example.org", "condition": "db.enabled",
                    "import-values": ["a", {"child": "b", "parent": "c"}],
                }],
                "maintainers": [{"name": "A", "email": "a@example.org"}],
            },
            "lock": {
                "generated": "2026-12-02T15:14:54.5Z", "digest": "sha256:1",
                "dependencies": [{"name": "db", "version": "1.2.3", "repository": ""}],
            },
            "templates": [
                file("templates/a.yaml", "a: 1\n"),
                file("templates/b.yaml", "b: {{ .x }}\n"),
                file("templates/sub/NOTES.txt", "n"),
            ],
            "values": {"a": 2, "b": {"c": null}},
            "schema": "e30=",
            "files": [file("README.md", "r"), file("charts/db.tgz.prov", "p"), file("crds/a.yaml", "c")],
        })
    );
}

#[test]
fn an_old_chart_keeps_its_requirements_beside() {
    let requirements = ("requirements.yaml", "dependencies: [{name: db, repository: r}]\n");
    for (version, kept) in [("", true), ("apiVersion: v1\n", true), ("apiVersion: v2\n", false)] {
        let own = format!("{version}name: own\nversion: 1.0.0\n");
        let found = made(&[("Chart.yaml", &own), requirements]);
        assert_eq!(found["metadata"]["dependencies"][0]["name"], "db", "{version}");
        assert_eq!(found["files"].is_array(), kept, "{version}");
        assert_eq!(found["lock"], Value::Null);
    }
    let own = ("Chart.yaml", "name: own\nversion: 1.0.0\n");
    let lock = made(&[own, ("requirements.lock", "digest: a\n")])["lock"].clone();
    assert_eq!(lock, json!({"generated": "0001-01-01T00:00:00Z", "digest": "a", "dependencies": []}));
}

#[test]
fn other_values_stand_in_and_what_is_no_chart_is_refused() {
    let own = ("Chart.yaml", "name: own\nversion: 1.0.0\n");
    let values = json!({"b": 1}).as_object().unwrap().clone();
    let found = chart(files(&[own, ("values.yaml", "a: 1\n")]), Some(&values)).unwrap().value().unwrap();
    assert_eq!(found["values"], json!({"b": 1}));
    for (of, expected) in [
        (&[("values.yaml", "")][..], "Chart.yaml: there is none"),
        (&[("Chart.yaml", "name: [")], "Chart.yaml: line 1"),
        (&[("Chart.yaml", "name: {a: b}")], "Chart.yaml: "),
        (&[own, ("values.yaml", "[]")], "values.yaml: is not a mapping"),
        (&[own, ("Chart.lock", "generated: yesterday")], "Chart.lock: "),
    ] {
        let error = chart(files(of), None).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}
