//! Which units and clusters use a Secret: what their objects name, and the Flux objects that define them and their sources.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::{Extension, Json};
use flotilla_api::{Page, SecretRole, SecretUse};
use flotilla_core::names::{is_dns_label, is_dns_subdomain};
use flotilla_core::secret_use::{Role, secrets_of};
use flotilla_core::template::{ObjectTemplate, ValuesKind};
use flotilla_core::{ClusterName, Object, UnitEntry, UnitId};
use serde::Deserialize;

use super::auth::Caller;
use super::clusters::{Answer, Overview, known};
use super::error::{ApiError, Params};
use super::images::has_text;
use super::list::{bad, limit};
use super::show::{Known, unit_ids};
use crate::state::{Hub, blocking};

pub(super) const QUERY: &[&str] = &["namespace", "cluster", "limit", "continue"];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    namespace: Option<String>,
    cluster: Option<String>,
    limit: Option<String>,
    #[serde(rename = "continue", alias = "after")]
    from: Option<String>,
}

/// A Secret that is looked for.
struct Wanted {
    name: String,
    /// `None`: in any.
    namespace: Option<String>,
}

impl Wanted {
    /// An object that does not say its namespace may mean this one.
    fn is(&self, namespace: &str, name: &str) -> bool {
        name == self.name
            && (namespace.is_empty() || self.namespace.as_ref().is_none_or(|wanted| wanted == namespace))
    }
}

/// Pages end with a cluster, so that one may have more than was asked for.
pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Params(query): Params<Query>,
) -> Answer<Page<SecretUse>> {
    if !is_dns_subdomain(&name) {
        return Err(ApiError::bad_request(format!("'{name}' cannot be the name of a Secret")));
    }
    if let Some(namespace) = query.namespace.as_deref().filter(|namespace| !is_dns_label(namespace)) {
        return Err(bad("namespace", format!("'{namespace}' cannot be the name of a namespace")));
    }
    let cluster_name = |field: &str, text: Option<String>| -> Result<Option<ClusterName>, ApiError> {
        text.map(|text| text.parse().map_err(|error| bad(field, error))).transpose()
    };
    let (of, after) = (cluster_name("cluster", query.cluster)?, cluster_name("continue", query.from)?);
    let most = limit(query.limit.as_deref())?;
    if let Some(name) = &of {
        // Says that there is none.
        known(&hub, &caller, name).await?;
    }
    let overview = Overview::of(&hub, &caller).await?;
    let wanted = Wanted { name, namespace: query.namespace };
    let page = move || {
        let mut items = Vec::new();
        for entry in overview.entries() {
            if of.as_ref().is_some_and(|of| *of != entry.name)
                || after.as_ref().is_some_and(|after| entry.name <= *after)
            {
                continue;
            }
            items.extend(uses_in(&entry.name, &overview.known(entry), &wanted));
            if items.len() >= most {
                return Page { items, next: Some(entry.name.to_string()) };
            }
        }
        Page { items, next: None }
    };
    Ok(Json(blocking(page).await))
}

fn uses_in(cluster: &ClusterName, known: &Known, wanted: &Wanted) -> Vec<SecretUse> {
    let blank = |unit: String| SecretUse { cluster: cluster.to_string(), unit, ..SecretUse::default() };
    let unknown =
        |unit: String, reason: String| SecretUse { role: SecretRole::Unknown, reason, ..blank(unit) };
    let mut uses = Vec::new();
    let mut add = |unit: &UnitId, object: &Object| {
        for (namespace, field, role) in named_by(object, wanted) {
            let object = object.id().to_string();
            uses.push(SecretUse { role, namespace, object, field, ..blank(unit.to_string()) });
        }
    };
    let facts = known.facts.as_deref();
    for source in facts.iter().flat_map(|facts| facts.sources.values()) {
        if known.sees(&source.defined_by) {
            add(&source.defined_by, &source.object);
        }
    }
    let mut held = Vec::new();
    for id in unit_ids(known) {
        if let Some(definition) = facts.and_then(|facts| facts.units.get(id)?.object.as_ref()) {
            add(id, definition);
        }
        let published = known.published.as_ref();
        match published.and_then(|published| Some((published, published.state.units().get(id)?))) {
            Some((published, UnitEntry::Present(unit))) => {
                unit.objects
                    .iter()
                    .filter_map(|entry| published.bodies.get(&entry.digest))
                    .for_each(|object| add(id, object));
            }
            Some((_, UnitEntry::Hold(hold))) => held.push(unknown(id.to_string(), hold.to_string())),
            Some((_, UnitEntry::Removed(_))) | None => {}
        }
    }
    uses.extend(held);
    if known.published.is_none() && (known.facts.is_some() || known.record.is_some()) {
        let reason = "the hub does not know what the cluster should run";
        uses.push(unknown(String::new(), reason.to_owned()));
    }
    uses
}

/// Where an object names the Secret: its namespace as far as that is said, the field, and what for.
fn named_by(object: &Object, wanted: &Wanted) -> BTreeSet<(String, String, SecretRole)> {
    // Most objects name none: they need not be read.
    if !has_text(object.body(), wanted.name.as_bytes()) {
        return BTreeSet::new();
    }
    let mut found = BTreeSet::new();
    let value = match ObjectTemplate::of(object) {
        None => Some(object.value()),
        Some(Err(_)) => None,
        Some(Ok(template)) => {
            let secrets = template.needs().filter(|at| at.kind == ValuesKind::Secret);
            for at in secrets.filter(|at| wanted.is(&at.namespace, &at.name)) {
                let field = "(what its unit decrypts or substitutes)".to_owned();
                found.insert((at.namespace.clone(), field, SecretRole::Uses));
            }
            template.document()
        }
    };
    for used in value.iter().flat_map(secrets_of).filter(|used| wanted.is(&used.namespace, &used.name)) {
        let role = match used.role {
            Role::Uses => SecretRole::Uses,
            Role::Makes => SecretRole::Makes,
        };
        found.insert((used.namespace, used.field, role));
    }
    found
}
