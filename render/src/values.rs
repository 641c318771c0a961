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

/// Annotations and labels by which what is applied may not be what Git says.
const SSA: &str = "kustomize.toolkit.fluxcd.io/ssa";
const RECONCILE: &str = "kustomize.toolkit.fluxcd.io/reconcile";

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
        let object = self.object(namespace, name)?;
        if is_loose(object) { None } else { texts(object) }
    }

    /// The data that a ConfigMap has where the cluster has `there` of it: only what is really there is known of one that
    /// nobody here puts out.
    ///
    /// # Errors
    /// Where that is not known before it is in the cluster.
    pub(crate) fn applied(
        &self,
        namespace: &str,
        name: &str,
        there: Option<BTreeMap<String, String>>,
    ) -> Result<Option<BTreeMap<String, String>>, String> {
        match self.object(namespace, name) {
            Some(own) => applied(own, texts(own).unwrap_or_default(), there).map(Some),
            None => Ok(there),
        }
    }

    fn object(&self, namespace: &str, name: &str) -> Option<&Object> {
        self.objects.get(&(namespace.to_owned(), name.to_owned()))
    }
}

/// The data of a ConfigMap; `None` where some of it is no text.
fn texts(object: &Object) -> Option<BTreeMap<String, String>> {
    let object = object.value();
    let Some(Value::Object(data)) = object.get("data") else { return Some(BTreeMap::new()) };
    data.iter().map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// Whether only the cluster can tell what becomes of an object: it is a template, or not applied as it is.
pub(crate) fn is_loose(object: &Object) -> bool {
    Manner::of(object) != Manner::AsInGit
}

/// How the cluster comes to have an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    AsInGit,
    /// With what others add.
    Merged,
    /// Only if there is none.
    Once,
    /// Its content is put together in the cluster, or nobody applies it.
    Elsewhere,
}

impl Manner {
    /// As agents read it: an annotation, else a label.
    fn of(object: &Object) -> Self {
        let value = object.value();
        let word = |key: &str| {
            let of = |field: &str| value["metadata"][field][key].as_str().filter(|text| !text.is_empty());
            of("annotations").or_else(|| of("labels")).unwrap_or_default().to_ascii_lowercase()
        };
        match word(SSA).as_str() {
            _ if object.is_template() || word(RECONCILE) == "disabled" => Self::Elsewhere,
            "merge" => Self::Merged,
            "ifnotpresent" => Self::Once,
            "ignore" => Self::Elsewhere,
            _ => Self::AsInGit,
        }
    }
}

/// What the cluster has of a ConfigMap after `own` is applied, where it had `there` before.
///
/// # Errors
/// Where that is not known before it is in the cluster.
pub(crate) fn applied<T>(
    own: &Object,
    own_data: BTreeMap<String, T>,
    there: Option<BTreeMap<String, T>>,
) -> Result<BTreeMap<String, T>, String> {
    match (Manner::of(own), there) {
        (Manner::AsInGit, _) | (Manner::Merged | Manner::Once, None) => Ok(own_data),
        (Manner::Merged, Some(mut there)) => {
            there.extend(own_data);
            Ok(there)
        }
        (Manner::Once | Manner::Elsewhere, Some(there)) => Ok(there),
        (Manner::Elsewhere, None) => {
            Err("gets its content in the cluster, where it is not applied yet".to_owned())
        }
    }
}
