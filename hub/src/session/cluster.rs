//! What is known of each cluster from its agent: the last reports, how far it got, whether it is there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use flotilla_core::report::{Timestamp, UnitReport};
use flotilla_core::{Digest, Generation, UnitId};
use flotilla_proto::convert::cut;
use flotilla_proto::v1::ack::Level;

use super::machine::{AckFact, ReportFact};

/// How many units of one cluster are kept, and how many bytes of what its agent tells of them. Where there are more bytes,
/// units are kept without their details, which is at most a kilobyte each.
const MAX_UNITS: usize = 20_000;
const MAX_BYTES: usize = 16 << 20;
const MAX_PROBLEMS: usize = 100;

/// The state of one cluster as its agent tells it. Only in memory: agents tell it anew.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClusterView {
    pub connected_since: Option<Timestamp>,
    pub last_seen: LastSeen,
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
    pub units: Units,
    /// What the agent itself has trouble with.
    pub problems: Vec<String>,
    /// When a second agent with this cluster's identity asked for its place last.
    pub second_agent: Option<Timestamp>,
    /// A complete report of which parts are still to come.
    partial: Option<Units>,
}

/// When an agent gave the last sign of life. All copies of a view share it: a heartbeat is no change, and copies nothing.
#[derive(Debug, Clone)]
pub struct LastSeen(Arc<AtomicI64>);

impl Default for LastSeen {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(Timestamp::MIN)))
    }
}

impl PartialEq for LastSeen {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl LastSeen {
    pub fn get(&self) -> Option<Timestamp> {
        Some(self.0.load(Ordering::Relaxed)).filter(|at| *at != Timestamp::MIN)
    }

    pub(super) fn set(&self, at: Timestamp) {
        self.0.store(at, Ordering::Relaxed);
    }
}

/// Reports of units, bounded in number and bytes. Copies share the reports.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Units {
    reports: BTreeMap<UnitId, Arc<UnitReport>>,
    bytes: usize,
    /// How many there was no room for.
    left_out: usize,
}

impl std::ops::Deref for Units {
    type Target = BTreeMap<UnitId, Arc<UnitReport>>;

    fn deref(&self) -> &Self::Target {
        &self.reports
    }
}

impl Units {
    #[cfg(test)]
    pub(crate) fn of(units: impl IntoIterator<Item = UnitReport>) -> Self {
        let mut all = Self::default();
        units.into_iter().for_each(|unit| all.insert(unit));
        all
    }

    fn insert(&mut self, mut unit: UnitReport) {
        self.remove(&unit.unit);
        if self.bytes + weight(&unit) > MAX_BYTES {
            let (id, phase, since) = (unit.unit.clone(), unit.phase, unit.since);
            unit = UnitReport {
                desired: unit.desired,
                applied: unit.applied,
                healthy: unit.healthy,
                objects: unit.objects,
                corrected: unit.corrected,
                ..UnitReport::new(
                    id,
                    phase,
                    "details are left out: the agent reports more than the hub keeps",
                    since,
                )
            };
        }
        if self.reports.len() >= MAX_UNITS {
            self.left_out += 1;
            return;
        }
        self.bytes += weight(&unit);
        self.reports.insert(unit.unit.clone(), Arc::new(unit));
    }

    fn remove(&mut self, unit: &UnitId) {
        if let Some(old) = self.reports.remove(unit) {
            self.bytes -= weight(&old);
        }
    }
}

/// About how many bytes of memory a report takes.
fn weight(unit: &UnitReport) -> usize {
    const ITEM: usize = 256;
    let id = |object: &flotilla_core::ObjectId| {
        object.group.len() + object.kind.len() + object.namespace.len() + object.name.len()
    };
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let findings = unit.findings.iter().map(|f| ITEM + id(&f.object) + f.reason.len() + f.message.len());
    let kept = unit.kept.iter().map(|kept| ITEM + id(&kept.object) + kept.why.len());
    let drift = unit.drift.iter().map(|drift| {
        let fields = drift.fields.iter();
        let fields =
            fields.map(|f| ITEM + f.field.len() + text(&f.wanted) + text(&f.found) + text(&f.manager));
        ITEM + id(&drift.object) + fields.sum::<usize>()
    });
    let name = unit.unit.namespace.len() + unit.unit.name.len();
    2 * ITEM + name + unit.message.len() + findings.chain(kept).chain(drift).sum::<usize>()
}

impl ClusterView {
    /// Of an agent that has been there since then.
    #[cfg(test)]
    pub(crate) fn of(connected_since: Option<Timestamp>, units: Units) -> Self {
        Self { connected_since, units, ..Self::default() }
    }

    /// How many units the agent told of that there was no room for.
    pub fn left_out(&self) -> usize {
        self.units.left_out
    }

    /// A session began.
    pub(super) fn connect(&mut self, at: Timestamp, agent_version: &str, kubernetes_version: &str) {
        self.connected_since = Some(at);
        self.last_seen.set(at);
        self.agent_version = agent_version.to_owned();
        self.kubernetes_version = kubernetes_version.to_owned();
        self.partial = None;
        self.ended = None;
    }

    pub(super) fn disconnect(&mut self, reason: &str) {
        self.connected_since = None;
        self.ended = Some(cut(reason.to_owned()));
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
                    message => cut(message.to_owned()),
                });
            }
            // Refused where it is read.
            Level::Unspecified => {}
        }
    }

    pub(super) fn report(&mut self, report: ReportFact) {
        let units = if report.complete {
            self.partial.insert(Units::default())
        } else {
            self.partial.as_mut().unwrap_or(&mut self.units)
        };
        for unit in report.units {
            units.insert(unit);
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
        if let Some(mut problems) = report.problems {
            problems.truncate(MAX_PROBLEMS);
            self.problems = problems.into_iter().map(cut).collect();
        }
        if let Some(invalid) = report.invalid {
            let problem = cut(format!("the hub cannot read a part of the agent's report: {invalid}"));
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
    fn an_agent_that_tells_too_much_loses_details_and_then_units() {
        let mut view = ClusterView::default();
        let large = |n: usize| {
            let mut unit = unit(&format!("unit-{n}"), Phase::Failed);
            let finding = flotilla_core::report::Finding {
                object: flotilla_core::ObjectId::new("apps", "Deployment", "web", "x"),
                reason: "ApplyFailed".into(),
                message: "x".repeat(4 << 10),
            };
            unit.findings = vec![finding; 50];
            unit
        };
        let measured = |view: &ClusterView| view.units.values().map(|unit| weight(unit)).sum::<usize>();
        for n in 0..MAX_UNITS + 10 {
            view.report(ReportFact { units: vec![large(n)], ..ReportFact::default() });
        }
        assert_eq!((view.units.len(), view.left_out()), (MAX_UNITS, 10));
        assert_eq!(measured(&view), view.units.bytes);
        assert!(view.units.bytes < MAX_BYTES + MAX_UNITS * 1_024, "{}", view.units.bytes);
        let last = &view.units[&UnitId::kustomization("flux-system", format!("unit-{}", MAX_UNITS - 1))];
        assert_eq!(
            (last.phase, last.findings.len()),
            (Phase::Failed, 0),
            "where it stands is known all the same"
        );
        // Told anew, it counts anew.
        let gone = (0..MAX_UNITS).map(|n| UnitId::kustomization("flux-system", format!("unit-{n}")));
        view.report(ReportFact { gone: gone.collect(), ..ReportFact::default() });
        assert_eq!((view.units.len(), view.units.bytes), (0, 0));
        view.report(ReportFact { complete: true, units: vec![large(1)], ..ReportFact::default() });
        assert_eq!((view.units.len(), view.left_out()), (1, 0));
    }

    #[test]
    fn problems_are_bounded() {
        let mut view = ClusterView::default();
        let problems = Some((0..500).map(|n| n.to_string()).collect());
        view.report(ReportFact { problems, ..ReportFact::default() });
        assert_eq!(view.problems.len(), MAX_PROBLEMS);
        view.report(ReportFact { problems: Some(vec![]), ..ReportFact::default() });
        assert!(view.problems.is_empty());
    }
}
