//! From what the hub knows to what people see. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flotilla_api::redact::Redactor;
use flotilla_api::{
    self as api, Attention, Cluster, ConnectionState, Desired, Health, Suspension, SyncState, Tree,
    TreeObject, TreeUnit, Unit,
};
use flotilla_core::report::{Drift, Kept, Phase, UnitReport};
use flotilla_core::{ClusterName, UnitEntry, UnitId, UnitManifest};

use crate::desired::Published;
use crate::index::Summary;
use crate::rollout::ClusterRollout;
use crate::session::ClusterView;
use crate::store::{ClusterRecord, SuspensionRecord, Suspensions};
use crate::view::{ClusterFacts, Place, UnitFacts};

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
                "the agent tells more than the hub keeps of one cluster: {} units are not shown",
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

/// What a summary needs of a unit; most need no more.
pub(super) struct Glance {
    pub(super) phase: &'static str,
    objects: u32,
    kept: usize,
    is_suspended: bool,
    is_wrong: bool,
}

impl Glance {
    pub(super) fn of(id: &UnitId, known: &Known) -> Self {
        let found = Found::of(id, known);
        let problems = found.facts.map(|facts| &facts.problems[..]);
        Self {
            phase: found.shown_phase(phase(found.entry, found.report, problems).0, known),
            objects: found.objects(),
            kept: found.report.map_or(0, |report| report.kept.len()),
            is_suspended: known.suspensions.of(id).is_some(),
            is_wrong: problems.unwrap_or_default().iter().any(|problem| !problem.notice),
        }
    }

    /// Whether [`super::attention`] may have something to say of it.
    fn is_noteworthy(&self) -> bool {
        let phases = [Phase::Held, Phase::Failed, Phase::Suspended].map(Phase::as_str);
        self.kept > 0 || self.is_suspended || self.is_wrong || phases.contains(&self.phase)
    }

    /// A removal of which everything is kept waits for an approval, and the agent for nothing else.
    fn is_kept_whole(&self) -> bool {
        let told = (self.objects as usize).min(UnitReport::MAX_DETAILS);
        self.phase == Phase::Removing.as_str() && told > 0 && self.kept == told
    }

    fn is_settled(&self) -> bool {
        self.phase == Phase::Ready.as_str() || self.phase == Phase::Suspended.as_str() || self.is_kept_whole()
    }
}

/// What the unit is to be, where it is present.
pub(super) fn manifest<'a>(id: &UnitId, known: &'a Known) -> Option<&'a UnitManifest> {
    Found::of(id, known).manifest()
}

/// What Git, the hub and the agent have of one unit.
struct Found<'a> {
    facts: Option<&'a UnitFacts>,
    entry: Option<&'a UnitEntry>,
    report: Option<&'a UnitReport>,
}

impl<'a> Found<'a> {
    fn of(id: &UnitId, known: &'a Known) -> Self {
        Self {
            facts: known.facts.as_ref().and_then(|facts| facts.units.get(id)),
            entry: known.published.as_ref().and_then(|published| published.state.units().get(id)),
            report: known.view.as_ref().and_then(|view| view.units.get(id)).map(Arc::as_ref),
        }
    }

    fn manifest(&self) -> Option<&'a UnitManifest> {
        match self.entry {
            Some(UnitEntry::Present(manifest)) => Some(manifest),
            _ => None,
        }
    }

    fn objects(&self) -> u32 {
        let reported = || self.report.map_or(0, |report| report.objects);
        self.manifest().map_or_else(reported, |manifest| manifest.objects.len() as u32)
    }

    /// What the hub says itself, it says whether the agent is there or not.
    fn shown_phase(&self, phase: Phase, known: &Known) -> &'static str {
        let is_agents_word = self.report.is_some() && !matches!(phase, Phase::Held | Phase::Suspended);
        if is_agents_word && !known.is_live() { UNKNOWN } else { phase.as_str() }
    }
}

/// The units of a cluster that who asks may see: those that Git names, that are published, or that the agent has.
pub(super) fn unit_ids(known: &Known) -> BTreeSet<&UnitId> {
    let mut ids: BTreeSet<&UnitId> = BTreeSet::new();
    ids.extend(known.facts.iter().flat_map(|facts| facts.units.keys()));
    ids.extend(known.published.iter().flat_map(|published| published.state.units().keys()));
    ids.extend(known.view.iter().flat_map(|view| view.units.keys()));
    ids.retain(|id| known.sees(id) && !is_gone(id, known));
    ids
}

/// Whether the newest state removes the unit, and the agent that has applied that state has it no more.
fn is_gone(id: &UnitId, known: &Known) -> bool {
    let (Some(published), Some(view)) = (&known.published, &known.view) else { return false };
    matches!(published.state.units().get(id), Some(UnitEntry::Removed(_)))
        && view.applied == Some(published.state.digest())
        && !view.units.contains_key(id)
}

/// One unit of a cluster.
pub(crate) fn unit(name: &ClusterName, id: &UnitId, known: &Known) -> Unit {
    let found = Found::of(id, known);
    let (Found { facts, entry, report }, manifest) = (&found, found.manifest());
    let (facts, entry, report) = (*facts, *entry, *report);
    let (phase, message) = phase(entry, report, facts.map(|facts| &facts.problems[..]));
    let mut shown = Unit {
        cluster: name.to_string(),
        unit: id.to_string(),
        phase: found.shown_phase(phase, known).to_owned(),
        message,
        live: known.is_live(),
        desired: manifest.map(|manifest| known.redactor.digest(&manifest.digest())),
        objects: found.objects(),
        suspended: known.suspensions.of(id).map(suspension),
        ..Unit::default()
    };
    if let Some(manifest) = manifest {
        shown.parent = manifest.spec.parent.as_ref().map(ToString::to_string);
        shown.depends_on = manifest.spec.depends_on.iter().map(ToString::to_string).collect();
    }
    if let Some(facts) = facts {
        shown.parent = facts.parent.as_ref().map(ToString::to_string).or(shown.parent);
        if !facts.depends_on.is_empty() {
            shown.depends_on = facts.depends_on.iter().map(ToString::to_string).collect();
        }
        shown.path = facts.path.clone();
        let wanted = facts.at.commit(&known.place.commit);
        let revision = facts.revision.text(&known.place.branch, wanted);
        shown.wanted_commit = wanted.to_owned();
        shown.source = facts.source.clone();
        if let Some(runs) = report.and_then(|report| report.applied) {
            let ran = facts.ran.at(Some(runs));
            // A unit that the hub holds runs what last rendered, if the agent had come to that.
            let is_last_good =
                manifest.is_none() && report.is_some_and(|report| report.desired == Some(runs));
            (shown.commit, shown.revision) = match ran {
                Some(ran) => {
                    let commit = ran.commit.as_deref().unwrap_or(wanted);
                    (commit.to_owned(), ran.revision.text(&known.place.branch, commit))
                }
                None if is_last_good => (wanted.to_owned(), revision.clone()),
                None => Default::default(),
            };
        }
        shown.wanted_revision = revision;
        shown.problems = facts.problems.iter().map(Into::into).collect();
    }
    if shown.phase == UNKNOWN {
        let said = std::mem::take(&mut shown.message);
        let said = if said.is_empty() { said } else { format!(": {said}") };
        shown.message = format!("the agent is away; it last said {phase}{said}");
    }
    if let Some(report) = report {
        shown.since = Some(report.since);
        shown.applied = report.applied.map(|digest| known.redactor.digest(&digest));
        shown.healthy = report.healthy.map(|digest| known.redactor.digest(&digest));
        shown.corrected = report.corrected;
        shown.findings = report.findings.iter().map(finding).collect();
        shown.drift = report.drift.iter().map(drift).collect();
        shown.kept = report.kept.iter().map(kept).collect();
    }
    shown
}

/// The agent's word on the newest state counts; before that, the hub's.
fn phase(
    entry: Option<&UnitEntry>,
    report: Option<&UnitReport>,
    problems: Option<&[flotilla_core::report::Problem]>,
) -> (Phase, String) {
    let newest = |manifest: &UnitManifest| {
        report.filter(|report| report.desired == Some(manifest.digest()) || report.phase == Phase::Suspended)
    };
    match (entry, report) {
        (Some(UnitEntry::Hold(hold)), _) => (Phase::Held, hold.to_string()),
        (Some(UnitEntry::Removed(removal)), report) if removal.suspended => {
            let said = "suspended; left Git while it was suspended, so its objects stay";
            let said = report.map_or_else(|| said.to_owned(), |report| report.message.clone());
            (Phase::Suspended, said)
        }
        (Some(UnitEntry::Removed(_)), Some(report)) => (Phase::Removing, report.message.clone()),
        (Some(UnitEntry::Removed(_)), None) => (Phase::Removing, String::new()),
        (Some(UnitEntry::Present(manifest)), Some(report)) => match newest(manifest) {
            Some(report) => (report.phase, report.message.clone()),
            None => (
                Phase::Pending,
                format!("the agent has not taken the newest state yet (was {})", report.phase),
            ),
        },
        (Some(UnitEntry::Present(_)), None) => {
            (Phase::Pending, "no agent has reported this unit yet".to_owned())
        }
        (None, Some(report)) => (report.phase, report.message.clone()),
        (None, None) => {
            let problem = problems.unwrap_or_default().iter().find(|problem| !problem.notice);
            (Phase::Held, problem.map_or_else(|| "not published yet".to_owned(), ToString::to_string))
        }
    }
}

fn finding(finding: &flotilla_core::report::Finding) -> api::Finding {
    api::Finding {
        object: (&finding.object).into(),
        reason: finding.reason.clone(),
        message: finding.message.clone(),
    }
}

fn drift(drift: &Drift) -> api::Drift {
    let field = |field: &flotilla_core::report::FieldDrift| api::FieldDrift {
        field: field.field.clone(),
        wanted: field.wanted.clone(),
        found: field.found.clone(),
        manager: field.manager.clone(),
    };
    api::Drift {
        object: (&drift.object).into(),
        at: drift.at,
        fields: drift.fields.iter().map(field).collect(),
    }
}

fn kept(kept: &Kept) -> api::Kept {
    api::Kept { object: (&kept.object).into(), why: kept.why.clone(), approval: kept.approval.to_string() }
}

/// A cluster's units, parents before their children, with their objects.
pub(crate) fn tree(name: &ClusterName, known: &Known, waiting: &[ClusterRollout]) -> Tree {
    let units: Vec<Unit> = unit_ids(known).into_iter().map(|id| unit(name, id, known)).collect();
    let mut order: Vec<usize> = Vec::with_capacity(units.len());
    let mut children: BTreeMap<Option<&str>, Vec<usize>> = BTreeMap::new();
    let names: BTreeSet<&str> = units.iter().map(|unit| unit.unit.as_str()).collect();
    for (at, unit) in units.iter().enumerate() {
        // A parent that is not there leaves its children at the top.
        let parent = unit.parent.as_deref().filter(|parent| names.contains(parent));
        children.entry(parent).or_default().push(at);
    }
    let mut open = children.remove(&None).unwrap_or_default();
    open.reverse();
    while let Some(at) = open.pop() {
        order.push(at);
        open.extend(children.remove(&Some(units[at].unit.as_str())).unwrap_or_default().into_iter().rev());
    }
    // Parents in a circle are a problem of theirs; they are shown all the same.
    let mut rest: Vec<usize> = children.into_values().flatten().collect();
    rest.sort_unstable();
    order.extend(rest);
    let manifest = |unit: &Unit| {
        let id: UnitId = unit.unit.parse().ok()?;
        known.published.as_ref()?.state.present(&id).cloned()
    };
    let shown = order.into_iter().map(|at| {
        let unit = units[at].clone();
        TreeUnit { objects: objects(&unit, manifest(&unit).as_deref()), unit }
    });
    Tree { cluster: cluster(name, known, waiting), units: shown.collect() }
}

fn objects(unit: &Unit, manifest: Option<&UnitManifest>) -> Vec<TreeObject> {
    let findings: BTreeMap<&api::ObjectId, &api::Finding> =
        unit.findings.iter().map(|finding| (&finding.object, finding)).collect();
    let calm = match unit.phase.as_str() {
        "Ready" | "Suspended" => Health::Healthy,
        "Applying" | "Progressing" | "Failed" => Health::Progressing,
        _ => Health::Unknown,
    };
    let healthy = unit.live && unit.healthy.is_some() && unit.healthy == unit.desired;
    let entries = manifest.map(|manifest| &manifest.objects[..]).unwrap_or_default();
    let mut shown: Vec<TreeObject> = entries
        .iter()
        .map(|entry| {
            let object = api::ObjectId::from(&entry.object.id);
            let (health, message) = match findings.get(&object) {
                Some(finding) if finding.reason == "NotHealthy" => {
                    (Health::Progressing, finding.message.clone())
                }
                Some(finding) => (Health::Failing, format!("{}: {}", finding.reason, finding.message)),
                None if healthy => (Health::Healthy, String::new()),
                None => (calm, String::new()),
            };
            TreeObject { object, version: entry.object.version.to_string(), health, message }
        })
        .collect();
    shown.extend(unit.kept.iter().map(|kept| TreeObject {
        object: kept.object.clone(),
        version: String::new(),
        health: Health::Kept,
        message: kept.why.clone(),
    }));
    shown
}
