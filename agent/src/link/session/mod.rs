//! One stream with the hub, as a state machine: messages in, messages and effects out. Pure.
//!
//! ```text
//!   Hello ─► Welcome ─► (WantUnits ─► Units) ─► Manifest… ─► assembled ─► Need/Body… ─► all there ─► Save
//!              │             base lacking, digest wrong: WantManifest ◄─┘                            │ saved()
//!              └──────────── what runs stays what it is until then ─────────── Ack received ◄────────┘
//! ```

mod desired;
mod requests;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use flotilla_core::desired::Generation;
use flotilla_core::question::Question;
use flotilla_core::{Capabilities, ClusterName, DesiredState, Digest, UnitId};
use flotilla_proto::convert::{Invalid, digest_bytes};
use flotilla_proto::v1::ack::Level;
use flotilla_proto::v1::{self, agent_message::Message as Out, hub_message::Message as In};
use flotilla_proto::{PROTOCOL_MINOR, check_protocol};

use crate::link::download::{Download, DownloadError};
use crate::link::errands::Errand;
use crate::manifest::{self, Assembly, ManifestError};
use crate::sync::Has;

/// A whole manifest, or a body that is gone, may fail so often before the stream ends.
const MAX_FAILURES: u32 = 3;
/// The contents that are here.
pub(crate) trait Contents {
    fn has(&self, digest: Digest) -> bool;
    fn body(&self, digest: Digest) -> Option<Bytes>;
}

/// What the agent says of itself.
#[derive(Debug, Clone)]
pub struct AgentInfo {
    pub cluster: ClusterName,
    pub cluster_uid: String,
    pub agent_version: &'static str,
    pub kubernetes_version: String,
    /// Drawn when the process started: tells two agents with one identity apart.
    pub instance: String,
}

/// What is to be done, in this order.
#[derive(Debug, PartialEq)]
pub(crate) enum Effect {
    /// The hub asks what is here: [`Session::tell_units`].
    TellUnits,
    /// The hub is there and speaks; heartbeats are due this often.
    Welcomed {
        heartbeat_seconds: u32,
    },
    /// The time at the hub.
    Heard(i64),
    /// A body that was lacking, checked.
    Keep(Digest, Bytes),
    /// All of this state is here: make it durable, let the engine have it, then call [`Session::saved`].
    Save(Arc<DesiredState>),
    /// Bodies that the disk had lost are back.
    Repaired,
    Trust(v1::Trust),
    /// All that the hub wants to know of the cluster, with the digests of the replies that it has.
    Questions(Vec<(Question, Option<Digest>)>),
    /// The hub asks for something; [`Session::answer`] takes the outcome.
    Asked(u64, Asked),
}

/// What the hub may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    Reconcile(Option<UnitId>),
    Approve(Digest),
    RemoveAll,
    RenewNow,
    Errand(Errand),
}

/// What ends the stream: the hub does not keep to the contract.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProtocolError {
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error(transparent)]
    Download(#[from] DownloadError),
    #[error("the whole desired state cannot be taken")]
    Manifest(#[source] ManifestError),
    #[error("the hub does not have the contents of its own states")]
    Gone,
}

/// The state of a stream.
#[derive(Debug)]
pub(crate) struct Session {
    info: AgentInfo,
    /// What the agent has, durable and whole.
    current: Option<Arc<DesiredState>>,
    /// A manifest whose last message has not come.
    assembly: Option<Assembly>,
    /// A manifest that came to nothing: its other messages are passed over.
    passed_over: Option<Digest>,
    /// A state some of whose bodies are lacking.
    pending: Option<Arc<DesiredState>>,
    download: Download,
    failures: u32,
    /// Why no state is taken: everything was removed from the cluster on request, or nobody can tell.
    closed: Option<String>,
    /// The newest minor version of the protocol that the hub speaks; 0 before it said so.
    hub_minor: u32,
    /// Whether anything arrived for the download since the last look.
    progress: bool,
    /// Whether a state was taken since the last look.
    taken: bool,
    out: VecDeque<v1::AgentMessage>,
}

impl Session {
    /// Begins a stream; the Hello is the first message of [`Session::next`].
    pub(crate) fn new(info: AgentInfo, current: Option<Arc<DesiredState>>) -> Self {
        let hello = v1::Hello {
            protocol: Some(v1::Protocol { minor: PROTOCOL_MINOR }),
            agent_version: info.agent_version.to_owned(),
            cluster_uid: info.cluster_uid.clone(),
            root_digest: digest_bytes(current.as_ref().map(|state| state.digest())),
            generation: current.as_ref().map_or(0, |state| state.generation.0),
            kubernetes_version: info.kubernetes_version.clone(),
            capabilities: Capabilities::ours().names().map(str::to_owned).collect(),
            instance: info.instance.clone(),
        };
        let mut session = Self {
            info,
            current,
            assembly: None,
            passed_over: None,
            pending: None,
            download: Download::default(),
            failures: 0,
            closed: None,
            hub_minor: 0,
            progress: false,
            taken: false,
            out: VecDeque::new(),
        };
        session.send(Out::Hello(hello));
        session
    }

    /// The next message to send.
    pub(crate) fn next(&mut self) -> Option<v1::AgentMessage> {
        self.out.pop_front()
    }

    /// How many messages wait to be sent.
    pub(crate) fn waiting(&self) -> usize {
        self.out.len()
    }

    /// Queues a message that is none of the session's own: reports, acknowledgements, heartbeats.
    pub(crate) fn send(&mut self, message: Out) {
        self.out.push_back(v1::AgentMessage { message: Some(message) });
    }

    /// Takes a message.
    pub(crate) fn receive(
        &mut self,
        message: v1::HubMessage,
        contents: &impl Contents,
    ) -> Result<Vec<Effect>, ProtocolError> {
        match message.message {
            Some(In::Welcome(welcome)) => {
                self.hub_minor = check_protocol(welcome.protocol.as_ref(), "hub")?;
                // What an older version of this agent did not understand: the hub says it again.
                if let Some(current) = self.current.as_ref().filter(|state| state.has_foreign()) {
                    let root_digest = digest_bytes(Some(current.digest()));
                    self.send(Out::WantManifest(v1::WantManifest { root_digest }));
                }
                self.repair(contents);
                let heartbeat_seconds = welcome.heartbeat_seconds;
                Ok(vec![Effect::Heard(welcome.now), Effect::Welcomed { heartbeat_seconds }])
            }
            Some(In::Heartbeat(heartbeat)) => Ok(vec![Effect::Heard(heartbeat.now)]),
            Some(In::WantUnits(_)) => Ok(vec![Effect::TellUnits]),
            Some(In::Manifest(manifest)) => self.take_manifest(manifest, contents),
            Some(In::Body(body)) => self.take_body(body, contents),
            Some(In::Trust(trust)) => Ok(vec![Effect::Trust(trust)]),
            Some(In::Questions(questions)) => Ok(vec![self.take_questions(questions)]),
            Some(In::Request(request)) => Ok(self.take_request(request)),
            // Of a newer hub: it knows by our Hello that we do not know it.
            None => Ok(Vec::new()),
        }
    }

    /// Says which units are here.
    pub(crate) fn tell_units(&mut self, has: &Has) {
        let units = manifest::units(self.current.as_deref(), has);
        self.send(Out::Units(units));
    }

    /// The state is durable, or held in memory only, for the reason given.
    pub(crate) fn saved(&mut self, state: &Arc<DesiredState>, held: Option<String>) {
        self.current = Some(state.clone());
        self.taken = true;
        self.received(held);
    }

    /// Whether a state was taken since the last call. It may be one under which every unit is what it was already: then
    /// the engine has nothing new to say, and still the hub waits to hear that this state is applied.
    pub(crate) fn has_taken(&mut self) -> bool {
        std::mem::take(&mut self.taken)
    }

    /// What was held in memory is durable now.
    pub(crate) fn durable(&mut self) {
        self.received(None);
    }

    fn received(&mut self, held: Option<String>) {
        let Some(state) = &self.current else { return };
        self.send(Out::Ack(v1::Ack {
            level: Level::Received.into(),
            root_digest: digest_bytes(Some(state.digest())),
            generation: state.generation.0,
            in_memory: held.is_some(),
            message: held.unwrap_or_default(),
        }));
    }

    /// A body could not be kept: what runs stays, and the hub is told.
    pub(crate) fn give_up(&mut self, message: String) {
        if let Some(pending) = self.pending.take() {
            self.ack(Level::Refused, pending.digest(), self.highest(), message);
        }
        self.download.clear();
    }

    /// What should run is forgotten, and no state is taken, for this reason.
    pub(crate) fn close(&mut self, why: impl Into<String>) {
        self.closed = Some(why.into());
        self.current = None;
        self.assembly = None;
        self.pending = None;
        self.download.clear();
    }

    /// The highest generation that was taken.
    fn highest(&self) -> Generation {
        let states = self.current.iter().chain(&self.pending);
        states.map(|state| state.generation).max().unwrap_or_default()
    }

    fn ack(&mut self, level: Level, root: Digest, generation: Generation, message: String) {
        let root_digest = digest_bytes(Some(root));
        let (level, generation) = (level.into(), generation.0);
        self.send(Out::Ack(v1::Ack { level, root_digest, generation, message, in_memory: false }));
    }
}

#[cfg(test)]
mod tests;
