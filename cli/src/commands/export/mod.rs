//! `flotilla export`: Flux objects as the hub knows them.

mod flux;
#[cfg(test)]
mod flux_tests;
mod inventories;
mod taken;

use clap::{Args, Subcommand};
use flotilla_api::Definition;
use flotilla_core::ClusterName;
use flotilla_core::source::SourceKind;
use serde_json::{Map, Value};

use super::manifest::{PathArgs, WriteArgs, deliver};
use crate::Context;
use crate::args::source_kind;
use crate::error::Error;
use crate::exit::Code;

/// Print the YAML of sources, Kustomizations and HelmReleases that a cluster has, or all that Flux needs to take it over
#[derive(Debug, Subcommand)]
pub(crate) enum ExportCommand {
    /// A source
    Source {
        /// Kind of the source: git, oci, helm, chart, bucket, generator or a whole kind
        #[arg(value_parser = source_kind)]
        kind: SourceKind,
        #[command(flatten)]
        which: WhichArgs,
    },
    /// A Kustomization
    #[command(visible_alias = "ks")]
    Kustomization(WhichArgs),
    /// A HelmRelease
    #[command(name = "helmrelease", visible_alias = "hr")]
    HelmRelease(WhichArgs),
    Flux(flux::FluxArgs),
}

#[derive(Debug, Args)]
pub(crate) struct WhichArgs {
    /// Name of the object
    #[arg(required_unless_present = "all")]
    name: Option<String>,
    /// All of the kind, in all namespaces unless one is given
    #[arg(long, conflicts_with = "name")]
    all: bool,
    /// Namespace of the object; flux-system for one that is named
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Cluster that has it
    #[arg(short, long, value_name = "NAME")]
    cluster: ClusterName,
    #[command(flatten)]
    path: PathArgs,
}

pub(crate) async fn run(context: &Context, command: ExportCommand) -> Result<Code, Error> {
    let (kind, which) = match command {
        ExportCommand::Source { kind, which } => (kind.as_str(), which),
        ExportCommand::Kustomization(which) => ("Kustomization", which),
        ExportCommand::HelmRelease(which) => ("HelmRelease", which),
        ExportCommand::Flux(args) => return flux::run(context, args).await,
    };
    let WhichArgs { name, namespace, cluster, path, .. } = which;
    let namespace = namespace.or_else(|| name.as_ref().map(|_| "flux-system".to_owned()));
    let found =
        context.hub()?.definitions(&cluster, Some(kind), namespace.as_deref(), name.as_deref()).await?;
    if found.is_empty() {
        let what = match (&namespace, &name) {
            (Some(namespace), Some(name)) => format!("no {kind} {namespace}/{name}"),
            (Some(namespace), None) => format!("no {kind} in namespace {namespace}"),
            _ => format!("no {kind}"),
        };
        return Err(Error::new(Code::NotFound, format!("cluster {cluster} has {what}"))
            .hint("`flotilla get all` lists what there is; -n gives the namespace"));
    }
    let objects: Vec<Value> = found.iter().map(exported).collect();
    deliver(&context.terminal, &objects, &WriteArgs::from(path))
}

/// What Flux's own command would leave of an object.
fn exported(definition: &Definition) -> Value {
    let only = |object: &Value, names: &[&str]| -> Value {
        let fields = names.iter().filter_map(|name| Some(((*name).to_owned(), object.get(name)?.clone())));
        Value::Object(fields.collect::<Map<_, _>>())
    };
    let mut object = only(&definition.object, &["apiVersion", "kind", "metadata", "spec"]);
    object["metadata"] = only(&object["metadata"], &["annotations", "labels", "name", "namespace"]);
    object
}
