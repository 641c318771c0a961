//! The ConfigMaps and Secrets that are watched for whoever asked about them, and what happened to them meanwhile.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex};

use flotilla_core::template::ValuesRef;
use flotilla_runtime::lock;
use tokio::sync::watch;

/// What is watched for whoever asked, and what happened to it.
#[derive(Default)]
pub(super) struct Followed {
    inner: Mutex<Inner>,
    /// Rises with each piece of news.
    ticks: watch::Sender<u64>,
}

#[derive(Default)]
struct Inner {
    wanted: Arc<BTreeSet<ValuesRef>>,
    news: News,
}

/// What may have other replies than before.
#[derive(Debug, Default)]
pub struct News {
    pub changed: HashSet<ValuesRef>,
    /// Which APIs are served.
    pub apis: bool,
}

impl Followed {
    /// Whether that is something else than was wanted before.
    pub(super) fn set(&self, wanted: BTreeSet<ValuesRef>) -> bool {
        let mut inner = lock(&self.inner);
        let is_new = *inner.wanted != wanted;
        if is_new {
            inner.wanted = Arc::new(wanted);
        }
        is_new
    }

    pub(super) fn ticks(&self) -> watch::Receiver<u64> {
        self.ticks.subscribe()
    }

    pub(super) fn take_news(&self) -> News {
        std::mem::take(&mut lock(&self.inner).news)
    }

    pub(super) fn wanted(&self) -> Arc<BTreeSet<ValuesRef>> {
        lock(&self.inner).wanted.clone()
    }

    /// Takes note that a watch saw something else, if that is wanted.
    pub(super) fn changed(&self, reference: &ValuesRef) {
        let mut inner = lock(&self.inner);
        if inner.wanted.contains(reference) {
            inner.news.changed.insert(reference.clone());
            drop(inner);
            self.ticks.send_modify(|ticks| *ticks += 1);
        }
    }

    /// Takes note that more became known of what is served.
    pub(super) fn served(&self) {
        lock(&self.inner).news.apis = true;
        self.ticks.send_modify(|ticks| *ticks += 1);
    }
}
