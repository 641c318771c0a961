//! What the hub notices of clusters and units itself: what broke with a commit and what is right again.

use std::sync::Arc;

use flotilla_core::report::Problem;
use flotilla_core::{ClusterName, UnitId};
use flotilla_proto::convert::cut;

use super::FleetView;
use crate::journal::Event;

/// So many events of one cluster come of one round.
const OF_ONE: usize = 20;

/// What became wrong, or right again, from one view to the next. Pure.
pub(super) fn differences(old: &FleetView, new: &FleetView, at: i64) -> Vec<Event> {
    let mut events = Vec::new();
    events.extend(difference(&old.problems, &new.problems, at, None, None));
    for (name, facts) in &new.clusters {
        let before = old.clusters.get(name);
        if before.is_some_and(|before| Arc::ptr_eq(before, facts)) {
            continue;
        }
        let cluster = Some(name);
        let of_cluster = before.map_or(&[][..], |facts| &facts.problems);
        let mut here: Vec<Event> =
            difference(of_cluster, &facts.problems, at, cluster, None).into_iter().collect();
        for (id, unit) in &facts.units {
            let of_unit = before.and_then(|facts| facts.units.get(id)).map_or(&[][..], |unit| &unit.problems);
            here.extend(difference(of_unit, &unit.problems, at, cluster, Some(id)));
        }
        let more = here.len().saturating_sub(OF_ONE);
        if more > 0 {
            here.truncate(OF_ONE);
            let message =
                format!("{more} more units changed with this commit; `flotilla status {name}` shows them");
            here.push(Event { message, unit: None, ..here[0].clone() });
        }
        events.extend(here);
    }
    events
}

fn difference(
    old: &[Problem],
    new: &[Problem],
    at: i64,
    cluster: Option<&ClusterName>,
    unit: Option<&UnitId>,
) -> Option<Event> {
    fn errors(problems: &[Problem]) -> impl Iterator<Item = &Problem> {
        problems.iter().filter(|problem| !problem.notice)
    }
    let (warning, reason, message): (_, &str, String) = match errors(new).next() {
        _ if errors(old).eq(errors(new)) => return None,
        Some(first) => match errors(new).count() - 1 {
            0 => (true, "BuildFailed", first.to_string()),
            more => (true, "BuildFailed", format!("{first} (and {more} more)")),
        },
        None => (false, "BuildSucceeded", "what was wrong is right again".to_owned()),
    };
    let (cluster, unit) = (cluster.cloned(), unit.cloned());
    let (reason, message) = (reason.to_owned(), cut(message));
    Some(Event { at, cluster, unit, object: None, source: None, warning, reason, message })
}

#[cfg(test)]
mod tests {
    use super::super::{ClusterFacts, UnitFacts};
    use super::*;

    fn view(problems: &[&[&str]]) -> FleetView {
        let of = |texts: &[&str]| texts.iter().map(|text| Problem::error("a.yaml", 1, *text)).collect();
        let units = problems.iter().enumerate().map(|(n, texts)| {
            let id = UnitId::kustomization("flux-system", format!("u{n:02}"));
            (id, UnitFacts { problems: of(texts), ..UnitFacts::default() })
        });
        let facts = ClusterFacts { units: units.collect(), ..ClusterFacts::default() };
        FleetView { clusters: [("c".parse().unwrap(), facts.into())].into(), ..FleetView::default() }
    }

    #[test]
    fn what_breaks_and_what_is_mended_is_told_once() {
        for (old, new, said) in [
            (view(&[&[]]), view(&[&[]]), vec![]),
            (view(&[&[]]), view(&[&["broken"]]), vec![(true, "a.yaml:1: broken")]),
            (view(&[&["broken"]]), view(&[&["broken"]]), vec![]),
            (view(&[&["broken"]]), view(&[&["x", "y"]]), vec![(true, "a.yaml:1: x (and 1 more)")]),
            (view(&[&["broken"]]), view(&[&[]]), vec![(false, "what was wrong is right again")]),
            (FleetView::default(), view(&[&["broken"]]), vec![(true, "a.yaml:1: broken")]),
            (view(&[&["broken"]]), FleetView::default(), vec![]),
        ] {
            let found = differences(&old, &new, 7);
            let found: Vec<_> = found.iter().map(|event| (event.warning, event.message.as_str())).collect();
            assert_eq!(found, said);
        }
    }

    #[test]
    fn one_commit_that_breaks_everything_fills_no_list() {
        let broken: Vec<&[&str]> = vec![&["broken"]; 500];
        let found = differences(&FleetView::default(), &view(&broken), 7);
        assert_eq!(found.len(), OF_ONE + 1);
        assert!(found[OF_ONE].unit.is_none() && found[OF_ONE].message.contains("480 more"), "{found:?}");
    }
}
