//! Live owners of another tool: an object that a running Flux, Argo CD or Rancher Fleet takes care of is left to it.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use flotilla_core::adopt::{HELM, KUSTOMIZE};
use flotilla_core::live::{Live, Metadata};
use flotilla_core::{ObjectId, ObjectRef};
use http::Method;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::Cluster;
use super::path::field_is;
use super::request::{Call, Failure};

const ARGO: (&str, &str) = ("argoproj.io", "Application");
/// Of Fleet the agent is asked for: the bundles may be in another cluster.
const FLEET: &str = "fleet.cattle.io";
const FLEET_AGENT: (&str, &str) = ("cattle-fleet-system", "fleet-agent");
/// One answer serves all objects of an owner for so long.
const REMEMBERED: Duration = Duration::from_secs(5);

/// The owners asked for lately, and whether they are at work.
#[derive(Default)]
pub(crate) struct Owners {
    asked: Mutex<HashMap<ObjectId, (Instant, bool)>>,
}

#[derive(Deserialize)]
struct Flux {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: FluxSpec,
}

#[derive(Default, Deserialize)]
struct FluxSpec {
    #[serde(default)]
    suspend: bool,
}

#[derive(Deserialize)]
struct Application {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: Value,
}

impl Application {
    /// Whether it syncs by itself; one that people sync is theirs to hold back.
    fn is_at_work(&self) -> bool {
        let automated = self.spec.pointer("/syncPolicy/automated");
        let off = automated.and_then(|automated| automated.get("enabled")) == Some(&Value::Bool(false));
        automated.is_some_and(|automated| !automated.is_null())
            && !off
            && self.metadata.deletion_timestamp.is_none()
    }
}

/// The Application that an object says it is of: by Argo CD's annotation, its label, or the common label where Argo CD
/// applied the object.
fn argo_application(object: &Metadata) -> Option<String> {
    if let Some(tracking) = object.annotations.get("argocd.argoproj.io/tracking-id") {
        // `NAMESPACE_NAME:group/Kind:namespace/name`, without the namespace if it is Argo CD's own.
        let name = tracking.split(':').next().unwrap_or_default();
        return Some(name.rsplit('_').next().unwrap_or_default().to_owned()).filter(|name| !name.is_empty());
    }
    if let Some(name) = object.labels.get("argocd.argoproj.io/instance") {
        return Some(name.clone());
    }
    let applied = object.managed_fields.iter().any(|entry| entry.manager.starts_with("argocd-"));
    object.labels.get("app.kubernetes.io/instance").filter(|_| applied).cloned()
}

impl Owners {
    /// Whether there can be owners at all in this cluster.
    pub(crate) fn possible(cluster: &Cluster) -> bool {
        let mut groups = [KUSTOMIZE, HELM, ARGO.0, FLEET].into_iter();
        groups.any(|group| cluster.discovery().has_group(group))
    }

    /// The owner at work that the object's labels name, in words.
    pub(crate) async fn owner(
        &self,
        cluster: &Cluster,
        object: &Metadata,
    ) -> Result<Option<String>, Failure> {
        if let Some(id) = flotilla_core::adopt::flux_owner(object)
            && self.is_at_work(cluster, &id).await?
        {
            return Ok(Some(format!("Flux's {} {}/{}", id.kind, id.namespace, id.name)));
        }
        if let Some(name) = argo_application(object) {
            let id = ObjectId::new(ARGO.0, ARGO.1, "", &name);
            if self.is_at_work(cluster, &id).await? {
                return Ok(Some(format!("Argo CD's Application {name}")));
            }
        }
        if let Some(bundle) = object.annotations.get("objectset.rio.cattle.io/id") {
            let id = ObjectId::new("apps", "Deployment", FLEET_AGENT.0, FLEET_AGENT.1);
            if cluster.discovery().has_group(FLEET) && self.is_at_work(cluster, &id).await? {
                return Ok(Some(format!("Rancher Fleet's bundle {bundle}")));
            }
        }
        Ok(None)
    }

    /// Asks anew the next time.
    pub(crate) fn forget(&self) {
        flotilla_runtime::lock(&self.asked).clear();
    }

    async fn is_at_work(&self, cluster: &Cluster, owner: &ObjectId) -> Result<bool, Failure> {
        if let Some((when, answer)) = flotilla_runtime::lock(&self.asked).get(owner)
            && when.elapsed() < REMEMBERED
        {
            return Ok(*answer);
        }
        let reference = ObjectRef { id: owner.clone(), version: "".into() };
        let answer = match cluster.discovery().any_version(&reference) {
            // Its kind is gone, and so is what worked by it.
            None => false,
            // Applications are in a namespace that nobody tells; they are named uniquely as a rule, else each counts.
            Some(resource) if &*owner.group == ARGO.0 => {
                let path = format!("{}?{}", resource.collection("")?, field_is("metadata.name", &owner.name));
                let call = Call::new(Method::GET, path);
                let found = cluster.itself().ask_list(call, &resource.plural).await?;
                found.items.iter().any(Application::is_at_work)
            }
            Some(resource) if &*owner.kind == "Deployment" => {
                let live = cluster.itself().fetch::<Live>(&resource, owner).await?;
                live.is_some_and(|live| live.spec.replicas != Some(0) && !live.is_deleting())
            }
            Some(resource) => match cluster.fetch::<Flux>(&resource, owner).await? {
                Some(flux) => !flux.spec.suspend && flux.metadata.deletion_timestamp.is_none(),
                None => false,
            },
        };
        let mut asked = flotilla_runtime::lock(&self.asked);
        asked.retain(|_, (when, _)| when.elapsed() < REMEMBERED);
        asked.insert(owner.clone(), (Instant::now(), answer));
        Ok(answer)
    }
}
