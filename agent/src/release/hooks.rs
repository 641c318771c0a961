//! The objects of hooks: made, looked at and deleted. None of them is on the inventory.

use std::sync::Arc;

use flotilla_core::drift::MANAGER;
use flotilla_core::inventory::Uid;
use flotilla_core::{ObjectId, ObjectRef};
use flotilla_helm::engine::machine::{Answer, HOOK_RUN, HookObject, HookState, There};
use flotilla_yaml::parse;
use http::Method;
use serde_json::{Value, json};

use super::{Executor, Objects, failed};
use crate::cluster::discovery::Resource;
use crate::cluster::objects::{Deleted, Parsed};
use crate::cluster::request::{Call, Failure};

/// The object of a hook as it is sent.
struct Sent {
    id: ObjectId,
    resource: Arc<Resource>,
    value: Value,
}

impl<O: Objects> Executor<'_, O> {
    pub(super) async fn look(&self, hook: &HookObject) -> Answer {
        match self.sent(hook).await {
            Ok(Sent { id, resource, .. }) => self.there(&resource, &id).await,
            Err(answer) => answer,
        }
    }

    async fn there(&self, resource: &Resource, id: &ObjectId) -> Answer {
        match self.cluster.fetch::<Parsed>(resource, id).await {
            Ok(None) => Answer::Absent,
            Ok(Some(Parsed { value, live })) => Answer::There(There {
                uid: live.metadata.uid,
                mark: live.metadata.annotations.get(HOOK_RUN).cloned(),
                state: HookState::of(&value),
            }),
            Err(failure) => failed(&failure),
        }
    }

    pub(super) async fn create(&self, hook: &HookObject) -> Answer {
        let Sent { id, resource, value } = match self.sent(hook).await {
            Ok(sent) => sent,
            Err(answer) => return answer,
        };
        let path = match resource.collection(&id.namespace) {
            Ok(path) => format!("{path}?fieldManager={MANAGER}"),
            Err(failure) => return failed(&failure),
        };
        let call = Call::new(Method::POST, path).body("application/json", value.to_string());
        match self.cluster.ask_for::<Parsed>(call, &resource.kind, &id.name).await {
            Ok(Parsed { live, .. }) => Answer::Made { uid: live.metadata.uid },
            Err(Failure::Refused { reason, .. }) if reason == "AlreadyExists" => {
                self.there(&resource, &id).await
            }
            Err(failure) => failed(&failure),
        }
    }

    pub(super) async fn delete_hook(&self, hook: &HookObject, uid: &Uid) -> Answer {
        let Sent { id, resource, .. } = match self.sent(hook).await {
            Ok(sent) => sent,
            Err(answer) => return answer,
        };
        match self.cluster.delete(&resource, &id, uid, "Background").await {
            Ok(Deleted::Gone) => Answer::Done,
            Ok(Deleted::Waits(finalizers)) => Answer::NotYet(format!("waits for {}", finalizers.join(", "))),
            Err(failure) => failed(&failure),
        }
    }

    async fn sent(&self, hook: &HookObject) -> Result<Sent, Answer> {
        let refused = |why: String| Answer::Refused(format!("{} {}: {why}", hook.kind, hook.name));
        let documents = parse(&hook.manifest).map_err(|error| refused(error.to_string()))?;
        let [document] = &documents[..] else {
            return Err(refused(format!("it has {} documents", documents.len())));
        };
        let mut value = document.to_json().map_err(|error| refused(error.to_string()))?;
        let text = |path: &str| value.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let api_version = text("/apiVersion");
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        let namespace = match text("/metadata/namespace") {
            "" => self.target.namespace.as_str(),
            own => own,
        };
        let named = ObjectId::new(group, text("/kind"), namespace, text("/metadata/name"));
        if named.name.is_empty() {
            return Err(refused("a hook has no name".to_owned()));
        }
        let object = ObjectRef { id: named, version: version.into() };
        let resource = self.cluster.resource(&object).await.map_err(|failure| failed(&failure))?;
        let id = self.cluster.discovery().complete(&object.id);
        if id.namespace.is_empty() {
            value["metadata"].as_object_mut().map(|metadata| metadata.remove("namespace"));
        } else {
            value["metadata"]["namespace"] = json!(id.namespace);
        }
        if !value["metadata"]["annotations"].is_object() {
            value["metadata"]["annotations"] = json!({});
        }
        value["metadata"]["annotations"][HOOK_RUN] = json!(hook.mark);
        Ok(Sent { id, resource, value })
    }
}
