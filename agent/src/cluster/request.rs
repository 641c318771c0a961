//! One request to the API server and what may come of it.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use kube::client::Body;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::Cluster;

/// Longer than the API server's own limit for a request that is no watch (60 s by default, 34 s for its etcd).
const TIMEOUT: Duration = Duration::from_secs(65);
const ATTEMPTS_WHEN_BUSY: u32 = 5;
/// Pauses that the API server asks for are heard up to here.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A request that did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The API server refused.
    #[error("{}", words(*code, reason, message))]
    Refused {
        code: u16,
        reason: String,
        message: String,
        /// The answer is about an object, and says that it is not there.
        missing: bool,
        /// Fields that other managers hold, where an apply without force was refused for them.
        conflicts: Box<[Conflict]>,
        /// The fields that are wrong, as it writes them.
        fields: Box<[String]>,
    },
    #[error("the API server does not answer")]
    Transport(#[source] kube::Error),
    #[error("the API server did not answer within {} s", TIMEOUT.as_secs())]
    Timeout,
    #[error("cannot read the answer to {0}")]
    Answer(String, #[source] serde_json::Error),
    #[error(
        "the answer to a request for {kind} {name} is not about it, as if a proxy in between had answered"
    )]
    NoObject { kind: String, name: String },
    #[error("the answer to a list of {0} is not a list")]
    NoList(String),
    #[error(
        "'{0}' is not a valid name: for the API server none is empty, '.' or '..', or has a '/' or '%' in it; rename \
         the object"
    )]
    Name(String),
    #[error("'{0}' does not make a valid request")]
    Path(String, #[source] http::Error),
    #[error("the cluster serves no {kind} in {api_version}; is its CRD missing?")]
    NoMatch { api_version: String, kind: String },
}

/// A field that another manager holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// As the API server writes it: `.spec.replicas`.
    pub field: String,
    pub manager: String,
}

fn words(code: u16, reason: &str, message: &str) -> String {
    match (reason, message) {
        ("", "") => format!("the API server answers {code}"),
        (reason, "") => reason.to_owned(),
        (_, message) => message.to_owned(),
    }
}

impl Failure {
    /// What the API server says of a watch, before or in it.
    pub(crate) fn of_watch(status: &kube::core::Status) -> Self {
        Self::Refused {
            code: status.code,
            reason: status.reason.clone(),
            message: status.message.clone(),
            missing: false,
            conflicts: Box::default(),
            fields: Box::default(),
        }
    }

    pub fn code(&self) -> u16 {
        match self {
            Self::Refused { code, .. } => *code,
            _ => 0,
        }
    }

    /// Whether the API server says that the object, or the namespace it would be in, is not there. A path that is not
    /// served is answered with 404 as well, and says nothing of objects.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { code: 404, missing: true, .. })
    }

    /// Whether the path is not served: the kind is not, or not in this version, or not by this server yet.
    pub fn is_not_served(&self) -> bool {
        self.code() == 404 && !self.is_not_found()
    }

    /// Whether nothing can be made in the object's namespace because that is being deleted.
    pub(crate) fn is_terminating(&self) -> bool {
        matches!(self, Self::Refused { code: 403, message, .. } if message.contains("because it is being terminated"))
    }

    /// Whether it says nothing of this request: the API server is away, or lets this agent do nothing. The next request would
    /// meet the same.
    pub(crate) fn is_away(&self) -> bool {
        match self {
            Self::Transport(_) | Self::Timeout => true,
            // 502 and 504 are a proxy's.
            Self::Refused { code, .. } => [401, 502, 504].contains(code),
            _ => false,
        }
    }

    pub fn is_conflict(&self) -> bool {
        self.code() == 409
    }

    /// The fields for which an apply without force was refused.
    pub(crate) fn conflicts(&self) -> &[Conflict] {
        match self {
            Self::Refused { conflicts, .. } => conflicts,
            _ => &[],
        }
    }

    /// The fields for which the content was refused, as the API server writes them: `spec.ports[1].name`.
    pub(crate) fn fields(&self) -> &[String] {
        match self {
            Self::Refused { fields, .. } => fields,
            _ => &[],
        }
    }

    /// Whether a webhook, an admission policy or another admission plug-in said no.
    pub(crate) fn is_admission(&self) -> bool {
        let Self::Refused { code, message, .. } = self else { return false };
        message.contains("admission webhook")
            || message.contains("ValidatingAdmissionPolicy")
            // Plug-ins of the API server refuse as RBAC does, in other words.
            || *code == 403 && !self.is_of_rights()
    }

    /// Whether the caller lacks a right.
    fn is_of_rights(&self) -> bool {
        let Self::Refused { code: 403, message, .. } = self else { return false };
        message.contains(" cannot ") && message.contains(" resource ")
            || message.contains("attempting to grant RBAC permissions")
    }

    /// Whether the API server refused the content as such: it may be so for what it was merged with, or for what the object
    /// cannot become. Also where an admission says the latter.
    pub(crate) fn is_of_content(&self) -> bool {
        self.code() == 422 || (self.is_admission() && self.says_immutable())
    }

    /// Whether the words are known as those for a change that cannot be made. Kinds and rules have more of them.
    pub(crate) fn says_immutable(&self) -> bool {
        let Self::Refused { message, .. } = self else { return false };
        let known = [
            "immutable",
            "may not be changed in an update",
            "may not change once set",
            "cannot change roleRef",
            "updates may not change fields other than",
        ];
        known.iter().any(|words| message.contains(words))
            || (message.contains("updates to") && message.contains("forbidden"))
    }

    /// Whether the API server will go on refusing the same, as far as that hangs on the object itself.
    pub(crate) fn is_refusal(&self) -> bool {
        let Self::Refused { code, message, .. } = self else { return false };
        // What is missing may come with another object.
        let missing = ["not found", " was found", "no matches for kind", "being terminated"]
            .iter()
            .any(|words| message.contains(words));
        let schema = message.contains("failed to create typed patch object");
        let refused = matches!(*code, 400 | 403 | 413 | 422) || schema;
        refused && !missing && !self.is_of_rights() && !self.is_of_dry_run()
    }

    /// Whether a webhook only refuses to be asked by a dry run, which says nothing of the object.
    pub(crate) fn is_of_dry_run(&self) -> bool {
        matches!(self, Self::Refused { message, .. } if message.contains("does not support dry run"))
    }
}

/// A list, or a page of it.
pub(crate) struct List<T> {
    pub(crate) items: Vec<T>,
    pub(crate) resource_version: String,
    /// What asks for the next page; empty on the last.
    pub(crate) more: String,
}

/// A request before it is sent.
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) content_type: &'static str,
    pub(crate) accept: &'static str,
    pub(crate) body: Bytes,
}

impl Call {
    pub(crate) fn new(method: Method, path: impl Into<String>) -> Self {
        let (content_type, accept) = ("application/json", "application/json");
        Self { method, path: path.into(), content_type, accept, body: Bytes::new() }
    }

    pub(crate) fn body(mut self, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        self.content_type = content_type;
        self.body = body.into();
        self
    }

    fn request<B: From<Bytes>>(&self, account: Option<&str>) -> Result<Request<B>, Failure> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(&self.path)
            .header(header::ACCEPT, self.accept)
            .header(header::CONTENT_TYPE, self.content_type);
        if let Some(account) = account {
            // The API server adds the groups of a service account by itself.
            request = request.header("Impersonate-User", account);
        }
        request.body(B::from(self.body.clone())).map_err(|error| Failure::Path(self.path.clone(), error))
    }
}

impl Cluster {
    /// Sends a request and gives the body of its answer. Waits and tries again only where the API server says that it
    /// is busy; everything else is for the caller's next round.
    pub(crate) async fn send(&self, call: Call) -> Result<Bytes, Failure> {
        let mut attempt = 1;
        loop {
            let permit = self.inner.limit.enter().await;
            let answer = tokio::time::timeout(TIMEOUT, self.send_once(&call)).await;
            drop(permit);
            let (code, pause, body) = answer.map_err(|_| Failure::Timeout)??;
            // Others than 429 say when to come back where they are about the server's state and not the request's.
            if code == 429 || (code >= 500 && pause.is_some()) {
                self.inner.limit.too_many(pause.unwrap_or(Duration::from_secs(1)).min(LONGEST_PAUSE));
                if attempt < ATTEMPTS_WHEN_BUSY {
                    attempt += 1;
                    continue;
                }
            } else {
                self.inner.limit.went_well();
            }
            return if (200..300).contains(&code) { Ok(body) } else { Err(refusal(code, &body)) };
        }
    }

    async fn send_once(&self, call: &Call) -> Result<(u16, Option<Duration>, Bytes), Failure> {
        let response = self
            .inner
            .client
            .send(call.request::<Body>(self.account.as_deref())?)
            .await
            .map_err(Failure::Transport)?;
        let code = response.status().as_u16();
        let pause = response.headers().get(header::RETRY_AFTER);
        let pause = pause.and_then(|value| value.to_str().ok()?.parse().ok()).map(Duration::from_secs);
        let body = response.into_body().collect_bytes().await.map_err(Failure::Transport)?;
        Ok((code, pause, body))
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn ask<T: DeserializeOwned>(&self, call: Call) -> Result<T, Failure> {
        let what = format!("{} {}", call.method, call.path);
        let body = self.send(call).await?;
        serde_json::from_slice(&body).map_err(|error| Failure::Answer(what, error))
    }

    /// Sends a request and reads its answer, which has to be the object of this kind and name: one about something else, or
    /// about nothing, would read as an object without any field.
    pub(crate) async fn ask_for<T: DeserializeOwned>(
        &self,
        call: Call,
        kind: &str,
        name: &str,
    ) -> Result<T, Failure> {
        let what = format!("{} {}", call.method, call.path);
        let body = self.send(call).await?;
        if !is_about(&body, kind, name) {
            return Err(Failure::NoObject { kind: kind.to_owned(), name: name.to_owned() });
        }
        serde_json::from_slice(&body).map_err(|error| Failure::Answer(what, error))
    }

    /// Sends a request and reads its answer, which has to be a list: anything else would read as an empty one, and nothing
    /// would seem to be there. `plural` is for the error.
    pub(crate) async fn ask_list<T: DeserializeOwned>(
        &self,
        call: Call,
        plural: &str,
    ) -> Result<List<T>, Failure> {
        let Answer { kind, metadata, items } = self.ask(call).await?;
        if !kind.ends_with("List") {
            return Err(Failure::NoList(plural.to_owned()));
        }
        let Position { resource_version, more } = metadata;
        Ok(List { items, resource_version, more })
    }

    pub(crate) async fn get_path<T: DeserializeOwned>(&self, path: impl Into<String>) -> Result<T, Failure> {
        self.ask(Call::new(Method::GET, path)).await
    }

    /// Opens a watch; it is no part of the requests under way.
    pub(crate) async fn watch<T: Clone + DeserializeOwned>(
        &self,
        path: String,
    ) -> Result<impl futures::TryStream<Item = kube::Result<kube::api::WatchEvent<T>>> + use<T>, Failure>
    {
        self.watch_call(&Call::new(Method::GET, path)).await
    }

    pub(crate) async fn watch_call<T: Clone + DeserializeOwned>(
        &self,
        call: &Call,
    ) -> Result<impl futures::TryStream<Item = kube::Result<kube::api::WatchEvent<T>>> + use<T>, Failure>
    {
        let request = call.request::<VecBody>(self.account.as_deref())?.map(|body| body.0);
        self.inner.client.request_events(request).await.map_err(|error| match error {
            kube::Error::Api(status) => Failure::of_watch(&status),
            other => Failure::Transport(other),
        })
    }
}

/// A list as it is sent.
#[derive(Deserialize)]
struct Answer<T> {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: Position,
    #[serde(deserialize_with = "items", bound(deserialize = "T: Deserialize<'de>"))]
    items: Vec<T>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Position {
    resource_version: String,
    #[serde(rename = "continue")]
    more: String,
}

/// The items of a list. Go writes an empty list as null here and there; one that is not there at all is half an answer.
pub(super) fn items<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

/// Whether a body is that of an object of this kind and name.
fn is_about(body: &[u8], kind: &str, name: &str) -> bool {
    #[derive(Deserialize)]
    struct Head<'a> {
        #[serde(borrow)]
        kind: Cow<'a, str>,
        #[serde(borrow)]
        metadata: Named<'a>,
    }
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        name: Cow<'a, str>,
    }
    let head = serde_json::from_slice::<Head<'_>>(body);
    head.is_ok_and(|head| head.kind == kind && head.metadata.name == name)
}

struct VecBody(Vec<u8>);

impl From<Bytes> for VecBody {
    fn from(bytes: Bytes) -> Self {
        Self(bytes.into())
    }
}

fn refusal(code: u16, body: &[u8]) -> Failure {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Status {
        reason: String,
        message: String,
        details: Option<Details>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Details {
        name: String,
        causes: Vec<Cause>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Cause {
        reason: String,
        message: String,
        field: String,
    }
    // Proxies answer with pages of their own; the code says enough then.
    let Status { reason, message, details } = serde_json::from_slice(body).unwrap_or_default();
    let Details { name, causes } = details.unwrap_or_default();
    let missing = code == 404 && reason == "NotFound" && !name.is_empty();
    let fields = causes.iter().map(|cause| cause.field.clone()).filter(|field| !field.is_empty());
    let fields = if code == 422 { fields.collect() } else { Box::default() };
    let causes = causes.into_iter();
    let conflict = |cause: Cause| {
        // `conflict with "kubectl" with subresource "scale" using apps/v1`
        let manager = cause.message.split('"').nth(1).unwrap_or_default().to_owned();
        Conflict { field: cause.field, manager }
    };
    let conflicts = causes.filter(|cause| cause.reason == "FieldManagerConflict").map(conflict).collect();
    Failure::Refused { code, reason, message, missing, conflicts, fields }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
