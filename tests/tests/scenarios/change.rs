//! The guard on the change: what all clusters lose together waits for a person, though little enough goes of each.

use anyhow::ensure;
use flotilla_tests::ClusterOptions;
use flotilla_tests::fleet::{Fleet, SOON};
use flotilla_tests::git::file;
use flotilla_tests::manifests::{app, config_map, deployment};
use flotilla_tests::objects::ObjectRef;
use flotilla_tests::wait::{always, eventually};
use serde_json::Value;

use crate::{VALUE, WHILE, config};

const CLUSTERS: [&str; 3] = ["one", "two", "three"];

fn settings(maps: usize, with_web: bool) -> String {
    let maps = (0..maps).map(|n| config_map(&format!("setting-{n}"), "1"));
    maps.chain(with_web.then(|| deployment("default", "web", 1))).map(|text| text + "---\n").collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merge_that_empties_a_part_of_every_cluster_waits_for_an_approval() {
    let mut files = vec![
        file("apps/settings/all.yaml", settings(45, true)),
        file("apps/other/config.yaml", config_map("other", "1")),
    ];
    files.extend(CLUSTERS.iter().flat_map(|name| [app(name, "settings", &[]), app(name, "other", &[])]));
    let fleet = Fleet::start_with(CLUSTERS, &files, &ClusterOptions::default()).await.unwrap();
    fleet.in_sync(&CLUSTERS).await.unwrap();

    // A fifth of the fleet's objects, and less than half of the unit in each cluster: no agent would ask.
    let changes = [
        file("apps/settings/all.yaml", settings(26, false)),
        file("apps/other/config.yaml", config_map("other", "2")),
    ];
    fleet.commit("A merge that went wrong", &changes).await.unwrap();
    for name in CLUSTERS {
        fleet.field_becomes(name, &config("other"), VALUE, "2").await.unwrap();
    }
    let web = ObjectRef::new("apps/v1", "Deployment", "default", "web");
    always(WHILE, || async {
        for name in CLUSTERS {
            ensure!(fleet.uid(name, &config("setting-44")).await?.is_some(), "{name} lost a ConfigMap");
            ensure!(fleet.uid(name, &web).await?.is_some(), "{name} lost its Deployment");
        }
        anyhow::Ok(())
    })
    .await
    .unwrap();
    let shown = fleet.cli(&["get", "changes"]).await.unwrap();
    assert!(shown.contains("60 of 141 objects are removed"), "{shown}");
    let json = fleet.cli(&["get", "changes", "-o", "json"]).await.unwrap();
    let findings: Value = serde_json::from_str(&json).unwrap();
    let stop = &findings[0];
    assert_eq!(
        (&stop["severity"], stop["held"].as_array().map(Vec::len)),
        (&"stop".into(), Some(3)),
        "{json}"
    );
    let digest = stop["digest"].as_str().unwrap();
    let unit = fleet.cli(&["get", "kustomizations", "-c", "one"]).await.unwrap();
    assert!(unit.contains("would lose objects"), "{unit}");

    fleet.cli(&["approve", "--change", &digest[..12]]).await.unwrap();
    for name in CLUSTERS {
        fleet.vanishes(name, &config("setting-44")).await.unwrap();
        fleet.vanishes(name, &web).await.unwrap();
        assert!(fleet.uid(name, &config("setting-25")).await.unwrap().is_some(), "{name}");
    }
    fleet.in_sync(&CLUSTERS).await.unwrap();
    eventually(SOON, || async {
        let left = fleet.cli(&["get", "changes", "-o", "json"]).await?;
        ensure!(!left.contains("\"stop\""), "still held: {left}");
        anyhow::Ok(())
    })
    .await
    .unwrap();
}
