//! What is asked of the engine about the cluster as it is, on a real API server: answered without a write.

mod engine_common;

use bytes::Bytes;
use engine_common::{Bench, LIMIT, at, config, unit};
use flotilla_core::answer::Foreseen;
use flotilla_core::{Object, ObjectId, UnitSpec};
use flotilla_tests::ClusterOptions;
use flotilla_tests::objects::apply;
use flotilla_tests::wait::eventually;
use serde_json::{Value, json};

fn secret(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "default"},
        "stringData": {"password": "hunter2"}})
}

fn id(kind: &str, name: &str) -> ObjectId {
    ObjectId::new("", kind, "default", name)
}

fn body(object: &Value) -> Bytes {
    Object::new(object).unwrap().body().clone()
}

#[tokio::test]
async fn an_object_is_shown_with_why_it_is_not_well_and_only_if_it_is_ours() {
    let mut bench = Bench::start(&ClusterOptions::default()).await;
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"},
            "annotations": {flotilla_tests::FAIL_ANNOTATION: "true"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}}});
    bench.present("a", UnitSpec::default(), &[config("mine", "1"), secret("s"), deployment]);
    bench.present("b", UnitSpec::default(), &[config("theirs", "1")]);
    bench.publish();
    bench.until_ready().await;
    apply(&bench.client(), "somebody", &config("foreign", "1")).await.unwrap();
    let a = unit("a");

    let shown = bench.engine.look_at(&a, &id("ConfigMap", "mine")).await.unwrap();
    assert_eq!((&shown.object["data"]["value"], shown.why.as_str()), (&json!("1"), ""));
    assert_eq!(shown.object["metadata"]["managedFields"], Value::Null);
    let shown = bench.engine.look_at(&a, &id("Secret", "s")).await.unwrap().object;
    assert!(shown["data"]["password"].as_str().unwrap().starts_with("digest "), "{shown}");
    assert!(!shown.to_string().contains("aHVudGVyMg"), "{shown}");
    let web = ObjectId::new("apps", "Deployment", "default", "web");
    let why = eventually(LIMIT, || async {
        let why = bench.engine.look_at(&a, &web).await?.why;
        anyhow::ensure!(why.contains("web-"), "{why}");
        anyhow::Ok(why)
    });
    let why = why.await.unwrap();
    assert!(!why.is_empty(), "{why}");

    for (object, error) in [
        (id("ConfigMap", "theirs"), "not in the inventory"),
        (id("ConfigMap", "foreign"), "not in the inventory"),
        (id("ConfigMap", "nothing"), "not in the inventory"),
    ] {
        let refused = bench.engine.look_at(&a, &object).await.unwrap_err().to_string();
        assert!(refused.contains(error), "{object}: {refused}");
    }
}

#[tokio::test]
async fn a_rehearsal_says_what_an_apply_would_change_and_changes_nothing() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    let sealed = |value: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "sealed", "namespace": "default"},
            "immutable": true, "data": {"value": value}})
    };
    bench.present(
        "a",
        UnitSpec::default(),
        &[config("same", "1"), config("change", "1"), sealed("1"), secret("p")],
    );
    bench.publish();
    bench.until_ready().await;
    let before = (bench.versions("v1", "ConfigMap").await, bench.versions("v1", "Secret").await);

    let mut other = secret("p");
    other["stringData"]["password"] = "other".into();
    let once = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "change", "namespace": "default",
        "annotations": {"kustomize.toolkit.fluxcd.io/ssa": "IfNotPresent"}}});
    let elsewhere =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "later"}});
    let bad = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "Bad_Name", "namespace": "default"}});
    let unknown = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w", "namespace": "default"}});
    let bodies = [
        config("same", "1"),
        config("change", "2"),
        config("new", "1"),
        sealed("2"),
        other,
        once,
        elsewhere,
        bad,
        unknown,
    ];
    let rehearsal = bench
        .engine
        .rehearse(&unit("a"), bodies.iter().map(|object| body(object).into()).collect())
        .await
        .unwrap();
    assert_eq!(rehearsal.same, 1, "{rehearsal:#?}");
    let found: Vec<(&str, &str)> =
        rehearsal.objects.iter().map(|object| (object.object.as_str(), object.effect.as_str())).collect();
    assert_eq!(
        found,
        [
            ("ConfigMap default/change", "change"),
            ("ConfigMap default/new", "create"),
            ("ConfigMap default/sealed", "refused"),
            ("Secret default/p", "change"),
            ("ConfigMap default/change", "stays"),
            ("ConfigMap later/x", "create"),
            ("ConfigMap default/Bad_Name", "refused"),
            ("Widget.example.com default/w", "create"),
        ]
    );
    let of = |at: usize| -> &Foreseen { &rehearsal.objects[at] };
    assert_eq!(of(0).fields[0].field, "/data/value");
    assert_eq!((of(0).fields[0].found.as_deref(), of(0).fields[0].wanted.as_deref()), (Some("1"), Some("2")));
    assert!(of(2).why.contains("immutable"), "{:?}", of(2));
    assert!(of(3).fields.iter().all(|field| field.wanted.iter().all(|value| value.starts_with("digest "))));
    assert_eq!((bench.versions("v1", "ConfigMap").await, bench.versions("v1", "Secret").await), before);

    let many = vec![body(&config("same", "1")).into(); 201];
    assert!(bench.engine.rehearse(&unit("a"), many).await.unwrap_err().to_string().contains("201"));
    assert!(
        bench.engine.rehearse(&unit("none"), Vec::new()).await.unwrap_err().to_string().contains("no unit")
    );
    let odd = bench.engine.rehearse(&unit("a"), vec![Bytes::from_static(b"{").into()]).await.unwrap_err();
    assert!(odd.to_string().contains("object 0"), "{odd}");
    assert!(bench.is_there(&at("ConfigMap", "default", "same")).await);
}
