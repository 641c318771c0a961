//! What a chart says of itself, in `Chart.yaml`, `Chart.lock` and the files that stood in their place before.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// The fields that Helm knows; others are not kept.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metadata {
    #[serde(deserialize_with = "text", skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(deserialize_with = "text", skip_serializing_if = "String::is_empty")]
    home: String,
    #[serde(deserialize_with = "texts", skip_serializing_if = "Vec::is_empty")]
    sources: Vec<String>,
    #[serde(deserialize_with = "text", skip_serializing_if = "String::is_empty")]
    version: String,
    #[serde(deserialize_with = "text", skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(deserialize_with = "texts", skip_serializing_if = "Vec::is_empty")]
    keywords: Vec<String>,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    maintainers: Vec<Maintainer>,
    #[serde(deserialize_with = "text", skip_serializing_if = "String::is_empty")]
    icon: String,
    #[serde(deserialize_with = "text", skip_serializing_if = "String::is_empty")]
    api_version: String,
    #[serde(deserialize_with = "text", skip_serializing_if = "String::is_empty")]
    condition: String,
    #[serde(deserialize_with = "text", skip_serializing_if = "String::is_empty")]
    tags: String,
    #[serde(deserialize_with = "text", skip_serializing_if = "String::is_empty")]
    app_version: String,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_false")]
    deprecated: bool,
    #[serde(deserialize_with = "texts_by_name", skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    #[serde(deserialize_with = "text", skip_serializing_if = "String::is_empty")]
    kube_version: String,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    dependencies: Vec<Dependency>,
    #[serde(rename = "type", deserialize_with = "text", skip_serializing_if = "String::is_empty")]
    kind: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Maintainer {
    #[serde(deserialize_with = "text", skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(deserialize_with = "text", skip_serializing_if = "String::is_empty")]
    email: String,
    #[serde(deserialize_with = "text", skip_serializing_if = "String::is_empty")]
    url: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Dependency {
    #[serde(deserialize_with = "text")]
    name: String,
    #[serde(deserialize_with = "text", skip_serializing_if = "String::is_empty")]
    version: String,
    #[serde(deserialize_with = "text")]
    repository: String,
    #[serde(deserialize_with = "text", skip_serializing_if = "String::is_empty")]
    condition: String,
    #[serde(deserialize_with = "texts", skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_false")]
    enabled: bool,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    import_values: Vec<Value>,
    #[serde(deserialize_with = "text", skip_serializing_if = "String::is_empty")]
    alias: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Lock {
    #[serde(default = "no_time", deserialize_with = "time")]
    generated: String,
    #[serde(deserialize_with = "text")]
    digest: String,
    #[serde(deserialize_with = "or_default")]
    dependencies: Vec<Dependency>,
}

/// What Go has for a time that nobody set.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

fn no_time() -> String {
    NO_TIME.to_owned()
}

impl Metadata {
    /// Sets the version of the format where the chart says none, as Helm does. Whether it is the first one.
    pub(super) fn fill_api_version(&mut self) -> bool {
        if self.api_version.is_empty() {
            "v1".clone_into(&mut self.api_version);
        }
        self.api_version == "v1"
    }

    pub(super) fn take_dependencies(&mut self, of: Self) {
        if !of.dependencies.is_empty() {
            self.dependencies = of.dependencies;
        }
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

fn or_default<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// A text, or what Go's library makes one of: a number, a boolean.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Words(String),
    Truth(bool),
    Integer(i64),
    Number(f64),
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        match text {
            Text::Words(text) => text,
            Text::Truth(truth) => truth.to_string(),
            Text::Integer(number) => number.to_string(),
            Text::Number(number) => number.to_string(),
        }
    }
}

fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(Option::<Text>::deserialize(from)?.map(String::from).unwrap_or_default())
}

fn texts<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let texts: Option<Vec<Text>> = Option::deserialize(from)?;
    Ok(texts.unwrap_or_default().into_iter().map(String::from).collect())
}

fn texts_by_name<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    let texts: Option<BTreeMap<String, Option<Text>>> = Option::deserialize(from)?;
    let texts = texts.unwrap_or_default().into_iter();
    Ok(texts.map(|(name, text)| (name, text.map(String::from).unwrap_or_default())).collect())
}

/// Helm reads no record with another form of time.
fn time<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let written = text(from)?;
    if written.is_empty() {
        return Ok(no_time());
    }
    let time: jiff::Timestamp = written.parse().map_err(serde::de::Error::custom)?;
    Ok(time.to_string())
}
