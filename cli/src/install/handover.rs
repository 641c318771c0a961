//! Flux takes a cluster over: its objects with their inventories, and in its hands the fields of all that was applied.
//!
//! Flux's objects are applied suspended and resumed last, so that Flux finds everything as it is meant to be. The fields have to
//! change hands, as an apply leaves alone what another manager holds: what Git drops later would stay.

use std::collections::BTreeSet;
use std::path::Path;

use flotilla_core::adopt::inventory_id;
use flotilla_core::{ObjectId, ObjectRef, drift};
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};

use super::kubernetes::{Kinds, Kubernetes};
use crate::error::Error;
use crate::exit::Code;
use crate::output::clean;

/// How many objects change hands at once.
const AT_ONCE: usize = 8;

/// What `flotilla export flux` printed.
#[derive(Debug)]
pub(crate) struct FluxFile {
    objects: Vec<Value>,
    /// What the units of it applied, and the manager that gets its fields.
    applied: Vec<(ObjectId, &'static str)>,
}

impl FluxFile {
    /// # Errors
    /// If the file cannot be read, or is not what the export prints.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::io(format!("read {}", path.display()), error))?;
        Self::parse(&text).map_err(|why| {
            Error::new(Code::Input, format!("cannot use {}: {why}", path.display()))
                .hint("it is the file that `flotilla export flux` writes")
        })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let documents = flotilla_yaml::parse(text).map_err(|error| error.to_string())?;
        let documents = documents.iter().filter(|document| !document.is_null());
        let objects: Vec<Value> = documents
            .map(|document| document.to_json())
            .collect::<Result<_, _>>()
            .map_err(|error| error.to_string())?;
        let mut applied = Vec::new();
        for object in &objects {
            let id = ObjectRef::of(object).map_err(|error| error.to_string())?.id;
            let Some(manager) = manager(object) else { continue };
            let entries = object.pointer("/status/inventory/entries").and_then(Value::as_array);
            for entry in entries.into_iter().flatten() {
                let named = entry["id"].as_str().unwrap_or_default();
                let of = inventory_id(named)
                    .ok_or_else(|| format!("the inventory of {id} has the entry '{named}'"))?;
                applied.push((of, manager));
            }
        }
        if !objects.iter().any(|object| manager(object).is_some()) {
            return Err("it has no Kustomization".into());
        }
        Ok(Self { objects, applied })
    }

    fn groups(&self) -> BTreeSet<String> {
        let objects =
            self.objects.iter().filter_map(|object| Some(ObjectRef::of(object).ok()?.id.group.to_string()));
        objects.chain(self.applied.iter().map(|(id, _)| id.group.to_string())).collect()
    }

    /// # Errors
    /// If the cluster does not know one of Flux's kinds. Nothing is changed.
    pub(crate) async fn prepare(self, kubernetes: &Kubernetes) -> Result<Handover, Error> {
        let kinds = kubernetes.kinds(&self.groups()).await?;
        for object in &self.objects {
            let id = ObjectRef::of(object).map_err(not_an_object)?.id;
            if kinds.find(&id).is_none() {
                return Err(Error::new(
                    Code::Refused,
                    format!(
                        "the cluster of context {} does not serve {}.{}",
                        kubernetes.context(),
                        id.kind,
                        id.group
                    ),
                )
                .hint("run `flux install` first"));
            }
        }
        Ok(Handover { file: self, kinds })
    }
}

/// The field manager of the controller that applies what this object says, if one does.
fn manager(object: &Value) -> Option<&'static str> {
    match object["kind"].as_str() {
        Some("Kustomization") => Some("kustomize-controller"),
        Some("HelmRelease") => Some("helm-controller"),
        _ => None,
    }
}

fn not_an_object(error: flotilla_core::object::InvalidObject) -> Error {
    Error::new(Code::Input, "the file has what is not an object").because(error)
}

/// A file that the cluster can take.
pub(crate) struct Handover {
    file: FluxFile,
    kinds: Kinds,
}

impl Handover {
    /// What is done, for people.
    pub(crate) fn says(&self) -> String {
        let units = self.file.objects.iter().filter(|object| manager(object).is_some()).count();
        format!("apply {units} units of Flux, and hand {} objects to it", self.file.applied.len())
    }

    /// Hands everything over, and lets Flux run. It can be repeated until it is done.
    ///
    /// # Errors
    /// If the API server refuses something; Flux does not run then.
    pub(crate) async fn run(&self, kubernetes: &Kubernetes) -> Result<usize, Error> {
        for object in &self.file.objects {
            let id = ObjectRef::of(object).map_err(not_an_object)?.id;
            let mut body = object.clone();
            let status = body.as_object_mut().and_then(|body| body.remove("status"));
            if manager(object).is_some() {
                body["spec"]["suspend"] = true.into();
            }
            kubernetes.apply(&body, false).await?;
            if let (Some("Kustomization"), Some(status)) = (object["kind"].as_str(), status) {
                kubernetes.merge(&self.kinds, &id, "status", &json!({"status": status})).await?;
            }
        }
        let handed: Vec<bool> = futures::stream::iter(&self.file.applied)
            .map(|(id, manager)| self.hand(kubernetes, id, manager))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        for object in self.file.objects.iter().filter(|object| manager(object).is_some()) {
            if object["spec"]["suspend"] != true {
                let id = ObjectRef::of(object).map_err(not_an_object)?.id;
                kubernetes.merge(&self.kinds, &id, "", &json!({"spec": {"suspend": null}})).await?;
            }
        }
        Ok(handed.into_iter().filter(|handed| *handed).count())
    }

    /// Whether it had fields to hand over.
    async fn hand(&self, kubernetes: &Kubernetes, id: &ObjectId, manager: &str) -> Result<bool, Error> {
        if self.kinds.find(id).is_none() {
            return Err(Error::new(
                Code::Refused,
                format!(
                    "cannot hand {} to Flux: the API server does not serve its kind",
                    clean(&id.to_string())
                ),
            ));
        }
        kubernetes.edit(&self.kinds, id, |object| renamed(object, manager)).await
    }
}

/// The JSON patch that puts what we applied of an object into another manager's hands. None if there is nothing, or that
/// manager has applied already.
fn renamed(object: &Value, manager: &str) -> Option<Value> {
    let metadata = &object["metadata"];
    let mut entries = metadata["managedFields"].as_array()?.clone();
    let is = |entry: &Value, manager: &str| {
        entry["manager"] == manager
            && entry["operation"] == "Apply"
            && entry["subresource"].as_str().is_none()
    };
    if entries.iter().any(|entry| is(entry, manager)) {
        return None;
    }
    entries.iter_mut().find(|entry| is(entry, drift::MANAGER))?["manager"] = manager.into();
    Some(json!([
        {"op": "replace", "path": "/metadata/managedFields", "value": entries},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]},
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_we_applied_changes_hands_and_only_once() {
        let entry = |manager: &str, operation: &str| json!({"manager": manager, "operation": operation, "fieldsV1": {}});
        let status = json!({"manager": "flotilla", "operation": "Apply", "subresource": "status"});
        let object =
            |entries: &[Value]| json!({"metadata": {"resourceVersion": "7", "managedFields": entries}});
        let (ours, theirs) = (entry("flotilla", "Apply"), entry("kustomize-controller", "Apply"));
        let people = entry("kubectl-edit", "Update");
        let patch = renamed(&object(&[people.clone(), ours.clone(), status.clone()]), "kustomize-controller")
            .unwrap();
        assert_eq!(patch[0]["value"], json!([people, theirs, status]));
        assert_eq!(patch[1]["value"], "7", "who changes it meanwhile wins");
        for entries in [vec![people], vec![ours, theirs], vec![status], vec![]] {
            assert_eq!(renamed(&object(&entries), "kustomize-controller"), None, "{entries:?}");
        }
    }

    #[test]
    fn a_file_says_what_its_units_applied() {
        let unit = |kind: &str, entry: &str| {
            format!(
                "---\napiVersion: x/v1\nkind: {kind}\nmetadata: {{name: a, namespace: b}}\nstatus:\n  inventory:\n    entries:\n    - {{id: {entry}, v: v1}}\n"
            )
        };
        let text = unit("Kustomization", "web_a__ConfigMap") + &unit("HelmRelease", "web_b_apps_Deployment");
        let file = FluxFile::parse(&text).unwrap();
        assert_eq!(
            file.applied,
            [
                (ObjectId::new("", "ConfigMap", "web", "a"), "kustomize-controller"),
                (ObjectId::new("apps", "Deployment", "web", "b"), "helm-controller"),
            ]
        );
        for (text, why) in [
            (unit("Kustomization", "odd"), "the entry 'odd'"),
            (unit("GitRepository", "web_a__ConfigMap"), "no Kustomization"),
            ("a: [".to_owned(), ""),
            ("kind: Kustomization\n".to_owned(), ""),
        ] {
            assert!(FluxFile::parse(&text).unwrap_err().contains(why), "{text}");
        }
    }
}
