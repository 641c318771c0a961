//! From a release, its chart's source and what the cluster is given, to what helm is asked.

use std::collections::BTreeSet;

use flotilla_core::Digest;
use flotilla_kustomize::files::{Files, Kind, ReadError, TreePath};
use flotilla_yaml::Options;
use serde_json::{Map, Value};

use super::release::{Release, ValuesFrom};
use super::request::{Capabilities, ChartFiles, Owner, TemplateRequest};
use super::values::{self, Values};
use crate::config;
use crate::encrypted::is_encrypted_value;
use crate::source::Artifact;

/// What `valuesFrom` and the like find under a name.
pub(crate) enum Config {
    Found(config::Data),
    /// Neither what is rendered for the cluster nor the hub has it. The cluster may.
    NotHere,
    /// It may be there, and cannot be read.
    Unknown(String),
    /// Nobody has it, the cluster included.
    Absent,
    /// The cluster has this Secret, with these keys; what is under them is known only there.
    Keys(BTreeSet<String>),
}

/// What is to be done for a release.
pub(crate) enum Planned {
    Request(Box<TemplateRequest>),
    /// It takes values from what is not here, or not yet: which, and whether it would do without.
    Missing {
        what: String,
        optional: bool,
    },
    /// It is Flux itself, by the name of its chart.
    OfFlux(&'static str),
    /// It is wrong: why, and the field.
    Wrong(String, &'static str),
}

/// The charts that install Flux, as the folders that they are packed in are named.
const OF_FLUX: [&str; 3] = ["flux-operator", "flux-instance", "flux2"];

/// Plans one release. `config` looks up what an entry of `valuesFrom` names in the release's own namespace.
///
/// # Errors
/// Where the chart's files cannot be read.
pub(crate) fn plan(
    release: &Release,
    artifact: &Artifact,
    capabilities: &Capabilities,
    owner: Owner,
    config: &dyn Fn(&ValuesFrom) -> Config,
) -> Result<Planned, ReadError> {
    let files = &*artifact.files;
    let Some((path, digest)) = chart_in(files, &release.chart)? else {
        let message = format!("there is no Chart.yaml in {}", release.chart);
        return Ok(Planned::Wrong(message, "spec.chart"));
    };
    if let Some(own) = OF_FLUX.into_iter().find(|name| path.as_str().rsplit('/').next() == Some(name)) {
        return Ok(Planned::OfFlux(own));
    }
    let base = if release.chart == TreePath::root() { &path } else { &TreePath::root() };
    let default_values = match default_values(release, files, base)? {
        Ok(values) => values,
        Err(message) => return Ok(Planned::Wrong(message, "spec.chart.spec.valuesFiles")),
    };
    let mut all = Values::new(release.values.clone());
    for from in &release.values_from {
        match take(&mut all, release, from, config) {
            Ok(()) => {}
            Err(Refused::NotHere(what)) => {
                return Ok(Planned::Missing { what, optional: from.optional });
            }
            Err(Refused::Wrong(what)) => return Ok(Planned::Wrong(what, "spec.valuesFrom")),
        }
    }
    let request = TemplateRequest {
        owner,
        chart: ChartFiles { files: artifact.files.clone(), path, digest, default_values },
        name: release.name.clone(),
        namespace: release.namespace.clone(),
        values: all.finish(),
        capabilities: capabilities.clone(),
        crds: release.crds != super::release::Crds::Skip,
        no_hooks: release.no_hooks,
        skip_schema: release.skip_schema,
        again: release.again.clone(),
        without: Default::default(),
        from_secrets: release.from_secrets || release.values_from.iter().any(|from| from.secret),
    };
    Ok(Planned::Request(Box::new(request)))
}

/// The folder of the chart: `at`, or the only folder in it, as archives of charts have it. With the digest of its
/// content.
fn chart_in(files: &dyn Files, at: &TreePath) -> Result<Option<(TreePath, Digest)>, ReadError> {
    let Some(entry) = files.entry(at)?.filter(|entry| entry.kind == Kind::Folder) else { return Ok(None) };
    let has_chart = |folder: &TreePath| -> Result<bool, ReadError> {
        let Ok(file) = folder.join("Chart.yaml") else { return Ok(false) };
        Ok(files.entry(&file)?.is_some_and(|entry| entry.kind == Kind::File))
    };
    if has_chart(at)? {
        return Ok(Some((at.clone(), Digest::of(&entry.id.0))));
    }
    let listed = files.list(at)?;
    let mut folders = listed.into_iter().filter(|(_, entry)| entry.kind == Kind::Folder);
    if let (Some((name, entry)), None) = (folders.next(), folders.next())
        && let Ok(folder) = at.join(&name)
        && has_chart(&folder)?
    {
        return Ok(Some((folder, Digest::of(&entry.id.0))));
    }
    Ok(None)
}

/// What stands in for the chart's own `values.yaml`.
fn default_values(
    release: &Release,
    files: &dyn Files,
    base: &TreePath,
) -> Result<Result<Option<Map<String, Value>>, String>, ReadError> {
    let mut all = Map::new();
    for name in &release.values_files {
        let path = match base.join(name) {
            Ok(path) => path,
            Err(error) => return Ok(Err(error.to_string())),
        };
        match files.entry(&path)? {
            Some(entry) if entry.kind == Kind::File => {}
            _ if release.ignore_missing_values_files => continue,
            _ => return Ok(Err(format!("there is no file {path} in the chart's source"))),
        }
        let content = files.read(&path)?;
        match flotilla_yaml::decode(&content)
            .map_err(|error| error.to_string())
            .and_then(|text| yaml_map(&text).map_err(|(_, message)| message))
        {
            Ok(map) => values::merge(&mut all, map),
            Err(error) => return Ok(Err(format!("{path}: {error}"))),
        }
    }
    Ok(Ok((!release.values_files.is_empty()).then_some(all)))
}

enum Refused {
    NotHere(String),
    Wrong(String),
}

/// Adds what one entry gives; nothing if it may, and there is nothing to give.
fn take(
    all: &mut Values,
    release: &Release,
    from: &ValuesFrom,
    config: &dyn Fn(&ValuesFrom) -> Config,
) -> Result<(), Refused> {
    let what = describe(from);
    let data = match config(from) {
        Config::Found(data) => data,
        Config::Unknown(why) => return Err(Refused::Wrong(format!("{what}: {why}"))),
        Config::Absent if from.optional => return Ok(()),
        Config::Absent => {
            let message = format!("{what} is neither in Git nor in the cluster{}", keep(from.secret));
            return Err(Refused::Wrong(message));
        }
        Config::Keys(keys) if !keys.contains(&from.key) && from.optional => return Ok(()),
        Config::Keys(keys) if !keys.contains(&from.key) => {
            return Err(Refused::Wrong(format!("{what} of the cluster has no key '{}'", from.key)));
        }
        Config::Keys(_) => {
            let message = format!(
                "{what} is in the cluster, and what is in it is known only there{}",
                keep(from.secret)
            );
            return Err(Refused::Wrong(message));
        }
        Config::NotHere if from.optional && release.absent.contains(&what) => return Ok(()),
        Config::NotHere => return Err(Refused::NotHere(what)),
    };
    let wrong = |message: String| Refused::Wrong(format!("{what}, key '{}': {message}", from.key));
    let text = match data.get(&from.key) {
        Some(Ok(text)) => text,
        Some(Err(why)) => return Err(wrong((*why).to_owned())),
        None if from.optional => return Ok(()),
        None => return Err(Refused::Wrong(format!("{what} has no key '{}'", from.key))),
    };
    if is_encrypted_value(text) {
        return Err(wrong("is encrypted by SOPS, which is not supported yet".to_owned()));
    }
    // What is wrong with a secret's text is told by its place alone.
    let told =
        |message: String| if from.secret { "cannot be used at its targetPath".to_owned() } else { message };
    match &from.target_path {
        Some(path) => {
            all.set(path, text, from.literal).map_err(|error| wrong(told(error.to_string())))?;
        }
        None => {
            let map = yaml_map(text).map_err(|(line, message)| match from.secret {
                true => wrong(format!("line {line} is not a YAML mapping")),
                false => wrong(message),
            })?;
            all.lay(map);
        }
    }
    Ok(())
}

/// What to do about values that the hub lacks, of a Secret or a ConfigMap.
pub(crate) fn keep(secret: bool) -> &'static str {
    match secret {
        true => "; `flotilla secret create generic` keeps one at the hub",
        false => "; put it into Git",
    }
}

/// As `Secret/NAME`, which is how authors name it too.
pub(crate) fn describe(from: &ValuesFrom) -> String {
    format!("{}/{}", if from.secret { "Secret" } else { "ConfigMap" }, from.name)
}

/// The mapping that a text is, or the line and the words of what is wrong. As helm, which takes the last of equal keys, and
/// the first document.
fn yaml_map(text: &str) -> Result<Map<String, Value>, (u32, String)> {
    let options = Options { last_key_wins: true, skip_comments: true, ..Options::default() };
    let first = flotilla_yaml::parse_first(text, &options);
    let node = first.map_err(|error| (error.pos.line, error.to_string()))?.document;
    if node.is_null() {
        return Ok(Map::new());
    }
    match node.to_json_last_key().map_err(|error| (error.pos.line, error.message))? {
        Value::Object(map) => Ok(map),
        _ => Err((1, "must be a mapping".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_file_of_values_is_what_helm_reads() {
        for (text, expected) in [
            ("a: 1\na: 2\n", json!({"a": 2})),
            ("a: {x: 1, y: 1}\nb: 1\n\"a\": {x: 2}\n", json!({"a": {"x": 2}, "b": 1})),
            ("{\"a\": 1}{\"b\": 2}", json!({"a": 1})),
            ("{a: 1} x", json!({"a": 1})),
            ("a: 1\n---\nb: 2\n", json!({"a": 1})),
            ("a: 1\n...\nb: [", json!({"a": 1})),
            ("", json!({})),
            ("# nothing\n", json!({})),
            ("~", json!({})),
            // Keys that are one to YAML 1.1, and what a merge key brings, in the order of the text.
            ("a: {y: 1, on: 2}\nb: {1: x, 0x1: z}", json!({"a": {"true": 2}, "b": {"1": "z"}})),
            (
                "a: &a {q: 1}\nb: {q: 2, <<: *a}\nc: {<<: *a, q: 3}",
                json!({"a": {"q": 1}, "b": {"q": 1}, "c": {"q": 3}}),
            ),
        ] {
            assert_eq!(yaml_map(text).map(Value::Object), Ok(expected), "{text}");
        }
        for text in ["text", "[1]", "a: [", "~: x"] {
            yaml_map(text).unwrap_err();
        }
    }
}
