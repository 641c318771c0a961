//! Flux's own objects: listed, suspended, removed without what they applied, brought back.

use bytes::Bytes;
use flotilla_core::adopt::{FluxObject, HELM, KUSTOMIZE, OTHERS, SOURCES};
use flotilla_core::live::{Live, ManagedFields, Metadata};
use flotilla_core::{ObjectId, ObjectRef, drift};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::cluster::discovery::Resource;
use crate::cluster::path::encoded;
use crate::cluster::request::{Call, Failure};
use crate::sync::adoption_record::MARK;

const MERGE: &str = "application/merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";
const PAGE: u32 = 50;
const ATTEMPTS: u32 = 5;

/// Whether objects of this group apply others, and can be suspended for that.
pub(super) fn applies(id: &ObjectId) -> bool {
    [KUSTOMIZE, HELM].contains(&id.group.as_str())
}

/// All of Flux's objects, of each only what a plan needs.
pub(super) async fn list(cluster: &Cluster) -> Result<Vec<FluxObject>, Failure> {
    let mut found = Vec::new();
    let groups = [KUSTOMIZE, HELM].into_iter().chain(SOURCES).chain(OTHERS);
    for resource in groups.flat_map(|group| cluster.discovery().of_group(group)) {
        let mut next = String::new();
        loop {
            let path = format!("{}?limit={PAGE}&continue={}", resource.collection("")?, encoded(&next));
            let list = cluster.ask_list::<Value>(Call::new(Method::GET, path), &resource.plural).await?;
            for item in list.items {
                let text = |pointer| item.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
                let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
                let id = ObjectId::new(&resource.group, &resource.kind, namespace, name);
                found.push(FluxObject::of(id, &item));
            }
            next = list.more;
            if next.is_empty() {
                break;
            }
        }
    }
    Ok(found)
}

fn served(cluster: &Cluster, id: &ObjectId) -> Result<std::sync::Arc<Resource>, Failure> {
    let object = ObjectRef { id: id.clone(), version: "".into() };
    let no_match = || Failure::NoMatch { api_version: id.group.clone(), kind: id.kind.clone() };
    cluster.discovery().any_version(&object).ok_or_else(no_match)
}

/// One of them, all of it.
pub(super) async fn fetch(cluster: &Cluster, id: &ObjectId) -> Result<Option<Value>, Failure> {
    cluster.fetch::<Value>(&*served(cluster, id)?, id).await
}

async fn patch(
    cluster: &Cluster,
    path: String,
    kind: &'static str,
    manager: &str,
    body: &Value,
) -> Result<Value, Failure> {
    let call = Call::new(Method::PATCH, format!("{path}?fieldManager={manager}"));
    cluster.ask(call.body(kind, Bytes::from(body.to_string()))).await
}

/// Has Flux leave alone what this object applies, and marks it as suspended by an adoption.
pub(super) async fn suspend(cluster: &Cluster, id: &ObjectId) -> Result<(), Failure> {
    let path = served(cluster, id)?.path(id)?;
    let body = json!({"metadata": {"annotations": {MARK: ""}}, "spec": {"suspend": true}});
    patch(cluster, path, MERGE, drift::MANAGER, &body).await.map(drop)
}

fn metadata(found: &Value) -> Metadata {
    Live::from(found).metadata
}

/// Removes one of Flux's objects, and nothing that it applied; why it stays, if so.
///
/// It must be suspended, so that Flux prunes nothing, and it loses Flux's finalizer first, so that nobody but the API
/// server has a say in its removal. It goes only as it was when that was seen: whoever changes it meanwhile wins.
pub(super) async fn remove(cluster: &Cluster, id: &ObjectId) -> Result<Option<String>, Failure> {
    let resource = served(cluster, id)?;
    for _ in 0..ATTEMPTS {
        let Some(found) = cluster.fetch::<Value>(&resource, id).await? else { return Ok(None) };
        if applies(id) && found.pointer("/spec/suspend") != Some(&Value::Bool(true)) {
            return Ok(Some("runs: somebody resumed it; adopt again".into()));
        }
        let Metadata { uid, mut resource_version, finalizers, .. } = metadata(&found);
        let others: Vec<&str> =
            finalizers.iter().filter(|name| !is_fluxs(name)).map(String::as_str).collect();
        if !others.is_empty() {
            return Ok(Some(format!(
                "suspended; stays for a finalizer that is not Flux's: {}",
                others.join(", ")
            )));
        }
        if !finalizers.is_empty() {
            let body = json!({"metadata": {"finalizers": null, "resourceVersion": resource_version}});
            match patch(cluster, resource.path(id)?, MERGE, drift::MANAGER, &body).await {
                Ok(after) => resource_version = metadata(&after).resource_version,
                Err(failure) if failure.is_conflict() || failure.is_not_found() => continue,
                Err(failure) => return Err(failure),
            }
        }
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background",
            "preconditions": {"uid": uid, "resourceVersion": resource_version}});
        let call = Call::new(Method::DELETE, resource.path(id)?);
        match cluster.send(call.body("application/json", Bytes::from(options.to_string()))).await {
            Err(failure) if failure.is_conflict() => {}
            Err(failure) if !failure.is_not_found() => return Err(failure),
            _ => return Ok(None),
        }
    }
    Ok(Some("suspended; others keep changing it: adopt again".into()))
}

fn is_fluxs(finalizer: &str) -> bool {
    let domain = finalizer.split('/').next().unwrap_or_default();
    domain == "fluxcd.io" || domain.ends_with(".fluxcd.io")
}

/// Brings an object back as it was, suspended where it applies others; why not, if so. One that is there is left as it is.
pub(super) async fn bring_back(
    cluster: &Cluster,
    id: &ObjectId,
    was: &Value,
) -> Result<Option<String>, Failure> {
    let resource = served(cluster, id)?;
    let mut body = was.clone();
    if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
        let kept = ["name", "namespace", "labels", "annotations", "finalizers"];
        metadata.retain(|key, _| kept.contains(&key.as_str()));
    }
    body["metadata"]["annotations"][MARK] = "".into();
    let status = body.as_object_mut().and_then(|body| body.remove("status"));
    if applies(id) {
        body["spec"]["suspend"] = true.into();
    }
    body["apiVersion"] = format!("{}/{}", resource.group, resource.version).into();
    let path = format!("{}?fieldManager={}", resource.collection(&id.namespace)?, first_manager(was));
    let call = Call::new(Method::POST, path).body("application/json", Bytes::from(body.to_string()));
    match cluster.send(call).await {
        Ok(_) => {}
        // Never removed, or brought back by an undo that was cut short, or made by somebody else.
        Err(failure) if failure.is_conflict() => {
            let found = cluster.fetch::<Value>(&resource, id).await?.map(|found| metadata(&found));
            let Some(found) = found.filter(|found| found.deletion_timestamp.is_none()) else {
                return Ok(Some("is being deleted; undo again when it is gone".into()));
            };
            if found.uid == metadata(was).uid || !found.annotations.contains_key(MARK) {
                return Ok(None);
            }
        }
        Err(failure) => return Err(failure),
    }
    if let Some(status) = status {
        let path = format!("{}/status", resource.path(id)?);
        match patch(cluster, path, MERGE, first_manager(was), &json!({"status": status})).await {
            // Kinds without a status of its own, or one that newer definitions refuse: Flux writes it anew.
            Err(failure) if [404, 422].contains(&failure.code()) => {}
            other => drop(other?),
        }
    }
    Ok(None)
}

/// Lets it run as it did, its fields in the hands of those who had them, if an adoption or its undo marked it; why not,
/// if so.
pub(super) async fn resume(cluster: &Cluster, id: &ObjectId, was: &Value) -> Result<Option<String>, Failure> {
    let resource = served(cluster, id)?;
    let mark = format!("/metadata/annotations/{}", MARK.replace('/', "~1"));
    for _ in 0..ATTEMPTS {
        let Some(found) = cluster.fetch::<Value>(&resource, id).await? else { return Ok(None) };
        if found.pointer(&mark).is_none() {
            return Ok(None);
        }
        let Metadata { resource_version, mut finalizers, .. } = metadata(&found);
        let dropped = metadata(was).finalizers.into_iter().filter(|name| !finalizers.contains(name));
        let dropped: Vec<String> = dropped.collect();
        if !dropped.is_empty() {
            // A removal was cut short. Apart from what follows, which says whose they are.
            finalizers.extend(dropped);
            let body = json!({"metadata": {"finalizers": finalizers, "resourceVersion": resource_version}});
            match patch(cluster, resource.path(id)?, MERGE, first_manager(was), &body).await {
                Err(failure) if !failure.is_conflict() => return Err(failure),
                Ok(_) | Err(_) => continue,
            }
        }
        let mut changes = vec![
            json!({"op": "replace", "path": "/metadata/resourceVersion", "value": resource_version}),
            json!({"op": "remove", "path": mark}),
        ];
        if let Some(entries) = was.pointer("/metadata/managedFields").filter(|entries| entries.is_array()) {
            changes.push(json!({"op": "replace", "path": "/metadata/managedFields", "value": entries}));
        }
        if applies(id) {
            match was.pointer("/spec/suspend") {
                Some(suspend) => {
                    changes.push(json!({"op": "add", "path": "/spec/suspend", "value": suspend}));
                }
                None if found.pointer("/spec/suspend").is_some() => {
                    changes.push(json!({"op": "remove", "path": "/spec/suspend"}));
                }
                None => {}
            }
        }
        match patch(cluster, resource.path(id)?, JSON_PATCH, first_manager(was), &changes.into()).await {
            Err(failure) if failure.is_conflict() => {}
            other => return other.map(|_| None),
        }
    }
    Ok(Some("others keep changing it; undo again".into()))
}

/// Who applied it.
fn first_manager(was: &Value) -> &str {
    let manager = was.pointer("/metadata/managedFields/0/manager").and_then(Value::as_str);
    manager.filter(|manager| is_plain(manager)).unwrap_or("kubectl")
}

/// Whether a name can stand in a query as it is.
fn is_plain(manager: &str) -> bool {
    manager.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

/// Gives an object of Git back to those who had it; why not, if so.
pub(super) async fn give_back(
    cluster: &Cluster,
    object: &ObjectRef,
    known: &str,
    previous: &flotilla_core::adopt::Previous,
) -> Result<Option<String>, Failure> {
    #[derive(Deserialize)]
    struct There {
        metadata: Metadata,
    }
    let plain = |entry: &&ManagedFields| is_plain(&entry.manager);
    let Some(resource) = cluster.discovery().any_version(object) else {
        return Ok(Some("its kind is no longer served".into()));
    };
    let manager = previous.managers.iter().find(plain).map_or(drift::MANAGER, |entry| &entry.manager);
    for _ in 0..ATTEMPTS {
        let Some(There { metadata }) = cluster.fetch(&resource, &object.id).await? else {
            return Ok(Some("is no longer there".into()));
        };
        if !known.is_empty() && metadata.uid != known {
            return Ok(Some("is another object of the same name by now".into()));
        }
        let path = resource.path(&object.id)?;
        let (what, body) = match flotilla_core::adopt::value_patch(&metadata, previous) {
            Some(body) => (MERGE, body),
            None => match flotilla_core::adopt::manager_patch(&metadata, previous) {
                Some(body) => (JSON_PATCH, body),
                None => return Ok(None),
            },
        };
        match patch(cluster, path, what, manager, &body).await {
            Err(failure) if !failure.is_conflict() => return Err(failure),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(Some("others keep changing it; undo again".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_a_finalizer_is() {
        for (name, expected) in [
            ("finalizers.fluxcd.io", true),
            ("source.extensions.fluxcd.io/finalizer", true),
            ("foregroundDeletion", false),
            ("example.com/fluxcd.io", false),
            ("notfluxcd.io", false),
        ] {
            assert_eq!(is_fluxs(name), expected, "{name}");
        }
    }

    #[test]
    fn a_manager_that_makes_no_query_is_not_named() {
        for (manager, expected) in
            [("kustomize-controller", "kustomize-controller"), ("a b&dryRun=All", "kubectl")]
        {
            let was = json!({"metadata": {"managedFields": [{"manager": manager}]}});
            assert_eq!(first_manager(&was), expected);
        }
        assert_eq!(first_manager(&json!({})), "kubectl");
    }
}
