//! The ConfigMaps that units of a cluster define: where variables and values are taken from without asking the cluster.
//!
//! Only what the cluster will have exactly as Git says counts. A Secret is never read at the hub: its values belong
//! into the objects that name it, and not into what the hub keeps and shows.

use std::collections::{BTreeMap, HashMap};

use flotilla_core::{Authority, Object};
use serde_json::Value;

use crate::content::Content;

/// By namespace and name.
#[derive(Default)]
pub(crate) struct ConfigMaps {
    objects: HashMap<(String, String), Object>,
}

/// Annotations and labels by which what is applied is not what Git says.
const LOOSE: [&str; 2] = ["kustomize.toolkit.fluxcd.io/ssa", "kustomize.toolkit.fluxcd.io/reconcile"];

impl ConfigMaps {
    /// Takes those of a unit's output that it may have by its authority: what else it puts out, only the cluster knows
    /// whether it becomes of it. The first of a name counts.
    pub(crate) fn add(&mut self, content: &Content, authority: &Authority) {
        for object in &content.objects {
            let id = object.id();
            if id.is("", "ConfigMap") && authority.covers(&id.namespace) {
                let key = (id.namespace.clone(), id.name.clone());
                self.objects.entry(key).or_insert_with(|| object.clone());
            }
        }
    }

    /// The data of a ConfigMap; `None` where only the cluster can tell.
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<BTreeMap<String, String>> {
        let object = self.objects.get(&(namespace.to_owned(), name.to_owned()))?;
        if is_loose(object) {
            return None;
        }
        let object = object.value();
        let Some(Value::Object(data)) = object.get("data") else { return Some(BTreeMap::new()) };
        data.iter().map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
    }
}

/// Whether only the cluster can tell what becomes of an object: it is a template, or not applied as it is.
pub(crate) fn is_loose(object: &Object) -> bool {
    let value = object.value();
    let loose = |field: &str| {
        let pairs = value.pointer(&format!("/metadata/{field}"));
        LOOSE.iter().any(|key| pairs.and_then(|pairs| pairs.get(key)).is_some())
    };
    object.is_template() || loose("annotations") || loose("labels")
}
