//! What is wanted and what there is of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use flotilla_api as api;
use flotilla_core::source::{Source, SourceId};
use flotilla_core::{ClusterName, Digest};
use flotilla_render::Unavailable;
use flotilla_runtime::lock;
use flotilla_runtime::tasks::chain;
use flotilla_source::flux::{Fetched, Fetcher, SourceError, Wanted, address};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::watch;

use super::draft::{At, Draft, digest_of};
use super::events::{self, SourceEvents};
use super::key_services::KeyServices;
use super::show::show;
use super::slot::Slot;

use super::pace::jittered;
use super::secrets::MountedSecrets;
use super::vault::Vault;
use super::{SourceSettings, SourcesRead};
use crate::journal::Event;

/// What nobody has wanted for so long is forgotten, its folder included.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);

/// The name in a snapshot of a source that a cluster suspends while others follow it.
pub(crate) fn own_name(cluster: &ClusterName, source: &SourceId, key: Digest) -> Digest {
    Digest::of_parts([cluster.as_str().as_bytes(), source.to_string().as_bytes(), key.as_bytes()])
}

const GONE: &str = "is not fetched yet";

/// All sources of all clusters. Shared by the fleet loop, the fetch loop and the API.
pub struct Library {
    dir: PathBuf,
    pub(super) settings: SourceSettings,
    pub(super) mounted: Option<MountedSecrets>,
    /// `None`: nothing but what is mounted.
    pub(super) vault: Option<Arc<Vault>>,
    pub(super) key_services: KeyServices,
    inner: Mutex<Inner>,
    /// Held while a source's folder is opened.
    opening: Mutex<()>,
    /// Counts changes that a render may see.
    changed: watch::Sender<u64>,
    /// Counts changes of what is wanted.
    wanted: watch::Sender<u64>,
    /// Counts attempts that are over.
    finished: watch::Sender<u64>,
    pub(crate) events: SourceEvents,
    /// Attempts that went well, and that did not.
    pub(crate) fetches: Counter,
    pub(crate) failures: Counter,
}

#[derive(Default)]
struct Inner {
    slots: BTreeMap<Digest, Slot>,
    clusters: HashMap<ClusterName, BTreeMap<SourceId, Demand>>,
    /// The revisions that snapshots in use name; `None`: not known yet.
    used: Option<HashMap<Digest, BTreeSet<String>>>,
}

/// One source of one cluster.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Demand {
    pub(super) source: Option<Source>,
    /// What it shares with others; `None` where it is not fetched.
    pub(super) key: Option<Digest>,
    /// Why not.
    pub(super) problem: Option<String>,
}

/// Something to be fetched that somebody waits for.
pub(crate) struct Asked {
    key: Digest,
    attempts: u64,
}

/// A fetch to be done.
pub(super) struct Job {
    pub(super) key: Digest,
    /// For people.
    pub(super) source: String,
    pub(super) fetcher: Fetcher,
    /// The revisions to keep, if that is known.
    pub(super) used: Option<BTreeSet<String>>,
}

impl Library {
    /// With what was fetched before into `dir`.
    pub fn new(dir: PathBuf, settings: SourceSettings, vault: Option<Arc<Vault>>) -> Self {
        let mounted = settings.secrets.clone().map(MountedSecrets::new);
        let key_services = KeyServices::new(settings.key_services.clone());
        let zero = || watch::Sender::new(0);
        Self {
            key_services,
            dir,
            settings,
            mounted,
            vault,
            inner: Mutex::default(),
            opening: Mutex::default(),
            changed: zero(),
            wanted: zero(),
            finished: zero(),
            events: SourceEvents::default(),
            fetches: Counter::default(),
            failures: Counter::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    /// Ticks when a render may come out differently.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// A key service answered.
    pub(super) fn key_answered(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Ticks when something else is to be fetched.
    pub(super) fn wishes(&self) -> watch::Receiver<u64> {
        self.wanted.subscribe()
    }

    /// What there is of a cluster's source at a snapshot, from before a restart too. Blocks on the disk where it is asked for
    /// the first time. A suspended one stays at what it was, though others may follow the same.
    pub(super) fn content(
        &self,
        at: At<'_>,
        cluster: &ClusterName,
        source: &Source,
        wanted: &Wanted,
    ) -> Result<Fetched, Unavailable> {
        let key = wanted.key();
        let is_known = || self.lock().slots.contains_key(&key);
        if !is_known() {
            // One at a time, outside of the lock that all need: of two that open one folder the later finds it in use.
            let _opening = lock(&self.opening);
            if !is_known() {
                let slot = Slot::open(self.dir.join(key.to_string()), wanted.clone(), &self.settings);
                let is_followed = !source.suspend && matches!(at, At::Newest { .. });
                self.lock().slots.insert(key, Slot { is_followed, ..slot });
            }
        }
        let mut guard = self.lock();
        let inner = &mut *guard;
        let Some(slot) = inner.slots.get_mut(&key) else { return Err(Unavailable::waiting(GONE)) };
        // While it is suspended it has a name of its own: others may follow the same.
        let name = if source.suspend { own_name(cluster, &source.id, key) } else { key };
        let mut then = None;
        let content = match at {
            At::Then(snapshot) => {
                then = snapshot.sources().get(&name).cloned();
                match &then {
                    Some(at) => slot.at(at),
                    None => Err(Unavailable::new("was not there then")),
                }
            }
            At::Newest { draft, before } if source.suspend => {
                // What it has been at since, or was while the cluster followed it.
                then = [name, key].iter().find_map(|name| before?.sources().get(name)).cloned();
                draft.first(name, key, then.as_ref(), || match &then {
                    Some(at) => slot.at(at),
                    None if slot.is_followed => Err(Unavailable::new(
                        "is suspended, and the revision that it was suspended at is not known",
                    )),
                    None => slot.answer(),
                })
            }
            At::Newest { draft, .. } => draft.first(name, key, None, || slot.answer()),
        }?;
        if let Some(used) = &mut inner.used {
            used.entry(key).or_default().insert(content.revision.clone());
        }
        // The disk is read without the lock.
        drop(guard);
        match then {
            Some(at) if digest_of(&*content.files).map_err(|error| error.to_string())? != at.content => {
                Err(format!("the content of {} is not what it was before", at.revision).into())
            }
            _ => Ok(content),
        }
    }

    /// From now on, these revisions of each source are used, by what is fetched, and those that `drafts` name or anybody gets
    /// later. Others go with the next fetch.
    pub(crate) fn keep(&self, mut used: HashMap<Digest, BTreeSet<String>>, drafts: &[Arc<Draft>]) {
        let mut inner = self.lock();
        drafts.iter().for_each(|draft| draft.add_to(&mut used));
        for (key, slot) in &mut inner.slots {
            slot.older.retain(|revision, _| used.get(key).is_some_and(|used| used.contains(revision)));
        }
        inner.used = Some(used);
    }

    /// Whether what a render read of sources is still what there is, as this round sees it.
    pub(crate) fn is_same(&self, draft: &Draft, read: &SourcesRead) -> bool {
        let inner = self.lock();
        read.used.iter().all(|(key, revision)| {
            let answer =
                || inner.slots.get(key).map_or_else(|| Err(Unavailable::waiting(GONE)), Slot::answer);
            let now = draft.first(*key, *key, None, answer);
            now.ok().map(|content| content.revision) == *revision
        })
    }

    /// Whether secrets may change without a tick.
    pub(crate) fn has_mounted(&self) -> bool {
        self.mounted.is_some()
    }

    /// What a cluster's last render defined, by name.
    pub(super) fn defined(&self, cluster: &ClusterName) -> BTreeMap<SourceId, Source> {
        let inner = self.lock();
        let demands = inner.clusters.get(cluster).into_iter().flatten();
        demands.filter_map(|(id, demand)| Some((id.clone(), demand.source.clone()?))).collect()
    }

    /// Takes what a cluster wants, all of it.
    pub(super) fn demand(&self, cluster: &ClusterName, demands: BTreeMap<SourceId, Demand>) {
        let mut inner = self.lock();
        let last = inner.clusters.get(cluster);
        if last == Some(&demands) || (last.is_none() && demands.is_empty()) {
            return;
        }
        inner.clusters.insert(cluster.clone(), demands);
        inner.count();
        drop(inner);
        self.wanted.send_modify(|count| *count += 1);
        self.changed.send_modify(|count| *count += 1);
    }

    /// Forgets clusters that are not there any more.
    pub(crate) fn retain(&self, is_there: impl Fn(&ClusterName) -> bool) {
        let mut inner = self.lock();
        let before = inner.clusters.len();
        inner.clusters.retain(|name, _| is_there(name));
        if inner.clusters.len() != before {
            inner.count();
        }
    }

    /// Has what is meant fetched now, whatever its interval; suspended ones are left alone. What comes back is for
    /// [`Library::fetched`].
    pub(crate) fn hurry(&self, is_meant: impl Fn(&ClusterName, &SourceId) -> bool) -> Vec<Asked> {
        let mut inner = self.lock();
        let mut meant: BTreeSet<Digest> = BTreeSet::new();
        for (cluster, demands) in &inner.clusters {
            let meant_here = demands.iter().filter(|(id, _)| is_meant(cluster, id));
            meant.extend(meant_here.filter_map(|(_, demand)| demand.key));
        }
        let mut asked = Vec::new();
        for (key, slot) in
            inner.slots.iter_mut().filter(|(key, slot)| slot.is_followed && meant.contains(key))
        {
            // An attempt that is under way may have asked before what is wanted was there.
            slot.asked = slot.attempts + 1 + u64::from(slot.is_running);
            asked.push(Asked { key: *key, attempts: slot.asked });
        }
        drop(inner);
        self.wanted.send_modify(|count| *count += 1);
        asked
    }

    /// Waits until all that was asked for has been tried. Cancel-safe.
    pub(crate) async fn fetched(&self, asked: &[Asked]) {
        let is_over = |_: &u64| {
            let inner = self.lock();
            let tried = |asked: &Asked| {
                inner.slots.get(&asked.key).is_none_or(|slot| slot.attempts >= asked.attempts)
            };
            asked.iter().all(tried)
        };
        // The sender lives as long as `self`, so this cannot fail.
        let _ = self.finished.subscribe().wait_for(is_over).await;
    }

    /// Whether a cluster defines this source.
    pub(crate) fn is_of(&self, cluster: &ClusterName, source: &SourceId) -> bool {
        self.lock().clusters.get(cluster).is_some_and(|demands| demands.contains_key(source))
    }

    /// Up to `most` fetches that are due, and when the next one is.
    pub(super) fn due(&self, now: Instant, most: usize) -> (Vec<Job>, Option<Instant>) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let mut jobs = Vec::new();
        let mut next: Option<Instant> = None;
        for (key, slot) in inner.slots.iter_mut().filter(|(_, slot)| slot.is_followed && !slot.is_running) {
            let due = if slot.attempts < slot.asked { now } else { slot.due };
            if due > now || jobs.len() == most {
                next = Some(next.map_or(due, |next| next.min(due)));
                continue;
            }
            if slot.fetcher.is_none() {
                *slot =
                    Slot { due: slot.due, ..slot.reopened(self.dir.join(key.to_string()), &self.settings) };
            }
            match slot.fetcher.take() {
                Some(fetcher) => {
                    slot.is_running = true;
                    // What nobody has named yet may be named by a cluster that was not rendered since the start.
                    let used = inner.used.as_ref().map(|used| used.get(key).cloned().unwrap_or_default());
                    let source = address(&slot.wanted.spec);
                    jobs.push(Job { key: *key, source, fetcher, used });
                }
                None => {
                    slot.attempts += 1;
                    slot.failed(slot.problem.clone().unwrap_or_default(), now);
                    self.finished.send_modify(|count| *count += 1);
                }
            }
        }
        (jobs, next)
    }

    /// What came of a fetch. `now` is in seconds since 1970.
    pub(super) fn done(
        &self,
        key: Digest,
        fetcher: Option<Fetcher>,
        result: Result<Fetched, SourceError>,
        now: i64,
    ) {
        let mut inner = self.lock();
        let Some(slot) = inner.slots.get_mut(&key) else { return };
        slot.is_running = false;
        slot.attempts += 1;
        slot.fetcher = fetcher;
        slot.checked_at = Some(now);
        let (before, had_problem) = (slot.content.as_ref().map(|c| c.revision.clone()), slot.problem.take());
        let is_missed = std::mem::take(&mut slot.is_missed);
        let mut tell = had_problem.is_some();
        // What is worth an event: whether it is a warning, its reason and message.
        let mut news: Option<(bool, &'static str, String)> = None;
        match result {
            Ok(fetched) => {
                self.fetches.inc();
                slot.failures = 0;
                slot.due = Instant::now() + jittered(slot.interval);
                if before.as_ref() != Some(&fetched.revision) {
                    slot.changed_at = Some(now);
                    tell = true;
                    news = Some((false, "Fetched", format!("fetched revision {}", fetched.revision)));
                    tracing::info!(
                        source = address(&slot.wanted.spec),
                        revision = fetched.revision,
                        "fetched"
                    );
                } else if had_problem.is_some() {
                    let message = format!("can be fetched again, at revision {}", fetched.revision);
                    news = Some((false, "FetchRecovered", message));
                }
                if let Some(before) = slot.content.replace(fetched) {
                    slot.older.insert(before.revision.clone(), before);
                }
            }
            Err(error) => {
                self.failures.inc();
                let message = chain(&error);
                tell = before.is_none() && had_problem.as_ref() != Some(&message);
                if had_problem.as_ref() != Some(&message) {
                    tracing::warn!(source = address(&slot.wanted.spec), "{message}");
                    news = Some((true, "FetchFailed", message.clone()));
                }
                slot.failed(message, Instant::now());
            }
        }
        let events: Vec<Event> = news.map_or_else(Vec::new, |(warning, reason, message)| {
            let event = |source| events::event(now, source, warning, reason, message.clone());
            inner.names(key).into_iter().map(event).collect()
        });
        drop(inner);
        self.events.note(events);
        self.finished.send_modify(|count| *count += 1);
        if tell || is_missed {
            self.changed.send_modify(|count| *count += 1);
        }
    }

    /// Drops what nobody has wanted for long and no snapshot in use names; the folders to be removed come back.
    pub(super) fn sweep(&self, now: Instant) -> Vec<PathBuf> {
        let mut inner = self.lock();
        // Where it is not known what is used, everything is.
        let Some(used) = &inner.used else { return Vec::new() };
        let is_old = |key: &Digest, slot: &Slot| {
            !slot.is_running
                && used.get(key).is_none_or(BTreeSet::is_empty)
                && slot.unwanted_since.is_some_and(|since| now.duration_since(since) > FORGOTTEN_AFTER)
        };
        let old: Vec<Digest> =
            inner.slots.iter().filter(|(key, slot)| is_old(key, slot)).map(|(key, _)| *key).collect();
        old.iter().for_each(|key| {
            inner.slots.remove(key);
        });
        old.into_iter().map(|key| self.dir.join(key.to_string())).collect()
    }

    /// For people: each source once for all clusters that share it.
    pub fn view(&self) -> Vec<api::Source> {
        let inner = self.lock();
        type Shared = (SourceId, Option<Digest>, Option<String>, bool);
        let mut shown: BTreeMap<Shared, api::Source> = BTreeMap::new();
        for (cluster, demands) in &inner.clusters {
            for (id, demand) in demands {
                let suspended = demand.source.as_ref().is_some_and(|source| source.suspend);
                let key = (id.clone(), demand.key, demand.problem.clone(), suspended);
                let entry = shown.entry(key).or_insert_with(|| {
                    let slot = demand.key.and_then(|key| inner.slots.get(&key));
                    let mut shown = show(id, demand, slot);
                    shown.unverified = demand.source.as_ref().is_some_and(|source| source.spec.verify())
                        && self.settings.allow_unverified.contains(id);
                    shown
                });
                entry.clusters.push(cluster.to_string());
            }
        }
        let mut sources: Vec<_> = shown.into_values().collect();
        sources.iter_mut().for_each(|source| source.clusters.sort());
        sources
    }
}

impl Inner {
    /// Under which names something is wanted.
    fn names(&self, key: Digest) -> BTreeSet<SourceId> {
        let demands = self.clusters.values().flatten();
        demands.filter(|(_, demand)| demand.key == Some(key)).map(|(id, _)| id.clone()).collect()
    }

    /// Notes who wants what, and how often.
    fn count(&mut self) {
        let mut users: BTreeMap<Digest, (bool, u32)> = BTreeMap::new();
        for demand in self.clusters.values().flat_map(BTreeMap::values) {
            let (Some(key), Some(source)) = (demand.key, &demand.source) else { continue };
            let entry = users.entry(key).or_insert((false, source.interval));
            *entry = (entry.0 || !source.suspend, entry.1.min(source.interval));
        }
        for (key, slot) in &mut self.slots {
            let user = users.get(key);
            slot.is_followed = user.is_some_and(|(followed, _)| *followed);
            if let Some((_, interval)) = user {
                slot.interval = Duration::from_secs(u64::from((*interval).max(1)));
                slot.unwanted_since = None;
            } else {
                slot.unwanted_since.get_or_insert_with(Instant::now);
            }
        }
    }
}
