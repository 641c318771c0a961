//! What Flux's own kustomize-controller left in a cluster for a repository, against what we leave for the same one.

use std::collections::BTreeMap;

use flotilla_tests::fleet::{Fleet, HubOptions};
use flotilla_tests::git::Repo;
use flotilla_tests::objects::{ObjectRef, apply};
use flotilla_tests::settled::{differences, settled};
use flotilla_tests::{ClusterOptions, Clusters};
use serde_json::{Value, json};

use crate::shared::{files, held, name_of, objects, shared};

/// The program that wrote the record writes such a text bare.
fn is_same(ours: &Value, live: &Value) -> bool {
    ours == live || matches!((ours, live), (Value::String(text), Value::Number(_)) if text == "1e3")
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
        let [ours, theirs] =
            [&live, recorded].map(|object| settled(object, &["deployment.kubernetes.io/revision"]));
        differences(&ours, &theirs, name, &is_same, &mut found);
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
