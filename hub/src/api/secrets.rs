//! Secrets of sources: put, listed without what they hold, removed.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::{Extension, Json};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flotilla_api::{Done, NewSecret, Page, SecretInfo};

use super::auth::Caller;
use super::clusters::{Answer, done};
use super::error::{ApiError, Body};
use super::reach::outside;
use crate::sources::{Scope, SecretPlace};
use crate::state::{Hub, blocking};

/// Of all values of one secret.
const LARGEST: usize = 1 << 20;

pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
) -> Answer<Page<SecretInfo>> {
    let reach = caller.reach(&hub);
    let secrets = blocking(move || hub.records.secrets()).await?;
    let in_reach = |info: &SecretInfo| {
        reach.is_fleet()
            || place(&info.scope, &info.namespace, &info.name).is_ok_and(|place| reach.secret(&place))
    };
    let info = |(place, record): (String, crate::store::secrets::SecretRecord)| {
        let mut parts = place.splitn(3, '/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        let (scope, namespace, name) = (next(), next(), next());
        let (changed_at, changed_by) = (record.changed_at, record.changed_by);
        SecretInfo { scope, namespace, name, kind: record.kind, keys: record.keys, changed_at, changed_by }
    };
    Ok(Json(Page { items: secrets.into_iter().map(info).filter(in_reach).collect(), next: None }))
}

pub(super) async fn put(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
    Body(body): Body<NewSecret>,
) -> Answer<Done> {
    let place = place(&body.scope, &body.namespace, &body.name)?;
    need(&caller, &hub, &place)?;
    let mut data = BTreeMap::new();
    for (key, value) in &body.data {
        let is_key = !key.is_empty()
            && key.len() <= 253
            && !matches!(key.as_str(), "." | "..")
            && key.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        let value = STANDARD.decode(value).ok().filter(|_| is_key);
        let wrong =
            || ApiError::bad_request(format!("'{key}' is not a key of a Secret, or its value is not base64"));
        data.insert(key.clone(), value.ok_or_else(wrong)?);
    }
    if data.is_empty() || data.values().map(Vec::len).sum::<usize>() > LARGEST {
        return Err(ApiError::bad_request("a secret has at least one key and at most 1 MiB of values"));
    }
    if body.kind.len() > 32 {
        return Err(ApiError::bad_request("`kind` has at most 32 characters"));
    }
    let keys = data.keys().cloned().collect::<Vec<_>>().join(", ");
    let audit = caller.audit(&hub, "secret.put", &place).detail(format!("{} with {keys}", body.kind));
    let said = format!("the secret {place} is kept");
    blocking(move || hub.vault.put(&place, &body.kind, &data, &audit))
        .await
        .map_err(|e| ApiError::internal(&e))?;
    Ok(done(said))
}

pub(super) async fn remove(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
    Path((scope, namespace, name)): Path<(String, String, String)>,
) -> Answer<Done> {
    let place = place(&scope, &namespace, &name)?;
    need(&caller, &hub, &place)?;
    let audit = caller.audit(&hub, "secret.delete", &place);
    let text = place.to_string();
    if !blocking(move || hub.records.remove_secret(&text, &audit)).await? {
        return Err(ApiError::not_found(format!("there is no secret {place}"))
            .hint("`flotilla secret list` shows them"));
    }
    Ok(done(format!("the secret {place} is gone; sources that name it are no longer fetched")))
}

fn need(caller: &Caller, hub: &Hub, place: &SecretPlace) -> Result<(), ApiError> {
    if caller.reach(hub).secret(place) {
        return caller.may_write(hub);
    }
    Err(outside(&format!("{place} is a secret that others of the fleet use, or may use")))
}

fn place(scope: &str, namespace: &str, name: &str) -> Result<SecretPlace, ApiError> {
    let scope: Scope = scope.parse().map_err(|error: String| ApiError::bad_request(error))?;
    SecretPlace::new(scope, namespace, name).map_err(ApiError::bad_request)
}
