//! Answers what the hub wants to know of the cluster, for as long as a stream lives.

use flotilla_core::Digest;
use flotilla_core::question::{Question, Reply, Subject};
use flotilla_proto::{question, v1};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::Instant;

use super::asked::Asked;
use super::stream::sleep_until;
use crate::sync::Engine;

/// Looks at the cluster at once.
const AT_ONCE: usize = 4;

pub(super) struct Answering {
    engine: Engine,
    asked: Asked,
    news: watch::Receiver<u64>,
    reads: FuturesUnordered<BoxFuture<'static, (Question, Reply)>>,
}

impl Answering {
    pub(super) fn new(engine: Engine) -> Self {
        let news = engine.followed();
        Self { engine, asked: Asked::default(), news, reads: FuturesUnordered::new() }
    }

    /// Takes all that the hub wants to know.
    pub(super) fn set(&mut self, wanted: Vec<(Question, Option<Digest>)>) {
        self.asked.set(wanted, Instant::now());
        let values = self.asked.questions().filter_map(|question| match &question.subject {
            Subject::Values(reference) => Some(reference.clone()),
            Subject::Apis | Subject::Nodes => None,
        });
        self.engine.follow(values.collect());
    }

    /// The next reply that the hub does not have. Cancel-safe.
    pub(super) async fn next(&mut self) -> v1::Reply {
        loop {
            while self.reads.len() < AT_ONCE
                && let Some(question) = self.asked.take(Instant::now())
            {
                let engine = self.engine.clone();
                self.reads.push(Box::pin(async move {
                    let reply = engine.reply(&question).await;
                    (question, reply)
                }));
            }
            let due = self.asked.due().filter(|_| self.reads.len() < AT_ONCE);
            tokio::select! {
                Some((question, reply)) = self.reads.next(), if !self.reads.is_empty() => {
                    if self.asked.done(&question, &reply, Instant::now(), &mut rand::rng()) {
                        return question::reply(question::question(&question, None), &reply);
                    }
                }
                () = sleep_until(due) => {}
                Ok(()) = self.news.changed() => {
                    self.asked.changed(&self.engine.news(), Instant::now());
                }
            }
        }
    }
}
