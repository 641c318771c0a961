//! `flotilla import`

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use flotilla_api::Problem;
use flotilla_core::ClusterName;
use flotilla_kustomize::files::TreePath;
use flotilla_render::ClusterDefinition;
use flotilla_render::flux::roots::{Root, Roots};
use serde_json::{Value, json};

use super::check::groups::{lines, sort};
use super::check::repo::{Problems, count};
use crate::Context;
use crate::error::Error;
use crate::exit::Code;
use crate::offline::{ClustersArgs, KUBERNETES, Repo, rendered};
use crate::output::clean;

/// Find the clusters of an existing Flux repository
///
/// Looks through a folder for the objects by which Flux applies a cluster's own path: the Kustomization that `flux
/// bootstrap` writes, or a FluxInstance. Prints a Cluster object for each root that no cluster has yet: add them to a file
/// below `clusters/` (or below the path that --clusters names), and give the clusters the names that you want.
///
/// It renders each of them, and says on stderr what Flotilla would do otherwise than Flux: what would not be applied and what has
/// no effect, by file and line. `flotilla check --repo .` says it again once the objects are there.
///
/// Exits with 1 where no root is found. Nothing is written or sent.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Folder with the repository
    #[arg(long, value_name = "DIR", default_value = ".")]
    repo: PathBuf,
    /// Path in the repository below which clusters are defined
    #[arg(long, value_name = "PATH", default_value = "clusters")]
    clusters: String,
}

pub(crate) fn run(context: &Context, args: ImportArgs) -> Result<Code, Error> {
    let clusters = ClustersArgs { clusters: args.clusters, strict_substitution: true };
    let repo = Repo::open(&args.repo, &clusters)?;
    let Roots { free, defined } = repo.flux_roots()?;
    if repo.names_in_doubt() {
        context.terminal.warn(&format!(
            "not every definition below {} can be read, so some of these may be clusters already: `flotilla check --repo {}` \
             names the files",
            repo.clusters(),
            args.repo.display()
        ));
    }
    if !defined.is_empty() {
        let names: Vec<&str> = defined.iter().map(ClusterName::as_str).collect();
        context.terminal.note(&format!("defined already, and left out: {}", names.join(", ")));
    }
    if free.is_empty() && defined.is_empty() {
        context.terminal.note(
            "no Kustomization here names a folder that it stands in, and there is no FluxInstance with a path: write a Cluster \
             object for each cluster, with spec.path",
        );
        return Ok(Code::Found);
    }
    if !free.is_empty() {
        context.terminal.print(&objects(&free))?;
        differences(context, &repo, &free);
        context.terminal.note(&how_to_use(&free, &repo));
    }
    Ok(Code::Done)
}

/// Says what would not be as with Flux, once these roots are clusters.
fn differences(context: &Context, repo: &Repo, found: &[Root]) {
    let (mut problems, mut units, mut objects) = (Problems::default(), 0, 0);
    for root in found {
        let definition = ClusterDefinition::of_folder(root.name.clone(), root.path.clone());
        let (render, of_helm) = match repo.render_as(&definition, KUBERNETES) {
            Ok(rendered) => rendered,
            Err(error) => {
                context.terminal.warn(&error.chain());
                continue;
            }
        };
        let mut of_cluster = rendered(&render);
        of_cluster.problems.extend(of_helm.iter().map(|problem| (None, Problem::from(problem))));
        units += of_cluster.units.len();
        objects += of_cluster.units.iter().map(|unit| unit.objects.len()).sum::<usize>();
        problems.add_all(&root.name, of_cluster.problems);
    }
    let mut problems = problems.found;
    sort(&mut problems);
    let notices = problems.iter().filter(|found| found.problem.notice).count();
    context.terminal.note(&format!(
        "{}, {}, {}: {}, {}",
        count(found.len(), "cluster"),
        count(units, "unit"),
        count(objects, "object"),
        count(problems.len() - notices, "problem"),
        count(notices, "notice"),
    ));
    if !problems.is_empty() {
        context.terminal.note(lines(&problems, false).trim_end());
    }
}

/// A Cluster object for each root, with a comment that says what told of it.
fn objects(found: &[Root]) -> String {
    let mut out = String::new();
    for root in found {
        let object: Value = json!({
            "apiVersion": flotilla_render::fleet::API_VERSION,
            "kind": "Cluster",
            "metadata": {"name": root.name.to_string()},
            "spec": {"path": root.path.as_str()},
        });
        let (file, line) = &root.told_at;
        let _ = writeln!(out, "---\n# {}", clean(&format!("{} at {file}:{line}", root.told_by)));
        out.push_str(&flotilla_yaml::write(&flotilla_yaml::Node::from_json(&object)));
    }
    out
}

/// One line: which flag makes all roots clusters, or where to put the objects. Another flag would take away what is defined.
fn how_to_use(found: &[Root], repo: &Repo) -> String {
    match common_parent(found).filter(|_| repo.names().is_empty()) {
        Some(parent) => {
            format!("`--clusters {parent}` makes each of these folders a cluster, without Cluster objects")
        }
        None => format!(
            "add these objects to {}/clusters.yaml, then run `flotilla check --repo .`",
            repo.clusters()
        ),
    }
}

/// The folder whose sub-folders the roots are, if their names are those of the folders.
fn common_parent(found: &[Root]) -> Option<TreePath> {
    let parent = found.first()?.path.parent().filter(|parent| !parent.is_root())?;
    let is_child = |root: &Root| {
        root.path.parent().as_ref() == Some(&parent) && root.path.name() == root.name.to_string()
    };
    found.iter().all(is_child).then_some(parent)
}
