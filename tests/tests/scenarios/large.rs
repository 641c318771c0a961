//! Size: a unit of 10,000 objects, and an object as large as an API server takes.

use std::fmt::Write as _;
use std::time::Duration;

use flotilla_tests::fleet::Fleet;
use flotilla_tests::git::{Change, file};
use flotilla_tests::manifests::{app, config_map};
use flotilla_tests::wait::eventually;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::ListParams;
use serde_json::json;

use crate::{VALUE, config};

const OBJECTS: usize = 10_000;
/// What stays after most of them left the repository.
const FEW: usize = 100;
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

    // The inventory of all of them outlives the agent: what leaves is pruned, what stays is not touched.
    let first = fleet.uid("one", &config("config-7")).await.unwrap();
    fleet.member("one").agent().restart().unwrap();
    fleet.commit("Few", &[many(FEW)]).await.unwrap();
    are_there(&fleet, FEW).await;
    fleet.in_sync(&["one"]).await.unwrap();
    assert_eq!(fleet.uid("one", &config("config-7")).await.unwrap(), first);
}
