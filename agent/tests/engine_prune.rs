//! The engine on a real API server: what leaves is deleted, in order, unless a guard keeps it; nothing foreign ever is.

mod engine_common;

use std::collections::BTreeMap;

use engine_common::{Bench, LIMIT, at, config, definition, namespace, unit};
use flotilla_agent::sync::Request;
use flotilla_core::report::{Phase, UnitReport};
use flotilla_core::{Digest, UnitSpec};
use flotilla_tests::ClusterOptions;
use flotilla_tests::objects::{ObjectRef, apply, list};
use flotilla_tests::wait::eventually;
use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::DynamicObject;
use serde_json::{Value, json};

fn many(range: std::ops::Range<u32>) -> Vec<Value> {
    range.map(|i| config(&format!("m{i}"), "1")).collect()
}

fn widget(name: &str) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name, "namespace": "web"}})
}

#[tokio::test]
async fn what_leaves_goes_what_moves_or_is_foreign_stays() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    bench.present(
        "a",
        UnitSpec::default(),
        &[config("stays", "1"), config("goes", "1"), config("moves", "1"), config("shared", "1")],
    );
    bench.present("b", UnitSpec::default(), &[config("b", "1"), config("shared", "1")]);
    bench.publish();
    bench.until_ready().await;
    // A controller copies labels from ours to its own.
    apply(
        &bench.client(),
        "some-controller",
        &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "copy",
        "namespace": "default", "labels": {"flotilla.dev/unit": "kustomization.flux-system.a"}}}),
    )
    .await
    .unwrap();
    let moves = at("ConfigMap", "default", "moves");
    let uid = moves.field(&bench.client(), "/metadata/uid").await.unwrap();

    bench.present("a", UnitSpec::default(), &[config("stays", "1")]);
    bench.present("b", UnitSpec::default(), &[config("b", "1"), config("shared", "1"), config("moves", "1")]);
    bench.publish();
    bench.until_gone(&at("ConfigMap", "default", "goes")).await;
    bench.until_ready().await;
    assert_eq!(moves.field(&bench.client(), "/metadata/uid").await.unwrap(), uid);
    for name in ["stays", "shared", "copy", "b"] {
        assert!(bench.is_there(&at("ConfigMap", "default", name)).await, "{name}");
    }
    assert!(bench.has_event("Pruned", "goes"));

    bench.present("c", UnitSpec::default(), &[config("shared", "other"), config("c", "1")]);
    bench.publish();
    let report = bench.until_phase("c", Phase::Failed).await;
    assert!(
        report.message.contains("kustomization/flux-system/b declares it with different content"),
        "{}",
        report.message
    );
    assert!(bench.is_there(&at("ConfigMap", "default", "c")).await);
    assert_eq!(
        at("ConfigMap", "default", "shared").field(&bench.client(), "/data/value").await.unwrap(),
        "1"
    );

    // Made anew by somebody else it is theirs.
    bench.stop_engine().await;
    let stays = at("ConfigMap", "default", "stays");
    stays.delete(&bench.client()).await.unwrap();
    apply(&bench.client(), "somebody", &config("stays", "theirs")).await.unwrap();
    bench.present("c", UnitSpec::default(), &[config("c", "1")]);
    bench.remove("a");
    bench.start_engine();
    let gone = flotilla_tests::wait::eventually(engine_common::LIMIT, || async {
        if bench.engine.changes(0).gone.contains(&unit("a")) || bench.has_event("Removed", "name: \"a\"") {
            Ok(())
        } else {
            Err(format!("{:?}", bench.report("a")))
        }
    });
    gone.await.unwrap();
    assert!(bench.is_there(&stays).await);
}

#[tokio::test]
async fn guards_keep_until_approved() {
    let mut bench = Bench::start(&ClusterOptions::default()).await;
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "web"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    bench.present("ns", UnitSpec::default(), &[namespace("web"), namespace("empty"), config("k", "1")]);
    bench.present("data", UnitSpec::default(), &[claim, config("d", "1")]);
    bench.present("many", UnitSpec::default(), &many(0..10));
    bench.publish();
    bench.until_ready().await;
    apply(&bench.client(), "somebody", &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "foreign", "namespace": "web"}})).await.unwrap();

    bench.present("ns", UnitSpec::default(), &[config("k", "1")]);
    bench.present("data", UnitSpec::default(), &[config("d", "1")]);
    bench.present("many", UnitSpec::default(), &many(0..3));
    bench.publish();
    bench.until_gone(&at("Namespace", "", "empty")).await;
    let kept = |name: &'static str, count: usize| {
        let bench = &bench;
        async move {
            bench
                .until(name, move |report| report.kept.len() == count && report.phase == Phase::Ready)
                .await
                .kept
        }
    };
    let web = kept("ns", 1).await;
    assert!(web[0].why.contains("ConfigMap web/foreign"), "{web:?}");
    let data = kept("data", 1).await;
    assert_eq!(data[0].why, "its data would be lost");
    let share = kept("many", 7).await;
    assert!(share[0].why.starts_with("7 of the unit's 10 objects would go"), "{share:?}");

    bench.engine.request(Request::Approve { digest: share[0].approval }).unwrap();
    for i in 3..10 {
        bench.until_gone(&at("ConfigMap", "default", &format!("m{i}"))).await;
    }
    assert!(bench.is_there(&at("PersistentVolumeClaim", "web", "data")).await);
    bench.engine.request(Request::Approve { digest: data[0].approval }).unwrap();
    bench.until_gone(&at("PersistentVolumeClaim", "web", "data")).await;

    bench.present("many", UnitSpec::default(), &[]);
    bench.publish();
    let empty = bench.until("many", |report| report.kept.len() == 3).await.kept;
    assert!(empty[0].why.contains("zero objects"), "{empty:?}");
    bench.present("many", UnitSpec { allow_empty: true, ..UnitSpec::default() }, &[]);
    bench.publish();
    bench.until_gone(&at("ConfigMap", "default", "m0")).await;
}

#[tokio::test]
async fn what_is_foreign_is_found_behind_any_number_of_others() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    bench.present("ns", UnitSpec::default(), &[namespace("web"), config("k", "1")]);
    bench.publish();
    bench.until_ready().await;
    // More than a page of objects that go with what owns them, as the pods of a Deployment do.
    let client = bench.client();
    let owners = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": "1"}]);
    let map = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "web"}});
    let dependents = (0..505).map(|i| {
        let mut object = map(&format!("d{i:03}"));
        object["metadata"]["ownerReferences"] = owners.clone();
        let client = client.clone();
        async move { apply(&client, "somebody", &object).await.map(drop) }
    });
    futures::stream::iter(dependents).buffer_unordered(16).try_collect::<()>().await.unwrap();
    apply(&client, "somebody", &map("theirs")).await.unwrap();
    // What is owned from outside does not hang on anything that goes.
    let mut outside = map("of-a-node");
    outside["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "2"}]);
    apply(&client, "somebody", &outside).await.unwrap();

    bench.present("ns", UnitSpec::default(), &[config("k", "1")]);
    bench.publish();
    let kept = bench.until("ns", |report| report.kept.len() == 1).await.kept;
    assert!(kept[0].why.ends_with(": ConfigMap web/of-a-node, ConfigMap web/theirs"), "{kept:?}");
    let web = at("Namespace", "", "web").json(&client).await.unwrap();
    assert!(web["metadata"]["deletionTimestamp"].is_null(), "{web}");
}

/// An owner in Git is no controller that made the object: Flux deletes it too when it leaves Git.
#[tokio::test]
async fn an_owner_that_stands_in_git_keeps_nothing_and_one_of_a_controllers_does() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    let owner =
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "1", "controller": true}]);
    let owned = |name: &str| {
        let mut object = config(name, "1");
        object["metadata"]["ownerReferences"] = owner.clone();
        object
    };
    bench.present("a", UnitSpec::default(), &[owned("in-git"), config("taken", "1"), config("k", "1")]);
    bench.publish();
    bench.until_ready().await;
    let taken = at("ConfigMap", "default", "taken");
    let mut controlled = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "taken", "namespace": "default"}});
    controlled["metadata"]["ownerReferences"] = owner.clone();
    apply(&bench.client(), "some-controller", &controlled).await.unwrap();
    bench.present("a", UnitSpec::default(), &[config("k", "1")]);
    bench.publish();
    bench.until_gone(&at("ConfigMap", "default", "in-git")).await;
    bench.until("a", |report| report.phase == Phase::Ready && report.objects == 1).await;
    assert!(bench.is_there(&taken).await, "a controller's it is now");
}

#[tokio::test]
async fn a_definition_stays_while_others_have_objects_of_its_kind() {
    let mut bench = Bench::start(&ClusterOptions::default()).await;
    let crd = ObjectRef::global("apiextensions.k8s.io/v1", "CustomResourceDefinition", "widgets.example.com");
    let theirs = ["web", "default"].map(|space| ObjectRef::new("example.com/v1", "Widget", space, "theirs"));
    bench.present("crd", UnitSpec::default(), &[definition(), widget("own"), config("c", "1")]);
    bench.present("ns", UnitSpec::default(), &[namespace("web")]);
    bench.publish();
    bench.until_ready().await;
    for object in &theirs {
        let namespace = object.namespace.as_deref().unwrap();
        let widget = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "theirs", "namespace": namespace}});
        apply(&bench.client(), "somebody", &widget).await.unwrap();
    }
    let own = ObjectRef::new("example.com/v1", "Widget", "web", "own");
    let mut before = bench.versions("example.com/v1", "Widget").await;
    let uid = crd.field(&bench.client(), "/metadata/uid").await.unwrap();

    // Our own object of the kind goes with it; those of others keep the definition.
    bench.present("crd", UnitSpec::default(), &[config("c", "1")]);
    bench.publish();
    bench.until_gone(&own).await;
    let is_kept = |report: &UnitReport| report.kept.len() == 1 && report.phase == Phase::Ready;
    let kept = bench.until("crd", is_kept).await.kept;
    assert_eq!(kept[0].object.name, "widgets.example.com");
    for name in ["Widget.example.com default/theirs", "Widget.example.com web/theirs"] {
        assert!(kept[0].why.contains(name), "{kept:?}");
    }
    assert!(!kept[0].why.contains("own"), "{kept:?}");
    assert!(bench.has_event("Kept", "widgets.example.com"), "{:#?}", bench.events());

    // Neither a new revision, nor another agent, nor an approval of something else changes that.
    bench.present("crd", UnitSpec::default(), &[config("c", "2")]);
    bench.engine.request(Request::Approve { digest: Digest::of(b"something else") }).unwrap();
    bench.restart().await;
    bench.until_ready().await;
    let again = bench.until("crd", is_kept).await.kept;
    assert_eq!((&again[0].object, again[0].approval), (&kept[0].object, kept[0].approval));
    before.remove("web/own").unwrap();
    assert_eq!(bench.versions("example.com/v1", "Widget").await, before, "somebody else's were touched");
    assert_eq!(crd.field(&bench.client(), "/metadata/uid").await.unwrap(), uid);
    let object = crd.json(&bench.client()).await.unwrap();
    assert!(object["metadata"]["deletionTimestamp"].is_null(), "{object}");

    bench.engine.request(Request::Approve { digest: again[0].approval }).unwrap();
    bench.until_gone(&crd).await;
    bench.until("crd", |report| report.kept.is_empty() && report.phase == Phase::Ready).await;
    assert!(bench.is_there(&at("ConfigMap", "default", "c")).await);
}

#[tokio::test]
async fn units_go_children_first_and_custom_resources_before_their_definition() {
    let mut bench = Bench::start(&ClusterOptions::default()).await;
    bench.present("root", UnitSpec::default(), &[config("root", "1")]);
    let child = |parent: &str| UnitSpec { parent: Some(unit(parent)), ..UnitSpec::default() };
    bench.present("p", child("root"), &[namespace("web"), definition(), widget("own")]);
    bench.present("c", child("p"), &[widget("child")]);
    bench.publish();
    bench.until_ready().await;
    bench.remove("p");
    bench.remove("c");
    bench.publish();
    bench.until_gone(&at("Namespace", "", "web")).await;
    let crd = ObjectRef::global("apiextensions.k8s.io/v1", "CustomResourceDefinition", "widgets.example.com");
    bench.until_gone(&crd).await;
    let told = flotilla_tests::wait::eventually(engine_common::LIMIT, || async {
        if bench.has_event("Removed", "name: \"p\"") || bench.engine.changes(0).gone.contains(&unit("p")) {
            Ok(())
        } else {
            Err(format!("{:?}", bench.report("p")))
        }
    });
    told.await.unwrap();
    let order: Vec<String> = bench
        .events()
        .into_iter()
        .filter(|event| event.reason == "Pruned")
        .filter_map(|event| event.object)
        .map(|id| id.name.clone())
        .collect();
    let place = |name: &str| {
        order.iter().position(|other| other == name).unwrap_or_else(|| panic!("{name} in {order:?}"))
    };
    assert!(place("child") < place("own") && place("own") < place("widgets.example.com"), "{order:?}");
    assert!(bench.is_there(&at("ConfigMap", "default", "root")).await);
}

#[tokio::test]
async fn an_inventory_that_cannot_be_read_prunes_nothing() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    bench.present("a", UnitSpec::default(), &[config("x", "1"), config("y", "1")]);
    bench.publish();
    bench.until_ready().await;
    bench.stop_engine().await;
    let api = flotilla_tests::objects::api(&bench.client(), "v1", "ConfigMap", Some("flotilla-system"));
    for map in api.list(&kube::api::ListParams::default()).await.unwrap().items {
        let name = map.metadata.name.unwrap();
        if name.starts_with("flotilla-inventory-") {
            let members = map.data["data"]["members"].as_str().unwrap();
            let patch = json!({"data": {"members": format!("{members}{{not json\n")}});
            at("ConfigMap", "flotilla-system", &name).edit(&bench.client(), patch).await.unwrap();
        }
    }
    bench.present("a", UnitSpec::default(), &[config("x", "2")]);
    bench.start_engine();
    bench.until_field(&at("ConfigMap", "default", "x"), "/data/value", json!("2")).await;
    bench.until_ready().await;
    assert!(bench.is_there(&at("ConfigMap", "default", "y")).await);
}

#[tokio::test]
async fn an_approval_outlives_the_agent_and_ends_with_what_it_was_for() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    // A finalizer holds one back, so that the deletion is half done when the agent dies.
    let stuck = |objects: &mut Vec<Value>| {
        objects[9]["metadata"]["finalizers"] = json!(["example.com/stuck"]);
    };
    let mut objects = many(0..10);
    stuck(&mut objects);
    bench.present("many", UnitSpec::default(), &objects);
    bench.publish();
    bench.until_ready().await;
    bench.present("many", UnitSpec::default(), &objects[..1]);
    bench.publish();
    let kept = bench.until("many", |report| report.kept.len() == 9).await.kept;
    bench.engine.request(Request::Approve { digest: kept[0].approval }).unwrap();
    for i in 1..9 {
        bench.until_gone(&at("ConfigMap", "default", &format!("m{i}"))).await;
    }
    let waits = |report: &UnitReport| {
        report.findings.iter().any(|finding| finding.message.contains("waits for example.com/stuck"))
    };
    bench.until("many", waits).await;
    assert!(bench.disk.remembers("approval:"));
    bench.restart().await;
    // What is left of it needs no second approval.
    bench.until("many", |report| waits(report) && report.kept.is_empty()).await;
    at("ConfigMap", "default", "m9")
        .edit(&bench.client(), json!({"metadata": {"finalizers": null}}))
        .await
        .unwrap();
    bench.until_gone(&at("ConfigMap", "default", "m9")).await;
    let used = flotilla_tests::wait::eventually(engine_common::LIMIT, || async {
        if bench.disk.remembers("approval:") { Err("is remembered".to_owned()) } else { Ok(()) }
    });
    used.await.unwrap();

    // The same objects, made again and left again, ask again.
    bench.present("many", UnitSpec::default(), &many(0..10));
    bench.publish();
    bench.until_ready().await;
    bench.present("many", UnitSpec::default(), &many(0..1));
    bench.publish();
    let again = bench.until("many", |report| report.kept.len() == 9).await.kept;
    assert_eq!(again[0].approval, kept[0].approval, "it names the same objects");
}

/// Everything that is ours stands in one namespace, which anybody may delete.
#[tokio::test]
async fn a_lost_inventory_is_written_again() {
    let mut bench = Bench::start(&ClusterOptions::default()).await;
    let objects: Vec<Value> = (0..3).map(|number| config(&format!("c{number}"), "1")).collect();
    for name in ["a", "b", "c"] {
        let own = config(name, "1");
        bench.present(
            name,
            UnitSpec::default(),
            &[&objects[..usize::from(name == "a") * 3], &[own]].concat(),
        );
    }
    bench.publish();
    bench.until_ready().await;
    let client = bench.client();
    // What is there beside what the cluster itself makes, with the lines of the inventory.
    let stored = async || {
        let all = list(&client, "v1", "ConfigMap", Some("flotilla-system"), "").await.unwrap();
        let text =
            |object: &DynamicObject| object.data["data"]["members"].as_str().unwrap_or_default().to_owned();
        let named = all.iter().filter(|object| object.metadata.name.as_deref() != Some("kube-root-ca.crt"));
        named
            .map(|object| (object.metadata.name.clone().unwrap_or_default(), text(object)))
            .collect::<BTreeMap<String, String>>()
    };
    let is_whole = |stored: &BTreeMap<String, String>| {
        let lines = stored.values().flat_map(|text| text.lines());
        let with_uid = lines.filter(|line| line.contains("\"uid\"")).count();
        if with_uid == 6 && stored.contains_key("flotilla") { Ok(()) } else { Err(format!("{stored:#?}")) }
    };
    let whole = eventually(LIMIT, || async { is_whole(&stored().await) });
    whole.await.unwrap();
    let before = stored().await;
    let same = || async {
        let now = stored().await;
        if now == before { Ok(()) } else { Err(format!("{now:#?}\nbefore: {before:#?}")) }
    };

    // One by one, without anything else that happens.
    for name in before.keys() {
        at("ConfigMap", "flotilla-system", name).delete(&client).await.unwrap();
    }
    eventually(LIMIT, same).await.unwrap();
    let system = at("Namespace", "", "flotilla-system");
    let uid = system.field(&client, "/metadata/uid").await.unwrap();
    system.delete(&client).await.unwrap();
    let anew = eventually(LIMIT, || async {
        match system.field(&client, "/metadata/uid").await {
            Ok(now) if now != uid => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    anew.await.unwrap();
    eventually(LIMIT, same).await.unwrap();

    // While nobody looked: what is ours is known by what the agent remembers.
    bench.stop_engine().await;
    for name in before.keys() {
        at("ConfigMap", "flotilla-system", name).delete(&client).await.unwrap();
    }
    bench.start_engine();
    bench.until_ready().await;
    eventually(LIMIT, same).await.unwrap();
    bench.present("a", UnitSpec::default(), &[&objects[1..], &[config("a", "1")]].concat());
    bench.publish();
    bench.until_gone(&at("ConfigMap", "default", "c0")).await;
}

/// A root that is at another place of Git than the one that was applied: what the new one lacks, its own objects and units,
/// waits for an approval, also at an agent that lost its disk meanwhile and of a hub that knows nothing of the move.
#[tokio::test]
async fn what_leaves_with_another_root_waits_for_an_approval() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    let root = |place: &str| UnitSpec { place: Some(Digest::of(place.as_bytes())), ..UnitSpec::default() };
    let child = || UnitSpec { parent: Some(unit("root")), ..UnitSpec::default() };
    let objects = |names: &[&str]| names.iter().map(|name| config(name, "1")).collect::<Vec<_>>();
    let many = objects(&["m0", "m1", "m2", "m3", "m4", "m5"]);
    // As an agent of an older version leaves it, which knows no places.
    bench.present("root", UnitSpec::default(), &objects(&["r", "early", "usual", "lost"]));
    bench.present("a", child(), &many);
    bench.present("b", child(), &objects(&["b"]));
    bench.publish();
    bench.until_ready().await;
    bench.present("root", root("one"), &objects(&["r", "usual", "lost"]));
    bench.publish();
    let why = "left with a change of the cluster's root, source or branch";
    let keeps = |name: &'static str| {
        move |report: &UnitReport| {
            report.kept.len() == 1 && report.kept[0].object.name == name && report.kept[0].why.contains(why)
        }
    };
    let early = bench.until("root", keeps("early")).await.kept;
    bench.engine.request(Request::Approve { digest: early[0].approval }).unwrap();
    bench.until_gone(&at("ConfigMap", "default", "early")).await;

    bench.present("root", root("one"), &objects(&["r", "lost"]));
    bench.publish();
    bench.until_gone(&at("ConfigMap", "default", "usual")).await;

    bench.stop_engine().await;
    bench.disk.forget_everything();
    bench.present("root", root("two"), &objects(&["r"]));
    bench.remove("b");
    bench.start_engine();
    let lost = bench.until("root", keeps("lost")).await.kept;
    let unit = bench.until("b", keeps("b")).await.kept;
    // It stays so after a restart, and at the next commit of the new root.
    bench.restart().await;
    bench.present("root", root("two"), &objects(&["r", "more"]));
    bench.publish();
    bench.until("root", |report| report.kept == lost && report.phase == Phase::Ready).await;
    bench.until("b", |report| report.kept == unit).await;
    for approval in [lost[0].approval, unit[0].approval] {
        bench.engine.request(Request::Approve { digest: approval }).unwrap();
    }
    bench.until_gone(&at("ConfigMap", "default", "lost")).await;
    bench.until_gone(&at("ConfigMap", "default", "b")).await;
    bench.until_ready().await;
}
