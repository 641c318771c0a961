//! What a cluster's render asks of its agent, answered by what that last said.

use std::collections::BTreeSet;
use std::sync::Arc;

use flotilla_core::capability::QUESTIONS;
use flotilla_core::question::{Question, Reply};
use flotilla_core::{ClusterName, Digest};
use flotilla_render::{Ask, ClusterRender, Recorder, Told};
use flotilla_runtime::tasks::chain;

use super::Ledger;
use super::ledger::Facts;

/// For one render of one cluster.
pub(super) struct Asking<'a> {
    pub(super) ledger: &'a dyn Ledger,
    pub(super) cluster: &'a ClusterName,
    pub(super) facts: &'a Facts,
    pub(super) recorder: &'a Recorder,
}

impl Ask for Asking<'_> {
    fn ask(&self, question: &Question) -> Told {
        let capabilities = self.facts.capabilities.as_ref().filter(|_| self.facts.has_agent);
        if !capabilities.is_some_and(|capabilities| capabilities.has(QUESTIONS)) {
            return Told::Nobody;
        }
        match self.ledger.reply(self.cluster, question) {
            Ok(Some(reply)) => Told::Reply(Arc::new(reply)),
            Ok(None) => Told::NotYet,
            Err(error) => {
                // Nothing tells when it is well again.
                self.recorder.open();
                Told::Reply(Arc::new(Reply::Failed(chain(&error))))
            }
        }
    }
}

/// Whether replies are kept that nobody asks for any more. While a unit is held, what it last rendered from stays.
pub(super) fn has_old_replies(facts: &Facts, render: &ClusterRender) -> bool {
    let asked: BTreeSet<Digest> = render.questions.iter().map(Question::digest).collect();
    render.units.values().all(|unit| unit.unit.is_some())
        && facts.told.keys().any(|question| !asked.contains(question))
}
