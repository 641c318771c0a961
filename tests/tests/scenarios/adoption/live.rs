//! The cluster that `../shared/flux-live` recorded, brought up as it was: managers, labels, finalizers, inventories.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};
use flotilla_tests::fleet::{Fleet, HubOptions, SOON};
use flotilla_tests::git::Repo;
use flotilla_tests::objects::{ObjectRef, api, apply};
use flotilla_tests::wait::eventually;
use flotilla_tests::{ClusterOptions, Clusters};
use futures::TryStreamExt;
use kube::Client;
use kube::api::{ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::shared::{files, objects, shared};

/// Kinds that nobody but their owner writes to, so that a resource version tells whether anybody did.
const STEADY: [&str; 10] = [
    "ConfigMap",
    "Secret",
    "Service",
    "Namespace",
    "Role",
    "RoleBinding",
    "Widget",
    "Kustomization",
    "GitRepository",
    "NetworkPolicy",
];

fn documents(path: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    // PyYAML wrote this text bare, which other programs read as a number.
    Ok(objects(&text.replace(": 1e3\n", ": '1e3'\n")))
}

/// The fleet with the cluster `prod`, whose agent has joined.
pub(super) struct Live {
    pub(super) fleet: Fleet,
    /// As recorded.
    pub(super) recorded: BTreeMap<ObjectRef, Value>,
}

pub(super) fn is_of_flux(object: &ObjectRef) -> bool {
    object.api_version.contains(".fluxcd.io/")
}

impl Live {
    /// None where the record is not there.
    pub(super) async fn start() -> Result<Option<Self>> {
        let (Some(live), Some(crds)) = (shared("flux-live"), shared("flux-crds")) else { return Ok(None) };
        let repo = Repo::new()?;
        repo.commit("begin", &files(&live.join("repo")))?;
        let url = repo.url();
        let cluster = async { Clusters::new().await?.start_one("prod", &ClusterOptions::default()).await };
        let (cluster, mut fleet) = futures::future::try_join(cluster, async {
            Fleet::new(repo, &url, &HubOptions::default()).await
        })
        .await?;
        let client = cluster.client();
        let mut recorded = BTreeMap::new();
        for name in [
            "kustomize.toolkit.fluxcd.io_kustomizations",
            "source.toolkit.fluxcd.io_gitrepositories",
            "helm.toolkit.fluxcd.io_helmreleases",
        ] {
            for crd in documents(&crds.join(format!("{name}.yaml")))? {
                apply(&client, "flux", &crd).await?;
            }
        }
        let mut objects = documents(&live.join("live.yaml"))?;
        objects.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "flux-system"}}));
        let order = |object: &Value| match object["kind"].as_str() {
            Some("Namespace") => 0,
            Some("CustomResourceDefinition") => 1,
            _ => 2,
        };
        objects.sort_by_key(order);
        for object in objects {
            let reference = ObjectRef::of(&object)?;
            // What a CRD defines is served a moment after it.
            eventually(SOON, || bring_up(&client, &reference, &object)).await?;
            if object["metadata"]["uid"].is_string() {
                recorded.insert(reference, object);
            }
        }
        fleet.join_through_proxy("prod", cluster).await?;
        Ok(Some(Self { fleet, recorded }))
    }

    pub(super) fn client(&self) -> Client {
        self.fleet.client("prod")
    }

    /// The recorded objects that are no Flux objects, with their uids.
    pub(super) async fn uids(&self) -> Result<BTreeMap<ObjectRef, Value>> {
        let mut uids = BTreeMap::new();
        for object in self.recorded.keys().filter(|object| !is_of_flux(object)) {
            uids.insert(object.clone(), object.field(&self.client(), "/metadata/uid").await?);
        }
        Ok(uids)
    }

    /// The versions of what only its owner writes.
    pub(super) async fn versions(&self) -> Result<BTreeMap<ObjectRef, String>> {
        let steady: Vec<ObjectRef> =
            self.recorded.keys().filter(|object| STEADY.contains(&object.kind.as_str())).cloned().collect();
        flotilla_tests::objects::resource_versions(&self.client(), &steady).await
    }

    /// How many of Flux's objects are there.
    pub(super) async fn flux_objects(&self) -> Result<usize> {
        let mut count = 0;
        for (group, kind) in [
            ("kustomize.toolkit.fluxcd.io/v1", "Kustomization"),
            ("source.toolkit.fluxcd.io/v1", "GitRepository"),
        ] {
            count += api(&self.client(), group, kind, None).list(&ListParams::default()).await?.items.len();
        }
        Ok(count)
    }

    /// Everything is Flotilla's: in sync, and neither Flux's labels nor its fields are left.
    pub(super) async fn is_ours(&self) -> Result<()> {
        self.fleet.in_sync(&["prod"]).await?;
        // One is made where it is missing, and left alone else.
        let is_ours = |object: &&ObjectRef| !is_of_flux(object) && object.name != "seed";
        for object in self.recorded.keys().filter(is_ours) {
            let metadata = object.field(&self.client(), "/metadata").await?;
            let labels = metadata["labels"].to_string();
            ensure!(
                labels.contains("flotilla.dev/unit") && !labels.contains("fluxcd.io/name"),
                "{object}: {labels}"
            );
            let managers = managers(&metadata);
            ensure!(
                managers.iter().any(|(manager, _)| manager == "flotilla")
                    && !managers.iter().any(|(manager, _)| manager == "kustomize-controller"),
                "{object}: {managers:?}"
            );
        }
        ensure!(self.flux_objects().await? == 0, "Flux's objects are there");
        Ok(())
    }

    /// Everything is Flux's again, as it was recorded.
    pub(super) async fn is_fluxs(&self) -> Result<()> {
        for (object, was) in &self.recorded {
            let now = object.json(&self.client()).await?;
            ensure!(
                now["metadata"]["labels"] == was["metadata"]["labels"],
                "{object}: {}",
                now["metadata"]["labels"]
            );
            let entries = |value: &Value| {
                managers(&value["metadata"])
                    .into_iter()
                    .filter(|(manager, _)| manager.contains("kustomize") || manager == "flotilla")
                    .collect::<Vec<_>>()
            };
            ensure!(entries(&now) == entries(was), "{object}: {:?}, not {:?}", entries(&now), entries(was));
            if is_of_flux(object) {
                for field in ["spec", "status"] {
                    ensure!(
                        now[field] == was[field],
                        "{object}: {field} is {}, not {}",
                        now[field],
                        was[field]
                    );
                }
                for field in ["finalizers", "annotations"] {
                    ensure!(now["metadata"][field] == was["metadata"][field], "{object}: {field}");
                }
            }
        }
        Ok(())
    }
}

/// Who holds which fields of an object, status aside.
fn managers(metadata: &Value) -> Vec<(String, Value)> {
    let entries = metadata["managedFields"].as_array().cloned().unwrap_or_default();
    let entries = entries.into_iter().filter(|entry| entry["subresource"].is_null());
    let mut entries: Vec<_> = entries
        .map(|entry| (entry["manager"].as_str().unwrap_or_default().to_owned(), entry["fieldsV1"].clone()))
        .collect();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    entries
}

/// Makes an object with the recorded fields in the hands of the recorded managers.
async fn bring_up(client: &Client, reference: &ObjectRef, object: &Value) -> Result<()> {
    let api = api(client, &reference.api_version, &reference.kind, reference.namespace.as_deref());
    let mut body = object.clone();
    let metadata = body["metadata"].as_object_mut().context("an object has metadata")?;
    let managers = metadata.remove("managedFields");
    for field in ["uid", "resourceVersion", "creationTimestamp", "generation"] {
        metadata.remove(field);
    }
    let status = body.as_object_mut().and_then(|body| body.remove("status"));
    if reference.kind == "Service" && body["spec"]["clusterIP"] != "None" {
        // Addresses are this cluster's own.
        body["spec"]
            .as_object_mut()
            .into_iter()
            .for_each(|spec| spec.retain(|key, _| !key.starts_with("clusterIP")));
    }
    match api.create(&PostParams::default(), &serde_json::from_value(body)?).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        other => drop(other.with_context(|| format!("create {reference}"))?),
    }
    let params = PatchParams::default();
    if is_of_flux(reference) {
        let status = Patch::Merge(json!({"status": status}));
        api.patch_status(&reference.name, &params, &status)
            .await
            .with_context(|| format!("status of {reference}"))?;
    }
    if let Some(managers) = managers {
        let patch = json!([{"op": "replace", "path": "/metadata/managedFields", "value": managers}]);
        let patch: Patch<()> = Patch::Json(serde_json::from_value(patch)?);
        api.patch(&reference.name, &params, &patch)
            .await
            .with_context(|| format!("managers of {reference}"))?;
    }
    Ok(())
}

type Names = Arc<Mutex<Vec<String>>>;

/// Sees what Flux's kustomize-controller would see: it prunes when a Kustomization that it finalizes goes and is not
/// suspended. None is to go with either.
pub(super) struct Witness {
    pruned: Names,
    gone: Names,
    task: JoinHandle<Result<()>>,
}

impl Witness {
    pub(super) async fn start(client: &Client) -> Result<Self> {
        let api = api(client, "kustomize.toolkit.fluxcd.io/v1", "Kustomization", None);
        let version = api.list(&ListParams::default()).await?.metadata.resource_version.unwrap_or_default();
        let (pruned, gone) = (Names::default(), Names::default());
        let (sees, notes) = (pruned.clone(), gone.clone());
        let task = tokio::spawn(async move {
            let events = api.watch(&WatchParams::default().timeout(290), &version).await?;
            tokio::pin!(events);
            while let Some(event) = events.try_next().await? {
                let (object, is_gone) = match event {
                    WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
                    WatchEvent::Deleted(object) => (object, true),
                    WatchEvent::Bookmark(_) | WatchEvent::Error(_) => continue,
                };
                let name = object.metadata.name.unwrap_or_default();
                let runs = object.data.pointer("/spec/suspend") != Some(&Value::Bool(true));
                let leaving = is_gone || object.metadata.deletion_timestamp.is_some();
                let asked = object.metadata.finalizers.is_some_and(|all| !all.is_empty());
                if leaving && (runs || asked) {
                    sees.lock().unwrap().push(name.clone());
                }
                if is_gone {
                    notes.lock().unwrap().push(name);
                }
            }
            Ok(())
        });
        Ok(Self { pruned, gone, task })
    }

    /// Waits until at least so many are gone; none of them was anything that Flux might have pruned for.
    pub(super) async fn saw(self, gone: usize) -> Result<()> {
        eventually(SOON, || async {
            let seen = self.gone.lock().unwrap().len();
            ensure!(seen >= gone, "{seen} are gone");
            anyhow::Ok(())
        })
        .await?;
        self.task.abort();
        let pruned = self.pruned.lock().unwrap();
        ensure!(pruned.is_empty(), "Flux might have pruned for {pruned:?}");
        Ok(())
    }
}
