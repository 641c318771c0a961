//! One thing to fetch, with what there is of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use flotilla_render::Unavailable;
use flotilla_runtime::tasks::chain;
use flotilla_source::flux::{Fetched, Fetcher, Wanted};

use super::SourceSettings;
use super::pace::{RETRY_MOST, retry_after};
use crate::store::SourceAt;

/// One thing to fetch.
pub(super) struct Slot {
    pub(super) wanted: Wanted,
    pub(super) interval: Duration,
    /// `None` while it is fetched, or where it could not be opened.
    pub(super) fetcher: Option<Fetcher>,
    pub(super) content: Option<Fetched>,
    /// What it was at before, by revision, as far as that is used.
    pub(super) older: BTreeMap<String, Fetched>,
    /// Somebody asked for an older revision while it was fetched.
    pub(super) is_missed: bool,
    pub(super) problem: Option<String>,
    pub(super) failures: u32,
    pub(super) due: Instant,
    pub(super) is_running: bool,
    /// How many attempts are over, and how many there have to be whatever is due.
    pub(super) attempts: u64,
    pub(super) asked: u64,
    /// Whether anybody wants it that is not suspended.
    pub(super) is_followed: bool,
    pub(super) unwanted_since: Option<Instant>,
    pub(super) checked_at: Option<i64>,
    pub(super) changed_at: Option<i64>,
}

impl Slot {
    pub(super) fn open(dir: PathBuf, wanted: Wanted, settings: &SourceSettings) -> Self {
        let opened = Fetcher::open(dir, wanted.clone(), &settings.policy);
        let (fetcher, problem) = match opened {
            Ok(fetcher) => (Some(fetcher), None),
            Err(error) => (None, Some(chain(&error))),
        };
        Self {
            wanted,
            interval: RETRY_MOST,
            content: fetcher.as_ref().and_then(Fetcher::last),
            older: BTreeMap::new(),
            is_missed: false,
            fetcher,
            problem,
            failures: 0,
            due: Instant::now(),
            is_running: false,
            attempts: 0,
            asked: 0,
            is_followed: true,
            unwanted_since: None,
            checked_at: None,
            changed_at: None,
        }
    }

    /// Opened anew, with what was known of it.
    pub(super) fn reopened(&self, dir: PathBuf, settings: &SourceSettings) -> Self {
        let new = Self::open(dir, self.wanted.clone(), settings);
        Self {
            interval: self.interval,
            content: new.content.or_else(|| self.content.clone()),
            older: self.older.clone(),
            failures: self.failures,
            attempts: self.attempts,
            asked: self.asked,
            is_followed: self.is_followed,
            checked_at: self.checked_at,
            changed_at: self.changed_at,
            ..new
        }
    }

    pub(super) fn answer(&self) -> Result<Fetched, Unavailable> {
        match (&self.content, &self.problem) {
            (Some(content), _) => Ok(content.clone()),
            (None, Some(problem)) => Err(Unavailable::new(problem.as_str())),
            (None, None) => Err(Unavailable::waiting("is not fetched yet")),
        }
    }

    /// What it was at in a snapshot.
    pub(super) fn at(&mut self, at: &SourceAt) -> Result<Fetched, Unavailable> {
        let is_it = |content: &&Fetched| content.revision == at.revision;
        if let Some(content) = self.content.as_ref().filter(is_it).or_else(|| self.older.get(&at.revision)) {
            return Ok(content.clone());
        }
        let Some(fetcher) = &self.fetcher else {
            self.is_missed = true;
            let why = format!("is being fetched; then {} of it is looked up", at.revision);
            return Err(Unavailable::waiting(why));
        };
        let content = fetcher.at(&at.revision);
        let content = content.ok_or_else(|| format!("{} of it is no longer there", at.revision))?;
        self.older.insert(at.revision.clone(), content.clone());
        Ok(content)
    }

    pub(super) fn failed(&mut self, problem: String, now: Instant) {
        self.due = now + retry_after(self.failures, self.interval);
        self.failures = self.failures.saturating_add(1);
        self.problem = Some(problem);
    }
}
