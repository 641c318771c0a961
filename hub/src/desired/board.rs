//! The board: what is published for each cluster, for sessions and the API to watch.
//!
//! A slow reader skips to the newest: each cluster has one `watch` slot, and a slot changes only when the
//! state's digest does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use flotilla_core::question::Question;
use flotilla_core::{ClusterName, DesiredState};
use flotilla_runtime::lock;
use tokio::sync::watch;

use super::Bodies;

/// A desired state with the bodies of its objects.
#[derive(Debug, Clone)]
pub struct Published {
    pub state: Arc<DesiredState>,
    /// Every object of every unit that is present.
    pub bodies: Arc<Bodies>,
}

/// The slots of all clusters.
#[derive(Debug, Default)]
pub struct Board {
    slots: Mutex<BTreeMap<ClusterName, watch::Sender<Option<Published>>>>,
    questions: Mutex<BTreeMap<ClusterName, watch::Sender<Questions>>>,
    /// Clusters whose slot was written since somebody asked.
    written: Mutex<BTreeSet<ClusterName>>,
}

/// What the agent is asked; `None`: the cluster was not rendered yet.
pub type Questions = Option<Arc<BTreeSet<Question>>>;

impl Board {
    pub fn new() -> Self {
        Self::default()
    }

    /// Watches a cluster's slot; it holds `None` until the hub knows what the cluster should run.
    pub fn subscribe(&self, cluster: &ClusterName) -> watch::Receiver<Option<Published>> {
        self.slot(cluster, watch::Sender::subscribe)
    }

    /// What is published for the cluster at this moment.
    pub fn current(&self, cluster: &ClusterName) -> Option<Published> {
        self.slot(cluster, |slot| slot.borrow().clone())
    }

    /// Publishes a state; readers wake only if its digest is another than before.
    pub fn publish(&self, published: Published) {
        let cluster = published.state.cluster.clone();
        self.slot(&cluster, |slot| {
            slot.send_if_modified(|current| {
                let same = current.as_ref().is_some_and(|c| c.state.digest() == published.state.digest());
                if !same {
                    *current = Some(published);
                }
                !same
            })
        });
        self.note_written(cluster);
    }

    fn note_written(&self, cluster: ClusterName) {
        lock(&self.written).insert(cluster);
    }

    /// The clusters whose slot was written since the last call. For [`crate::index`].
    pub fn take_written(&self) -> BTreeSet<ClusterName> {
        std::mem::take(&mut *lock(&self.written))
    }

    /// Takes the texts of a state with the digest of the one that is published, for whoever reads it from now on.
    pub fn reword(&self, newer: &DesiredState) {
        self.slot(&newer.cluster, |slot| {
            slot.send_if_modified(|current| {
                if let Some(current) = current
                    && let Some(reworded) = current.state.with_texts_of(newer)
                {
                    current.state = Arc::new(reworded);
                }
                false
            })
        });
        self.note_written(newer.cluster.clone());
    }

    /// Asks the cluster's agent all of this, and nothing else any more; readers wake only if that is something else.
    pub fn ask(&self, cluster: &ClusterName, questions: BTreeSet<Question>) {
        self.asked(cluster, |slot| {
            slot.send_if_modified(|asked| {
                let is_new = asked.as_deref() != Some(&questions);
                if is_new {
                    *asked = Some(Arc::new(questions));
                }
                is_new
            })
        });
    }

    /// Watches what a cluster's agent is asked.
    pub fn questions(&self, cluster: &ClusterName) -> watch::Receiver<Questions> {
        self.asked(cluster, watch::Sender::subscribe)
    }

    fn asked<T>(&self, cluster: &ClusterName, use_it: impl FnOnce(&watch::Sender<Questions>) -> T) -> T {
        let mut questions = lock(&self.questions);
        use_it(questions.entry(cluster.clone()).or_insert_with(|| watch::Sender::new(None)))
    }

    /// Publishes nothing for the cluster any more.
    pub fn forget(&self, cluster: &ClusterName) {
        self.asked(cluster, |slot| drop(slot.send_replace(None)));
        self.slot(cluster, |slot| drop(slot.send_replace(None)));
        self.note_written(cluster.clone());
    }

    fn slot<T>(
        &self,
        cluster: &ClusterName,
        use_it: impl FnOnce(&watch::Sender<Option<Published>>) -> T,
    ) -> T {
        let mut slots = lock(&self.slots);
        use_it(slots.entry(cluster.clone()).or_insert_with(|| watch::Sender::new(None)))
    }
}
