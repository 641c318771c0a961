//! The prune half of a unit's work: look at every candidate, let the guards judge, delete in order, one attempt.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use flotilla_core::guard::{
    self, Approvals, Candidate, Departure, Found, Inside, Limits, Scope, Subject, There, Verdict,
};
use flotilla_core::inventory::{Member, Uid};
use flotilla_core::live::{Live, Metadata};
use flotilla_core::order::Leave;
use flotilla_core::report::{Finding, Kept};
use flotilla_core::{Digest, ObjectId, ObjectRef, ServiceAccount, UnitId, drift};
use futures::StreamExt;
use serde_json::Value;

use super::apply::{Tools, poll};
use crate::cluster::Cluster;
use crate::cluster::discovery::Resource;
use crate::cluster::objects::Deleted;
use crate::cluster::request::{Failure, chain};

/// By which Flux's users keep an object that Git no longer names.
const PRUNE: &str = "kustomize.toolkit.fluxcd.io/prune";

const AT_ONCE: usize = 16;
/// Objects of one step are awaited so long before the next round looks again.
const GONE: Duration = Duration::from_secs(10);
/// So many names of foreign objects are told.
const TOLD: usize = 5;

/// Candidates of one unit and what the guards need to know of it.
pub(super) struct PruneJob {
    pub(super) unit: UnitId,
    /// In whose name; none for the agent itself.
    pub(super) account: Option<ServiceAccount>,
    /// Each with the change that it left in.
    pub(super) candidates: Vec<(Member, Departure)>,
    pub(super) wanted: usize,
    pub(super) removal: bool,
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
            .map(|(member, left)| {
                let leaving = &leaving;
                async move {
                    let _seat = tools.seat().await;
                    let found = Box::pin(look(tools, cluster, &member.object, leaving)).await;
                    Candidate { member, left, found }
                }
            })
            .buffered(AT_ONCE);
        let found: Vec<Candidate> = found.collect().await;
        let scope = Scope {
            unit: &self.unit,
            wanted: self.wanted,
            removal: self.removal,
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
        tools.book.unlist(&self.unit, &forgotten, false);
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
            let result = self.delete_one(cluster, &object, &uid).await;
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
        tools.book.unlist(&self.unit, &gone, false);
        complete
    }

    /// None when it is gone; else what it waits for.
    async fn delete_one(
        &self,
        cluster: &Cluster,
        object: &ObjectRef,
        uid: &Uid,
    ) -> Result<Option<String>, String> {
        let text = |failure: Failure| chain(&failure);
        let Some(resource) = cluster.discovery().any_version(object) else {
            return Err("its kind is not served any more".into());
        };
        if !(self.current)() {
            return Err("the desired state changed meanwhile".into());
        }
        let delete = cluster.delete(&resource, &object.id, uid, "Background");
        let deleted = Box::pin(delete).await.map_err(text)?;
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

/// The facts about one candidate.
async fn look(tools: &Tools, cluster: &Cluster, object: &ObjectRef, leaving: &BTreeSet<ObjectId>) -> Found {
    match try_look(tools, cluster, object, leaving).await {
        Ok(found) => found,
        Err(failure) => Found::Unknown(format!("cannot be looked at: {}", chain(&failure))),
    }
}

async fn try_look(
    tools: &Tools,
    cluster: &Cluster,
    object: &ObjectRef,
    leaving: &BTreeSet<ObjectId>,
) -> Result<Found, Failure> {
    let discovery = tools.cluster.discovery();
    let mut resource = discovery.any_version(object);
    if resource.is_none() {
        tools.cluster.discover(true).await?;
        resource = discovery.any_version(object);
    }
    let Some(resource) = resource else {
        if discovery.is_stale(&object.id.group) {
            return Ok(Found::Unknown("the server of its kind does not answer".into()));
        }
        // Where the kind is not served there are no objects of it.
        return Ok(Found::Gone);
    };
    let Some(value) = cluster.fetch::<Value>(&resource, &object.id).await? else {
        return Ok(Found::Gone);
    };
    let live = Live::from(&value);
    let says = |all: &BTreeMap<String, String>, name: &str, wanted: &str| {
        let found = all.get(name).is_some_and(|value| value.eq_ignore_ascii_case(wanted));
        found.then(|| format!("{name}: {wanted}"))
    };
    let Metadata { annotations, labels, .. } = &live.metadata;
    // As Flux: a label says it as well as an annotation.
    let opted_out = says(annotations, PRUNE, "disabled")
        .or_else(|| says(labels, PRUNE, "disabled"))
        .or_else(|| says(annotations, "helm.sh/resource-policy", "keep"));
    let inside = if object.id.is("", "Namespace") {
        in_namespace(tools, &object.id.name, leaving).await
    } else if object.id.is("apiextensions.k8s.io", "CustomResourceDefinition") {
        of_definition(tools, &value, leaving).await
    } else {
        Inside::NoContainer
    };
    Ok(Found::There(There {
        uid: Uid::from(live.metadata.uid.clone()),
        applied_by_us: live.metadata.managed_fields.iter().any(drift::is_ours),
        controlled: live.is_controlled(),
        opted_out,
        inside,
    }))
}

/// What is in a namespace and does not leave with it: not what Kubernetes puts in each one, nor what hangs on others.
async fn in_namespace(tools: &Tools, namespace: &str, leaving: &BTreeSet<ObjectId>) -> Inside {
    if let Err(failure) = tools.cluster.discover(false).await {
        return Inside::Unknown(format!("cannot tell what could be in it: {}", chain(&failure)));
    }
    let mut foreign = Vec::new();
    let resources = tools.cluster.discovery().namespaced();
    let lists = futures::stream::iter(resources).map(|resource| async move {
        let stays = |metadata: &Metadata| {
            let id = id_of(&resource, metadata);
            let derived = !metadata.owner_references.is_empty() || is_furniture(&id, &metadata.annotations);
            !derived && !leaving.contains(&id)
        };
        let list = tools.cluster.names(&resource, namespace, TOLD, &stays).await;
        (resource, list)
    });
    let mut lists = std::pin::pin!(lists.buffer_unordered(AT_ONCE));
    while let Some((resource, list)) = lists.next().await {
        let found = match list {
            Ok(found) => found,
            // Kinds that cannot be listed hold nothing that would be lost.
            Err(failure) if [404, 405].contains(&failure.code()) => continue,
            Err(failure) => {
                return Inside::Unknown(format!(
                    "cannot list {} in it: {}",
                    resource.plural,
                    chain(&failure)
                ));
            }
        };
        foreign.extend(found.iter().map(|metadata| id_of(&resource, metadata).to_string()));
        if foreign.len() >= TOLD {
            break;
        }
    }
    foreign.sort();
    foreign.truncate(TOLD);
    Inside::Foreign(foreign)
}

fn id_of(resource: &Resource, metadata: &Metadata) -> ObjectId {
    ObjectId::new(&resource.group, &resource.kind, &metadata.namespace, &metadata.name)
}

/// What every namespace holds without anybody asking.
fn is_furniture(id: &ObjectId, annotations: &BTreeMap<String, String>) -> bool {
    match (id.group.as_str(), id.kind.as_str()) {
        ("", "Event") | ("events.k8s.io", _) | ("", "Endpoints") | ("coordination.k8s.io", _) => true,
        ("metrics.k8s.io", _) => true,
        ("", "ConfigMap") => ["kube-root-ca.crt", "openshift-service-ca.crt"].contains(&id.name.as_str()),
        ("", "ServiceAccount") => id.name == "default",
        ("", "Secret") => annotations.contains_key("kubernetes.io/service-account.name"),
        _ => false,
    }
}

/// Objects of a CRD's kind that do not leave with it.
async fn of_definition(tools: &Tools, definition: &Value, leaving: &BTreeSet<ObjectId>) -> Inside {
    let text =
        |pointer: &str| definition.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
    let served = versions
        .into_iter()
        .flatten()
        .find(|version| version.get("served").and_then(Value::as_bool).unwrap_or_default())
        .and_then(|version| version.get("name")?.as_str());
    // Without a served version nobody can say what is stored.
    let Some(version) = served else { return Inside::Unknown("none of its versions is served".into()) };
    let resource = Resource {
        group: text("/spec/group"),
        version: version.to_owned(),
        kind: text("/spec/names/kind"),
        plural: text("/spec/names/plural"),
        namespaced: text("/spec/scope") == "Namespaced",
    };
    let stays = |metadata: &Metadata| !leaving.contains(&id_of(&resource, metadata));
    match tools.cluster.names(&resource, "", TOLD, &stays).await {
        Ok(found) => {
            let names = found.iter().map(|metadata| id_of(&resource, metadata).to_string());
            Inside::Foreign(names.collect())
        }
        // Not served (not yet, or its names clash): then it has no objects.
        Err(failure) if failure.is_not_found() => Inside::Foreign(Vec::new()),
        Err(failure) => Inside::Unknown(format!("cannot list its objects: {}", chain(&failure))),
    }
}
