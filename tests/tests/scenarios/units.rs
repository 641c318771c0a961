//! Units: nested, waiting for each other, removed in the right order.

use anyhow::{Context, Result, ensure};
use flotilla_tests::fleet::{Fleet, SOON};
use flotilla_tests::git::{Change, file, remove};
use flotilla_tests::manifests::{
    app, config_map, config_map_in, deployment, deployment_with_pods, namespace, unit, unit_id,
};
use flotilla_tests::objects::{ObjectRef, apply};
use flotilla_tests::wait::{always, eventually};
use flotilla_tests::{ClusterOptions, NOT_READY_ANNOTATION};
use serde_json::json;

use crate::{VALUE, WHILE, config};

fn web() -> ObjectRef {
    ObjectRef::new("apps/v1", "Deployment", "shop", "web")
}

fn nested() -> Vec<Change> {
    let web = deployment_with_pods("shop", "web", 1, (NOT_READY_ANNOTATION, "until the next commit"));
    vec![
        app("one", "stays", &[]),
        file("apps/stays/config.yaml", config_map("stays", "1")),
        app("one", "platform", &["wait: true"]),
        file("apps/platform/shop.yaml", namespace("shop")),
        file("apps/platform/inner.yaml", unit("inner", "apps/inner", &["wait: true"])),
        file("apps/platform/after.yaml", unit("after", "apps/after", &["dependsOn: [{name: inner}]"])),
        file("apps/inner/web.yaml", web),
        file("apps/after/config.yaml", config_map_in("shop", "after", "1")),
    ]
}

async fn children_wait(fleet: &Fleet, after: &ObjectRef) -> Result<()> {
    fleet.field_becomes("one", &web(), "/status/unavailableReplicas", 1).await?;
    fleet.phase_becomes("one", &unit_id("inner"), "Progressing").await?;
    let waiting = fleet.phase_becomes("one", &unit_id("after"), "Pending").await?;
    ensure!(waiting.message.contains("inner"), "it does not say what it waits for: {waiting:?}");
    ensure!(waiting.parent.as_deref() == Some(unit_id("platform").as_str()), "its parent: {waiting:?}");
    // `wait` of the parent is for its children too; they exist because it is applied, not because it is ready.
    fleet.phase_becomes("one", &unit_id("platform"), "Progressing").await?;
    fleet.phase_becomes("one", &unit_id("stays"), "Ready").await?;
    always(WHILE, || async {
        ensure!(
            fleet.uid("one", after).await?.is_none(),
            "{after} was applied before its dependency is ready"
        );
        anyhow::Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn units_nest_wait_and_go_in_order() {
    let fleet = Fleet::start_with(["one"], &nested(), &ClusterOptions::default()).await.unwrap();
    let after = ObjectRef::new("v1", "ConfigMap", "shop", "after");
    children_wait(&fleet, &after).await.unwrap();

    // The dependency becomes ready: everything does.
    fleet.commit("Ready", &[file("apps/inner/web.yaml", deployment("shop", "web", 2))]).await.unwrap();
    fleet.field_becomes("one", &after, VALUE, "1").await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    fleet.units_ready("one").await.unwrap();
    fleet.field_becomes("one", &web(), "/status/readyReplicas", 2).await.unwrap();

    // A dependency that is not ready at the new commit blocks the new state only: the last one is kept right.
    let broken = deployment_with_pods("shop", "web", 2, (NOT_READY_ANNOTATION, "again"));
    let changes = [
        file("apps/inner/web.yaml", broken),
        file("apps/after/config.yaml", config_map_in("shop", "after", "2")),
    ];
    fleet.commit("Broken", &changes).await.unwrap();
    fleet.phase_becomes("one", &unit_id("inner"), "Progressing").await.unwrap();
    after.edit(&fleet.client("one"), json!({"data": {"value": "by hand"}})).await.unwrap();
    fleet.field_becomes("one", &after, VALUE, "1").await.unwrap();
    always(WHILE, || async {
        let value = after.field(&fleet.client("one"), VALUE).await?;
        ensure!(value == "1" || value == "by hand", "the blocked state was applied: {value}");
        anyhow::Ok(())
    })
    .await
    .unwrap();
    fleet.commit("Ready again", &[file("apps/inner/web.yaml", deployment("shop", "web", 2))]).await.unwrap();
    fleet.field_becomes("one", &after, VALUE, "2").await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_of_units_goes_children_first_and_moves_are_no_deletions() {
    let files = [
        app("one", "stays", &[]),
        file("apps/stays/config.yaml", config_map("stays", "1")),
        file("apps/stays/moves.yaml", config_map("moves", "1")),
        app("one", "platform", &[]),
        file("apps/platform/config.yaml", config_map("platform", "1")),
        file("apps/platform/inner.yaml", unit("inner", "apps/inner", &[])),
        file("apps/inner/config.yaml", config_map("inner", "1")),
    ];
    let mut fleet = Fleet::start(["one"], &files).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    let moves = fleet.appears("one", &config("moves")).await.unwrap();
    drop(fleet.member("one").proxy().take_seen());

    // `moves` changes its unit, in one commit with the removal of a tree of units.
    let changes = [
        remove("apps/stays/moves.yaml"),
        app("one", "takes", &[]),
        file("apps/takes/moves.yaml", config_map("moves", "2")),
        remove("clusters/one/platform.yaml"),
    ];
    fleet.commit("Move and remove", &changes).await.unwrap();
    fleet.vanishes("one", &config("platform")).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    fleet.field_becomes("one", &config("moves"), VALUE, "2").await.unwrap();
    assert_eq!(fleet.uid("one", &config("moves")).await.unwrap(), Some(moves));
    assert!(fleet.uid("one", &config("inner")).await.unwrap().is_none());

    let seen = fleet.member("one").proxy().take_seen();
    let deleted: Vec<&str> = seen
        .iter()
        .filter(|it| it.method == http::Method::DELETE && it.path.contains("/namespaces/default/configmaps/"))
        .filter_map(|it| it.path.split('?').next()?.rsplit('/').next())
        .collect();
    assert_eq!(deleted, ["inner", "platform"], "children go first, and nothing else goes");
    eventually(SOON, || async {
        let units: Vec<String> = fleet.units("one").await?.into_keys().collect();
        ensure!(units == [unit_id("stays"), unit_id("takes"), "root".to_owned()], "listed: {units:?}");
        anyhow::Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_kustomization_says_of_a_unit_is_done() {
    let files = [
        app("one", "target", &["targetNamespace: made"]),
        file("apps/target/namespace.yaml", namespace("made")),
        // It names another namespace, which targetNamespace overrides.
        file("apps/target/config.yaml", config_map("target", "1")),
        file(
            "clusters/one/keeps.yaml",
            unit("keeps", "apps/keeps", &[]).replace("prune: true", "prune: false"),
        ),
        file("apps/keeps/first.yaml", config_map("first", "1")),
        file("apps/keeps/second.yaml", config_map("second", "1")),
    ];
    let fleet = Fleet::start(["one"], &files).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    fleet.appears("one", &ObjectRef::new("v1", "ConfigMap", "made", "target")).await.unwrap();
    assert!(fleet.uid("one", &config("target")).await.unwrap().is_none());

    let second = fleet.appears("one", &config("second")).await.unwrap();
    let changes = [remove("apps/keeps/second.yaml"), file("apps/keeps/first.yaml", config_map("first", "2"))];
    fleet.commit("Drop second", &changes).await.unwrap();
    fleet.field_becomes("one", &config("first"), VALUE, "2").await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    assert_eq!(fleet.uid("one", &config("second")).await.unwrap(), Some(second), "prune: false keeps it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_goes_as_its_policy_says() {
    let policies = [
        ("orphan", true, "Orphan", false),
        ("mirror", false, "MirrorPrune", false),
        ("deletes", false, "Delete", true),
        ("waits", true, "WaitForTermination", true),
    ];
    let mut files = vec![app("one", "stays", &[]), file("apps/stays/config.yaml", config_map("stays", "1"))];
    for (name, prune, policy, _) in policies {
        let unit = unit(name, &format!("apps/{name}"), &[&format!("deletionPolicy: {policy}")]);
        let unit = unit.replace("prune: true", &format!("prune: {prune}"));
        files.push(file(&format!("clusters/one/{name}.yaml"), unit));
        files.push(file(&format!("apps/{name}/config.yaml"), config_map(name, "1")));
    }
    let fleet = Fleet::start(["one"], &files).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    for (name, ..) in policies {
        fleet.appears("one", &config(name)).await.unwrap();
    }
    let gone = policies.map(|(name, ..)| remove(&format!("clusters/one/{name}.yaml")));
    fleet.commit("Remove the units", &gone).await.unwrap();
    eventually(SOON, || async {
        let units: Vec<String> = fleet.units("one").await?.into_keys().collect();
        ensure!(units == [unit_id("stays"), "root".to_owned()], "listed: {units:?}");
        anyhow::Ok(())
    })
    .await
    .unwrap();
    for (name, _, policy, deletes) in policies {
        if deletes {
            fleet.vanishes("one", &config(name)).await.unwrap();
        } else {
            assert!(fleet.uid("one", &config(name)).await.unwrap().is_some(), "{policy} leaves {name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_checks_look_at_what_others_make() {
    let checks = "healthChecks:\n- {apiVersion: v1, kind: ConfigMap, namespace: default, name: elsewhere}";
    let nothing = "healthChecks:\n- {apiVersion: kustomize.toolkit.fluxcd.io/v1, kind: Kustomization, namespace: \
                   flux-system, name: nowhere}";
    let files = [
        app("one", "checked", &[checks]),
        file("apps/checked/config.yaml", config_map("checked", "1")),
        app("one", "after", &["dependsOn: [{name: checked}]"]),
        file("apps/after/config.yaml", config_map("after", "1")),
        app("one", "lost", &[nothing]),
        file("apps/lost/config.yaml", config_map("lost", "1")),
    ];
    let fleet = Fleet::start(["one"], &files).await.unwrap();
    for (unit, says) in [
        ("checked", "default/elsewhere: is not there"),
        ("lost", "nothing in this cluster's state renders it"),
    ] {
        eventually(SOON, || async {
            let units = fleet.units("one").await?;
            let unit = units.get(&unit_id(unit)).context("no unit")?;
            ensure!(unit.message.contains(says), "{unit:?}");
            anyhow::Ok(())
        })
        .await
        .unwrap();
    }
    fleet.appears("one", &config("checked")).await.unwrap();
    always(WHILE, || async {
        ensure!(fleet.uid("one", &config("after")).await?.is_none(), "it did not wait");
        anyhow::Ok(())
    })
    .await
    .unwrap();
    let elsewhere = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "elsewhere", "namespace": "default"}});
    apply(&fleet.client("one"), "somebody", &elsewhere).await.unwrap();
    fleet.appears("one", &config("after")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_that_waits_is_not_ready_before_a_child_that_is_held() {
    let source = "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {name: team, namespace: \
                  flux-system}\nspec: {interval: 1m, url: 'file:///nowhere', ref: {branch: main}}\n";
    let late = unit("late", "apps/late", &[]);
    let files = [
        app("one", "platform", &["wait: true"]),
        file("apps/platform/config.yaml", config_map("platform", "1")),
        file("clusters/one/source.yaml", source),
        file(
            "apps/platform/late.yaml",
            late.replace("name: flux-system\n  interval", "name: team\n  interval"),
        ),
        file("apps/late/config.yaml", config_map("late", "1")),
        app("one", "after", &["dependsOn: [{name: platform}]"]),
        file("apps/after/config.yaml", config_map("after", "1")),
    ];
    let fleet = Fleet::start(["one"], &files).await.unwrap();
    fleet.appears("one", &config("platform")).await.unwrap();
    eventually(SOON, || async {
        let units = fleet.units("one").await?;
        let unit = units.get(&unit_id("platform")).context("no unit")?;
        ensure!(unit.message.contains("flux-system/late: is not ready"), "{unit:?}");
        anyhow::Ok(())
    })
    .await
    .unwrap();
    always(WHILE, || async {
        ensure!(fleet.uid("one", &config("after")).await?.is_none(), "it did not wait");
        anyhow::Ok(())
    })
    .await
    .unwrap();
    fleet.commit("From the fleet repo", &[file("apps/platform/late.yaml", late)]).await.unwrap();
    fleet.appears("one", &config("after")).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
}
