//! Completing templates: the hub leaves variables open that ConfigMaps and Secrets of this cluster set.

use bytes::Bytes;
use flotilla_core::object::FromBodyError;
use flotilla_core::template::{Found, ObjectTemplate, TemplateError, ValuesKind, ValuesRef};
use flotilla_core::{Digest, Object, ObjectId, ObjectRef};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::cluster::request::Failure;
use crate::cluster::values::{self, digest_of, values_of};

/// Why a template did not become an object.
#[derive(Debug, thiserror::Error)]
pub(super) enum CompleteError {
    #[error(transparent)]
    Body(#[from] FromBodyError),
    #[error("its template is of a newer hub; update the agent")]
    Unread(#[source] serde_json::Error),
    #[error("cannot read {0}, which variables are taken from")]
    Values(ValuesRef, #[source] Failure),
    #[error(transparent)]
    Template(#[from] TemplateError),
}

/// The places that an object's values were taken from, and what was there.
pub(super) type Taken = Vec<(ValuesRef, Digest)>;

/// The body of the object itself: as it is, or completed with what the cluster has now. Read by the agent's own
/// account, as Flux's controller does: a unit's namespace is where its values come from, whoever it is applied as.
pub(super) async fn complete(cluster: &Cluster, body: Bytes) -> Result<(Bytes, Taken), CompleteError> {
    let object = Object::from_body(body)?;
    let template = match ObjectTemplate::of(&object) {
        None => return Ok((object.body().clone(), Taken::new())),
        Some(template) => template.map_err(CompleteError::Unread)?,
    };
    let mut found = Found::new();
    for reference in template.needs() {
        if !found.contains_key(reference) {
            let values = read(cluster, reference).await;
            found.insert(
                reference.clone(),
                values.map_err(|failure| CompleteError::Values(reference.clone(), failure))?,
            );
        }
    }
    let taken = found.iter().map(|(reference, found)| (reference.clone(), digest_of(found))).collect();
    Ok((template.complete(&found)?.body().clone(), taken))
}

/// As the API server knows it.
pub(super) fn object_of(reference: &ValuesRef) -> ObjectRef {
    let kind = match reference.kind {
        ValuesKind::ConfigMap => "ConfigMap",
        ValuesKind::Secret => "Secret",
    };
    let id = ObjectId::new("", kind, reference.namespace.as_str(), reference.name.as_str());
    ObjectRef { id, version: "v1".into() }
}

async fn read(cluster: &Cluster, reference: &ValuesRef) -> Result<values::Found, Failure> {
    let object = object_of(reference);
    let resource = cluster.resource(&object).await?;
    let found = cluster.fetch::<Value>(&resource, &object.id).await?;
    Ok(found.map(|found| values_of(reference.kind, &found)))
}
