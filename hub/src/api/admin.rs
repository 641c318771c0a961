//! Tokens, audit, backups and the CA.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use flotilla_api::{
    AuditEntry, CaStatus, Done, FinishRotation, MadeToken, NewToken, Page, Scope, Token, WhoAmI,
};
use flotilla_core::ClusterName;
use flotilla_core::names::is_dns_label;
use flotilla_core::report::Timestamp;
use flotilla_proto::v1::{self, request};
use flotilla_runtime::token::TokenSecret;
use http::header;

use super::auth::{Caller, token_text};
use super::clusters::{Answer, Paging, done, page};
use super::error::{ApiError, Body, Params};
use crate::state::{Hub, blocking};
use crate::store::{ApiTokenRecord, StoreError, backup};

pub(super) async fn who_am_i(Extension(caller): Extension<Caller>) -> Json<WhoAmI> {
    let Caller { name, role, expires_at, scope, .. } = caller;
    Json(WhoAmI { name, role, expires_at, scope: (*scope).clone() })
}

/// How long a token is good unless somebody says otherwise.
const TOKEN_LIFE: u64 = 90 * 24 * 3600;
/// Clusters, groups and namespaces that one token names.
const MAX_SCOPE: usize = 100;

fn shown((token, last_used_at): (ApiTokenRecord, Option<Timestamp>)) -> Token {
    let ApiTokenRecord { name, role, created_at, created_by, expires_at, scope } = token;
    Token { name, role, created_at, created_by, expires_at, scope, last_used_at }
}

/// A scope whose names can be names: one that is misspelled must not be a token without a bound.
fn checked(scope: Scope) -> Result<Scope, ApiError> {
    for cluster in &scope.clusters {
        cluster.parse::<ClusterName>().map_err(|error| ApiError::bad_request(error.to_string()))?;
    }
    for (what, names) in [("ClusterGroup", &scope.groups), ("namespace", &scope.namespaces)] {
        if let Some(name) = names.iter().find(|name| !is_dns_label(name)) {
            return Err(ApiError::bad_request(format!("'{name}' cannot name a {what}")));
        }
    }
    if scope.clusters.len() + scope.groups.len() + scope.namespaces.len() > MAX_SCOPE {
        return Err(ApiError::bad_request(format!(
            "a token's scope names at most {MAX_SCOPE} clusters, groups and namespaces"
        )));
    }
    Ok(scope)
}

pub(super) async fn tokens(State(hub): State<Arc<Hub>>) -> Answer<Page<Token>> {
    let tokens = blocking(move || hub.records.api_tokens()).await?;
    Ok(Json(Page { items: tokens.into_iter().map(shown).collect(), next: None }))
}

pub(super) async fn create_token(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
    Body(body): Body<NewToken>,
) -> Answer<MadeToken> {
    if !is_dns_label(&body.name) {
        return Err(ApiError::bad_request(format!(
            "'{}' cannot name a token: use 1 to 63 lower-case letters, digits and '-'",
            body.name
        )));
    }
    let (now, secret) = (hub.now(), TokenSecret::generate());
    let expires_at = match body.expires_in {
        None if body.never_expires => None,
        Some(_) if body.never_expires => {
            return Err(ApiError::bad_request("`expiresIn` and `neverExpires` exclude each other"));
        }
        None => Some(now + TOKEN_LIFE as i64),
        Some(seconds @ 1..=3_153_600_000) => Some(now + seconds as i64),
        Some(_) => return Err(ApiError::bad_request("`expiresIn` must be 1 to 3153600000 seconds")),
    };
    let token = ApiTokenRecord {
        name: body.name,
        role: body.role,
        created_at: now,
        created_by: caller.name.clone(),
        expires_at,
        scope: checked(body.scope)?,
    };
    let detail = format!("role {}, scope {}", token.role, token.scope);
    let audit = caller.audit(&hub, "token.create", &token.name).detail(detail);
    let (stored, hash) = (token.clone(), secret.hash());
    if !blocking(move || hub.records.put_api_token(hash, &stored, &audit)).await? {
        return Err(ApiError::conflict(format!("there is a token called '{}' already", token.name))
            .hint(format!("`flotilla token revoke {}` makes room for it", token.name)));
    }
    Ok(Json(MadeToken { token: shown((token, None)), secret: token_text(&secret) }))
}

pub(super) async fn revoke_token(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
    axum::extract::Path(name): axum::extract::Path<String>,
) -> Answer<Done> {
    let audit = caller.audit(&hub, "token.revoke", &name);
    let revoked = name.clone();
    if !blocking(move || hub.records.revoke_api_token(&revoked, &audit)).await? {
        return Err(ApiError::not_found(format!("no token is called '{name}'"))
            .hint("`flotilla token list` shows them"));
    }
    Ok(done(format!("the token '{name}' is revoked")))
}

/// The newest first.
pub(super) async fn audit(
    State(hub): State<Arc<Hub>>,
    Params(paging): Params<Paging>,
) -> Answer<Page<AuditEntry>> {
    let limit = paging.limit();
    let before = match &paging.after {
        Some(after) => {
            after.parse().map_err(|_| ApiError::bad_request("`after` is a sequence number here"))?
        }
        None => u64::MAX,
    };
    let lines = blocking(move || hub.records.audit_before(before, limit + 1)).await?;
    let entries = lines.into_iter().map(|(sequence, line)| line.entry(sequence));
    Ok(Json(page(entries.collect(), limit, |entry: &AuditEntry| entry.sequence.to_string())))
}

pub(super) async fn backup(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, ApiError> {
    let audit = caller.audit(&hub, "hub.backup", "hub");
    let bytes = blocking(move || {
        hub.records.audit(&audit)?;
        let mut bytes = Vec::new();
        backup::write(&**hub.records.store(), &hub.data, hub.now(), env!("CARGO_PKG_VERSION"), &mut bytes)?;
        Ok::<_, backup::BackupError>(bytes)
    })
    .await
    .map_err(|error| ApiError::internal(&error))?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}

fn ca_status(hub: &Hub) -> Result<CaStatus, StoreError> {
    let cas = hub.authority.status();
    let signing = cas.iter().find(|ca| ca.signs).map(|ca| ca.hash.clone()).unwrap_or_default();
    let behind = hub.records.clusters()?.into_iter();
    let behind = behind.filter(|(_, record)| record.revoked_at.is_none() && record.certificate.ca != signing);
    let behind = if cas.len() > 1 { behind.map(|(name, _)| name.to_string()).collect() } else { Vec::new() };
    Ok(CaStatus { cas, behind })
}

pub(super) async fn ca(State(hub): State<Arc<Hub>>) -> Answer<CaStatus> {
    Ok(Json(blocking(move || ca_status(&hub)).await?))
}

pub(super) async fn rotate_ca(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
) -> Answer<CaStatus> {
    let audit = caller.audit(&hub, "ca.rotate", "hub");
    let shared = hub.clone();
    let rotated = blocking(move || {
        shared.records.audit(&audit)?;
        Ok::<_, StoreError>(shared.authority.rotate())
    })
    .await?;
    rotated.map_err(|error| ApiError::internal(&error))?;
    // Their sessions got the new bundle just before: they trust the new CA, and ask it for a certificate.
    hub.sessions.tell_all(&request::Kind::RenewNow(v1::RenewNow {}));
    Ok(Json(blocking(move || ca_status(&hub)).await?))
}

pub(super) async fn finish_ca(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
    Body(body): Body<FinishRotation>,
) -> Answer<CaStatus> {
    let audit = caller.audit(&hub, "ca.finish", "hub");
    let shared = hub.clone();
    let status = blocking(move || ca_status(&shared)).await?;
    if status.cas.len() < 2 {
        return Err(ApiError::conflict("no rotation is going on").hint("`flotilla-hub ca rotate` begins one"));
    }
    if !status.behind.is_empty() && !body.force {
        let names = status.behind.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
        return Err(ApiError::conflict(format!(
            "{} clusters have no certificate of the new CA yet: {names}",
            status.behind.len()
        ))
        .hint("wait until they have called; with --force they have to join again with a new token"));
    }
    let shared = hub.clone();
    let finished = blocking(move || {
        shared.records.audit(&audit)?;
        Ok::<_, StoreError>(shared.authority.finish())
    })
    .await?;
    finished.map_err(|error| ApiError::internal(&error))?;
    Ok(Json(blocking(move || ca_status(&hub)).await?))
}
