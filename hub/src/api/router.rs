//! The table of routes as a router: who may call, how large a body may be, what browsers are told.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, StatusCode, header};

use super::auth::{Guard, MAX_BODY, guard};
use super::error::ApiError;
use super::logins::Logins;
use super::routes::routes;
use crate::state::Hub;

/// What browsers are told with every answer: nothing here is a page, nothing is kept, nothing is guessed.
async fn secured(mut response: Response) -> Response {
    for (name, value) in [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// No route. An agent that was given this port speaks gRPC, and reads an answer in its headers only.
async fn nothing_here(headers: http::HeaderMap) -> Response {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.starts_with("application/grpc") {
        return tonic::Status::unavailable(
            "this is the hub's port for people; agents call the other one: --grpc-listen of flotilla-hub, 8443 by default",
        )
        .into_http::<axum::body::Body>();
    }
    ApiError::not_found("there is nothing at this path")
        .hint("see /openapi.json for what there is")
        .into_response()
}

/// The whole API.
pub fn router(hub: Arc<Hub>) -> Router {
    let mut router = Router::new();
    let logins = Arc::new(Logins::default());
    for route in routes() {
        let state = Guard {
            hub: hub.clone(),
            logins: logins.clone(),
            role: route.role,
            bound: route.bound,
            route: route.path,
        };
        router = router.route(route.path, route.handler.layer(from_fn_with_state(state, guard)));
    }
    router
        .fallback(nothing_here)
        .method_not_allowed_fallback(|| async {
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not take that method")
                .hint("see /openapi.json for what there is")
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(map_response(secured))
        .with_state(hub)
}
