//! The session against a model of the hub that loses, repeats, reorders and lies.

use super::*;
use std::cell::RefCell;
use std::collections::HashMap;

use crate::link::testing::{object, state};
use flotilla_core::Object;
use flotilla_core::adopt::Origin;
use flotilla_core::answer::{AdoptAction, Rehearsal};
use flotilla_proto::body::{Encoded, gone};
use proptest::prelude::*;

/// Contents in memory.
#[derive(Default)]
struct Pack(RefCell<HashMap<Digest, Bytes>>);

impl Contents for Pack {
    fn has(&self, digest: Digest) -> bool {
        self.0.borrow().contains_key(&digest)
    }

    fn body(&self, digest: Digest) -> Option<Bytes> {
        self.0.borrow().get(&digest).cloned()
    }
}

/// The agent: a session, what its disk has, what its engine was given.
struct Agent {
    session: Session,
    pack: Pack,
    running: Option<Arc<DesiredState>>,
    effects: Vec<Effect>,
}

impl Agent {
    fn new() -> Self {
        Self {
            session: Session::new(info(), None),
            pack: Pack::default(),
            running: None,
            effects: Vec::new(),
        }
    }

    /// A new stream, and everything that waited is lost.
    fn reconnect(&mut self) {
        self.session = Session::new(info(), self.running.clone());
    }

    fn receive(&mut self, message: In) -> Result<(), ProtocolError> {
        let message = v1::HubMessage { message: Some(message) };
        for effect in self.session.receive(message, &self.pack)? {
            match effect {
                Effect::Keep(digest, body) => {
                    assert_eq!(Digest::of(&body), digest);
                    self.pack.0.borrow_mut().insert(digest, body);
                }
                Effect::Save(state) => {
                    for entry in state.all_present().flat_map(|unit| &unit.objects) {
                        assert!(self.pack.has(entry.digest), "a state is given only when all of it is here");
                    }
                    let old = self.running.as_ref().map_or(0, |state| state.generation.0);
                    assert!(state.generation.0 >= old, "no generation goes back");
                    self.session.saved(&state, None);
                    self.running = Some(state);
                }
                other => self.effects.push(other),
            }
        }
        Ok(())
    }

    fn sent(&mut self) -> Vec<Out> {
        std::iter::from_fn(|| self.session.next()).filter_map(|message| message.message).collect()
    }
}

fn info() -> AgentInfo {
    AgentInfo {
        cluster: "staging".parse().unwrap(),
        cluster_uid: "uid".into(),
        agent_version: "0",
        kubernetes_version: "v1".into(),
        instance: "this".into(),
    }
}

/// The hub: published states, the newest last, with the objects of all.
#[derive(Default)]
struct Hub {
    states: Vec<Arc<DesiredState>>,
    objects: HashMap<Digest, Object>,
    /// What the agent was last heard to have.
    agent: Option<Digest>,
}

impl Hub {
    fn publish(&mut self, units: &[(&str, &[&str])]) {
        let generation = self.states.len() as u64 + 1;
        self.states.push(Arc::new(state(generation, units)));
        for text in units.iter().flat_map(|(_, objects)| *objects) {
            let object = object(text);
            self.objects.insert(object.digest(), object);
        }
    }

    fn newest(&self) -> Arc<DesiredState> {
        self.states.last().unwrap().clone()
    }

    /// The newest state in messages of one unit each, against what the agent has if that is known.
    fn manifest(&self) -> Vec<In> {
        let state = self.newest();
        let mut manifest = manifest::whole(&state);
        let base = self.states.iter().find(|state| Some(state.digest()) == self.agent);
        if let Some(base) = base {
            let changes = state.changes_since(base);
            let changed: HashSet<String> = changes.changed.iter().map(|(id, _)| id.to_string()).collect();
            manifest.base_root_digest = digest_bytes(Some(base.digest()));
            manifest.unnamed = changes.unnamed.iter().map(ToString::to_string).collect();
            manifest.units.retain(|unit| changed.contains(&unit.id));
        }
        let head = v1::Manifest { units: Vec::new(), unnamed: Vec::new(), last: false, ..manifest.clone() };
        let mut messages: Vec<v1::Manifest> =
            manifest.units.drain(..).map(|unit| v1::Manifest { units: vec![unit], ..head.clone() }).collect();
        messages.push(manifest);
        messages.into_iter().map(In::Manifest).collect()
    }

    fn take(&mut self, message: Out) -> Vec<In> {
        match message {
            Out::Hello(hello) => {
                self.agent = Digest::try_from(&hello.root_digest[..]).ok();
                let mut answers = vec![In::Welcome(welcome())];
                if !self.states.is_empty() && self.agent != Some(self.newest().digest()) {
                    answers.extend(self.manifest());
                }
                answers
            }
            Out::Need(need) => {
                need.bodies.iter().flat_map(|wanted| self.bodies(wanted)).map(In::Body).collect()
            }
            Out::WantManifest(_) => {
                self.agent = None;
                self.manifest()
            }
            Out::Ack(ack) if ack.level() == Level::Received => {
                self.agent = Digest::try_from(&ack.root_digest[..]).ok();
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn bodies(&self, wanted: &v1::NeedBody) -> Vec<v1::Body> {
        let digest = Digest::try_from(&wanted.digest[..]).unwrap();
        let Some(object) = self.objects.get(&digest) else { return vec![gone(digest)] };
        let base = Digest::try_from(&wanted.base[..]).ok().and_then(|base| self.objects.get(&base));
        let encoded = Encoded::of(object.body(), base.map(|base| (base.digest(), &base.body()[..])));
        split(encoded.pieces(digest))
    }
}

/// Smaller pieces than a real hub would make.
fn split(pieces: Vec<v1::Body>) -> Vec<v1::Body> {
    let small = |piece: v1::Body| {
        let starts = (0..piece.data.len().max(1)).step_by(200);
        let cut = |start: usize| v1::Body {
            offset: piece.offset + start as u32,
            data: piece.data.slice(start..piece.data.len().min(start + 200)),
            ..piece.clone()
        };
        starts.map(cut).collect::<Vec<_>>()
    };
    pieces.into_iter().flat_map(small).collect()
}

/// Lets both talk until nobody has anything to say.
fn converse(agent: &mut Agent, hub: &mut Hub) {
    loop {
        let sent = agent.sent();
        if sent.is_empty() {
            return;
        }
        for message in sent.into_iter().flat_map(|message| hub.take(message)).collect::<Vec<_>>() {
            agent.receive(message).unwrap();
        }
    }
}

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

fn welcome() -> v1::Welcome {
    let protocol = Some(v1::Protocol { minor: PROTOCOL_MINOR });
    v1::Welcome { protocol, ..v1::Welcome::default() }
}

/// What happens to the traffic.
#[derive(Debug, Clone)]
enum Step {
    /// Publishes a state of these objects in two units.
    Publish(Vec<u8>, Vec<u8>),
    /// The hub sends its newest state without being asked.
    Push,
    /// Delivers so many of the messages under way, in an order given by the seed, some twice.
    Deliver(usize, u64),
    /// Drops everything under way, and the stream with it.
    Break,
    /// The agent's disk loses a body.
    Lose(u8),
    Minute,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let objects = || proptest::collection::vec(0_u8..8, 0..5);
    let step = prop_oneof![
        3 => (objects(), objects()).prop_map(|(a, b)| Step::Publish(a, b)),
        2 => Just(Step::Push),
        6 => (1_usize..12, any::<u64>()).prop_map(|(n, seed)| Step::Deliver(n, seed)),
        1 => Just(Step::Break),
        1 => (0_u8..8).prop_map(Step::Lose),
        1 => Just(Step::Minute),
    ];
    proptest::collection::vec(step, 1..40)
}

fn names(objects: &[u8], version: usize) -> Vec<String> {
    let unique: std::collections::BTreeSet<u8> = objects.iter().copied().collect();
    unique.into_iter().map(|n| if n < 4 { format!("o{n}") } else { format!("o{n}=v{version}") }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever happens on the way, the agent runs a published state or none, never goes back, and once both can
    /// talk it runs the newest.
    #[test]
    fn it_always_ends_with_the_published_state(steps in steps()) {
        let (mut agent, mut hub) = (Agent::new(), Hub::default());
        hub.publish(&[("root", &["a"])]);
        let mut way: Vec<In> = Vec::new();
        for step in steps {
            match step {
                Step::Publish(a, b) => {
                    let version = hub.states.len();
                    let (a, b) = (names(&a, version), names(&b, version));
                    let (a, b): (Vec<&str>, Vec<&str>) =
                        (a.iter().map(String::as_str).collect(), b.iter().map(String::as_str).collect());
                    hub.publish(&[("root", &a), ("kustomization/x/y", &b), ("kustomization/x/held", &[])]);
                }
                Step::Push => way.extend(hub.manifest()),
                Step::Deliver(count, seed) => {
                    for n in 0..count as u64 {
                        if way.is_empty() {
                            break;
                        }
                        // Bodies may overtake; manifests keep their order, as on a stream.
                        let bodies: Vec<usize> = (0..way.len()).filter(|at| matches!(way[*at], In::Body(_))).collect();
                        let draw = (seed.rotate_left(n as u32 * 7) % 1_000) as usize;
                        let at = if bodies.is_empty() || draw.is_multiple_of(3) { 0 } else { bodies[draw % bodies.len()] };
                        let message = way.remove(at);
                        if draw.is_multiple_of(5) {
                            way.push(message.clone());
                        }
                        if agent.receive(message).is_err() {
                            way.clear();
                            agent.reconnect();
                        }
                        let sent = agent.sent();
                        way.extend(sent.into_iter().flat_map(|message| hub.take(message)).collect::<Vec<_>>());
                    }
                }
                Step::Break => {
                    way.clear();
                    agent.reconnect();
                }
                Step::Lose(n) => {
                    let digest = object(&format!("o{n}")).digest();
                    agent.pack.0.borrow_mut().remove(&digest);
                    // Told by whoever read it.
                    agent.session.repair(&agent.pack);
                }
                Step::Minute => agent.session.minute(),
            }
            if let Some(running) = &agent.running {
                prop_assert!(hub.states.iter().any(|state| state == running), "only what was published");
            }
        }
        agent.reconnect();
        converse(&mut agent, &mut hub);
        // The same content under a new generation is nothing to send.
        let newest = hub.newest();
        prop_assert_eq!(agent.running.as_ref().map(|state| state.digest()), Some(newest.digest()));
        let missing = newest.all_present().flat_map(|unit| &unit.objects).find(|entry| !agent.pack.has(entry.digest));
        prop_assert!(missing.is_none(), "all of it is here");
    }
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
