//! Live owners of another tool: an object that a running Flux takes care of is left to it.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use flotilla_core::live::Metadata;
use flotilla_core::{ObjectId, ObjectRef};
use serde::Deserialize;
use tokio::time::Instant;

use super::Cluster;
use super::request::Failure;

/// (group, kind, label prefix)
const FLUX: [(&str, &str); 2] =
    [("kustomize.toolkit.fluxcd.io", "Kustomization"), ("helm.toolkit.fluxcd.io", "HelmRelease")];
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

impl Owners {
    /// Whether there can be owners at all in this cluster.
    pub(crate) fn possible(cluster: &Cluster) -> bool {
        FLUX.iter().any(|(group, _)| cluster.discovery().has_group(group))
    }

    /// The owner at work that the object's labels name, in words.
    pub(crate) async fn owner(
        &self,
        cluster: &Cluster,
        object: &Metadata,
    ) -> Result<Option<String>, Failure> {
        for (group, kind) in FLUX {
            let label = |what: &str| object.labels.get(&format!("{group}/{what}")).cloned();
            let Some((name, namespace)) = label("name").zip(label("namespace")) else { continue };
            let id = ObjectId::new(group, kind, namespace, name);
            if self.is_at_work(cluster, &id).await? {
                return Ok(Some(format!("Flux's {kind} {}/{}", id.namespace, id.name)));
            }
        }
        Ok(None)
    }

    async fn is_at_work(&self, cluster: &Cluster, owner: &ObjectId) -> Result<bool, Failure> {
        if let Some((when, answer)) = crate::sync::lock(&self.asked).get(owner)
            && when.elapsed() < REMEMBERED
        {
            return Ok(*answer);
        }
        let reference = ObjectRef { id: owner.clone(), version: String::new() };
        let answer = match cluster.discovery().any_version(&reference) {
            // Its kind is gone, and so is what worked by it.
            None => false,
            Some(resource) => match cluster.fetch::<Flux>(&resource, owner).await? {
                Some(flux) => !flux.spec.suspend && flux.metadata.deletion_timestamp.is_none(),
                None => false,
            },
        };
        let mut asked = crate::sync::lock(&self.asked);
        asked.retain(|_, (when, _)| when.elapsed() < REMEMBERED);
        asked.insert(owner.clone(), (Instant::now(), answer));
        Ok(answer)
    }
}
