//! Deletes objects of a release, each only while it bears the release's marks and nobody keeps it.

use std::collections::BTreeSet;
use std::sync::Arc;

use flotilla_core::inventory::Uid;
use flotilla_core::{ObjectId, ObjectRef};
use flotilla_helm::engine::machine::Answer;
use flotilla_helm::engine::objects::Named;
use flotilla_helm::manifest::RESOURCE_POLICY;
use flotilla_helm::owner;
use flotilla_runtime::chain;

use super::{Executor, Objects, failed, propagation};
use crate::cluster::discovery::Resource;
use crate::cluster::objects::Parsed;
use crate::cluster::request::Failure;

/// An object that is there and is the release's.
struct Own {
    id: ObjectId,
    resource: Arc<Resource>,
    found: Parsed,
}

impl<O: Objects> Executor<'_, O> {
    pub(super) async fn delete_objects(&self, objects: &[Named], keep: &[Named]) -> Answer {
        let complete = |named: &Named| self.cluster.discovery().complete(&named.id);
        // What this says of namespaces has to be known before two identities are compared.
        if let Err(failure) = self.cluster.discover(false).await {
            return failed(&failure);
        }
        let kept: BTreeSet<ObjectId> = keep.iter().map(complete).collect();
        for named in objects.iter().filter(|named| !kept.contains(&complete(named))) {
            let own = match self.own(named).await {
                Ok(Some(own)) => own,
                Ok(None) => continue,
                Err(failure) => return failed(&failure),
            };
            let metadata = &own.found.live.metadata;
            if metadata.annotations.contains_key(RESOURCE_POLICY) || metadata.deletion_timestamp.is_some() {
                continue;
            }
            let uid = Uid::from(metadata.uid.clone());
            let deleted =
                self.cluster.delete(&own.resource, &own.id, &uid, propagation(self.propagation)).await;
            match deleted.map_err(|failure| (failed(&failure), failure)) {
                Ok(_) => {}
                Err((Answer::Refused(_), failure)) => {
                    return Answer::Refused(format!("{} cannot be deleted: {}", own.id, chain(&failure)));
                }
                Err((answer, _)) => return answer,
            }
        }
        Answer::Done
    }

    pub(super) async fn are_gone(&self, objects: &[Named]) -> Answer {
        for named in objects {
            match self.own(named).await {
                Ok(Some(own)) if own.found.live.metadata.deletion_timestamp.is_some() => {
                    let finalizers = own.found.live.metadata.finalizers.join(", ");
                    return Answer::NotYet(format!("{} waits for {finalizers}", own.id));
                }
                Ok(_) => {}
                Err(failure) => return failed(&failure),
            }
        }
        Answer::Done
    }

    async fn own(&self, named: &Named) -> Result<Option<Own>, Failure> {
        let object = ObjectRef { id: named.id.clone(), version: named.version.clone().into() };
        let discovery = self.cluster.discovery();
        let Some(resource) = discovery.any_version(&object) else {
            self.cluster.discover(false).await?;
            return match discovery.any_version(&object) {
                // Without its kind it is gone, unless nobody knows what is served.
                None if discovery.is_stale(&object.id.group) => Err(Failure::Timeout),
                None => Ok(None),
                Some(resource) => self.found(&object.id, resource).await,
            };
        };
        self.found(&object.id, resource).await
    }

    async fn found(&self, id: &ObjectId, resource: Arc<Resource>) -> Result<Option<Own>, Failure> {
        let id = self.cluster.discovery().complete(id);
        let found = self.cluster.fetch::<Parsed>(&resource, &id).await?;
        let (name, namespace) = (self.target.name.as_str(), self.target.namespace.as_str());
        let own = found.filter(|found| owner::is_of(&found.value, name, namespace));
        Ok(own.map(|found| Own { id, resource, found }))
    }
}
