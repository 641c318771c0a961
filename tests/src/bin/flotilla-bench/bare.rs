//! The client to compare with: sends every object by Server-Side Apply as fast as the API server takes them, and
//! does nothing else. It knows the objects beforehand, and neither renders, plans, records nor watches.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use flotilla_tests::objects::ObjectRef;
use futures::{StreamExt, TryStreamExt};
use kube::Client;
use kube::api::{DynamicObject, Patch, PatchParams, Request};
use kube::core::{ApiResource, GroupVersionKind, Resource};
use serde_json::Value;

/// How many requests are under way at a time. More made the API server slower, fewer left it idle.
pub(crate) const AT_ONCE: usize = 32;

/// Applies the objects and says how long that took, from the first request to the last answer. The requests are made
/// beforehand, and answers are not looked into.
///
/// # Errors
/// If the API server refuses one.
pub(crate) async fn apply(client: &Client, objects: &[Value]) -> Result<Duration> {
    let requests: Vec<_> = objects.iter().map(request).collect::<Result<_>>()?;
    let start = Instant::now();
    futures::stream::iter(requests)
        .map(|request| client.request_text(request))
        .buffer_unordered(AT_ONCE)
        .try_for_each(|_| async { Ok(()) })
        .await
        .context("apply by the bare client")?;
    Ok(start.elapsed())
}

fn request(manifest: &Value) -> Result<http::Request<Vec<u8>>> {
    let object = ObjectRef::of(manifest)?;
    let (group, version) = object.api_version.split_once('/').unwrap_or(("", &object.api_version));
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &object.kind));
    let path = DynamicObject::url_path(&kind, object.namespace.as_deref());
    let params = PatchParams::apply("bench").force();
    Request::new(path)
        .patch(&object.name, &params, &Patch::Apply(manifest))
        .with_context(|| format!("make the request for {object}"))
}
