//! What a render asks of the cluster, by its agent: see [`flotilla_core::question`].

use std::sync::Arc;

use flotilla_core::question::{Question, Reply};

/// Answers questions about the cluster, as its agent last did.
pub trait Ask: Sync {
    fn ask(&self, question: &Question) -> Told;
}

/// What is known of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// There is nobody who could answer.
    Nobody,
    /// The agent has not answered yet.
    NotYet,
    Reply(Arc<Reply>),
}

/// Where no cluster can be asked.
#[derive(Debug, Clone, Copy)]
pub struct NobodyToAsk;

impl Ask for NobodyToAsk {
    fn ask(&self, _: &Question) -> Told {
        Told::Nobody
    }
}
