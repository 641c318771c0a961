//! Answers that are no success: a status, what went wrong, and what to do about it.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::response::{IntoResponse, Response};
use flotilla_api::ErrorBody;
use flotilla_runtime::chain;
use http::StatusCode;
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::session::RequestError;
use crate::store::StoreError;

/// An error as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    status: StatusCode,
    error: String,
    hint: Option<String>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), hint: None }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    pub(crate) fn bad_request(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    pub(crate) fn not_found(error: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, error)
    }

    pub(crate) fn conflict(error: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, error)
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn text(&self) -> &str {
        &self.error
    }

    /// For what is the hub's own fault; the log has the rest.
    pub(crate) fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        let text = chain(error);
        tracing::error!("a request failed: {text}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = ErrorBody { error: self.error, hint: self.hint };
        (self.status, Json(body)).into_response()
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::internal(&error)
    }
}

impl From<RequestError> for ApiError {
    fn from(error: RequestError) -> Self {
        let status = match error {
            RequestError::NotConnected | RequestError::Ended => StatusCode::CONFLICT,
            RequestError::Busy => StatusCode::SERVICE_UNAVAILABLE,
            RequestError::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
        };
        Self::new(status, error.to_string()).hint("see `flotilla get clusters` for agents that are connected")
    }
}

/// A JSON body; what is none is refused in our own words.
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let Json(body) =
            Json::<T>::from_request(request, state).await.map_err(|rejection: JsonRejection| {
                ApiError::new(rejection.status(), format!("the body is not what is expected: {rejection}"))
                    .hint("see /openapi.json")
            })?;
        Ok(Self(body))
    }
}

/// The parameters of the query.
pub(crate) struct Params<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Query(query) =
            Query::<T>::from_request_parts(parts, state).await.map_err(|rejection: QueryRejection| {
                ApiError::bad_request(format!("the query is not what is expected: {rejection}"))
            })?;
        Ok(Self(query))
    }
}

/// A name in the path.
pub(crate) struct Name<T>(pub(crate) T);

impl<S, T> FromRequestParts<S> for Name<T>
where
    S: Send + Sync,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|rejection: PathRejection| ApiError::bad_request(rejection.to_string()))?;
        text.parse().map(Self).map_err(|error: T::Err| ApiError::bad_request(error.to_string()))
    }
}

/// The fewest digits that name a digest.
const SHORTEST: usize = 8;

/// The digits by which people name something that has a digest.
pub(super) fn digest_prefix(what: &str, text: &str) -> Result<String, ApiError> {
    let digits = text.to_ascii_lowercase();
    if (SHORTEST..=64).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(digits);
    }
    let named = format!("{what} is named by {SHORTEST} to 64 hexadecimal digits of its digest");
    Err(ApiError::bad_request(named))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_named_by_enough_of_its_digits() {
        for (text, expected) in [
            ("0123456789AB", Some("0123456789ab")),
            ("0123456", None),
            ("0123456g", None),
            ("", None),
            (&"a".repeat(64), Some(&*"a".repeat(64))),
            (&"a".repeat(65), None),
        ] {
            assert_eq!(digest_prefix("a change", text).ok().as_deref(), expected, "{text}");
        }
    }
}
