//! Watches: one for each kind that we manage, limited to our label; and one for each foreign object that somebody
//! waits for, or that templates take values from. They list in pages, keep no object, and start over by themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use flotilla_core::live::Live;
use flotilla_core::template::ValuesRef;
use flotilla_core::{Digest, ObjectId, ServiceAccount};
use flotilla_runtime::Backoff;
use flotilla_runtime::chain;
use futures::TryStreamExt;
use http::Method;
use kube::api::WatchEvent;
use rand::Rng;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::discovery::Resource;
use super::members::{Kind, Members};
use super::path::{encoded, field_is, labels};
use super::request::{Call, Failure};
use super::values::{SeenValues, values_of};
use super::{Cluster, UNIT_LABEL};

/// So many objects come with one answer to a list.
const PAGE: usize = 50;
/// A watch ends by itself after about this time, in seconds.
const WATCH_FOR: u64 = 290;
/// A watch that is silent for so long is taken for dead: the API server sends a bookmark each minute.
const SILENCE: Duration = Duration::from_secs(150);

/// What is watched.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Subject {
    /// All objects of a kind with our label.
    Kind(Kind),
    /// One object by its name, in the name of an account or of the agent itself.
    Object(ObjectId, Option<ServiceAccount>),
    /// A ConfigMap or Secret that values are taken from, by its name.
    Values(ValuesRef),
}

/// How a subject is watched. A change of it starts the watch anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct How {
    pub(crate) resource: Arc<Resource>,
    /// Of the rules by which health is told, so that all are looked at again when they change.
    pub(crate) rules: Option<Digest>,
    /// Whether a rule reads more than metadata and status.
    pub(crate) whole: bool,
}

/// The running watches. Each ends with its entry, all of them with this.
pub(crate) struct Watches {
    cluster: Cluster,
    members: Arc<Members>,
    values: Arc<SeenValues>,
    wake: Arc<Notify>,
    running: BTreeMap<Subject, (How, tokio::task::AbortHandle)>,
    tasks: JoinSet<()>,
}

impl Watches {
    pub(crate) fn new(
        cluster: Cluster,
        members: Arc<Members>,
        values: Arc<SeenValues>,
        wake: Arc<Notify>,
    ) -> Self {
        Self { cluster, members, values, wake, running: BTreeMap::new(), tasks: JoinSet::new() }
    }

    /// Starts what is missing and stops what nobody needs.
    pub(crate) fn set(&mut self, wanted: BTreeMap<Subject, How>) {
        let stale: Vec<Subject> = self
            .running
            .iter()
            .filter(|(subject, (how, task))| wanted.get(subject) != Some(how) || task.is_finished())
            .map(|(subject, _)| subject.clone())
            .collect();
        for subject in stale {
            if let Some((_, task)) = self.running.remove(&subject) {
                task.abort();
                match &subject {
                    _ if wanted.contains_key(&subject) => {}
                    Subject::Kind(kind) => self.members.unlisted(kind),
                    Subject::Values(reference) => self.values.forget(reference),
                    Subject::Object(..) => {}
                }
            }
        }
        for (subject, how) in wanted {
            if !self.running.contains_key(&subject) {
                let account = match &subject {
                    Subject::Object(_, account) => account.as_ref(),
                    Subject::Kind(_) | Subject::Values(_) => None,
                };
                let watch = Watch {
                    cluster: self.cluster.acting_as(account),
                    members: self.members.clone(),
                    values: self.values.clone(),
                    wake: self.wake.clone(),
                    resource: how.resource.clone(),
                    subject: subject.clone(),
                };
                let task = if how.whole {
                    self.tasks.spawn(watch.run::<Whole>())
                } else {
                    self.tasks.spawn(watch.run::<Live>())
                };
                self.running.insert(subject, (how, task));
            }
        }
        // A watch never ends by itself; those that were stopped, or panicked, are started anew by the next call.
        while self.tasks.try_join_next().is_some() {}
    }
}

struct Watch {
    cluster: Cluster,
    members: Arc<Members>,
    values: Arc<SeenValues>,
    wake: Arc<Notify>,
    resource: Arc<Resource>,
    subject: Subject,
}

/// As much of an object as is looked at.
trait Look: DeserializeOwned + Clone + Into<Live> + Send {}
impl<T: DeserializeOwned + Clone + Into<Live> + Send> Look for T {}

/// An object of which an expression may read everything.
#[derive(Clone)]
struct Whole(Live);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let mut live = Live::from(&value);
        live.whole = Some(Box::new(value));
        Ok(Self(live))
    }
}

impl From<Whole> for Live {
    fn from(whole: Whole) -> Self {
        whole.0
    }
}

impl Watch {
    async fn run<T: Look>(self) {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        loop {
            let failure = match self.list::<T>().await {
                Ok(version) => {
                    backoff.reset();
                    self.follow::<T>(version).await
                }
                Err(failure) => Err(failure),
            };
            if let Err(failure) = failure {
                let problem = format!("cannot watch {}: {}", self.resource.plural, chain(&failure));
                tracing::debug!(%problem);
                if let Subject::Kind(kind) = &self.subject {
                    // Rights and verbs that are missing do not come by waiting.
                    let lasting = [403, 404, 405].contains(&failure.code());
                    self.members.problem(kind, problem, lasting);
                } else if let Subject::Object(id, _) = &self.subject {
                    self.members.hidden(id, Some(problem));
                }
                self.wake.notify_one();
                backoff.wait().await;
            }
        }
    }

    fn query(&self) -> Result<String, Failure> {
        match &self.subject {
            Subject::Kind(_) => Ok(format!("{}?{}", self.resource.collection("")?, labels(UNIT_LABEL))),
            Subject::Object(id, _) => self.named(&id.namespace, &id.name),
            Subject::Values(reference) => self.named(&reference.namespace, &reference.name),
        }
    }

    fn named(&self, namespace: &str, name: &str) -> Result<String, Failure> {
        Ok(format!("{}?{}", self.resource.collection(namespace)?, field_is("metadata.name", name)))
    }

    /// Takes what is there; true if that is news.
    fn observe(&self, id: &ObjectId, live: &Live) -> bool {
        match &self.subject {
            Subject::Values(reference) => {
                let found = live.whole.as_deref().map(|object| values_of(reference.kind, object));
                self.values.observe(reference, &found)
            }
            Subject::Kind(_) | Subject::Object(..) => self.members.observe(id, live),
        }
    }

    fn gone(&self, id: &ObjectId, last: &Live, version: u64) -> bool {
        match &self.subject {
            Subject::Values(reference) => self.values.observe(reference, &None),
            Subject::Kind(_) | Subject::Object(..) => self.members.gone(id, Some(last), version),
        }
    }

    fn id(&self, live: &Live) -> ObjectId {
        let (Resource { group, kind, .. }, metadata) = (&*self.resource, &live.metadata);
        ObjectId::new(group, kind, &metadata.namespace, &metadata.name)
    }

    /// Items of a list come without kind.
    fn complete(&self, mut live: Live) -> Live {
        if live.kind.is_empty() {
            let Resource { group, version, kind, .. } = &*self.resource;
            live.api_version = if group.is_empty() { version.clone() } else { format!("{group}/{version}") };
            live.kind = kind.clone();
        }
        live
    }

    /// Lists in pages; the version from which to watch.
    async fn list<T: Look>(&self) -> Result<String, Failure> {
        let mut found = BTreeSet::new();
        let mut more = String::new();
        loop {
            let call = Call::new(Method::GET, format!("{}&limit={PAGE}{more}", self.query()?));
            let page = self.cluster.ask_list::<T>(call, &self.resource.plural).await?;
            for live in page.items {
                let live = self.complete(live.into());
                let id = self.id(&live);
                self.observe(&id, &live);
                found.insert(id);
            }
            if page.more.is_empty() {
                let version = page.resource_version;
                if let Subject::Object(id, _) = &self.subject {
                    self.members.hidden(id, None);
                }
                match &self.subject {
                    Subject::Kind(kind) => {
                        self.members.listed(kind, version.parse().unwrap_or_default(), &found)
                    }
                    Subject::Object(id, _) if found.is_empty() => {
                        self.members.gone(id, None, version.parse().unwrap_or_default());
                    }
                    Subject::Values(reference) if found.is_empty() => {
                        self.values.observe(reference, &None);
                    }
                    Subject::Object(..) | Subject::Values(_) => {}
                }
                self.wake.notify_one();
                return Ok(version);
            }
            more = format!("&continue={}", encoded(&page.more));
        }
    }

    /// Follows changes from `version` on until the API server forgets that version or the connection breaks.
    async fn follow<T: Look>(&self, mut version: String) -> Result<(), Failure> {
        loop {
            let seconds = WATCH_FOR + rand::rng().random_range(0..30);
            let path = format!(
                "{}&watch=1&allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds={seconds}",
                self.query()?
            );
            let events = match self.cluster.watch::<T>(path).await {
                Ok(events) => events,
                Err(failure) if failure.code() == 410 => return Ok(()),
                Err(failure) => return Err(failure),
            };
            futures::pin_mut!(events);
            loop {
                match tokio::time::timeout(SILENCE, events.try_next()).await {
                    Ok(Ok(Some(event))) => match self.take(event) {
                        Taken::Version(next) => version = next,
                        Taken::Expired => return Ok(()),
                        Taken::Failed(failure) => return Err(failure),
                    },
                    Ok(Ok(None)) => break,
                    // What was missed meanwhile is told from this version on.
                    Ok(Err(error)) => return Err(Failure::Transport(error)),
                    Err(_) => break,
                }
            }
        }
    }

    fn take<T: Look>(&self, event: WatchEvent<T>) -> Taken {
        let (live, gone) = match event {
            WatchEvent::Added(live) | WatchEvent::Modified(live) => (live, false),
            WatchEvent::Deleted(live) => (live, true),
            WatchEvent::Bookmark(bookmark) => return Taken::Version(bookmark.metadata.resource_version),
            WatchEvent::Error(status) if status.code == 410 => return Taken::Expired,
            WatchEvent::Error(status) => return Taken::Failed(Failure::of_watch(&status)),
        };
        let live = self.complete(live.into());
        let id = self.id(&live);
        let version = live.metadata.resource_version.clone();
        let news = if gone {
            self.gone(&id, &live, version.parse().unwrap_or_default())
        } else {
            self.observe(&id, &live)
        };
        if news {
            self.wake.notify_one();
        }
        Taken::Version(version)
    }
}

enum Taken {
    Version(String),
    Expired,
    Failed(Failure),
}
