//! What is known of each cluster from its agent: the last reports, how far it got, whether it is there.

use std::collections::{BTreeMap, VecDeque};

use flotilla_core::report::{Event, Timestamp, UnitReport};
use flotilla_core::{Digest, Generation, UnitId};
use flotilla_proto::v1::ack::Level;

use super::machine::{AckFact, ReportFact};

/// How many events of a cluster are kept.
const MAX_EVENTS: usize = 200;
/// More units than this in one cluster's reports are no report of ours.
const MAX_UNITS: usize = 20_000;
const MAX_PROBLEMS: usize = 100;

/// The state of one cluster as its agent tells it. Only in memory: agents tell it anew.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClusterView {
    pub connected_since: Option<Timestamp>,
    pub last_seen: Option<Timestamp>,
    pub agent_version: String,
    pub kubernetes_version: String,
    /// The highest generation that the agent has taken.
    pub generation: Generation,
    pub received: Option<Digest>,
    pub applied: Option<Digest>,
    pub healthy: Option<Digest>,
    /// Why the agent did not take what it was sent last.
    pub refused: Option<String>,
    /// Why the last session ended.
    pub ended: Option<String>,
    pub units: BTreeMap<UnitId, UnitReport>,
    /// Newest last.
    pub events: VecDeque<Event>,
    /// What the agent itself has trouble with.
    pub problems: Vec<String>,
    /// A complete report of which parts are still to come.
    partial: Option<BTreeMap<UnitId, UnitReport>>,
}

impl ClusterView {
    /// A session began.
    pub(super) fn connect(&mut self, at: Timestamp, agent_version: &str, kubernetes_version: &str) {
        self.connected_since = Some(at);
        self.last_seen = Some(at);
        self.agent_version = agent_version.to_owned();
        self.kubernetes_version = kubernetes_version.to_owned();
        self.partial = None;
        self.ended = None;
    }

    pub(super) fn disconnect(&mut self, reason: &str) {
        self.connected_since = None;
        self.ended = Some(reason.to_owned());
    }

    pub(super) fn ack(&mut self, ack: &AckFact) {
        match ack.level {
            Level::Received => {
                self.received = ack.digest;
                self.generation = self.generation.max(ack.generation);
                self.refused = None;
            }
            Level::Applied => self.applied = ack.digest,
            Level::Healthy => {
                self.applied = ack.digest;
                self.healthy = ack.digest;
            }
            Level::Refused => {
                self.refused = Some(match ack.message.as_str() {
                    "" => "the agent has taken a newer generation".to_owned(),
                    message => message.to_owned(),
                });
            }
        }
    }

    pub(super) fn report(&mut self, report: ReportFact) {
        let units = if report.complete {
            self.partial.insert(BTreeMap::new())
        } else {
            self.partial.as_mut().unwrap_or(&mut self.units)
        };
        for unit in report.units {
            if units.len() < MAX_UNITS || units.contains_key(&unit.unit) {
                units.insert(unit.unit.clone(), unit);
            }
        }
        for unit in report.gone {
            units.remove(&unit);
        }
        // Until the last part is here, the units of before stay to be seen.
        if !report.more
            && let Some(complete) = self.partial.take()
        {
            self.units = complete;
        }
        self.events.extend(report.events);
        let excess = self.events.len().saturating_sub(MAX_EVENTS);
        self.events.drain(..excess);
        if let Some(mut problems) = report.problems {
            problems.truncate(MAX_PROBLEMS);
            self.problems = problems;
        }
        for invalid in report.invalid.into_iter().take(1) {
            let problem = format!("the hub cannot read a part of the agent's report: {invalid}");
            if !self.problems.contains(&problem) && self.problems.len() < MAX_PROBLEMS {
                self.problems.push(problem);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_core::report::Phase;

    fn unit(name: &str, phase: Phase) -> UnitReport {
        UnitReport::new(UnitId::kustomization("flux-system", name), phase, "", 1)
    }

    fn names(view: &ClusterView) -> Vec<&str> {
        view.units.keys().map(|id| id.name.as_str()).collect()
    }

    #[test]
    fn reports_are_merged_and_a_complete_one_replaces_once_it_is_whole() {
        let mut view = ClusterView::default();
        let report = |complete, more, units: &[UnitReport]| ReportFact {
            complete,
            more,
            units: units.to_vec(),
            ..ReportFact::default()
        };
        view.report(report(true, false, &[unit("a", Phase::Ready), unit("b", Phase::Ready)]));
        view.report(report(false, false, &[unit("b", Phase::Failed)]));
        assert_eq!(view.units[&UnitId::kustomization("flux-system", "b")].phase, Phase::Failed);
        view.report(report(true, true, &[unit("c", Phase::Ready)]));
        assert_eq!(names(&view), ["a", "b"], "half a report says nothing of what is missing in it");
        view.report(report(false, false, &[unit("d", Phase::Ready)]));
        assert_eq!(names(&view), ["c", "d"]);
        let gone = vec![UnitId::kustomization("flux-system", "c")];
        view.report(ReportFact { gone, ..ReportFact::default() });
        assert_eq!(names(&view), ["d"]);
    }

    #[test]
    fn events_and_problems_are_bounded() {
        let mut view = ClusterView::default();
        let event = |at| Event {
            at,
            unit: UnitId::root(),
            object: None,
            warning: false,
            reason: "Applied".into(),
            message: String::new(),
        };
        let problems = Some((0..500).map(|n| n.to_string()).collect());
        view.report(ReportFact { events: (0..500).map(event).collect(), problems, ..ReportFact::default() });
        assert_eq!((view.events.len(), view.events[0].at), (MAX_EVENTS, 300));
        assert_eq!(view.problems.len(), MAX_PROBLEMS);
        view.report(ReportFact { problems: Some(vec![]), ..ReportFact::default() });
        assert!(view.problems.is_empty());
    }
}
