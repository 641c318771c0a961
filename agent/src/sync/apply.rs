//! The apply half of a unit's work: intents first, then the objects by stages. One attempt; what fails is named and the
//! others go on.

use std::sync::Arc;
use std::time::Duration;

use flotilla_core::health::Health;
use flotilla_core::inventory::{Member, Uid};
use flotilla_core::live::Live;
use flotilla_core::order::{Links, Stage};
use flotilla_core::plan::ApplyStep;
use flotilla_core::report::{Drift, Finding};
use flotilla_core::{ObjectId, ObjectRef, UnitId, diff, drift};
use futures::StreamExt;
use serde_json::Value;

use super::api::Bodies;
use super::memory::Mark;
use super::one::{One, StepError, Wishes};
use crate::cluster::Cluster;
use crate::cluster::discovery::Resource;
use crate::cluster::inventory::Book;
use crate::cluster::members::Members;
use crate::cluster::objects::{Mode, prepare};
use crate::cluster::owners::Owners;
use crate::cluster::request::chain;

/// Objects of one unit that are under way at once; the pace of the cluster is above that.
const AT_ONCE: usize = 16;
/// A CRD of ours is awaited so long before its objects are tried.
const ESTABLISH: Duration = Duration::from_secs(15);

/// What all units' work shares.
pub(super) struct Tools {
    pub(super) cluster: Cluster,
    pub(super) book: Book,
    pub(super) members: Arc<Members>,
    pub(super) owners: Owners,
    pub(super) bodies: Arc<dyn Bodies>,
}

/// The apply steps of one unit.
pub(super) struct ApplyJob {
    pub(super) unit: UnitId,
    pub(super) links: Links,
    pub(super) steps: Vec<ApplyStep>,
    /// Drift that is only looked at.
    pub(super) inspect: Vec<ApplyStep>,
    /// The unit recreates what cannot be changed.
    pub(super) force: bool,
    pub(super) now: i64,
}

/// What became of them.
#[derive(Default)]
pub(super) struct ApplyOutcome {
    pub(super) marks: Vec<(ObjectId, Mark)>,
    pub(super) failed: Vec<(ApplyStep, Finding)>,
    pub(super) corrected: Vec<Drift>,
    pub(super) inspected: Vec<Drift>,
    /// Nothing was tried: the intents could not be written.
    pub(super) blocked: Option<String>,
    /// Namespaces or CRDs were applied: others may go on.
    pub(super) defined: bool,
}

impl ApplyJob {
    pub(super) async fn run(&self, tools: &Tools) -> ApplyOutcome {
        let mut outcome = ApplyOutcome::default();
        if let Err(why) = self.declare(tools).await {
            outcome.blocked = Some(why);
            return outcome;
        }
        for stage in Stage::ALL {
            let steps: Vec<ApplyStep> =
                self.steps.iter().filter(|step| step.stage == stage).cloned().collect();
            if steps.is_empty() {
                continue;
            }
            let done = futures::stream::iter(steps).map(|step| async move {
                let result = self.step(tools, &step).await;
                (step, result)
            });
            let done: Vec<_> = done.buffer_unordered(AT_ONCE).collect().await;
            for (step, result) in done {
                match result {
                    Ok(done) => {
                        outcome.defined |= stage == Stage::Definitions;
                        outcome.marks.push((done.id, done.mark));
                        outcome.corrected.extend(done.drift);
                    }
                    Err(error) => {
                        let finding = Finding {
                            object: step.object.id.clone(),
                            reason: error.reason().into(),
                            message: chain(&error),
                        };
                        outcome.failed.push((step, finding));
                    }
                }
            }
        }
        for step in &self.inspect {
            match self.look(tools, step).await {
                Ok(found) => outcome.inspected.extend(found),
                Err(error) => {
                    tracing::debug!(object = %step.object, error = chain(&error), "cannot look at drift")
                }
            }
        }
        outcome
    }

    /// Writes what is about to be applied into the inventory, for what is known well enough already.
    async fn declare(&self, tools: &Tools) -> Result<(), String> {
        let known = |step: &&ApplyStep| tools.cluster.discovery().any_version(&step.object).is_some();
        let members = self.steps.iter().filter(known).map(|step| intent(&step.object));
        let change = tools.book.list(&self.unit, Some(&self.links), members);
        tools.book.durable(change).await
    }

    async fn step(&self, tools: &Tools, step: &ApplyStep) -> Result<Done, StepError> {
        let resource = tools.cluster.resource(&step.object).await?;
        // The kind may have become known since the plan was made.
        let id = tools.cluster.discovery().complete(&step.object.id);
        let object = ObjectRef { id: id.clone(), version: step.object.version.clone() };
        // Known objects are listed by now and cost nothing here.
        let change = tools.book.list(&self.unit, None, [intent(&object)]);
        tools.book.durable(change).await.map_err(StepError::Inventory)?;

        let body = tools.bodies.body(step.digest)?;
        let prepared = prepare(&body, &id, &step.owner)?;
        let wishes = Wishes::of(&prepared.value);
        let one = One {
            tools,
            resource: &resource,
            id: &id,
            prepared: &prepared,
            wishes: &wishes,
            force: self.force,
        };
        let (live, drift) = one.apply(step.cause, self.now).await?;

        let done = Done {
            mark: Mark {
                stamp: step.stamp,
                entry: drift::own_digest(&live.metadata.managed_fields),
                uid: Uid(live.metadata.uid.clone()),
                manner: wishes.manner,
            },
            drift,
            id,
        };
        tools.members.observe(&done.id, &live);
        tools.book.list(&self.unit, None, [Member { object, uid: Some(done.mark.uid.clone()) }]);
        if done.id.is("apiextensions.k8s.io", "CustomResourceDefinition") && !step.cause.is_drift() {
            await_established(tools, &resource, &done.id, &live).await;
            tools.cluster.discovery().learn(&prepared.value);
        }
        Ok(done)
    }

    /// What differs of an object whose drift is left as it is.
    async fn look(&self, tools: &Tools, step: &ApplyStep) -> Result<Option<Drift>, StepError> {
        let resource = tools.cluster.resource(&step.object).await?;
        let id = &step.object.id;
        let drift = |fields| Drift { object: id.clone(), at: self.now, fields };
        let Some(found) = tools.cluster.fetch::<Value>(&resource, id).await? else {
            return Ok(Some(drift(Vec::new())));
        };
        let prepared = prepare(&tools.bodies.body(step.digest)?, id, &step.owner)?;
        let wanted: Value = tools.cluster.apply(&resource, id, prepared.body, Mode::DryRun).await?;
        let mut fields = diff::fields(&found, &wanted);
        fields.extend(added_by_others(&found));
        Ok((!fields.is_empty()).then(|| drift(fields)))
    }
}

/// A note for each kubectl or former tool that holds fields: a dry run does not take those away, as they are folded
/// only by a real apply.
fn added_by_others(found: &Value) -> Vec<flotilla_core::report::FieldDrift> {
    let entries = Live::from(found).metadata.managed_fields;
    let others = entries.into_iter().filter(drift::is_folded);
    let field = |entry: flotilla_core::live::ManagedFields| flotilla_core::report::FieldDrift {
        field: "/metadata/managedFields".into(),
        wanted: None,
        found: Some("fields that Git does not have".into()),
        manager: Some(entry.manager),
    };
    others.map(field).collect()
}

fn intent(object: &ObjectRef) -> Member {
    Member { object: object.clone(), uid: None }
}

struct Done {
    id: ObjectId,
    mark: Mark,
    drift: Option<Drift>,
}

/// Looks at a state until it is there, or the time is over.
pub(super) async fn poll<F: Future<Output = bool>>(limit: Duration, mut look: impl FnMut() -> F) -> bool {
    let end = tokio::time::Instant::now() + limit;
    let mut pause = Duration::from_millis(20);
    loop {
        if look().await {
            return true;
        }
        if tokio::time::Instant::now() + pause > end {
            return false;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(Duration::from_secs(1));
    }
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
