//! `kill -9` of hub and agent at any moment, under change: what was acknowledged is there, what stands beside is
//! untouched, both come back by themselves.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use flotilla_tests::fleet::{Fleet, SOON};
use flotilla_tests::git::{Change, file, remove};
use flotilla_tests::manifests::{app, config_map, unit_id};
use flotilla_tests::objects::{ObjectRef, apply, resource_versions};
use flotilla_tests::process::Recipe;
use flotilla_tests::wait::eventually;
use http::Method;
use serde_json::{Value, json};

use crate::{VALUE, config};

const ROUNDS: u32 = 20;
/// From the commit to the kill, at most: about as long as a round trip takes.
const MOMENT: std::ops::Range<u64> = 0..700;

/// Objects of others, one of them with the labels of an object of ours: controllers copy labels.
async fn bystanders(fleet: &Fleet) -> Result<Vec<ObjectRef>> {
    let client = fleet.client("one");
    let ours = config("steady").json(&client).await?;
    let plain = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "bystander", "namespace": "default"}, "data": {"of": "somebody"},
    });
    let copied = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "copied", "namespace": "default", "labels": ours["metadata"]["labels"]},
    });
    let mut objects = Vec::new();
    for object in [plain, copied] {
        objects.push(ObjectRef::of(&object)?);
        apply(&client, "somebody", &object).await?;
    }
    Ok(objects)
}

/// Round N sets the value N, adds `extra-N`, and removes that of the round before.
fn changes(round: u32) -> Vec<Change> {
    let extra = |round: u32| format!("apps/app/extra-{round}.yaml");
    let mut changes = vec![
        file("apps/app/app.yaml", config_map("app", &round.to_string())),
        file(&extra(round), config_map(&format!("extra-{round}"), "1")),
    ];
    if round > 1 {
        changes.push(remove(&extra(round - 1)));
    }
    changes
}

async fn generation(fleet: &Fleet) -> Result<u64> {
    let found = eventually(SOON, || async {
        fleet.cluster("one").await?.desired.map(|it| it.generation).ok_or_else(|| anyhow::anyhow!("none yet"))
    });
    Ok(found.await?)
}

async fn acknowledged(fleet: &Fleet, names: &BTreeSet<String>) -> Result<()> {
    let tokens: Vec<Value> = fleet.json(&["token", "list", "-o", "json"]).await?;
    let there: BTreeSet<String> =
        tokens.iter().filter_map(|token| token["name"].as_str()).map(str::to_owned).collect();
    let lost: Vec<_> = names.difference(&there).collect();
    ensure!(lost.is_empty(), "lost: {lost:?}, there: {there:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_at_any_moment_lose_nothing() {
    let mut files = vec![
        app("one", "app", &[]),
        file("apps/app/steady.yaml", config_map("steady", "1")),
        app("one", "suspended", &[]),
        file("apps/suspended/config.yaml", config_map("suspended", "1")),
    ];
    files.extend(changes(1));
    let mut fleet = Fleet::start(["one"], &files).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    let bystanders = bystanders(&fleet).await.unwrap();
    let client = fleet.client("one");
    let untouched = resource_versions(&client, &bystanders).await.unwrap();
    let steady = fleet.appears("one", &config("steady")).await.unwrap();
    fleet
        .cli(&["suspend", "one", &unit_id("suspended"), "--reason", "kept through all of it"])
        .await
        .unwrap();
    drop(fleet.member("one").proxy().take_seen());

    let mut names = BTreeSet::new();
    let mut newest = generation(&fleet).await.unwrap();
    for round in 2..2 + ROUNDS {
        let moment = Duration::from_millis(rand::random_range(MOMENT));
        let victim = if rand::random() { "hub" } else { "agent" };
        println!("round {round}: kill the {victim} {moment:?} after the commit");
        fleet.repo().commit(&round.to_string(), &changes(round)).unwrap();
        let name = format!("round-{round}");
        // Its answer may be cut off; only what was answered counts.
        let cli = Recipe::own("flotilla").unwrap().arg("--data").arg(fleet.data());
        let told = cli.clone().args(["reconcile"]);
        let made = cli.args(["token", "create", &name, "--role", "view"]);
        let work = async {
            let reconciled = told.output(SOON).await.is_ok_and(|it| it.status.success());
            let made = made.output(SOON).await.is_ok_and(|it| it.status.success());
            (reconciled, made)
        };
        let kill = async {
            tokio::time::sleep(moment).await;
            match victim {
                "hub" => fleet.hub().process().kill(),
                _ => fleet.member("one").agent().process().kill(),
            }
        };
        let ((_, made), ()) = futures::future::join(work, kill).await;
        if made {
            names.insert(name);
        }
        match victim {
            "hub" => fleet.hub().restart().await.unwrap(),
            _ => fleet.member("one").agent().process().start().unwrap(),
        }
        acknowledged(&fleet, &names).await.unwrap();
        let now = generation(&fleet).await.unwrap();
        assert!(now >= newest, "the generation fell from {newest} to {now}");
        newest = now;
        assert_eq!(resource_versions(&client, &bystanders).await.unwrap(), untouched, "bystanders");
        assert_eq!(fleet.uid("one", &config("steady")).await.unwrap().as_ref(), Some(&steady));
    }

    let last = ROUNDS + 1;
    fleet.reconcile().await.unwrap();
    fleet.field_becomes("one", &config("app"), VALUE, last.to_string()).await.unwrap();
    fleet.appears("one", &config(&format!("extra-{last}"))).await.unwrap();
    for round in 1..last {
        fleet.vanishes("one", &config(&format!("extra-{round}"))).await.unwrap();
    }
    fleet.phase_becomes("one", &unit_id("suspended"), "Suspended").await.unwrap();
    fleet.cli(&["resume", "one", &unit_id("suspended")]).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    fleet.units_ready("one").await.unwrap();
    acknowledged(&fleet, &names).await.unwrap();
    assert!(!names.is_empty(), "not one change was acknowledged, so nothing was tested");

    assert_eq!(resource_versions(&client, &bystanders).await.unwrap(), untouched, "bystanders");
    assert_eq!(fleet.uid("one", &config("steady")).await.unwrap(), Some(steady));
    for seen in fleet.member("one").proxy().take_seen() {
        let other = seen.path.contains("/configmaps/") && !seen.path.contains("/configmaps/extra-");
        let ours = seen.path.contains("/namespaces/default/");
        assert!(!(seen.method == Method::DELETE && other && ours), "deleted: {seen:?}");
    }
}
