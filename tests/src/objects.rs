//! Reading and changing objects of any kind, as people and other controllers would.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use anyhow::{Context, Result};
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client, Error, ResourceExt};
use serde_json::Value;

/// Which object: as its YAML names it. The plural of its kind is guessed, so no discovery is asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectRef {
    pub api_version: String,
    pub kind: String,
    /// `None` for objects of the whole cluster.
    pub namespace: Option<String>,
    pub name: String,
}

impl ObjectRef {
    /// An object in a namespace.
    pub fn new(api_version: &str, kind: &str, namespace: &str, name: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), ..Self::global(api_version, kind, name) }
    }

    /// An object of the whole cluster.
    pub fn global(api_version: &str, kind: &str, name: &str) -> Self {
        Self {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: None,
            name: name.to_owned(),
        }
    }

    /// What a manifest names.
    ///
    /// # Errors
    /// If it has no apiVersion, kind or name.
    pub fn of(manifest: &Value) -> Result<Self> {
        let text = |path: &str| manifest.pointer(path).and_then(Value::as_str).map(str::to_owned);
        let need = |path: &str| text(path).with_context(|| format!("the manifest has no {path}: {manifest}"));
        Ok(Self {
            api_version: need("/apiVersion")?,
            kind: need("/kind")?,
            namespace: text("/metadata/namespace"),
            name: need("/metadata/name")?,
        })
    }

    fn api(&self, client: &Client) -> Api<DynamicObject> {
        api(client, &self.api_version, &self.kind, self.namespace.as_deref())
    }

    /// The object, or `None` if the API server says that there is none.
    ///
    /// # Errors
    /// If the API server cannot say.
    pub async fn get(&self, client: &Client) -> Result<Option<DynamicObject>> {
        self.api(client).get_opt(&self.name).await.with_context(|| format!("get {self}"))
    }

    /// The object as JSON, `metadata` included.
    ///
    /// # Errors
    /// If it is not there.
    pub async fn json(&self, client: &Client) -> Result<Value> {
        let object = self.get(client).await?.with_context(|| format!("{self} is not there"))?;
        Ok(serde_json::to_value(object)?)
    }

    /// One field of the object by JSON pointer; [`Value::Null`] where there is no such field.
    ///
    /// # Errors
    /// If the object is not there.
    pub async fn field(&self, client: &Client, pointer: &str) -> Result<Value> {
        Ok(self.json(client).await?.pointer(pointer).cloned().unwrap_or(Value::Null))
    }

    /// Changes fields by JSON merge patch, as `kubectl edit` would: under that name in the managed fields.
    ///
    /// # Errors
    /// If it is not there or refuses the change.
    pub async fn edit(&self, client: &Client, patch: Value) -> Result<DynamicObject> {
        let params = PatchParams { field_manager: Some("kubectl-edit".into()), ..PatchParams::default() };
        let patched = self.api(client).patch(&self.name, &params, &Patch::Merge(patch)).await;
        patched.with_context(|| format!("edit {self}"))
    }

    /// Changes the status subresource by JSON merge patch, as a controller would.
    ///
    /// # Errors
    /// If it is not there or refuses the change.
    pub async fn edit_status(&self, client: &Client, status: Value) -> Result<DynamicObject> {
        let patch = Patch::Merge(serde_json::json!({"status": status}));
        let patched = self.api(client).patch_status(&self.name, &PatchParams::default(), &patch).await;
        patched.with_context(|| format!("edit the status of {self}"))
    }

    /// Deletes the object in the background. One that is not there is no error.
    ///
    /// # Errors
    /// If the API server refuses.
    pub async fn delete(&self, client: &Client) -> Result<()> {
        match self.api(client).delete(&self.name, &DeleteParams::background()).await {
            Ok(_) => Ok(()),
            Err(Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(error).with_context(|| format!("delete {self}")),
        }
    }
}

impl Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.api_version, self.kind)?;
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        f.write_str(&self.name)
    }
}

/// The API of a kind, in one namespace or in the whole cluster.
#[must_use]
pub fn api(client: &Client, api_version: &str, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// Server-Side Apply under the field manager `manager`, taking over fields of others.
///
/// # Errors
/// If the manifest names no object or the API server refuses it.
pub async fn apply(client: &Client, manager: &str, manifest: &Value) -> Result<DynamicObject> {
    let object = ObjectRef::of(manifest)?;
    let applied = object
        .api(client)
        .patch(&object.name, &PatchParams::apply(manager).force(), &Patch::Apply(manifest))
        .await;
    applied.with_context(|| format!("apply {object}"))
}

/// All objects of a kind, in one namespace or in all, by label selector (`""` for any).
///
/// # Errors
/// If the API server does not list them.
pub async fn list(
    client: &Client,
    api_version: &str,
    kind: &str,
    namespace: Option<&str>,
    labels: &str,
) -> Result<Vec<DynamicObject>> {
    let listed = api(client, api_version, kind, namespace).list(&ListParams::default().labels(labels)).await;
    Ok(listed.with_context(|| format!("list {kind} with labels {labels:?}"))?.items)
}

/// The resource versions of these objects: they change with every write, so equal maps mean that nobody wrote.
///
/// # Errors
/// If one of the objects is not there.
pub async fn resource_versions(
    client: &Client,
    objects: &[ObjectRef],
) -> Result<BTreeMap<ObjectRef, String>> {
    let mut versions = BTreeMap::new();
    for object in objects {
        let found = object.get(client).await?.with_context(|| format!("{object} is not there"))?;
        versions.insert(object.clone(), found.resource_version().unwrap_or_default());
    }
    Ok(versions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_manifest_names_its_object() {
        let cases = [
            (
                json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"}}),
                Some("apps/v1 Deployment shop/web"),
            ),
            (
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}),
                Some("v1 Namespace shop"),
            ),
            (json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {}}), None),
            (json!({"kind": "Namespace", "metadata": {"name": "shop"}}), None),
        ];
        for (manifest, expected) in cases {
            let named = ObjectRef::of(&manifest).ok().map(|object| object.to_string());
            assert_eq!(named.as_deref(), expected, "{manifest}");
        }
    }
}
