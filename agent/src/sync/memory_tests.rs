use super::*;
use flotilla_core::UnitSpec;
use flotilla_core::template::ValuesKind;

#[test]
fn a_record_reads_back_and_a_damaged_one_is_none() {
    let unit = UnitId::kustomization("f", "a");
    let id = ObjectId::new("", "Secret", "n", "x");
    let object = ObjectRef { id: id.clone(), version: "v1".into() };
    let entry = ObjectEntry { object, digest: Digest::of(b"x"), size: 7, template: false };
    let last = Arc::new(UnitManifest::new(unit.clone(), UnitSpec::default(), vec![entry]));
    let admitted = Some(last.spec_digest());
    let unit_memory = UnitMemory { admitted, last: Some(last), ready: None, suspended: true };
    let place = ValuesRef { kind: ValuesKind::Secret, namespace: "n".into(), name: "v".into() };
    let last_applied = LastApplied {
        fingerprint: Digest::of(b"s"),
        entry: Some(Digest::of(b"e")),
        uid: Uid::from("u"),
        apply_mode: ApplyMode::Merge,
        drift: Some(DriftMode::Report),
        taken: Box::new([(place, Digest::of(b"v"))]),
        version: 42,
        generation: 7,
        made: None,
        settled: true,
        expiry: Expiry::Again,
        ended: Some("BackoffLimitExceeded".into()),
    };
    let departure = Departure { generation: Generation(7), wanted: 3, moved: true };
    let departures: Departures = [(ObjectId::new("", "Secret", "n", "y"), departure)].into_iter().collect();
    let removal = UnitDeparture { approval: Digest::of(b"r"), objects: 3, of: 9, moved: true };
    let text = write(&unit_memory, [(&id, &last_applied)].into_iter(), &departures, Some(&removal));
    let (last_applied, removal) = (HashMap::from([(id, last_applied)]), Some(removal));
    let remembered = StoredUnit { unit_memory, last_applied, departures, removal };
    assert_eq!(read(&unit, &text), Some(remembered));
    assert_eq!(read(&unit, &text[..text.len() / 2]), None);
    assert_eq!(read(&unit, br#"{"version":2}"#), None);
}

/// As an agent of version 1 wrote it, which every later one is to read.
#[test]
fn a_record_of_version_1_is_read_for_good() {
    let digest = |text: &str| text.repeat(32);
    // With a field of a hub that knows more, which is kept as it is.
    let spec = r#"{"timeout":300,"interval":600,"later":true}"#;
    let text = serde_json::json!({"version": 1, "admitted": digest("01"), "spec": spec,
    "objects": [{"id": ["", "ConfigMap", "default", "a"], "version": "v1", "digest": digest("02"), "size": 7}],
    "marks": [
        {"id": ["", "ConfigMap", "default", "a"], "stamp": digest("03"), "entry": digest("04"), "uid": "u"},
        {"id": ["apps", "Deployment", "web", "b"], "stamp": digest("05"), "entry": null, "uid": "v",
            "manner": "Once", "drift": "report"},
    ]});
    let read = read(&UnitId::root(), text.to_string().as_bytes()).unwrap();
    let StoredUnit { unit_memory, last_applied, departures, removal } = read;
    assert_eq!((departures, removal, unit_memory.suspended), (Departures::default(), None, false));
    assert_eq!(unit_memory.admitted.unwrap().to_string(), digest("01"));
    let last = unit_memory.last.unwrap();
    assert_eq!(
        (last.objects[0].object.to_string().as_str(), last.spec.timeout),
        ("ConfigMap default/a", 300)
    );
    assert_eq!(last.spec_bytes(), spec.as_bytes());
    let last_applied = |group: &str, kind: &str, namespace: &str, name: &str| {
        let last_applied = &last_applied[&ObjectId::new(group, kind, namespace, name)];
        (
            last_applied.uid.to_string(),
            last_applied.apply_mode,
            last_applied.drift,
            last_applied.entry.is_some(),
        )
    };
    assert_eq!(
        last_applied("", "ConfigMap", "default", "a"),
        ("u".to_owned(), ApplyMode::Override, None, true)
    );
    assert_eq!(
        last_applied("apps", "Deployment", "web", "b"),
        ("v".to_owned(), ApplyMode::Once, Some(DriftMode::Report), false)
    );
    assert!(read_approval(&approval_key(Digest::of(b"x")), br#"{"version":1,"subject":null}"#).is_some());
}

#[test]
fn an_approval_reads_back_under_a_key_that_is_no_unit() {
    let digest = Digest::of(b"x");
    let key = approval_key(digest);
    assert!(key.parse::<UnitId>().is_err());
    let id = ObjectId::new("", "Secret", "n", "x");
    let subject = |what| Some(Subject { unit: UnitId::root(), what, objects: [id.clone()].into() });
    let whats = [What::Object, What::Objects, What::Unit, What::Units];
    for subject in [None].into_iter().chain(whats.map(subject)) {
        assert_eq!(read_approval(&key, &write_approval(subject.as_ref())), Some((digest, subject)));
    }
    assert_eq!(read_approval(&key, b"{"), None);
    assert_eq!(read_approval("root", b"{}"), None);
}
