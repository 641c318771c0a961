//! Events beside the objects, for people with kubectl. Few at a time: what comes too fast is dropped, as the hub has
//! all of them.

use std::time::Duration;

use flotilla_core::report::Event;
use flotilla_core::text::shorten;
use flotilla_core::{ObjectId, ObjectRef};
use flotilla_runtime::chain;
use http::Method;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Cluster;
use super::path::encoded;
use super::request::Call;

/// So many at once, then one in so long.
const BURST: u32 = 25;
const ONE_IN: Duration = Duration::from_secs(5);
const WAITING: usize = 50;
/// What the API server takes.
const LONGEST: usize = 1000;
const AGENT: &str = "flotilla-agent";

/// Where events go in.
#[derive(Clone)]
pub(crate) struct Events(mpsc::Sender<(Event, String)>);

/// The task that writes them.
pub(crate) struct EventWriter(mpsc::Receiver<(Event, String)>);

/// A way for events into the cluster.
pub(crate) fn channel() -> (Events, EventWriter) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Events(sender), EventWriter(receiver))
}

impl Events {
    /// Tells of an object, whose uid may be empty.
    pub(crate) fn tell(&self, event: Event, uid: String) {
        // Full: too much is told already.
        let _ = self.0.try_send((event, uid));
    }
}

impl EventWriter {
    /// Writes events as they come, for ever.
    pub(crate) async fn run(mut self, cluster: &Cluster) {
        let mut bucket = Bucket { tokens: BURST, filled: Instant::now() };
        while let Some((event, uid)) = self.0.recv().await {
            let Some(object) = &event.object else { continue };
            if !bucket.take(Instant::now()) {
                continue;
            }
            let namespace = if object.namespace.is_empty() { "default" } else { &object.namespace };
            let reference = ObjectRef { id: object.clone(), version: "".into() };
            let version =
                cluster.discovery().any_version(&reference).map(|resource| resource.version.clone());
            let body = body(&event, object, &version.unwrap_or_default(), &uid, namespace, rand::random());
            let path = format!("/api/v1/namespaces/{}/events", encoded(namespace));
            let call = Call::new(Method::POST, path).body("application/json", body.to_string());
            if let Err(failure) = cluster.send(call).await {
                tracing::debug!(%object, error = chain(&failure), "no event was written");
            }
        }
        // The sender lives as long as the coordinator that polls this.
        std::future::pending::<()>().await;
    }
}

struct Bucket {
    tokens: u32,
    filled: Instant,
}

impl Bucket {
    fn take(&mut self, now: Instant) -> bool {
        while self.tokens < BURST && now.saturating_duration_since(self.filled) >= ONE_IN {
            self.tokens += 1;
            self.filled += ONE_IN;
        }
        if self.tokens == BURST {
            self.filled = now;
        }
        self.tokens.checked_sub(1).map(|tokens| self.tokens = tokens).is_some()
    }
}

/// A valid name for an event, whatever the object is called: those of roles may hold what no other name does.
fn name_of(object: &ObjectId, number: u64) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let parts = object.name.split('.').map(|part| {
        let part: String = part.chars().map(plain).collect();
        part.trim_matches('-').to_owned()
    });
    let parts: Vec<String> = parts.filter(|part| !part.is_empty()).collect();
    let name: String = parts.join(".").chars().take(200).collect();
    let name = name.trim_end_matches(['.', '-']);
    format!("{}.{number:016x}", if name.is_empty() { "object" } else { name })
}

fn body(event: &Event, object: &ObjectId, version: &str, uid: &str, namespace: &str, number: u64) -> Value {
    let at = jiff::Timestamp::from_second(event.at).unwrap_or_default().to_string();
    let reference = ObjectRef { id: object.clone(), version: version.into() };
    let mut involved = json!({"kind": object.kind, "namespace": object.namespace, "name": object.name});
    if !version.is_empty() {
        involved["apiVersion"] = reference.api_version().into();
    }
    if !uid.is_empty() {
        involved["uid"] = uid.into();
    }
    let message = shorten(&format!("{}: {}", event.unit, event.message), LONGEST);
    json!({"apiVersion": "v1", "kind": "Event",
        "metadata": {"name": name_of(object, number), "namespace": namespace},
        "involvedObject": involved, "reason": event.reason, "message": message,
        "type": if event.warning { "Warning" } else { "Normal" }, "count": 1,
        "firstTimestamp": at, "lastTimestamp": at,
        "source": {"component": AGENT}, "reportingComponent": AGENT, "reportingInstance": AGENT})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_a_valid_name_whatever_its_object_is_called() {
        for (object, expected) in [
            ("web-1.example", "web-1.example"),
            ("system:a:B@example.com", "system-a-b-example.com"),
            ("with space?", "with-space"),
            ("日", "object"),
            ("..#.", "object"),
            (&"x".repeat(253), &"x".repeat(200)),
        ] {
            let id = ObjectId::new("rbac.authorization.k8s.io", "ClusterRole", "", object);
            assert_eq!(name_of(&id, 10), format!("{expected}.000000000000000a"), "{object}");
        }
    }

    #[test]
    fn few_are_written_and_more_after_a_while() {
        let start = Instant::now();
        let mut bucket = Bucket { tokens: BURST, filled: start };
        let taken = |bucket: &mut Bucket, at: Instant| (0..100).filter(|_| bucket.take(at)).count();
        assert_eq!(taken(&mut bucket, start), BURST as usize);
        assert_eq!(taken(&mut bucket, start + ONE_IN * 3), 3);
        assert_eq!(taken(&mut bucket, start + ONE_IN * 1000), BURST as usize);
    }
}
