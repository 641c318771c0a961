//! A cluster, an engine on it, and desired states made of JSON.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part of it")]

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use flotilla_agent::sync::{Bodies, BodyError, Engine, EngineError, Memory, MemoryError, Options};
use flotilla_core::desired::Removal;
use flotilla_core::report::{Event, Phase, UnitReport};
use flotilla_core::unit::ObjectEntry;
use flotilla_core::{DesiredState, Digest, Generation, Object, UnitEntry, UnitId, UnitManifest, UnitSpec};
use flotilla_tests::objects::ObjectRef;
use flotilla_tests::proxy::ApiProxy;
use flotilla_tests::wait::eventually;
use flotilla_tests::{Cluster, ClusterOptions, Clusters};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const LIMIT: Duration = Duration::from_secs(30);

/// What the link keeps on disk, in a map.
#[derive(Default)]
pub struct Disk {
    bodies: Mutex<HashMap<Digest, Bytes>>,
    memory: Mutex<BTreeMap<String, Bytes>>,
}

impl Bodies for Disk {
    fn body(&self, digest: Digest) -> Result<Bytes, BodyError> {
        self.bodies.lock().unwrap().get(&digest).cloned().ok_or(BodyError::Missing(digest))
    }
}

impl Memory for Disk {
    fn load(&self) -> Result<Vec<(String, Bytes)>, MemoryError> {
        Ok(self.memory.lock().unwrap().iter().map(|(key, value)| (key.clone(), value.clone())).collect())
    }
    fn store(&self, key: &str, value: Bytes) -> Result<(), MemoryError> {
        self.memory.lock().unwrap().insert(key.to_owned(), value);
        Ok(())
    }
    fn remove(&self, key: &str) -> Result<(), MemoryError> {
        self.memory.lock().unwrap().remove(key);
        Ok(())
    }
}

impl Disk {
    pub fn keep(&self, objects: &[Object]) {
        let bodies = objects.iter().map(|object| (object.digest(), object.body().clone()));
        self.bodies.lock().unwrap().extend(bodies);
    }

    /// Whether anything is remembered under a key that begins so.
    pub fn remembers(&self, prefix: &str) -> bool {
        self.memory.lock().unwrap().keys().any(|key| key.starts_with(prefix))
    }

    pub fn forget_everything(&self) {
        self.memory.lock().unwrap().clear();
    }
}

/// An engine on a cluster of its own.
pub struct Bench {
    pub cluster: Cluster,
    pub disk: Arc<Disk>,
    pub engine: Engine,
    stop: CancellationToken,
    task: JoinHandle<Result<(), EngineError>>,
    entries: BTreeMap<UnitId, UnitEntry>,
    generation: u64,
    _clusters: Clusters,
}

pub fn unit(name: &str) -> UnitId {
    if name == "root" { UnitId::root() } else { UnitId::kustomization("flux-system", name) }
}

pub fn config(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": {"value": value}})
}

/// A CRD of `Widget`s of any content.
pub fn definition() -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"kind": "Widget", "plural": "widgets"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}})
}

pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

pub fn at(kind: &str, namespace: &str, name: &str) -> ObjectRef {
    let version = if kind == "Deployment" { "apps/v1" } else { "v1" };
    if namespace.is_empty() {
        ObjectRef::global(version, kind, name)
    } else {
        ObjectRef::new(version, kind, namespace, name)
    }
}

impl Bench {
    pub async fn start(options: &ClusterOptions) -> Self {
        let clusters = Clusters::new().await.unwrap();
        let cluster = clusters.start_one("engine", options).await.unwrap();
        let disk = Arc::new(Disk::default());
        let (engine, stop, task) = run(cluster.client(), &disk);
        let entries = BTreeMap::new();
        Self { cluster, disk, engine, stop, task, entries, generation: 0, _clusters: clusters }
    }

    pub fn client(&self) -> kube::Client {
        self.cluster.client()
    }

    /// Stops the engine without ceremony and starts another on the same disk.
    pub async fn restart(&mut self) {
        self.stop_engine().await;
        self.start_engine();
    }

    pub fn start_engine(&mut self) {
        self.start_engine_as(self.cluster.client());
    }

    /// Starts the engine with a client of its own.
    pub fn start_engine_as(&mut self, client: kube::Client) {
        let (engine, stop, task) = run(client, &self.disk);
        (self.engine, self.stop, self.task) = (engine, stop, task);
        self.publish();
    }

    /// The versions of all objects of a kind: as they were means that nobody wrote.
    pub async fn versions(&self, api_version: &str, kind: &str) -> BTreeMap<String, String> {
        let api = flotilla_tests::objects::api(&self.client(), api_version, kind, None);
        let list = api.list(&kube::api::ListParams::default()).await.unwrap();
        let versions = list.items.into_iter().map(|object| {
            let metadata = object.metadata;
            let name =
                format!("{}/{}", metadata.namespace.unwrap_or_default(), metadata.name.unwrap_or_default());
            (name, metadata.resource_version.unwrap_or_default())
        });
        versions.collect()
    }

    pub async fn stop_engine(&mut self) {
        self.stop.cancel();
        (&mut self.task).await.unwrap().unwrap();
    }

    /// Sets a unit, without telling the engine yet.
    pub fn present(&mut self, name: &str, spec: UnitSpec, objects: &[Value]) -> Digest {
        let objects: Vec<Object> = objects.iter().map(|object| Object::new(object).unwrap()).collect();
        self.present_objects(name, spec, &objects)
    }

    /// Sets a unit that may have templates.
    pub fn present_objects(&mut self, name: &str, spec: UnitSpec, objects: &[Object]) -> Digest {
        self.present_as(name, spec, objects, |object| object.into())
    }

    /// Sets a unit whose manifest says something else of its objects than they are.
    pub fn present_as(
        &mut self,
        name: &str,
        spec: UnitSpec,
        objects: &[Object],
        entry: impl Fn(&Object) -> ObjectEntry,
    ) -> Digest {
        self.disk.keep(objects);
        let manifest = UnitManifest::new(unit(name), spec, objects.iter().map(entry).collect());
        let digest = manifest.digest();
        self.entries.insert(unit(name), UnitEntry::Present(Arc::new(manifest)));
        digest
    }

    /// The digest of what is wanted of a unit, if it is present.
    pub fn desired(&self, name: &str) -> Option<Digest> {
        match self.entries.get(&unit(name)) {
            Some(UnitEntry::Present(manifest)) => Some(manifest.digest()),
            _ => None,
        }
    }

    pub fn hold(&mut self, name: &str) {
        self.entries.insert(unit(name), UnitEntry::Hold(format!("{name}.yaml:1: does not parse").into()));
    }

    pub fn remove(&mut self, name: &str) {
        let removal = Removal { prune: true, ..Removal::default() };
        self.entries.insert(unit(name), UnitEntry::Removed(removal));
    }

    /// The unit left Git while it was suspended.
    pub fn remove_suspended(&mut self, name: &str) {
        let removal = Removal { prune: true, suspended: true, ..Removal::default() };
        self.entries.insert(unit(name), UnitEntry::Removed(removal));
    }

    /// Names the unit no more.
    pub fn forget(&mut self, name: &str) {
        self.entries.remove(&unit(name));
    }

    pub fn publish(&mut self) {
        self.generation += 1;
        let desired = DesiredState::new(
            "engine".parse().unwrap(),
            Generation(self.generation),
            format!("commit {}", self.generation),
            self.entries.clone(),
        );
        self.engine.set_desired(Arc::new(desired));
    }

    pub fn report(&self, name: &str) -> Option<UnitReport> {
        self.engine.changes(0).reports.into_iter().find(|report| report.unit == unit(name))
    }

    pub fn events(&self) -> Vec<Event> {
        self.engine.events(0).events
    }

    pub fn has_event(&self, reason: &str, about: &str) -> bool {
        self.events().iter().any(|event| event.reason == reason && format!("{event:?}").contains(about))
    }

    /// Waits until a unit's report is as wanted.
    pub async fn until(&self, name: &str, wanted: impl Fn(&UnitReport) -> bool) -> UnitReport {
        let result = eventually(LIMIT, || {
            let report = self.report(name);
            let good = report.as_ref().is_some_and(&wanted);
            async move {
                match report {
                    Some(report) if good => Ok(report),
                    other => Err(format!("{name}: {other:#?}")),
                }
            }
        });
        result.await.unwrap_or_else(|error| panic!("{error}\n{:#?}", self.events()))
    }

    pub async fn until_phase(&self, name: &str, phase: Phase) -> UnitReport {
        self.until(name, |report| report.phase == phase).await
    }

    /// Waits until all units that are present are ready at what is desired.
    pub async fn until_ready(&self) {
        for (id, entry) in &self.entries {
            if let UnitEntry::Present(manifest) = entry {
                let name = if id.name.is_empty() { "root" } else { &id.name };
                let digest = manifest.digest();
                self.until(name, |report| {
                    report.phase == Phase::Ready
                        && report.applied == Some(digest)
                        && report.healthy == Some(digest)
                })
                .await;
            }
        }
    }

    /// Waits until all units that are present run what is desired; for many of them.
    pub async fn until_all_applied(&self) {
        let wanted: BTreeMap<&UnitId, Digest> = self
            .entries
            .iter()
            .filter_map(|(id, entry)| match entry {
                UnitEntry::Present(manifest) => Some((id, manifest.digest())),
                UnitEntry::Hold(_) | UnitEntry::Removed(_) => None,
            })
            .collect();
        let all = eventually(LIMIT * 4, || async {
            let reports = self.engine.changes(0).reports;
            let is_done = |report: &&UnitReport| {
                report.phase == Phase::Ready && wanted.get(&report.unit) == report.applied.as_ref()
            };
            let done = reports.iter().filter(is_done).count();
            let other = reports.iter().find(|report| !is_done(report));
            if done == wanted.len() { Ok(()) } else { Err(format!("{done} of {}; {other:?}", wanted.len())) }
        });
        all.await.unwrap();
    }

    /// Waits until an object is gone.
    pub async fn until_gone(&self, object: &ObjectRef) {
        let client = self.client();
        let gone = eventually(LIMIT, || async {
            match object.get(&client).await {
                Ok(None) => Ok(()),
                Ok(Some(_)) => Err("is there".to_owned()),
                Err(error) => Err(format!("{error:#}")),
            }
        });
        gone.await.unwrap_or_else(|error| panic!("{object:?}: {error}\n{:#?}", self.engine.changes(0)));
    }

    /// Waits until a field of an object has a value.
    pub async fn until_field(&self, object: &ObjectRef, pointer: &str, wanted: Value) {
        let client = self.client();
        let wanted = &wanted;
        let there = eventually(LIMIT, || async {
            match object.json(&client).await {
                Ok(value) if value.pointer(pointer).unwrap_or(&Value::Null) == wanted => Ok(()),
                Ok(value) => Err(format!("{:?}", value.pointer(pointer))),
                Err(error) => Err(format!("{error:#}")),
            }
        });
        there.await.unwrap_or_else(|error| panic!("{object:?} {pointer}: {error}\n{:#?}", self.events()));
    }

    pub async fn is_there(&self, object: &ObjectRef) -> bool {
        object.get(&self.client()).await.unwrap().is_some()
    }
}

/// A client behind the proxy that is a service account, by a token of its own.
pub async fn client_of(cluster: &Cluster, proxy: &ApiProxy, namespace: &str, name: &str) -> kube::Client {
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
    let request = http::Request::post(path)
        .header("content-type", "application/json")
        .body(serde_json::to_vec(&request).unwrap())
        .unwrap();
    let answer: Value = cluster.client().request(request).await.unwrap();
    let token = answer["status"]["token"].as_str().unwrap().to_owned();
    let mut config = kube::config::Kubeconfig::read_from(proxy.kubeconfig_path()).unwrap();
    for user in &mut config.auth_infos {
        user.auth_info = Some(serde_json::from_value(json!({"token": token})).unwrap());
    }
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(config, &options).await.unwrap();
    kube::Client::try_from(config).unwrap()
}

/// A client behind the proxy with all rights.
pub async fn admin(proxy: &ApiProxy) -> kube::Client {
    let config = kube::config::Kubeconfig::read_from(proxy.kubeconfig_path()).unwrap();
    let options = kube::config::KubeConfigOptions::default();
    kube::Client::try_from(kube::Config::from_custom_kubeconfig(config, &options).await.unwrap()).unwrap()
}

pub type Running = (Engine, CancellationToken, JoinHandle<Result<(), EngineError>>);

/// Starts an engine; it ends with the token.
pub fn run(client: kube::Client, disk: &Arc<Disk>) -> Running {
    let engine = Engine::new(client, disk.clone(), disk.clone(), Options::default());
    let stop = CancellationToken::new();
    let task = tokio::spawn(engine.clone().run(stop.clone()));
    (engine, stop, task)
}
