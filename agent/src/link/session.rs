//! One stream with the hub, as a state machine: messages in, messages and effects out. Pure.
//!
//! ```text
//!   Hello ─► Welcome ─► (WantUnits ─► Units) ─► Manifest… ─► assembled ─► Need/Body… ─► all there ─► Save
//!              │             base lacking, digest wrong: WantManifest ◄─┘                            │ saved()
//!              └──────────── what runs stays what it is until then ─────────── Ack received ◄────────┘
//! ```

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use flotilla_core::answer::Found;
use flotilla_core::desired::Generation;
use flotilla_core::question::Question;
use flotilla_core::unit::Blob;
use flotilla_core::{Capabilities, ClusterName, DesiredState, Digest, UnitId};
use flotilla_proto::answer::{action, origin};
use flotilla_proto::convert::{Invalid, digest, digest_bytes, optional_digest, parsed};
use flotilla_proto::question::read_question;
use flotilla_proto::v1::{self, agent_message::Message as Out, hub_message::Message as In};
use flotilla_proto::v1::{Rehearse, ack::Level};
use flotilla_proto::{FOUND_MINOR, PROTOCOL_MINOR, check_protocol};

use super::download::{Arrived, Download, DownloadError};
use super::errands::Errand;
use crate::manifest::{self, Assembly, Bases, ManifestError, earlier_versions};
use crate::sync::Has;
use crate::sync::RehearsedBody;

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

    /// Answers a request.
    pub(crate) fn answer(&mut self, request: u64, outcome: v1::answer::Outcome, message: impl Into<String>) {
        let (outcome, message) = (outcome.into(), message.into());
        self.send(Out::Answer(v1::Answer { request, outcome, message, found: None }));
    }

    /// Answers a request with what was found.
    pub(crate) fn found(&mut self, request: u64, found: Found) {
        let outcome = v1::answer::Outcome::Done.into();
        let mut answer = v1::Answer { request, outcome, ..v1::Answer::default() };
        if self.hub_minor >= FOUND_MINOR {
            answer.found = Some(found.into());
        } else {
            // Its maps have text keys, so it always has a JSON text.
            answer.message = serde_json::to_string(&found).unwrap_or_default();
        }
        self.send(Out::Answer(answer));
    }

    /// Asks for the bodies of the current state that the disk lost.
    pub(crate) fn repair(&mut self, contents: &impl Contents) {
        if self.pending.is_some() || !self.download.is_empty() {
            return;
        }
        if let Some(current) = self.current.clone() {
            self.want_missing(&current, contents, None);
            self.ask();
        }
    }

    /// To be called about once a minute: asks again for bodies of which nothing came since the last call.
    pub(crate) fn minute(&mut self) {
        if !self.progress && !self.download.is_empty() {
            self.download.again();
            self.ask();
        }
        self.progress = false;
    }

    /// The highest generation that was taken.
    fn highest(&self) -> Generation {
        let states = self.current.iter().chain(&self.pending);
        states.map(|state| state.generation).max().unwrap_or_default()
    }

    fn take_manifest(
        &mut self,
        manifest: v1::Manifest,
        contents: &impl Contents,
    ) -> Result<Vec<Effect>, ProtocolError> {
        let root = digest("manifest.root_digest", &manifest.root_digest)?;
        let (last, whole) = (manifest.last, manifest.base_root_digest.is_empty());
        if let Some(why) = self.closed.clone() {
            if last {
                self.ack(Level::Refused, root, self.highest(), why);
            }
            return Ok(Vec::new());
        }
        if manifest.generation < self.highest().0 {
            if last {
                let message = format!("generation {} is lower", manifest.generation);
                self.ack(Level::Refused, root, self.highest(), message);
            }
            return Ok(Vec::new());
        }
        if self.passed_over == Some(root) {
            if last {
                self.passed_over = None;
            }
            return Ok(Vec::new());
        }
        self.passed_over = None;
        match self.assemble(root, manifest) {
            Ok(None) => Ok(Vec::new()),
            Ok(Some(state)) => Ok(self.want(Arc::new(state), contents)),
            Err(error) => {
                self.assembly = None;
                self.passed_over = (!last).then_some(root);
                self.refuse(root, whole, error).map(|()| Vec::new())
            }
        }
    }

    fn assemble(
        &mut self,
        root: Digest,
        manifest: v1::Manifest,
    ) -> Result<Option<DesiredState>, ManifestError> {
        let states: Vec<&DesiredState> =
            self.current.iter().chain(&self.pending).map(|state| &**state).collect();
        let bases = Bases(&states);
        let continues = |assembly: &Assembly| {
            assembly.root == root && assembly.generation == Generation(manifest.generation)
        };
        let mut assembly = match self.assembly.take().filter(continues) {
            Some(assembly) => assembly,
            None => Assembly::begin(&manifest, bases)?,
        };
        let last = manifest.last;
        assembly.take(manifest)?;
        if last {
            return assembly.finish(self.info.cluster.clone(), bases).map(Some);
        }
        self.assembly = Some(assembly);
        Ok(None)
    }

    /// A manifest that leads to no state: everything is asked for where that helps.
    fn refuse(&mut self, root: Digest, whole: bool, error: ManifestError) -> Result<(), ProtocolError> {
        tracing::warn!(%root, "a manifest cannot be taken: {}", flotilla_runtime::chain(&error));
        self.failures += 1;
        match error {
            ManifestError::NoBase(_) | ManifestError::OtherDigest { .. } => {
                if whole && self.failures >= MAX_FAILURES {
                    return Err(ProtocolError::Manifest(error));
                }
                self.send(Out::WantManifest(v1::WantManifest { root_digest: digest_bytes(Some(root)) }));
            }
            ManifestError::Invalid(_) | ManifestError::TooLarge => {
                self.ack(Level::Refused, root, self.highest(), flotilla_runtime::chain(&error));
            }
        }
        Ok(())
    }

    /// A newer state takes the place of one that is still being fetched.
    fn want(&mut self, state: Arc<DesiredState>, contents: &impl Contents) -> Vec<Effect> {
        self.download.clear();
        self.want_missing(&state, contents, None);
        self.pending = Some(state);
        self.ask();
        self.complete(contents, None)
    }

    fn want_missing(&mut self, state: &DesiredState, contents: &impl Contents, arriving: Option<Digest>) {
        let bodies = || state.all_present().flat_map(|unit| unit.bodies());
        let mut missing: HashSet<Digest> = bodies()
            .map(|body| body.digest)
            .filter(|digest| Some(*digest) != arriving && !contents.has(*digest))
            .collect();
        if missing.is_empty() {
            return;
        }
        let earlier = self
            .current
            .as_ref()
            .map(|current| earlier_versions(current, state, &missing))
            .unwrap_or_default();
        for Blob { digest, size } in bodies() {
            if missing.remove(&digest) {
                let base = earlier.get(&digest).copied();
                let base = base.filter(|base| *base != digest && contents.has(*base));
                self.download.want(digest, base, size);
            }
        }
    }

    fn ask(&mut self) {
        while let Some(need) = self.download.need() {
            self.send(Out::Need(need));
        }
    }

    fn take_body(&mut self, body: v1::Body, contents: &impl Contents) -> Result<Vec<Effect>, ProtocolError> {
        self.progress = true;
        let arrived = self.download.take(body, |base| contents.body(base))?;
        let mut effects = Vec::new();
        match arrived {
            Arrived::Nothing => {}
            Arrived::Body(digest, body) => {
                effects.push(Effect::Keep(digest, body));
                effects.extend(self.complete(contents, Some(digest)));
            }
            Arrived::Gone(digest) => self.gone(digest)?,
        }
        self.ask();
        Ok(effects)
    }

    /// The hub went on to another state; it is asked for that, from scratch.
    fn gone(&mut self, digest: Digest) -> Result<(), ProtocolError> {
        match self.pending.take() {
            Some(pending) => {
                tracing::info!(%digest, "the hub has this content no more, waiting for its newer state");
                self.failures += 1;
                if self.failures > MAX_FAILURES {
                    return Err(ProtocolError::Gone);
                }
                self.download.clear();
                let root_digest = digest_bytes(Some(pending.digest()));
                self.send(Out::WantManifest(v1::WantManifest { root_digest }));
            }
            None => tracing::warn!(%digest, "the disk lost this content and the hub has it no more"),
        }
        Ok(())
    }

    /// What follows if all bodies are here; `arriving` is about to be kept.
    fn complete(&mut self, contents: &impl Contents, arriving: Option<Digest>) -> Vec<Effect> {
        if !self.download.is_empty() {
            return Vec::new();
        }
        // The disk may have lost some of them meanwhile.
        if let Some(state) = self.pending.as_ref().or(self.current.as_ref()).cloned() {
            self.want_missing(&state, contents, arriving);
        }
        if !self.download.is_empty() {
            self.ask();
            return Vec::new();
        }
        match self.pending.take() {
            Some(state) => {
                self.failures = 0;
                vec![Effect::Save(state)]
            }
            None => vec![Effect::Repaired],
        }
    }

    /// One that is not understood is answered so, and is no reason to leave the others.
    fn take_questions(&mut self, v1::Questions { questions }: v1::Questions) -> Effect {
        let mut wanted = Vec::with_capacity(questions.len());
        for question in questions {
            match read_question(&question) {
                Ok(Some(read)) => wanted.push(read),
                Ok(None) => self.send(Out::Reply(v1::Reply { question: Some(question), answer: None })),
                Err(invalid) => tracing::warn!("the hub asks what cannot be: {invalid}"),
            }
        }
        Effect::Questions(wanted)
    }

    fn take_request(&mut self, request: v1::Request) -> Vec<Effect> {
        use v1::request::Kind;
        let asked = match request.kind {
            Some(Kind::Reconcile(reconcile)) => match reconcile.unit.as_str() {
                "" => Ok(Asked::Reconcile(None)),
                unit => parsed("reconcile.unit", unit).map(|unit| Asked::Reconcile(Some(unit))),
            },
            Some(Kind::Approve(approve)) => digest("approve.approval", &approve.approval).map(Asked::Approve),
            Some(Kind::RemoveAll(remove)) if remove.confirm == self.info.cluster.as_str() => {
                Ok(Asked::RemoveAll)
            }
            Some(Kind::RemoveAll(remove)) => Err(Invalid::new(
                "remove_all.confirm",
                format!("'{}' was typed, this is cluster '{}'", remove.confirm, self.info.cluster),
            )),
            Some(Kind::RenewNow(_)) => Ok(Asked::RenewNow),
            Some(Kind::Adopt(adopt)) => adoption(&adopt),
            Some(Kind::Fetch(fetch)) => fetching(fetch),
            Some(Kind::Rehearse(rehearse)) => parsed("rehearse.unit", &rehearse.unit)
                .map(|unit| Asked::Errand(Errand::Rehearse(unit, rehearsed(rehearse)))),
            None => {
                self.answer(request.id, v1::answer::Outcome::Unsupported, "");
                return Vec::new();
            }
        };
        match asked {
            Ok(asked) => vec![Effect::Asked(request.id, asked)],
            Err(invalid) => {
                self.answer(request.id, v1::answer::Outcome::Failed, invalid.to_string());
                Vec::new()
            }
        }
    }

    fn ack(&mut self, level: Level, root: Digest, generation: Generation, message: String) {
        let root_digest = digest_bytes(Some(root));
        let (level, generation) = (level.into(), generation.0);
        self.send(Out::Ack(v1::Ack { level, root_digest, generation, message, in_memory: false }));
    }
}

fn fetching(fetch: v1::Fetch) -> Result<Asked, Invalid> {
    let object = fetch.object.ok_or_else(|| Invalid::new("fetch.object", "missing"))?;
    Ok(Asked::Errand(Errand::Fetch(parsed("fetch.unit", &fetch.unit)?, object.into())))
}

fn rehearsed(Rehearse { bodies, templates, .. }: Rehearse) -> Vec<RehearsedBody> {
    let bodies = bodies.into_iter().enumerate();
    let mark =
        |(at, body)| RehearsedBody { body, template: templates.iter().any(|place| *place as usize == at) };
    bodies.map(mark).collect()
}

/// What a newer hub asks for in words of its own is refused, rather than taken for something else.
fn adoption(adopt: &v1::Adopt) -> Result<Asked, Invalid> {
    let origin = origin("adopt.origin", adopt.origin)?;
    let action = action("adopt.action", adopt.action)?;
    Ok(Asked::Errand(Errand::Adopt(origin, action, optional_digest("adopt.plan", &adopt.plan)?)))
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
