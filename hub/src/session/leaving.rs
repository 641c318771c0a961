//! Which units a cluster is told to remove: when its agent says that one is gone, that counts if no state that it may have
//! taken since has the unit again.

use std::collections::{BTreeSet, VecDeque};

use flotilla_core::{DesiredState, Digest, UnitEntry, UnitId};

/// So many states are looked back at.
const KEPT: usize = 16;

/// By states that were published in this session: the units that are to go since then.
#[derive(Debug, Default)]
pub(super) struct Leaving(VecDeque<(Digest, BTreeSet<UnitId>)>);

impl Leaving {
    pub(super) fn publish(&mut self, state: &DesiredState) {
        let removed =
            |(id, entry): (&UnitId, &UnitEntry)| matches!(entry, UnitEntry::Removed(_)).then(|| id.clone());
        let removed: BTreeSet<UnitId> = state.units().iter().filter_map(removed).collect();
        for (_, units) in &mut self.0 {
            units.retain(|unit| removed.contains(unit));
        }
        self.0.retain(|(digest, units)| !units.is_empty() && *digest != state.digest());
        if !removed.is_empty() {
            self.0.push_back((state.digest(), removed));
            if self.0.len() > KEPT {
                self.0.pop_front();
            }
        }
    }

    /// Of units that are gone in a cluster that runs this state, those of which nothing is left and nothing comes.
    pub(super) fn gone(&self, running: Option<Digest>, gone: &[UnitId]) -> Vec<UnitId> {
        let state = self.0.iter().find(|(digest, _)| Some(*digest) == running);
        let is_leaving = |unit: &&UnitId| state.is_some_and(|(_, units)| units.contains(*unit));
        gone.iter().filter(is_leaving).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_core::desired::{Hold, Removal};

    #[test]
    fn what_may_come_back_is_not_forgotten() {
        let unit = |name: &str| UnitId::kustomization("x", name);
        let state = |removed: &[&str], held: &str| {
            let removed = removed.iter().map(|name| (unit(name), UnitEntry::Removed(Removal::default())));
            let hold = Hold { code: held.into(), ..Hold::from("") };
            let held = (unit("held"), UnitEntry::Hold(hold));
            DesiredState::new("c".parse().unwrap(), Default::default(), "", removed.chain([held]).collect())
        };
        let all = [unit("a"), unit("b"), unit("held")];
        let (first, second, third) = (state(&["a", "b"], "1"), state(&["b"], "2"), state(&["a", "b"], "3"));
        let mut leaving = Leaving::default();
        assert!(leaving.gone(None, &all).is_empty());
        leaving.publish(&first);
        assert_eq!(leaving.gone(Some(first.digest()), &all), all[..2]);
        leaving.publish(&second);
        leaving.publish(&third);
        // The cluster may have taken the second, which does not remove the one.
        assert_eq!(leaving.gone(Some(first.digest()), &all), [unit("b")]);
        assert_eq!(leaving.gone(Some(second.digest()), &all), [unit("b")]);
        assert_eq!(leaving.gone(Some(third.digest()), &all), all[..2]);
        assert!(leaving.gone(Some(Digest::of(b"other")), &all).is_empty());
        leaving.publish(&state(&[], "4"));
        assert!(leaving.0.is_empty());
        for n in 0..2 * KEPT {
            leaving.publish(&state(&["a"], &n.to_string()));
        }
        assert_eq!(leaving.0.len(), KEPT);
    }
}
