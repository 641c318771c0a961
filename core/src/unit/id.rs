//! The name of a unit within its cluster.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What a unit was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnitKind {
    /// The cluster's root path itself.
    Root,
    Kustomization,
    HelmRelease,
    /// Of another version; the whole text of the id is its name. Such a unit is held.
    Other,
}

/// The name of a unit within its cluster. A pointer: clones share their text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitId(Arc<UnitName>);

/// The parts of a [`UnitId`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitName {
    pub kind: UnitKind,
    /// Empty for the root.
    pub namespace: String,
    /// Empty for the root.
    pub name: String,
}

impl Deref for UnitId {
    type Target = UnitName;

    fn deref(&self) -> &UnitName {
        &self.0
    }
}

/// The namespace that the root unit is at home in, as the Kustomization that `flux bootstrap` makes of it.
const ROOT_HOME: &str = "flux-system";

impl UnitId {
    pub fn new(kind: UnitKind, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self(Arc::new(UnitName { kind, namespace: namespace.into(), name: name.into() }))
    }

    pub fn root() -> Self {
        Self::new(UnitKind::Root, "", "")
    }

    pub fn kustomization(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self::new(UnitKind::Kustomization, namespace, name)
    }

    pub fn helm_release(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self::new(UnitKind::HelmRelease, namespace, name)
    }

    /// Reads an id that may be of another version: one of a kind that this version does not know is [`UnitKind::Other`].
    ///
    /// # Errors
    /// Where no version writes such an id: it is `KIND/NAMESPACE/NAME`, and the kind a word in lower case.
    pub fn read_any(text: &str) -> Result<Self, InvalidUnitId> {
        text.parse().or_else(|error| {
            let parts: Vec<&str> = text.split('/').collect();
            let [kind, namespace, name] = parts[..] else { return Err(error) };
            let is_word = !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_lowercase());
            let is_known = matches!(kind, "root" | "kustomization" | "helmrelease");
            let is_id =
                is_word && !is_known && !namespace.is_empty() && !name.is_empty() && text.len() <= 512;
            if is_id { Ok(Self::new(UnitKind::Other, "", text)) } else { Err(error) }
        })
    }

    /// The namespace of what it names: its account, Secrets, ConfigMaps, sources.
    pub fn home(&self) -> &str {
        if self.kind == UnitKind::Root { ROOT_HOME } else { &self.namespace }
    }
}

/// `root`, `kustomization/NAMESPACE/NAME`, `helmrelease/NAMESPACE/NAME`.
impl fmt::Display for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            UnitKind::Root => f.write_str("root"),
            UnitKind::Kustomization => write!(f, "kustomization/{}/{}", self.namespace, self.name),
            UnitKind::HelmRelease => write!(f, "helmrelease/{}/{}", self.namespace, self.name),
            UnitKind::Other => f.write_str(&self.name),
        }
    }
}

impl fmt::Debug for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that names no unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' names no unit: expected root, [kustomization/]NAMESPACE/NAME or helmrelease/NAMESPACE/NAME")]
pub struct InvalidUnitId(String);

impl FromStr for UnitId {
    type Err = InvalidUnitId;

    fn from_str(text: &str) -> Result<Self, InvalidUnitId> {
        let parts: Vec<&str> = text.split('/').collect();
        let (kind, namespace, name) = match parts[..] {
            ["root"] => return Ok(Self::root()),
            [namespace, name] => (UnitKind::Kustomization, namespace, name),
            ["kustomization", namespace, name] => (UnitKind::Kustomization, namespace, name),
            ["helmrelease", namespace, name] => (UnitKind::HelmRelease, namespace, name),
            _ => return Err(InvalidUnitId(text.to_owned())),
        };
        if namespace.is_empty() || name.is_empty() {
            return Err(InvalidUnitId(text.to_owned()));
        }
        Ok(Self::new(kind, namespace, name))
    }
}

impl Serialize for UnitId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UnitId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
