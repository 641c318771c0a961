//! What the loop knows of one cluster from round to round: what its render was made from, what that came to, and what people
//! see of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use flotilla_core::report::Problem;
use flotilla_core::{ClusterName, Digest, UnitId};
use flotilla_render::{ClusterDefinition, Content};

use super::Facts;
use super::cluster::{ClusterError, Shared};
use super::dirty::{From, Known, Look};
use crate::desired::choice::Choice;
use crate::store::{ClusterAt, Snapshot, StoreError};
use crate::view::{ClusterFacts, Ran};

/// What the loop knows of one cluster.
#[derive(Default)]
pub(super) struct Cluster {
    pub(super) remembered: Arc<Remembered>,
    /// What is on record of it; `None`: to be read.
    pub(super) facts: Option<Arc<Facts>>,
    /// What its render is from; `None`: to be rendered.
    pub(super) from: Option<From>,
    /// The newest commit that comes to what it is rendered to, and the one that came to what it was before.
    pub(super) at: Arc<str>,
    pub(super) until: Arc<str>,
    /// It is being rendered, from what has changed since.
    pub(super) is_stale: bool,
    /// What people see.
    pub(super) shown: Arc<ClusterFacts>,
}

/// What one cluster last rendered to.
#[derive(Clone, Default)]
pub(super) struct Remembered {
    pub(super) content: HashMap<UnitId, Arc<Content>>,
    /// The snapshot that it was last rendered from.
    pub(super) at: Option<Arc<Snapshot>>,
    /// Those from which units last rendered that did not render from it.
    pub(super) older: BTreeMap<UnitId, Arc<Snapshot>>,
    /// What of that is on disk, and the snapshot that it names.
    pub(super) noted: ClusterAt,
    pub(super) noted_at: Option<Arc<Snapshot>>,
    pub(super) is_loaded: bool,
    /// What units last were stands in these snapshots only, as after a start.
    pub(super) is_forgotten: bool,
    /// What was published of the cluster, and of its units.
    pub(super) ran: Ran,
    pub(super) ran_units: HashMap<UnitId, Ran>,
}

impl Cluster {
    /// Its facts, and what is known of its render.
    pub(super) fn look_at(
        &mut self,
        look: &Look<'_>,
        definition: &ClusterDefinition,
        choice: &Choice,
    ) -> Result<(Arc<Facts>, Known), ClusterError> {
        let name = &definition.name;
        if !self.remembered.is_loaded {
            self.remembered = Arc::new(Remembered::load(look.shared, name)?);
        }
        let facts = match &self.facts {
            Some(facts) => facts.clone(),
            None => {
                let read = look.shared.ledger.facts(name)?;
                let shared = match &self.from {
                    Some(from) => read.sharing(&from.facts),
                    None => Arc::new(read),
                };
                self.facts.insert(shared).clone()
            }
        };
        let known =
            self.from.as_ref().map_or(Known::Nothing, |from| look.at(from, definition, &facts, choice));
        match &known {
            Known::Same => self.is_well(definition),
            Known::IfSame(_) => self.from.iter_mut().for_each(|from| from.definition = definition.clone()),
            // Until it is rendered again, nothing is.
            Known::Nothing => self.from = None,
        }
        Ok((facts, known))
    }

    /// Its render comes to the same at a newer commit.
    pub(super) fn is_still(&mut self, commit: &Arc<str>) {
        let Some(from) = &mut self.from else { return };
        from.commit = commit.clone();
        self.at = commit.clone();
        let definition = from.definition.clone();
        self.is_well(&definition);
    }

    /// Shows it as one that is rendered from the newest commit.
    fn is_well(&mut self, definition: &ClusterDefinition) {
        let labels = &definition.policy.labels;
        let ClusterFacts { assigned, problems, behind, labels: shown, .. } = &*self.shown;
        if !assigned || !problems.is_empty() || behind.is_some() || shown != labels {
            let shown = Arc::make_mut(&mut self.shown);
            shown.labels.clone_from(labels);
            (shown.assigned, shown.behind) = (true, None);
            shown.problems.clear();
        }
    }

    /// Shows it as one that is not rendered from the newest commit, if it is not.
    pub(super) fn fall_behind(&mut self, newest: &str) {
        let behind = (&*self.at != newest).then(|| self.at.clone());
        if self.shown.behind != behind {
            Arc::make_mut(&mut self.shown).behind = behind;
        }
    }

    /// Shows it as one that no commit defines any more.
    pub(super) fn leave_git(&mut self) {
        const GONE: &str = "the fleet repo no longer defines this cluster; what it runs is kept";
        let is_shown = !self.shown.assigned
            && self.shown.problems.first().is_some_and(|problem| problem.message == GONE);
        if !is_shown {
            let at = self.at.clone();
            let shown = Arc::make_mut(&mut self.shown);
            (shown.assigned, shown.behind) = (false, Some(at));
            shown.problems = vec![Problem::error("", 0, GONE)];
        }
        // It may come back to another agent.
        self.from = None;
    }
}

impl Remembered {
    /// As it is on record.
    pub(super) fn load(shared: &Shared, name: &ClusterName) -> Result<Self, StoreError> {
        let noted = shared.ledger.at(name)?;
        let at = noted.snapshot.map(|digest| shared.snapshot(digest)).transpose()?.flatten();
        let mut older = BTreeMap::new();
        for (id, digest) in &noted.units {
            older.extend(shared.snapshot(*digest)?.map(|snapshot| (id.clone(), snapshot)));
        }
        Ok(Self {
            noted_at: at.clone(),
            at,
            older,
            noted,
            is_loaded: true,
            is_forgotten: true,
            ..Self::default()
        })
    }

    /// The snapshot from which a unit last rendered, if it did.
    pub(super) fn good(&self, id: &UnitId) -> Option<&Arc<Snapshot>> {
        self.older.get(id).or(self.at.as_ref())
    }

    /// All snapshots that it is from, that of its root first.
    pub(super) fn snapshots(&self) -> Vec<Arc<Snapshot>> {
        let mut all: Vec<Arc<Snapshot>> = Vec::new();
        let root = self.good(&UnitId::root());
        for snapshot in root.into_iter().chain(&self.at).chain(self.older.values()) {
            if !all.contains(snapshot) {
                all.push(snapshot.clone());
            }
        }
        all
    }

    /// What is to be noted, if what is on record does not come to the same; `is_new`: it runs something else.
    pub(super) fn record(&self, is_new: bool) -> Option<ClusterAt> {
        let snapshot = self.at.as_ref().map(|at| at.digest());
        let units = self.older.iter().map(|(id, snapshot)| (id.clone(), snapshot.digest())).collect();
        let names = |at: &Option<Arc<Snapshot>>| -> Vec<Digest> {
            at.iter().flat_map(|at| at.sources().keys().copied()).collect()
        };
        // A source that is suspended has another name.
        let is_due = is_new && snapshot != self.noted.snapshot
            || units != self.noted.units
            || names(&self.at) != names(&self.noted_at)
            || self.noted.snapshot.is_none();
        let before = self.noted.snapshot.into_iter().chain(self.noted.before.iter().copied());
        let before = before.filter(|before| Some(*before) != snapshot).take(ClusterAt::BEFORE).collect();
        is_due.then_some(ClusterAt { snapshot, units, before })
    }
}
