//! What the cluster serves: the path and scope of each kind, by aggregated discovery (Kubernetes 1.27 and newer). It is
//! read when first needed and again when a kind is not known, and learns from the CRDs that we apply ourselves.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use flotilla_core::{ObjectId, ObjectRef};
use flotilla_runtime::lock;
use serde_json::Value;
use tokio::time::Instant;

use super::groups::Read;
use super::request::Failure;
use super::{Cluster, SYSTEM_NAMESPACE, path};

/// An unknown kind makes us look again at most this often.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// A kind as it is served.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) plural: String,
    pub(crate) namespaced: bool,
}

#[derive(Default)]
pub(crate) struct Discovery {
    known: Mutex<Served>,
    /// Changes with each new thing known.
    generation: AtomicU64,
    /// One reads, the others wait for it.
    reading: tokio::sync::Mutex<Option<Instant>>,
}

type Versions = Vec<Arc<Resource>>;

#[derive(Default)]
struct Served {
    /// By group, then kind; the preferred version first.
    kinds: HashMap<String, HashMap<String, Versions>>,
    /// Of CRDs applied by us; they stand until a reading knows the kind.
    learnt: Vec<Arc<Resource>>,
    /// Kinds that cannot be patched, and whose objects can be listed and made or deleted all the same.
    unpatchable: Vec<Arc<Resource>>,
    /// Groups whose server did not answer for them: what they serve is not known.
    stale: HashSet<String>,
    read: bool,
}

impl Served {
    fn find(&self, group: &str, kind: &str, version: &str) -> Option<&Arc<Resource>> {
        self.versions(group, kind).iter().find(|resource| resource.version == version)
    }

    fn versions(&self, group: &str, kind: &str) -> &[Arc<Resource>] {
        self.kinds.get(group).and_then(|kinds| kinds.get(kind)).map_or(&[], Vec::as_slice)
    }

    fn add(&mut self, resource: Arc<Resource>) {
        let kinds = self.kinds.entry(resource.group.clone()).or_default();
        let versions = kinds.entry(resource.kind.clone()).or_default();
        versions.retain(|known| known.version != resource.version);
        versions.push(resource);
    }
}

impl Discovery {
    /// Rises whenever more became known.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Whether the cluster is known to serve anything of this group.
    pub(crate) fn has_group(&self, group: &str) -> bool {
        self.known().kinds.contains_key(group)
    }

    /// Completes an identity: a namespaced object without namespace is in `default`, one without scope in none. Kinds
    /// that nobody knows stay as they are.
    pub(crate) fn complete(&self, id: &ObjectId) -> ObjectId {
        let namespaced =
            self.known().versions(&id.group, &id.kind).first().map(|resource| resource.namespaced);
        match namespaced {
            Some(true) if id.namespace.is_empty() => id.in_namespace("default"),
            Some(false) => id.in_namespace(""),
            _ => id.clone(),
        }
    }

    /// A version in which the kind is served, `version` if it is.
    pub(crate) fn any_version(&self, object: &ObjectRef) -> Option<Arc<Resource>> {
        let known = self.known();
        let versions = known.versions(&object.id.group, &object.id.kind);
        versions.iter().find(|resource| resource.version == object.version).or(versions.first()).cloned()
    }

    /// Takes what a CRD of ours defines.
    pub(crate) fn learn(&self, definition: &Value) {
        let text =
            |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let Some(((group, kind), plural)) = text(definition, "/spec/group")
            .zip(text(definition, "/spec/names/kind"))
            .zip(text(definition, "/spec/names/plural"))
        else {
            return;
        };
        let namespaced = text(definition, "/spec/scope").as_deref() == Some("Namespaced");
        let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
        let mut known = self.known();
        // Versions that it served before and does not serve any more.
        known.learnt.retain(|old| old.group != group || old.kind != kind);
        for version in versions.into_iter().flatten() {
            let served = version.get("served").and_then(Value::as_bool).unwrap_or_default();
            if let (true, Some(version)) = (served, text(version, "/name")) {
                let (group, kind, plural) = (group.clone(), kind.clone(), plural.clone());
                let resource = Arc::new(Resource { group, version, kind, plural, namespaced });
                known.learnt.push(resource.clone());
                known.add(resource);
            }
        }
        drop(known);
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes note that a kind is not served so, whatever a CRD of ours once said. The next reading says what is.
    pub(crate) fn unlearn(&self, resource: &Resource) {
        self.known().learnt.retain(|learnt| **learnt != *resource);
    }

    fn known(&self) -> MutexGuard<'_, Served> {
        lock(&self.known)
    }

    /// Whether the group's server answered the last time; where it did not, an unknown kind says nothing.
    pub(crate) fn is_stale(&self, group: &str) -> bool {
        self.known().stale.contains(group)
    }

    /// The kinds of a group, each in one version.
    pub(crate) fn of_group(&self, group: &str) -> Vec<Arc<Resource>> {
        let known = self.known();
        let kinds = known.kinds.get(group).into_iter().flat_map(HashMap::values);
        kinds.filter_map(|versions| versions.first()).cloned().collect()
    }

    /// Groups whose servers did not answer the last time.
    pub(crate) fn stale(&self) -> Vec<String> {
        let mut stale: Vec<String> = self.known().stale.iter().cloned().collect();
        stale.sort();
        stale
    }

    /// Every namespaced kind whose objects somebody may miss, each in one version.
    pub(crate) fn namespaced(&self) -> Vec<Arc<Resource>> {
        let known = self.known();
        let first = known.kinds.values().flat_map(HashMap::values).filter_map(|versions| versions.first());
        first.chain(&known.unpatchable).filter(|resource| resource.namespaced).cloned().collect()
    }

    fn take(&self, Read { resources, unpatchable, stale }: Read) {
        let mut known = self.known();
        let unpatchable = unpatchable.into_iter().map(Arc::new).collect();
        let mut next = Served { read: true, stale, unpatchable, ..Served::default() };
        for resource in resources {
            let kinds = next.kinds.entry(resource.group.clone()).or_default();
            kinds.entry(resource.kind.clone()).or_default().push(Arc::new(resource));
        }
        for resource in std::mem::take(&mut known.learnt) {
            if next.find(&resource.group, &resource.kind, &resource.version).is_none() {
                next.add(resource.clone());
                next.learnt.push(resource);
            }
        }
        *known = next;
        drop(known);
        self.generation.fetch_add(1, Ordering::Relaxed);
    }
}

impl Cluster {
    /// How an object's kind is served. Looks again if it is not known.
    pub(crate) async fn resource(&self, object: &ObjectRef) -> Result<Arc<Resource>, Failure> {
        let find =
            || self.discovery().known().find(&object.id.group, &object.id.kind, &object.version).cloned();
        if let Some(resource) = find() {
            return Ok(resource);
        }
        // In a box of its own, as thousands wait here where all is known.
        Box::pin(self.discover(false)).await?;
        find().ok_or_else(|| Failure::NoMatch {
            api_version: object.api_version(),
            kind: object.id.kind.clone(),
        })
    }

    /// Reads what is served, at once if `now`, else unless that was done just before.
    pub(crate) async fn discover(&self, now: bool) -> Result<(), Failure> {
        let discovery = self.discovery();
        let mut last = discovery.reading.lock().await;
        let fresh = last.is_some_and(|last| last.elapsed() < LOOK_AGAIN);
        if discovery.known().read && fresh && !now {
            return Ok(());
        }
        let mut read = Read::default();
        for groups in self.groups().await? {
            groups.collect(&mut read);
        }
        discovery.take(read);
        *last = Some(Instant::now());
        Ok(())
    }
}

impl Resource {
    /// The path of the kind in a namespace, or in all if that is empty.
    ///
    /// # Errors
    /// [`Failure::Name`] for a namespace that cannot be.
    pub(crate) fn collection(&self, namespace: &str) -> Result<String, Failure> {
        let Self { group, version, plural, .. } = self;
        let root =
            if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
        Ok(if self.namespaced && !namespace.is_empty() {
            format!("{root}/namespaces/{}/{plural}", path::segment(namespace)?)
        } else {
            format!("{root}/{plural}")
        })
    }

    /// The path of one object.
    ///
    /// # Errors
    /// [`Failure::Name`] for one that cannot be.
    pub(crate) fn path(&self, id: &ObjectId) -> Result<String, Failure> {
        Ok(format!("{}/{}", self.collection(&id.namespace)?, path::segment(&id.name)?))
    }

    /// The ConfigMaps of the inventory.
    pub(crate) fn inventory_path(name: &str) -> String {
        format!("/api/v1/namespaces/{SYSTEM_NAMESPACE}/configmaps/{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::groups::Groups;
    use super::*;
    use serde_json::json;

    fn id(group: &str, kind: &str, namespace: &str) -> ObjectId {
        ObjectId::new(group, kind, namespace, "x")
    }

    #[test]
    fn what_is_served_gives_paths_and_completes_identities() {
        let answer = json!({"items": [{"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [
            {"resource": "deployments", "responseKind": {"kind": "Deployment"}, "scope": "Namespaced", "verbs": ["patch"]},
            {"resource": "reviews", "responseKind": {"kind": "Review"}, "scope": "Cluster", "verbs": ["create"]},
            {"resource": "books", "responseKind": {"kind": "Book"}, "scope": "Namespaced", "verbs": ["list", "delete"]},
            {"resource": "figures", "responseKind": {"kind": "Figure"}, "scope": "Namespaced", "verbs": ["get", "list"]}]}]},
            {"metadata": {"name": "away.io"}, "versions": [{"version": "v1", "freshness": "Stale", "resources": []}]},
            {"versions": [{"version": "v1", "resources": [
            {"resource": "namespaces", "responseKind": {"kind": "Namespace"}, "scope": "Cluster", "verbs": ["patch"]}]}]}]});
        let mut read = Read::default();
        serde_json::from_value::<Groups>(answer).unwrap().collect(&mut read);
        let discovery = Discovery::default();
        discovery.take(read);
        assert_eq!(discovery.stale(), ["away.io"]);
        let mut inside: Vec<String> = discovery.namespaced().iter().map(|kind| kind.kind.clone()).collect();
        inside.sort();
        assert_eq!(inside, ["Book", "Deployment"]);
        assert_eq!(discovery.complete(&id("apps", "Deployment", "")).namespace, "default");
        assert_eq!(discovery.complete(&id("", "Namespace", "web")).namespace, "");
        assert_eq!(discovery.complete(&id("x", "Unknown", "")).namespace, "");
        let path = |id: &ObjectId, version: &str| {
            let found = discovery.known().find(&id.group, &id.kind, version).cloned();
            found.and_then(|resource| resource.path(id).ok())
        };
        let deployment = path(&id("apps", "Deployment", "web"), "v1");
        assert_eq!(deployment.as_deref(), Some("/apis/apps/v1/namespaces/web/deployments/x"));
        assert_eq!(path(&id("", "Namespace", ""), "v1").as_deref(), Some("/api/v1/namespaces/x"));
        assert_eq!(path(&id("apps", "Review", ""), "v1"), None);

        discovery.learn(&json!({"spec": {"group": "e.com", "scope": "Namespaced", "names": {"kind": "Widget", "plural": "widgets"},
            "versions": [{"name": "v1", "served": true}, {"name": "v0", "served": false}]}}));
        assert!(path(&id("e.com", "Widget", "n"), "v1").is_some());
        assert!(path(&id("e.com", "Widget", "n"), "v0").is_none());
        discovery.take(Read::default());
        assert!(
            path(&id("e.com", "Widget", "n"), "v1").is_some(),
            "a reading that does not know it yet forgets nothing"
        );
        let widget = ObjectRef { id: id("e.com", "Widget", "n"), version: "v1".into() };
        let resource = discovery.any_version(&widget).unwrap();
        discovery.unlearn(&resource);
        discovery.take(Read::default());
        assert!(discovery.any_version(&widget).is_none());
    }
}
