//! Units: what one Flux `Kustomization` or `HelmRelease` is to us, an ordered set of objects with a policy.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::authority::Authority;
use crate::capability;
use crate::digest::Digest;
use crate::health::HealthExprs;
use crate::ignore::IgnoreRule;
use crate::object::{Object, ObjectName, ObjectRef};
use crate::source::{SourceId, SourceKind};

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
pub const ROOT_HOME: &str = "flux-system";

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

/// What happens to a unit's objects when the unit itself goes. As Flux's `spec.deletionPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum DeletionPolicy {
    /// Delete if `prune` is set, else leave them.
    #[default]
    MirrorPrune,
    Delete,
    /// Delete, and wait until they are gone.
    WaitForTermination,
    Orphan,
}

/// What the agent does about drift.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DriftMode {
    #[default]
    Correct,
    Report,
    Ignore,
}

/// An object outside the unit's own list whose health the unit waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheck {
    pub api_version: String,
    pub kind: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    pub name: String,
}

impl HealthCheck {
    /// Of the Flux object that stands for a unit.
    pub fn of(unit: &UnitId) -> Self {
        let (api_version, kind) = match unit.kind {
            UnitKind::HelmRelease => ("helm.toolkit.fluxcd.io/v2", "HelmRelease"),
            UnitKind::Root | UnitKind::Kustomization | UnitKind::Other => {
                ("kustomize.toolkit.fluxcd.io/v1", "Kustomization")
            }
        };
        Self {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: unit.namespace.clone(),
            name: unit.name.clone(),
        }
    }
}

/// A service account of the cluster, as text `NAMESPACE/NAME`. A child unit that names none has its parent's, which
/// may be one of another namespace than its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceAccount {
    pub namespace: String,
    pub name: String,
}

impl ServiceAccount {
    /// The name under which the API server knows it.
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
    }
}

impl fmt::Display for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for ServiceAccount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err(format!("'{text}' names no service account: expected NAMESPACE/NAME")),
        }
    }
}

impl Serialize for ServiceAccount {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ServiceAccount {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A unit's policy: everything but its objects. Its JSON text is part of the unit's digest, so a field that
/// is at its default is left out, and a new field changes no digest until somebody uses it. Readers ignore
/// fields that they do not know; a new field that restricts what is done gets a name in [`crate::capability`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnitSpec {
    /// The unit that rendered this one's definition; none for the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<UnitId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<UnitId>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub prune: bool,
    /// Ready only when all objects, child units included, are healthy.
    #[serde(default, skip_serializing_if = "is_false")]
    pub wait: bool,
    /// Recreate an object whose change the API server refuses as immutable.
    #[serde(default, skip_serializing_if = "is_false")]
    pub force: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub suspend: bool,
    /// How long health is waited for, in seconds.
    pub timeout: u32,
    /// How often the unit is compared with the cluster when no event says so, in seconds.
    pub interval: u32,
    /// The longest pause between attempts after a failure, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_interval: Option<u32>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub deletion_policy: DeletionPolicy,
    #[serde(default, skip_serializing_if = "is_default")]
    pub drift: DriftMode,
    /// Whom the agent impersonates; `None`: itself. Inheritance and defaults are already in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<ServiceAccount>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub health_checks: Vec<HealthCheck>,
    /// How the health of some kinds is told, over what is known of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub health_check_exprs: Vec<HealthExprs>,
    /// For some dependencies, what makes them ready: an expression over `dep` and `self`, both in Flux's shape.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ready_exprs: BTreeMap<UnitId, String>,
    /// Labels of the Flux object that defines the unit, which expressions may read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Fields that are left to others once their object is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<IgnoreRule>,
    /// The author allows this unit to fall to zero objects (`flotilla.dev/allow-empty`).
    #[serde(default, skip_serializing_if = "is_false")]
    pub allow_empty: bool,
    /// For a Helm release: what helm rendered. Whoever runs it says so, so that a hub that lost its renders does not put
    /// others in their place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub render: Option<Render>,
    /// Sources that the unit waits for beside its objects: those that it defines where it waits, and those that its
    /// health checks name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceState>,
    /// Kinds of sources that the unit defines, and where: its account has to be allowed to create them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub defines: Vec<SourceKindIn>,
    /// Which of the unit's objects are templates, as positions in its list, rising: what their bodies say of that does
    /// not count. It follows from the objects, so [`UnitManifest::new`] sets it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub templates: Vec<u32>,
    /// Whose word the unit's output is: which of two units an object belongs to, and whose objects may have moved to it.
    #[serde(default, skip_serializing_if = "Authority::is_fleet")]
    pub authority: Authority,
    /// Of a root: a digest of where it is, by repository, branch and folder. What leaves together with another one may have left
    /// by mistake, and waits for an approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Digest>,
    /// The Secret of the unit's namespace whose keys open objects that SOPS encrypted (`spec.decryption`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decryption: Option<String>,
    /// What whoever applies the unit has to know of, as [`crate::capability`] names it. It follows from the other fields, so
    /// [`UnitManifest::new`] sets it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub requires: BTreeSet<String>,
}

/// One run of helm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Render {
    /// Of what it was asked: the same key may be answered otherwise another time.
    pub key: Digest,
    /// Of the manifests that it gave.
    pub content: Digest,
}

/// What the hub knows of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceState {
    pub source: SourceId,
    /// There is content of it to be used.
    pub ready: bool,
}

/// A kind of sources in a namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SourceKindIn {
    pub kind: SourceKind,
    pub namespace: String,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Default for UnitSpec {
    fn default() -> Self {
        Self {
            parent: None,
            depends_on: Vec::new(),
            prune: true,
            wait: false,
            force: false,
            suspend: false,
            timeout: 300,
            interval: 600,
            retry_interval: None,
            deletion_policy: DeletionPolicy::default(),
            drift: DriftMode::default(),
            service_account: None,
            health_checks: Vec::new(),
            health_check_exprs: Vec::new(),
            ready_exprs: BTreeMap::new(),
            labels: BTreeMap::new(),
            ignore: Vec::new(),
            allow_empty: false,
            render: None,
            sources: Vec::new(),
            defines: Vec::new(),
            templates: Vec::new(),
            authority: Authority::Fleet,
            place: None,
            decryption: None,
            requires: BTreeSet::new(),
        }
    }
}

/// One line of a unit's manifest: which object, with which content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectEntry {
    pub object: ObjectRef,
    pub digest: Digest,
    /// Length of the body in bytes.
    pub size: u32,
    /// The cluster completes it before it is applied: see [`crate::template`]. Travels in [`UnitSpec::templates`].
    pub template: bool,
}

impl From<&Object> for ObjectEntry {
    fn from(object: &Object) -> Self {
        Self {
            object: object.reference().clone(),
            digest: object.digest(),
            size: object.body().len() as u32,
            template: object.is_template(),
        }
    }
}

/// A unit without the bodies of its objects: what travels first and what the agent holds in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitManifest {
    pub id: UnitId,
    pub spec: UnitSpec,
    /// The JSON text of `spec` that the digest was taken of, kept as it came: a newer hub's spec may have
    /// fields that this reader does not know.
    spec_bytes: Bytes,
    pub objects: Vec<ObjectEntry>,
    digest: Digest,
}

impl UnitManifest {
    pub fn new(id: UnitId, mut spec: UnitSpec, objects: Vec<ObjectEntry>) -> Self {
        let templates = objects.iter().enumerate().filter(|(_, entry)| entry.template);
        spec.templates = templates.map(|(at, _)| at as u32).collect();
        spec.requires = capability::required_by(&spec);
        let spec_bytes = Bytes::from(serde_json::to_vec(&spec).expect("a spec has a JSON text"));
        let digest = Self::digest_of(&id, &spec_bytes, &objects);
        Self { id, spec, spec_bytes, objects, digest }
    }

    /// Takes a manifest from the wire or the disk; its digest is computed, not believed. Which objects are templates is
    /// taken from the spec.
    pub fn from_parts(
        id: UnitId,
        spec_bytes: Bytes,
        objects: Vec<ObjectEntry>,
    ) -> Result<Self, serde_json::Error> {
        let digest = Self::digest_of(&id, &spec_bytes, &objects);
        Self::from_digested(id, spec_bytes, objects, digest)
    }

    /// As [`UnitManifest::from_parts`], of parts whose [digest](UnitManifest::digest_of) is known.
    ///
    /// # Errors
    /// Where the policy cannot be read.
    pub fn from_digested(
        id: UnitId,
        spec_bytes: Bytes,
        mut objects: Vec<ObjectEntry>,
        digest: Digest,
    ) -> Result<Self, serde_json::Error> {
        let spec: UnitSpec = serde_json::from_slice(&spec_bytes)?;
        let templates: BTreeSet<usize> = spec.templates.iter().map(|at| *at as usize).collect();
        for (at, entry) in objects.iter_mut().enumerate() {
            entry.template = templates.contains(&at);
        }
        Ok(Self { id, spec, spec_bytes, objects, digest })
    }

    /// The digest of a unit, whose policy this version may not be able to read.
    pub fn digest_of(id: &UnitId, spec_bytes: &[u8], objects: &[ObjectEntry]) -> Digest {
        let id = id.to_string();
        let head = [id.as_bytes(), spec_bytes];
        Digest::of_parts(head.into_iter().chain(objects.iter().flat_map(|entry| {
            let ObjectName { group, kind, namespace, name } = &*entry.object.id;
            let texts: [&str; 5] = [group, &entry.object.version, kind, namespace, name];
            texts.map(str::as_bytes).into_iter().chain([&entry.digest.as_bytes()[..]])
        })))
    }

    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The digest of the policy alone: a unit's definition, apart from its content and what follows from that.
    pub fn spec_digest(&self) -> Digest {
        let UnitSpec { render: None, sources, defines, templates, requires, .. } = &self.spec else {
            return self.definition();
        };
        if sources.is_empty() && defines.is_empty() && templates.is_empty() && requires.is_empty() {
            Digest::of(&self.spec_bytes)
        } else {
            self.definition()
        }
    }

    fn definition(&self) -> Digest {
        // Written as a spec without these fields is, so that it is the same definition where there are none.
        let (sources, defines, templates) = (Vec::new(), Vec::new(), Vec::new());
        let requires = BTreeSet::new();
        let spec = UnitSpec { render: None, sources, defines, templates, requires, ..self.spec.clone() };
        Digest::of(&serde_json::to_vec(&spec).expect("a spec has a JSON text"))
    }

    pub fn spec_bytes(&self) -> &Bytes {
        &self.spec_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn unit_ids_read_back() {
        for id in ["root", "kustomization/flux-system/apps", "helmrelease/web/podinfo"] {
            assert_eq!(id.parse::<UnitId>().unwrap().to_string(), id);
        }
        assert_eq!("flux-system/apps".parse(), Ok(UnitId::kustomization("flux-system", "apps")));
        for bad in ["", "apps", "x/y/z", "kustomization//x", "a/b/c/d"] {
            assert!(bad.parse::<UnitId>().is_err(), "{bad}");
        }
        for (text, kind) in [
            ("tenant/a/b", Some(UnitKind::Other)),
            ("helmrelease/a/b", Some(UnitKind::HelmRelease)),
            ("root", Some(UnitKind::Root)),
            ("kustomization//x", None),
            ("Tenant/a/b", None),
            ("tenant/a", Some(UnitKind::Kustomization)),
            ("tenant/a/b/c", None),
        ] {
            let read = UnitId::read_any(text).ok();
            assert_eq!(read.as_ref().map(|id| id.kind), kind, "{text}");
            assert!(read.is_none_or(|id| id.to_string().ends_with(text)));
        }
    }

    #[test]
    fn service_accounts_read_back() {
        let account: ServiceAccount = "team/deployer".parse().unwrap();
        assert_eq!((account.namespace.as_str(), account.to_string().as_str()), ("team", "team/deployer"));
        for bad in ["deployer", "/deployer", "team/"] {
            assert!(bad.parse::<ServiceAccount>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_digest_covers_policy_and_content_and_survives_unknown_fields() {
        let object =
            Object::new(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}}))
                .unwrap();
        let id = UnitId::kustomization("flux-system", "apps");
        let unit = UnitManifest::new(id.clone(), UnitSpec::default(), vec![(&object).into()]);
        let waiting = UnitSpec { wait: true, ..UnitSpec::default() };
        assert_ne!(unit.digest(), UnitManifest::new(id.clone(), waiting, vec![(&object).into()]).digest());
        assert_ne!(unit.digest(), UnitManifest::new(id.clone(), UnitSpec::default(), vec![]).digest());

        let rendered = |key: &[u8]| {
            let render = Render { key: Digest::of(key), content: Digest::of(b"manifests") };
            let spec = UnitSpec { render: Some(render), ..UnitSpec::default() };
            UnitManifest::new(id.clone(), spec, vec![])
        };
        assert_ne!(rendered(b"a").digest(), rendered(b"b").digest());
        assert_eq!(rendered(b"a").spec_digest(), rendered(b"b").spec_digest(), "no other definition");

        let template = ObjectEntry { template: true, ..(&object).into() };
        let completed =
            UnitManifest::new(id.clone(), UnitSpec::default(), vec![(&object).into(), template.clone()]);
        assert_eq!(completed.spec.templates, [1]);
        assert_eq!(completed.spec_digest(), unit.spec_digest(), "no other definition");
        let plain = vec![(&object).into(), ObjectEntry { template: false, ..template.clone() }];
        let read = UnitManifest::from_parts(id.clone(), completed.spec_bytes().clone(), plain).unwrap();
        assert_eq!(read, completed, "the mark travels in the spec");

        let newer = Bytes::from_static(br#"{"timeout":300,"interval":600,"fromTheFuture":{"x":1}}"#);
        let read = UnitManifest::from_parts(id.clone(), newer.clone(), vec![]).unwrap();
        let again = UnitManifest::from_parts(id, read.spec_bytes().clone(), vec![]).unwrap();
        assert_eq!(again.digest(), read.digest());
        assert_eq!(read.spec.timeout, 300);
    }
}
