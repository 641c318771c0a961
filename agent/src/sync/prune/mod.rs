//! The prune half of a unit's work: look at every candidate, let the guards judge, delete in order, one attempt.

mod look;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use flotilla_core::guard::{
    self, Approvals, Candidate, Departure, Limits, PruneExtent, Scope, Subject, Verdict,
};
use flotilla_core::inventory::{Member, Uid};
use flotilla_core::live::Live;
use flotilla_core::order::Leave;
use flotilla_core::report::{Finding, Kept};
use flotilla_core::{Digest, ObjectId, ObjectRef, ServiceAccount, UnitId};
use flotilla_runtime::chain;
use flotilla_runtime::poll;
use futures::StreamExt;
use serde_json::Value;

use super::tools::Tools;
use crate::cluster::Cluster;
use crate::cluster::objects::Deleted;
use crate::cluster::request::Failure;

const AT_ONCE: usize = 16;
/// Objects of one step are awaited so long before the next round looks again.
const GONE: Duration = Duration::from_secs(10);

/// Candidates of one unit and what the guards need to know of it.
pub(super) struct PruneJob {
    pub(super) unit: UnitId,
    /// In whose name; none for the agent itself.
    pub(super) account: Option<ServiceAccount>,
    /// Each with the change that it left in.
    pub(super) candidates: Vec<(Member, Departure)>,
    pub(super) wanted: usize,
    pub(super) extent: PruneExtent,
    pub(super) allow_empty: bool,
    pub(super) cluster_empties: bool,
    pub(super) approvals: Approvals,
    pub(super) limits: Limits,
    /// Whether the state that this was planned for still is the desired one.
    pub(super) current: Arc<dyn Fn() -> bool + Send + Sync>,
}

#[derive(Default)]
pub(super) struct PruneOutcome {
    pub(super) deleted: Vec<ObjectId>,
    /// Off the inventory, with the reason.
    pub(super) forgotten: Vec<(ObjectId, String)>,
    pub(super) kept: Vec<Kept>,
    /// What could not be looked at, deleted, or is not gone yet.
    pub(super) findings: Vec<Finding>,
    /// The approvals that were needed, given or not.
    pub(super) asked: Vec<(Digest, Subject)>,
    /// The candidates that are still there.
    pub(super) left: BTreeSet<ObjectId>,
}

impl PruneJob {
    pub(super) async fn run(&self, tools: &Tools) -> PruneOutcome {
        let mut outcome = PruneOutcome::default();
        let cluster = &tools.cluster.acting_as(self.account.as_ref());
        let leaving: BTreeSet<ObjectId> =
            self.candidates.iter().map(|(member, _)| member.object.id.clone()).collect();
        let found = futures::stream::iter(self.candidates.clone())
            .map(|(member, departure)| {
                let leaving = &leaving;
                async move {
                    let _seat = tools.seat().await;
                    let found = Box::pin(look::look(tools, cluster, &member, leaving)).await;
                    Candidate { member, departure, found }
                }
            })
            .buffered(AT_ONCE);
        let found: Vec<Candidate> = found.collect().await;
        let scope = Scope {
            unit: &self.unit,
            wanted: self.wanted,
            extent: self.extent.clone(),
            allow_empty: self.allow_empty,
            cluster_empties: self.cluster_empties,
        };
        let guard::Judgement { verdicts, asked } = guard::judge(&scope, &found, &self.approvals, self.limits);
        outcome.asked = asked;

        let mut steps: BTreeMap<Leave, Vec<(ObjectRef, Uid)>> = BTreeMap::new();
        for (Candidate { member, .. }, verdict) in found.into_iter().zip(verdicts) {
            let object = member.object;
            match verdict {
                Verdict::Delete(uid) => steps.entry(Leave::of(&object.id)).or_default().push((object, uid)),
                Verdict::Forget(why) => outcome.forgotten.push((object.id, why)),
                Verdict::Keep(kept) => outcome.kept.push(kept),
                Verdict::Later(why) => outcome.findings.push(finding(object.id, why)),
            }
        }
        let forgotten = outcome.forgotten.iter().map(|(id, _)| id.clone()).collect();
        tools.inventory.unlist(&self.unit, &forgotten, false);
        for step in steps.into_values() {
            if !self.delete(tools, cluster, step, &mut outcome).await {
                break;
            }
        }
        let gone: BTreeSet<&ObjectId> =
            outcome.deleted.iter().chain(outcome.forgotten.iter().map(|(id, _)| id)).collect();
        outcome.left = leaving.into_iter().filter(|id| !gone.contains(id)).collect();
        outcome
    }

    /// Deletes the objects of one step; false if the next one must not begin.
    async fn delete(
        &self,
        tools: &Tools,
        cluster: &Cluster,
        step: Vec<(ObjectRef, Uid)>,
        outcome: &mut PruneOutcome,
    ) -> bool {
        let done = futures::stream::iter(step).map(|(object, uid)| async move {
            let result = self.delete_one(tools, cluster, &object, &uid).await;
            (object.id, result)
        });
        let done: Vec<_> = done.buffer_unordered(AT_ONCE).collect().await;
        let mut gone = BTreeSet::new();
        let mut complete = true;
        for (id, result) in done {
            match result {
                Ok(None) => {
                    outcome.deleted.push(id.clone());
                    gone.insert(id);
                }
                Ok(Some(why)) | Err(why) => {
                    complete = false;
                    outcome.findings.push(finding(id, why));
                }
            }
        }
        tools.inventory.unlist(&self.unit, &gone, false);
        complete
    }

    /// None when it is gone; else what it waits for.
    async fn delete_one(
        &self,
        tools: &Tools,
        cluster: &Cluster,
        object: &ObjectRef,
        uid: &Uid,
    ) -> Result<Option<String>, String> {
        let text = |failure: Failure| chain(&failure);
        let Some(resource) = cluster.discovery().any_version(object) else {
            return Err("its kind is no longer served".into());
        };
        if !(self.current)() {
            return Err("the desired state changed meanwhile".into());
        }
        let delete = cluster.delete(&resource, &object.id, uid, "Background");
        let deleted = match Box::pin(delete).await {
            // Where all of it is to be removed, the operator's word counts, and not the account's rights.
            Err(failure) if failure.code() == 403 && self.extent == PruneExtent::Everything => {
                let delete = tools.cluster.delete(&resource, &object.id, uid, "Background");
                Box::pin(delete).await.map_err(text)?
            }
            Err(failure) if failure.code() == 403 => return Err(refused(&failure)),
            other => other.map_err(text)?,
        };
        let Deleted::Waits(finalizers) = deleted else { return Ok(None) };
        let gone = || async {
            let live = cluster.fetch::<Live>(&resource, &object.id).await;
            matches!(&live, Ok(None)) || matches!(&live, Ok(Some(live)) if !uid.is(&live.metadata.uid))
        };
        if Box::pin(poll(GONE, gone)).await {
            return Ok(None);
        }
        // What blocks it may have changed since.
        let live = cluster.fetch::<Live>(&resource, &object.id).await.ok().flatten();
        let finalizers = live.as_ref().map_or(finalizers, |live| live.metadata.finalizers.clone());
        let mut blockers = if finalizers.is_empty() { "its end".to_owned() } else { finalizers.join(", ") };
        for more in live.iter().flat_map(remaining) {
            blockers = format!("{blockers}; {more}");
        }
        Ok(Some(format!("is being deleted; waits for {blockers}")))
    }
}

/// What is to be done where rights are missing.
fn refused(failure: &Failure) -> String {
    format!("{}; grant this until the object is gone, or delete it by hand", chain(failure))
}

/// What a namespace that is being deleted says of the content that is left in it.
fn remaining(live: &Live) -> Vec<String> {
    let conditions = live.status.get("conditions").and_then(Value::as_array);
    let text = |condition: &Value, field: &str| {
        condition.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let holds = |condition: &&Value| {
        let kind = text(condition, "type");
        kind.starts_with("Namespace") && text(condition, "status") == "True"
    };
    conditions.into_iter().flatten().filter(holds).map(|condition| text(condition, "message")).collect()
}

fn finding(object: ObjectId, message: String) -> Finding {
    Finding { object, reason: "DeleteFailed".into(), message }
}
