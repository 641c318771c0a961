//! The memory of the renderer: outcomes of builds, each good as long as every file that the build looked at is
//! the same. Two rounds over one commit build nothing; a commit rebuilds what read a file that it changed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use flotilla_core::Digest;
use flotilla_core::report::Problem;
use flotilla_kustomize::files::{ContentId, Files, ReadError, TreePath};

use crate::content::Content;
use crate::trace::{Trace, Traced, holds};

/// What a build came to.
pub type Outcome = Result<Arc<Content>, Arc<[Problem]>>;

/// Outcomes by what was asked for.
#[derive(Debug, Default)]
pub struct RenderCache {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    round: u64,
    builds: u64,
    outcomes: HashMap<Digest, Vec<Remembered>>,
}

#[derive(Debug)]
struct Remembered {
    trace: Arc<Trace>,
    /// The tree in which the trace was last found to hold.
    seen_in: Option<ContentId>,
    outcome: Outcome,
    round: u64,
}

/// How many outcomes one request keeps: branches of a promotion, and a revert.
const VERSIONS: usize = 4;
/// Outcomes that so many rounds did not use are forgotten.
const ROUNDS: u64 = 8;

impl RenderCache {
    pub fn new() -> Self {
        Self::default()
    }

    /// How many builds were really done.
    pub fn builds(&self) -> u64 {
        self.lock().builds
    }

    /// Begins a round over a snapshot; what has been unused for some rounds is forgotten.
    pub fn begin_round(&self) {
        let mut kept = self.lock();
        kept.round += 1;
        let oldest = kept.round.saturating_sub(ROUNDS);
        kept.outcomes.retain(|_, versions| {
            versions.retain(|v| v.round >= oldest);
            !versions.is_empty()
        });
    }

    /// The outcome of `build` for `request`, from memory if all that it looked at is the same in `files`. A
    /// file that cannot be read is no outcome and is not remembered.
    pub(crate) fn get(
        &self,
        request: Digest,
        files: &dyn Files,
        build: impl FnOnce(&dyn Files) -> Result<Outcome, ReadError>,
    ) -> Result<Outcome, ReadError> {
        let tree = files.entry(&TreePath::root())?.map(|entry| entry.id);
        let candidates: Vec<(Arc<Trace>, Option<ContentId>)> = {
            let kept = self.lock();
            let versions = kept.outcomes.get(&request).map(Vec::as_slice).unwrap_or_default();
            versions.iter().map(|v| (v.trace.clone(), v.seen_in)).collect()
        };
        for (trace, seen_in) in candidates {
            if (tree.is_some() && seen_in == tree) || holds(&trace, files)? {
                let mut kept = self.lock();
                let round = kept.round;
                let versions = kept.outcomes.get_mut(&request);
                if let Some(hit) = versions.and_then(|v| v.iter_mut().find(|v| Arc::ptr_eq(&v.trace, &trace)))
                {
                    hit.seen_in = tree;
                    hit.round = round;
                    return Ok(hit.outcome.clone());
                }
            }
        }
        let traced = Traced::new(files);
        let outcome = build(&traced)?;
        let trace = traced.into_trace().map(Arc::new);
        let mut kept = self.lock();
        kept.builds += 1;
        let round = kept.round;
        let Some(trace) = trace else { return Ok(outcome) };
        let versions = kept.outcomes.entry(request).or_default();
        if versions.len() == VERSIONS {
            let oldest = (0..versions.len()).min_by_key(|&n| versions[n].round).unwrap_or_default();
            versions.remove(oldest);
        }
        versions.push(Remembered { trace, seen_in: tree, outcome: outcome.clone(), round });
        Ok(outcome)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
