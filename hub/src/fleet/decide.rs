//! From one cluster's render to what it should run, what is noted of that, and what people see of it. Pure: nothing is read
//! or written, so that it can be done again whenever what people or agents say has changed.
//!
//! ```text
//!   render, facts ──► candidate ── loses nothing ─────────────────► publish
//!                              └── loses something ──► change (judged with those of all clusters) ──► publish, or held
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flotilla_core::capability::PLACE;
use flotilla_core::change::{Loss, UnitLoss};
use flotilla_core::desired::{Hold, HoldCode, KnownUnit};
use flotilla_core::{Authority, Capabilities, ClusterName, Digest, UnitEntry, UnitId};
use flotilla_proto::convert::cut;
use flotilla_render::source::{self, fleet_source};
use flotilla_render::{ClusterRender, RenderedUnit};
use flotilla_rollout::Projection;

use super::cluster::{Rendered, is_kept};
use super::ledger::Facts;
use super::memory::Remembered;
use super::older::Older;
use super::tasks::Task;
use crate::desired::choice::{Choice, Renders, moving};
use crate::desired::project::{Source, known_of, known_units, moved, project, withhold};
use crate::desired::{Bodies, Published};
use crate::store::ClusterNotes;
use crate::view::{At, ClusterFacts, Revision, SourceFacts, UnitFacts, Was};

/// What a cluster should run, before the change is judged.
pub(super) struct Candidate {
    pub(super) cluster: ClusterName,
    pub(super) commit: Arc<str>,
    pub(super) units: BTreeMap<UnitId, UnitEntry>,
    pub(super) bodies: Bodies,
    /// The units that the cluster will have.
    pub(super) known: Vec<KnownUnit>,
    /// What else is noted before it is published.
    pub(super) notes: ClusterNotes,
    pub(super) facts: Arc<Facts>,
    /// Where the cluster's root is: repository, branch and folder.
    pub(super) root: String,
    /// Units that have their content from the fleet repo.
    of_fleet: BTreeSet<UnitId>,
    /// What it loses and may, once that is judged.
    pub(super) released: BTreeMap<UnitId, UnitLoss>,
    /// By what it was chosen, and what each part of that comes to.
    pub(super) choice: Arc<Choice>,
    pub(super) chosen: Vec<Option<Projection>>,
}

/// What people are told of a unit that is held for the change. It says nothing of other clusters, which not everybody may see.
const REMOVED: &str = "would be removed, and stays: the change would take away too much of the fleet at once, and waits for an \
                       approval (`flotilla get changes`)";
const LOSES: &str = "would lose objects, and stays as it is: the change would take away too much of the fleet at once, and \
                     waits for an approval (`flotilla get changes`)";

/// What people saw of a cluster until now, and the newest commit of which that was true.
pub(super) struct Before<'a> {
    pub(super) shown: &'a ClusterFacts,
    pub(super) at: &'a Arc<str>,
}

/// What a cluster should run by its render, and what people see of it. `published` is what it was told last.
pub(super) fn decide(
    task: &Task,
    rendered: Rendered,
    facts: Arc<Facts>,
    published: Option<&Published>,
    before: Before<'_>,
    remembered: &mut Remembered,
) -> (ClusterFacts, Candidate) {
    let Rendered { render, recalled, snapshot, older, chosen, .. } = rendered;
    let (name, commit) = (&task.cluster.name, &task.commit);
    if let Some(recalled) = recalled {
        for (id, content) in recalled {
            remembered.content.entry(id).or_insert(content);
        }
        remembered.is_forgotten = false;
    }
    for (id, rendered) in &render.units {
        let has_older =
            remembered.content.contains_key(id) || remembered.is_forgotten && remembered.good(id).is_some();
        if let Some(at) = older.snapshot_of(id) {
            remembered.older.insert(id.clone(), at.clone());
            let content = rendered.unit.as_ref().filter(|_| !rendered.suspended || !has_older);
            remembered.content.extend(content.map(|unit| (id.clone(), unit.content.clone())));
            continue;
        }
        match &rendered.unit {
            Some(unit) if !rendered.suspended || !has_older => {
                remembered.content.insert(id.clone(), unit.content.clone());
                remembered.older.remove(id);
            }
            // It stays at the snapshot that it was good at.
            _ if has_older => {
                let good = remembered.good(id).cloned();
                remembered.older.extend(good.map(|good| (id.clone(), good)));
            }
            _ => {}
        }
    }
    remembered.at = Some(snapshot);
    let mut known = facts.known_with(published);
    let root = task.place_of(older.root().unwrap_or(&task.cluster.root));
    let mut notes = ClusterNotes::default();
    // A new root counts from when it renders: until then the old one's units stand in.
    let renders = render.units.get(&UnitId::root()).is_some_and(|root| !is_kept(root));
    let is_new = renders && facts.root.as_ref() != Some(&root);
    let root_moved = is_new && facts.root.is_some();
    if root_moved {
        let unsettled = moved(&mut known, &render);
        notes.known = if facts.has_agent { unsettled } else { Vec::new() };
    }
    // An agent that would not ask for what the root itself has left behind does not get to the new one.
    let asks = |capabilities: &Capabilities| capabilities.lacks([PLACE]).is_empty();
    if is_new && (!root_moved || !facts.has_agent || facts.capabilities.as_ref().is_some_and(asks)) {
        notes.root = Some(root.clone());
    }
    let place = Digest::of(root.as_bytes());
    let source = Source { render: &render, taken: &older.taken, older: &older.renders };
    let (mut units, bodies) = project(source, &known, &facts.suspended, place);
    if let Some(newest) = &older.newest {
        let renders = Renders { newest, older: &older.renders };
        for (id, text) in moving(&units, facts.declared.units(), &renders) {
            let authority = render.units.get(&id).map_or(Authority::Fleet, |unit| unit.authority.clone());
            units.insert(id, UnitEntry::Hold(Hold { authority, ..Hold::from(cut(text)) }));
        }
    }
    // Before an agent has said what it can do, nothing is sent to it.
    if let Some(capabilities) = facts.capabilities.as_ref().filter(|_| facts.has_agent) {
        withhold(&mut units, capabilities, root_moved);
    }
    remembered.content.retain(|id, _| units.contains_key(id));
    remembered.older.retain(|id, _| units.contains_key(id));
    let known = known_of(&render, &units).collect();
    note_ran(task, &render, &older, &units, &before, remembered);
    let shown = shown(task, &render, &older, remembered, &|id| facts.suspended.covers(id));
    let (cluster, commit) = (name.clone(), commit.clone());
    // Until a new root renders, it is the old one's units that are projected.
    let root = notes.root.clone().or_else(|| facts.root.clone()).unwrap_or_default();
    let of_fleet = render.units.iter().filter(|(_, rendered)| rendered.definition.source == fleet_source());
    let of_fleet = of_fleet.map(|(id, _)| id.clone()).collect();
    let released = BTreeMap::new();
    let choice = task.choice.clone();
    let candidate = Candidate {
        cluster,
        commit,
        units,
        bodies,
        known,
        notes,
        facts,
        root,
        of_fleet,
        released,
        choice,
        chosen,
    };
    (shown, candidate)
}

impl Candidate {
    /// What the cluster would lose by this, apart from what is approved or gone already. What waits for an approval in the
    /// cluster anyway is not among it.
    pub(super) fn loss(&self) -> Loss {
        if !self.facts.has_agent {
            return Loss::default();
        }
        let Facts { declared, going, known, .. } = &*self.facts;
        let mut loss = declared.lost(&self.units, &self.root, going);
        let parent = |id: &UnitId| known.get(id).and_then(|unit| unit.parent.clone());
        loss.note_words(&self.units, parent, |id| self.of_fleet.contains(id));
        loss.note_lifted(&self.units, |id| known.get(id).map(|unit| unit.removal));
        loss
    }

    /// The same, but that these units stay as they are.
    pub(super) fn hold(&mut self, units: &BTreeMap<UnitId, UnitLoss>) {
        for (id, loss) in units {
            let hold = match self.units.get(id) {
                Some(UnitEntry::Present(unit)) => {
                    let authority = unit.spec.authority.clone();
                    Hold { code: HoldCode::LossHeld, authority, ..Hold::from(LOSES) }
                }
                // It reached no further than what defined it.
                _ => {
                    let authority = loss.word.clone();
                    Hold { code: HoldCode::ChangeHeld, authority, ..Hold::from(REMOVED) }
                }
            };
            self.units.insert(id.clone(), UnitEntry::Hold(hold));
        }
        self.known.retain(|unit| !units.contains_key(&unit.id));
    }

    /// What has to be on record before an agent may see it.
    pub(super) fn take_notes(&mut self) -> ClusterNotes {
        let mut notes = std::mem::take(&mut self.notes);
        if !self.facts.has_agent {
            return notes;
        }
        let known = std::mem::take(&mut self.known);
        let new = known.into_iter().filter(|unit| self.facts.known.get(&unit.id) != Some(unit));
        let new: Vec<KnownUnit> = new.collect();
        notes.known.retain(|unit| !new.iter().any(|new| new.id == unit.id));
        notes.known.extend(new);
        let Facts { declared, going, .. } = &*self.facts;
        let (was, declared) = (declared, declared.after(&self.units, &self.root));
        let mut settled = going.clone();
        settled.add(&self.released);
        declared.settle(&self.units, &mut settled);
        notes.going = (settled != *going).then_some(settled);
        notes.declared = (declared != *was).then_some(declared);
        notes
    }
}

impl Facts {
    /// The units that the cluster has, or may have: what was published may have arrived, whatever the agent last said.
    pub(super) fn known_with(&self, published: Option<&Published>) -> BTreeMap<UnitId, KnownUnit> {
        let mut known = self.known.clone();
        let published = published.iter().filter(|_| self.has_agent);
        for unit in published.flat_map(|published| known_units(published.state.units())) {
            known.entry(unit.id.clone()).or_insert(unit);
        }
        known
    }

    /// The same, in the memory of older ones where those are equal: what was just noted is read again.
    pub(super) fn sharing(mut self, older: &Arc<Self>) -> Arc<Self> {
        if self == **older {
            return older.clone();
        }
        if self.declared == older.declared {
            self.declared = older.declared.clone();
        }
        Arc::new(self)
    }

    /// With what was just noted.
    pub(super) fn with(&self, notes: &ClusterNotes) -> Self {
        let mut facts = self.clone();
        facts.known.extend(notes.known.iter().map(|unit| (unit.id.clone(), unit.clone())));
        facts.going = notes.going.clone().unwrap_or(facts.going);
        facts.declared = notes.declared.clone().unwrap_or(facts.declared);
        facts.root = notes.root.clone().or(facts.root);
        facts
    }
}

/// Remembers which commits and revisions the digests of units are.
fn note_ran(
    task: &Task,
    render: &ClusterRender,
    older: &Older,
    units: &BTreeMap<UnitId, UnitEntry>,
    before: &Before<'_>,
    remembered: &mut Remembered,
) {
    remembered.ran_units.retain(|id, _| units.contains_key(id));
    for (id, entry) in units {
        let (UnitEntry::Present(manifest), Some(rendered)) = (entry, render.units.get(id)) else { continue };
        let (at, revision) = of_content(id, rendered, older, remembered);
        let digest = manifest.digest();
        let ran = remembered.ran_units.get(id);
        let mut was = Was { digest, commit: None, revision };
        if is_kept(rendered) {
            if ran.is_some_and(|ran| ran.at(Some(digest)).is_some()) {
                continue;
            }
            // Of a source that has gone on since, nobody knows any more which revision it was.
            if was.revision != Revision::Fleet {
                was.revision = Revision::default();
            }
            was.commit = Some(at.commit(&task.commit).into());
        } else if older.taken.contains_key(id) {
            was.commit = Some(at.commit(&task.commit).into());
        } else if ran.and_then(|ran| ran.at(Some(digest))) == Some(&was) {
            continue;
        }
        // Until now it was of the commit that people were shown.
        let until = before.shown.units.get(id).map_or(&At::Unknown, |unit| &unit.at);
        let until: Arc<str> = until.commit(before.at).into();
        remembered.ran_units.entry(id.clone()).or_default().note(was, &until);
    }
}

/// The commit and the revision that a unit's content is from: older ones where it is held or suspended.
fn of_content(
    id: &UnitId,
    rendered: &RenderedUnit,
    older: &Older,
    remembered: &Remembered,
) -> (At, Revision) {
    let at = match remembered.older.get(id) {
        _ if !is_kept(rendered) && !older.taken.contains_key(id) => At::Cluster,
        Some(snapshot) => At::Older(snapshot.commit().clone()),
        // Suspended from its first render on.
        None if rendered.unit.is_some() => At::Cluster,
        None => At::Unknown,
    };
    let revision = match &rendered.revision {
        Some(source::Revision::Fleet) => Revision::Fleet,
        Some(source::Revision::Of(revision)) => Revision::Of(revision.clone()),
        None => Revision::default(),
    };
    (at, revision)
}

/// What people see of it.
fn shown(
    task: &Task,
    render: &ClusterRender,
    older: &Older,
    remembered: &Remembered,
    suspended: &dyn Fn(&UnitId) -> bool,
) -> ClusterFacts {
    let of_fleet = |by: Option<&UnitId>| {
        by.is_none_or(|by| render.units.get(by).is_some_and(|by| by.authority.is_fleet()))
    };
    let units = render.units.iter().map(|(id, rendered)| {
        let (at, revision) = of_content(id, rendered, older, remembered);
        let definition = &rendered.definition;
        let unit = UnitFacts {
            problems: rendered.problems.clone(),
            path: definition.path.to_string(),
            parent: rendered.parent.clone(),
            depends_on: definition.spec.depends_on.clone(),
            at,
            source: definition.source.to_string(),
            revision,
            object: definition.object.clone(),
            of_fleet: of_fleet(rendered.parent.as_ref()),
            account: rendered.unit.as_ref().and_then(|unit| unit.manifest.spec.service_account.clone()),
            suspended: suspended(id),
            suspended_in_git: definition.spec.suspend,
            ran: remembered.ran_units.get(id).cloned().unwrap_or_default(),
        };
        (id.clone(), unit)
    });
    let sources = render.sources.iter().filter_map(|(id, source)| {
        let (defined_by, object) = (source.defined_by.clone(), source.object.clone()?);
        let facts = SourceFacts { of_fleet: of_fleet(Some(&defined_by)), defined_by, object };
        Some((id.clone(), facts))
    });
    let cluster = &task.cluster;
    let root = older.root().unwrap_or(&cluster.root);
    ClusterFacts {
        labels: cluster.policy.labels.clone(),
        groups: cluster.policy.groups.of.clone(),
        variables: root.variables.clone(),
        substitute: root.substitute,
        root: root.path.to_string(),
        assigned: true,
        problems: Vec::new(),
        units: units.collect(),
        sources: sources.collect(),
        ran: remembered.ran.clone(),
        behind: None,
    }
}
