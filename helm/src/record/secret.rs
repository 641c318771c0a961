//! The Secret of a record.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::{RecordError, Release, Status};

const TYPE: &str = "helm.sh/release.v1";
const OWNER: &str = "helm";
const PREFIX: &str = "sh.helm.release.v1";
/// The labels that Helm sets itself: they are no labels of the release.
const SYSTEM: [&str; 6] = ["name", "owner", "status", "version", "createdAt", "modifiedAt"];

/// The name of the Secret that holds a revision.
pub fn secret_name(release: &str, revision: u64) -> String {
    format!("{PREFIX}.{release}.v{revision}")
}

/// What a record's labels say, for which nobody has to fetch or inflate it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub name: String,
    pub revision: u64,
    pub status: Status,
}

impl Head {
    /// # Errors
    /// If these are no labels of a record.
    pub fn of_labels(labels: &BTreeMap<String, String>) -> Result<Self, RecordError> {
        let label = |name: &str| labels.get(name).map_or("", String::as_str);
        let wrong = |name: &str| RecordError::NotARecord(format!("its label {name} is '{}'", label(name)));
        if label("owner") != OWNER {
            return Err(wrong("owner"));
        }
        let revision = label("version").parse().ok().filter(|revision| *revision > 0);
        Ok(Self {
            name: Some(label("name"))
                .filter(|name| !name.is_empty())
                .ok_or_else(|| wrong("name"))?
                .to_owned(),
            revision: revision.ok_or_else(|| wrong("version"))?,
            status: Status::read(label("status")).ok_or_else(|| wrong("status"))?,
        })
    }
}

/// A release and the Secret that holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub release: Release,
    /// The namespace of the Secret, which a `storageNamespace` sets apart from the release's.
    pub storage_namespace: String,
    /// The labels of the release itself, which Helm takes over from one revision to the next.
    pub labels: BTreeMap<String, String>,
    /// Helm drops them where it writes the record again.
    pub annotations: BTreeMap<String, String>,
    /// What the API server gave it; a write with it fails where somebody else wrote in between.
    pub resource_version: Option<String>,
}

#[derive(Deserialize)]
struct Secret {
    #[serde(default, rename = "type")]
    kind: String,
    metadata: Metadata,
    #[serde(default, deserialize_with = "or_default")]
    data: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default, deserialize_with = "or_default")]
    labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "or_default")]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    resource_version: Option<String>,
}

fn or_default<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Record {
    /// Reads a Secret as the API server gives it.
    ///
    /// # Errors
    /// If it is no record, or its name, labels and content speak of different releases.
    pub fn of_secret(json: &[u8]) -> Result<Self, RecordError> {
        let secret: Secret =
            serde_json::from_slice(json).map_err(|error| RecordError::NotARecord(super::told(&error)))?;
        let Metadata { name, namespace, mut labels, annotations, resource_version } = secret.metadata;
        if secret.kind != TYPE {
            return Err(RecordError::NotARecord(format!("its type is '{}', not {TYPE}", secret.kind)));
        }
        let head = Head::of_labels(&labels)?;
        let data = secret.data.get("release").map(|data| STANDARD.decode(data));
        let data = data
            .ok_or_else(|| RecordError::NotARecord("it has no data.release".to_owned()))?
            .map_err(|_| RecordError::NotBase64)?;
        let release = Release::decode(&data)?;
        let content =
            Head { name: release.name.clone(), revision: release.revision, status: release.info.status };
        if head != content || name != secret_name(&content.name, content.revision) {
            let told = |head: &Head| format!("{} v{} {}", head.name, head.revision, head.status.as_str());
            return Err(RecordError::Mixed {
                labels: format!("{} (as {name})", told(&head)),
                content: told(&content),
            });
        }
        labels.retain(|label, _| !SYSTEM.contains(&label.as_str()));
        Ok(Self { release, storage_namespace: namespace, labels, annotations, resource_version })
    }

    /// The Secret to write: a new one where no resource version is known, else what takes the place of the one that was read.
    /// `now` goes into the label that says when.
    ///
    /// # Errors
    /// If a Secret does not hold it.
    pub fn to_secret(&self, now: Timestamp) -> Result<Value, RecordError> {
        let Self { release, storage_namespace, annotations, resource_version, .. } = self;
        let when = if resource_version.is_some() { "modifiedAt" } else { "createdAt" };
        let mut labels = self.labels.clone();
        labels.extend(
            [
                ("name", release.name.clone()),
                ("owner", OWNER.to_owned()),
                ("status", release.info.status.as_str().to_owned()),
                ("version", release.revision.to_string()),
                (when, now.as_second().to_string()),
            ]
            .map(|(label, value)| (label.to_owned(), value)),
        );
        let mut metadata = json!({
            "name": secret_name(&release.name, release.revision),
            "namespace": storage_namespace,
            "labels": labels,
        });
        if !annotations.is_empty() {
            metadata["annotations"] = json!(annotations);
        }
        if let Some(version) = resource_version {
            metadata["resourceVersion"] = json!(version);
        }
        Ok(json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "type": TYPE,
            "metadata": metadata,
            "data": {"release": STANDARD.encode(release.encode()?)},
        }))
    }
}
