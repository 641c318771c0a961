//! A look at what is to be deleted, and at what hangs on it. What cannot be told is unknown, never absent.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::guard::{Found, Inside, There};
use flotilla_core::inventory::{Member, Uid};
use flotilla_core::live::{Live, Metadata, OwnerReference};
use flotilla_core::{ObjectId, ObjectRef, drift};
use flotilla_runtime::chain;
use futures::StreamExt;
use serde_json::Value;

use super::AT_ONCE;
use crate::cluster::Cluster;
use crate::cluster::discovery::Resource;
use crate::cluster::find::Sought;
use crate::cluster::request::Failure;
use crate::sync::tools::Tools;

/// By which Flux's users keep an object that Git no longer names.
const PRUNE: &str = "kustomize.toolkit.fluxcd.io/prune";
/// By which they keep it from everything.
const RECONCILE: &str = "kustomize.toolkit.fluxcd.io/reconcile";
/// So many names of foreign objects are told.
const TOLD: usize = 5;

/// The facts about one candidate.
pub(super) async fn look(
    tools: &Tools,
    cluster: &Cluster,
    member: &Member,
    leaving: &BTreeSet<ObjectId>,
) -> Found {
    let mut found = try_look(tools, cluster, &member.object, leaving).await;
    if matches!(&found, Err(failure) if failure.code() == 403) {
        // An account that lost its rights, or never had them, does not keep what it may not even see.
        found = try_look(tools, &tools.cluster, &member.object, leaving).await;
    }
    match found {
        Ok(found) => found,
        Err(failure) if failure.code() == 403 && member.uid.is_none() => Found::Unconfirmed,
        Err(failure) if failure.code() == 403 => {
            Found::Unknown(format!("cannot be looked at: {}", super::refused(&failure)))
        }
        Err(failure) => Found::Unknown(format!("cannot be looked at: {}", chain(&failure))),
    }
}

async fn try_look(
    tools: &Tools,
    cluster: &Cluster,
    object: &ObjectRef,
    leaving: &BTreeSet<ObjectId>,
) -> Result<Found, Failure> {
    let value: Value = match cluster.find(object).await? {
        Sought::There(_, value) => value,
        Sought::Gone => return Ok(Found::Gone),
        Sought::Unknown(why) => return Ok(Found::Unknown(why)),
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
        .or_else(|| says(annotations, RECONCILE, "disabled"))
        .or_else(|| says(labels, RECONCILE, "disabled"))
        .or_else(|| says(annotations, "helm.sh/resource-policy", "keep"));
    let inside = if object.id.is("", "Namespace") {
        in_namespace(tools, &object.id.name, leaving).await
    } else if object.id.is("apiextensions.k8s.io", "CustomResourceDefinition") {
        of_definition(tools, &value, leaving).await
    } else if object.id.is("apps", "StatefulSet") {
        Inside::Claims(claims(&value))
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

/// The names of the volume claims that a StatefulSet makes for each of its pods.
fn claims(stateful_set: &Value) -> Vec<String> {
    let templates = stateful_set.pointer("/spec/volumeClaimTemplates").and_then(Value::as_array);
    let name = |template: &Value| template.pointer("/metadata/name")?.as_str().map(str::to_owned);
    templates.into_iter().flatten().map(|template| name(template).unwrap_or_else(|| "?".into())).collect()
}

/// What is in a namespace and does not leave with it: not what Kubernetes puts in each one, nor what hangs on others.
async fn in_namespace(tools: &Tools, namespace: &str, leaving: &BTreeSet<ObjectId>) -> Inside {
    if let Err(failure) = tools.cluster.discover(false).await {
        return Inside::Unknown(format!("cannot tell what could be in it: {}", chain(&failure)));
    }
    // Nobody knows what kinds there are of a group whose server is away.
    let away = tools.cluster.discovery().stale().into_iter().find(|group| !is_metrics(group));
    if let Some(group) = away {
        return Inside::Unknown(format!(
            "cannot tell what could be in it: the server of {group} does not answer"
        ));
    }
    let mut foreign = Vec::new();
    let resources = tools.cluster.discovery().namespaced();
    let lists = futures::stream::iter(resources).map(|resource| async move {
        let stays = |metadata: &Metadata| {
            let id = id_of(&resource, metadata);
            let derived =
                hangs_on_what_goes(tools, metadata, leaving) || is_furniture(&id, &metadata.annotations);
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
            Err(failure) if failure.code() == 405 => continue,
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

/// Whether all owners of an object of a namespace go: they are in that namespace, and judged themselves, or leave with it.
/// What an object outside of the namespace owns is not made anew by anybody who leaves.
fn hangs_on_what_goes(tools: &Tools, metadata: &Metadata, leaving: &BTreeSet<ObjectId>) -> bool {
    let owners = &metadata.owner_references;
    let goes = |owner: &OwnerReference| {
        let (group, version) = owner.api_version.split_once('/').unwrap_or(("", &owner.api_version));
        let object =
            ObjectRef { id: ObjectId::new(group, &owner.kind, "", &owner.name), version: version.into() };
        let resource = tools.cluster.discovery().any_version(&object);
        resource.is_some_and(|resource| resource.namespaced) || leaving.contains(&object.id)
    };
    !owners.is_empty() && owners.iter().all(goes)
}

fn id_of(resource: &Resource, metadata: &Metadata) -> ObjectId {
    ObjectId::new(&resource.group, &resource.kind, &metadata.namespace, &metadata.name)
}

/// Groups of figures, which are drawn up for who asks.
fn is_metrics(group: &str) -> bool {
    group == "metrics.k8s.io" || group.ends_with(".metrics.k8s.io")
}

/// What every namespace holds without anybody asking.
fn is_furniture(id: &ObjectId, annotations: &BTreeMap<String, String>) -> bool {
    match (id.group.as_str(), id.kind.as_str()) {
        ("", "Event") | ("events.k8s.io", _) | ("", "Endpoints") | ("coordination.k8s.io", _) => true,
        (group, _) if is_metrics(group) => true,
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
        // One that was never established has no objects. Else some API server may serve it already, or still.
        Err(failure) if failure.is_not_served() && !is_established(definition) => Inside::Foreign(Vec::new()),
        Err(failure) => Inside::Unknown(format!("cannot list its objects: {}", chain(&failure))),
    }
}

/// Whether a CRD says that its kind is served, or says nothing of it.
fn is_established(definition: &Value) -> bool {
    let conditions = definition.pointer("/status/conditions").and_then(Value::as_array);
    let established = conditions.into_iter().flatten().find(|condition| condition["type"] == "Established");
    established.is_none_or(|condition| condition["status"] != "False")
}
