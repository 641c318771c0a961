//! From which snapshot each cluster's units are taken, by what the engine gave it and what is frozen.

use std::collections::BTreeMap;
use std::sync::Arc;

use flotilla_core::ClusterName;
use flotilla_rollout as engine;

use super::Inner;
use super::definitions::Unread;
use crate::desired::choice::{Choice, Claimed, Part, Take};

impl Inner {
    /// Makes the choices anew; whether any is another one.
    pub(super) fn choose(&mut self) -> bool {
        let mut parts: BTreeMap<&ClusterName, Vec<Part>> = BTreeMap::new();
        for (name, kept) in &self.pipelines {
            let by: Arc<str> = name.as_str().into();
            let is_unread = self.definitions.unread_of(name).is_some();
            let stored = kept.state.pipeline();
            let Some(units) = kept.read.as_deref().or(stored).map(|pipeline| &pipeline.units) else {
                continue;
            };
            let claimed = Claimed::Selected(Arc::new(units.clone()));
            let had: BTreeMap<&ClusterName, engine::Choice> = kept.state.choices().collect();
            for cluster in self.clusters.keys() {
                let choice = match had.get(cluster) {
                    Some(choice) => choice.clone(),
                    // It may be meant to be in a stage.
                    None if kept.read.is_none() && is_unread => engine::Choice::AsIs,
                    None => engine::Choice::Newest,
                };
                parts.entry(cluster).or_default().push(part(by.clone(), claimed.clone(), &choice));
            }
        }
        let known =
            |unread: &&Unread| unread.name.as_ref().is_some_and(|name| self.pipelines.contains_key(name));
        for unread in self.definitions.unread.iter().filter(|unread| !known(unread)) {
            let by: Arc<str> = unread.name.as_deref().unwrap_or("(unread)").into();
            let claimed = match &unread.units {
                Some(units) => Claimed::Selected(units.clone()),
                None => Claimed::All,
            };
            for cluster in self.clusters.keys() {
                if unread.clusters.as_ref().is_none_or(|clusters| clusters.contains(cluster)) {
                    let part = part(by.clone(), claimed.clone(), &engine::Choice::AsIs);
                    parts.entry(cluster).or_default().push(part);
                }
            }
        }
        let mut choices: BTreeMap<ClusterName, Arc<Choice>> = BTreeMap::new();
        for (cluster, parts) in parts {
            let new = Choice { parts };
            let before = self.choices.get(cluster).filter(|before| ***before == new);
            choices.insert(cluster.clone(), before.cloned().unwrap_or_else(|| Arc::new(new)));
        }
        let is_other = choices != self.choices;
        self.choices = choices;
        is_other
    }
}

/// What the engine says of a cluster, as a claim.
fn part(by: Arc<str>, claimed: Claimed, choice: &engine::Choice) -> Part {
    let at = |pick: &engine::Pick| Take::At { snapshot: pick.snapshot, content: pick.content };
    let (take, units, revision) = match choice {
        engine::Choice::Newest => (Take::Newest, Vec::new(), 0),
        engine::Choice::AsIs => (Take::AsIs, Vec::new(), 0),
        engine::Choice::Hold => (Take::Hold, Vec::new(), 0),
        engine::Choice::Run(given) => {
            let units = given.units.iter().map(|(unit, pick)| (unit.clone(), at(pick))).collect();
            (at(&given.base), units, given.revision)
        }
    };
    Part { by, claimed, take, units, revision }
}
