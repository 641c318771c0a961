//! The machine against a model of an agent, over a wire that may lose the connection at any moment.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use flotilla_core::unit::{DeletionPolicy, ObjectEntry, UnitSpec};
use flotilla_core::{
    Capabilities, DesiredState, Digest, Generation, Object, UnitEntry, UnitId, UnitManifest,
};
use flotilla_proto::convert::{digest_bytes, read_object_entry};
use flotilla_proto::v1::{self, agent_message, hub_message, unit_change::Entry};
use flotilla_proto::{MAX_CHUNK, MAX_MESSAGE, body};
use proptest::prelude::*;
use prost::Message;
use serde_json::json;

use super::encoded::EncodedBodies;
use super::machine::{AgentState, Fact, Machine, ProtocolError};
use crate::desired::Published;

fn id(name: &str) -> UnitId {
    UnitId::kustomization("flux-system", name)
}

fn config(name: &str, data: &str) -> Object {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "web"},
        "data": {"a": data}});
    Object::new(&object).unwrap()
}

fn present(name: &str, spec: UnitSpec, objects: &[Object]) -> (UnitId, UnitEntry) {
    let entries = objects.iter().map(ObjectEntry::from).collect();
    (id(name), UnitEntry::Present(Arc::new(UnitManifest::new(id(name), spec, entries))))
}

fn published(generation: u64, units: Vec<(UnitId, UnitEntry)>, objects: &[Object]) -> Published {
    let units = units.into_iter().collect();
    let state = DesiredState::new("staging".parse().unwrap(), Generation(generation), "c0ffee", units);
    Published { state: Arc::new(state), bodies: Arc::new(objects.iter().cloned().collect()) }
}

fn one_unit(generation: u64, objects: &[Object]) -> Published {
    published(generation, vec![present("apps", UnitSpec::default(), objects)], objects)
}

/// The root digest, the units of before, and the units that are arriving.
type Assembly = (Digest, BTreeMap<UnitId, UnitEntry>, BTreeMap<UnitId, v1::UnitPresent>);

/// What an agent does, in the contract's words: assembles, fetches, acknowledges. What is on its disk is what it
/// has after a reconnect.
#[derive(Default)]
struct Agent {
    current: Option<DesiredState>,
    bodies: HashMap<Digest, Bytes>,
    assembly: Option<Assembly>,
    pending: Option<DesiredState>,
    wanted: HashSet<Digest>,
    chunks: Vec<u8>,
    /// Bytes on the wire in both directions.
    wire: usize,
}

impl Agent {
    fn hello(&self) -> AgentState {
        AgentState {
            root: self.current.as_ref().map(DesiredState::digest),
            generation: self.current.as_ref().map(|state| state.generation).unwrap_or_default(),
            capabilities: Capabilities::ours(),
        }
    }

    fn disconnect(&mut self) {
        (self.assembly, self.pending) = (None, None);
        self.wanted.clear();
        self.chunks.clear();
    }

    fn unit(&self, id: &UnitId, digest: &[u8]) -> Option<Arc<UnitManifest>> {
        let unit = self.current.as_ref()?.present(id)?;
        (unit.digest().as_bytes() == digest).then(|| unit.clone())
    }

    fn receive(&mut self, message: v1::HubMessage) -> Vec<agent_message::Message> {
        assert!(message.encoded_len() <= MAX_MESSAGE, "{} bytes", message.encoded_len());
        match message.message.unwrap() {
            hub_message::Message::WantUnits(_) => {
                let units = self.current.iter().flat_map(|state| state.units());
                let unit = |(id, entry): (&UnitId, &UnitEntry)| v1::HaveUnit {
                    id: id.to_string(),
                    digest: match entry {
                        UnitEntry::Present(unit) => digest_bytes(Some(unit.digest())),
                        _ => Bytes::new(),
                    },
                    ..Default::default()
                };
                vec![agent_message::Message::Units(v1::Units { units: units.map(unit).collect() })]
            }
            hub_message::Message::Manifest(manifest) => self.manifest(manifest),
            hub_message::Message::Body(body) => self.body(body),
            _ => vec![],
        }
    }

    fn manifest(&mut self, manifest: v1::Manifest) -> Vec<agent_message::Message> {
        let root = Digest::try_from(&manifest.root_digest[..]).unwrap();
        let (generation, last) = (manifest.generation, manifest.last);
        assert!(generation > self.hello().generation.0, "an older generation came");
        if self.assembly.as_ref().is_none_or(|(assembling, ..)| *assembling != root) {
            let base = match &manifest.base_root_digest[..] {
                [] => BTreeMap::new(),
                base => {
                    let current = self.current.as_ref().expect("a base is what the agent has");
                    assert_eq!(current.digest().as_bytes(), base);
                    current.units().clone()
                }
            };
            self.assembly = Some((root, base, BTreeMap::new()));
        }
        let (_, units, presents) = self.assembly.as_mut().unwrap();
        for id in &manifest.unnamed {
            assert!(units.remove(&id.parse().unwrap()).is_some(), "{id} was not named before");
        }
        for change in manifest.units {
            let id: UnitId = change.id.parse().unwrap();
            match change.entry.unwrap() {
                Entry::Hold(code) => {
                    let hold = flotilla_proto::convert::read_hold(&code, change.hold_text, change.bound);
                    _ = units.insert(id, UnitEntry::Hold(hold));
                }
                Entry::Removed(removal) => {
                    _ = units.insert(id, UnitEntry::Removed((&removal).try_into().unwrap()));
                }
                Entry::Present(part) => match presents.get_mut(&id) {
                    Some(whole) => whole.upserts.extend(part.upserts),
                    None => _ = presents.insert(id, part),
                },
            }
        }
        if !last {
            return vec![];
        }
        let (_, mut units, presents) = self.assembly.take().unwrap();
        for (id, present) in presents {
            let Some(unit) = self.present(&id, present) else {
                let want = v1::WantManifest { root_digest: digest_bytes(Some(root)) };
                return vec![agent_message::Message::WantManifest(want)];
            };
            units.insert(id, UnitEntry::Present(unit));
        }
        let state =
            DesiredState::new("staging".parse().unwrap(), Generation(generation), manifest.snapshot, units);
        assert_eq!(state.digest(), root, "the delta leads elsewhere");
        let entries: Vec<ObjectEntry> =
            state.all_present().flat_map(|unit| unit.objects.iter().cloned()).collect();
        let missing = entries.iter().filter(|entry| !self.bodies.contains_key(&entry.digest));
        let current = self.current.as_ref();
        let base = |entry: &ObjectEntry| {
            let units = current.iter().flat_map(|state| state.all_present());
            let mut old = units.flat_map(|unit| &unit.objects);
            old.find(|old| old.object.id == entry.object.id).map(|old| old.digest)
        };
        let bodies: Vec<v1::NeedBody> = missing
            .map(|entry| v1::NeedBody {
                digest: digest_bytes(Some(entry.digest)),
                base: digest_bytes(base(entry)),
            })
            .collect();
        self.wanted = bodies.iter().map(|need| Digest::try_from(&need.digest[..]).unwrap()).collect();
        self.pending = Some(state);
        if bodies.is_empty() {
            return self.complete();
        }
        vec![agent_message::Message::Need(v1::Need { bodies })]
    }

    fn present(&self, id: &UnitId, present: v1::UnitPresent) -> Option<Arc<UnitManifest>> {
        let base = match &present.base_digest[..] {
            [] => None,
            digest => Some(self.unit(id, digest)?),
        };
        let spec = match (&base, present.spec.is_empty()) {
            (Some(base), true) => base.spec_bytes().clone(),
            _ => present.spec,
        };
        let mut upserts: BTreeMap<usize, ObjectEntry> =
            present.upserts.into_iter().map(|entry| read_object_entry(entry).unwrap()).collect();
        let replaced: HashSet<_> = upserts.values().map(|entry| entry.object.id.clone()).collect();
        let old = base.iter().flat_map(|base| base.objects.iter().enumerate());
        let mut kept = old.filter(|(at, entry)| {
            !present.removes.contains(&(*at as u32)) && !replaced.contains(&entry.object.id)
        });
        let mut objects = Vec::new();
        loop {
            match upserts.remove(&objects.len()) {
                Some(entry) => objects.push(entry),
                None => match kept.next() {
                    Some((_, entry)) => objects.push(entry.clone()),
                    None => break,
                },
            }
        }
        assert!(upserts.is_empty(), "positions beyond the list");
        let unit = UnitManifest::from_parts(id.clone(), spec, objects).unwrap();
        assert_eq!(unit.digest().as_bytes(), &present.digest[..]);
        Some(Arc::new(unit))
    }

    fn body(&mut self, piece: v1::Body) -> Vec<agent_message::Message> {
        assert!(piece.data.len() <= MAX_CHUNK && !piece.gone);
        assert_eq!(self.chunks.len(), piece.offset as usize);
        self.chunks.extend_from_slice(&piece.data);
        if self.chunks.len() < piece.encoded_size as usize {
            return vec![];
        }
        let data = Bytes::from(std::mem::take(&mut self.chunks));
        let base = Digest::try_from(&piece.base[..]).ok().map(|base| self.bodies[&base].clone());
        let body = body::decode(piece.encoding, &data, piece.size as usize, base.as_deref()).unwrap();
        let digest = Digest::of(&body);
        assert_eq!(digest.as_bytes(), &piece.digest[..]);
        self.bodies.insert(digest, body);
        self.wanted.remove(&digest);
        if self.wanted.is_empty() { self.complete() } else { vec![] }
    }

    fn complete(&mut self) -> Vec<agent_message::Message> {
        let state = self.pending.take().unwrap();
        let ack = v1::Ack {
            level: v1::ack::Level::Received.into(),
            root_digest: digest_bytes(Some(state.digest())),
            generation: state.generation.0,
            ..Default::default()
        };
        self.current = Some(state);
        vec![agent_message::Message::Ack(ack)]
    }
}

/// Carries messages to and fro until nobody has anything to say, or `budget` messages of the hub are used up.
fn talk(
    machine: &mut Machine,
    agent: &mut Agent,
    next: &mut u64,
    mut budget: usize,
) -> Result<(), ProtocolError> {
    let bodies = EncodedBodies::default();
    loop {
        if machine.wants_generation().is_some() {
            *next = (*next).max(agent.hello().generation.0) + 1;
            machine.take_generation(Generation(*next), 0);
        }
        if budget == 0 {
            return Ok(());
        }
        budget -= 1;
        let Some(message) = machine.next(|body| bodies.encode(body)) else { return Ok(()) };
        agent.wire += message.encoded_len();
        for answer in agent.receive(message) {
            let answer = v1::AgentMessage { message: Some(answer) };
            agent.wire += answer.encoded_len();
            machine.receive(answer, 0, 0)?;
        }
    }
}

fn connect(agent: &Agent, recent: Vec<Published>) -> Machine {
    Machine::new(agent.hello(), v1::Welcome::default(), recent, false)
}

fn assert_has(agent: &Agent, state: &Published) {
    let current = agent.current.as_ref().expect("the agent has a state");
    assert_eq!(current.digest(), state.state.digest());
    for entry in state.state.all_present().flat_map(|unit| &unit.objects) {
        assert_eq!(&agent.bodies[&entry.digest], state.bodies.get(&entry.digest).unwrap().body());
    }
}

#[test]
fn equal_digests_cost_the_welcome_and_an_unpublished_state_is_no_state() {
    let state = one_unit(1, &[config("a", "1")]);
    let mut agent = Agent { current: Some((*state.state).clone()), ..Agent::default() };
    let mut machine = connect(&agent, vec![]);
    machine.publish(state, 0);
    let mut next = 1;
    let messages = std::iter::from_fn(|| machine.next(|_| unreachable!())).count();
    assert_eq!(messages, 1, "Welcome and nothing else");

    let mut silent = connect(&agent, vec![]);
    talk(&mut silent, &mut agent, &mut next, 100).unwrap();
    assert!(agent.current.is_some());
}

#[test]
fn a_one_line_change_is_small_on_the_wire_in_a_large_object_too() {
    let lines = |changed: usize| {
        (0..7_500usize)
            .map(|n| {
                if n == changed { "changed\n".into() } else { format!("{}\n", Digest::of(&n.to_be_bytes())) }
            })
            .collect::<String>()
    };
    let mut objects: Vec<Object> = (0..200).map(|n| config(&format!("c{n}"), "same")).collect();
    for (name, before, after) in
        [("small", "replicas: 1".into(), "replicas: 2".into()), ("large", lines(1), lines(4_000))]
    {
        objects.push(config(name, &before));
        let first = one_unit(1, &objects);
        objects.pop();
        objects.push(config(name, &after));
        let second = one_unit(2, &objects);
        let mut agent = Agent::default();
        let mut machine = connect(&agent, vec![]);
        let mut next = 2;
        machine.publish(first, 0);
        talk(&mut machine, &mut agent, &mut next, 10_000).unwrap();
        let whole = std::mem::take(&mut agent.wire);
        machine.publish(second.clone(), 0);
        talk(&mut machine, &mut agent, &mut next, 100).unwrap();
        assert_has(&agent, &second);
        assert!(agent.wire < 1_000, "{name}: {} bytes after {whole}", agent.wire);
    }
}

#[test]
fn a_unit_of_very_many_objects_comes_in_several_messages() {
    let objects: Vec<Object> =
        (0..20_000).map(|n| config(&format!("configuration-number-{n}"), "x")).collect();
    let state = one_unit(1, &objects);
    let mut agent = Agent::default();
    let mut machine = connect(&agent, vec![]);
    machine.publish(state.clone(), 0);
    talk(&mut machine, &mut agent, &mut 1, 100_000).unwrap();
    assert_has(&agent, &state);
}

#[test]
fn while_one_state_is_on_its_way_only_the_newest_other_waits() {
    let states: Vec<Published> = (1..=5).map(|n| one_unit(n, &[config("a", &n.to_string())])).collect();
    let mut agent = Agent::default();
    let mut machine = connect(&agent, vec![]);
    machine.publish(states[0].clone(), 0);
    talk(&mut machine, &mut agent, &mut 1, 2).unwrap();
    for state in &states[1..] {
        machine.publish(state.clone(), 0);
    }
    let mut sent = Vec::new();
    let bodies = EncodedBodies::default();
    while let Some(message) = machine.next(|body| bodies.encode(body)) {
        if let Some(hub_message::Message::Manifest(manifest)) = &message.message {
            sent.push(manifest.generation);
        }
        for answer in agent.receive(message) {
            machine.receive(v1::AgentMessage { message: Some(answer) }, 0, 0).unwrap();
        }
    }
    assert_eq!(sent, [5]);
    assert_has(&agent, &states[4]);
}

#[test]
fn an_agent_ahead_of_a_restored_hub_is_sent_a_higher_generation() {
    let old = one_unit(900, &[config("a", "1")]);
    let new = one_unit(3, &[config("a", "2")]);
    let mut agent = Agent { current: Some((*old.state).clone()), ..Agent::default() };
    let mut machine = connect(&agent, vec![]);
    machine.publish(new.clone(), 0);
    talk(&mut machine, &mut agent, &mut 3, 100).unwrap();
    assert_has(&agent, &new);
    assert_eq!(agent.hello().generation, Generation(901));
    // The next one, published with a number from before that, is raised too.
    let newer = one_unit(4, &[config("a", "3")]);
    machine.publish(newer.clone(), 0);
    talk(&mut machine, &mut agent, &mut 901, 100).unwrap();
    assert_has(&agent, &newer);
}

#[test]
fn a_refused_state_is_not_sent_again_at_once_and_a_stalled_one_gives_way() {
    let (first, second) = (one_unit(1, &[config("a", "1")]), one_unit(2, &[config("a", "2")]));
    let manifests = |machine: &mut Machine| {
        let messages = std::iter::from_fn(|| machine.next(|_| unreachable!()));
        messages.filter(|m| matches!(m.message, Some(hub_message::Message::Manifest(_)))).count()
    };
    let refuse = |state: &Published, generation| v1::AgentMessage {
        message: Some(agent_message::Message::Ack(v1::Ack {
            level: v1::ack::Level::Refused.into(),
            root_digest: digest_bytes(Some(state.state.digest())),
            generation,
            message: "the disk is full".into(),
            in_memory: false,
        })),
    };
    let mut machine = connect(&Agent::default(), vec![]);
    machine.publish(first.clone(), 0);
    assert_eq!(manifests(&mut machine), 1);
    machine.receive(refuse(&first, 0), 1, 0).unwrap();
    machine.tick(100);
    assert_eq!(manifests(&mut machine), 0);
    machine.tick(400);
    assert_eq!(manifests(&mut machine), 1, "the disk may have room now");
    machine.publish(second.clone(), 401);
    machine.tick(430);
    assert_eq!(manifests(&mut machine), 0, "the first may still arrive");
    machine.tick(470);
    assert_eq!(manifests(&mut machine), 1);
    // It had taken a higher generation than it said: the same state goes out above that.
    machine.receive(refuse(&second, 50), 471, 0).unwrap();
    assert_eq!(machine.wants_generation(), Some(Generation(50)));
    machine.take_generation(Generation(51), 471);
    assert_eq!(manifests(&mut machine), 1);
    // A generation that cannot be reached is not asked for again and again.
    machine.receive(refuse(&second, u64::MAX), 472, 0).unwrap();
    machine.take_generation(Generation(52), 472);
    assert_eq!((manifests(&mut machine), machine.wants_generation()), (0, None));
}

#[test]
fn an_agent_that_lost_its_base_gets_everything_and_one_that_never_can_is_let_go() {
    let (first, second) = (one_unit(1, &[config("a", "1")]), one_unit(2, &[config("a", "2")]));
    let mut agent = Agent { current: Some((*first.state).clone()), ..Agent::default() };
    let mut machine = connect(&agent, vec![first]);
    machine.publish(second.clone(), 0);
    let want = || v1::AgentMessage {
        message: Some(agent_message::Message::WantManifest(v1::WantManifest {
            root_digest: digest_bytes(Some(second.state.digest())),
        })),
    };
    let delta = std::iter::from_fn(|| machine.next(|_| unreachable!())).count();
    assert_eq!(delta, 2, "Welcome and the delta");
    machine.receive(want(), 0, 0).unwrap();
    talk(&mut machine, &mut agent, &mut 2, 100).unwrap();
    assert_has(&agent, &second);
    let failed = (0..10).map(|_| machine.receive(want(), 0, 0)).find(Result::is_err);
    assert!(matches!(failed, Some(Err(ProtocolError::CannotTake(_)))));
}

#[test]
fn bodies_of_other_states_are_gone_and_nonsense_is_refused() {
    let mut machine = connect(&Agent::default(), vec![]);
    machine.publish(one_unit(1, &[config("a", "1")]), 0);
    while machine.next(|_| unreachable!()).is_some() {}
    let foreign = config("secret", "of another cluster").digest();
    let send =
        |machine: &mut Machine, message| machine.receive(v1::AgentMessage { message: Some(message) }, 0, 0);
    let need = v1::NeedBody { digest: digest_bytes(Some(foreign)), base: Bytes::new() };
    send(&mut machine, agent_message::Message::Need(v1::Need { bodies: vec![need.clone()] })).unwrap();
    let answer = machine.next(|_| unreachable!()).unwrap();
    assert!(matches!(answer.message, Some(hub_message::Message::Body(v1::Body { gone: true, .. }))));

    for (message, reason) in [
        (agent_message::Message::Hello(v1::Hello::default()), "Hello came twice"),
        (agent_message::Message::Need(v1::Need { bodies: vec![v1::NeedBody::default()] }), "need.digest"),
        (agent_message::Message::Need(v1::Need { bodies: vec![need; 100_001] }), "bodies at once"),
        (agent_message::Message::Ack(v1::Ack::default()), "ack.level"),
        (agent_message::Message::Answer(v1::Answer { request: 1, ..Default::default() }), "answer.outcome"),
        (
            agent_message::Message::Units(v1::Units {
                units: vec![v1::HaveUnit {
                    id: "root".into(),
                    removal: Some(v1::Removal::default()),
                    ..Default::default()
                }],
            }),
            "removal.policy",
        ),
        (
            agent_message::Message::Units(v1::Units {
                units: vec![v1::HaveUnit { id: "x".into(), ..Default::default() }],
            }),
            "units.id",
        ),
    ] {
        let error = send(&mut machine, message).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    // What a newer agent says is passed over.
    assert_eq!(machine.receive(v1::AgentMessage { message: None }, 0, 0), Ok(None));
    let report = v1::Report {
        units: vec![
            v1::UnitReport { unit: "root".into(), phase: "Dancing".into(), ..Default::default() },
            v1::UnitReport { unit: "root".into(), phase: "Ready".into(), ..Default::default() },
        ],
        ..Default::default()
    };
    match send(&mut machine, agent_message::Message::Report(report)).unwrap() {
        Some(Fact::Report(fact)) => assert_eq!((fact.units.len(), fact.invalid.is_some()), (1, true)),
        other => panic!("{other:?}"),
    }
}

/// Versions of objects by number, `wait`, and whether the list is reversed.
type Objects = (BTreeMap<u8, u8>, bool, bool);

/// A small fleet of states: some objects in some units, held, removed or present.
fn states() -> impl Strategy<Value = Vec<Published>> {
    let unit = prop_oneof![
        8 => prop::collection::btree_map(0u8..12, 0u8..3, 0..12)
            .prop_flat_map(|objects| (Just(objects), any::<bool>(), any::<bool>()))
            .prop_map(Some),
        1 => Just(None),
    ];
    let state = prop::collection::btree_map(0u8..4, (unit, 0u8..3), 0..4);
    prop::collection::vec(state, 1..8).prop_map(|states| {
        let build = |(number, units): (usize, BTreeMap<u8, _>)| {
            let mut all = Vec::new();
            let units = units.into_iter().map(|(name, (unit, kind)): (u8, (Option<Objects>, u8))| {
                let name = format!("u{name}");
                match unit {
                    Some((objects, wait, reversed)) => {
                        let mut objects: Vec<Object> = objects
                            .into_iter()
                            .map(|(o, v)| {
                                config(&format!("{name}-{o}"), &"x".repeat(200 * usize::from(v) + 1))
                            })
                            .collect();
                        if reversed {
                            objects.reverse();
                        }
                        all.extend(objects.iter().cloned());
                        present(&name, UnitSpec { wait, ..UnitSpec::default() }, &objects)
                    }
                    None if kind == 0 => (id(&name), UnitEntry::Hold("broken".into())),
                    None => {
                        let removal = flotilla_core::desired::Removal {
                            policy: DeletionPolicy::Delete,
                            prune: kind == 1,
                            suspended: kind == 2,
                            moved: kind == 1,
                        };
                        (id(&name), UnitEntry::Removed(removal))
                    }
                }
            });
            let units = units.collect();
            published(number as u64 + 1, units, &all)
        };
        states.into_iter().enumerate().map(build).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever is published, wherever the connection is lost, and whether the hub remembers what it sent or was
    /// restarted: the agent never assembles anything but what was published, and ends with the newest.
    #[test]
    fn the_agent_ends_with_the_newest_state(
        states in states(),
        cuts in prop::collection::vec((0usize..12, any::<bool>(), any::<bool>()), 8),
    ) {
        let mut agent = Agent::default();
        let mut machine = connect(&agent, vec![]);
        let mut next = 100;
        for (state, (budget, cut, forget)) in states.iter().zip(cuts) {
            machine.publish(state.clone(), 0);
            talk(&mut machine, &mut agent, &mut next, budget).unwrap();
            if cut {
                agent.disconnect();
                let recent = machine.into_recent();
                machine = connect(&agent, if forget { vec![] } else { recent });
            }
        }
        let newest = states.last().unwrap();
        machine.publish(newest.clone(), 0);
        talk(&mut machine, &mut agent, &mut next, 10_000).unwrap();
        assert_has(&agent, newest);
        prop_assert!(!machine.has_output());
        prop_assert!(machine.into_recent().len() <= super::machine::KEEP_STATES);
    }
}
