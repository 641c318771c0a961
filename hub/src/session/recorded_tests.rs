//! What agents of earlier versions say, played to this hub, and what this hub says, read as they read it: see
//! `proto/recorded`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use flotilla_core::desired::{Hold, Removal};
use flotilla_core::unit::DeletionPolicy;
use flotilla_core::{
    Authority, Capabilities, DesiredState, Digest, Generation, UnitEntry, UnitId, UnitManifest, UnitSpec,
};
use flotilla_proto::body::Encoded;
use flotilla_proto::v1::{self, agent_message, hub_message, unit_change::Entry};
use prost::Message;

use super::machine::{AgentState, Fact, Machine};
use crate::desired::Published;
use crate::desired::project::withhold;

const AGENT_1_2: &[u8] = include_bytes!("../../../proto/recorded/1.2/agent");

fn messages(mut stream: Bytes) -> Vec<v1::AgentMessage> {
    let mut messages = Vec::new();
    while !stream.is_empty() {
        messages.push(v1::AgentMessage::decode_length_delimited(&mut stream).unwrap());
    }
    messages
}

fn published(units: &BTreeMap<UnitId, UnitEntry>) -> Published {
    let state = DesiredState::new("staging".parse().unwrap(), Generation(9), "c0ffee", units.clone());
    Published { state: Arc::new(state), bodies: Arc::default() }
}

/// How an agent of 1.2 computes the digest of what it is sent: it knows no texts, no parts and no capabilities.
fn digest_as_of_1_2(changes: &[v1::UnitChange]) -> Digest {
    let part = |change: &v1::UnitChange| match change.entry.as_ref().unwrap() {
        Entry::Present(present) => [b"present ", &present.digest[..]].concat(),
        Entry::Hold(reason) => match &change.bound {
            None => format!("hold {reason}").into_bytes(),
            Some(bound) => {
                let namespaces = Authority::Namespaces(bound.namespaces.iter().cloned().collect());
                format!("hold {reason} in {namespaces}").into_bytes()
            }
        },
        Entry::Removed(removal) => {
            let policy = Removal::try_from(removal).unwrap().policy;
            format!("removed {policy:?} {}", removal.prune).into_bytes()
        }
    };
    let parts: Vec<Vec<u8>> =
        changes.iter().flat_map(|change| [change.id.clone().into_bytes(), part(change)]).collect();
    Digest::of_parts(parts.iter().map(Vec::as_slice))
}

fn next(machine: &mut Machine) -> Option<hub_message::Message> {
    machine.next(|body| Arc::new(Encoded::of(body.content, None)))?.message
}

#[test]
fn an_agent_of_1_2_goes_on_and_is_sent_nothing_that_it_would_pass_over() {
    let mut stream = messages(Bytes::from_static(AGENT_1_2)).into_iter();
    let Some(agent_message::Message::Hello(hello)) = stream.next().unwrap().message else {
        panic!("no Hello")
    };
    assert_eq!(flotilla_proto::check_protocol(hello.protocol.as_ref(), "agent"), Ok(2));
    let agent = AgentState {
        root: Digest::try_from(&hello.root_digest[..]).ok(),
        generation: Generation(hello.generation),
        capabilities: Capabilities::read(hello.capabilities).unwrap(),
    };
    let able = agent.capabilities.clone();
    let mut machine = Machine::new(agent, v1::Welcome::default(), Vec::new(), true);
    let mut facts = Vec::new();
    for message in stream {
        facts.extend(machine.receive(message, 0, 0).unwrap());
    }
    let kinds: Vec<&str> = facts
        .iter()
        .map(|fact| match fact {
            Fact::Units(_) => "units",
            Fact::Ack(_) => "ack",
            Fact::Report(_) => "report",
            Fact::Answer { .. } => "answer",
            Fact::Reply(..) => "reply",
        })
        .collect();
    assert_eq!(kinds, ["units", "ack", "report", "ack", "answer"]);
    let Fact::Units(units) = &facts[0] else { panic!() };
    assert_eq!(units.len(), 4, "{units:?}");
    let Fact::Report(report) = &facts[2] else { panic!() };
    assert!(report.invalid.is_none() && report.units.len() == 1 && report.events.len() == 1, "{report:?}");
    while next(&mut machine).is_some() {}
    let questions = [flotilla_core::question::Question::apis()].into();
    machine.ask(Arc::new(questions), |_| None);
    assert!(next(&mut machine).is_none(), "it could not answer, and is asked nothing");

    let unit = |name: &str| UnitId::kustomization("team-a", name);
    let present = |name: &str, authority| {
        let spec = UnitSpec { authority, ..UnitSpec::default() };
        (unit(name), UnitEntry::Present(Arc::new(UnitManifest::new(unit(name), spec, vec![]))))
    };
    let tenant = || Authority::Namespaces(["team-a".to_owned()].into());
    let held = Hold { authority: tenant(), ..Hold::from("b.yaml:3: bad") };
    let moved = Removal { prune: true, moved: true, ..Removal::default() };
    let mut units: BTreeMap<UnitId, UnitEntry> = [
        present("fleet", Authority::Fleet),
        present("tenant", tenant()),
        (unit("held"), UnitEntry::Hold(held)),
        (unit("left"), UnitEntry::Removed(Removal { prune: true, ..Removal::default() })),
        (unit("moved"), UnitEntry::Removed(moved)),
    ]
    .into();
    machine.publish(published(&units), 1);
    assert!(next(&mut machine).is_none(), "a state that was made for another agent is not sent");

    withhold(&mut units, &able, false);
    let state = published(&units);
    let root = state.state.digest();
    machine.publish(state, 1);
    let Some(hub_message::Message::Manifest(manifest)) = next(&mut machine) else { panic!("no manifest") };
    assert!(manifest.last && manifest.root_digest == root.as_bytes()[..]);
    assert_eq!(digest_as_of_1_2(&manifest.units), root, "it gets the same digest");
    let shown = manifest.units.iter().map(|change| match change.entry.as_ref().unwrap() {
        Entry::Present(_) => format!("{} present", change.id),
        Entry::Hold(reason) => format!("{} held: {reason}", change.id),
        Entry::Removed(_) => format!("{} removed", change.id),
    });
    assert_eq!(
        shown.collect::<Vec<_>>(),
        [
            "kustomization/team-a/fleet present",
            "kustomization/team-a/held held: cannot be rendered",
            "kustomization/team-a/left removed",
            "kustomization/team-a/moved held: needs a newer agent: upgrade the agent",
            "kustomization/team-a/tenant held: needs a newer agent: upgrade the agent",
        ]
    );
}

/// Words of a newer agent end nothing.
#[test]
fn what_a_newer_agent_says_in_new_words_is_passed_over() {
    let mut machine = Machine::new(AgentState::default(), v1::Welcome::default(), Vec::new(), false);
    let mut receive = |message| {
        let message = v1::AgentMessage { message: Some(message) };
        machine.receive(message, 0, 0)
    };
    let unit = |id: &str, policy| v1::HaveUnit {
        id: id.into(),
        parent: "tenant/x/y".into(),
        removal: Some(v1::Removal { policy, prune: true, moved: true, ..Default::default() }),
        ..Default::default()
    };
    let units = vec![unit("tenant/x/y", 1), unit("kustomization/x/y", 99)];
    let Some(Fact::Units(units)) = receive(agent_message::Message::Units(v1::Units { units })).unwrap()
    else {
        panic!("no units")
    };
    assert_eq!(units.len(), 1);
    let told = Removal { policy: DeletionPolicy::Orphan, moved: true, ..Removal::default() };
    assert_eq!(units[0].removal, Some(told), "a way of removal that is not known deletes nothing");
    let ack = |level| agent_message::Message::Ack(v1::Ack { level, ..Default::default() });
    assert_eq!(receive(ack(77)), Ok(None));
    assert!(receive(ack(0)).is_err(), "what was left out means nothing");
    let answer = |outcome| agent_message::Message::Answer(v1::Answer { outcome, ..Default::default() });
    let Ok(Some(Fact::Answer { done, message, .. })) = receive(answer(77)) else { panic!("no answer") };
    assert!(!done && message.contains("upgrade the hub"), "{message}");
    assert!(receive(answer(0)).is_err());
    let foreseen = v1::ForeseenObject { effect: 77, ..Default::default() };
    let rehearsal = v1::Rehearsal { objects: vec![foreseen], same: 0 };
    let found = Some(v1::answer::Found::Rehearsal(rehearsal));
    let outcome = v1::answer::Outcome::Done.into();
    let unreadable = v1::Answer { outcome, found, ..Default::default() };
    let Ok(Some(Fact::Answer { done, message, found, .. })) =
        receive(agent_message::Message::Answer(unreadable))
    else {
        panic!("no answer")
    };
    assert!(!done && found.is_none() && message.contains("77 is unknown"), "{message}");
}
