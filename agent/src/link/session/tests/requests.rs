//! What the hub asks of the agent.

use flotilla_core::adopt::Origin;
use flotilla_core::answer::{AdoptAction, Found, Rehearsal};

use super::*;
use crate::sync::RehearsedBody;

#[test]
fn requests_are_read_answered_or_told_unsupported() {
    use v1::request::Kind;
    let digest = Digest::of(b"approval");
    let id = flotilla_core::ObjectId::new("", "ConfigMap", "default", "a");
    for (kind, expected) in [
        (Some(Kind::Reconcile(v1::Reconcile::default())), Ok(Asked::Reconcile(None))),
        (
            Some(Kind::Reconcile(v1::Reconcile { unit: "root".into() })),
            Ok(Asked::Reconcile(Some(UnitId::root()))),
        ),
        (Some(Kind::Reconcile(v1::Reconcile { unit: "a/b/c/d".into() })), Err(v1::answer::Outcome::Failed)),
        (
            Some(Kind::Approve(v1::Approve { approval: digest_bytes(Some(digest)) })),
            Ok(Asked::Approve(digest)),
        ),
        (Some(Kind::Approve(v1::Approve::default())), Err(v1::answer::Outcome::Failed)),
        (Some(Kind::RemoveAll(v1::RemoveAll { confirm: "staging".into() })), Ok(Asked::RemoveAll)),
        (
            Some(Kind::RemoveAll(v1::RemoveAll { confirm: "production".into() })),
            Err(v1::answer::Outcome::Failed),
        ),
        (
            Some(Kind::Adopt(v1::Adopt { origin: 2, action: 3, plan: Bytes::new() })),
            Ok(Asked::Errand(Errand::Adopt(Origin::Helm, AdoptAction::Undo, None))),
        ),
        (
            Some(Kind::Adopt(v1::Adopt { origin: 1, action: 2, plan: digest_bytes(Some(digest)) })),
            Ok(Asked::Errand(Errand::Adopt(Origin::Flux, AdoptAction::Apply, Some(digest)))),
        ),
        (
            Some(Kind::Fetch(v1::Fetch { unit: "root".into(), object: Some((&id).into()) })),
            Ok(Asked::Errand(Errand::Fetch(UnitId::root(), id))),
        ),
        (
            Some(Kind::Fetch(v1::Fetch { unit: "root".into(), object: None })),
            Err(v1::answer::Outcome::Failed),
        ),
        (
            Some(Kind::Rehearse(v1::Rehearse {
                unit: "root".into(),
                bodies: vec!["{}".into(), "[]".into()],
                templates: vec![1],
            })),
            Ok(Asked::Errand(Errand::Rehearse(
                UnitId::root(),
                vec![
                    RehearsedBody { body: "{}".into(), template: false },
                    RehearsedBody { body: "[]".into(), template: true },
                ],
            ))),
        ),
        (
            Some(Kind::Rehearse(v1::Rehearse { unit: "a/b/c/d".into(), ..Default::default() })),
            Err(v1::answer::Outcome::Failed),
        ),
        // What a newer hub means by these is nothing that this agent knows.
        (
            Some(Kind::Adopt(v1::Adopt { origin: 4, action: 1, plan: Bytes::new() })),
            Err(v1::answer::Outcome::Failed),
        ),
        (
            Some(Kind::Adopt(v1::Adopt { origin: 1, action: 4, plan: Bytes::new() })),
            Err(v1::answer::Outcome::Failed),
        ),
        // Nothing that was left out means something.
        (
            Some(Kind::Adopt(v1::Adopt { origin: 0, action: 2, plan: Bytes::new() })),
            Err(v1::answer::Outcome::Failed),
        ),
        (
            Some(Kind::Adopt(v1::Adopt { origin: 1, action: 0, plan: Bytes::new() })),
            Err(v1::answer::Outcome::Failed),
        ),
        (Some(Kind::RenewNow(v1::RenewNow {})), Ok(Asked::RenewNow)),
        (None, Err(v1::answer::Outcome::Unsupported)),
    ] {
        let mut agent = Agent::new();
        agent.sent();
        agent.receive(In::Request(v1::Request { id: 7, kind })).unwrap();
        match expected {
            Ok(asked) => assert_eq!(agent.effects, [Effect::Asked(7, asked)]),
            Err(outcome) => {
                let [Out::Answer(answer)] = &agent.sent()[..] else { panic!("one answer") };
                assert_eq!((answer.request, answer.outcome()), (7, outcome));
            }
        }
    }
    let mut agent = Agent::new();
    assert!(agent.session.receive(v1::HubMessage { message: None }, &agent.pack).unwrap().is_empty());
}

#[test]
fn what_was_found_is_a_message_to_a_hub_that_knows_it_and_a_text_to_an_older_one() {
    let found = Found::Rehearsal(Rehearsal { objects: Vec::new(), same: 3 });
    for (minor, is_message) in [(2, false), (3, false), (4, true)] {
        let mut agent = Agent::new();
        let protocol = Some(v1::Protocol { minor });
        agent.receive(In::Welcome(v1::Welcome { protocol, ..v1::Welcome::default() })).unwrap();
        agent.sent();
        agent.session.found(7, found.clone());
        let [Out::Answer(answer)] = &agent.sent()[..] else { panic!("one answer") };
        assert_eq!((answer.request, answer.outcome()), (7, v1::answer::Outcome::Done));
        let read = answer.found.clone().map(Found::try_from);
        assert_eq!(read, is_message.then(|| Ok(found.clone())), "1.{minor}");
        let text = if is_message { "" } else { r#"{"objects":[],"same":3}"# };
        assert_eq!(answer.message, text, "1.{minor}");
    }
}

#[test]
fn what_the_hub_wants_to_know_is_handed_on_and_what_nobody_knows_is_said_to_be_unknown() {
    use flotilla_core::template::ValuesKind;
    let (mut session, pack) = (Session::new(info(), None), Pack::default());
    let hello = session.next().unwrap().message;
    assert!(matches!(hello, Some(Out::Hello(hello)) if hello.capabilities.contains(&"questions".to_owned())));
    let (asked, have) = (Question::of(ValuesKind::Secret, "n", "x", None), Some(Digest::of(b"1")));
    let wire = flotilla_proto::question::question(&asked, have);
    let newer = v1::Question { subject: 99, ..wire.clone() };
    let bad = v1::Question { name: "../x".into(), ..wire.clone() };
    let questions = v1::Questions { questions: vec![newer.clone(), bad, wire] };
    let message = v1::HubMessage { message: Some(In::Questions(questions)) };
    let effects = session.receive(message, &pack).unwrap();
    assert_eq!(effects, [Effect::Questions(vec![(asked, have)])]);
    let said = session.next().unwrap().message;
    assert_eq!(said, Some(Out::Reply(v1::Reply { question: Some(newer), answer: None })));
    assert_eq!(session.next(), None);
}
