//! The engine on a real API server: how objects want to be applied, whose fields are taken, and what cannot be changed.

mod engine_common;

use engine_common::{Bench, at, config, namespace, unit};
use flotilla_agent::sync::RehearsedBody;
use flotilla_core::UnitSpec;
use flotilla_core::report::Phase;
use flotilla_core::template::{Layer, Metadata, ObjectTemplate, ValuesKind, ValuesRef, Variables};
use flotilla_tests::ClusterOptions;
use flotilla_tests::objects::{ObjectRef, apply};
use serde_json::{Value, json};

const FLUX: &str = "kustomize.toolkit.fluxcd.io";

fn labelled(name: &str, value: &str, label: (&str, &str)) -> Value {
    let mut object = config(name, value);
    object["metadata"]["labels"] = json!({format!("{FLUX}/{}", label.0): label.1});
    object
}

fn annotated(name: &str, value: &str, annotation: (&str, &str)) -> Value {
    let mut object = config(name, value);
    object["metadata"]["annotations"] = json!({format!("{FLUX}/{}", annotation.0): annotation.1});
    object
}

async fn data(bench: &Bench, name: &str) -> Value {
    at("ConfigMap", "default", name).field(&bench.client(), "/data").await.unwrap()
}

#[tokio::test]
async fn objects_say_how_they_are_applied() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    let client = bench.client();
    for name in ["merge", "once", "never", "off"] {
        let mut theirs = config(name, "theirs");
        theirs["data"]["extra"] = "theirs".into();
        apply(&client, "kubectl", &theirs).await.unwrap();
    }
    let objects = [
        annotated("merge", "ours", ("ssa", "Merge")),
        annotated("once", "ours", ("ssa", "IfNotPresent")),
        annotated("once-new", "ours", ("ssa", "IfNotPresent")),
        labelled("never", "ours", ("ssa", "Ignore")),
        annotated("off", "ours", ("reconcile", "disabled")),
        annotated("off-new", "ours", ("reconcile", "disabled")),
        annotated("keep", "ours", ("prune", "disabled")),
        labelled("keep-too", "ours", ("prune", "disabled")),
        config("plain", "ours"),
    ];
    let wait = UnitSpec { wait: true, ..UnitSpec::default() };
    bench.present("a", wait.clone(), &objects);
    bench.publish();
    bench.until_ready().await;
    let both = json!({"value": "theirs", "extra": "theirs"});
    assert_eq!(data(&bench, "merge").await, json!({"value": "ours", "extra": "theirs"}));
    for name in ["once", "never", "off"] {
        assert_eq!(data(&bench, name).await, both, "{name}");
    }
    assert_eq!(data(&bench, "once-new").await, json!({"value": "ours"}));
    assert!(!bench.is_there(&at("ConfigMap", "default", "off-new")).await);

    // What is made once is left to others, but made again when it is gone.
    at("ConfigMap", "default", "once-new").edit(&client, json!({"data": {"value": "theirs"}})).await.unwrap();
    // Somebody in the cluster wants one left alone for a while.
    let plain = at("ConfigMap", "default", "plain");
    let pause = |word: Value| json!({"metadata": {"annotations": {format!("{FLUX}/reconcile"): word}}, "data": {"value": "paused"}});
    plain.edit(&client, pause("disabled".into())).await.unwrap();
    // What is edited after it is put back: the agent has seen the pause too.
    at("ConfigMap", "default", "merge").edit(&client, json!({"data": {"value": "theirs"}})).await.unwrap();
    bench.until_field(&at("ConfigMap", "default", "merge"), "/data/value", json!("ours")).await;
    let mut next = objects.clone();
    next[8] = config("plain", "newer");
    bench.present("a", wait.clone(), &next);
    bench.publish();
    bench.until_ready().await;
    assert_eq!(data(&bench, "plain").await, json!({"value": "paused"}));
    assert_eq!(data(&bench, "once-new").await, json!({"value": "theirs"}));
    plain.edit(&client, pause(Value::Null)).await.unwrap();
    bench.until_field(&plain, "/data/value", json!("newer")).await;
    at("ConfigMap", "default", "once-new").delete(&client).await.unwrap();
    bench.until_field(&at("ConfigMap", "default", "once-new"), "/data/value", json!("ours")).await;

    // What was never ours stays, and what its author keeps does too.
    bench.present("a", UnitSpec { allow_empty: true, ..wait }, &[]);
    bench.publish();
    for name in ["plain", "once-new", "merge"] {
        bench.until_gone(&at("ConfigMap", "default", name)).await;
    }
    bench.until_ready().await;
    for name in ["once", "never", "off", "keep", "keep-too"] {
        assert!(bench.is_there(&at("ConfigMap", "default", name)).await, "{name}");
    }
}

#[tokio::test]
async fn what_others_hold_is_taken_and_told() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    let mut theirs = config("a", "theirs");
    theirs["data"]["other"] = "theirs".into();
    apply(&bench.client(), "some-operator", &theirs).await.unwrap();
    bench.present("a", UnitSpec::default(), &[config("a", "ours")]);
    bench.publish();
    bench.until_ready().await;
    assert_eq!(data(&bench, "a").await, json!({"value": "ours", "other": "theirs"}));
    assert!(
        bench.has_event("Conflict", ".data.value was set by some-operator, and is as in Git now"),
        "{:#?}",
        bench.events()
    );
    // Theirs with the same content is no conflict, and what kubectl had is ours without a word.
    apply(&bench.client(), "kubectl", &config("b", "theirs")).await.unwrap();
    apply(&bench.client(), "some-operator", &config("c", "same")).await.unwrap();
    bench.present("a", UnitSpec::default(), &[config("a", "ours"), config("b", "ours"), config("c", "same")]);
    bench.publish();
    bench.until_ready().await;
    assert_eq!(bench.events().iter().filter(|event| event.reason == "Conflict").count(), 1);
}

fn deployment(app: &str, annotations: &Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default", "annotations": annotations},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": app}}, "template": {
            "metadata": {"labels": {"app": app}}, "spec": {"containers": [{"name": "web", "image": "web"}]}}}})
}

#[tokio::test]
async fn what_cannot_be_changed_leaves_its_unit_whole_unless_forced() {
    let mut bench = Bench::start(&ClusterOptions::default()).await;
    let web = at("Deployment", "default", "web");
    bench.present("a", UnitSpec::default(), &[config("x", "1"), deployment("one", &json!({}))]);
    bench.publish();
    bench.until_ready().await;
    let uid = web.field(&bench.client(), "/metadata/uid").await.unwrap();

    bench.present("a", UnitSpec::default(), &[config("x", "2"), deployment("two", &json!({}))]);
    bench.publish();
    let report = bench.until_phase("a", Phase::Failed).await;
    assert!(report.message.contains("spec.force would recreate it"), "{}", report.message);
    assert!(report.message.ends_with("nothing of the unit was changed"), "{}", report.message);
    assert_eq!(data(&bench, "x").await, json!({"value": "1"}));

    let forced = json!({format!("{FLUX}/force"): "Enabled"});
    bench.present("a", UnitSpec::default(), &[config("x", "2"), deployment("two", &forced)]);
    bench.publish();
    bench.until_ready().await;
    assert_eq!(data(&bench, "x").await, json!({"value": "2"}));
    assert_ne!(web.field(&bench.client(), "/metadata/uid").await.unwrap(), uid);
}

#[tokio::test]
async fn an_admission_that_said_no_is_asked_first() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    let client = bench.client();
    let group = "admissionregistration.k8s.io/v1";
    for object in [
        json!({"apiVersion": group, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "no-bad"}, "spec": {
            "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"]}]},
            "validations": [{"expression": "!has(object.data) || !('value' in object.data) || object.data.value != 'bad'", "message": "bad is not allowed"}]}}),
        json!({"apiVersion": group, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": "no-bad"},
            "spec": {"policyName": "no-bad", "validationActions": ["Deny"]}}),
    ] {
        apply(&client, "kubectl", &object).await.unwrap();
    }
    // Policies take a moment to be enforced.
    let probe = ObjectRef::new("v1", "ConfigMap", "default", "probe");
    let enforced = flotilla_tests::wait::eventually(engine_common::LIMIT, || async {
        match apply(&client, "kubectl", &config("probe", "bad")).await {
            Err(error) if format!("{error:#}").contains("bad is not allowed") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    enforced.await.unwrap();
    probe.delete(&client).await.unwrap();

    bench.present("a", UnitSpec::default(), &[config("x", "1"), config("y", "bad")]);
    bench.publish();
    let report = bench.until_phase("a", Phase::Failed).await;
    assert_eq!(report.findings[0].reason, "Denied");
    assert!(report.message.contains("bad is not allowed"), "{}", report.message);
    // Nothing said so before: the other was applied.
    bench.until_field(&at("ConfigMap", "default", "x"), "/data/value", json!("1")).await;
    bench.present("a", UnitSpec::default(), &[config("x", "2"), config("y", "bad")]);
    bench.publish();
    bench
        .until("a", |report| {
            report.phase == Phase::Failed && report.message.ends_with("nothing of the unit was changed")
        })
        .await;
    assert_eq!(data(&bench, "x").await, json!({"value": "1"}));
    bench.present("a", UnitSpec::default(), &[config("x", "2"), config("y", "good")]);
    bench.publish();
    bench.until_ready().await;
    assert_eq!(data(&bench, "x").await, json!({"value": "2"}));
    assert_eq!(unit("a").to_string(), "kustomization/flux-system/a");
}

#[tokio::test]
async fn what_only_the_cluster_knows_is_put_in_here() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    let client = bench.client();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys", "namespace": "flux-system"},
        "stringData": {"password": "p/w"}});
    let reference =
        ValuesRef { kind: ValuesKind::Secret, namespace: "flux-system".into(), name: "keys".into() };
    let absent =
        ValuesRef { kind: ValuesKind::ConfigMap, namespace: "flux-system".into(), name: "absent".into() };
    let mut variables = Variables::default();
    variables.layers.push(Layer::From { reference, optional: false });
    variables.layers.push(Layer::From { reference: absent, optional: true });
    variables.add([("user".to_owned(), "web".to_owned())]).unwrap();
    let object = flotilla_core::ObjectRef::of(&config("filled", "")).unwrap();
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: filled, namespace: default}\ndata: {value: '${user}:${password}'}\n";
    let template = |text: &str| {
        ObjectTemplate::new(object.clone(), text.into(), variables.clone(), Metadata::default()).object()
    };
    let other = flotilla_core::Object::new(&config("other", "x")).unwrap();
    apply(&client, "kubectl", &namespace("flux-system")).await.unwrap();
    bench.present_objects("a", UnitSpec::default(), &[template(text), other]);
    bench.publish();
    let report = bench.until_phase("a", Phase::Failed).await;
    assert_eq!(report.findings[0].reason, "SubstitutionFailed");
    assert!(
        report.message.ends_with("Secret flux-system/keys, which values are taken from, does not exist"),
        "{}",
        report.message
    );
    assert!(bench.is_there(&at("ConfigMap", "default", "other")).await, "the others go on");
    apply(&client, "kubectl", &secret).await.unwrap();
    bench.until_ready().await;
    assert_eq!(data(&bench, "filled").await, json!({"value": "web:p/w"}));
    // Who asks what a change would do does not see it.
    let other = template(&text.replace("${user}", "other")).body().clone();
    let other = RehearsedBody { body: other, template: true };
    let fields = &bench.engine.rehearse(&unit("a"), vec![other]).await.unwrap().objects[0].fields;
    assert_eq!((fields.len(), fields[0].field.as_str()), (1, "/data/value"));
    assert!(fields[0].wanted.as_ref().is_some_and(|text| text.starts_with("hidden")), "{fields:?}");
    assert!(fields[0].found.as_ref().is_some_and(|text| text.starts_with("hidden")), "{fields:?}");
    // Drift is judged against what it came to.
    at("ConfigMap", "default", "filled").edit(&client, json!({"data": {"value": "drift"}})).await.unwrap();
    bench.until_field(&at("ConfigMap", "default", "filled"), "/data/value", "web:p/w".into()).await;

    // Other values are put in as soon as the cluster has them, also those that came while the agent was away.
    let keys = at("Secret", "flux-system", "keys");
    keys.edit(&client, json!({"stringData": {"password": "new"}})).await.unwrap();
    bench.until_field(&at("ConfigMap", "default", "filled"), "/data/value", "web:new".into()).await;
    let absent = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "absent", "namespace": "flux-system"},
        "data": {"password": "by the map"}});
    apply(&client, "kubectl", &absent).await.unwrap();
    bench.until_field(&at("ConfigMap", "default", "filled"), "/data/value", "web:by the map".into()).await;
    bench.stop_engine().await;
    at("ConfigMap", "flux-system", "absent")
        .edit(&client, json!({"data": {"password": "meanwhile"}}))
        .await
        .unwrap();
    bench.start_engine();
    bench.publish();
    bench.until_field(&at("ConfigMap", "default", "filled"), "/data/value", "web:meanwhile".into()).await;
    // What it needs goes: what was applied stays, and the unit says what is missing.
    keys.delete(&client).await.unwrap();
    let report = bench.until_phase("a", Phase::Failed).await;
    assert!(report.message.ends_with("Secret flux-system/keys, which values are taken from, does not exist"));
    assert_eq!(data(&bench, "filled").await, json!({"value": "web:meanwhile"}));
}

/// What `sops` made of a Secret, and the keys that it was encrypted for and was not.
const ENCRYPTED: &str = include_str!("../../sops/tests/recorded/secret.enc.yaml");
const KEY: &str = include_str!("../../sops/tests/recorded/first.agekey");
const OTHER_KEY: &str = include_str!("../../sops/tests/recorded/second.agekey");

#[tokio::test]
async fn what_sops_encrypted_is_opened_with_the_keys_of_the_cluster() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    let client = bench.client();
    let reference =
        ValuesRef { kind: ValuesKind::Secret, namespace: "flux-system".into(), name: "age".into() };
    let keys = |key: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "age", "namespace": "flux-system"},
            "stringData": {"identity.agekey": key}})
    };
    let text = ENCRYPTED.replace("namespace: apps", "namespace: default");
    let object =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db", "namespace": "default"}});
    let object = flotilla_core::ObjectRef::of(&object).unwrap();
    let template = |text: &str| {
        ObjectTemplate::new(object.clone(), text.into(), Variables::default(), Metadata::default())
            .sealed(reference.clone())
            .object()
    };
    let spec = UnitSpec { decryption: Some("age".into()), ..UnitSpec::default() };
    let other = flotilla_core::Object::new(&config("other", "x")).unwrap();
    for at in ["flux-system", "apps"] {
        apply(&client, "kubectl", &namespace(at)).await.unwrap();
    }
    apply(&client, "kubectl", &keys(OTHER_KEY)).await.unwrap();
    bench.present_objects("a", spec.clone(), &[template(&text), other]);
    bench.publish();
    let report = bench.until_phase("a", Phase::Failed).await;
    assert_eq!(report.findings[0].reason, "DecryptionFailed");
    assert!(
        report.message.contains("the keys in Secret flux-system/age do not open it"),
        "{}",
        report.message
    );
    assert!(bench.is_there(&at("ConfigMap", "default", "other")).await, "the others go on");
    assert!(!bench.is_there(&at("Secret", "default", "db")).await, "nothing of it is applied");

    // The right key is taken as soon as it is there.
    apply(&client, "kubectl", &keys(KEY)).await.unwrap();
    bench.until_ready().await;
    let db = at("Secret", "default", "db");
    let value = |name: &str| format!("/data/{name}");
    let password = db.field(&client, &value("password")).await.unwrap();
    assert_eq!(password, "czNjciBldDogIzE=", "`s3cr et: #1` in base64");
    assert_eq!(db.json(&client).await.unwrap().get("sops"), None);
    // A person's edit is drift, and goes; nobody is shown a value.
    db.edit(&client, json!({"stringData": {"password": "by hand"}})).await.unwrap();
    bench.until_field(&db, &value("password"), password.clone()).await;
    let rehearsed = RehearsedBody { body: template(&text).body().clone(), template: true };
    let rehearsal = bench.engine.rehearse(&unit("a"), vec![rehearsed]).await.unwrap();
    assert!(!format!("{rehearsal:?}").contains("s3cr"), "{rehearsal:?}");
    // The key goes: what was applied stays, also when a new version of the file comes.
    at("Secret", "flux-system", "age").delete(&client).await.unwrap();
    bench.present_objects(
        "a",
        spec,
        &[template(&text.replace("type: Opaque", "type: Opaque\nimmutable: false"))],
    );
    bench.publish();
    let report = bench.until_phase("a", Phase::Failed).await;
    assert!(
        report.message.contains("Secret flux-system/age, which values are taken from, does not exist"),
        "{}",
        report.message
    );
    assert_eq!(db.field(&client, &value("password")).await.unwrap(), password);
}

#[tokio::test]
async fn people_with_kubectl_see_what_is_ours_and_what_became_of_it() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    let client = bench.client();
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "default"}});
    let bad = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "bad", "namespace": "default"},
        "spec": {"ports": [{"port": 0}]}});
    bench.present("a", UnitSpec::default(), &[config("x", "1"), secret, bad]);
    bench.publish();
    bench.until_phase("a", Phase::Failed).await;
    // The parent of the set, and its members by the parent's label (KEP-3659).
    let parent = at("ConfigMap", "flotilla-system", "flotilla");
    let kinds = "/metadata/annotations/applyset.kubernetes.io~1contains-group-kinds";
    bench.until_field(&parent, kinds, json!("ConfigMap,Secret,Service")).await;
    let parent = parent.json(&client).await.unwrap();
    assert_eq!(parent["metadata"]["annotations"]["applyset.kubernetes.io/additional-namespaces"], "default");
    assert_eq!(parent["metadata"]["annotations"]["applyset.kubernetes.io/tooling"], "flotilla/v1");
    let x = at("ConfigMap", "default", "x");
    let member = x.field(&client, "/metadata/labels/applyset.kubernetes.io~1part-of").await.unwrap();
    assert_eq!(member, parent["metadata"]["labels"]["applyset.kubernetes.io/id"]);

    x.edit(&client, json!({"data": {"value": "2"}})).await.unwrap();
    bench.until_field(&x, "/data/value", json!("1")).await;
    let uid = x.field(&client, "/metadata/uid").await.unwrap();
    let api = flotilla_tests::objects::api(&client, "v1", "Event", Some("default"));
    let told = flotilla_tests::wait::eventually(engine_common::LIMIT, || async {
        let events = api.list(&kube::api::ListParams::default()).await.unwrap().items;
        let about = |name: &str, reason: &str| {
            events
                .iter()
                .map(|event| &event.data)
                .find(|event| event["involvedObject"]["name"] == name && event["reason"] == reason)
        };
        match (about("x", "DriftCorrected"), about("bad", "ApplyFailed")) {
            (Some(corrected), Some(failed)) => Ok((corrected.clone(), failed.clone())),
            _ => Err(format!("{events:?}")),
        }
    });
    let (corrected, failed) = told.await.unwrap();
    assert_eq!(corrected["involvedObject"]["uid"], uid);
    assert_eq!(corrected["type"], "Normal");
    assert_eq!(
        corrected["message"],
        "kustomization/flux-system/a: /data/value was set to 2 by kubectl-edit, is 1 again"
    );
    assert_eq!(failed["type"], "Warning");
    assert!(failed["message"].as_str().unwrap().contains("spec.ports[0].port"), "{failed}");
}
