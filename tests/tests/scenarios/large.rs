//! Size: a unit of 10,000 objects, and an object as large as an API server takes.

use std::fmt::Write as _;
use std::time::Duration;

use flotilla_tests::fleet::{Fleet, SOON};
use flotilla_tests::git::{Change, file};
use flotilla_tests::manifests::{app, config_map};
use flotilla_tests::wait::eventually;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::ListParams;
use serde_json::json;

use crate::{VALUE, config};

const OBJECTS: usize = 10_000;
/// Too few for the guard, which keeps objects that leave at once if they are more than half of a unit's.
const HALF: usize = 4_000;
/// What stays after others left the repository.
const FEWER: usize = 6_000;
/// An API server takes objects of up to 1 MiB in a ConfigMap's data.
const LARGE: usize = 1_000_000;
/// 10,000 requests and what they cost the API server, on a machine that does other things too.
const LATE: Duration = Duration::from_secs(300);

fn many(count: usize) -> Change {
    let mut text = String::new();
    for number in 0..count {
        writeln!(text, "---\n{}", config_map(&format!("config-{number}"), "1")).expect("a String takes all");
    }
    file("apps/many/configs.yaml", text)
}

async fn count(fleet: &Fleet) -> anyhow::Result<usize> {
    let api: Api<ConfigMap> = Api::namespaced(fleet.client("one"), "default");
    let all = api.list_metadata(&ListParams::default()).await?;
    Ok(all.iter().filter(|it| it.metadata.name.as_ref().is_some_and(|n| n.starts_with("config-"))).count())
}

async fn are_there(fleet: &Fleet, wanted: usize) {
    eventually(LATE, || async {
        match count(fleet).await {
            Ok(found) if found == wanted => Ok(()),
            Ok(found) => Err(format!("{found} of {wanted} objects")),
            Err(error) => Err(format!("{error:#}")),
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_objects_in_one_unit_and_one_of_a_megabyte() {
    let large = config_map("large", &"1".repeat(LARGE));
    let files = [app("one", "many", &["wait: true"]), many(OBJECTS), file("apps/many/large.yaml", large)];
    let mut fleet = Fleet::start(["one"], &files).await.unwrap();
    are_there(&fleet, OBJECTS).await;
    fleet.in_sync(&["one"]).await.unwrap();
    fleet.units_ready("one").await.unwrap();
    fleet.field_becomes("one", &config("large"), VALUE, "1".repeat(LARGE)).await.unwrap();

    // Drift in the middle of them, and in the large one.
    for name in ["config-5000", "large"] {
        let by_hand = json!({"data": {"value": "by hand"}});
        config(name).edit(&fleet.client("one"), by_hand).await.unwrap();
    }
    fleet.field_becomes("one", &config("config-5000"), VALUE, "1").await.unwrap();
    fleet.field_becomes("one", &config("large"), VALUE, "1".repeat(LARGE)).await.unwrap();

    // Most of them leave: they are kept, and one event says so.
    fleet.commit("Half", &[many(HALF)]).await.unwrap();
    let lines = eventually(SOON, || {
        let log = fleet.member("one").agent().log();
        async move {
            let log = log.map_err(|error| format!("{error:#}"))?;
            match log.lines().filter(|line| line.contains("reason=\"Kept\"")).count() {
                0 => Err("nothing was kept".to_owned()),
                lines => Ok(lines),
            }
        }
    });
    assert_eq!(lines.await.unwrap(), 1);
    are_there(&fleet, OBJECTS).await;

    // The inventory of all of them outlives the agent: what leaves is pruned, what stays is not touched.
    let first = fleet.uid("one", &config("config-7")).await.unwrap();
    fleet.member("one").agent().restart().unwrap();
    fleet.commit("Fewer", &[many(FEWER)]).await.unwrap();
    are_there(&fleet, FEWER).await;
    fleet.in_sync(&["one"]).await.unwrap();
    assert_eq!(fleet.uid("one", &config("config-7")).await.unwrap(), first);
}
