//! Looks for an object whose kind may be served in another version than it had, or not at the moment.

use std::sync::Arc;

use flotilla_core::live::Metadata;
use flotilla_core::{ObjectId, ObjectRef};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Cluster;
use super::discovery::Resource;
use super::request::Failure;

const EXTENSIONS: &str = "apiextensions.k8s.io";

/// What came of the search for an object.
pub(crate) enum Sought<T> {
    There(Arc<Resource>, T),
    /// The API server says that it is not there.
    Gone,
    Unknown(String),
}

impl Cluster {
    /// Looks for an object in whichever version its kind is served. Where the kind is not served, it is gone only if nothing
    /// in the cluster defines the kind: discovery lags behind, and servers of groups come and go. What is served and defined
    /// is asked as the agent itself.
    pub(crate) async fn find<T: DeserializeOwned>(&self, object: &ObjectRef) -> Result<Sought<T>, Failure> {
        let (agent, discovery) = (self.itself(), self.discovery());
        for attempt in [0, 1] {
            if attempt > 0 || discovery.any_version(object).is_none() {
                agent.discover(true).await?;
            }
            let Some(resource) = discovery.any_version(object) else { continue };
            match self.fetch(&resource, &object.id).await {
                // A version that is no longer served says nothing of the object.
                Err(failure) if failure.is_not_served() => discovery.unlearn(&resource),
                Ok(Some(found)) => return Ok(Sought::There(resource, found)),
                Ok(None) => return Ok(Sought::Gone),
                Err(failure) => return Err(failure),
            }
        }
        let ObjectRef { id, .. } = object;
        if discovery.any_version(object).is_some() {
            return Ok(Sought::Unknown(format!("{} is not served at the moment", id.kind)));
        }
        if discovery.is_stale(&id.group) {
            return Ok(Sought::Unknown("the server of its kind does not answer".into()));
        }
        match agent.definition(id).await {
            Ok(None) => Ok(Sought::Gone),
            Ok(Some(name)) => Ok(Sought::Unknown(format!("its kind is defined by {name} and not served"))),
            // Who may not read definitions goes by what is served.
            Err(failure) if failure.code() == 403 => Ok(Sought::Gone),
            Err(failure) => Err(failure),
        }
    }

    /// The CRD of a kind, if there is one.
    async fn definition(&self, id: &ObjectId) -> Result<Option<String>, Failure> {
        #[derive(Deserialize)]
        struct Definition {
            spec: Spec,
        }
        #[derive(Deserialize)]
        struct Spec {
            names: Names,
        }
        #[derive(Deserialize)]
        struct Names {
            kind: String,
        }
        let definitions = Resource {
            group: EXTENSIONS.to_owned(),
            version: "v1".to_owned(),
            kind: "CustomResourceDefinition".to_owned(),
            plural: "customresourcedefinitions".to_owned(),
            namespaced: false,
        };
        let of_group =
            |metadata: &Metadata| metadata.name.split_once('.').is_some_and(|(_, group)| group == id.group);
        for metadata in self.names(&definitions, "", usize::MAX, &of_group).await? {
            let name = ObjectId::new(EXTENSIONS, "CustomResourceDefinition", "", &metadata.name);
            let found: Option<Definition> = self.fetch(&definitions, &name).await?;
            if found.is_some_and(|found| found.spec.names.kind == id.kind) {
                return Ok(Some(metadata.name));
            }
        }
        Ok(None)
    }
}
