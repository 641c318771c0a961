//! Deletes objects of a release, each only while it bears the release's marks and nobody keeps it.

use std::collections::BTreeSet;

use flotilla_core::inventory::Uid;
use flotilla_core::{ObjectId, ObjectRef};
use flotilla_helm::engine::machine::Answer;
use flotilla_helm::engine::objects::Named;
use flotilla_helm::manifest::RESOURCE_POLICY;
use flotilla_helm::owner;
use flotilla_runtime::chain;

use super::{Executor, Objects, failed, propagation};
use crate::cluster::find::Sought;
use crate::cluster::objects::Parsed;
use crate::cluster::request::Failure;

/// An object that is there and is the release's.
struct Own {
    id: ObjectId,
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
            let (resource, own) = match self.own(named).await {
                Ok(Sought::There(resource, own)) => (resource, own),
                Ok(Sought::Gone) => continue,
                Ok(Sought::Unknown(why)) => return unknown(named, &why),
                Err(failure) => return failed(&failure),
            };
            let metadata = &own.found.live.metadata;
            if metadata.annotations.contains_key(RESOURCE_POLICY) || metadata.deletion_timestamp.is_some() {
                continue;
            }
            let uid = Uid::from(metadata.uid.clone());
            let deleted = self.cluster.delete(&resource, &own.id, &uid, propagation(self.propagation)).await;
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
                Ok(Sought::There(_, own)) if own.found.live.metadata.deletion_timestamp.is_some() => {
                    let finalizers = own.found.live.metadata.finalizers.join(", ");
                    return Answer::NotYet(format!("{} waits for {finalizers}", own.id));
                }
                Ok(Sought::There(..) | Sought::Gone) => {}
                Ok(Sought::Unknown(why)) => return unknown(named, &why),
                Err(failure) => return failed(&failure),
            }
        }
        Answer::Done
    }

    /// Looks for an object, and tells it from one of its name that is somebody else's.
    async fn own(&self, named: &Named) -> Result<Sought<Own>, Failure> {
        let object = ObjectRef { id: named.id.clone(), version: named.version.clone().into() };
        let (resource, found) = match self.cluster.find::<Parsed>(&object).await? {
            Sought::There(resource, found) => (resource, found),
            Sought::Gone => return Ok(Sought::Gone),
            Sought::Unknown(why) => return Ok(Sought::Unknown(why)),
        };
        let (name, namespace) = (self.target.name.as_str(), self.target.namespace.as_str());
        if !owner::is_of(&found.value, name, namespace) {
            return Ok(Sought::Gone);
        }
        let id = self.cluster.discovery().complete(&object.id);
        Ok(Sought::There(resource, Own { id, found }))
    }
}

fn unknown(named: &Named, why: &str) -> Answer {
    Answer::NotYet(format!("nobody can tell whether {} is still there: {why}", named.id))
}
