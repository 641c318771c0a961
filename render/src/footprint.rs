//! What a cluster's render read, so that it need not be done again while all of that is the same.
//!
//! ```text
//!   render ──► Recorder ──► Footprint: traces of builds in the fleet repo, those in other sources
//!                               │
//!   a newer commit ─────────────┴──► holds_in: nothing that was read has changed there
//! ```
//!
//! What other sources are at, and what people and agents say, is for the caller to compare. A render that lacked something is
//! open: only doing it again tells what comes of it.

use std::collections::{BTreeSet, HashMap};
use std::mem;
use std::sync::{Arc, Mutex};

use flotilla_core::UnitId;
use flotilla_core::template::ValuesRef;
use flotilla_kustomize::files::ReadError;

use crate::cache::RenderCache;
use crate::lock::lock;
use crate::source::Artifact;
use crate::substitute::UnitVariables;
use crate::trace::Trace;
use crate::walk::budget::Spent;

/// Takes down what a render reads.
#[derive(Debug, Default)]
pub struct Recorder(Mutex<Footprint>);

/// What a render read.
#[derive(Debug, Clone, Default)]
pub struct Footprint {
    /// What the fleet repo's object leaves out of it, as of now.
    ignore: Option<Arc<str>>,
    /// Builds in the fleet repo, by unit.
    builds: Vec<Build>,
    /// Builds in other sources. Kept so that the renderer's memory keeps them.
    others: Vec<Arc<Trace>>,
    /// The ConfigMaps and Secrets that were looked for among what units put out, there or not.
    pub(crate) values: BTreeSet<ValuesRef>,
    pub(crate) spent: Spent,
    /// Anything in the fleet repo may have been read.
    reads_all: bool,
    is_open: bool,
    /// What units put out decided more of the cluster than the rest of this tells.
    is_one_piece: bool,
}

/// A build that a unit is made of.
#[derive(Debug, Clone)]
pub(crate) struct Build {
    pub(crate) unit: UnitId,
    pub(crate) ignore: Option<Arc<str>>,
    pub(crate) variables: Option<Arc<UnitVariables>>,
    /// It has a part that is not noted here: secrets, or what is not of the fleet repo.
    pub(crate) has_more: bool,
    trace: Arc<Trace>,
}

/// What a build is made for, beside its files.
#[derive(Clone, Copy)]
pub(crate) struct BuiltFor<'a> {
    pub(crate) recorder: &'a Recorder,
    pub(crate) unit: &'a UnitId,
    pub(crate) of_fleet: bool,
    pub(crate) variables: Option<&'a UnitVariables>,
    pub(crate) decrypts: bool,
}

impl BuiltFor<'_> {
    pub(crate) fn read(&self, trace: &Arc<Trace>) {
        let Self { recorder, unit, of_fleet, variables, decrypts } = *self;
        // Values of Secrets are not kept for longer than the render takes.
        let has_secrets = variables.is_some_and(|variables| variables.masked.is_some());
        let has_more = decrypts || has_secrets || trace.has_outside();
        recorder.with(|footprint| {
            if !of_fleet {
                return footprint.others.push(trace.clone());
            }
            let known = || footprint.builds.iter().rev().filter_map(|build| build.variables.as_ref());
            let variables = variables.filter(|_| !has_more).map(|variables| {
                known()
                    .find(|known| ***known == *variables)
                    .cloned()
                    .unwrap_or_else(|| variables.clone().into())
            });
            let (ignore, trace) = (footprint.ignore.clone(), trace.clone());
            footprint.builds.push(Build { unit: unit.clone(), ignore, variables, has_more, trace });
        });
    }

    pub(crate) fn open(&self) {
        self.recorder.open();
    }
}

/// What is known of one commit, for all clusters. Nobody waits for what another reads.
#[derive(Default)]
pub struct Held(Mutex<Known>);

#[derive(Default)]
struct Known {
    packed: HashMap<Option<Arc<str>>, Artifact>,
    traces: HashMap<Key, (Arc<Trace>, bool)>,
}

/// The address of a trace, which is kept so that no other gets it, and what is left out of the tree.
type Key = (usize, Option<Arc<str>>);

impl Held {
    fn with<T>(&self, look: impl FnOnce(&mut Known) -> T) -> T {
        look(&mut lock(&self.0))
    }

    /// The fleet repo without what is left out of it.
    pub(crate) fn packed(
        &self,
        ignore: &Option<Arc<str>>,
        fleet: &Artifact,
        cache: &RenderCache,
    ) -> Result<Artifact, ReadError> {
        if let Some(packed) = self.with(|known| known.packed.get(ignore).cloned()) {
            return Ok(packed);
        }
        let packed = cache.packed(fleet, ignore.as_deref())?;
        self.with(|known| known.packed.insert(ignore.clone(), packed.clone()));
        Ok(packed)
    }

    fn holds(&self, build: &Build, fleet: &Artifact, cache: &RenderCache) -> Result<bool, ReadError> {
        let Build { ignore, trace, .. } = build;
        let key = (address(trace), ignore.clone());
        if let Some(holds) = self.with(|known| known.traces.get(&key).map(|(_, holds)| *holds)) {
            return Ok(holds);
        }
        let holds = trace.holds_in(&*self.packed(ignore, fleet, cache)?.files)?;
        self.with(|known| known.traces.insert(key, (trace.clone(), holds)));
        Ok(holds)
    }
}

impl Recorder {
    fn with(&self, note: impl FnOnce(&mut Footprint)) {
        note(&mut lock(&self.0));
    }

    /// From now on the fleet repo is read without what `ignore` says.
    pub(crate) fn packed(&self, ignore: Option<&str>) {
        self.with(|footprint| footprint.ignore = ignore.map(Into::into));
    }

    pub(crate) fn reads_all(&self) {
        self.with(|footprint| footprint.reads_all = true);
    }

    /// A ConfigMap or Secret was looked for among what units put out.
    pub(crate) fn looked_for(&self, reference: &ValuesRef) {
        self.with(|footprint| {
            if !footprint.values.contains(reference) {
                footprint.values.insert(reference.clone());
            }
        });
    }

    pub(crate) fn spent(&self, spent: Spent) {
        self.with(|footprint| footprint.spent = spent);
    }

    /// No unit can be made anew on its own.
    pub(crate) fn is_one_piece(&self) {
        self.with(|footprint| footprint.is_one_piece = true);
    }

    /// Something was not to be had.
    pub fn open(&self) {
        self.with(|footprint| footprint.is_open = true);
    }

    /// What was read so far.
    pub fn taken(&self) -> Footprint {
        let mut footprint = mem::take(&mut *lock(&self.0));
        let place = |build: &Build| (build.unit.clone(), address(&build.trace), build.ignore.clone());
        footprint.builds.sort_by_cached_key(place);
        footprint.builds.dedup_by(|a, b| Arc::ptr_eq(&a.trace, &b.trace) && a.is_like(b));
        footprint.others.sort_by_key(address);
        footprint.others.dedup_by(|a, b| Arc::ptr_eq(a, b));
        footprint.builds.shrink_to_fit();
        footprint.others.shrink_to_fit();
        footprint
    }
}

fn address(trace: &Arc<Trace>) -> usize {
    Arc::as_ptr(trace) as usize
}

impl Build {
    /// Made for the same unit in the same way.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.unit == other.unit
            && self.ignore == other.ignore
            && self.variables == other.variables
            && self.has_more == other.has_more
    }
}

impl Footprint {
    /// Something else was not to be had.
    pub fn open_if(&mut self, is_open: bool) {
        self.is_open |= is_open;
    }

    /// Whether only doing it again tells what comes of it.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// The units that read something of the fleet repo which is not the same at another commit; `None`: nobody can tell.
    ///
    /// # Errors
    /// Where that cannot be read.
    pub fn changed_in(
        &self,
        fleet: &Artifact,
        cache: &RenderCache,
        held: &Held,
    ) -> Result<Option<BTreeSet<UnitId>>, ReadError> {
        if self.reads_all {
            return Ok(None);
        }
        let mut changed = BTreeSet::new();
        for build in &self.builds {
            if !changed.contains(&build.unit) && !held.holds(build, fleet, cache)? {
                changed.insert(build.unit.clone());
            }
        }
        Ok(Some(changed))
    }

    /// Whether it tells the same of a later commit as another one.
    pub fn is_like(&self, other: &Self) -> bool {
        let alike = |(a, b): (&Build, &Build)| a.is_like(b) && a.trace.is_like(&b.trace);
        self.builds.len() == other.builds.len()
            && self.builds.iter().zip(&other.builds).all(alike)
            && self.values == other.values
            && self.spent == other.spent
            && (self.reads_all, self.is_open, self.is_one_piece)
                == (other.reads_all, other.is_open, other.is_one_piece)
    }

    /// Whether what one unit puts out can be told from the rest.
    pub fn is_in_parts(&self) -> bool {
        !self.reads_all && !self.is_open && !self.is_one_piece
    }

    /// The builds of a unit.
    pub(crate) fn builds_of(&self, unit: &UnitId) -> impl Iterator<Item = &Build> {
        let first = self.builds.partition_point(|build| build.unit < *unit);
        self.builds[first..].iter().take_while(move |build| build.unit == *unit)
    }

    /// The same, but for some units, of which it is `anew`.
    pub(crate) fn with(&self, units: &BTreeSet<UnitId>, anew: Self, spent: Spent) -> Self {
        let kept = self.builds.iter().filter(|build| !units.contains(&build.unit)).cloned();
        let mut builds: Vec<Build> = kept.chain(anew.builds).collect();
        builds.sort_by(|a, b| a.unit.cmp(&b.unit));
        Self { builds, spent, ..self.clone() }
    }
}
