//! A chart as a release record holds it: what it says of itself, its templates, files, default values and schema. Charts that it
//! depends on are not in a record, as Helm leaves them out.
//!
//! Source: `pkg/chart/v2` and its loader in Helm 4.

mod ignore;
mod metadata;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flotilla_yaml::Options;
use serde::Serialize;
use serde_json::{Map, Value};

pub use ignore::{Ignore, IgnoreError};
use metadata::{Lock, Metadata};

use crate::record::Json;

/// A chart that Helm would not load.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {why}")]
pub struct ChartError {
    pub file: &'static str,
    pub why: String,
}

/// A file of a chart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// From the chart's folder on.
    pub path: String,
    pub content: Vec<u8>,
}

#[derive(Serialize)]
struct Chart {
    metadata: Metadata,
    lock: Option<Lock>,
    templates: Option<Vec<Entry>>,
    values: Map<String, Value>,
    schema: Option<String>,
    files: Option<Vec<Entry>>,
}

#[derive(Serialize)]
struct Entry {
    name: String,
    /// In base64.
    data: String,
}

/// The chart of these files, of which none is [ignored](Ignore). `default_values` stand in for its own `values.yaml`.
///
/// # Errors
/// If `Chart.yaml` is missing, or a file that Helm reads is not what Helm takes it for.
pub fn chart(
    files: impl IntoIterator<Item = File>,
    default_values: Option<&Map<String, Value>>,
) -> Result<Json, ChartError> {
    let mut files: Vec<File> = files.into_iter().collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    for file in &mut files {
        if let Some(rest) = file.content.strip_prefix(b"\xef\xbb\xbf") {
            file.content = rest.to_vec();
        }
    }
    let find = |path: &str| files.iter().find(|file| file.path == path).map(|file| file.content.as_slice());
    let own = find("Chart.yaml")
        .ok_or_else(|| ChartError { file: "Chart.yaml", why: "there is none".to_owned() })?;
    let mut metadata: Metadata = read("Chart.yaml", own)?;
    let is_old = metadata.fill_api_version();
    // Helm reads the dependencies of old charts there, and those of others too, with a warning.
    if let Some(text) = find("requirements.yaml") {
        metadata.take_dependencies(read("requirements.yaml", text)?);
    }
    let mut lock = None;
    for name in ["Chart.lock", "requirements.lock"] {
        if let Some(text) = find(name) {
            lock = Some(read(name, text)?);
        }
    }
    let values = match (default_values, find("values.yaml")) {
        (Some(values), _) => values.clone(),
        (None, Some(text)) => match yaml("values.yaml", text)? {
            Value::Object(map) => map,
            Value::Null => Map::new(),
            _ => return Err(ChartError { file: "values.yaml", why: "is not a mapping".to_owned() }),
        },
        (None, None) => Map::new(),
    };
    let schema = find("values.schema.json").map(|schema| STANDARD.encode(schema));
    let (mut templates, mut others) = (Vec::new(), Vec::new());
    for file in &files {
        let entry = || Entry { name: file.path.clone(), data: STANDARD.encode(&file.content) };
        match file.path.as_str() {
            "Chart.yaml" | "Chart.lock" | "values.yaml" | "values.schema.json" => {}
            "requirements.yaml" | "requirements.lock" if !is_old => {}
            path if path.starts_with("charts/") && !path.ends_with(".prov") => {}
            path if path.starts_with("templates/") => templates.push(entry()),
            _ => others.push(entry()),
        }
    }
    // Go writes a list that was never filled as null.
    let list = |entries: Vec<Entry>| (!entries.is_empty()).then_some(entries);
    let (templates, files) = (list(templates), list(others));
    let chart = Chart { metadata, lock, templates, values, schema, files };
    Ok(Json::of(&serde_json::to_value(chart).expect("texts and numbers are JSON")))
}

fn read<T: for<'de> serde::Deserialize<'de>>(file: &'static str, text: &[u8]) -> Result<T, ChartError> {
    serde_json::from_value(yaml(file, text)?).map_err(|error| ChartError { file, why: error.to_string() })
}

/// As Helm, which takes the last of equal keys.
fn yaml(file: &'static str, text: &[u8]) -> Result<Value, ChartError> {
    let wrong = |why: String| ChartError { file, why };
    let text = std::str::from_utf8(text).map_err(|error| wrong(error.to_string()))?;
    let options = Options { last_key_wins: true, skip_comments: true, ..Options::default() };
    let first = flotilla_yaml::parse_first(text, &options).map_err(|error| wrong(error.to_string()))?;
    first.document.to_json_last_key().map_err(|error| wrong(error.message))
}

#[cfg(test)]
#[path = "chart_tests.rs"]
mod tests;
