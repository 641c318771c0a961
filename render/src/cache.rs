//! The memory of the renderer: outcomes of builds, each good as long as every file that the build looked at is
//! the same. Two rounds over one commit build nothing; a commit rebuilds what read a file that it changed.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use flotilla_core::Digest;
use flotilla_core::report::Problem;
use flotilla_kustomize::files::{ContentId, Files, ReadError, TreePath};
use flotilla_kustomize::ignore::{Ignored, RulesMemory};

use crate::attempts::{self, Attempts, Input, Seen};
use crate::content::Content;
use crate::footprint::{BuiltFor, Recorder};
use crate::helm::{ChartFiles, Parcel, packed_chart};
use crate::lock::lock;
use crate::source::{Artifact, Unavailable};
use crate::substitute::Built;
use crate::trace::{Remotes, Trace, Traced};

/// What a build came to.
pub type Outcome = Result<Arc<Content>, Arc<[Problem]>>;

/// Outcomes by what was asked for.
#[derive(Debug, Default)]
pub struct RenderCache {
    /// Of units without variables.
    contents: Table<Content>,
    /// Of units with variables, before any is put in: what all clusters share.
    built: Table<Built>,
    /// By what was built and the variables.
    substituted: Mutex<HashMap<Digest, (u64, Outcome)>>,
    /// What generators put out, by what they are and what they read.
    generated: Mutex<HashMap<Digest, (u64, Generated)>>,
    /// Charts as release records hold them, by what they are made of.
    charts: Mutex<HashMap<Digest, (u64, PackedChart)>>,
    /// What is left out of trees, by their origin.
    ignored: Mutex<HashMap<Digest, RulesMemory>>,
    round: AtomicU64,
    builds: AtomicU64,
}

type PackedChart = Result<Parcel, String>;
type Generated = Result<BTreeMap<String, Artifact>, Unavailable>;

/// Results of builds with what each of them read.
#[derive(Debug)]
pub(crate) struct Table<T> {
    kept: Mutex<HashMap<Digest, Vec<Remembered<T>>>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { kept: Mutex::default() }
    }
}

/// What a build may look at, and who is told of it.
#[derive(Clone, Copy)]
pub(crate) struct Reads<'a> {
    pub(crate) files: &'a dyn Files,
    pub(crate) remotes: Remotes<'a>,
    pub(crate) telling: Telling<'a>,
    pub(crate) built_for: Option<BuiltFor<'a>>,
}

/// Who is told of work, and how it is called.
#[derive(Clone, Copy)]
pub(crate) struct Telling<'a> {
    pub(crate) attempts: &'a dyn Attempts,
    pub(crate) what: &'a dyn Fn() -> String,
    /// The reason why nothing is done with it, as a problem.
    pub(crate) problem: &'a dyn Fn(String) -> Problem,
}

impl Telling<'_> {
    /// Does work that reads nothing but what `key` stands for.
    pub(crate) fn of<T>(&self, key: Digest, work: impl FnOnce() -> T) -> Result<T, Problem> {
        let input = Input { what: (self.what)(), key, is_same: &|_| true };
        let attempt = self.attempts.begin(&input).map_err(self.problem)?;
        let done = work();
        drop(attempt);
        Ok(done)
    }
}

type BuildResult<T> = Result<Arc<T>, Arc<[Problem]>>;

#[derive(Debug)]
struct Remembered<T> {
    trace: Arc<Trace>,
    /// The tree in which the trace was last found to hold.
    seen_in: Option<ContentId>,
    outcome: BuildResult<T>,
    round: u64,
}

/// How many outcomes one request keeps: branches of a promotion, and a revert.
const VERSIONS: usize = 4;
/// Outcomes that so many rounds did not use, and that no cluster's render holds, are forgotten.
const ROUNDS: u64 = 8;

impl RenderCache {
    pub fn new() -> Self {
        Self::default()
    }

    /// How many builds were really done.
    pub fn builds(&self) -> u64 {
        self.builds.load(Ordering::Relaxed)
    }

    /// Begins a round over a snapshot; what has been unused for some rounds is forgotten.
    pub fn begin_round(&self) {
        let round = self.round.fetch_add(1, Ordering::Relaxed) + 1;
        let oldest = round.saturating_sub(ROUNDS);
        self.contents.forget(oldest);
        self.built.forget(oldest);
        let is_used =
            |outcome: &Outcome| outcome.as_ref().is_ok_and(|content| Arc::strong_count(content) > 1);
        lock(&self.substituted).retain(|_, (round, outcome)| *round >= oldest || is_used(outcome));
        lock(&self.generated).retain(|_, (round, _)| *round >= oldest);
        lock(&self.charts).retain(|_, (round, _)| *round >= oldest);
    }

    /// The artifact that Flux would make of a tree: without what `.sourceignore` files, Flux's own list and `spec.ignore`
    /// of its source leave out.
    pub(crate) fn packed(&self, tree: &Artifact, spec_ignore: Option<&str>) -> Result<Artifact, ReadError> {
        let mut rules = lock(&self.ignored).entry(tree.origin).or_default().rules(&*tree.files)?;
        if let Some(text) = spec_ignore {
            Arc::make_mut(&mut rules).add(text, &TreePath::root());
        }
        Ok(Artifact { files: Arc::new(Ignored::with(tree.files.clone(), rules)), ..tree.clone() })
    }

    /// The content that `build` gives for `request`, from memory if all that it looked at is the same in `files`.
    pub(crate) fn content(
        &self,
        request: Digest,
        reads: Reads<'_>,
        build: impl FnOnce(&Traced<'_>) -> Result<Outcome, ReadError>,
    ) -> Result<Outcome, ReadError> {
        self.get(&self.contents, request, reads, build)
    }

    /// As [`RenderCache::content`], for what variables are still to be put into.
    pub(crate) fn built(
        &self,
        request: Digest,
        reads: Reads<'_>,
        build: impl FnOnce(&Traced<'_>) -> Result<BuildResult<Built>, ReadError>,
    ) -> Result<BuildResult<Built>, ReadError> {
        self.get(&self.built, request, reads, build)
    }

    /// The outcome of a pure function of `request`.
    pub(crate) fn substituted(
        &self,
        request: Digest,
        telling: Telling<'_>,
        recorder: Option<&Recorder>,
        make: impl FnOnce() -> Outcome,
    ) -> Outcome {
        let made = self.pure(&self.substituted, request, || telling.of(request, make));
        made.unwrap_or_else(|problem| {
            recorder.inspect(|recorder| recorder.open());
            Err([problem].into())
        })
    }

    /// What [`RenderCache::substituted`] made before.
    pub(crate) fn recalled(&self, request: Digest) -> Option<Outcome> {
        let round = self.round.load(Ordering::Relaxed);
        lock(&self.substituted).get_mut(&request).map(|(used, made)| {
            *used = round;
            made.clone()
        })
    }

    /// As [`RenderCache::substituted`], for the artifacts of a generator.
    pub(crate) fn generated(
        &self,
        request: Digest,
        telling: Telling<'_>,
        make: impl FnOnce() -> Generated,
    ) -> Generated {
        let made = self.pure(&self.generated, request, || telling.of(request, make));
        made.unwrap_or_else(|problem| Err(Unavailable::new(problem.message)))
    }

    /// A chart as release records hold it.
    ///
    /// # Errors
    /// Why none can.
    pub(crate) fn packed_chart(&self, chart: &ChartFiles) -> PackedChart {
        // None is null, which no mapping is.
        let defaults = serde_json::to_vec(&chart.default_values).expect("a JSON value has a JSON text");
        let key =
            Digest::of_parts([chart.digest.as_bytes().as_slice(), chart.path.as_str().as_bytes(), &defaults]);
        self.pure(&self.charts, key, || Ok(packed_chart(chart)))
            .unwrap_or_else(|problem| Err(problem.message))
    }

    /// Why nothing was made is not remembered.
    fn pure<T: Clone>(
        &self,
        table: &Mutex<HashMap<Digest, (u64, T)>>,
        request: Digest,
        make: impl FnOnce() -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let round = self.round.load(Ordering::Relaxed);
        if let Some((used, made)) = lock(table).get_mut(&request) {
            *used = round;
            return Ok(made.clone());
        }
        let made = make()?;
        lock(table).insert(request, (round, made.clone()));
        Ok(made)
    }

    /// A file that cannot be read is no outcome and is not remembered; nor is what lacks something from outside.
    fn get<T>(
        &self,
        table: &Table<T>,
        request: Digest,
        Reads { files, remotes, telling, built_for }: Reads<'_>,
        build: impl FnOnce(&Traced<'_>) -> Result<BuildResult<T>, ReadError>,
    ) -> Result<BuildResult<T>, ReadError> {
        let round = self.round.load(Ordering::Relaxed);
        let tree = files.entry(&TreePath::root())?.map(|entry| entry.id);
        let mut candidates: Vec<(Arc<Trace>, Option<ContentId>)> = {
            let kept = lock(&table.kept);
            let versions = kept.get(&request).map(Vec::as_slice).unwrap_or_default();
            versions.iter().map(|v| (v.trace.clone(), v.seen_in)).collect()
        };
        candidates.sort_by_key(|(_, seen_in)| tree.is_none() || *seen_in != tree);
        for (trace, seen_in) in candidates {
            let is_same = (tree.is_some() && seen_in == tree) || trace.holds_in(files)?;
            if is_same && trace.holds_outside(remotes) {
                let mut kept = lock(&table.kept);
                let versions = kept.get_mut(&request);
                if let Some(hit) = versions.and_then(|v| v.iter_mut().find(|v| Arc::ptr_eq(&v.trace, &trace)))
                {
                    hit.seen_in = tree;
                    hit.round = round;
                    built_for.inspect(|built_for| built_for.read(&trace));
                    return Ok(hit.outcome.clone());
                }
            }
        }
        let is_same = |seen: &Seen| attempts::is_same(files, remotes, seen);
        let input = Input { what: (telling.what)(), key: request, is_same: &is_same };
        let attempt = match telling.attempts.begin(&input) {
            Ok(attempt) => attempt,
            Err(reason) => {
                built_for.inspect(BuiltFor::open);
                return Ok(Err([(telling.problem)(reason)].into()));
            }
        };
        let traced = Traced::new(files, remotes, &*attempt);
        let outcome = build(&traced)?;
        let trace = traced.into_trace().map(Arc::new);
        self.builds.fetch_add(1, Ordering::Relaxed);
        let Some(trace) = trace else {
            built_for.inspect(BuiltFor::open);
            return Ok(outcome);
        };
        built_for.inspect(|built_for| built_for.read(&trace));
        let mut kept = lock(&table.kept);
        let versions = kept.entry(request).or_default();
        if versions.len() == VERSIONS {
            let oldest = (0..versions.len()).min_by_key(|&n| versions[n].round).unwrap_or_default();
            versions.remove(oldest);
        }
        versions.push(Remembered { trace, seen_in: tree, outcome: outcome.clone(), round });
        Ok(outcome)
    }
}

impl<T> Table<T> {
    fn forget(&self, oldest: u64) {
        lock(&self.kept).retain(|_, versions| {
            versions.retain(|v| v.round >= oldest || Arc::strong_count(&v.trace) > 1);
            !versions.is_empty()
        });
    }
}
