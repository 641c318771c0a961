//! Units: what one Flux `Kustomization` or `HelmRelease` is to us, an ordered set of objects with a policy.

mod account;
mod id;
pub mod release;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::authority::Authority;
use crate::capability;
use crate::digest::Digest;
use crate::health::HealthExprs;
use crate::ignore::IgnoreRule;
use crate::object::{Object, ObjectName, ObjectRef};
use crate::source::{SourceId, SourceKind};

pub use self::account::ServiceAccount;
pub use self::id::{InvalidUnitId, UnitId, UnitKind, UnitName};
pub use self::release::{Blob, ReleaseSpec};

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
    /// The hub leaves it out for the fleet repo's.
    #[serde(default = "of_the_fleet_repo", skip_serializing_if = "Authority::is_fleet")]
    pub authority: Authority,
    /// Of a root: a digest of where it is, by repository, branch and folder. What leaves together with another one may have left
    /// by mistake, and waits for an approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Digest>,
    /// The Secret of the unit's namespace whose keys open objects that SOPS encrypted (`spec.decryption`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decryption: Option<String>,
    /// It is installed as a Helm release, with records and hooks; without, a chart's objects are applied like others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Box<ReleaseSpec>>,
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

fn of_the_fleet_repo() -> Authority {
    Authority::Fleet
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
            release: None,
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
        let UnitSpec { render: None, release: None, sources, defines, templates, requires, .. } = &self.spec
        else {
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
        let release = self.spec.release.as_ref().map(|release| Box::new(release.definition()));
        let spec =
            UnitSpec { render: None, release, sources, defines, templates, requires, ..self.spec.clone() };
        Digest::of(&serde_json::to_vec(&spec).expect("a spec has a JSON text"))
    }

    pub fn spec_bytes(&self) -> &Bytes {
        &self.spec_bytes
    }

    /// Everything that has to be at hand to apply it: the bodies of its objects, and what its release is made of.
    pub fn bodies(&self) -> impl Iterator<Item = Blob> {
        let objects = self.objects.iter().map(|entry| Blob { digest: entry.digest, size: entry.size });
        objects.chain(self.spec.release.iter().flat_map(|release| release.blobs()))
    }
}

#[cfg(test)]
mod tests;
