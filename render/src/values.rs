//! The ConfigMaps and Secrets that units of a cluster define: where variables and values are taken from without asking the
//! cluster.
//!
//! Only what the cluster will have exactly as Git says counts. A Secret is read for what the hub itself has to know only, as a
//! HelmRelease: in objects the agent puts its values in, so that the hub neither keeps nor shows them.

use std::collections::{BTreeMap, HashMap};

use flotilla_core::template::{ValuesKind, ValuesRef};
use flotilla_core::{Authority, Object};

use crate::config;
use crate::content::Content;
use crate::footprint::Recorder;

/// Each is the first of its name.
pub(crate) struct ValuesInGit<'a> {
    /// Is told what is looked for.
    recorder: Option<&'a Recorder>,
    objects: HashMap<ValuesRef, Object>,
}

/// Annotations and labels by which what is applied may not be what Git says.
const SSA: &str = "kustomize.toolkit.fluxcd.io/ssa";
const RECONCILE: &str = "kustomize.toolkit.fluxcd.io/reconcile";

impl<'a> ValuesInGit<'a> {
    pub(crate) fn new(recorder: Option<&'a Recorder>) -> Self {
        Self { recorder, objects: HashMap::new() }
    }

    /// Takes those of a unit's output that it may have by its authority: what else it puts out, only the cluster knows
    /// whether it becomes of it. The first of a name counts.
    pub(crate) fn add(&mut self, content: &Content, authority: &Authority) {
        for object in &content.objects {
            let id = object.id();
            let kind = match id.kind.as_str() {
                "ConfigMap" => ValuesKind::ConfigMap,
                "Secret" => ValuesKind::Secret,
                _ => continue,
            };
            if id.group.is_empty() && authority.covers(&id.namespace) {
                let key = ValuesRef { kind, namespace: id.namespace.clone(), name: id.name.clone() };
                self.objects.entry(key).or_insert_with(|| object.clone());
            }
        }
    }

    /// What one holds; `None` where only the cluster can tell.
    pub(crate) fn get(&self, reference: &ValuesRef) -> Option<BTreeMap<String, String>> {
        let object = self.find(reference)?;
        if is_loose(object) { None } else { texts(object) }
    }

    fn find(&self, reference: &ValuesRef) -> Option<&Object> {
        self.recorder.inspect(|recorder| recorder.looked_for(reference));
        self.objects.get(reference)
    }

    /// The data that one has where the cluster has `there` of it: only what is really there is known of one that
    /// nobody here puts out.
    ///
    /// # Errors
    /// Where that is not known before it is in the cluster.
    pub(crate) fn applied(
        &self,
        reference: &ValuesRef,
        there: Option<BTreeMap<String, String>>,
    ) -> Result<Option<BTreeMap<String, String>>, String> {
        match self.find(reference) {
            Some(own) => applied(own, texts(own).unwrap_or_default(), there).map(Some),
            None => Ok(there),
        }
    }
}

/// What one holds; `None` where some of it is no text.
fn texts(object: &Object) -> Option<BTreeMap<String, String>> {
    config::data(&object.value()).into_iter().map(|(key, value)| Some((key, value.ok()?))).collect()
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
