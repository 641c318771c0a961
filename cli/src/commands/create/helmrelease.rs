//! `flotilla create helmrelease`

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value, json};

use super::{GoDuration, ObjectArgs, dependency, go_duration, list, only_true, reference};
use crate::commands::manifest::{PathArgs, WriteArgs};
use crate::error::Error;
use crate::exit::Code;

#[derive(Debug, Args)]
pub(crate) struct HelmReleaseArgs {
    #[command(flatten)]
    object: ObjectArgs,
    /// Source of the chart, as KIND/NAME[.NAMESPACE]: a HelmRepository, GitRepository or Bucket
    #[arg(long, value_parser = source, requires = "chart")]
    source: Option<Value>,
    /// Name of the chart, or its path in a GitRepository or Bucket
    #[arg(long, requires = "source", required_unless_present = "chart_ref")]
    chart: Option<String>,
    /// Version of the chart, or a range
    #[arg(long, value_name = "RANGE", requires = "chart")]
    chart_version: Option<String>,
    /// The chart itself, as KIND/NAME[.NAMESPACE]: an OCIRepository or HelmChart
    #[arg(long, value_name = "OBJECT", value_parser = chart_ref, conflicts_with = "chart")]
    chart_ref: Option<Value>,
    /// How often to look for new versions of the chart
    #[arg(long, value_name = "DURATION", value_parser = go_duration, requires = "chart")]
    chart_interval: Option<GoDuration>,
    /// When a chart counts as new: with its version, or with each revision of its source
    #[arg(long, value_name = "STRATEGY", default_value = "ChartVersion")]
    #[arg(value_parser = ["ChartVersion", "Revision"])]
    reconcile_strategy: String,
    /// Name of the Helm release
    #[arg(long, value_name = "NAME")]
    release_name: Option<String>,
    /// Namespace of the release, if it is another
    #[arg(long, value_name = "NAMESPACE")]
    target_namespace: Option<String>,
    /// Make the target namespace
    #[arg(long)]
    create_target_namespace: bool,
    /// HelmReleases that must be ready before, as [NAMESPACE/]NAME
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = dependency)]
    depends_on: Vec<Value>,
    /// Account to apply as
    #[arg(long, value_name = "NAME")]
    service_account: Option<String>,
    /// What becomes of the chart's CustomResourceDefinitions on upgrades
    #[arg(long, value_name = "POLICY", value_parser = ["Skip", "Create", "CreateReplace"])]
    crds: Option<String>,
    /// Files with values; later ones go over earlier ones
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    values: Vec<PathBuf>,
    /// ConfigMaps and Secrets with values.yaml, as KIND/NAME
    #[arg(long, value_name = "OBJECT", value_delimiter = ',', value_parser = values_from)]
    values_from: Vec<Value>,
    #[command(flatten)]
    path: PathArgs,
}

fn source(text: &str) -> Result<Value, String> {
    reference(text, &["HelmRepository", "GitRepository", "Bucket"], None)
}

fn chart_ref(text: &str) -> Result<Value, String> {
    reference(text, &["OCIRepository", "HelmChart", "ExternalArtifact"], None)
}

fn values_from(text: &str) -> Result<Value, String> {
    let kinds = ["ConfigMap", "Secret"];
    let (kind, name) = text.split_once('/').unwrap_or_default();
    match kinds.iter().find(|known| known.eq_ignore_ascii_case(kind)) {
        Some(kind) if !name.is_empty() => Ok(json!({"kind": kind, "name": name})),
        _ => Err(format!("'{text}' is not of the form ConfigMap/NAME or Secret/NAME")),
    }
}

impl HelmReleaseArgs {
    pub(super) fn object(self) -> Result<(Value, WriteArgs), Error> {
        let mut values = Map::new();
        for file in &self.values {
            merge(&mut values, read_values(file)?);
        }
        let chart = self.chart.map(|chart| {
            json!({"spec": {
                "chart": chart,
                "interval": self.chart_interval.map(|interval| interval.to_string()),
                "reconcileStrategy": self.reconcile_strategy,
                "sourceRef": self.source,
                "version": self.chart_version,
            }})
        });
        let install = json!({
            "crds": self.crds.as_ref().map(|_| "Create"),
            "createNamespace": only_true(self.create_target_namespace),
        });
        let is_set = self.crds.is_some() || self.create_target_namespace;
        let spec = json!({
            "chart": chart,
            "chartRef": self.chart_ref,
            "dependsOn": list(self.depends_on),
            "install": Some(install).filter(|_| is_set),
            "releaseName": self.release_name,
            "serviceAccountName": self.service_account,
            "targetNamespace": self.target_namespace,
            "upgrade": self.crds.map(|policy| json!({"crds": policy})),
            "valuesFrom": list(self.values_from),
        });
        let mut object = self.object.object("helm.toolkit.fluxcd.io/v2", "HelmRelease", spec);
        // A null among values takes a default away, so they are put in as they are.
        if !self.values.is_empty() {
            object["spec"]["values"] = Value::Object(values);
        }
        Ok((object, self.path.into()))
    }
}

fn read_values(file: &Path) -> Result<Map<String, Value>, Error> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Error::io(format!("read the values in {}", file.display()), error))?;
    let wrong = |message: String| Error::new(Code::Input, format!("{}: {message}", file.display()));
    let documents = flotilla_yaml::parse(&text)
        .map_err(|error| wrong(format!("{}:{}: {}", error.pos.line, error.pos.column, error.message)))?;
    match documents.as_slice() {
        [] => Ok(Map::new()),
        [values] => match values.to_json().map_err(|error| wrong(error.message))? {
            Value::Object(values) => Ok(values),
            Value::Null => Ok(Map::new()),
            _ => Err(wrong("values must be a mapping".into())),
        },
        _ => Err(wrong("values must be one document".into())),
    }
}

/// `over` on top of `under`, mapping by mapping.
fn merge(under: &mut Map<String, Value>, over: Map<String, Value>) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Object(under)), Value::Object(over)) => merge(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}
