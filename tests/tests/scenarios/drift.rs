//! Drift as a whole cluster has it: put back, told or ignored, unless a unit or an object says otherwise for itself.

use anyhow::ensure;
use flotilla_tests::fleet::{Fleet, SOON};
use flotilla_tests::git::{Change, file};
use flotilla_tests::manifests::{app, config_map, unit, unit_id};
use flotilla_tests::objects::ObjectRef;
use flotilla_tests::wait::{always, eventually};
use serde_json::json;

use crate::{VALUE, WHILE, config};

/// What the cluster is to do about drift.
fn cluster(drift: &str) -> Change {
    let object = "apiVersion: flotilla.dev/v1alpha1\nkind: Cluster\nmetadata: {name: one}\nspec:\n";
    file("clusters/one/cluster.yaml", format!("{object}  path: clusters/one\n  drift: {drift}\n"))
}

/// With what it says itself of drift.
fn saying(mode: &str, manifest: &str) -> String {
    let own = format!("metadata:\n  annotations: {{flotilla.dev/drift: {mode}}}\n");
    manifest.replacen("metadata:\n", &own, 1)
}

async fn edit(fleet: &Fleet, objects: &[ObjectRef]) {
    for object in objects {
        object.edit(&fleet.client("one"), json!({"data": {"value": "by hand"}})).await.unwrap();
    }
}

async fn becomes(fleet: &Fleet, name: &str, value: &str) {
    fleet.field_becomes("one", &config(name), VALUE, value).await.unwrap();
}

/// Nothing of these is put back, nor made anew.
async fn left_as_they_are(fleet: &Fleet, names: &[&str], deleted: &ObjectRef) {
    always(WHILE, || async {
        for name in names {
            let found = config(name).field(&fleet.client("one"), VALUE).await?;
            ensure!(found == "by hand", "{name} holds {found}");
        }
        ensure!(fleet.uid("one", deleted).await?.is_none(), "{deleted} is back");
        anyhow::Ok(())
    })
    .await
    .unwrap();
}

/// Waits for the drift that a unit tells, a line for each field as `NAME FIELD WANTED FOUND MANAGER`.
async fn told(fleet: &Fleet, name: &str, expected: &[&str]) {
    eventually(SOON, || async {
        let drift = fleet.units("one").await?[&unit_id(name)].drift.clone();
        let mut lines = Vec::new();
        for drift in drift {
            let object = drift.object.name;
            ensure!(drift.at > 0, "{object} drifted at no time");
            if drift.fields.is_empty() {
                lines.push(format!("{object} is gone"));
            }
            for field in drift.fields {
                let text = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
                let [wanted, found, manager] = [field.wanted, field.found, field.manager].map(text);
                lines.push(format!("{object} {} {wanted} {found} {manager}", field.field));
            }
        }
        lines.sort();
        ensure!(lines == expected, "{name} tells {lines:?}");
        anyhow::Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cluster_says_what_becomes_of_drift_a_unit_or_an_object_says_otherwise() {
    let files = [
        app("one", "plain", &[]),
        file("apps/plain/a.yaml", config_map("plain", "1")),
        file("apps/plain/b.yaml", config_map("deleted", "1")),
        file("apps/plain/c.yaml", saying("correct", &config_map("strict-object", "1"))),
        file("clusters/one/strict.yaml", saying("correct", &unit("strict", "apps/strict", &[]))),
        file("apps/strict/a.yaml", config_map("strict", "1")),
        file("apps/strict/b.yaml", saying("report", &config_map("lax-object", "1"))),
        file("clusters/one/lax.yaml", saying("report", &unit("lax", "apps/lax", &[]))),
        file("apps/lax/a.yaml", config_map("lax", "1")),
        // The root's own, to which no unit says anything.
        file("clusters/one/root.yaml", config_map("root", "1")),
    ];
    let all = ["plain", "strict-object", "strict", "lax-object", "lax", "root"].map(config);
    let deleted = config("deleted");
    let fleet = Fleet::start(["one"], &files).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();

    // Without a word of the cluster drift is put back, but for those that say otherwise.
    edit(&fleet, &all).await;
    deleted.delete(&fleet.client("one")).await.unwrap();
    for name in ["plain", "strict-object", "strict", "root", "deleted"] {
        becomes(&fleet, name, "1").await;
    }
    told(&fleet, "lax", &["lax /data/value 1 by hand kubectl-edit"]).await;
    told(&fleet, "strict", &["lax-object /data/value 1 by hand kubectl-edit"]).await;
    told(&fleet, "plain", &[]).await;

    // A cluster that reports tells it and leaves it, but for those that want it put back.
    fleet.commit("Report", &[cluster("report")]).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    edit(&fleet, &all).await;
    deleted.delete(&fleet.client("one")).await.unwrap();
    becomes(&fleet, "strict", "1").await;
    becomes(&fleet, "strict-object", "1").await;
    told(&fleet, "plain", &["deleted is gone", "plain /data/value 1 by hand kubectl-edit"]).await;
    told(&fleet, "strict", &["lax-object /data/value 1 by hand kubectl-edit"]).await;
    left_as_they_are(&fleet, &["plain", "root", "lax", "lax-object"], &deleted).await;

    // One that ignores does not even tell it; units and objects that say otherwise do as before.
    fleet.commit("Ignore", &[cluster("ignore")]).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    told(&fleet, "plain", &[]).await;
    told(&fleet, "lax", &["lax /data/value 1 by hand kubectl-edit"]).await;
    edit(&fleet, &all[1..3]).await;
    becomes(&fleet, "strict", "1").await;
    becomes(&fleet, "strict-object", "1").await;
    left_as_they_are(&fleet, &["plain", "root", "lax", "lax-object"], &deleted).await;

    // What Git changes is applied all the same; and with the word gone, what stood is put back.
    fleet.commit("Change", &[file("apps/plain/a.yaml", config_map("plain", "2"))]).await.unwrap();
    becomes(&fleet, "plain", "2").await;
    fleet.commit("Correct", &[cluster("correct")]).await.unwrap();
    becomes(&fleet, "root", "1").await;
    becomes(&fleet, "deleted", "1").await;
    told(&fleet, "plain", &[]).await;
    told(&fleet, "lax", &["lax /data/value 1 by hand kubectl-edit"]).await;
    fleet.in_sync(&["one"]).await.unwrap();
}
