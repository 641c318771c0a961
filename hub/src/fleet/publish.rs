//! From one cluster's render to what is published for it, remembered of it, and shown of it.
//!
//! ```text
//!   render ──► candidate ── removes nothing ─────────────────► publish
//!                       └── removes units ──► change (judged with those of all clusters) ──► publish, or held
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use flotilla_core::desired::{Hold, HoldCode};
use flotilla_core::report::Problem;
use flotilla_core::{ClusterName, DesiredState, Digest, Object, UnitEntry, UnitId};
use flotilla_render::{ClusterRender, RenderedUnit};

use super::cluster::{ClusterError, Remembered, Rendered, Shared, Task, is_kept};
use super::ledger::Facts;
use crate::desired::project::{known_of, known_units, moved, project, withhold};
use crate::desired::{KnownUnit, Published};
use crate::view::{ClusterFacts, SourceFacts, UnitFacts, Was};

impl Shared {
    /// What a cluster should run by its render, and what people see of it.
    pub(super) fn candidate(
        &self,
        task: &Task,
        rendered: Rendered,
        remembered: &mut Remembered,
    ) -> Result<(ClusterFacts, Candidate), ClusterError> {
        let Rendered { render, facts, recalled } = rendered;
        let (name, commit) = (&task.cluster.name, &task.commit);
        for (id, content) in recalled {
            remembered.content.entry(id).or_insert(content);
        }
        for (id, rendered) in &render.units {
            if rendered.suspended && remembered.content.contains_key(id) {
                continue;
            }
            if let Some(unit) = &rendered.unit {
                remembered.content.insert(id.clone(), unit.content.clone());
                remembered.commits.insert(id.clone(), commit.id.as_str().to_owned());
            }
        }
        let current = self.board.current(name);
        let mut known = facts.known.clone();
        // What was published may have arrived, whatever the agent last said.
        let published = current.iter().filter(|_| facts.has_agent);
        for unit in published.flat_map(|published| known_units(published.state.units())) {
            known.entry(unit.id.clone()).or_insert(unit);
        }
        let root = self.ledger.root(name)?;
        // A new root counts from when it renders: until then the old one's units stand in.
        let renders = render.units.get(&UnitId::root()).is_some_and(|root| !is_kept(root));
        if root.as_ref() != Some(&task.root) && renders {
            let unsettled = if root.is_some() { moved(&mut known, &render) } else { Vec::new() };
            if facts.has_agent && !unsettled.is_empty() {
                self.ledger.add_known_units(name, &unsettled)?;
            }
            self.ledger.set_root(name, &task.root)?;
        }
        let (mut units, bodies) = project(&render, &known, &facts.suspended);
        // Before an agent has said what it can do, nothing is sent to it.
        if let Some(capabilities) = facts.capabilities.as_ref().filter(|_| facts.has_agent) {
            withhold(&mut units, capabilities);
        }
        remembered.content.retain(|id, _| units.contains_key(id));
        remembered.commits.retain(|id, _| units.contains_key(id));

        let candidate = Candidate {
            cluster: name.clone(),
            commit: commit.id.as_str().to_owned(),
            known: known_of(&render, &units).collect(),
            units,
            bodies,
            facts,
        };
        note_ran(task, &render, &candidate.units, remembered);
        let shown = shown(task, &render, remembered, &|id| candidate.facts.suspended.covers(id));
        Ok((shown, candidate))
    }

    /// Publishes what a cluster should run, if it differs from what is published. What has to be on disk before an agent may
    /// see it is written first.
    pub(super) fn publish(
        &self,
        candidate: Candidate,
        remembered: &mut Remembered,
    ) -> Result<(), ClusterError> {
        let Candidate { cluster, commit, units, bodies, known, facts } = candidate;
        let new: Vec<_> = known.into_iter().filter(|unit| facts.known.get(&unit.id) != Some(unit)).collect();
        if facts.has_agent && !new.is_empty() {
            self.ledger.add_known_units(&cluster, &new)?;
        }
        let goes = |id: &UnitId, entry: &UnitEntry| match entry {
            UnitEntry::Removed(_) => true,
            // Approved, and not yet to be removed.
            UnitEntry::Hold(_) => facts.going.contains(id),
            UnitEntry::Present(_) => false,
        };
        let going: BTreeSet<UnitId> =
            units.iter().filter(|(id, entry)| goes(id, entry)).map(|(id, _)| id.clone()).collect();
        if facts.has_agent && going != facts.going {
            self.ledger.set_going(&cluster, &going)?;
        }
        let at: Arc<str> = commit.as_str().into();
        let state = DesiredState::new(cluster.clone(), Default::default(), commit, units);
        remembered.ran.note(Was { digest: state.digest(), commit: at, revision: "".into() });
        let current = self.board.current(&cluster);
        if current.is_some_and(|current| current.state.digest() == state.digest()) {
            self.board.reword(&state);
            return Ok(());
        }
        if remembered.noted != remembered.commits {
            self.ledger.set_last_good(&cluster, remembered.commits.clone())?;
            remembered.noted = remembered.commits.clone();
        }
        let generation = self.ledger.next_generation()?;
        tracing::info!(cluster = cluster.as_str(), %generation, digest = state.digest().short(), "publishing");
        let state = Arc::new(state.at(generation));
        self.board.publish(Published { state, bodies: Arc::new(bodies) });
        Ok(())
    }
}

/// What a cluster should run, before the change is judged.
pub(super) struct Candidate {
    pub(super) cluster: ClusterName,
    commit: String,
    pub(super) units: BTreeMap<UnitId, UnitEntry>,
    bodies: HashMap<Digest, Object>,
    known: Vec<KnownUnit>,
    pub(super) facts: Facts,
}

impl Candidate {
    /// The units that this would remove with their objects, and that nothing removed before. Those that wait for an approval
    /// in their cluster anyway are not among them.
    pub(super) fn losses(&self) -> BTreeSet<UnitId> {
        let is_lost = |(id, entry): &(&UnitId, &UnitEntry)| match entry {
            UnitEntry::Removed(removal) => {
                removal.deletes() && !removal.moved && !self.facts.going.contains(*id)
            }
            UnitEntry::Present(_) | UnitEntry::Hold(_) => false,
        };
        if !self.facts.has_agent {
            return BTreeSet::new();
        }
        self.units.iter().filter(is_lost).map(|(id, _)| id.clone()).collect()
    }

    /// The same, but that these units stay as they are.
    pub(super) fn hold(&mut self, units: &BTreeSet<UnitId>, text: &str) {
        for id in units {
            let hold = Hold { code: HoldCode::ChangeHeld, ..Hold::from(text) };
            self.units.insert(id.clone(), UnitEntry::Hold(hold));
        }
    }
}

/// Remembers which commits and revisions the digests of units are.
fn note_ran(
    task: &Task,
    render: &ClusterRender,
    units: &BTreeMap<UnitId, UnitEntry>,
    remembered: &mut Remembered,
) {
    remembered.ran_units.retain(|id, _| units.contains_key(id));
    for (id, entry) in units {
        let (UnitEntry::Present(manifest), Some(rendered)) = (entry, render.units.get(id)) else { continue };
        let (commit, mut revision) = of_content(task, id, rendered, remembered);
        let digest = manifest.digest();
        if is_kept(rendered) {
            if remembered.ran_units.get(id).is_some_and(|ran| ran.at(Some(digest)).is_some()) {
                continue;
            }
            // Of a source that has gone on since, nobody knows any more which revision it was.
            if !revision.ends_with(commit.as_str()) {
                revision.clear();
            }
        }
        let was = Was { digest, commit: commit.into(), revision: revision.into() };
        remembered.ran_units.entry(id.clone()).or_default().note(was);
    }
}

/// The commit and the revision that a unit's content is from: older ones where it is held or suspended.
fn of_content(
    task: &Task,
    id: &UnitId,
    rendered: &RenderedUnit,
    remembered: &Remembered,
) -> (String, String) {
    let newest = task.commit.id.as_str();
    let of_then = || remembered.commits.get(id).map_or("", String::as_str);
    let commit = if is_kept(rendered) { of_then() } else { newest };
    // The fleet repo's own revision ends with its commit.
    let revision = match rendered.revision.strip_suffix(newest) {
        Some(branch) if !commit.is_empty() => format!("{branch}{commit}"),
        Some(_) => String::new(),
        None => rendered.revision.clone(),
    };
    (commit.to_owned(), revision)
}

/// What people see of it.
fn shown(
    task: &Task,
    render: &ClusterRender,
    remembered: &Remembered,
    suspended: &dyn Fn(&UnitId) -> bool,
) -> ClusterFacts {
    let units = render.units.iter().map(|(id, rendered)| {
        let (commit, revision) = of_content(task, id, rendered, remembered);
        let unit = UnitFacts {
            problems: rendered.problems.clone(),
            path: rendered.path.to_string(),
            parent: rendered.parent.clone(),
            depends_on: rendered.depends_on.clone(),
            commit,
            source: rendered.source.to_string(),
            revision,
            object: rendered.object.clone(),
            suspended: suspended(id),
            ran: remembered.ran_units.get(id).cloned().unwrap_or_default(),
        };
        (id.clone(), unit)
    });
    let sources = render.sources.iter().filter_map(|(id, source)| {
        let facts = SourceFacts { defined_by: source.defined_by.clone(), object: source.object.clone()? };
        Some((id.clone(), facts))
    });
    let cluster = &task.cluster;
    ClusterFacts {
        labels: cluster.labels.clone(),
        groups: cluster.groups.of.clone(),
        variables: cluster.variables.clone(),
        root: cluster.root.to_string(),
        assigned: true,
        problems: Vec::new(),
        units: units.collect(),
        sources: sources.collect(),
        ran: remembered.ran.clone(),
    }
}

impl ClusterFacts {
    /// The same, of a cluster that keeps what it runs because of `problems`.
    pub(super) fn kept(self, problems: Vec<Problem>) -> Self {
        Self { assigned: true, problems, ..self }
    }
}
