//! Who asks, and whether they may: bearer tokens with a role and a scope.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequestParts, RawPathParams, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use flotilla_api::{Role, Scope};
use flotilla_core::report::Timestamp;
use flotilla_runtime::files::{self, FileError};
use flotilla_runtime::token::{SecretHash, TokenSecret};
use http::{HeaderMap, Method, StatusCode, header};

use super::activity::Held;
use super::error::ApiError;
use super::logins::Logins;
use super::reach::Reach;
use super::server::Peer;
use crate::metrics::RequestLabels;
use crate::state::{Hub, blocking};
use crate::store::{API_TOKENS, ApiTokenRecord, AuditRecord, FIRST_TOKEN_CLAIM, Records, StoreError};

/// What tokens begin with, so that scanners for leaked secrets know them.
const PREFIX: &str = "flt_";
/// How often an open stream's token is looked at; besides, whenever one is revoked.
const LOOK: Duration = Duration::from_secs(10);
/// How long a request's body may take, and how large it may be.
const BODY_LIMIT: Duration = Duration::from_secs(15);
pub(super) const MAX_BODY: usize = 64 << 10;
/// The file of the first token, in the data folder.
const FIRST_TOKEN: &str = "admin-token";

/// The bearer of a good token.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) scope: Arc<Scope>,
    pub(crate) expires_at: Option<Timestamp>,
    hash: SecretHash,
}

impl Caller {
    /// A line for the audit log.
    pub(crate) fn audit(&self, hub: &Hub, action: &str, target: impl ToString) -> AuditRecord {
        AuditRecord::new(hub.now(), &self.name, action, target)
    }

    /// Refuses a change that would be one more line in the audit log than the token may write: the log must not lose the
    /// lines of others to it.
    pub(crate) fn may_write(&self, hub: &Hub) -> Result<(), ApiError> {
        if self.role == Role::Admin && self.scope.is_fleet() || hub.tracks.may_write(&self.name) {
            return Ok(());
        }
        let error =
            format!("the token '{}' has made as many changes as a token may make in a day", self.name);
        Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, error)
            .hint("each is a line of the audit log; wait, or use an admin's token"))
    }

    /// The audit line of something that may be asked for again and again; nothing where it was written a short time ago.
    pub(crate) fn folded(&self, hub: &Hub, line: AuditRecord) -> Result<Option<AuditRecord>, ApiError> {
        let line = hub.tracks.fold(line);
        if line.is_some() {
            self.may_write(hub)?;
        }
        Ok(line)
    }

    /// What of the fleet it may see now.
    pub(crate) fn reach(&self, hub: &Hub) -> Reach {
        Reach::new(self.scope.clone(), hub.fleet.view())
    }

    /// Waits until the token is revoked or over, or nobody can tell.
    pub(crate) async fn ended(self, hub: Arc<Hub>) {
        let mut tokens = hub.records.store().watch(API_TOKENS);
        loop {
            tokens.borrow_and_update();
            let (shared, hash) = (hub.clone(), self.hash);
            match blocking(move || shared.records.api_token(hash, shared.now())).await {
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return,
            }
            let left = self.expires_at.map_or(i64::MAX, |end| (end - hub.now()).max(0));
            let wait = LOOK.min(Duration::from_secs(left as u64)).max(Duration::from_millis(100));
            tokio::select! {
                Ok(()) = tokens.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
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
    pub(crate) bound: Bound,
    pub(crate) route: &'static str,
}

/// How a route keeps to a token's scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    /// It concerns the whole fleet: other tokens are refused.
    Fleet,
    /// It concerns all of the cluster in its path.
    Cluster,
    /// Its handler shows and does what is in reach, and nothing else.
    Handler,
}

/// Lets a request pass if its token has the route's role and reaches what the route is about, and counts it.
pub(crate) async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let method = request.method().to_string();
    let response = admit(&guard, request, next).await.unwrap_or_else(IntoResponse::into_response);
    let labels = RequestLabels { method, route: guard.route.to_owned(), status: response.status().as_u16() };
    guard.hub.metrics.api_requests.get_or_create(&labels).inc();
    response
}

async fn admit(guard: &Guard, request: Request, next: Next) -> Result<Response, ApiError> {
    let Some(role) = guard.role else { return Ok(next.run(request).await) };
    let peer = request.extensions().get::<Peer>().cloned();
    let caller = authorise(&guard.hub, role, request.headers()).await.map_err(|error| {
        if error.status() == StatusCode::UNAUTHORIZED {
            let from = peer.as_ref().map(|peer| peer.address);
            return guard.logins.failed(&guard.hub.metrics, from, error);
        }
        error
    })?;
    if let Some(peer) = &peer {
        peer.place.prove(&caller.name);
    }
    let is_change = !matches!(*request.method(), Method::GET | Method::HEAD);
    let entered = guard.logins.enter(&caller.name, caller.role, is_change, guard.hub.now())?;
    if entered.note {
        note_used(&guard.hub, caller.hash).await;
    }
    let mut request = if is_change { whole(request).await? } else { request };
    let (parts, body) = request.into_parts();
    let mut parts = parts;
    within(guard, &caller, &mut parts).await?;
    request = Request::from_parts(parts, body);
    request.extensions_mut().insert(caller);
    let response = next.run(request).await;
    // Until all of the answer has left.
    Ok(response.map(|body| Body::new(Held::new(body, entered))))
}

/// A record of when the token was used is no reason to refuse it.
async fn note_used(hub: &Arc<Hub>, hash: SecretHash) {
    let shared = hub.clone();
    if let Err(error) = blocking(move || shared.records.note_token_used(hash, shared.now())).await {
        tracing::warn!("cannot note that a token was used: {}", flotilla_runtime::chain(&error));
    }
}

/// Reads a request's body before anything is done with it. It is JSON by its header too, even where there is none: a form of
/// some web page cannot say so.
async fn whole(request: Request) -> Result<Request, ApiError> {
    let kind =
        request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if request.method() == Method::POST && !kind.eq_ignore_ascii_case("application/json") {
        let error = format!("a POST needs `Content-Type: application/json`, and this one has '{kind}'");
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error)
            .hint("it is needed without a body too; upgrade an old `flotilla`"));
    }
    let (parts, body) = request.into_parts();
    let body = tokio::time::timeout(BODY_LIMIT, to_bytes(body, MAX_BODY)).await.map_err(|_| {
        ApiError::new(StatusCode::REQUEST_TIMEOUT, format!("the body did not come within {BODY_LIMIT:?}"))
    })?;
    let body = body.map_err(|error| {
        let error = format!("the body is longer than {MAX_BODY} bytes, or broke off: {error}");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, error)
    })?;
    Ok(Request::from_parts(parts, Body::from(body)))
}

/// Whether what the route is about is in the caller's reach, as far as that is known without its handler.
async fn within(guard: &Guard, caller: &Caller, parts: &mut http::request::Parts) -> Result<(), ApiError> {
    let reach = caller.reach(&guard.hub);
    match guard.bound {
        Bound::Handler => Ok(()),
        Bound::Fleet => reach.need_fleet(),
        Bound::Cluster => {
            let path = RawPathParams::from_request_parts(parts, &()).await;
            let name = path.iter().flatten().find(|(name, _)| *name == "cluster");
            // What names no cluster is refused by its handler, in its words.
            match name.and_then(|(_, name)| name.parse().ok()) {
                Some(name) => reach.need_cluster(&name),
                None => Ok(()),
            }
        }
    }
}

async fn authorise(hub: &Arc<Hub>, needed: Role, headers: &HeaderMap) -> Result<Caller, ApiError> {
    let denied = |error: &str| {
        ApiError::new(StatusCode::UNAUTHORIZED, error)
            .hint(
                "`flotilla token create` makes one: give it to the CLI by --token-file, or send `Authorization: Bearer TOKEN`",
            )
    };
    let value = headers.get(header::AUTHORIZATION).ok_or_else(|| denied("no token was sent"))?;
    let secret = value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .and_then(|(_, token)| secret_of(token))
        .ok_or_else(|| denied("what was sent is not a token of this hub"))?;
    let (shared, hash) = (hub.clone(), secret.hash());
    let token = blocking(move || shared.records.api_token(hash, shared.now())).await?;
    let token = token.ok_or_else(|| denied("the token is unknown, revoked or expired"))?;
    if token.role < needed {
        let error =
            format!("the token '{}' has the role {}, and this needs {needed}", token.name, token.role);
        return Err(ApiError::new(StatusCode::FORBIDDEN, error)
            .hint(format!("use a token with the role {needed}; `flotilla token create` makes one")));
    }
    let ApiTokenRecord { name, role, scope, expires_at, .. } = token;
    Ok(Caller { name, role, scope: Arc::new(scope), expires_at, hash })
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
            let (expires_at, scope) = (None, Scope::default());
            let token = ApiTokenRecord { name, role, created_at: now, created_by, expires_at, scope };
            if records.put_api_token(secret.hash(), &token, &audit)? {
                break;
            }
        }
    }
    records.claim(FIRST_TOKEN_CLAIM)?;
    Ok(())
}
