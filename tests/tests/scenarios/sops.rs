//! Secrets that SOPS encrypted: opened in the cluster, by its key; in clear nowhere else.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use flotilla_tests::ClusterOptions;
use flotilla_tests::fleet::{Fleet, errors};
use flotilla_tests::git::file;
use flotilla_tests::manifests::{app, config_map_in, namespace, unit_id};
use flotilla_tests::objects::{ObjectRef, apply};
use serde_json::{Value, json};

use crate::VALUE;

/// What `sops` made of files, and the key that they are for.
const SECRET: &str = include_str!("../../../sops/tests/recorded/secret.enc.yaml");
const FILE: &str = include_str!("../../../sops/tests/recorded/json.enc.json");
const VARIABLES: &str = include_str!("../../../sops/tests/recorded/env.enc.env");
const KEY: &str = include_str!("../../../sops/tests/recorded/first.agekey");

/// The password in [`SECRET`], and how the API server has it.
const CLEAR: [&str; 2] = ["s3cr et: #1", "czNjciBldDogIzE="];

const DECRYPTION: &str = "decryption: {provider: sops, secretRef: {name: sops-age}}";

fn key() -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "sops-age", "namespace": "flux-system"},
        "stringData": {"age.agekey": KEY}})
}

/// Files below a folder that hold a text.
fn holding(folder: &Path, texts: &[&str], found: &mut Vec<String>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
        if kind.is_dir() {
            holding(&path, texts, found)?;
        } else if kind.is_file() {
            let bytes = std::fs::read(&path)?;
            let holds = |text: &&str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
            if texts.iter().any(holds) {
                found.push(path.display().to_string());
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_sops_encrypted_is_in_clear_in_its_cluster_only() {
    let generator = "secretGenerator:\n- name: generated\n  files: [config.json]\n  envs: [app.env]\nresources: [db.yaml, \
                     ns.yaml]\n";
    let files = [
        app("one", "secrets", &[DECRYPTION]),
        file("apps/secrets/kustomization.yaml", generator),
        file("apps/secrets/ns.yaml", namespace("apps")),
        file("apps/secrets/db.yaml", SECRET),
        file("apps/secrets/config.json", FILE),
        file("apps/secrets/app.env", VARIABLES),
        // Variables from a Secret that another unit brings, encrypted.
        app("one", "vars", &[DECRYPTION]),
        file("apps/vars/vars.yaml", SECRET.replace("namespace: apps", "namespace: flux-system")),
        app(
            "one",
            "uses",
            &["dependsOn: [{name: vars}]", "postBuild: {substituteFrom: [{kind: Secret, name: db}]}"],
        ),
        file("apps/uses/config.yaml", config_map_in("default", "uses", "v${number}")),
    ];
    let fleet = Fleet::start_with(["one"], &files, &ClusterOptions::default()).await.unwrap();
    let missing = fleet.phase_becomes("one", &unit_id("secrets"), "Failed").await.unwrap();
    assert!(missing.message.contains("Secret flux-system/sops-age"), "{missing:?}");

    let client = fleet.client("one");
    let home = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "flux-system"}});
    apply(&client, "kubectl", &home).await.unwrap();
    apply(&client, "kubectl", &key()).await.unwrap();
    fleet.units_ready("one").await.unwrap();
    let db = ObjectRef::new("v1", "Secret", "apps", "db");
    fleet.field_becomes("one", &db, "/data/password", CLEAR[1]).await.unwrap();
    fleet
        .field_becomes("one", &ObjectRef::new("v1", "ConfigMap", "default", "uses"), VALUE, "v0123")
        .await
        .unwrap();
    let generated = generated(&fleet).await.unwrap();
    let entries = generated["data"].as_object().unwrap();
    let names: Vec<&str> = entries.keys().map(String::as_str).collect();
    assert_eq!(names, ["A", "B", "C", "D", "E", "F", "config.json"]);
    assert_eq!(entries["B"], "dHdvIHdvcmRz", "`two words` in base64");

    // Nobody is shown a value, and neither hub nor agent has one on its disk or in its log.
    fleet
        .commit(
            "Change",
            &[file("apps/secrets/db.yaml", SECRET.replace("type: Opaque", "type: example.com/other"))],
        )
        .await
        .unwrap();
    let refused = fleet.phase_becomes("one", &unit_id("secrets"), "Failed").await.unwrap();
    let shown = format!("{refused:?}{}", shown(&fleet, "one").await);
    assert!(!CLEAR.iter().any(|clear| shown.contains(clear)), "{shown}");
    let mut found = Vec::new();
    for folder in [fleet.data().to_owned(), fleet.agent_folder("one")] {
        holding(&folder, &CLEAR, &mut found).unwrap();
    }
    assert_eq!(found, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_hub_has_the_key_for_needs_none_in_the_cluster() {
    let placed = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: placed, namespace: 'n-${number}'}\ndata: {value: \"${umlaut}\"}\n";
    let files = [
        app("one", "secrets", &[DECRYPTION]),
        file(
            "apps/secrets/kustomization.yaml",
            "secretGenerator:\n- name: generated\n  files: [config.json]\nresources: [db.yaml, ns.yaml]\n",
        ),
        file("apps/secrets/ns.yaml", namespace("n-0123")),
        file("apps/secrets/db.yaml", SECRET.replace("namespace: apps", "namespace: flux-system")),
        file("apps/secrets/config.json", FILE),
        app(
            "one",
            "uses",
            &["dependsOn: [{name: secrets}]", "postBuild: {substituteFrom: [{kind: Secret, name: db}]}"],
        ),
        file("apps/uses/placed.yaml", placed),
    ];
    let fleet = Fleet::start_with(["one"], &files, &ClusterOptions::default()).await.unwrap();
    // The agent has no key, and the hub knows no name.
    let uses = unit_id("uses");
    let held = fleet.unit_becomes("one", &uses, |unit| {
        let errors = errors(unit);
        let is_held = errors.iter().any(|error| error.contains("${number} is known to the cluster only"));
        if is_held { Ok(()) } else { Err(format!("not held for what a Secret sets: {errors:?}")) }
    });
    held.await.unwrap();
    let home = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "flux-system"}});
    apply(&fleet.client("one"), "kubectl", &home).await.unwrap();
    let path = fleet.folder().join("age.agekey");
    std::fs::write(&path, KEY).unwrap();
    let from = format!("age.agekey={}", path.display());
    let create =
        ["secret", "create", "generic", "sops-age", "--namespace", "flux-system", "--from-file", &from];
    fleet.cli(&create).await.unwrap();
    fleet.units_ready("one").await.unwrap();
    let db = ObjectRef::new("v1", "Secret", "flux-system", "db");
    fleet.field_becomes("one", &db, "/data/password", CLEAR[1]).await.unwrap();
    fleet
        .field_becomes("one", &ObjectRef::new("v1", "ConfigMap", "n-0123", "placed"), VALUE, "grün 🎉")
        .await
        .unwrap();
    let made = generated(&fleet).await.unwrap();
    assert!(made["data"]["config.json"].as_str().is_some_and(|text| !text.is_empty()), "{made}");

    // It is in clear on no disk: neither the hub's nor the agent's.
    let mut found = Vec::new();
    for folder in [fleet.data().to_owned(), fleet.agent_folder("one")] {
        holding(&folder, &CLEAR, &mut found).unwrap();
    }
    assert_eq!(found, Vec::<String>::new());
    // Without the key nothing goes: what it opened is the cluster's business again, which lacks it too.
    fleet.cli(&["secret", "delete", "sops-age", "--namespace", "flux-system"]).await.unwrap();
    fleet.phase_becomes("one", &unit_id("secrets"), "Failed").await.unwrap();
    fleet.field_becomes("one", &db, "/data/password", CLEAR[1]).await.unwrap();
    assert_eq!(generated(&fleet).await.unwrap()["metadata"]["uid"], made["metadata"]["uid"]);
}

/// All that people can see of a cluster.
pub(crate) async fn shown(fleet: &Fleet, cluster: &str) -> String {
    let mut shown = String::new();
    for args in [
        &["diff", "--cluster", cluster][..],
        &["tree", cluster, "-o", "json"],
        &["status", cluster, "-o", "json"],
        &["get", "units", "-o", "json"],
        &["get", "events", "-o", "json"],
        &["get", "sources", "-o", "json"],
        &["get", "kustomizations", "-o", "json"],
        &["get", "helmreleases", "-o", "json"],
        &["secret", "list", "-o", "json"],
        &["audit", "-o", "json"],
    ] {
        let output = fleet.cli_output(args).await.unwrap();
        // 1: it found a difference or a problem.
        assert!(matches!(output.status.code(), Some(0 | 1)), "{args:?}: {output:?}");
        shown += &format!("{output:?}");
    }
    shown
}

async fn generated(fleet: &Fleet) -> Result<Value> {
    let api = flotilla_tests::objects::api(&fleet.client("one"), "v1", "Secret", Some("default"));
    let list = api.list(&kube::api::ListParams::default()).await?;
    let mut named = list
        .items
        .into_iter()
        .filter(|item| item.metadata.name.as_deref().is_some_and(|name| name.starts_with("generated-")));
    let one = named.next().context("there is no generated Secret")?;
    ensure!(named.next().is_none(), "there are several generated Secrets");
    Ok(serde_json::to_value(&one)?)
}
