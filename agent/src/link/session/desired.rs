//! How a state arrives: its manifest, then the bodies that are lacking.

use std::collections::HashSet;
use std::sync::Arc;

use flotilla_core::desired::Generation;
use flotilla_core::unit::Blob;
use flotilla_core::{DesiredState, Digest};
use flotilla_proto::convert::{digest, digest_bytes};
use flotilla_proto::v1::ack::Level;
use flotilla_proto::v1::{self, agent_message::Message as Out};

use crate::link::download::Arrived;
use crate::manifest::{Assembly, Bases, ManifestError, earlier_versions};

use super::{Contents, Effect, MAX_FAILURES, ProtocolError, Session};

impl Session {
    pub(super) fn take_manifest(
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

    pub(super) fn take_body(
        &mut self,
        body: v1::Body,
        contents: &impl Contents,
    ) -> Result<Vec<Effect>, ProtocolError> {
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
                tracing::info!(%digest, "the hub no longer has this content; waiting for its newer state");
                self.failures += 1;
                if self.failures > MAX_FAILURES {
                    return Err(ProtocolError::Gone);
                }
                self.download.clear();
                let root_digest = digest_bytes(Some(pending.digest()));
                self.send(Out::WantManifest(v1::WantManifest { root_digest }));
            }
            None => tracing::warn!(%digest, "the disk lost this content, and the hub no longer has it"),
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
}
