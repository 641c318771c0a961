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

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex};

use crate::lock::lock;
use flotilla_kustomize::files::ReadError;

use crate::cache::RenderCache;
use crate::source::Artifact;
use crate::trace::Trace;

/// Takes down what a render reads.
#[derive(Debug, Default)]
pub struct Recorder(Mutex<Footprint>);

/// What a render read.
#[derive(Debug, Clone, Default)]
pub struct Footprint {
    /// What the fleet repo's object leaves out of it, as of now.
    ignore: Option<Arc<str>>,
    /// Builds in the fleet repo.
    builds: Vec<Build>,
    /// Builds in other sources. Kept so that the renderer's memory keeps them.
    others: Vec<Arc<Trace>>,
    /// Anything in the fleet repo may have been read.
    reads_all: bool,
    is_open: bool,
}

#[derive(Debug, Clone)]
struct Build {
    ignore: Option<Arc<str>>,
    trace: Arc<Trace>,
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

    fn holds(&self, build: &Build, fleet: &Artifact, cache: &RenderCache) -> Result<bool, ReadError> {
        let Build { ignore, trace } = build;
        let key = (address(trace), ignore.clone());
        if let Some(holds) = self.with(|known| known.traces.get(&key).map(|(_, holds)| *holds)) {
            return Ok(holds);
        }
        let packed = match self.with(|known| known.packed.get(ignore).cloned()) {
            Some(packed) => packed,
            None => {
                let packed = cache.packed(fleet, ignore.as_deref())?;
                self.with(|known| known.packed.insert(ignore.clone(), packed.clone()));
                packed
            }
        };
        let holds = trace.holds_in(&*packed.files)?;
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

    pub(crate) fn build(&self, of_fleet: bool, trace: &Arc<Trace>) {
        self.with(|footprint| {
            let (ignore, trace) = (footprint.ignore.clone(), trace.clone());
            if of_fleet {
                footprint.builds.push(Build { ignore, trace })
            } else {
                footprint.others.push(trace)
            }
        });
    }

    pub(crate) fn reads_all(&self) {
        self.with(|footprint| footprint.reads_all = true);
    }

    /// Something was not to be had.
    pub fn open(&self) {
        self.with(|footprint| footprint.is_open = true);
    }

    /// What was read so far.
    pub fn taken(&self) -> Footprint {
        let mut footprint = mem::take(&mut *lock(&self.0));
        footprint
            .builds
            .sort_by(|a, b| address(&a.trace).cmp(&address(&b.trace)).then(a.ignore.cmp(&b.ignore)));
        footprint.builds.dedup_by(|a, b| Arc::ptr_eq(&a.trace, &b.trace) && a.ignore == b.ignore);
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

impl Footprint {
    /// Something else was not to be had.
    pub fn open_if(&mut self, is_open: bool) {
        self.is_open |= is_open;
    }

    /// Whether only doing it again tells what comes of it.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Whether all that was read of the fleet repo is the same at another commit.
    ///
    /// # Errors
    /// Where that cannot be read.
    pub fn holds_in(&self, fleet: &Artifact, cache: &RenderCache, held: &Held) -> Result<bool, ReadError> {
        if self.reads_all {
            return Ok(false);
        }
        for build in &self.builds {
            if !held.holds(build, fleet, cache)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
