//! Completing templates: the hub leaves variables open that ConfigMaps and Secrets of this cluster set.

use bytes::Bytes;
use flotilla_core::object::FromBodyError;
use flotilla_core::template::{Found, ObjectTemplate, TemplateError, ValuesKind, ValuesRef};
use flotilla_core::{Digest, Object, ObjectId, ObjectRef, UnitId};
use serde_json::Value;

use super::key_services::KeyServices;
use crate::cluster::Cluster;
use crate::cluster::request::Failure;
use crate::cluster::values::{self, digest_of, values_of};

/// Why a template did not become an object.
#[derive(Debug, thiserror::Error)]
pub(super) enum CompleteError {
    #[error(transparent)]
    Body(#[from] FromBodyError),
    #[error("its template was made by a newer hub; upgrade the agent")]
    Unread(#[source] serde_json::Error),
    #[error("cannot read {0}, which values are taken from")]
    Values(ValuesRef, #[source] Failure),
    #[error(transparent)]
    Template(#[from] TemplateError),
}

impl CompleteError {
    /// Whether it is the keys that do not open an encrypted object.
    pub(super) fn is_of_keys(&self) -> bool {
        matches!(self, Self::Template(TemplateError::Keys(..) | TemplateError::Shut(..)))
    }
}

/// The places that an object's values were taken from, and what was there.
pub(super) type Taken = Vec<(ValuesRef, Digest)>;

/// A body as the hub gave it.
pub(super) struct Given {
    pub(super) body: Bytes,
    /// By the unit's manifest it is a template.
    pub(super) template: bool,
}

/// Completes a body: as it is, or with what the cluster has now. Values are of the unit's own namespace and read as its
/// account, which `cluster` acts as: whoever defined the unit gets nothing that the account may not read.
pub(super) async fn complete(
    services: &KeyServices,
    cluster: &Cluster,
    unit: &UnitId,
    Given { body, template }: Given,
) -> Result<(Bytes, Taken), CompleteError> {
    let object = Object::from_body(body, template)?;
    let template = match ObjectTemplate::of(&object) {
        None => return Ok((object.body().clone(), Taken::new())),
        Some(template) => template.map_err(CompleteError::Unread)?,
    };
    let mut found = Found::new();
    for reference in template.needs_in(unit.home())? {
        if !found.contains_key(reference) {
            let values = read(cluster, reference).await;
            found.insert(
                reference.clone(),
                values.map_err(|failure| CompleteError::Values(reference.clone(), failure))?,
            );
        }
    }
    let taken = found.iter().map(|(reference, found)| (reference.clone(), digest_of(found))).collect();
    let completed =
        services.asking(|answers| template.complete_with(&found, answers), TemplateError::asks).await?;
    Ok((completed.body().clone(), taken))
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
