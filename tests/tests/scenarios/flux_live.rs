//! What Flux's own kustomize-controller left in a cluster for a repository, against what we leave for the same one.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_tests::fleet::{Fleet, HubOptions};
use flotilla_tests::git::Repo;
use flotilla_tests::objects::{ObjectRef, apply};
use flotilla_tests::{ClusterOptions, Clusters};
use serde_json::{Value, json};

use crate::shared::{files, held, name_of, objects, shared};

/// What is left of an object without what differs from one cluster to the next, what says whose it is, and what
/// controllers write.
fn settled(object: &Value) -> Value {
    let mut object = object.clone();
    let root = object.as_object_mut().unwrap();
    root.remove("status");
    let metadata = root["metadata"].as_object_mut().unwrap();
    for field in ["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"] {
        metadata.remove(field);
    }
    let owner = |key: &String| {
        key.starts_with("kustomize.toolkit.fluxcd.io/n")
            || key.starts_with("flotilla.dev/")
            || key.starts_with("applyset.")
    };
    for (field, is_theirs) in [
        ("labels", &owner as &dyn Fn(&String) -> bool),
        ("annotations", &|key| key == "deployment.kubernetes.io/revision"),
    ] {
        if let Some(map) = metadata.get_mut(field).and_then(Value::as_object_mut) {
            map.retain(|key, _| !is_theirs(key));
            if map.is_empty() {
                metadata.remove(field);
            }
        }
    }
    if object["kind"] == "Service" && object["spec"]["clusterIP"] != "None" {
        let spec = object["spec"].as_object_mut().unwrap();
        spec.remove("clusterIP");
        spec.remove("clusterIPs");
    }
    object
}

fn differences(ours: &Value, live: &Value, path: String, found: &mut Vec<String>) {
    match (ours, live) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
                differences(&ours[key], &live[key], format!("{path} {key}"), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter()
                .zip(b)
                .enumerate()
                .for_each(|(n, (a, b))| differences(a, b, format!("{path}[{n}]"), found));
        }
        (ours, live) if ours == live => {}
        // The program that wrote the record writes such a text bare.
        (Value::String(text), Value::Number(_)) if text == "1e3" => {}
        (ours, live) => found.push(format!("{path}: ours {ours}, Flux's {live}")),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_ends_up_as_flux_left_it() {
    let Some(folder) = shared("flux-live") else { return };
    let recorded = objects(&std::fs::read_to_string(folder.join("live.yaml")).unwrap());
    let is_of_flux =
        |object: &Value| object["apiVersion"].as_str().is_some_and(|version| version.contains(".fluxcd.io/"));
    let recorded: BTreeMap<String, Value> = recorded
        .into_iter()
        .filter(|object| !is_of_flux(object))
        .map(|object| (name_of(&object), object))
        .collect();
    let repo = Repo::new().unwrap();
    repo.commit("begin", &files(&folder.join("repo"))).unwrap();
    let url = repo.url();
    let mut fleet = Fleet::new(repo, &url, &HubOptions::default()).await.unwrap();
    let clusters = Clusters::new().await.unwrap();
    let [cluster] = clusters.start(["prod"], &ClusterOptions::default()).await.unwrap();
    // `flux bootstrap` makes it before there is a repository.
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "flux-system"}});
    apply(&cluster.client(), "flux", &namespace).await.unwrap();
    fleet.join("prod", cluster).await.unwrap();
    fleet.in_sync(&["prod"]).await.unwrap();
    fleet.units_ready("prod").await.unwrap();

    let ours = held(&fleet, "prod", |_| true).await.unwrap();
    assert_eq!(ours, recorded.keys().cloned().collect());
    let mut found = Vec::new();
    for (name, recorded) in &recorded {
        let live = ObjectRef::of(recorded).unwrap().json(&fleet.client("prod")).await.unwrap();
        differences(&settled(&live), &settled(recorded), name.clone(), &mut found);
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
