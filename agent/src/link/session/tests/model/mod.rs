//! A model of the hub, and an agent that talks to it.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use flotilla_core::Object;
use flotilla_proto::body::{Encoded, gone};

use super::*;

/// Contents in memory.
#[derive(Default)]
pub(super) struct Pack(pub(super) RefCell<HashMap<Digest, Bytes>>);

impl Contents for Pack {
    fn has(&self, digest: Digest) -> bool {
        self.0.borrow().contains_key(&digest)
    }

    fn body(&self, digest: Digest) -> Option<Bytes> {
        self.0.borrow().get(&digest).cloned()
    }
}

/// The agent: a session, what its disk has, what its engine was given.
pub(super) struct Agent {
    pub(super) session: Session,
    pub(super) pack: Pack,
    pub(super) running: Option<Arc<DesiredState>>,
    pub(super) effects: Vec<Effect>,
}

impl Agent {
    pub(super) fn new() -> Self {
        Self {
            session: Session::new(info(), None),
            pack: Pack::default(),
            running: None,
            effects: Vec::new(),
        }
    }

    /// A new stream, and everything that waited is lost.
    pub(super) fn reconnect(&mut self) {
        self.session = Session::new(info(), self.running.clone());
    }

    pub(super) fn receive(&mut self, message: In) -> Result<(), ProtocolError> {
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

    pub(super) fn sent(&mut self) -> Vec<Out> {
        std::iter::from_fn(|| self.session.next()).filter_map(|message| message.message).collect()
    }
}

pub(super) fn info() -> AgentInfo {
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
pub(super) struct Hub {
    pub(super) states: Vec<Arc<DesiredState>>,
    pub(super) objects: HashMap<Digest, Object>,
    /// What the agent was last heard to have.
    pub(super) agent: Option<Digest>,
}

impl Hub {
    pub(super) fn publish(&mut self, units: &[(&str, &[&str])]) {
        let generation = self.states.len() as u64 + 1;
        self.states.push(Arc::new(state(generation, units)));
        for text in units.iter().flat_map(|(_, objects)| *objects) {
            let object = object(text);
            self.objects.insert(object.digest(), object);
        }
    }

    pub(super) fn newest(&self) -> Arc<DesiredState> {
        self.states.last().unwrap().clone()
    }

    /// The newest state in messages of one unit each, against what the agent has if that is known.
    pub(super) fn manifest(&self) -> Vec<In> {
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

    pub(super) fn take(&mut self, message: Out) -> Vec<In> {
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

    pub(super) fn bodies(&self, wanted: &v1::NeedBody) -> Vec<v1::Body> {
        let digest = Digest::try_from(&wanted.digest[..]).unwrap();
        let Some(object) = self.objects.get(&digest) else { return vec![gone(digest)] };
        let base = Digest::try_from(&wanted.base[..]).ok().and_then(|base| self.objects.get(&base));
        let encoded = Encoded::of(object.body(), base.map(|base| (base.digest(), &base.body()[..])));
        split(encoded.pieces(digest))
    }
}

/// Smaller pieces than a real hub would make.
pub(super) fn split(pieces: Vec<v1::Body>) -> Vec<v1::Body> {
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
pub(super) fn converse(agent: &mut Agent, hub: &mut Hub) {
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

pub(super) fn welcome() -> v1::Welcome {
    let protocol = Some(v1::Protocol { minor: PROTOCOL_MINOR });
    v1::Welcome { protocol, ..v1::Welcome::default() }
}
