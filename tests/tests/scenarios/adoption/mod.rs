//! Adoption: a cluster that Flux, Helm or kubectl ran becomes Flotilla's and goes back, without a deletion.

mod live;

use std::process::Output;
use std::time::Duration;

use anyhow::{Result, ensure};
use flotilla_api::Adoption;
use flotilla_tests::ClusterOptions;
use flotilla_tests::fleet::{Fleet, HubOptions, SOON};
use flotilla_tests::git::{Repo, file};
use flotilla_tests::helm;
use flotilla_tests::manifests::config_map;
use flotilla_tests::objects::{ObjectRef, api};
use flotilla_tests::process::Recipe;
use flotilla_tests::proxy::{Fault, Seen};
use flotilla_tests::wait::{always, eventually};
use http::{Method, StatusCode};
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::{VALUE, WHILE, config};
use live::{Live, Witness};

/// How many Kustomizations the recorded cluster has.
const KUSTOMIZATIONS: usize = 7;

/// `flotilla cluster adopt`: the exit code, and what it says.
async fn adopt(fleet: &Fleet, cluster: &str, args: &[&str]) -> (i32, Adoption) {
    let all = [&["cluster", "adopt", cluster, "-o", "json"], args].concat();
    let Output { status, stdout, stderr } = fleet.cli_output(&all).await.unwrap();
    let said = format!("{}\n{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    let adoption = serde_json::from_slice(&stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    (status.code().unwrap(), adoption)
}

/// Writes that are no book-keeping of the agent's own.
fn writes(seen: Vec<Seen>) -> Vec<Seen> {
    let books =
        |seen: &Seen| seen.path.contains("/namespaces/flotilla-system") || seen.path.contains("/events");
    seen.into_iter().filter(|seen| seen.is_write() && !books(seen)).collect()
}

fn deletions(seen: &[Seen]) -> Vec<&Seen> {
    let is_of_flux = |seen: &Seen| {
        seen.path.contains("/apis/kustomize.toolkit.fluxcd.io/")
            || seen.path.contains("/apis/source.toolkit.fluxcd.io/")
    };
    seen.iter().filter(|seen| seen.method == Method::DELETE && !is_of_flux(seen)).collect()
}

/// Flux is at work, and the agent leaves what it owns to it.
async fn is_respected(live: &Live) {
    let respected = live.fleet.unit_becomes("prod", "root", |unit| {
        let message = &unit.message;
        if message.contains("Flux's Kustomization flux-system/flux-system") {
            Ok(())
        } else {
            Err(message.clone())
        }
    });
    respected.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_flux_is_adopted_and_given_back() {
    let Some(mut live) = Live::start().await.unwrap() else { return };
    is_respected(&live).await;
    let uids = live.uids().await.unwrap();
    let versions = live.versions().await.unwrap();
    drop(live.fleet.member("prod").proxy().take_seen());

    // The plan writes nothing.
    let (code, plan) = adopt(&live.fleet, "prod", &["--from-flux"]).await;
    assert_eq!(code, 1, "{plan:#?}");
    let owners: Vec<&str> = plan.owners.iter().map(|owner| owner.object.as_str()).collect();
    assert_eq!(owners.len(), 8, "{plan:#?}");
    assert!(plan.owners.iter().all(|owner| owner.state == "runs"), "{:#?}", plan.owners);
    let root = plan.owners.iter().find(|owner| owner.object.ends_with("flux-system/flux-system")).unwrap();
    assert_eq!(root.unit, "root");
    assert!(plan.stays.is_empty() && plan.left.is_empty(), "{plan:#?}");
    // All as it is, but for one that Git wants made where it is missing and left alone else.
    let others: Vec<(&str, &str)> =
        plan.objects.iter().map(|object| (object.object.as_str(), object.what.as_str())).collect();
    assert_eq!(others, [("Secret store/seed", "stays")], "{plan:#?}");
    assert_eq!(plan.counts.same as usize, uids.len() - 1, "{:#?}", plan.counts);
    assert_eq!(live.versions().await.unwrap(), versions);
    assert_eq!(writes(live.fleet.member("prod").proxy().take_seen()), []);

    // Another plan than that is not done.
    let (yes, other) = (["--from-flux", "--yes", "--plan"], "0".repeat(64));
    let all = [&["cluster", "adopt", "prod"], &yes[..], &[&other]].concat();
    let refused = live.fleet.cli_output(&all).await.unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("the plan has changed"), "{said}");
    assert_eq!(writes(live.fleet.member("prod").proxy().take_seen()), []);

    let witness = Witness::start(&live.client()).await.unwrap();
    let (code, done) = adopt(&live.fleet, "prod", &[&yes[..], &[&plan.plan]].concat()).await;
    assert_eq!((code, done.stage.as_str(), done.complete), (0, "adopted", true), "{done:#?}");
    witness.saw(KUSTOMIZATIONS).await.unwrap();
    assert!(done.owners.iter().all(|owner| owner.state == "removed"), "{done:#?}");
    live.is_ours().await.unwrap();
    assert_eq!(live.uids().await.unwrap(), uids);
    let seen = live.fleet.member("prod").proxy().take_seen();
    assert_eq!(deletions(&seen), Vec::<&Seen>::new());
    // It is Git's now.
    live.fleet.commit("Change", &[change("two")]).await.unwrap();
    let settings = ObjectRef::new("v1", "ConfigMap", "store", "settings");
    live.fleet.field_becomes("prod", &settings, "/data/round", "two").await.unwrap();
    let (code, again) = adopt(&live.fleet, "prod", &["--from-flux"]).await;
    assert_eq!((code, again.owners.len(), again.counts.ours as usize), (0, 0, uids.len() - 1), "{again:#?}");
    live.fleet.commit("Change back", &[change("")]).await.unwrap();
    live.fleet.field_becomes("prod", &settings, "/data/round", Value::Null).await.unwrap();
    live.fleet.in_sync(&["prod"]).await.unwrap();

    let (code, undone) = adopt(&live.fleet, "prod", &["--from-flux", "--undo"]).await;
    assert_eq!((code, undone.stage.as_str()), (0, "undone"), "{undone:#?}");
    live.is_fluxs().await.unwrap();
    assert_eq!(live.uids().await.unwrap(), uids);
    // What Git says now is Flux's to apply.
    drop(live.fleet.member("prod").proxy().take_seen());
    live.fleet.commit("Change", &[change("three")]).await.unwrap();
    live.fleet.member("prod").agent().restart().unwrap();
    let root = live.fleet.unit_becomes("prod", "root", |unit| {
        if unit.message.contains("given back") { Ok(()) } else { Err(unit.message.clone()) }
    });
    root.await.unwrap();
    let untouched = live.versions().await.unwrap();
    always(WHILE, || async {
        ensure!(live.versions().await? == untouched, "somebody wrote");
        Ok::<_, anyhow::Error>(())
    })
    .await
    .unwrap();
    assert_eq!(writes(live.fleet.member("prod").proxy().take_seen()), []);

    // And forth again, past an object that another tool holds.
    let store = ObjectRef::new("kustomize.toolkit.fluxcd.io/v1", "Kustomization", "flux-system", "store");
    hold(&live, &store, &["finalizers.fluxcd.io", "example.com/hold"]).await;
    let (code, done) = adopt(&live.fleet, "prod", &["--from-flux", "--yes"]).await;
    let held = done.owners.iter().find(|owner| owner.object.ends_with("flux-system/store")).unwrap();
    assert_eq!((code, done.stage.as_str()), (1, "adopting"), "{done:#?}");
    assert!(held.state.contains("example.com/hold"), "{held:?}");
    let finalizers = store.field(&live.client(), "/metadata/finalizers").await.unwrap();
    assert_eq!(finalizers, json!(["finalizers.fluxcd.io", "example.com/hold"]), "it is as it was");
    hold(&live, &store, &["finalizers.fluxcd.io"]).await;
    let (code, done) = adopt(&live.fleet, "prod", &["--from-flux", "--yes"]).await;
    assert_eq!(code, 0, "{done:#?}");
    live.is_ours().await.unwrap();
    live.fleet.field_becomes("prod", &settings, "/data/round", "three").await.unwrap();
    assert_eq!(live.uids().await.unwrap(), uids);
    let seen = live.fleet.member("prod").proxy().take_seen();
    assert_eq!(deletions(&seen), Vec::<&Seen>::new());
}

async fn hold(live: &Live, object: &ObjectRef, finalizers: &[&str]) {
    let namespace = object.namespace.as_deref();
    let api = api(&live.client(), &object.api_version, &object.kind, namespace);
    let patch = Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
    api.patch(&object.name, &PatchParams::default(), &patch).await.unwrap();
}

/// The settings of the recorded repository, with another key.
fn change(round: &str) -> flotilla_tests::git::Change {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/flux-live/repo/infrastructure/config/settings.yaml");
    let mut text = std::fs::read_to_string(path).unwrap();
    if !round.is_empty() {
        text = text.replacen("data:\n", &format!("data:\n  round: {round}\n"), 1);
    }
    file("infrastructure/config/settings.yaml", text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_adoption_that_is_cut_short_goes_on_or_back() {
    let Some(mut live) = Live::start().await.unwrap() else { return };
    is_respected(&live).await;
    let uids = live.uids().await.unwrap();
    drop(live.fleet.member("prod").proxy().take_seen());
    let witness = Witness::start(&live.client()).await.unwrap();

    // Some of Flux's objects cannot be removed, and the agent is killed then: back to Flux.
    let refused = |method, path: &str| Fault {
        method: Some(method),
        path: path.into(),
        status: StatusCode::INTERNAL_SERVER_ERROR,
        times: None,
    };
    live.fleet.member("prod").proxy().fail(refused(Method::DELETE, "/kustomizations/store"));
    let failed = live.fleet.cli_output(&["cluster", "adopt", "prod", "--from-flux", "--yes"]).await.unwrap();
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(!failed.status.success() && said.contains("flux-system/store: a fault on demand"), "{said}");
    assert!(said.contains("look at the plan again to go on"), "{said}");
    live.fleet.member("prod").agent().process().kill();
    live.fleet.member("prod").proxy().heal();
    live.fleet.member("prod").agent().process().start().unwrap();
    live.fleet.connection_becomes("prod", flotilla_api::ConnectionState::Connected).await.unwrap();
    let (_, plan) = eventually(SOON, || async {
        let found = adopt_if(&live.fleet, &["--from-flux"]).await?;
        ensure!(found.1.stage == "adopting", "{found:?}");
        anyhow::Ok(found)
    })
    .await
    .unwrap();
    assert!(plan.next[0].contains("cut short"), "{:?}", plan.next);
    let (code, undone) = adopt(&live.fleet, "prod", &["--from-flux", "--undo"]).await;
    assert_eq!(code, 0, "{undone:#?}");
    live.is_fluxs().await.unwrap();
    assert_eq!(live.uids().await.unwrap(), uids);

    // Killed at moments that nobody chose: on to Flotilla, on the way back too.
    for (moment, arg) in [(100, "--yes"), (700, "--yes"), (1500, "--yes"), (300, "--undo"), (50, "--yes")] {
        let command = Recipe::own("flotilla").unwrap().arg("--data").arg(live.fleet.data());
        let command = command.args(["cluster", "adopt", "prod", "--from-flux", arg]);
        let asking = command.output(SOON);
        let kill = async {
            tokio::time::sleep(Duration::from_millis(moment)).await;
            live.fleet.member("prod").agent().process().kill();
        };
        let (asked, ()) = futures::future::join(asking, kill).await;
        println!("{arg}, killed after {moment} ms: {:?}", asked.map(|asked| asked.status));
        live.fleet.member("prod").agent().process().start().unwrap();
        live.fleet.connection_becomes("prod", flotilla_api::ConnectionState::Connected).await.unwrap();
        assert_eq!(live.uids().await.unwrap(), uids, "{moment} {arg}");
    }
    // An undo that was cut short is to be ended first; then all of it once more.
    eventually(SOON, || async { adopt_if(&live.fleet, &["--from-flux", "--undo"]).await.map(drop) })
        .await
        .unwrap();
    live.is_fluxs().await.unwrap();
    let (code, done) = adopt(&live.fleet, "prod", &["--from-flux", "--yes"]).await;
    assert_eq!(code, 0, "{done:#?}");
    live.is_ours().await.unwrap();
    witness.saw(KUSTOMIZATIONS).await.unwrap();
    assert_eq!(live.uids().await.unwrap(), uids);
    let seen = live.fleet.member("prod").proxy().take_seen();
    assert_eq!(deletions(&seen), Vec::<&Seen>::new());
}

/// As [`adopt`], where the agent may not be ready for it yet.
async fn adopt_if(fleet: &Fleet, args: &[&str]) -> Result<(i32, Adoption)> {
    let all = [&["cluster", "adopt", "prod", "-o", "json"], args].concat();
    let Output { status, stdout, stderr } = fleet.cli_output(&all).await?;
    ensure!(!stdout.is_empty(), "{}", String::from_utf8_lossy(&stderr));
    Ok((status.code().unwrap_or(-1), serde_json::from_slice(&stdout)?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn releases_of_helm_and_objects_of_kubectl_are_adopted_and_given_back() {
    let program = tokio::task::spawn_blocking(|| helm::find_or_build(&mut |_| {})).await.unwrap().unwrap();
    let repo = Repo::new().unwrap();
    let files = [
        file("clusters/one/web.yaml", config_map("web", "git")),
        file("clusters/one/hand.yaml", config_map("hand", "git")),
        file("clusters/one/new.yaml", config_map("new", "git")),
    ];
    repo.commit("begin", &files).unwrap();
    let url = repo.url();
    let mut fleet = Fleet::new(repo, &url, &HubOptions::default()).await.unwrap();
    let clusters = flotilla_tests::Clusters::new().await.unwrap();
    let cluster = clusters.start_one("one", &ClusterOptions::bare()).await.unwrap();
    let client = cluster.client();

    let chart = tempfile::tempdir().unwrap();
    std::fs::create_dir(chart.path().join("templates")).unwrap();
    std::fs::write(chart.path().join("Chart.yaml"), "apiVersion: v2\nname: web\nversion: 0.1.0\n").unwrap();
    for name in ["web", "extra"] {
        let text = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{value: helm, more: helm}}\n"
        );
        std::fs::write(chart.path().join(format!("templates/{name}.yaml")), text).unwrap();
    }
    let kubeconfig = cluster.kubeconfig_path().to_owned();
    let run = |args: &[&str]| {
        let recipe =
            Recipe::new(&program).arg("--kubeconfig").arg(&kubeconfig).args(["--namespace", "default"]);
        let recipe = recipe.args(args.iter().copied());
        async move { recipe.stdout(SOON).await }
    };
    let folder = chart.path().to_str().unwrap().to_owned();
    run(&["install", "web", &folder]).await.unwrap();
    assert!(run(&["list", "--short"]).await.unwrap().contains("web"));
    let mut hand = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "hand", "namespace": "default"},
        "data": {"value": "kubectl", "more": "kubectl"}});
    let last = hand.to_string();
    hand["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": last});
    let params =
        PostParams { field_manager: Some("kubectl-client-side-apply".into()), ..PostParams::default() };
    let maps = api(&client, "v1", "ConfigMap", Some("default"));
    maps.create(&params, &serde_json::from_value(hand).unwrap()).await.unwrap();
    let extra = config("extra").json(&client).await.unwrap();
    let before = [config("web").json(&client).await.unwrap(), config("hand").json(&client).await.unwrap()];

    // Suspended before the agent joins, so that there is time to look.
    fleet.cli(&["suspend", "one", "--reason", "look first"]).await.unwrap();
    fleet.join_through_proxy("one", cluster).await.unwrap();
    fleet.phase_becomes("one", "root", "Suspended").await.unwrap();
    drop(fleet.member("one").proxy().take_seen());
    let (code, plan) = adopt(&fleet, "one", &["--from-helm"]).await;
    assert_eq!((code, plan.counts.change), (1, 1), "{plan:#?}");
    assert_eq!(plan.owners[0].object, "release default/web");
    assert_eq!(plan.left[0].object, "ConfigMap default/extra");
    let fields: Vec<String> = plan.objects[0]
        .fields
        .iter()
        .map(|field| format!("{} {:?} {:?}", field.field, field.found, field.wanted))
        .collect();
    assert_eq!(fields[0], r#"/data/more Some("helm") None"#, "{fields:?}");
    assert_eq!(fields[1], r#"/data/value Some("helm") Some("git")"#, "{fields:?}");
    let (code, plan) = adopt(&fleet, "one", &["--from-kubectl"]).await;
    assert_eq!(
        (code, plan.counts.change, plan.objects[0].object.as_str()),
        (1, 1, "ConfigMap default/hand"),
        "{plan:#?}"
    );
    assert_eq!(writes(fleet.member("one").proxy().take_seen()), []);

    for from in ["--from-helm", "--from-kubectl"] {
        let (code, done) = adopt(&fleet, "one", &[from, "--yes"]).await;
        assert_eq!((code, done.stage.as_str()), (0, "adopted"), "{done:#?}");
        assert!(done.next[0].contains("flotilla resume one"), "{:?}", done.next);
    }
    assert_eq!(run(&["list", "--short"]).await.unwrap().trim(), "");
    assert!(run(&["uninstall", "web"]).await.is_err(), "helm finds the release no more");
    assert_eq!(
        config("web").json(&client).await.unwrap(),
        before[0],
        "suspended, so nothing is taken over yet"
    );
    fleet.cli(&["resume", "one"]).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    let mine = |name: &'static str, uid: &Value| {
        let (client, uid) = (client.clone(), uid.clone());
        async move {
            let now = config(name).json(&client).await.unwrap();
            assert_eq!(now["metadata"]["uid"], uid);
            assert_eq!(now["data"], json!({"value": "git"}));
            assert_eq!(now["metadata"]["annotations"], Value::Null, "{now:#}");
        }
    };
    mine("web", &before[0]["metadata"]["uid"]).await;
    mine("hand", &before[1]["metadata"]["uid"]).await;
    assert_eq!(config("extra").json(&client).await.unwrap(), extra);

    for from in ["--from-helm", "--from-kubectl"] {
        let (code, undone) = adopt(&fleet, "one", &[from, "--undo"]).await;
        assert_eq!((code, undone.counts.same), (0, 1), "{undone:#?}");
    }
    assert!(run(&["list", "--short"]).await.unwrap().contains("web"));
    for (name, before) in [("web", &before[0]), ("hand", &before[1])] {
        let now = config(name).json(&client).await.unwrap();
        for field in ["uid", "labels", "annotations"] {
            assert_eq!(now["metadata"][field], before["metadata"][field], "{name} {field}");
        }
        let manager = |object: &Value| object["metadata"]["managedFields"][0]["manager"].clone();
        assert_eq!(manager(&now), manager(before));
    }
    // What they had is theirs, all else goes on.
    fleet
        .commit(
            "Change",
            &["web", "hand", "new"]
                .map(|name| file(&format!("clusters/one/{name}.yaml"), config_map(name, "newer"))),
        )
        .await
        .unwrap();
    fleet.field_becomes("one", &config("new"), VALUE, "newer").await.unwrap();
    run(&["upgrade", "web", &folder]).await.unwrap();
    let edit = Patch::Merge(json!({"data": {"value": "kubectl"}}));
    let params = PatchParams { field_manager: Some("kubectl-edit".into()), ..PatchParams::default() };
    maps.patch("hand", &params, &edit).await.unwrap();
    always(WHILE, || async {
        for (name, value) in [("web", "helm"), ("hand", "kubectl")] {
            let now = config(name).field(&client, VALUE).await?;
            ensure!(now == value, "{name} is {now}");
        }
        anyhow::Ok(())
    })
    .await
    .unwrap();
    let seen = fleet.member("one").proxy().take_seen();
    assert!(!seen.iter().any(|seen| seen.method == Method::DELETE), "{seen:?}");
}
