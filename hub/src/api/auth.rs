//! Who asks, and whether they may: bearer tokens with roles.

use std::path::Path;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use flotilla_proto::api::Role;
use flotilla_runtime::files::{self, FileError};
use flotilla_runtime::token::TokenSecret;
use http::{HeaderMap, StatusCode, header};

use super::error::ApiError;
use super::logins::Logins;
use super::server::Peer;
use crate::metrics::RequestLabels;
use crate::state::{Hub, blocking};
use crate::store::{ApiTokenRecord, AuditRecord, FIRST_TOKEN_CLAIM, Records, StoreError};

/// What tokens begin with, so that scanners for leaked secrets know them.
const PREFIX: &str = "flt_";
/// The file of the first token, in the data folder.
const FIRST_TOKEN: &str = "admin-token";

/// The bearer of a good token.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) name: String,
    pub(crate) role: Role,
}

impl Caller {
    /// A line for the audit log.
    pub(crate) fn audit(&self, hub: &Hub, action: &str, target: impl ToString) -> AuditRecord {
        AuditRecord::new(hub.now(), &self.name, action, target)
    }
}

/// A token's text.
pub(crate) fn token_text(secret: &TokenSecret) -> String {
    format!("{PREFIX}{}", secret.encode())
}

fn secret_of(text: &str) -> Option<TokenSecret> {
    TokenSecret::decode(text.trim().strip_prefix(PREFIX)?)
}

/// What a route asks for, for its middleware.
#[derive(Clone)]
pub(crate) struct Guard {
    pub(crate) hub: Arc<Hub>,
    pub(crate) logins: Arc<Logins>,
    /// `None`: anybody.
    pub(crate) role: Option<Role>,
    pub(crate) route: &'static str,
}

/// Lets a request pass if its token has the route's role, and counts it.
pub(crate) async fn guard(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let method = request.method().to_string();
    let from = request.extensions().get::<Peer>().map(|peer| peer.address);
    let authorised = authorise(&guard, request.headers()).await.map_err(|error| {
        if error.status() == StatusCode::UNAUTHORIZED {
            return guard.logins.failed(&guard.hub.metrics, from, error);
        }
        error
    });
    let response = match authorised {
        Ok(caller) => {
            if let Some(caller) = caller {
                if let Some(peer) = request.extensions().get::<Peer>() {
                    peer.place.prove(&caller.name);
                }
                request.extensions_mut().insert(caller);
            }
            next.run(request).await
        }
        Err(error) => error.into_response(),
    };
    let labels = RequestLabels { method, route: guard.route.to_owned(), status: response.status().as_u16() };
    guard.hub.metrics.api_requests.get_or_create(&labels).inc();
    response
}

async fn authorise(guard: &Guard, headers: &HeaderMap) -> Result<Option<Caller>, ApiError> {
    let Some(needed) = guard.role else { return Ok(None) };
    let denied = |error: &str| {
        ApiError::new(StatusCode::UNAUTHORIZED, error)
            .hint("send `Authorization: Bearer TOKEN`; `flotilla token create` makes one")
    };
    let value = headers.get(header::AUTHORIZATION).ok_or_else(|| denied("no token was sent"))?;
    let secret = value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .and_then(|(_, token)| secret_of(token))
        .ok_or_else(|| denied("what was sent is no token of this hub"))?;
    let hub = guard.hub.clone();
    let token = blocking(move || hub.records.api_token(secret.hash(), hub.now())).await?;
    let token = token.ok_or_else(|| denied("the token is unknown, revoked or expired"))?;
    if token.role < needed {
        let error =
            format!("the token '{}' has the role {}, and this needs {needed}", token.name, token.role);
        return Err(ApiError::new(StatusCode::FORBIDDEN, error)
            .hint(format!("use a token with the role {needed}; `flotilla token create` makes one")));
    }
    Ok(Some(Caller { name: token.name, role: token.role }))
}

/// The first token could not be made.
#[derive(Debug, thiserror::Error)]
pub enum FirstTokenError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("the first token's file holds no token; remove it and start again")]
    Damaged,
}

/// At the first start of a hub, and at the first after a restore: makes an admin's token and writes it to a private
/// file in the data folder. A token whose file was put there already is kept. The file comes first, so that a start
/// that was cut short is taken up by the next. Blocking.
pub fn first_token(records: &Records, data: &Path, now: i64) -> Result<(), FirstTokenError> {
    if records.claimed(FIRST_TOKEN_CLAIM)? {
        return Ok(());
    }
    let path = data.join(FIRST_TOKEN);
    let secret = match files::read_if_there(&path)? {
        Some(text) => std::str::from_utf8(&text).ok().and_then(secret_of).ok_or(FirstTokenError::Damaged)?,
        None => {
            let secret = TokenSecret::generate();
            let text = format!("{}\n", token_text(&secret));
            files::write_atomic(&path, text.as_bytes(), files::PRIVATE)?;
            secret
        }
    };
    if records.api_token(secret.hash(), now)?.is_none() {
        // A restored store has the name of the token that was there, not its secret.
        let names = std::iter::once("admin".to_owned()).chain((2..).map(|n| format!("admin-{n}")));
        for name in names {
            let audit = AuditRecord::new(now, "hub", "token.create", &name).detail("at the first start");
            let (role, created_by) = (Role::Admin, "hub".into());
            let token = ApiTokenRecord { name, role, created_at: now, created_by, expires_at: None };
            if records.put_api_token(secret.hash(), &token, &audit)? {
                break;
            }
        }
    }
    records.claim(FIRST_TOKEN_CLAIM)?;
    Ok(())
}
