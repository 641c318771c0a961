use super::*;
use flotilla_core::desired::HoldCode;

#[test]
fn nothing_that_was_left_out_means_something() {
    // An enum that reads as one of its meanings where the sender said nothing would be a decision that nobody made.
    assert_eq!(v1::Removal::default().policy(), v1::removal::Policy::Unspecified);
    assert_eq!(v1::Body::default().encoding(), v1::body::Encoding::Unspecified);
    assert_eq!(v1::Ack::default().level(), v1::ack::Level::Unspecified);
    assert_eq!(v1::Adopt::default().origin(), v1::adopt::Origin::Unspecified);
    assert_eq!(v1::Adopt::default().action(), v1::adopt::Action::Unspecified);
    assert_eq!(v1::Answer::default().outcome(), v1::answer::Outcome::Unspecified);
    for number in [0, -1, 5] {
        assert!(
            Removal::try_from(&v1::Removal { policy: number, prune: true, ..Default::default() }).is_err(),
            "{number}"
        );
    }
}

#[test]
fn each_enum_of_the_contract_begins_with_what_means_nothing() {
    let text = include_str!("../proto/flotilla.v1.proto");
    let zeros: Vec<&str> = text.lines().map(str::trim).filter(|line| line.ends_with("= 0;")).collect();
    let enums = text.lines().filter(|line| line.trim_start().starts_with("enum ")).count();
    assert_eq!(zeros.len(), enums);
    assert!(zeros.iter().all(|line| line.ends_with("_UNSPECIFIED = 0;")), "{zeros:?}");
}

#[test]
fn a_unit_report_survives_the_wire() {
    let object = ObjectId::new("apps", "Deployment", "w", "f");
    let mut unit = report::UnitReport::new(UnitId::root(), report::Phase::Progressing, "waits", 7);
    unit.desired = Some(Digest::of(b"x"));
    unit.objects = 3;
    unit.findings.push(report::Finding {
        object: object.clone(),
        reason: "NotHealthy".into(),
        message: "1/3".into(),
    });
    unit.kept.push(report::Kept {
        object: object.clone(),
        why: "a volume".into(),
        approval: Digest::of(b"y"),
    });
    let field = report::FieldDrift {
        field: "/spec/replicas".into(),
        wanted: Some("3".into()),
        found: None,
        manager: None,
    };
    unit.drift.push(report::Drift { object, at: 9, fields: vec![field] });
    assert_eq!(report::UnitReport::try_from(v1::UnitReport::from(&unit)), Ok(unit));
}

#[test]
fn no_text_of_an_agent_is_kept_longer_than_the_bound() {
    let long = || "ü".repeat(MAX_TEXT);
    let object = |name: String| Some(v1::ObjectId { kind: "X".into(), name, ..Default::default() });
    let field =
        v1::FieldDrift { field: long(), wanted: Some(long()), found: Some(long()), manager: Some(long()) };
    let unit = v1::UnitReport {
        unit: "root".into(),
        phase: "Ready".into(),
        message: long(),
        findings: vec![v1::Finding { object: object("x".into()), reason: long(), message: long() }],
        drift: vec![v1::Drift { object: object("x".into()), at: 1, fields: vec![field] }],
        kept: vec![v1::Kept {
            object: object("x".into()),
            why: long(),
            approval: digest_bytes(Some(Digest::of(b"x"))),
        }],
        ..Default::default()
    };
    let read = report::UnitReport::try_from(unit.clone()).unwrap();
    // Both ends are cut between characters.
    let mark = '…'.len_utf8();
    assert!((MAX_TEXT + mark - 2..=MAX_TEXT + mark).contains(&read.message.len()));
    assert!(format!("{read:?}").len() < 8 * MAX_TEXT, "{} bytes", format!("{read:?}").len());
    let event = v1::Event { unit: "root".into(), reason: long(), message: long(), ..Default::default() };
    assert!(report::Event::try_from(event.clone()).unwrap().message.len() < 2 * MAX_TEXT);
    // A name that long is nobody's.
    for bad in [
        v1::UnitReport { unit: format!("kustomization/x/{}", "a".repeat(MAX_NAME)), ..unit.clone() },
        v1::UnitReport {
            findings: vec![v1::Finding { object: object(long()), ..Default::default() }],
            ..unit.clone()
        },
        v1::UnitReport { phase: long(), ..unit },
    ] {
        assert!(report::UnitReport::try_from(bad).unwrap_err().to_string().len() < 2 * MAX_NAME);
    }
    assert!(report::Event::try_from(v1::Event { object: object(long()), ..event }).is_err());
}

#[test]
fn how_far_a_held_unit_reaches_survives_the_wire() {
    let namespaces =
        |names: &[&str]| Authority::Namespaces(names.iter().map(|name| (*name).to_owned()).collect());
    for authority in [Authority::Fleet, namespaces(&[]), namespaces(&["b", "a"])] {
        let held = Hold { authority, code: HoldCode::ParentHeld, ..Hold::from("b.yaml:3: bad") };
        let change = hold("root".into(), &held);
        let Some(v1::unit_change::Entry::Hold(code)) = change.entry else { panic!("{change:?}") };
        assert_eq!(read_hold(&code, change.hold_text, change.bound), held);
    }
}

#[test]
fn what_is_unknown_is_refused_by_name() {
    let unit = v1::UnitReport { unit: "root".into(), phase: "Dancing".into(), ..Default::default() };
    let error = report::UnitReport::try_from(unit).unwrap_err();
    assert_eq!(error.to_string(), "field report.phase of a message: 'Dancing' is unknown");
    assert!(Removal::try_from(&v1::Removal { policy: 17, prune: true, ..v1::Removal::default() }).is_err());
}
