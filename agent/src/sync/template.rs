//! Completing templates: the hub leaves variables open that ConfigMaps and Secrets of this cluster set.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flotilla_core::object::FromBodyError;
use flotilla_core::template::{Found, ObjectTemplate, TemplateError, ValuesKind, ValuesRef};
use flotilla_core::{Object, ObjectId, ObjectRef};
use serde::Deserialize;

use crate::cluster::Cluster;
use crate::cluster::request::Failure;

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

#[derive(Deserialize, Default)]
#[serde(default)]
struct Values {
    data: Option<BTreeMap<String, String>>,
}

/// The body of the object itself: as it is, or completed with what the cluster has now. Read by the agent's own
/// account, as Flux's controller does: a unit's namespace is where its values come from, whoever it is applied as.
pub(super) async fn complete(cluster: &Cluster, body: Bytes) -> Result<Bytes, CompleteError> {
    let object = Object::from_body(body)?;
    let template = match ObjectTemplate::of(&object) {
        None => return Ok(object.body().clone()),
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
    Ok(template.complete(&found)?.body().clone())
}

async fn read(cluster: &Cluster, reference: &ValuesRef) -> Result<Option<BTreeMap<String, String>>, Failure> {
    let secret = reference.kind == ValuesKind::Secret;
    let kind = if secret { "Secret" } else { "ConfigMap" };
    let id = ObjectId::new("", kind, reference.namespace.as_str(), reference.name.as_str());
    let object = ObjectRef { id, version: "v1".into() };
    let resource = cluster.resource(&object).await?;
    let Some(values) = cluster.fetch::<Values>(&resource, &object.id).await? else { return Ok(None) };
    let data = values.data.unwrap_or_default().into_iter();
    Ok(Some(if secret { data.map(|(key, value)| (key, decoded(&value))).collect() } else { data.collect() }))
}

/// The text of a Secret's value. Bytes that are no text become marks: no variable can hold them.
fn decoded(value: &str) -> String {
    let bytes = STANDARD.decode(value).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
