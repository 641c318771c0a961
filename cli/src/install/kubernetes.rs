//! A cluster by a context of a kubeconfig, for commands that install or remove Flotilla's own parts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use flotilla_core::{ObjectId, ObjectRef};
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
    PostParams, Preconditions,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::discovery::{ApiGroup, Discovery, Scope, verbs};
use serde_json::{Value, json};

use crate::error::Error;
use crate::exit::Code;

/// Under this name the API server records the fields that were set here.
const FIELD_MANAGER: &str = "flotilla-cli";
/// How often a change is tried that others are faster than.
const ATTEMPTS: u32 = 5;
const CONNECT: Duration = Duration::from_secs(10);

/// A cluster, with the rights of the context's user.
pub(crate) struct Kubernetes {
    client: kube::Client,
    context: String,
}

/// How to reach kinds, by group and kind, and whether their objects are in namespaces.
pub(crate) struct Kinds(BTreeMap<(String, String), (ApiResource, bool)>);

/// What a dry run of an apply said.
#[derive(Debug)]
pub(crate) enum Trial {
    Works,
    /// The object's namespace is not there yet.
    NoNamespace,
    Refused(String),
}

impl Kinds {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn find(&self, id: &ObjectId) -> Option<&(ApiResource, bool)> {
        self.0.get(&(id.group.to_string(), id.kind.to_string()))
    }
}

impl Kubernetes {
    /// By a context of a kubeconfig; without a file of `KUBECONFIG`'s or `~/.kube/config`.
    pub(crate) async fn connect(file: Option<&Path>, context: &str) -> Result<Self, Error> {
        let failed = |error| {
            Error::new(Code::Local, format!("cannot use the context {context} of the kubeconfig"))
                .because(error)
        };
        let kubeconfig = match file {
            Some(path) => Kubeconfig::read_from(path),
            None => Kubeconfig::read(),
        }
        .map_err(|error| failed(error).hint("--kubeconfig names another file"))?;
        let known: Vec<String> = kubeconfig.contexts.iter().map(|it| it.name.clone()).collect();
        if !known.iter().any(|name| name == context) {
            return Err(Error::usage(format!("the kubeconfig has no context {context}"))
                .hint(format!("it has: {}", known.join(", "))));
        }
        let options = KubeConfigOptions { context: Some(context.to_owned()), ..KubeConfigOptions::default() };
        let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(failed)?;
        config.connect_timeout = Some(CONNECT);
        config.default_retry = false;
        let client = kube::Client::try_from(config).map_err(|error| {
            Error::new(Code::Local, format!("cannot make a client for the context {context}")).because(error)
        })?;
        Ok(Self { client, context: context.to_owned() })
    }

    pub(crate) fn context(&self) -> &str {
        &self.context
    }

    /// The API of a kind. Only for kinds whose plural is the usual one, as those of ours in `deploy/`.
    fn api(&self, api_version: &str, kind: &str, namespace: &str) -> Api<DynamicObject> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        if namespace.is_empty() {
            Api::all_with(self.client.clone(), &resource)
        } else {
            Api::namespaced_with(self.client.clone(), namespace, &resource)
        }
    }

    fn failed(&self, attempt: &str, error: kube::Error) -> Error {
        let message = format!("cannot {attempt} in the cluster of context {}", self.context);
        match error {
            kube::Error::Api(status) => {
                let code = if status.is_forbidden() { Code::Denied } else { Code::Refused };
                Error::new(code, format!("{message}: {}", status.message))
            }
            error => Error::new(Code::Unreachable, message).because(error),
        }
    }

    /// Server-Side Apply; fields that others set stay theirs unless they are to be taken over.
    pub(crate) async fn apply(&self, object: &Value, take_over: bool) -> Result<(), Error> {
        let (api_version, target) = target(object)?;
        let id = &target.id;
        let params = PatchParams { force: take_over, ..PatchParams::apply(FIELD_MANAGER) };
        let api = self.api(&api_version, &id.kind, &id.namespace);
        let applied = api.patch(&id.name, &params, &Patch::Apply(object)).await;
        applied.map(drop).map_err(|error| {
            let is_conflict = matches!(&error, kube::Error::Api(status) if status.is_conflict());
            let failed = self.failed(&format!("apply {id}"), error);
            match is_conflict {
                true => failed.hint("another tool set these fields; --force-conflicts takes them over"),
                false => failed,
            }
        })
    }

    /// What would become of an apply.
    pub(crate) async fn trial(&self, object: &Value) -> Result<Trial, Error> {
        let (api_version, target) = target(object)?;
        let id = &target.id;
        let params = PatchParams { force: true, dry_run: true, ..PatchParams::apply(FIELD_MANAGER) };
        let api = self.api(&api_version, &id.kind, &id.namespace);
        match api.patch(&id.name, &params, &Patch::Apply(object)).await {
            Ok(_) => Ok(Trial::Works),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Trial::NoNamespace),
            Err(kube::Error::Api(status)) => Ok(Trial::Refused(status.message)),
            Err(error) => Err(self.failed(&format!("try to apply {id}"), error)),
        }
    }

    /// Whether the context's user may create an object of this kind in its namespace.
    pub(crate) async fn may_create(&self, object: &Value) -> Result<bool, Error> {
        let (api_version, target) = target(object)?;
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        let plural = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &target.id.kind)).plural;
        let attributes =
            json!({"verb": "create", "group": group, "resource": plural, "namespace": target.id.namespace});
        let question = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "metadata": {}, "spec": {"resourceAttributes": attributes}});
        let question: DynamicObject = serde_json::from_value(question).map_err(unreadable)?;
        let api = self.api("authorization.k8s.io/v1", "SelfSubjectAccessReview", "");
        let answer = api.create(&PostParams::default(), &question).await;
        let answer = answer.map_err(|error| self.failed("ask what you may do", error))?;
        Ok(answer.data["status"]["allowed"] == true)
    }

    /// Major and minor version of Kubernetes, and the whole as text.
    pub(crate) async fn version(&self) -> Result<(u32, u32, String), Error> {
        let info = self.client.apiserver_version().await;
        let info = info.map_err(|error| self.failed("read the version", error))?;
        let number = |text: &str| {
            let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().map_err(|_| {
                Error::new(
                    Code::Input,
                    format!("the API server says that its version is '{}'", info.git_version),
                )
            })
        };
        Ok((number(&info.major)?, number(&info.minor)?, info.git_version.clone()))
    }

    /// An object, or `None` where the API server says that it is not there.
    pub(crate) async fn get(
        &self,
        api_version: &str,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, Error> {
        let found = self.api(api_version, kind, namespace).get_opt(name).await;
        let found = found.map_err(|error| self.failed(&format!("read {kind} {name}"), error))?;
        found.map(value).transpose()
    }

    /// Objects of a kind in a namespace, by labels.
    pub(crate) async fn list(
        &self,
        api_version: &str,
        kind: &str,
        namespace: &str,
        labels: &str,
    ) -> Result<Vec<Value>, Error> {
        let found = self.api(api_version, kind, namespace).list(&ListParams::default().labels(labels)).await;
        let found = found.map_err(|error| self.failed(&format!("list {kind}s in {namespace}"), error))?;
        found.items.into_iter().map(value).collect()
    }

    /// All objects in a namespace, of every kind that the API server serves and lists: kind, version and metadata.
    ///
    /// # Errors
    /// Also where one kind cannot be listed, as that of an aggregated API which is away: what is not seen is not absent.
    pub(crate) async fn everything_in(&self, namespace: &str) -> Result<Vec<Value>, Error> {
        let discovery = Discovery::new(self.client.clone()).run().await;
        let discovery = discovery.map_err(|error| self.failed("find out which kinds there are", error))?;
        let mut found = Vec::new();
        for (resource, can) in discovery.groups().flat_map(ApiGroup::resources_by_stability) {
            if can.scope != Scope::Namespaced || !can.supports_operation(verbs::LIST) {
                continue;
            }
            let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &resource);
            let listed = api.list_metadata(&ListParams::default()).await;
            let listed = listed
                .map_err(|error| self.failed(&format!("list {} in {namespace}", resource.plural), error))?;
            for object in listed.items {
                let metadata = serde_json::to_value(object.metadata).map_err(unreadable)?;
                let ApiResource { api_version, kind, .. } = &resource;
                found.push(json!({"apiVersion": api_version, "kind": kind, "metadata": metadata}));
            }
        }
        Ok(found)
    }

    /// The kinds of these API groups.
    pub(crate) async fn kinds(&self, groups: &BTreeSet<String>) -> Result<Kinds, Error> {
        let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
        let discovery = Discovery::new(self.client.clone()).filter(&groups).run().await;
        let discovery = discovery.map_err(|error| self.failed("find out which kinds there are", error))?;
        let kinds = discovery.groups().flat_map(ApiGroup::resources_by_stability).map(|(resource, can)| {
            let key = (resource.group.clone(), resource.kind.clone());
            (key, (resource, can.scope == Scope::Namespaced))
        });
        Ok(Kinds(kinds.collect()))
    }

    fn api_of(&self, kinds: &Kinds, id: &ObjectId) -> Result<Api<DynamicObject>, Error> {
        let (resource, namespaced) = kinds.find(id).ok_or_else(|| {
            let why = format!("the cluster of context {} does not serve the kind of {id}", self.context);
            Error::new(Code::Refused, why)
        })?;
        Ok(match *namespaced {
            true => Api::namespaced_with(self.client.clone(), &id.namespace, resource),
            false => Api::all_with(self.client.clone(), resource),
        })
    }

    /// A merge patch of an object, or of a subresource of it.
    pub(crate) async fn merge(
        &self,
        kinds: &Kinds,
        id: &ObjectId,
        subresource: &str,
        patch: &Value,
    ) -> Result<(), Error> {
        let (api, params) = (self.api_of(kinds, id)?, PatchParams::default());
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..params };
        let patch = Patch::Merge(patch);
        let patched = match subresource {
            "" => api.patch(&id.name, &params, &patch).await,
            name => api.patch_subresource(name, &id.name, &params, &patch).await,
        };
        patched.map(drop).map_err(|error| self.failed(&format!("change {id}"), error))
    }

    /// Reads an object's metadata and applies the JSON patch that `change` makes of it, anew where somebody else was faster.
    /// False if there is no patch, or no object.
    pub(crate) async fn edit(
        &self,
        kinds: &Kinds,
        id: &ObjectId,
        change: impl Fn(&Value) -> Option<Value>,
    ) -> Result<bool, Error> {
        let api = self.api_of(kinds, id)?;
        let failed = |error| self.failed(&format!("change {id}"), error);
        for attempt in 1.. {
            let Some(found) = api.get_metadata_opt(&id.name).await.map_err(failed)? else { return Ok(false) };
            let found = json!({"metadata": serde_json::to_value(found.metadata).map_err(unreadable)?});
            let Some(patch) = change(&found) else { return Ok(false) };
            let patch: Patch<()> = Patch::Json(serde_json::from_value(patch).map_err(unreadable)?);
            match api.patch_metadata(&id.name, &PatchParams::default(), &patch).await {
                Ok(_) => return Ok(true),
                Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(false),
                Err(kube::Error::Api(status)) if status.is_conflict() && attempt < ATTEMPTS => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(false)
    }

    /// What keeps the pod of a StatefulSet of ours from being ready.
    pub(crate) async fn why_not_ready(&self, namespace: &str, name: &str) -> Result<String, Error> {
        let pods = self.list("v1", "Pod", namespace, &format!("app.kubernetes.io/name={name}")).await?;
        Ok(pods.first().map_or_else(|| "the cluster has made no pod for it".to_owned(), state_of_pod))
    }

    /// Deletes an object as it was read; one that is gone already is fine, one that took its place since is an error.
    pub(crate) async fn delete(&self, object: &Value) -> Result<(), Error> {
        let (api_version, target) = target(object)?;
        let id = &target.id;
        let api = self.api(&api_version, &id.kind, &id.namespace);
        let uid = object["metadata"]["uid"].as_str().map(str::to_owned);
        let params = DeleteParams::background().preconditions(Preconditions { uid, resource_version: None });
        match api.delete(&id.name, &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(self.failed(&format!("delete {id}"), error)),
        }
    }
}

fn value(object: DynamicObject) -> Result<Value, Error> {
    serde_json::to_value(object).map_err(unreadable)
}

fn unreadable(error: serde_json::Error) -> Error {
    Error::new(Code::Input, "what the API server has cannot be read").because(error)
}

fn target(object: &Value) -> Result<(String, ObjectRef), Error> {
    let target = ObjectRef::of(object)
        .map_err(|error| Error::new(Code::Input, "what is to be applied is not an object").because(error))?;
    Ok((object["apiVersion"].as_str().unwrap_or_default().to_owned(), target))
}

/// What keeps a pod from being ready, as the cluster says it.
fn state_of_pod(pod: &Value) -> String {
    let status = &pod["status"];
    let container = &status["containerStatuses"][0]["state"];
    let said = [&container["waiting"], &container["terminated"]].into_iter().find(|state| state.is_object());
    let condition = status["conditions"].as_array().into_iter().flatten().find(|it| it["status"] == "False");
    match said.or(condition) {
        Some(state) => {
            let text = |key: &str| state[key].as_str().unwrap_or_default();
            format!("its pod: {} {}", text("reason"), text("message")).trim_end().to_owned()
        }
        None => format!("its pod is {}", status["phase"].as_str().unwrap_or("of an unknown phase")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_the_pod_is_told() {
        let waiting = json!({"status": {"phase": "Pending", "containerStatuses": [
            {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]}});
        let unschedulable = json!({"status": {"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no storage class"}]}});
        for (pod, expected) in [
            (waiting, "its pod: ImagePullBackOff no such image"),
            (unschedulable, "its pod: Unschedulable no storage class"),
            (json!({"status": {"phase": "Running"}}), "its pod is Running"),
            (json!({}), "its pod is of an unknown phase"),
        ] {
            assert_eq!(state_of_pod(&pod), expected);
        }
    }
}
