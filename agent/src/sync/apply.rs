//! The apply half of a unit's work: intents first, then the objects by stages. One attempt; what fails is named and the
//! others go on.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flotilla_core::health::Health;
use flotilla_core::ignore::Ignores;
use flotilla_core::inventory::{Member, Uid};
use flotilla_core::live::Live;
use flotilla_core::order::{Links, Stage};
use flotilla_core::plan::{ApplyStep, Cause};
use flotilla_core::report::{Drift, Finding};
use flotilla_core::template::ValuesKind;
use flotilla_core::{Digest, ObjectId, ObjectRef, ServiceAccount, UnitId, drift, immutable};
use flotilla_runtime::chain;
use flotilla_runtime::poll;
use futures::StreamExt;
use serde_json::Value;
use tokio::sync::SemaphorePermit;

use super::failure::FailedObject;
use super::memory::{Expiry, LastApplied};
use super::object_apply::{Applied, ObjectAnnotations, ObjectApply, StepError};
use super::template::{self, Given};
use super::tools::Tools;
use crate::cluster::Cluster;
use crate::cluster::discovery::Resource;
use crate::cluster::inventory::Trouble;
use crate::cluster::members::Presence;
use crate::cluster::objects::{Prepared, prepare};
use crate::cluster::request::Conflict;

/// Objects of one unit that are under way at once; the pace of the cluster is above that.
const AT_ONCE: usize = 16;
/// A CRD of ours is awaited so long before its objects are tried.
const ESTABLISH: Duration = Duration::from_secs(15);

/// The apply steps of one unit.
pub(super) struct ApplyJob {
    pub(super) unit: UnitId,
    pub(super) links: Links,
    pub(super) steps: Vec<ApplyStep>,
    /// Drift that is only looked at.
    pub(super) inspect: Vec<ApplyStep>,
    /// The unit recreates what cannot be changed.
    pub(super) force: bool,
    /// In whose name; none for the agent itself.
    pub(super) account: Option<ServiceAccount>,
    /// Fields that are left to others.
    pub(super) ignores: Ignores,
    /// The contents that were applied last, of the objects that change.
    pub(super) before: HashMap<ObjectId, Digest>,
    /// Something was refused before: the API server is asked first.
    pub(super) rehearse: bool,
    pub(super) now: i64,
}

/// What became of them.
#[derive(Default)]
pub(super) struct ApplyOutcome {
    pub(super) last_applied: Vec<(ObjectId, LastApplied)>,
    pub(super) failed: Vec<(ObjectId, FailedObject)>,
    pub(super) corrected: Vec<Drift>,
    /// What was found where drift is left as it is; none if nobody looked this time.
    pub(super) inspected: Option<Vec<Drift>>,
    /// Nothing was tried: the intents could not be written.
    pub(super) blocked: Option<String>,
    /// The API server is away, by the first that it did not answer for; the others were not tried, or met the same.
    pub(super) away: Option<String>,
    /// Nothing was changed, as some of it would have been refused: those are in `failed`.
    pub(super) withheld: bool,
    /// What others held and we took.
    pub(super) conflicts: Vec<(ObjectId, Vec<Conflict>)>,
    /// Namespaces or CRDs were applied: others may go on.
    pub(super) defined: bool,
}

impl ApplyJob {
    pub(super) async fn run(&self, tools: &Tools) -> ApplyOutcome {
        let mut outcome = ApplyOutcome::default();
        match self.declare(tools).await {
            Ok(()) => {}
            Err(Trouble { why, is_away }) => {
                *(if is_away { &mut outcome.away } else { &mut outcome.blocked }) = Some(why);
                return outcome;
            }
        }
        let cluster = &tools.cluster.acting_as(self.account.as_ref());
        if self.asks_rehearsal(tools).await {
            outcome.failed = self.rehearse(tools, cluster).await;
            outcome.withheld = !outcome.failed.is_empty();
            if outcome.withheld {
                return outcome;
            }
        }
        for stage in Stage::ALL {
            let steps: Vec<ApplyStep> =
                self.steps.iter().filter(|step| step.stage == stage).cloned().collect();
            if steps.is_empty() {
                continue;
            }
            let away = &AtomicBool::new(false);
            let done = futures::stream::iter(steps).map(|step| async move {
                if away.load(Ordering::Relaxed) {
                    return None;
                }
                let result = self.step(tools, cluster, &step).await;
                away.fetch_or(result.as_ref().is_err_and(StepError::is_away), Ordering::Relaxed);
                Some((step, result))
            });
            let done: Vec<_> = done.buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await;
            for (step, result) in done {
                match result {
                    Ok(done) => {
                        outcome.defined |= stage == Stage::Definitions;
                        if !done.conflicts.is_empty() {
                            outcome.conflicts.push((done.id.clone(), done.conflicts));
                        }
                        outcome.last_applied.push((done.id, done.last_applied));
                        outcome.corrected.extend(done.drift);
                    }
                    Err(error) if error.is_away() => outcome.away = Some(chain(&error)),
                    Err(error) => {
                        outcome.failed.push(failed(&step, &error));
                    }
                }
            }
            if outcome.away.is_some() {
                return outcome;
            }
        }
        for step in &self.inspect {
            match self.look(tools, cluster, step).await {
                Ok(found) => outcome.inspected.get_or_insert_default().extend(found),
                Err(error) => {
                    tracing::debug!(object = %step.object, error = chain(&error), "cannot look at drift")
                }
            }
        }
        outcome
    }

    /// Writes what is about to be applied into the inventory, for what is known well enough already.
    async fn declare(&self, tools: &Tools) -> Result<(), Trouble> {
        let known = |step: &&ApplyStep| tools.cluster.discovery().any_version(&step.object).is_some();
        let steps: Vec<_> = self.steps.iter().filter(known).map(|step| (&step.object, step.cause)).collect();
        self.intend(tools, Some(&self.links), &steps).await
    }

    /// Has objects that are about to be applied listed in the cluster. One that is made anew loses its uid there: should the agent
    /// end before it notes the new one, an object listed by the old one would pass for somebody else's, and be left behind.
    async fn intend(
        &self,
        tools: &Tools,
        links: Option<&Links>,
        steps: &[(&ObjectRef, Cause)],
    ) -> Result<(), Trouble> {
        let members = steps.iter().map(|(object, _)| Member { object: (*object).clone(), uid: None });
        let listed = tools.inventory.list(&self.unit, links, members);
        let is_absent = |id: &ObjectId, cause: Cause| {
            cause == Cause::Missing || matches!(tools.members.get(id), Presence::Absent)
        };
        let absent = steps.iter().filter(|(object, cause)| is_absent(&object.id, *cause));
        let anew = tools.inventory.expect_anew(absent.map(|(object, _)| &object.id));
        tools.inventory.durable(listed.max(anew)).await
    }

    /// Whether anything says that a part of this could be refused after another part is done.
    async fn asks_rehearsal(&self, tools: &Tools) -> bool {
        if self.steps.iter().filter(|step| !step.cause.is_drift()).count() < 2 {
            return false;
        }
        if self.rehearse {
            return true;
        }
        for step in &self.steps {
            let id = &step.object.id;
            let Some(old) = self.before.get(id) else { continue };
            if let (Some(old), Some(new)) = (value(tools, *old).await, value(tools, step.digest).await)
                && immutable::changed(id, &old, &new)
            {
                return true;
            }
        }
        false
    }

    /// Asks by dry runs what would be refused for good, before anything is changed.
    async fn rehearse(&self, tools: &Tools, cluster: &Cluster) -> Vec<(ObjectId, FailedObject)> {
        let changes = || self.steps.iter().filter(|step| !step.cause.is_drift());
        let rules_change = changes().any(|step| is_rule(&step.object.id));
        // What a definition among them changes is judged by the old one until that is applied.
        let defined: Vec<&str> = changes()
            .filter(|step| step.object.id.is("apiextensions.k8s.io", "CustomResourceDefinition"))
            .filter_map(|step| step.object.id.name.split_once('.').map(|(_, group)| group))
            .collect();
        let told = |step: &&ApplyStep| !defined.contains(&step.object.id.group.as_str());
        let steps: Vec<ApplyStep> = changes().filter(told).cloned().collect();
        let refused = futures::stream::iter(steps).map(|step| async move {
            let seat = tools.seat().await;
            let tried = Box::pin(async {
                let resource = tools.cluster.resource(&step.object).await?;
                let content = Content::read(tools, &self.unit, cluster, &step, &step.object.id).await?;
                self.object_apply(tools, cluster, &resource, &step.object, &content, seat).rehearse().await
            });
            match tried.await {
                Err(error) if error.is_refusal(rules_change) => Some(failed(&step, &error)),
                Ok(()) | Err(_) => None,
            }
        });
        refused.buffered(AT_ONCE).filter_map(std::future::ready).collect().await
    }

    fn object_apply<'a>(
        &'a self,
        tools: &'a Tools,
        cluster: &'a Cluster,
        resource: &'a Resource,
        object: &'a ObjectRef,
        content: &'a Content,
        seat: Option<SemaphorePermit<'a>>,
    ) -> ObjectApply<'a> {
        ObjectApply {
            tools,
            cluster,
            resource,
            id: &object.id,
            ignored: self.ignores.paths(object, &content.prepared.value),
            prepared: &content.prepared,
            annotations: &content.annotations,
            force: self.force,
            seat: Mutex::new(seat),
        }
    }

    async fn step(&self, tools: &Tools, cluster: &Cluster, step: &ApplyStep) -> Result<Done, StepError> {
        let resource = tools.cluster.resource(&step.object).await?;
        // The kind may have become known since the plan was made.
        let id = tools.cluster.discovery().complete(&step.object.id);
        let object = ObjectRef { id: id.clone(), version: step.object.version.clone() };
        // Known objects are listed by now and cost nothing here.
        self.intend(tools, None, &[(&object, step.cause)]).await?;
        let seat = tools.seat().await;
        Box::pin(self.seated(tools, cluster, step, &resource, object, seat)).await
    }

    /// The heavy part of a step: its content and its requests.
    async fn seated(
        &self,
        tools: &Tools,
        cluster: &Cluster,
        step: &ApplyStep,
        resource: &Resource,
        object: ObjectRef,
        seat: Option<SemaphorePermit<'_>>,
    ) -> Result<Done, StepError> {
        let id = object.id.clone();
        let content = Content::read(tools, &self.unit, cluster, step, &id).await?;
        let apply = self.object_apply(tools, cluster, resource, &object, &content, seat);
        let Applied { live, drift, conflicts, paused } = apply.apply(step.cause, self.now).await?;
        let entry = drift::own_digest(&live.metadata.managed_fields);
        let last_applied = LastApplied {
            fingerprint: step.fingerprint,
            // What is left alone now is to be looked at as soon as it no longer is.
            entry: entry.filter(|_| !paused),
            uid: Uid::from(live.metadata.uid.clone()),
            apply_mode: content.annotations.apply_mode,
            drift: content.annotations.drift,
            taken: content.taken.clone().into(),
            version: live.metadata.resource_version.parse().unwrap_or_default(),
            generation: live.metadata.generation,
            made: Some(tokio::time::Instant::now()),
            settled: false,
            expiry: Expiry::of(&id, &content.prepared.value),
            ended: None,
        };
        tools.members.observe(&id, &live);
        if entry.is_some() {
            tools.inventory.list(
                &self.unit,
                None,
                [Member { object: object.clone(), uid: Some(last_applied.uid.clone()) }],
            );
        } else {
            // Left alone as it was found, it is not ours to delete.
            tools.inventory.unlist(&self.unit, &[id.clone()].into(), false);
        }
        if id.is("apiextensions.k8s.io", "CustomResourceDefinition") && !step.cause.is_drift() {
            apply.leave_seat();
            await_established(tools, resource, &id, &live).await;
            tools.cluster.discovery().learn(&content.prepared.value);
        }
        Ok(Done { id, last_applied, drift, conflicts })
    }

    /// What differs of an object whose drift is left as it is.
    async fn look(
        &self,
        tools: &Tools,
        cluster: &Cluster,
        step: &ApplyStep,
    ) -> Result<Option<Drift>, StepError> {
        let resource = tools.cluster.resource(&step.object).await?;
        let content = Content::read(tools, &self.unit, cluster, step, &step.object.id).await?;
        let seat = tools.seat().await;
        Box::pin(self.object_apply(tools, cluster, &resource, &step.object, &content, seat).look(self.now))
            .await
    }
}

/// Whether other objects may be taken or refused for what this one says.
fn is_rule(id: &ObjectId) -> bool {
    let kinds = ["Namespace", "ServiceAccount", "ResourceQuota", "LimitRange"];
    let groups = ["admissionregistration.k8s.io", "scheduling.k8s.io", "storage.k8s.io", "node.k8s.io"];
    id.group.is_empty() && kinds.contains(&id.kind.as_str()) || groups.contains(&id.group.as_str())
}

/// An object's content, ready to be sent.
pub(super) struct Content {
    pub(super) prepared: Prepared,
    pub(super) annotations: ObjectAnnotations,
    taken: template::Taken,
}

impl Content {
    /// Of a step of a unit. `cluster` acts as the unit's account.
    pub(super) async fn read(
        tools: &Tools,
        unit: &UnitId,
        cluster: &Cluster,
        step: &ApplyStep,
        id: &ObjectId,
    ) -> Result<Self, StepError> {
        let given = Given { body: tools.body(step.digest).await?, template: step.template };
        Self::of(tools, unit, cluster, given, id, &step.owner).await
    }

    /// Of a body as the hub gives it.
    pub(super) async fn of(
        tools: &Tools,
        unit: &UnitId,
        cluster: &Cluster,
        given: Given,
        id: &ObjectId,
        owner: &UnitId,
    ) -> Result<Self, StepError> {
        let (body, taken) =
            template::complete(&tools.key_services, cluster, unit, given).await.map_err(Box::new)?;
        let prepared = prepare(&body, id, owner)?;
        let annotations = ObjectAnnotations::of(&prepared.value);
        Ok(Self { prepared, annotations, taken })
    }

    /// Whether Secrets of the cluster are in it.
    pub(super) fn holds_secrets(&self) -> bool {
        self.taken.iter().any(|(reference, _)| reference.kind == ValuesKind::Secret)
    }
}

fn failed(step: &ApplyStep, error: &StepError) -> (ObjectId, FailedObject) {
    let (id, reason) = (step.object.id.clone(), error.reason());
    let finding = Finding { object: id.clone(), reason: reason.as_str().into(), message: chain(error) };
    (id, FailedObject { fingerprint: step.fingerprint, reason, finding })
}

/// A body as JSON; none if it cannot be had.
async fn value(tools: &Tools, digest: Digest) -> Option<Value> {
    serde_json::from_slice(&tools.body(digest).await.ok()?).ok()
}

struct Done {
    id: ObjectId,
    last_applied: LastApplied,
    drift: Option<Drift>,
    conflicts: Vec<Conflict>,
}

/// Waits for a CRD of ours to be served; its objects are tried after the time in any case, and name it if they fail.
async fn await_established(tools: &Tools, resource: &Resource, id: &ObjectId, live: &Live) {
    if Health::of(live).is_current() {
        return;
    }
    let established = || async {
        let live = tools.cluster.fetch::<Live>(resource, id).await;
        live.is_ok_and(|live| live.is_some_and(|live| Health::of(&live).is_current()))
    };
    if !poll(ESTABLISH, established).await {
        tracing::warn!(crd = id.name, "not established after {ESTABLISH:?}");
    }
}
