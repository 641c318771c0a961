//! Why objects are not well: looked for behind those that have not been for a while, one after another, so that a
//! rollout that goes well costs nothing and one that does not costs a few requests.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Mutex;
use std::time::Duration;

use flotilla_core::ObjectId;
use flotilla_core::health::reason::{Behind, Event, Pod, Says, behind, of_events, of_pod};
use flotilla_runtime::chain;
use flotilla_runtime::lock;
use http::Method;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::cluster::discovery::Resource;
use crate::cluster::members::{Members, Presence};
use crate::cluster::path::{field_is, labels, segment};
use crate::cluster::request::{Call, Failure};

/// Most things become well within this time.
const PATIENCE: Duration = Duration::from_secs(10);
/// From look to look at one object: doubled each time it says the same.
const AGAIN: Duration = Duration::from_secs(15);
const LATEST: Duration = Duration::from_secs(300);
/// Between two objects.
const GAP: Duration = Duration::from_millis(250);
/// Objects whose reasons are known or looked for.
const MOST: usize = 200;
const PODS: usize = 20;
const EVENTS: usize = 50;

struct Entry {
    due: Instant,
    pause: Duration,
    text: Option<String>,
}

/// What is known of why objects are not well.
#[derive(Default)]
pub(super) struct Reasons {
    entries: Mutex<BTreeMap<ObjectId, Entry>>,
    asked: Notify,
}

impl Reasons {
    /// Why an object that is not well is not, if that is known; else it is looked for, if that lasts.
    pub(super) fn of(&self, id: &ObjectId) -> Option<String> {
        let mut entries = lock(&self.entries);
        if let Some(entry) = entries.get(id) {
            return entry.text.clone();
        }
        if entries.len() < MOST {
            let due = Instant::now() + PATIENCE;
            entries.insert(id.clone(), Entry { due, pause: AGAIN, text: None });
            drop(entries);
            self.asked.notify_one();
        }
        None
    }

    fn next(&self) -> Option<(ObjectId, Instant)> {
        let entries = lock(&self.entries);
        entries.iter().min_by_key(|(_, entry)| entry.due).map(|(id, entry)| (id.clone(), entry.due))
    }

    /// Looks, for ever; what is new is told by `wake` after the object counts as changed.
    pub(super) async fn look(&self, cluster: &Cluster, members: &Members, wake: &Notify) -> Infallible {
        loop {
            let Some((id, due)) = self.next() else {
                self.asked.notified().await;
                continue;
            };
            if due > Instant::now() {
                tokio::select! {
                    () = tokio::time::sleep_until(due) => {}
                    () = self.asked.notified() => {}
                }
                continue;
            }
            let unwell = matches!(members.get(&id), Presence::There(seen) if !seen.health.is_current());
            if !unwell {
                lock(&self.entries).remove(&id);
                continue;
            }
            let found = find(cluster, &id).await.unwrap_or_else(|failure| {
                tracing::debug!(object = %id, error = chain(&failure), "cannot look for what is behind it");
                None
            });
            if self.take(&id, found) {
                members.touch(&id);
                wake.notify_one();
            }
            tokio::time::sleep(GAP).await;
        }
    }

    /// True if it says something new.
    fn take(&self, id: &ObjectId, found: Option<String>) -> bool {
        let mut entries = lock(&self.entries);
        let Some(entry) = entries.get_mut(id) else { return false };
        let news = entry.text != found;
        entry.pause = if news { AGAIN } else { (entry.pause * 2).min(LATEST) };
        entry.due = Instant::now() + entry.pause;
        entry.text = found;
        news
    }
}

/// At most four requests.
async fn find(cluster: &Cluster, id: &ObjectId) -> Result<Option<String>, Failure> {
    let Some(resource) = cluster.discovery().served(id) else { return Ok(None) };
    let Some(object) = cluster.fetch::<Value>(&resource, id).await? else { return Ok(None) };
    find_behind(cluster, id, &object).await
}

/// What the pods and events behind an object say. At most three requests.
pub(super) async fn find_behind(
    cluster: &Cluster,
    id: &ObjectId,
    object: &Value,
) -> Result<Option<String>, Failure> {
    let own = object.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
    let pods: Vec<Pod> = match behind(id, object) {
        None => return Ok(None),
        Some(Behind::Events) => Vec::new(),
        Some(Behind::Pod) => serde_json::from_value(object.clone()).into_iter().collect(),
        Some(Behind::Pods(selector)) => {
            let (namespace, selector) = (segment(&id.namespace)?, labels(&selector));
            let path = format!("/api/v1/namespaces/{namespace}/pods?{selector}&limit={PODS}");
            cluster.ask_list(Call::new(Method::GET, path), "pods").await?.items
        }
    };
    let worst = pods.iter().map(|pod| (of_pod(pod), pod)).min_by(|(a, _), (b, _)| a.cmp(b));
    match worst {
        Some((Says::Why(why), _)) => Ok(Some(why)),
        Some((Says::NotReady(what), pod)) => {
            let why = events(cluster, id, &pod.metadata.uid).await?;
            Ok(Some(why.map_or(what.clone(), |why| format!("{what}: {why}"))))
        }
        Some((Says::Well, _)) | None => events(cluster, id, own).await,
    }
}

async fn events(cluster: &Cluster, id: &ObjectId, uid: &str) -> Result<Option<String>, Failure> {
    let (namespace, selector) = (segment(&id.namespace)?, field_is("involvedObject.uid", uid));
    let path = format!("/api/v1/namespaces/{namespace}/events?{selector}&limit={EVENTS}");
    let call = Call::new(Method::GET, path);
    Ok(of_events(&cluster.ask_list::<Event>(call, "events").await?.items))
}

impl crate::cluster::discovery::Discovery {
    /// A version in which an object's kind is served.
    fn served(&self, id: &ObjectId) -> Option<std::sync::Arc<Resource>> {
        self.any_version(&flotilla_core::ObjectRef { id: id.clone(), version: "".into() })
    }
}
