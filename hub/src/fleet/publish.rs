//! From one cluster's render to what is published for it, remembered of it, and shown of it.

use std::sync::Arc;

use flotilla_core::report::Problem;
use flotilla_core::{DesiredState, UnitId};

use super::cluster::{ClusterError, Remembered, Rendered, Shared, Task, is_kept};
use crate::desired::Published;
use crate::desired::project::{known_of, known_units, moved, project, withhold};
use crate::view::{ClusterFacts, SourceFacts, UnitFacts};

impl Shared {
    /// Publishes what a render came to, if it differs from what is published. What has to be on disk before an agent may
    /// see it is written first.
    pub(super) fn publish(
        &self,
        task: &Task,
        rendered: Rendered,
        remembered: &mut Remembered,
    ) -> Result<ClusterFacts, ClusterError> {
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

        let candidate = DesiredState::new(name.clone(), Default::default(), commit.id.as_str(), units);
        let new: Vec<_> = known_of(&render, candidate.units())
            .filter(|unit| facts.known.get(&unit.id) != Some(unit))
            .collect();
        if facts.has_agent && !new.is_empty() {
            self.ledger.add_known_units(name, &new)?;
        }
        if current.is_some_and(|current| current.state.digest() == candidate.digest()) {
            self.board.reword(&candidate);
        } else {
            if remembered.noted != remembered.commits {
                self.ledger.set_last_good(name, remembered.commits.clone())?;
                remembered.noted = remembered.commits.clone();
            }
            let generation = self.ledger.next_generation()?;
            tracing::info!(cluster = name.as_str(), %generation, digest = candidate.digest().short(), "publishing");
            let state = Arc::new(candidate.at(generation));
            self.board.publish(Published { state, bodies: Arc::new(bodies) });
        }
        Ok(shown(task, &render, remembered, &|id| facts.suspended.covers(id)))
    }
}

/// What people see of it.
fn shown(
    task: &Task,
    render: &flotilla_render::ClusterRender,
    remembered: &Remembered,
    suspended: &dyn Fn(&UnitId) -> bool,
) -> ClusterFacts {
    let units = render.units.iter().map(|(id, rendered)| {
        let at = match &rendered.unit {
            Some(_) => Some(task.commit.id.as_str()),
            None => remembered.commits.get(id).map(String::as_str),
        };
        let unit = UnitFacts {
            problems: rendered.problems.clone(),
            path: rendered.path.to_string(),
            parent: rendered.parent.clone(),
            depends_on: rendered.depends_on.clone(),
            commit: at.unwrap_or_default().to_owned(),
            source: rendered.source.to_string(),
            revision: rendered.revision.clone(),
            object: rendered.object.clone(),
            suspended: suspended(id),
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
    }
}

impl ClusterFacts {
    /// The same, of a cluster that keeps what it runs because of `problems`.
    pub(super) fn kept(self, problems: Vec<Problem>) -> Self {
        Self { assigned: true, problems, ..self }
    }
}
