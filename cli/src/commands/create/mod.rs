//! `flotilla create`: Flux objects as `flux create --export` prints them.

mod helmrelease;
mod kustomization;
mod source;

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use flotilla_render::duration;
use serde_json::{Value, json};

use super::manifest::{PathArgs, WriteArgs, deliver};
use crate::Context;
use crate::args::pair;
use crate::error::Error;
use crate::exit::Code;

/// Print the YAML of a new source, Kustomization or HelmRelease, or write it into the repo
///
/// The flags and the output are those of `flux create --export`. Nothing is sent anywhere: what is committed counts.
#[derive(Debug, Subcommand)]
pub(crate) enum CreateCommand {
    /// Where content comes from
    #[command(subcommand)]
    Source(Box<source::SourceCommand>),
    /// A path of a source that is built and applied
    #[command(visible_alias = "ks")]
    Kustomization(Box<kustomization::KustomizationArgs>),
    /// A chart that is rendered and applied
    #[command(name = "helmrelease", visible_alias = "hr")]
    HelmRelease(Box<helmrelease::HelmReleaseArgs>),
}

/// What every object has.
#[derive(Debug, Args)]
pub(crate) struct ObjectArgs {
    /// Name of the object
    name: String,
    /// Namespace of the object
    #[arg(short, long, default_value = "flux-system", value_name = "NAMESPACE")]
    namespace: String,
    /// How often it is looked at
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = go_duration)]
    interval: GoDuration,
    /// Labels of the object
    #[arg(long = "label", value_name = "KEY=VALUE", value_delimiter = ',', value_parser = pair)]
    labels: Vec<(String, String)>,
    /// As in `flux create`; the object is always printed
    #[arg(long)]
    export: bool,
}

/// A duration of at least a second, as Go writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct GoDuration(u32);

impl std::fmt::Display for GoDuration {
    /// `1h30m0s`, `10m0s`, `45s`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (hours, minutes, seconds) = (self.0 / 3600, self.0 / 60 % 60, self.0 % 60);
        match (hours, minutes) {
            (0, 0) => write!(f, "{seconds}s"),
            (0, _) => write!(f, "{minutes}m{seconds}s"),
            _ => write!(f, "{hours}h{minutes}m{seconds}s"),
        }
    }
}

fn go_duration(text: &str) -> Result<GoDuration, String> {
    match duration::seconds(text)? {
        0 => Err("must be at least 1s".to_owned()),
        seconds => Ok(GoDuration(seconds)),
    }
}

/// A reference to another object: `[KIND/]NAME[.NAMESPACE]`.
fn reference(text: &str, kinds: &[&str], default: Option<&str>) -> Result<Value, String> {
    let (kind, rest) = match (text.split_once('/'), default) {
        (Some((kind, rest)), _) => (kind, rest),
        (None, Some(default)) => (default, text),
        (None, None) => return Err(format!("'{text}' is not of the form KIND/NAME[.NAMESPACE]")),
    };
    let kind = kinds.iter().find(|known| known.eq_ignore_ascii_case(kind));
    let kind = kind.ok_or_else(|| format!("'{text}' must have a kind out of {}", kinds.join(", ")))?;
    let (name, namespace) = rest.rsplit_once('.').map_or((rest, None), |(name, of)| (name, Some(of)));
    if name.is_empty() || namespace == Some("") {
        return Err(format!("'{text}' is not of the form KIND/NAME[.NAMESPACE]"));
    }
    Ok(json!({"kind": kind, "name": name, "namespace": namespace}))
}

/// `[NAMESPACE/]NAME` of what has to be ready before.
fn dependency(text: &str) -> Result<Value, String> {
    let (namespace, name) = text.split_once('/').map_or((None, text), |(of, name)| (Some(of), name));
    if name.is_empty() || name.contains('/') || namespace == Some("") {
        return Err(format!("'{text}' is not of the form [NAMESPACE/]NAME"));
    }
    Ok(json!({"name": name, "namespace": namespace}))
}

/// A list, left out where it is empty.
fn list(items: Vec<Value>) -> Option<Vec<Value>> {
    Some(items).filter(|items| !items.is_empty())
}

/// `true`, left out where it is not.
fn only_true(flag: bool) -> Option<bool> {
    flag.then_some(true)
}

/// A reference to a Secret.
fn secret(name: Option<&String>) -> Option<Value> {
    name.map(|name| json!({"name": name}))
}

/// What is left out of a source, a pattern a line.
fn ignored(paths: &[String]) -> Option<String> {
    (!paths.is_empty()).then(|| paths.join("\n"))
}

impl ObjectArgs {
    /// The object with its spec; what is null in it is left out.
    fn object(self, api_version: &str, kind: &str, spec: Value) -> Value {
        let labels: BTreeMap<_, _> = self.labels.into_iter().collect();
        let mut object = json!({
            "apiVersion": api_version,
            "kind": kind,
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "labels": Some(labels).filter(|labels| !labels.is_empty()),
            },
            "spec": spec,
        });
        object["spec"]["interval"] = json!(self.interval.to_string());
        without_nulls(&mut object);
        object
    }
}

fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

pub(crate) fn run(context: &Context, command: CreateCommand) -> Result<Code, Error> {
    let (object, write): (Value, WriteArgs) = match command {
        CreateCommand::Source(command) => {
            let (object, path): (Value, PathArgs) = command.object();
            (object, path.into())
        }
        CreateCommand::Kustomization(args) => args.object(),
        CreateCommand::HelmRelease(args) => args.object()?,
    };
    let node = flotilla_yaml::Node::from_json(&object);
    let mut wrong = Vec::new();
    for problem in flotilla_render::check_object(&node) {
        if problem.notice {
            context.terminal.note(&problem.to_string());
        } else {
            wrong.push(problem.to_string());
        }
    }
    if !wrong.is_empty() {
        let kind = object["kind"].as_str().unwrap_or_default();
        return Err(Error::usage(format!("a hub would refuse this {kind}: {}", wrong.join("; "))));
    }
    deliver(&context.terminal, &[object], &write)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_does() {
        for (text, expected) in [
            ("1m", "1m0s"),
            ("10m", "10m0s"),
            ("90s", "1m30s"),
            ("45s", "45s"),
            ("1h", "1h0m0s"),
            ("36h30m", "36h30m0s"),
        ] {
            assert_eq!(go_duration(text).unwrap().to_string(), expected);
        }
        assert!(go_duration("0s").is_err() && go_duration("5d").is_err());
    }

    #[test]
    fn references_to_other_objects() {
        let kinds = ["GitRepository", "Bucket"];
        let read = |text: &str| {
            reference(text, &kinds, Some("GitRepository")).map(|mut value| {
                without_nulls(&mut value);
                value.to_string()
            })
        };
        assert_eq!(read("app").unwrap(), r#"{"kind":"GitRepository","name":"app"}"#);
        assert_eq!(read("bucket/app.team").unwrap(), r#"{"kind":"Bucket","name":"app","namespace":"team"}"#);
        assert_eq!(
            read("GitRepository/a.b.c").unwrap(),
            r#"{"kind":"GitRepository","name":"a.b","namespace":"c"}"#
        );
        for wrong in ["Pod/a", "Bucket/", "Bucket/.a", "Bucket/a.", ""] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(reference("app", &kinds, None).is_err());
        assert!(dependency("a/b").is_ok() && dependency("b").is_ok());
        assert!(dependency("/b").is_err() && dependency("a/b/c").is_err() && dependency("").is_err());
    }
}
