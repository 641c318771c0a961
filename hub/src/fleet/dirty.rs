//! Which clusters are rendered in a round: those of which anything has changed that their last render was made from.
//!
//! ```text
//!   definition, facts, other sources, secrets ── the same ──► files of the fleet repo ── the same ──► the render still holds
//!                                            └───────────────────────────────────────┴── else, or not known ──► it is done again
//! ```
//!
//! Files are looked at by the threads that render (`Shared::render`): what they hold, or a disk that does not answer, must not
//! stop the round.

use std::sync::Arc;

use flotilla_render::ClusterDefinition;

use super::cluster::{Read, Shared};
use super::ledger::Facts;
use crate::desired::choice::Choice;
use crate::sources::Draft;

/// What woke a round, as far as that says what it has to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Woken {
    /// Facts about some clusters.
    ByFacts,
    /// A commit, a poll, a person; sources, secrets or helm.
    ByAnything,
}

/// What a cluster was last rendered from.
pub(super) struct From {
    pub(super) definition: ClusterDefinition,
    /// The newest commit of which it is known that it comes to the same.
    pub(super) commit: Arc<str>,
    pub(super) facts: Arc<Facts>,
    pub(super) choice: Arc<Choice>,
    pub(super) read: Arc<Read>,
}

/// What a round sees, and what it has found out.
pub(super) struct Look<'a> {
    pub(super) shared: &'a Shared,
    pub(super) woken: Woken,
    pub(super) secrets_changed: bool,
    pub(super) commit: &'a Arc<str>,
    pub(super) draft: &'a Draft,
}

/// What is known of a render without looking at files.
pub(super) enum Known {
    /// It comes to the same.
    Same,
    /// It does if this is the same at the newest commit.
    IfSame(Arc<Read>),
    Nothing,
}

impl Look<'_> {
    /// Whether a cluster's render comes to the same as before. What is not known is not the same.
    pub(super) fn at(
        &self,
        from: &From,
        definition: &ClusterDefinition,
        facts: &Arc<Facts>,
        choice: &Choice,
    ) -> Known {
        let (then, now) = (&from.definition, definition);
        let is_same = then.root == now.root
            && then.policy.groups == now.policy.groups
            && (then.policy.drift, then.policy.suspend) == (now.policy.drift, now.policy.suspend);
        if !is_same || from.facts != *facts || *from.choice != *choice {
            return Known::Nothing;
        }
        let Read { footprint, sources, .. } = &*from.read;
        if self.woken == Woken::ByAnything {
            let may_differ = self.secrets_changed || self.shared.sources.has_mounted();
            if footprint.is_open()
                || sources.secrets && may_differ
                || !self.shared.sources.is_same(self.draft, sources)
            {
                return Known::Nothing;
            }
        }
        if from.commit == *self.commit { Known::Same } else { Known::IfSame(from.read.clone()) }
    }
}
