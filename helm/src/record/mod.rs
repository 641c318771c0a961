//! Release records: one Secret for each revision of a release, as Helm 3 and 4 write and read them.
//!
//! ```text
//! Secret sh.helm.release.v1.NAME.vREVISION, type helm.sh/release.v1
//!   labels: name, owner=helm, status, version, createdAt or modifiedAt; more are the release's own
//!   data.release: base64(gzip(JSON)), and once more base64 as all data of a Secret
//! ```
//!
//! [`Record`] is the Secret, [`Release`] what it holds. What of a record is not ours to read (templates, values, fields of later
//! versions) is kept as its author wrote it, so that a record whose status changes loses nothing.

mod secret;

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

pub use secret::{Head, Record, secret_name};

use crate::gzip::{compress, inflate};
use crate::hook::Hook;

/// The most that is inflated of a record: a Secret holds 1 MiB, of which gzip makes up to 1 GiB.
pub const MAX_INFLATED: usize = 32 << 20;
/// What an API server takes as the data of a Secret.
pub const MAX_DATA: usize = 1 << 20;

/// A record that cannot be read or written. The text says nothing of its content, which may be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("it is no Secret of Helm's: {0}")]
    NotARecord(String),
    #[error("its data is no base64")]
    NotBase64,
    #[error("its data cannot be inflated: {0}")]
    NotGzip(String),
    #[error("it inflates to more than the {} MiB that are read", MAX_INFLATED >> 20)]
    TooLarge,
    #[error("{field} is wrong: {message}")]
    Wrong { field: &'static str, message: String },
    #[error("its labels say {labels}, its content {content}")]
    Mixed { labels: String, content: String },
    #[error(
        "the release record has {0} bytes, more than the {MAX_DATA} that a Secret holds: leave files that no template uses out of \
         the chart, by .helmignore"
    )]
    DoesNotFit(usize),
}

/// Where a revision of a release is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    Unknown,
    Deployed,
    Uninstalled,
    Superseded,
    Failed,
    Uninstalling,
    PendingInstall,
    PendingUpgrade,
    PendingRollback,
}

impl Status {
    const ALL: [Self; 9] = [
        Self::Unknown,
        Self::Deployed,
        Self::Uninstalled,
        Self::Superseded,
        Self::Failed,
        Self::Uninstalling,
        Self::PendingInstall,
        Self::PendingUpgrade,
        Self::PendingRollback,
    ];

    /// As Helm writes it, in records and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Deployed => "deployed",
            Self::Uninstalled => "uninstalled",
            Self::Superseded => "superseded",
            Self::Failed => "failed",
            Self::Uninstalling => "uninstalling",
            Self::PendingInstall => "pending-install",
            Self::PendingUpgrade => "pending-upgrade",
            Self::PendingRollback => "pending-rollback",
        }
    }

    /// The status that is written so; `None` for one that no Helm up to 4 writes.
    pub fn read(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// Whether somebody is at it, or died over it: Helm refuses an upgrade until it is another.
    pub fn is_pending(self) -> bool {
        matches!(self, Self::PendingInstall | Self::PendingUpgrade | Self::PendingRollback)
    }
}

/// JSON as somebody wrote it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json(Box<RawValue>);

impl Json {
    /// # Panics
    /// Never: what is a value has a text.
    pub fn of(value: &Value) -> Self {
        Self(RawValue::from_string(value.to_string()).expect("a value is JSON"))
    }

    pub fn text(&self) -> &str {
        self.0.get()
    }

    /// # Errors
    /// If it is nested deeper than 127.
    pub fn value(&self) -> Result<Value, serde_json::Error> {
        serde_json::from_str(self.text())
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

/// One revision of a release.
#[derive(Debug, Clone, PartialEq)]
pub struct Release {
    pub name: String,
    pub namespace: String,
    /// From 1 on; Helm calls it version.
    pub revision: u64,
    pub info: Info,
    /// The chart with its templates, values and files: what `chart.metadata`, `chart.templates` and so on say.
    pub chart: Json,
    /// The values that were set by whoever released, without the chart's own: an object, or null.
    pub config: Json,
    /// The objects that were applied, in Helm's order, each below a line `---`; hooks are not among them.
    pub manifest: String,
    pub hooks: Vec<Hook>,
    /// `ssa` or `csa`: how the objects were applied. Helm 3 does not say.
    pub apply_method: Option<String>,
    /// What else the record says.
    pub rest: BTreeMap<String, Json>,
}

/// What became of a revision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Info {
    #[serde(default, with = "crate::time", skip_serializing_if = "Option::is_none")]
    pub first_deployed: Option<Timestamp>,
    #[serde(default, with = "crate::time", skip_serializing_if = "Option::is_none")]
    pub last_deployed: Option<Timestamp>,
    #[serde(default, with = "crate::time", skip_serializing_if = "Option::is_none")]
    pub deleted: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    pub status: Status,
    /// The revision that this one went back to; 0 for none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rollback_revision: u64,
    /// What `NOTES.txt` rendered to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub notes: String,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// What a chart says of itself: the fields by which people and helm-controller tell one from another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ChartMetadata {
    pub name: String,
    pub version: String,
    #[serde(rename = "appVersion")]
    pub app_version: String,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Release {
    /// Reads what a record's `release` holds, after the base64 of all Secrets: again base64, then gzip. As Helm, takes one
    /// that was never compressed.
    ///
    /// # Errors
    /// If it is none, inflates to more than [`MAX_INFLATED`], or lacks what makes it a release.
    pub fn decode(data: &[u8]) -> Result<Self, RecordError> {
        let bytes = STANDARD.decode(data.trim_ascii()).map_err(|_| RecordError::NotBase64)?;
        if !bytes.starts_with(&[0x1f, 0x8b, 0x08]) {
            return Self::parse(&bytes);
        }
        Self::parse(&inflate(&bytes)?)
    }

    fn parse(json: &[u8]) -> Result<Self, RecordError> {
        let wrong = |field, error: serde_json::Error| RecordError::Wrong { field, message: told(&error) };
        let mut fields: BTreeMap<String, Json> =
            serde_json::from_slice(json).map_err(|error| wrong("the release", error))?;
        let mut take = |field: &'static str| fields.remove(field).filter(|json| json.text() != "null");
        fn read<T: for<'de> Deserialize<'de>>(
            field: &'static str,
            json: Option<Json>,
        ) -> Result<Option<T>, RecordError> {
            let read = json.map(|json| serde_json::from_str(json.text())).transpose();
            read.map_err(|error| RecordError::Wrong { field, message: told(&error) })
        }
        let missing = |field| RecordError::Wrong { field, message: "it is missing".to_owned() };
        let release = Self {
            name: read("name", take("name"))?.ok_or_else(|| missing("name"))?,
            namespace: read("namespace", take("namespace"))?.unwrap_or_default(),
            revision: read("version", take("version"))?.ok_or_else(|| missing("version"))?,
            info: read("info", take("info"))?.ok_or_else(|| missing("info"))?,
            chart: take("chart").ok_or_else(|| missing("chart"))?,
            config: take("config").unwrap_or_else(|| Json::of(&Value::Null)),
            manifest: read("manifest", take("manifest"))?.unwrap_or_default(),
            hooks: read("hooks", take("hooks"))?.unwrap_or_default(),
            apply_method: read("apply_method", take("apply_method"))?,
            rest: fields,
        };
        release.metadata()?;
        Ok(release)
    }

    /// What the chart says of itself.
    ///
    /// # Errors
    /// If the chart is none.
    pub fn metadata(&self) -> Result<ChartMetadata, RecordError> {
        metadata(&self.chart)
    }

    /// What [`Release::decode`] reads. Helm 3 and 4 read it too.
    ///
    /// # Errors
    /// If a Secret does not hold it.
    ///
    /// # Panics
    /// Never: writing into memory does not fail.
    pub fn encode(&self) -> Result<String, RecordError> {
        let json = serde_json::to_vec(&self.fields()).expect("texts and numbers are JSON");
        let text = STANDARD.encode(compress(&json));
        if text.len() > MAX_DATA { Err(RecordError::DoesNotFit(text.len())) } else { Ok(text) }
    }

    fn fields(&self) -> BTreeMap<&str, Field<'_>> {
        let mut fields: BTreeMap<&str, Field<'_>> =
            self.rest.iter().map(|(name, json)| (name.as_str(), Field::Json(json))).collect();
        fields.insert("name", Field::Text(&self.name));
        fields.insert("namespace", Field::Text(&self.namespace));
        fields.insert("version", Field::Number(self.revision));
        fields.insert("info", Field::Info(&self.info));
        fields.insert("chart", Field::Json(&self.chart));
        if self.config.text() != "null" {
            fields.insert("config", Field::Json(&self.config));
        }
        fields.insert("manifest", Field::Text(&self.manifest));
        if !self.hooks.is_empty() {
            fields.insert("hooks", Field::Hooks(&self.hooks));
        }
        if let Some(method) = &self.apply_method {
            fields.insert("apply_method", Field::Text(method));
        }
        fields
    }
}

/// What a chart says of itself.
///
/// # Errors
/// If it is none.
pub(crate) fn metadata(chart: &Json) -> Result<ChartMetadata, RecordError> {
    #[derive(Deserialize)]
    struct Chart {
        metadata: ChartMetadata,
    }
    let chart: Result<Chart, _> = serde_json::from_str(chart.text());
    chart
        .map(|chart| chart.metadata)
        .map_err(|error| RecordError::Wrong { field: "chart", message: told(&error) })
}

/// A field of a record on its way out.
#[derive(Serialize)]
#[serde(untagged)]
enum Field<'a> {
    Text(&'a str),
    Number(u64),
    Info(&'a Info),
    Hooks(&'a [Hook]),
    Json(&'a Json),
}

/// Where it is wrong, without what stands there: a record holds values that are secret.
pub(crate) fn told(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Data => "it has not the form that Helm gives it",
        serde_json::error::Category::Eof => "it ends too early",
        _ => "it is no JSON, or nested too deep",
    };
    format!("{what} (line {}, column {})", error.line(), error.column())
}
