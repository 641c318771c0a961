//! Asking Vault, AWS and their like to open data keys, for what the hub has the token for.
//!
//! ```text
//!   render ── data_key(ask), at once ──► KeyServices ◄── next, answered ── loop ──► the server, if the operator allows it
//! ```
//!
//! A render that lacks an answer is done again when there is one. Answers are in memory only. Who asks takes turns with the others,
//! and has room for so many questions: a file that names thousands of keys holds up nobody else's.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use flotilla_runtime::lock;
use flotilla_runtime::tasks::chain;
use flotilla_sops::service::{Answer, Ask, AskId, MAX_ANSWER, Request, Servers};
use futures::FutureExt as _;
use jiff::Timestamp;
use reqwest::redirect::Policy;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Library;

/// For one question.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Questions at one time.
const AT_ONCE: usize = 8;
/// Questions of one asker that wait; others are asked by a later render.
const MOST_WAITING: usize = 1_000;
/// Answers that are kept, by when they were last of use.
const MOST_ANSWERS: usize = 20_000;
/// A service that did not give a key is asked again after this time.
const AGAIN: Duration = Duration::from_secs(30);

/// What was asked, and what was answered.
pub(super) struct KeyServices {
    servers: Servers,
    inner: Mutex<Inner>,
    wanted: Notify,
}

#[derive(Default)]
struct Inner {
    answers: HashMap<AskId, Answered>,
    /// By who asks. None is empty.
    waiting: BTreeMap<AskId, VecDeque<Ask>>,
    /// Who had the last turn.
    last: Option<AskId>,
}

enum Answered {
    NotYet,
    At(Instant, Answer),
}

impl KeyServices {
    pub(super) fn new(servers: Servers) -> Self {
        Self { servers, inner: Mutex::default(), wanted: Notify::new() }
    }

    /// What is known. What is not is asked by the loop.
    pub(super) fn data_key(&self, ask: &Ask) -> Answer {
        // Who may not be asked need not wait for that.
        ask.request(&self.servers, Timestamp::now())?;
        let (now, mut inner) = (Instant::now(), lock(&self.inner));
        let known = match inner.answers.get_mut(&ask.id()) {
            Some(Answered::NotYet) => return Err("is being asked".to_owned()),
            Some(Answered::At(used, Ok(key))) => {
                *used = now;
                return Ok(key.clone());
            }
            Some(Answered::At(asked, Err(why))) => Some((now.saturating_duration_since(*asked), why.clone())),
            None => None,
        };
        match known {
            Some((ago, why)) if ago < AGAIN => return Err(why),
            _ if inner.waiting.get(&ask.asker()).is_some_and(|waiting| waiting.len() >= MOST_WAITING) => {
                return Err("is asked later, as many other questions with these credentials wait".to_owned());
            }
            _ => {}
        }
        inner.answers.insert(ask.id(), Answered::NotYet);
        inner.waiting.entry(ask.asker()).or_default().push_back(ask.clone());
        drop(inner);
        self.wanted.notify_one();
        Err(known.map_or_else(|| "is being asked".to_owned(), |(_, why)| why))
    }

    fn next(&self) -> Option<Ask> {
        let mut inner = lock(&self.inner);
        let after = inner.last.map_or(Bound::Unbounded, Bound::Excluded);
        let mut later = inner.waiting.range((after, Bound::Unbounded)).chain(&inner.waiting);
        let asker = later.next().map(|(asker, _)| *asker)?;
        inner.last = Some(asker);
        let waiting = inner.waiting.get_mut(&asker)?;
        let ask = waiting.pop_front();
        if waiting.is_empty() {
            inner.waiting.remove(&asker);
        }
        ask
    }

    fn answered(&self, id: AskId, answer: Answer) {
        let mut inner = lock(&self.inner);
        inner.answers.insert(id, Answered::At(Instant::now(), answer));
        if inner.answers.len() > MOST_ANSWERS {
            let oldest = inner.answers.iter().filter_map(|(id, answered)| match answered {
                Answered::At(used, _) => Some((*used, *id)),
                Answered::NotYet => None,
            });
            if let Some((_, id)) = oldest.min() {
                inner.answers.remove(&id);
            }
        }
    }

    async fn ask(&self, client: &reqwest::Client, ask: &Ask) -> Answer {
        let (status, body) = send(client, ask.request(&self.servers, Timestamp::now())?).await?;
        ask.data_key(status, &body)
    }
}

/// Asks what renders want to know until `shutdown`.
///
/// # Errors
/// Where there is no client, or a question panicked.
pub async fn run_key_services(
    library: std::sync::Arc<Library>,
    shutdown: CancellationToken,
) -> Result<(), KeyServiceError> {
    // Nothing is asked then, and a hub without certificates of CAs starts all the same.
    if library.key_services.servers.is_empty() {
        shutdown.cancelled().await;
        return Ok(());
    }
    // No redirect is followed: what it would lead to was not allowed.
    let client = reqwest::Client::builder().redirect(Policy::none()).timeout(TIMEOUT).build()?;
    let mut running: JoinSet<(AskId, Answer)> = JoinSet::new();
    loop {
        while running.len() < AT_ONCE
            && let Some(ask) = library.key_services.next()
        {
            let (library, client) = (library.clone(), client.clone());
            running.spawn(async move {
                let answer = AssertUnwindSafe(library.key_services.ask(&client, &ask)).catch_unwind().await;
                let failed = |_| Err("the hub failed over this question".to_owned());
                (ask.id(), answer.unwrap_or_else(failed))
            });
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            Some(done) = running.join_next() => {
                let (id, answer) = done?;
                library.key_services.answered(id, answer);
                library.key_answered();
            }
            () = library.key_services.wanted.notified() => {}
        }
    }
}

/// Why nobody asks key services any more.
#[derive(Debug, thiserror::Error)]
pub enum KeyServiceError {
    #[error("cannot make an HTTP client for key services")]
    Client(#[from] reqwest::Error),
    #[error("the hub failed while asking a key service")]
    Task(#[from] tokio::task::JoinError),
}

async fn send(client: &reqwest::Client, request: Request) -> Result<(u16, Vec<u8>), String> {
    let failed = |error: reqwest::Error| format!("it cannot be reached: {}", chain(&error.without_url()));
    let method = request.method.parse().map_err(|_| "its method cannot be used".to_owned())?;
    let mut sent = client.request(method, request.url).body(request.body);
    for (name, value) in request.headers {
        sent = sent.header(name, value.as_str());
    }
    let mut response = sent.send().await.map_err(failed)?;
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(failed)? {
        if body.len() + part.len() > MAX_ANSWER {
            return Err(format!("its answer has more than {MAX_ANSWER} bytes"));
        }
        body.extend_from_slice(&part);
    }
    Ok((response.status().as_u16(), body))
}

#[cfg(test)]
#[path = "key_services_tests.rs"]
mod tests;
