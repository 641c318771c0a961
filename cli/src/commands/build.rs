//! `flotilla build`: what one unit comes to, from a folder and without a hub.

use clap::{Args, Subcommand};
use flotilla_core::{ClusterName, UnitId};

use super::render;
use crate::Context;
use crate::args::Format;
use crate::error::Error;
use crate::exit::Code;
use crate::offline::RepoArgs;

/// Print the objects of one Kustomization or HelmRelease, as its cluster would get them
///
/// Variables are put in, patches applied, charts rendered. Values of Secrets are printed as they stand in the repo.
#[derive(Debug, Subcommand)]
pub(crate) enum BuildCommand {
    /// A Kustomization; `root` is the cluster's own path
    #[command(visible_alias = "ks")]
    Kustomization(UnitArgs),
    /// A HelmRelease
    #[command(name = "helmrelease", visible_alias = "hr")]
    HelmRelease(UnitArgs),
}

#[derive(Debug, Args)]
pub(crate) struct UnitArgs {
    /// Name of the object
    name: String,
    /// Namespace of the object
    #[arg(short, long, default_value = "flux-system", value_name = "NAMESPACE")]
    namespace: String,
    /// Cluster whose unit it is
    #[arg(short, long, value_name = "NAME")]
    cluster: ClusterName,
    #[command(flatten)]
    repo: RepoArgs,
    /// Form of the output; a table lists units and objects
    #[arg(short, long, value_enum, value_name = "FORM", default_value = "yaml")]
    output: Format,
}

pub(crate) fn run(context: &Context, command: BuildCommand) -> Result<Code, Error> {
    let (unit, args) = match command {
        BuildCommand::Kustomization(args) if args.name == "root" => (UnitId::root(), args),
        BuildCommand::Kustomization(args) => (UnitId::kustomization(&args.namespace, &args.name), args),
        BuildCommand::HelmRelease(args) => (UnitId::helm_release(&args.namespace, &args.name), args),
    };
    let UnitArgs { cluster, repo, output, .. } = args;
    render::show(context, &cluster, Some(&unit), &repo, output)
}
