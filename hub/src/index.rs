//! What the hub has of every cluster, for lists: shared pointers, kept by change.
//!
//! ```text
//! Changes, Board, Records, FleetView ──► names of what changed ──► Index::read ──► Arc<Shown>
//! ```
//! A read looks at what changed since the last one, and at nothing else. Whoever reads holds pointers: neither sessions nor the
//! fleet loop wait for a list, however long it is.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock};

use flotilla_api::{Attention, AttentionReason, SyncState};
use flotilla_core::ClusterName;
use flotilla_core::report::Timestamp;
use flotilla_runtime::lock;

use crate::changes::{Changes, Reader};
use crate::desired::{Board, Published};
use crate::session::{ClusterView, Sessions};
use crate::store::{ClusterRecord, Records, StoreError, Suspensions, Touched};
use crate::view::{ClusterFacts, Fleet, FleetView};

/// Records that lists are made of.
const RECORDS: &[&str] = &["cluster/", "suspended/", "join/", "kubernetes/", "nodes/"];

/// All that the hub has of one cluster.
#[derive(Debug)]
pub struct Entry {
    pub name: ClusterName,
    pub facts: Option<Arc<ClusterFacts>>,
    pub record: Option<Arc<ClusterRecord>>,
    pub view: Option<Arc<ClusterView>>,
    pub published: Option<Published>,
    pub suspensions: Arc<Suspensions>,
    /// The labels that its agent reports.
    pub reported: Arc<BTreeMap<String, String>>,
    /// Until when the last of its join tokens is good.
    pub invited_until: Option<Timestamp>,
    /// Of all of its units; made when it is first needed.
    pub(crate) summary: OnceLock<Arc<Summary>>,
}

impl Entry {
    pub fn is_invited(&self, now: Timestamp) -> bool {
        self.invited_until.is_some_and(|until| until > now)
    }

    /// Whether there is such a cluster: Git names it, it is enrolled, or it may join.
    pub fn is_there(&self, now: Timestamp) -> bool {
        self.facts.is_some() || self.record.is_some() || self.is_invited(now)
    }
}

/// How a cluster's units stand together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    pub sync: SyncState,
    /// How many units are in each phase.
    pub phases: BTreeMap<&'static str, u32>,
    pub objects: u32,
    /// The worst of what needs a person.
    pub attention: Vec<Attention>,
    /// All of that by reason.
    pub reasons: BTreeMap<AttentionReason, u32>,
    /// How many of them are problems.
    pub problems: u32,
}

/// Every cluster at one moment.
#[derive(Debug, Default)]
pub struct Shown {
    pub fleet: Arc<FleetView>,
    /// By name.
    pub clusters: Vec<Arc<Entry>>,
}

impl Shown {
    pub fn get(&self, name: &ClusterName) -> Option<&Arc<Entry>> {
        let at = self.clusters.binary_search_by(|entry| entry.name.cmp(name)).ok()?;
        self.clusters.get(at)
    }
}

/// Where all of it comes from.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    pub records: &'a Records,
    pub sessions: &'a Sessions,
    pub board: &'a Board,
    pub fleet: &'a Fleet,
    pub changes: &'a Changes,
}

#[derive(Debug, Default)]
pub struct Index(Mutex<Option<Kept>>);

#[derive(Debug)]
struct Kept {
    reader: Reader,
    records: Touched,
    invited: BTreeMap<ClusterName, Timestamp>,
    shown: Arc<Shown>,
}

impl Index {
    /// Every cluster as it is now. Blocking.
    ///
    /// # Errors
    /// Where a record cannot be read; the next read begins anew.
    pub fn read(&self, of: &Parts<'_>) -> Result<Arc<Shown>, StoreError> {
        let mut kept = lock(&self.0);
        // What is marked as changed is taken before it is read: after an error nobody would know of it any more.
        let next = match kept.take() {
            Some(kept) => kept.follow(of)?,
            None => Kept::begin(of)?,
        };
        let shown = next.shown.clone();
        *kept = Some(next);
        Ok(shown)
    }
}

fn invited(of: &Parts<'_>) -> Result<BTreeMap<ClusterName, Timestamp>, StoreError> {
    let mut invited = BTreeMap::new();
    for (_, token) in of.records.join_tokens()? {
        if let (None, Ok(name)) = (&token.used, token.cluster.parse::<ClusterName>()) {
            let until = invited.entry(name).or_insert(token.expires_at);
            *until = token.expires_at.max(*until);
        }
    }
    Ok(invited)
}

impl Kept {
    fn begin(of: &Parts<'_>) -> Result<Self, StoreError> {
        let (reader, records) = (of.changes.reader(), of.records.store().touched(RECORDS));
        of.board.take_written();
        let (fleet, invited) = (of.fleet.view(), invited(of)?);
        let (mut enrolled, mut suspended) = (of.records.clusters()?, of.records.suspensions()?);
        let mut reported = of.records.all_reported()?;
        let names: BTreeSet<ClusterName> =
            fleet.clusters.keys().chain(enrolled.keys()).chain(invited.keys()).cloned().collect();
        let entry = |name: ClusterName| {
            let record = enrolled.remove(&name).map(Arc::new);
            let suspensions = suspended.remove(&name).map(Arc::new).unwrap_or_default();
            let reported = reported.remove(&name).map(Arc::new).unwrap_or_default();
            Arc::new(entry(of, &fleet, &invited, name, OfStore { record, suspensions, reported }))
        };
        let clusters = names.into_iter().map(entry).collect();
        let shown = Arc::new(Shown { fleet: fleet.clone(), clusters });
        Ok(Self { reader, records, invited, shown })
    }

    /// With what changed since the last read.
    fn follow(mut self, of: &Parts<'_>) -> Result<Self, StoreError> {
        let mut changed: BTreeSet<ClusterName> =
            of.changes.so_far(&mut self.reader).clusters.into_iter().collect();
        changed.extend(of.board.take_written());
        let touched = self.records.take();
        if touched.iter().any(|key| key.starts_with("join/")) {
            let invited = invited(of)?;
            changed.extend(different(&self.invited, &invited, |a, b| a == b));
            self.invited = invited;
        }
        let of_clusters = touched.iter().filter(|key| !key.starts_with("join/"));
        let names = of_clusters.filter_map(|key| key.split_once('/')?.1.parse().ok());
        let in_store: BTreeSet<ClusterName> = names.collect();
        changed.extend(in_store.iter().cloned());
        let fleet = of.fleet.view();
        if !Arc::ptr_eq(&fleet, &self.shown.fleet) {
            changed.extend(different(&self.shown.fleet.clusters, &fleet.clusters, Arc::ptr_eq));
        } else if changed.is_empty() {
            return Ok(self);
        }
        let mut newer = Vec::with_capacity(changed.len());
        for name in changed {
            let old = self.shown.get(&name);
            let kept = old.filter(|_| !in_store.contains(&name)).map(|kept| &**kept);
            let of_store = match kept {
                Some(Entry { record, suspensions, reported, .. }) => OfStore {
                    record: record.clone(),
                    suspensions: suspensions.clone(),
                    reported: reported.clone(),
                },
                None => OfStore {
                    record: of.records.cluster(&name)?.map(Arc::new),
                    suspensions: Arc::new(of.records.suspensions_of(&name)?),
                    reported: Arc::new(of.records.reported(&name)?),
                },
            };
            newer.push(Arc::new(entry(of, &fleet, &self.invited, name, of_store)));
        }
        self.shown = Arc::new(Shown { clusters: merge(&self.shown.clusters, newer), fleet });
        Ok(self)
    }
}

/// What the store has of one cluster.
struct OfStore {
    record: Option<Arc<ClusterRecord>>,
    suspensions: Arc<Suspensions>,
    reported: Arc<BTreeMap<String, String>>,
}

fn entry(
    of: &Parts<'_>,
    fleet: &FleetView,
    invited: &BTreeMap<ClusterName, Timestamp>,
    name: ClusterName,
    OfStore { record, suspensions, reported }: OfStore,
) -> Entry {
    Entry {
        facts: fleet.clusters.get(&name).cloned(),
        record,
        view: of.sessions.view(&name),
        published: of.board.current(&name),
        suspensions,
        reported,
        invited_until: invited.get(&name).copied(),
        summary: OnceLock::new(),
        name,
    }
}

/// The keys whose values differ, or that only one has.
fn different<V>(
    old: &BTreeMap<ClusterName, V>,
    new: &BTreeMap<ClusterName, V>,
    same: impl Fn(&V, &V) -> bool,
) -> Vec<ClusterName> {
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    let other = new.iter().filter(|(name, value)| old.get(*name).is_none_or(|before| !same(before, value)));
    gone.chain(other.map(|(name, _)| name)).cloned().collect()
}

/// Both are by name; what is newer takes the place, and goes where there is nothing of it.
fn merge(old: &[Arc<Entry>], newer: Vec<Arc<Entry>>) -> Vec<Arc<Entry>> {
    let mut all = Vec::with_capacity(old.len() + newer.len());
    let mut old = old.iter().peekable();
    for entry in newer {
        while let Some(before) = old.next_if(|before| before.name < entry.name) {
            all.push(before.clone());
        }
        old.next_if(|before| before.name.cmp(&entry.name) == Ordering::Equal);
        if entry.facts.is_some() || entry.record.is_some() || entry.invited_until.is_some() {
            all.push(entry);
        }
    }
    all.extend(old.cloned());
    all
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
