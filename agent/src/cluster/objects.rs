//! What is done to single objects: applied, folded, fetched, listed, deleted.

use bytes::Bytes;
use flotilla_core::inventory::Uid;
use flotilla_core::live::{Live, Metadata};
use flotilla_core::normalize::normalize;
use flotilla_core::unit::UnitId;
use flotilla_core::{Digest, ObjectId, drift};
use http::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::discovery::Resource;
use super::path::encoded;
use super::request::{Call, Failure};
use super::{Cluster, UNIT_LABEL, applyset};

const APPLY: &str = "application/apply-patch+yaml";
const JSON_PATCH: &str = "application/json-patch+json";

/// So many objects are listed in one answer.
const PAGE: usize = 500;

/// What became of a deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Deleted {
    Gone,
    /// Accepted; the object stays until these let it go.
    Waits(Vec<String>),
}

/// Whether an apply is for real.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestMode {
    /// Takes fields from whoever holds them.
    Forced,
    /// Refused where another manager holds a field with another value.
    Polite,
    DryRun,
}

impl Cluster {
    /// Server-Side Apply of `body`. `T` is as much of the answer as is needed.
    pub(crate) async fn apply<T: DeserializeOwned>(
        &self,
        resource: &Resource,
        id: &ObjectId,
        body: Bytes,
        mode: RequestMode,
    ) -> Result<T, Failure> {
        let how = match mode {
            RequestMode::Forced => "&force=true",
            RequestMode::Polite => "",
            RequestMode::DryRun => "&force=true&dryRun=All",
        };
        let path = format!("{}?fieldManager={}{how}", resource.path(id)?, drift::MANAGER);
        self.ask_for(Call::new(Method::PATCH, path).body(APPLY, body), &resource.kind, &id.name).await
    }

    /// Makes the fields that kubectl and former tools hold ours, so that the next apply can take them away. The
    /// object after that; none if there is nothing to fold.
    pub(crate) async fn fold(
        &self,
        resource: &Resource,
        id: &ObjectId,
        metadata: &Metadata,
    ) -> Result<Option<Bytes>, Failure> {
        let Some(patch) = drift::fold_patch(&metadata.managed_fields, &metadata.resource_version) else {
            return Ok(None);
        };
        self.patch(resource, id, &patch).await.map(Some)
    }

    /// Changes an object by a JSON patch. The object after that.
    pub(crate) async fn patch(
        &self,
        resource: &Resource,
        id: &ObjectId,
        patch: &Value,
    ) -> Result<Bytes, Failure> {
        let path = format!("{}?fieldManager={}", resource.path(id)?, drift::MANAGER);
        self.send(Call::new(Method::PATCH, path).body(JSON_PATCH, patch.to_string())).await
    }

    /// Whether the API server would take `body` if nothing stood in its place, by a dry run: it judges a new object before
    /// it finds that there is one of this name.
    pub(crate) async fn could_create(
        &self,
        resource: &Resource,
        id: &ObjectId,
        mut body: Bytes,
    ) -> Result<bool, Failure> {
        let path =
            format!("{}?fieldManager={}&dryRun=All", resource.collection(&id.namespace)?, drift::MANAGER);
        for _ in 0..2 {
            let call = Call::new(Method::POST, path.clone()).body("application/json", body.clone());
            let Err(failure) = self.send(call).await else {
                // It is gone, and is made by the next apply.
                return Ok(false);
            };
            let Failure::Refused { code, reason, message, .. } = &failure else { return Err(failure) };
            match code {
                409 if reason == "AlreadyExists" => return Ok(true),
                _ if failure.is_of_dry_run() => return Err(failure),
                // What the object itself has is not free for another; whatever else there is to say is said without it.
                422 if message.contains("already allocated") => match without_allocations(&body) {
                    Some(rest) => body = rest,
                    None => return Ok(false),
                },
                400 | 422 => return Ok(false),
                _ if failure.is_admission() => return Ok(false),
                _ => return Err(failure),
            }
        }
        Ok(false)
    }

    /// Fetches an object; none if it is not there.
    pub(crate) async fn fetch<T: DeserializeOwned>(
        &self,
        resource: &Resource,
        id: &ObjectId,
    ) -> Result<Option<T>, Failure> {
        let path = match resource.path(id) {
            // What cannot be is not there.
            Err(Failure::Name(_)) => return Ok(None),
            path => path?,
        };
        match self.ask_for(Call::new(Method::GET, path), &resource.kind, &id.name).await {
            Err(failure) if failure.is_not_found() => Ok(None),
            other => other.map(Some),
        }
    }

    /// Deletes exactly the object with this uid. Where that is gone, or another stands in its place, nothing is done.
    pub(crate) async fn delete(
        &self,
        resource: &Resource,
        id: &ObjectId,
        uid: &Uid,
        propagation: &str,
    ) -> Result<Deleted, Failure> {
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation,
            "preconditions": {"uid": uid.to_string()}});
        let path = match resource.path(id) {
            Err(Failure::Name(_)) => return Ok(Deleted::Gone),
            path => path?,
        };
        let call = Call::new(Method::DELETE, path).body("application/json", options.to_string());
        match self.ask::<Live>(call).await {
            Ok(live) if live.kind == "Status" && live.status == "Success" => Ok(Deleted::Gone),
            // An answer that is about another object, or none, says nothing of this one.
            Ok(live) if live.kind != resource.kind || live.metadata.name != *id.name => {
                Err(Failure::NoObject { kind: resource.kind.clone(), name: id.name.to_string() })
            }
            Ok(live) if !uid.is(&live.metadata.uid) => Ok(Deleted::Gone),
            Ok(live) if live.metadata.deletion_timestamp.is_none() => Ok(Deleted::Gone),
            Ok(live) => Ok(Deleted::Waits(live.metadata.finalizers)),
            Err(failure) if failure.is_not_found() => Ok(Deleted::Gone),
            // The precondition did not hold: what was to go is gone.
            Err(failure) if failure.is_conflict() => match self.fetch::<Live>(resource, id).await? {
                Some(live) if uid.is(&live.metadata.uid) => Err(failure),
                _ => Ok(Deleted::Gone),
            },
            Err(failure) => Err(failure),
        }
    }

    /// The first `most` objects of a kind that are wanted, in a namespace or in all; all pages are looked at for them.
    pub(crate) async fn names(
        &self,
        resource: &Resource,
        namespace: &str,
        most: usize,
        wanted: &(dyn Fn(&Metadata) -> bool + Sync),
    ) -> Result<Vec<Metadata>, Failure> {
        #[derive(Deserialize)]
        struct Item {
            metadata: Metadata,
        }
        let mut found = Vec::new();
        let mut more = String::new();
        loop {
            let path = format!("{}?limit={PAGE}{more}", resource.collection(namespace)?);
            let mut call = Call::new(Method::GET, path);
            call.accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
            let list = self.ask_list::<Item>(call, &resource.plural).await?;
            let items = list.items.into_iter().map(|item| item.metadata);
            found.extend(items.filter(wanted).take(most - found.len()));
            if found.len() == most || list.more.is_empty() {
                return Ok(found);
            }
            more = format!("&continue={}", encoded(&list.more));
        }
    }
}

/// A Service without the addresses and ports that it wants to be given. None if it wants none.
fn without_allocations(body: &[u8]) -> Option<Bytes> {
    let mut value: Value = serde_json::from_slice(body).ok()?;
    let spec = value.get_mut("spec")?.as_object_mut()?;
    let before = spec.clone();
    for field in ["clusterIP", "clusterIPs", "healthCheckNodePort"] {
        spec.remove(field);
    }
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        port.as_object_mut()?.remove("nodePort");
    }
    (*spec != before).then(|| value.to_string().into())
}

/// An answer both as a whole and as we look at it.
pub(crate) struct Parsed {
    pub(crate) value: Value,
    pub(crate) live: Live,
}

impl<'de> Deserialize<'de> for Parsed {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Ok(Self { live: Live::from(&value), value })
    }
}

/// The value of our label for a unit: its name where that fits, so that people can select by it, else a digest.
pub(crate) fn label_value(unit: &UnitId) -> String {
    let name = unit.to_string().replace('/', ".");
    if name.len() <= 63 { name } else { Digest::of(name.as_bytes()).to_string()[..32].to_owned() }
}

/// An object's body as it is sent, and what of it decides how.
pub(crate) struct Prepared {
    pub(crate) body: Bytes,
    pub(crate) value: Value,
}

/// Completes a body: the form in which it is applied, our label, and the namespace that the object is in.
pub(crate) fn prepare(body: &[u8], id: &ObjectId, owner: &UnitId) -> Result<Prepared, serde_json::Error> {
    let mut value: Value = serde_json::from_slice(body)?;
    normalize(&mut value);
    if let Some(root) = value.as_object_mut()
        && let Some(metadata) = root.entry("metadata").or_insert_with(|| json!({})).as_object_mut()
    {
        if id.namespace.is_empty() {
            metadata.remove("namespace");
        } else {
            metadata.insert("namespace".into(), Value::String(id.namespace.clone()));
        }
        let labels = metadata.entry("labels").or_insert_with(|| json!({}));
        if !labels.is_object() {
            *labels = json!({});
        }
        labels[UNIT_LABEL] = Value::String(label_value(owner));
        labels[applyset::MEMBER_LABEL] = applyset::ID.into();
    }
    Ok(Prepared { body: serde_json::to_vec(&value)?.into(), value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_gets_its_label_and_its_namespace() {
        let id = |namespace: &str| ObjectId::new("", "ConfigMap", namespace, "x");
        let unit = UnitId::kustomization("flux-system", "apps");
        let body = br#"{"kind":"ConfigMap","metadata":{"name":"x","labels":null}}"#;
        let sent: Value =
            serde_json::from_slice(&prepare(body, &id("default"), &unit).unwrap().body).unwrap();
        assert_eq!(
            sent["metadata"],
            json!({"name": "x", "namespace": "default", "labels":
                {UNIT_LABEL: "kustomization.flux-system.apps", applyset::MEMBER_LABEL: applyset::ID}})
        );
        let body = br#"{"metadata":{"name":"x","namespace":"n","labels":{"a":"b"}}}"#;
        let sent = prepare(body, &id(""), &UnitId::root()).unwrap().value;
        assert_eq!(
            sent["metadata"],
            json!({"name": "x", "labels": {"a": "b", UNIT_LABEL: "root", applyset::MEMBER_LABEL: applyset::ID}})
        );
        let long = label_value(&UnitId::kustomization("n".repeat(60), "x".repeat(60)));
        assert_eq!(long.len(), 32);
    }
}
