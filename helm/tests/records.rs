//! Records that the real helm wrote, read and written again; and any record that a release can have.

use std::collections::BTreeMap;

use flotilla_helm::record::{Head, Json, MAX_INFLATED, secret_name};
use flotilla_helm::{
    DeletePolicy, Event, Execution, Hook, Info, Phase, Record, RecordError, Release, Status,
};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Of `helm install` and `helm upgrade` with each version, as the API server had it: see `helm/tests/records/README.md`.
const RECORDS: [(&str, &str); 4] = [
    ("helm 3, superseded", include_str!("records/helm-3-superseded.json")),
    ("helm 3, deployed", include_str!("records/helm-3-deployed.json")),
    ("helm 4, superseded", include_str!("records/helm-4-superseded.json")),
    ("helm 4, deployed", include_str!("records/helm-4-deployed.json")),
];

fn now() -> Timestamp {
    "2026-12-02T15:00:00Z".parse().unwrap()
}

/// What a record's data holds, as JSON.
fn content(secret: &Value) -> Value {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use std::io::Read;
    let outer = STANDARD.decode(secret["data"]["release"].as_str().unwrap()).unwrap();
    let inner = STANDARD.decode(outer).unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(inner.as_slice()).read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn what_helm_wrote_is_read() {
    for (who, text) in RECORDS {
        let record = Record::of_secret(text.as_bytes()).unwrap_or_else(|error| panic!("{who}: {error}"));
        let release = &record.release;
        let is_first = who.ends_with("superseded");
        assert_eq!((release.name.as_str(), release.namespace.as_str()), ("web", "default"), "{who}");
        assert_eq!(release.revision, if is_first { 1 } else { 2 }, "{who}");
        assert_eq!(
            release.info.status,
            if is_first { Status::Superseded } else { Status::Deployed },
            "{who}"
        );
        let metadata = release.metadata().unwrap();
        assert_eq!(
            (metadata.name.as_str(), metadata.version.as_str(), metadata.app_version.as_str()),
            ("own", "0.1.0", "7"),
            "{who}"
        );
        assert_eq!(release.info.notes, "Thank you for web.\n", "{who}");
        assert!(release.manifest.contains("# Source: own/templates/config.yaml\n"), "{who}");
        let config = release.config.value().unwrap();
        assert_eq!(
            config,
            if is_first { json!({"replicas": 1}) } else { json!({"replicas": 2, "note": "<&>"}) }
        );
        assert_eq!(record.labels, BTreeMap::from([("team".to_owned(), "shop".to_owned())]), "{who}");
        assert!(record.resource_version.is_some(), "{who}");
        let (first, last) = (release.info.first_deployed.unwrap(), release.info.last_deployed.unwrap());
        assert!(if is_first { first == last } else { first < last }, "{who}");
        assert_eq!(release.info.deleted, None, "{who}");
        let method = if who.starts_with("helm 4") { Some("ssa") } else { None };
        assert_eq!(release.apply_method.as_deref(), method, "{who}");

        let hooks: Vec<_> = release.hooks.iter().map(|hook| (hook.name.as_str(), hook.weight)).collect();
        assert_eq!(hooks, [("before", -5), ("test", 0)], "{who}");
        let before = &release.hooks[0];
        assert_eq!(before.events, [Event::PreInstall, Event::PreUpgrade], "{who}");
        assert_eq!(before.last_run.phase, Phase::Succeeded, "{who}");
        assert!(before.last_run.started_at.unwrap() <= before.last_run.completed_at.unwrap(), "{who}");
        assert!(before.deletes(&DeletePolicy::BeforeHookCreation), "{who}");
        assert_eq!(release.hooks[1].last_run, Execution::default(), "{who}");
    }
}

/// A record that is written again says what it said, in the form of Helm 4, which Helm 3 reads as well.
#[test]
fn what_is_written_again_lost_nothing() {
    for (who, text) in RECORDS {
        let record = Record::of_secret(text.as_bytes()).unwrap();
        let before: Value = serde_json::from_str(text).unwrap();
        let after = record.to_secret(now()).unwrap();
        let mut old = content(&before);
        // Helm 3 writes an empty text for a time that is not there.
        let mut drop_empty = |pointer: &str| {
            let map = old.pointer_mut(pointer).unwrap().as_object_mut().unwrap();
            map.retain(|name, value| name == "phase" || value != "");
        };
        drop_empty("/info");
        drop_empty("/hooks/0/last_run");
        drop_empty("/hooks/1/last_run");
        for hook in old["hooks"].as_array_mut().unwrap() {
            let hook = hook.as_object_mut().unwrap();
            // Go leaves out what is empty or zero here and there; we write it.
            for (field, value) in
                [("weight", json!(0)), ("delete_policies", json!([])), ("output_log_policies", json!([]))]
            {
                hook.entry(field).or_insert(value);
            }
        }
        assert_eq!(content(&after), old, "{who}");
        let labels = |secret: &Value| -> BTreeMap<String, String> {
            serde_json::from_value(secret["metadata"]["labels"].clone()).unwrap()
        };
        let mut expected = labels(&before);
        expected.remove("createdAt");
        expected.insert("modifiedAt".to_owned(), now().as_second().to_string());
        assert_eq!(labels(&after), expected, "{who}");
        for field in ["name", "namespace", "resourceVersion"] {
            assert_eq!(after["metadata"][field], before["metadata"][field], "{who} {field}");
        }
        let again = Record::of_secret(after.to_string().as_bytes()).unwrap();
        assert_eq!(again.release, record.release, "{who}");
    }
}

/// Changes one thing of a good record and says what reading it says.
fn broken(change: impl FnOnce(&mut Value)) -> String {
    let mut secret: Value = serde_json::from_str(RECORDS[3].1).unwrap();
    change(&mut secret);
    Record::of_secret(secret.to_string().as_bytes()).unwrap_err().to_string()
}

fn with_content(change: impl FnOnce(&mut Value)) -> String {
    broken(|secret| {
        let mut content = content(secret);
        change(&mut content);
        secret["data"]["release"] = json!(packed(content.to_string().as_bytes()));
    })
}

fn packed(json: &[u8]) -> String {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use std::io::Write;
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(json).unwrap();
    STANDARD.encode(STANDARD.encode(writer.finish().unwrap()))
}

#[test]
fn what_is_no_record_is_refused_with_its_reason() {
    for (found, expected) in [
        (
            broken(|it| it["type"] = json!("Opaque")),
            "it is no Secret of Helm's: its type is 'Opaque', not helm.sh/release.v1",
        ),
        (broken(|it| it["data"] = json!(null)), "it is no Secret of Helm's: it has no data.release"),
        (broken(|it| it["data"]["release"] = json!("~")), "its data is no base64"),
        (broken(|it| it["data"]["release"] = json!("fn5+")), "its data is no base64"),
        (broken(|it| it["data"]["release"] = json!("SDRzSUFBQUE=")), "its data cannot be inflated"),
        (
            broken(|it| it["metadata"]["labels"] = json!(null)),
            "it is no Secret of Helm's: its label owner is ''",
        ),
        (
            broken(|it| it["metadata"]["labels"]["version"] = json!("0")),
            "it is no Secret of Helm's: its label version is '0'",
        ),
        (
            broken(|it| it["metadata"]["labels"]["status"] = json!("fine")),
            "it is no Secret of Helm's: its label status is 'fine'",
        ),
        (
            broken(|it| it["metadata"]["labels"]["status"] = json!("failed")),
            "its labels say web v2 failed (as sh.helm.release.v1.web.v2), its content web v2 deployed",
        ),
        (
            broken(|it| it["metadata"]["name"] = json!("sh.helm.release.v1.web.v3")),
            "its labels say web v2 deployed (as sh.helm.release.v1.web.v3), its content web v2 deployed",
        ),
        (with_content(|it| drop(it.as_object_mut().unwrap().remove("info"))), "info is wrong: it is missing"),
        (
            with_content(|it| it["chart"] = json!({})),
            "chart is wrong: it has not the form that Helm gives it",
        ),
        (
            with_content(|it| it["hooks"] = json!([{"weight": "secret"}])),
            "hooks is wrong: it has not the form",
        ),
        (with_content(|it| it["info"]["status"] = json!("secret")), "info is wrong: it has not the form"),
        (
            broken(|it| it["data"]["release"] = json!(packed(&vec![b' '; MAX_INFLATED + 1]))),
            "it inflates to more than the 32 MiB that are read",
        ),
    ] {
        assert!(found.starts_with(expected), "{found}\nnot {expected}");
        assert!(!found.contains("secret"), "{found}");
    }
}

/// As Go's values: texts, numbers, maps and lists of any nesting up to a few levels.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(".{0,6}", inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

fn time() -> impl Strategy<Value = Option<Timestamp>> {
    prop::option::of(
        (0..4_000_000_000i64, 0..1_000_000_000i32)
            .prop_map(|(second, nano)| Timestamp::new(second, nano).unwrap()),
    )
}

fn hook() -> impl Strategy<Value = Hook> {
    let word = || prop_oneof!["pre-install", "test", "hook-failed", "before-hook-creation", "[a-z-]{0,9}"];
    let words = || prop::collection::vec(word(), 0..4);
    (".{0,9}", ".{0,30}", words(), words(), any::<i64>(), time(), time()).prop_map(
        |(name, manifest, events, policies, weight, started_at, completed_at)| Hook {
            kind: "Job".to_owned(),
            path: format!("a/templates/{name}"),
            name,
            manifest,
            events: events.iter().map(|word| Event::read(word)).collect(),
            last_run: Execution { started_at, completed_at, phase: Phase::Running },
            weight,
            delete_policies: policies.iter().map(|word| DeletePolicy::read(word)).collect(),
            output_log_policies: Vec::new(),
            rest: serde_json::Map::new(),
        },
    )
}

prop_compose! {
    fn release()(
        revision in 1..1_000_000u64,
        first_deployed in time(),
        last_deployed in time(),
        (description, notes, manifest) in (".{0,20}", ".{0,20}", "(?s).{0,200}"),
        config in prop::collection::btree_map(".{0,6}", value(), 0..4),
        other in value(),
        hooks in prop::collection::vec(hook(), 0..3),
        apply_method in prop::option::of("ssa|csa"),
    ) -> Release {
        let rest = BTreeMap::from([("later".to_owned(), Json::of(&other))]);
        Release {
            name: "web".to_owned(),
            namespace: "default".to_owned(),
            revision,
            info: Info {
                first_deployed,
                last_deployed,
                deleted: None,
                description,
                status: Status::PendingUpgrade,
                rollback_revision: revision / 2,
                notes,
                rest: serde_json::Map::from_iter([("more".to_owned(), other)]),
            },
            chart: Json::of(&json!({"metadata": {"name": "own"}})),
            config: Json::of(&json!(config)),
            manifest,
            hooks,
            apply_method,
            rest,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read(release in release(), label in "[a-z]{1,9}", version in prop::option::of("[0-9]{1,9}")) {
        let record = Record {
            release,
            storage_namespace: "store".to_owned(),
            labels: BTreeMap::from([(format!("x-{label}"), label.clone())]),
            annotations: BTreeMap::from([("flotilla.dev/x".to_owned(), label)]),
            resource_version: version,
        };
        let secret = record.to_secret(now()).unwrap();
        prop_assert_eq!(secret["metadata"]["name"].as_str().unwrap(), secret_name("web", record.release.revision));
        let labels = serde_json::from_value(secret["metadata"]["labels"].clone()).unwrap();
        let head = Head { name: "web".to_owned(), revision: record.release.revision, status: Status::PendingUpgrade };
        prop_assert_eq!(Head::of_labels(&labels).unwrap(), head);
        prop_assert_eq!(Record::of_secret(secret.to_string().as_bytes()).unwrap(), record);
    }

    /// Whatever stands there, it is an answer and no panic.
    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Release::decode(&bytes).is_err());
        prop_assert!(Record::of_secret(&bytes).is_err());
    }
}

#[test]
fn what_no_secret_holds_is_not_written() {
    let mut record = Record::of_secret(RECORDS[3].1.as_bytes()).unwrap();
    // Text that does not compress: each line another number.
    let mut number = 1u64;
    while record.release.manifest.len() < 2 << 20 {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        record.release.manifest.push_str(&number.to_string());
    }
    let error = record.to_secret(now()).unwrap_err();
    assert!(matches!(error, RecordError::DoesNotFit(_)), "{error}");
}

/// The chart of the records, made of its files by our own rules, is the one that helm wrote down.
#[test]
fn a_chart_made_of_its_files_is_the_one_in_helms_record() {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use flotilla_helm::chart::{File, chart};
    for (who, text) in RECORDS {
        let record = Record::of_secret(text.as_bytes()).unwrap();
        let mut held = record.release.chart.value().unwrap();
        let own = ("Chart.yaml", "apiVersion: v2\nname: own\nversion: 0.1.0\nappVersion: 7\n");
        let file = |path: &str, content: &[u8]| File { path: path.to_owned(), content: content.to_vec() };
        let mut files = vec![file(own.0, own.1.as_bytes()), file("values.yaml", b"note: ''\nreplicas: 0\n")];
        for template in held["templates"].as_array().unwrap() {
            let content = STANDARD.decode(template["data"].as_str().unwrap()).unwrap();
            files.push(file(template["name"].as_str().unwrap(), &content));
        }
        // When files were changed is nothing that a source tells.
        held.as_object_mut().unwrap().retain(|name, _| !name.ends_with("modtime"));
        for template in held["templates"].as_array_mut().unwrap() {
            template.as_object_mut().unwrap().remove("modtime");
        }
        assert_eq!(chart(files, None).unwrap().value().unwrap(), held, "{who}");
    }
}
