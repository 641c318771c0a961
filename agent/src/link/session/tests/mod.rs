//! The session against a model of the hub that loses, repeats, reorders and lies.

mod model;
mod property;
mod requests;

use super::*;
use crate::link::testing::{object, state};

use self::model::{Agent, Hub, Pack, converse, info};

#[test]
fn a_first_state_and_a_change_arrive_with_the_change_only() {
    let (mut agent, mut hub) = (Agent::new(), Hub::default());
    hub.publish(&[("root", &["a", "b=1"]), ("kustomization/x/held", &[])]);
    converse(&mut agent, &mut hub);
    assert_eq!(agent.running, Some(hub.newest()));
    assert_eq!(hub.agent, Some(hub.newest().digest()), "it was acknowledged");
    agent.reconnect();
    converse(&mut agent, &mut hub);
    let asked: Vec<_> = agent.effects.drain(..).filter(|effect| matches!(effect, Effect::Keep(..))).collect();
    assert_eq!(asked, [], "equal digests, nothing to do");

    hub.publish(&[("root", &["a", "b=2"]), ("kustomization/x/held", &[])]);
    for message in hub.manifest() {
        agent.receive(message).unwrap();
    }
    let [Out::Need(need)] = &agent.sent()[..] else { panic!("one message asks for what changed") };
    let [wanted] = &need.bodies[..] else { panic!("one body changed") };
    assert_eq!(wanted.digest[..], object("b=2").digest().as_bytes()[..]);
    assert_eq!(wanted.base[..], object("b=1").digest().as_bytes()[..], "against the version that is here");
}

#[test]
fn a_state_that_changes_no_unit_is_still_to_be_told_of() {
    let (mut agent, mut hub) = (Agent::new(), Hub::default());
    hub.publish(&[("root", &["a"]), ("kustomization/x/gone", &[])]);
    converse(&mut agent, &mut hub);
    assert!(agent.session.has_taken());
    assert!(!agent.session.has_taken(), "told once");
    // The hub has heard that the unit is gone, and names it no more.
    hub.publish(&[("root", &["a"])]);
    for message in hub.manifest() {
        agent.receive(message).unwrap();
    }
    assert_eq!(agent.running, Some(hub.newest()));
    assert!(agent.session.has_taken());
}

#[test]
fn a_lower_generation_is_refused_with_the_one_that_is_here() {
    let (mut agent, mut hub) = (Agent::new(), Hub::default());
    hub.publish(&[("root", &["a"])]);
    hub.publish(&[("root", &["b"])]);
    converse(&mut agent, &mut hub);
    let old = state(1, &[("root", &["a"])]);
    agent.receive(In::Manifest(manifest::whole(&old))).unwrap();
    let [Out::Ack(ack)] = &agent.sent()[..] else { panic!() };
    assert_eq!((ack.level(), ack.generation), (Level::Refused, 2));
    assert_eq!(ack.root_digest[..], old.digest().as_bytes()[..]);
    assert_eq!(agent.running, Some(hub.newest()));

    let again = Arc::new(state(9, &[("root", &["b"])]));
    agent.receive(In::Manifest(manifest::whole(&again))).unwrap();
    assert_eq!(agent.running, Some(again), "the same content with a new generation raises it");
}

#[test]
fn content_that_is_gone_makes_it_ask_for_the_newest_state() {
    let (mut agent, mut hub) = (Agent::new(), Hub::default());
    hub.publish(&[("root", &["a", "b"])]);
    agent.sent();
    for message in hub.manifest() {
        agent.receive(message).unwrap();
    }
    hub.objects.remove(&object("b").digest());
    hub.publish(&[("root", &["a", "c"])]);
    converse(&mut agent, &mut hub);
    assert_eq!(agent.running, Some(hub.newest()));
}

#[test]
fn a_hub_that_never_has_its_contents_is_left() {
    let (mut agent, mut hub) = (Agent::new(), Hub::default());
    hub.publish(&[("root", &["a"])]);
    hub.objects.clear();
    agent.sent();
    let mut error = None;
    let mut messages = hub.manifest();
    while error.is_none() && !messages.is_empty() {
        error = messages.drain(..).find_map(|message| agent.receive(message).err());
        messages = agent.sent().into_iter().flat_map(|message| hub.take(message)).collect();
    }
    assert!(matches!(error, Some(ProtocolError::Gone)));
    assert_eq!(agent.running, None);
}

#[test]
fn a_manifest_that_lies_is_asked_for_anew_and_then_the_hub_is_left() {
    let (mut agent, mut hub) = (Agent::new(), Hub::default());
    hub.publish(&[("root", &["a"])]);
    let lie =
        v1::Manifest { root_digest: digest_bytes(Some(Digest::of(b"x"))), ..manifest::whole(&hub.newest()) };
    agent.sent();
    for _ in 1..MAX_FAILURES {
        agent.receive(In::Manifest(lie.clone())).unwrap();
        assert!(matches!(agent.sent()[..], [Out::WantManifest(_)]));
    }
    assert!(matches!(agent.receive(In::Manifest(lie)), Err(ProtocolError::Manifest(_))));

    let bad_object = |mut manifest: v1::Manifest| {
        if let Some(v1::unit_change::Entry::Present(present)) = &mut manifest.units[0].entry {
            present.upserts[0].kind.clear();
        }
        manifest
    };
    let mut agent = Agent::new();
    agent.sent();
    agent.receive(In::Manifest(bad_object(manifest::whole(&hub.newest())))).unwrap();
    let [Out::Ack(ack)] = &agent.sent()[..] else { panic!("no use asking again") };
    assert!(
        ack.level() == Level::Refused && ack.message.contains("kind and name must not be empty"),
        "{}",
        ack.message
    );
}

#[test]
fn what_the_disk_lost_is_asked_for_at_the_next_connection() {
    let (mut agent, mut hub) = (Agent::new(), Hub::default());
    hub.publish(&[("root", &["a", "b"])]);
    converse(&mut agent, &mut hub);
    let lost = object("a").digest();
    agent.pack.0.borrow_mut().remove(&lost);
    agent.effects.clear();
    agent.reconnect();
    converse(&mut agent, &mut hub);
    assert!(agent.pack.has(lost));
    assert!(agent.effects.contains(&Effect::Repaired));
}

#[test]
fn what_the_disk_loses_while_an_earlier_loss_is_fetched_is_asked_for_too() {
    let (mut agent, mut hub) = (Agent::new(), Hub::default());
    hub.publish(&[("root", &["a", "b"])]);
    converse(&mut agent, &mut hub);
    for lost in ["a", "b"] {
        agent.pack.0.borrow_mut().remove(&object(lost).digest());
        agent.session.repair(&agent.pack);
    }
    converse(&mut agent, &mut hub);
    for lost in ["a", "b"] {
        assert!(agent.pack.has(object(lost).digest()), "{lost}");
    }
    assert!(agent.effects.contains(&Effect::Repaired));
}

#[test]
fn a_body_that_cannot_be_kept_leaves_what_runs_and_tells_the_hub() {
    let (mut agent, mut hub) = (Agent::new(), Hub::default());
    hub.publish(&[("root", &["a"])]);
    agent.sent();
    for message in hub.manifest() {
        agent.receive(message).unwrap();
    }
    agent.session.give_up("no room".into());
    assert!(
        agent
            .sent()
            .iter()
            .any(|m| matches!(m, Out::Ack(a) if a.level() == Level::Refused && a.message == "no room"))
    );
    assert_eq!(agent.running, None);
}

#[test]
fn bodies_that_do_not_come_are_asked_for_again() {
    let (mut agent, mut hub) = (Agent::new(), Hub::default());
    hub.publish(&[("root", &["a"])]);
    agent.sent();
    for message in hub.manifest() {
        agent.receive(message).unwrap();
    }
    assert_eq!(agent.sent().len(), 1);
    agent.session.minute();
    converse(&mut agent, &mut hub);
    assert_eq!(agent.running, Some(hub.newest()));
}

#[test]
fn a_hub_that_speaks_an_older_protocol_is_refused_before_anything_else_is_read() {
    for (minor, ok) in [(0, false), (1, false), (2, true), (3, true), (4, true)] {
        let mut agent = Agent::new();
        let protocol = Some(v1::Protocol { minor });
        let welcome = v1::Welcome { protocol, ..v1::Welcome::default() };
        let answer = agent.receive(In::Welcome(welcome));
        assert_eq!(answer.is_ok(), ok, "1.{minor}: {answer:?}");
        if let Err(error) = answer {
            assert!(error.to_string().contains("upgrade the hub"), "{error}");
            assert!(agent.effects.is_empty());
        }
    }
    assert!(Agent::new().receive(In::Welcome(v1::Welcome::default())).is_err(), "one that does not say");
}

#[test]
fn after_everything_was_removed_no_state_is_taken_on_this_stream_or_the_next() {
    let mut hub = Hub::default();
    hub.publish(&[("root", &["a"])]);
    let mut agent = Agent::new();
    for again in [false, true] {
        agent.session.close("everything was removed");
        agent.sent();
        for message in hub.manifest() {
            agent.receive(message).unwrap();
        }
        let sent = agent.sent();
        let [Out::Ack(ack)] = &sent[..] else { panic!("{again}: {sent:?}") };
        assert_eq!(ack.level(), Level::Refused);
        assert!(ack.message.starts_with("everything was removed"), "{}", ack.message);
        assert!(agent.running.is_none());
        // The new stream does not bring it back either: what was forgotten is on disk.
        agent.reconnect();
    }
}

#[test]
fn what_is_held_in_memory_is_said_to_be_and_again_when_it_is_durable() {
    let mut session = Session::new(info(), None);
    let state = Arc::new(state(3, &[("root", &[])]));
    session.saved(&state, Some("no space left".into()));
    session.durable();
    let sent = std::iter::from_fn(|| session.next()).filter_map(|message| message.message);
    let acks: Vec<_> =
        sent.filter_map(|out| if let Out::Ack(ack) = out { Some(ack) } else { None }).collect();
    let told: Vec<_> =
        acks.iter().map(|ack| (ack.level(), ack.generation, ack.in_memory, ack.message.as_str())).collect();
    assert_eq!(told, [(Level::Received, 3, true, "no space left"), (Level::Received, 3, false, "")]);
}
