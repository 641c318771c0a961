//! From what the hub knows to what people see. Pure.

mod tree;
mod unit;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flotilla_api::redact::Redactor;
use flotilla_api::{Attention, Cluster, ConnectionState, Desired, Suspension, SyncState};
use flotilla_core::report::Phase;
use flotilla_core::{ClusterName, UnitId};

use crate::desired::Published;
use crate::index::Summary;
use crate::rollout::ClusterRollout;
use crate::session::ClusterView;
use crate::store::{ClusterRecord, SuspensionRecord, Suspensions};
use crate::view::{ClusterFacts, Place};

pub(crate) use tree::tree;
pub(crate) use unit::unit;
pub(super) use unit::{Glance, manifest, unit_ids};

/// The phase of a unit whose agent has spoken and is away.
pub(super) const UNKNOWN: &str = "Unknown";
/// So much of what needs a person is shown of one cluster.
const ATTENTION: usize = 20;

/// All that is known of one cluster.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) facts: Option<Arc<ClusterFacts>>,
    /// Where it is rendered from.
    pub(crate) place: Place,
    pub(crate) record: Option<Arc<ClusterRecord>>,
    pub(crate) view: Option<Arc<ClusterView>>,
    pub(crate) published: Option<Published>,
    pub(crate) suspensions: Arc<Suspensions>,
    /// The labels that its agent reports.
    pub(crate) reported: Arc<BTreeMap<String, String>>,
    /// A join token is out.
    pub(crate) invited: bool,
    /// Only units of these are shown, and nothing of the cluster as a whole; `None`: everything.
    pub(crate) namespaces: Option<BTreeSet<String>>,
    /// Digests of states and units are shown through it: Secrets are in what they are of.
    pub(crate) redactor: Redactor,
}

impl Known {
    /// Whether who asks may see this unit.
    pub(crate) fn sees(&self, unit: &UnitId) -> bool {
        self.namespaces.as_ref().is_none_or(|namespaces| namespaces.contains(&unit.namespace))
    }

    /// Whether its agent is there.
    fn is_live(&self) -> bool {
        self.view.as_ref().is_some_and(|view| view.connected_since.is_some())
    }

    pub(crate) fn connection(&self) -> ConnectionState {
        match &self.record {
            Some(record) if record.revoked_at.is_some() => ConnectionState::Revoked,
            Some(_) if self.view.as_ref().is_some_and(|view| view.connected_since.is_some()) => {
                ConnectionState::Connected
            }
            Some(_) => ConnectionState::Disconnected,
            None if self.invited => ConnectionState::Invited,
            None => ConnectionState::NotEnrolled,
        }
    }
}

fn suspension(record: &SuspensionRecord) -> Suspension {
    Suspension { by: record.by.clone(), at: record.at, reason: record.reason.clone() }
}

/// A published state's digest, generation and commit.
pub(crate) fn desired(published: &Published, redactor: &Redactor) -> Desired {
    Desired {
        digest: redactor.digest(&published.state.digest()),
        generation: published.state.generation.0,
        commit: published.state.snapshot.clone(),
    }
}

/// A cluster, with what its units come to.
pub(crate) fn cluster(name: &ClusterName, known: &Known, waiting: &[ClusterRollout]) -> Cluster {
    with_summary(alone(name, known), &summary(name, known), waiting)
}

/// With what the units come to, and why it does not run the newest.
pub(super) fn with_summary(mut shown: Cluster, summary: &Summary, waiting: &[ClusterRollout]) -> Cluster {
    shown.waiting = waiting.iter().map(super::pipelines::waiting).collect();
    shown.sync = summary.sync;
    shown.units = summary.phases.iter().map(|(phase, count)| ((*phase).to_owned(), *count)).collect();
    shown.objects = summary.objects;
    shown.attention = summary.attention.clone();
    shown.problem_count = summary.problems;
    shown
}

/// A cluster without a word of its units.
pub(super) fn alone(name: &ClusterName, known: &Known) -> Cluster {
    let mut shown = Cluster {
        name: name.to_string(),
        connection: known.connection(),
        desired: known.published.as_ref().map(|published| desired(published, &known.redactor)),
        suspended: known.suspensions.cluster.as_ref().map(suspension),
        ..Cluster::default()
    };
    if let Some(facts) = &known.facts {
        shown.labels = facts.labels.clone();
        shown.variables = facts.variables.clone();
        shown.substitute = facts.substitute;
        shown.root = facts.root.clone();
        shown.assigned = facts.assigned;
        shown.problems = facts.problems.iter().map(Into::into).collect();
        let runs = known.view.as_ref().and_then(|view| view.applied);
        let ran = facts.ran.at(runs);
        shown.commit = ran
            .map(|ran| ran.commit.as_deref().unwrap_or(&known.place.commit).to_owned())
            .unwrap_or_default();
    }
    if let Some(record) = &known.record {
        // What Git says of a label counts.
        for (key, value) in &record.labels {
            shown.labels.entry(key.clone()).or_insert_with(|| value.clone());
        }
        shown.labels.extend(known.reported.iter().map(|(key, value)| (key.clone(), value.clone())));
        shown.uid = record.uid.clone();
        shown.enrolled_at = Some(record.enrolled_at);
        shown.certificate_expires = Some(record.certificate.expires_at);
        shown.revoked_at = record.revoked_at;
    }
    if let Some(view) = &known.view {
        shown.agent_version = view.agent_version.clone();
        shown.kubernetes_version = view.kubernetes_version.clone();
        shown.connected_since = view.connected_since;
        shown.last_seen = view.last_seen.get();
        shown.received = view.received.map(|digest| known.redactor.digest(&digest));
        shown.applied = view.applied.map(|digest| known.redactor.digest(&digest));
        shown.healthy = view.healthy.map(|digest| known.redactor.digest(&digest));
        shown.refused = view.refused.clone();
        shown.agent_problems = view.problems.clone();
        if view.second_agent.is_some() {
            shown.agent_problems.push(
                "a second agent with this cluster's identity wants its place and is turned away: a state folder was \
                 copied, or the agent runs twice; end one of them"
                    .into(),
            );
        }
        if view.left_out() > 0 {
            shown.agent_problems.push(format!(
                "the agent reports more than the hub keeps of one cluster: {} units are not shown",
                view.left_out()
            ));
        }
    }
    if known.namespaces.is_some() {
        // These are of all who share the cluster.
        shown.variables.clear();
        shown.problems.clear();
        shown.agent_problems.clear();
        shown.refused = None;
    }
    shown
}

/// What the units come to that who asks may see.
pub(super) fn summary(name: &ClusterName, known: &Known) -> Summary {
    let (mut summary, attention) = whole(name, known);
    summary.problems = attention.iter().filter(|it| !it.notice).count() as u32;
    attention.iter().for_each(|it| *summary.reasons.entry(it.reason).or_default() += 1);
    summary.attention = attention;
    summary.attention.truncate(ATTENTION);
    summary
}

/// All that needs a person in a cluster, the worst first.
pub(super) fn attention(name: &ClusterName, known: &Known) -> Vec<Attention> {
    whole(name, known).1
}

fn whole(name: &ClusterName, known: &Known) -> (Summary, Vec<Attention>) {
    let (mut summary, mut noteworthy, mut marks) = (Summary::default(), Vec::new(), Marks::default());
    for id in unit_ids(known) {
        let glance = Glance::of(id, known);
        *summary.phases.entry(glance.phase).or_default() += 1;
        summary.objects += glance.objects;
        marks.keeps |= glance.kept > 0;
        marks.kept_whole |= glance.is_kept_whole();
        marks.unsettled |= !glance.is_settled();
        if glance.is_noteworthy() {
            noteworthy.push(unit(name, id, known));
        }
    }
    summary.sync = sync(known, &summary.phases, &marks);
    let attention = super::attention::of_cluster(&alone(name, known), &noteworthy);
    (summary, attention)
}

/// What of a cluster's units matters for how it stands, beside their phases.
#[derive(Default)]
struct Marks {
    keeps: bool,
    kept_whole: bool,
    unsettled: bool,
}

fn sync(known: &Known, phases: &BTreeMap<&'static str, u32>, marks: &Marks) -> SyncState {
    if !known.facts.as_ref().is_some_and(|facts| facts.assigned) {
        return SyncState::Unassigned;
    }
    let (Some(published), Some(view)) = (&known.published, &known.view) else { return SyncState::Unknown };
    if view.connected_since.is_none() {
        return SyncState::Stale;
    }
    let digest = Some(published.state.digest());
    let any = |phase: Phase| phases.contains_key(phase.as_str());
    if view.received != digest {
        SyncState::Pending
    } else if any(Phase::Failed) {
        SyncState::Failing
    } else if any(Phase::Held) || published.state.holds() {
        SyncState::Held
    } else if marks.unsettled || (view.healthy != digest && !marks.kept_whole) {
        SyncState::Progressing
    } else if marks.keeps {
        SyncState::Kept
    } else if known.suspensions.cluster.is_some() || any(Phase::Suspended) {
        SyncState::Suspended
    } else {
        SyncState::InSync
    }
}
