//! What is noted of clusters before anything is published for them: for many of them with one sync of the disk.

use std::collections::BTreeSet;
use std::sync::Arc;

use flotilla_core::change::{self, Declared};
use flotilla_core::desired::KnownUnit;
use flotilla_core::{ClusterName, UnitId};

use super::records::{ATTEMPTS, encode};
use super::{
    ClusterAt, DeclaredRecord, Going, KnownUnitRecord, KnownUnits, Outcome, Records, Root, StoreError, Txn,
};

/// The records that are of facts about one cluster, for the fleet loop.
pub(super) const FACTS: &[&str] =
    &["suspended/", "known/", "kubernetes/", "going/", "cluster/", "root/", "told/"];

/// What is noted of one cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterNotes {
    /// Units that are about to be published, in place of those of the same identity.
    pub known: Vec<KnownUnit>,
    /// Where its root is, if that is another place than before.
    pub root: Option<String>,
    /// The units and objects that may go, if these are others than before.
    pub going: Option<change::Going>,
    /// The objects that it is told to run, if these are others than before.
    pub declared: Option<Arc<Declared>>,
    /// From which snapshots its units are, if from others than before.
    pub at: Option<ClusterAt>,
}

impl ClusterNotes {
    /// Whether there is nothing to note.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Records {
    /// The clusters of which facts may have been written since the last call.
    pub fn changed_facts(&self) -> BTreeSet<ClusterName> {
        let keys = self.facts.take().into_iter();
        keys.filter_map(|key| key.split_once('/').and_then(|(_, name)| name.parse().ok())).collect()
    }

    /// Notes all of it, or nothing. What was noted is known to the fleet loop, and no change of facts to it.
    pub fn note_published(&self, notes: &[(&ClusterName, &ClusterNotes)]) -> Result<(), StoreError> {
        for _ in 0..ATTEMPTS {
            let mut txn = Txn::default();
            for (cluster, notes) in notes {
                self.put_notes(cluster, notes, &mut txn)?;
            }
            if txn.writes.is_empty() || self.write_by(txn, Some(&self.facts))? == Outcome::Committed {
                return Ok(());
            }
        }
        Err(StoreError::Contended("what is about to be published".to_owned()))
    }

    fn put_notes(
        &self,
        cluster: &ClusterName,
        notes: &ClusterNotes,
        txn: &mut Txn,
    ) -> Result<(), StoreError> {
        if !notes.known.is_empty() {
            let key = format!("known/{cluster}");
            let old = self.read_large::<KnownUnits>(&key)?;
            let mut known = old.record.unwrap_or_default();
            let ids: BTreeSet<&UnitId> = notes.known.iter().map(|unit| &unit.id).collect();
            known.units.retain(|unit| !ids.contains(&unit.id));
            known.units.extend(notes.known.iter().map(KnownUnitRecord::from));
            txn.expect(&key, old.head);
            self.put_large(&key, &known, txn)?;
        }
        if let Some(going) = &notes.going {
            let key = format!("going/{cluster}");
            let old = self.store.get(&key)?;
            txn.expect(&key, old);
            if *going == change::Going::default() {
                self.remove_large(&key, txn)?;
            } else {
                self.put_large(&key, &Going::from(going), txn)?;
            }
        }
        // Nobody else writes these.
        if let Some(at) = &notes.root {
            txn.put(format!("root/{cluster}"), encode(&Root { at: at.clone() }));
        }
        if let Some(declared) = &notes.declared {
            self.put_large(&format!("declared/{cluster}"), &DeclaredRecord::from(&**declared), txn)?;
        }
        if let Some(at) = &notes.at {
            self.put_cluster_at(cluster, at, txn)?;
        }
        Ok(())
    }
}
