//! One session with one agent, as a state machine: messages and published states in, messages and facts out. No
//! I/O, no clock; time is seconds of any steady clock.
//!
//! ```text
//!            publish(state)                           next(): control, then bodies
//!                 ▼                                      ▲
//!   ┌─ agreed ─ differs ─ base unknown? WantUnits ─ send manifest ─ in flight ─┐
//!   └──────────────◄── Ack received ──── Need → Body … ◄───────────────────────┘
//! ```
//! One manifest is in flight at a time; what is published meanwhile waits, and only the newest is sent then.

mod receive;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use flotilla_core::capability::QUESTIONS;
use flotilla_core::question::Question;
use flotilla_core::{Capabilities, Digest, Generation, UnitId, UnitManifest};
use flotilla_proto::body::{self, Encoded};
use flotilla_proto::convert::Invalid;
use flotilla_proto::question;
use flotilla_proto::v1::{self, hub_message, request};

use super::delta::{self, Base};
pub(crate) use super::facts::{AckFact, Fact, HaveUnit, ReportFact};
use crate::desired::Published;

/// How many earlier states are kept as bases for deltas and bodies.
pub(crate) const KEEP_STATES: usize = 4;
/// More requests for bodies than this waiting at once is no agent of ours.
const MAX_NEEDS: usize = 100_000;
/// A manifest in flight without any sign of the agent working on it for so long is given up for a newer one.
const STALLED_SECONDS: u64 = 60;
/// Messages that wait for the agent to read them before requests wait elsewhere.
const MAX_CONTROL: usize = 64;
/// How often in a row an agent may fail to build a state before the session ends.
const MAX_FAILURES: u32 = 5;
/// A state that the agent refused is sent again after this time: its disk may have been full.
const RETRY_SECONDS: u64 = 300;

/// A message that ends the session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProtocolError {
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error("Hello came twice")]
    SecondHello,
    #[error("the agent asks for more than {MAX_NEEDS} bodies at once")]
    TooManyNeeds,
    #[error("the agent failed {MAX_FAILURES} times to take the desired state {0}")]
    CannotTake(String),
}

/// What the hub knows of an agent from its Hello.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AgentState {
    pub root: Option<Digest>,
    pub generation: Generation,
    /// What it can do.
    pub capabilities: Capabilities,
}

#[derive(Debug)]
struct InFlight {
    digest: Digest,
    generation: Generation,
    since: u64,
}

#[derive(Debug)]
struct Refused {
    digest: Digest,
    since: u64,
}

#[derive(Debug)]
pub(crate) struct Machine {
    agent: AgentState,
    target: Option<Published>,
    /// States that the agent was sent or has, oldest first.
    recent: VecDeque<Published>,
    in_flight: Option<InFlight>,
    /// The agent's units by digest, once it said.
    have: Option<BTreeMap<UnitId, Digest>>,
    asked_units: bool,
    /// The next manifest leaves nothing out.
    whole: bool,
    /// The agent did not take this state; it is not sent again before its time.
    refused: Option<Refused>,
    failures: u32,
    /// A generation taken for this session, because that of the published state is not high enough.
    fresh: Option<Generation>,
    wants_generation: bool,
    control: VecDeque<hub_message::Message>,
    pieces: VecDeque<v1::Body>,
    needs: VecDeque<(Digest, Option<Digest>)>,
    next_request: u64,
    /// What the agent was asked about its cluster.
    questions: Arc<BTreeSet<Question>>,
}

impl Machine {
    /// After the Hello. `recent` are states that earlier sessions sent; `ask_units`: the hub does not know what
    /// this agent has and wants to hear it in any case.
    pub(crate) fn new(
        agent: AgentState,
        welcome: v1::Welcome,
        recent: Vec<Published>,
        ask_units: bool,
    ) -> Self {
        let mut machine = Self {
            agent,
            target: None,
            recent: recent.into(),
            in_flight: None,
            have: None,
            asked_units: false,
            whole: false,
            refused: None,
            failures: 0,
            fresh: None,
            wants_generation: false,
            control: VecDeque::from([hub_message::Message::Welcome(welcome)]),
            pieces: VecDeque::new(),
            needs: VecDeque::new(),
            next_request: 1,
            questions: Arc::default(),
        };
        if ask_units {
            machine.ask_units();
        }
        machine
    }

    /// The state that the cluster should run; `now` in seconds.
    pub(crate) fn publish(&mut self, state: Published, now: u64) {
        self.target = Some(state);
        self.fresh = None;
        self.advance(now);
    }

    /// Whether a generation higher than the agent's is wanted, for [`Machine::take_generation`].
    pub(crate) fn wants_generation(&self) -> Option<Generation> {
        self.wants_generation.then_some(self.agent.generation)
    }

    pub(crate) fn take_generation(&mut self, generation: Generation, now: u64) {
        self.wants_generation = false;
        if generation > self.agent.generation {
            self.fresh = Some(generation);
            self.advance(now);
        } else {
            // The agent is further ahead than the hub may follow: it would refuse whatever comes.
            let digest = self.target.as_ref().map(|target| target.state.digest());
            self.refused = digest.map(|digest| Refused { digest, since: now });
        }
    }

    pub(crate) fn push_trust(&mut self, trust: v1::Trust) {
        self.control.retain(|message| !matches!(message, hub_message::Message::Trust(_)));
        self.control.push_back(hub_message::Message::Trust(trust));
    }

    /// Asks the agent about its cluster: all of this, and nothing that was asked before. `have` is the digest of the reply
    /// that is known. Who cannot answer is asked nothing.
    pub(crate) fn ask(
        &mut self,
        questions: Arc<BTreeSet<Question>>,
        have: impl Fn(&Question) -> Option<Digest>,
    ) {
        if !self.agent.capabilities.has(QUESTIONS) || self.questions.is_empty() && questions.is_empty() {
            return;
        }
        let asked = questions.iter().map(|asked| question::question(asked, have(asked))).collect();
        self.questions = questions;
        self.control.retain(|message| !matches!(message, hub_message::Message::Questions(_)));
        self.control.push_back(hub_message::Message::Questions(v1::Questions { questions: asked }));
    }

    /// Whether there is room for another request.
    pub(crate) fn takes_requests(&self) -> bool {
        self.control.len() < MAX_CONTROL
    }

    /// Queues a request; its answer is a [`Fact::Answer`] with the same number.
    pub(crate) fn push_request(&mut self, kind: request::Kind) -> u64 {
        let id = self.next_request;
        self.next_request += 1;
        self.control.push_back(hub_message::Message::Request(v1::Request { id, kind: Some(kind) }));
        id
    }

    /// Gives up a manifest that nothing came of, if there is a newer one to send; tries a refused one again.
    pub(crate) fn tick(&mut self, now: u64) {
        let newer = |digest| self.target.as_ref().is_some_and(|target| target.state.digest() != digest);
        if let Some(flight) = &self.in_flight
            && now.saturating_sub(flight.since) >= STALLED_SECONDS
            && newer(flight.digest)
        {
            self.in_flight = None;
        }
        self.refused.take_if(|refused| now.saturating_sub(refused.since) >= RETRY_SECONDS);
        self.advance(now);
    }

    /// States to keep for the agent's next session.
    pub(crate) fn into_recent(self) -> Vec<Published> {
        self.recent.into()
    }

    /// Whether [`Machine::next`] has something.
    pub(crate) fn has_output(&self) -> bool {
        !self.control.is_empty() || !self.pieces.is_empty() || !self.needs.is_empty()
    }

    /// The next message to send. `encode` compresses a body, against a base if there is one.
    pub(crate) fn next(&mut self, encode: impl FnOnce(&Body<'_>) -> Arc<Encoded>) -> Option<v1::HubMessage> {
        if let Some(message) = self.control.pop_front() {
            return Some(v1::HubMessage { message: Some(message) });
        }
        if self.pieces.is_empty() {
            let (digest, base) = self.needs.pop_front()?;
            match self.body(digest) {
                Some(content) => {
                    let base = base.and_then(|base| Some((base, self.body(base)?)));
                    let encoded = encode(&Body { digest, content, base });
                    self.pieces = encoded.pieces(digest).into();
                }
                None => self.pieces.push_back(body::gone(digest)),
            }
        }
        let piece = self.pieces.pop_front()?;
        Some(v1::HubMessage { message: Some(hub_message::Message::Body(piece)) })
    }

    fn ask_units(&mut self) {
        if !self.asked_units {
            self.asked_units = true;
            self.control.push_back(hub_message::Message::WantUnits(v1::WantUnits {}));
        }
    }

    /// Sends the target if the agent lacks it and nothing stands against it.
    fn advance(&mut self, now: u64) {
        let Some(target) = self.target.clone() else { return };
        let digest = target.state.digest();
        let refused = self.refused.as_ref().is_some_and(|refused| refused.digest == digest);
        if self.in_flight.is_some() || self.agent.root == Some(digest) || refused {
            return;
        }
        // Made before this agent said what it can do: it would pass over what forbids something. A state for this agent
        // comes as soon as that is taken into account.
        if !self.agent.capabilities.lacks(target.state.requires()).is_empty() {
            return;
        }
        let base_state =
            self.recent.iter().find(|held| Some(held.state.digest()) == self.agent.root).cloned();
        if !self.whole && base_state.is_none() && self.agent.root.is_some() && self.have.is_none() {
            return self.ask_units();
        }
        let mut generation = target.state.generation;
        if generation <= self.agent.generation {
            match self.fresh.filter(|fresh| *fresh > self.agent.generation) {
                Some(fresh) => generation = fresh,
                None => {
                    self.wants_generation = true;
                    return;
                }
            }
        }
        self.wants_generation = false;
        let held;
        let base = match (self.whole, &base_state, &self.have) {
            (true, ..) => Base::Nothing,
            (false, Some(state), _) => Base::State(&state.state),
            (false, None, Some(have)) => {
                held = self.held_units();
                Base::Units { have, held: &held }
            }
            (false, None, None) => Base::Nothing,
        };
        let manifests = delta::manifests(&target.state, generation, base);
        self.control.extend(manifests.into_iter().map(hub_message::Message::Manifest));
        self.in_flight = Some(InFlight { digest, generation, since: now });
        self.remember(target);
    }

    fn held_units(&self) -> HashMap<Digest, Arc<UnitManifest>> {
        let present = self.recent.iter().flat_map(|held| held.state.all_present());
        present.map(|unit| (unit.digest(), unit.clone())).collect()
    }

    fn remember(&mut self, state: Published) {
        self.recent.retain(|held| held.state.digest() != state.state.digest());
        self.recent.push_back(state);
        // The state that the agent has stays, however old.
        while self.recent.len() > KEEP_STATES {
            let old = self.recent.iter().position(|held| Some(held.state.digest()) != self.agent.root);
            let Some(old) = old else { return };
            self.recent.remove(old);
        }
    }

    /// Drops what was sent before the state that the agent now has.
    fn forget_older(&mut self, digest: Option<Digest>) {
        if let Some(at) = self.recent.iter().position(|held| Some(held.state.digest()) == digest) {
            self.recent.drain(..at);
        }
    }

    fn body(&self, digest: Digest) -> Option<&Bytes> {
        self.target.iter().chain(self.recent.iter().rev()).find_map(|held| held.bodies.bytes(&digest))
    }
}

/// A body to be encoded.
pub(crate) struct Body<'a> {
    pub digest: Digest,
    pub content: &'a Bytes,
    pub base: Option<(Digest, &'a Bytes)>,
}
