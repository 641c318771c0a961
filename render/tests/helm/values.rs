//! Where the values of a release come from, and in which order.

use serde_json::{Value, json};

use super::{CHART, World, config_map, files, held, release, unit, web};

#[test]
fn values_come_in_order_from_what_the_cluster_is_given() {
    let more = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: defaults, namespace: apps}\ndata:\n  values.yaml: |\n    \
                a: 1\n    b: {c: 1, d: 1}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: access, namespace: \
                apps}\nstringData: {password: 'x,y'}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: loose, \
                namespace: apps, annotations: {kustomize.toolkit.fluxcd.io/ssa: IfNotPresent}}\ndata: {values.yaml: \
                '{}'}\n";
    let from = "  valuesFrom:\n  - {kind: ConfigMap, name: defaults}\n  - {kind: Secret, name: access, valuesKey: \
                password, targetPath: auth.password, literal: true}\n  - {kind: ConfigMap, name: nowhere, optional: \
                true}\n  - {kind: Secret, name: access, valuesKey: none, optional: true}\n  values: {b: {c: 2}}\n";
    // Nobody here knows whether the cluster has it.
    let mut all = files(&format!("{CHART}{from}"), more);
    let (render, asked) = World::default().render(&all, config_map);
    let problem = &held(&render)[0];
    assert!(problem.message.contains("ConfigMap/nowhere is in nothing that is rendered"), "{problem:?}");
    assert!(problem.message.contains("flotilla.dev/absent: ConfigMap/nowhere"), "{problem:?}");
    assert!(asked.is_empty());
    let annotated = |names: &str| {
        release("web", &format!("{CHART}{from}")).replace(
            "namespace: apps}",
            &format!("namespace: apps, annotations: {{flotilla.dev/absent: '{names}'}}}}"),
        )
    };
    for (names, says) in [
        ("nowhere", "'nowhere' is not of the form Secret/NAME"),
        ("ConfigMap/nowhere,", "'' is not of the form"),
        ("Pod/nowhere", "not of the form"),
        ("Secret/nowhere", "ConfigMap/nowhere is in nothing"),
    ] {
        all[1].1 = annotated(names);
        let (render, asked) = World::default().render(&all, config_map);
        assert!(held(&render)[0].message.contains(says), "{names}: {:?}", held(&render));
        assert!(asked.is_empty());
    }
    all[1].1 = annotated("Secret/other, ConfigMap/nowhere");
    let (render, asked) = World::default().render(&all, config_map);
    let expected = json!({"a": 1, "b": {"c": 2, "d": 1}, "auth": {"password": "x,y"}});
    assert_eq!(Value::Object(asked[0].values.clone()), expected);
    assert!(asked[0].from_secrets && render.units[&web()].problems.is_empty());
    let run = unit(&render).manifest.spec.render.map(|render| render.key);
    assert_eq!(run, Some(asked[0].key()), "the agent knows what it runs");

    // What the hub keeps counts where the cluster's units do not have it.
    let from = "  valuesFrom:\n  - {kind: Secret, name: stored}\n  - {kind: Secret, name: access, valuesKey: password, \
                targetPath: auth.password, literal: true}\n";
    let (_, asked) = World::default().render(&files(&format!("{CHART}{from}"), more), config_map);
    assert_eq!(asked[0].values["auth"], json!({"user": "hub", "password": "x,y"}));

    for (from, says) in [
        ("[{kind: ConfigMap, name: nowhere}]", "ConfigMap/nowhere is in nothing that is rendered"),
        ("[{kind: ConfigMap, name: defaults, valuesKey: x}]", "has no key 'x'"),
        ("[{kind: Secret, name: access, valuesKey: password}]", "'password': line 1 is not a YAML mapping"),
        (
            "[{kind: Secret, name: access, valuesKey: password, targetPath: 'a['}]",
            "cannot be used at its targetPath",
        ),
        ("[{kind: ConfigMap, name: defaults, targetPath: 'a['}]", "is not an index"),
        ("[{kind: ConfigMap, name: stored}]", "ConfigMap/stored is in nothing that is rendered"),
        (
            "[{kind: ConfigMap, name: loose, optional: true}]",
            "ConfigMap/loose: is completed or changed in the cluster",
        ),
        ("[{kind: Secret, name: nowhere}]", "`flotilla secret create generic` keeps one"),
        ("[{kind: Secret, name: bytes}]", "Secret/bytes, key 'values.yaml': is not UTF-8 text"),
        ("[{kind: Secret, name: bytes, optional: true}]", "key 'values.yaml': is not UTF-8 text"),
        ("[{kind: Secret, name: sops}]", "is encrypted by SOPS"),
        ("[{kind: Secret, name: locked, optional: true}]", "Secret/locked: does not open"),
        ("[{kind: Pod, name: x}]", "'Pod' is none of Secret, ConfigMap"),
    ] {
        let (render, asked) =
            World::default().render(&files(&format!("{CHART}  valuesFrom: {from}\n"), more), config_map);
        let problem = &held(&render)[0];
        assert!(
            problem.message.contains(says) && problem.field.starts_with("spec.valuesFrom"),
            "{problem:?}"
        );
        assert_eq!((problem.file.as_str(), asked.len()), ("clusters/x/web.yaml", 0));
    }
}

#[test]
fn inline_values_are_those_of_the_api_server_and_files_are_read_as_helm_does() {
    for (text, inline, file) in [
        ("a: yes", json!({"a": "yes"}), json!({"a": true})),
        ("a: 'yes'", json!({"a": "yes"}), json!({"a": "yes"})),
        ("on: n", json!({"on": "n"}), json!({"true": false})),
        ("a: 2024-01-01", json!({"a": "2024-01-01T00:00:00Z"}), json!({"a": "2024-01-01"})),
        (
            "a: [0755, 0x1F, 1.50, 12:30]",
            json!({"a": [493, 31, 1.5, "12:30"]}),
            json!({"a": [493, 31, 1.5, "12:30"]}),
        ),
        ("a: {b: !!binary aGk=}", json!({"a": {"b": "hi"}}), json!({"a": {"b": "hi"}})),
        ("a: {b: , c: ~}", json!({"a": {"b": "", "c": null}}), json!({"a": {"b": null, "c": null}})),
        ("a: 9007199254740993", json!({"a": 9007199254740992_i64}), json!({"a": 9007199254740992_i64})),
        (
            "a: [-12345678901234567]",
            json!({"a": [-12345678901234568_i64]}),
            json!({"a": [-12345678901234568_i64]}),
        ),
    ] {
        let (_, asked) =
            World::default().render(&files(&format!("{CHART}  values: {{{text}}}\n"), ""), config_map);
        assert_eq!(Value::Object(asked[0].values.clone()), inline, "{text} inline");
        let map = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: v, namespace: apps}}\ndata:\n  values.yaml: |\n    {text}\n"
        );
        let from = format!("{CHART}  valuesFrom: [{{kind: ConfigMap, name: v}}]\n");
        let (_, asked) = World::default().render(&files(&from, &map), config_map);
        assert_eq!(Value::Object(asked[0].values.clone()), file, "{text} in a file");
    }
}

#[test]
fn values_files_take_the_place_of_the_charts_own() {
    let chart = |files: &str| CHART.replace("version: 1.x", &format!("version: 1.x, valuesFiles: {files}"));
    let (_, asked) = World::default().render(&files(&chart("[small.yaml, large.yaml]"), ""), config_map);
    let defaults = asked[0].chart.default_values.clone().map(Value::Object);
    assert_eq!(defaults, Some(json!({"size": 9, "keep": true})));
    let (render, _) = World::default().render(&files(&chart("[none.yaml]"), ""), config_map);
    assert!(held(&render)[0].message.contains("no file web/none.yaml"), "{:?}", held(&render));
}
