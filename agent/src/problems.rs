//! What is wrong with the agent itself, for its reports: at most one line for each thing that can go wrong.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use flotilla_runtime::lock;
use tokio::sync::watch;

/// The problems of the moment. Clones share them.
#[derive(Clone, Debug)]
pub struct Problems(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    lines: Mutex<BTreeMap<&'static str, String>>,
    version: watch::Sender<u64>,
}

impl Default for Problems {
    fn default() -> Self {
        Self(Arc::new(Inner { lines: Mutex::default(), version: watch::Sender::new(0) }))
    }
}

impl Problems {
    /// Says what is wrong with `subject` now; replaces what was said before, and logs what is new.
    pub fn set(&self, subject: &'static str, line: impl Into<String>) {
        let line = line.into();
        self.change(|lines| {
            if lines.get(subject) == Some(&line) {
                return false;
            }
            tracing::warn!(subject, "{line}");
            lines.insert(subject, line);
            true
        });
    }

    /// Says that `subject` is right again.
    pub fn clear(&self, subject: &'static str) {
        self.change(|lines| lines.remove(subject).is_some());
    }

    /// All lines.
    pub fn all(&self) -> Vec<String> {
        self.lines().values().cloned().collect()
    }

    /// Changes whenever [`Problems::all`] does.
    pub fn versions(&self) -> watch::Receiver<u64> {
        self.0.version.subscribe()
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<&'static str, String>) -> bool) {
        if change(&mut self.lines()) {
            self.0.version.send_modify(|version| *version += 1);
        }
    }

    fn lines(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, String>> {
        lock(&self.0.lines)
    }
}
