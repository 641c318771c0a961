//! `flotilla import`

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use flotilla_kustomize::files::TreePath;
use flotilla_render::flux::roots::{self, Root};
use flotilla_source::{FolderFiles, GitLimits};
use serde_json::{Value, json};

use crate::Context;
use crate::error::Error;
use crate::exit::Code;
use crate::output::clean;

/// Find the clusters of an existing Flux repository
///
/// Looks through a folder for the objects by which Flux applies a cluster's own path: the Kustomization that `flux
/// bootstrap` writes, or a FluxInstance. Prints a Cluster object for each root: save them below `clusters/` (or below the
/// path that --clusters names), give the clusters the names that you want, and run `flotilla check --repo .`.
///
/// Exits with 1 where no root is found. Nothing is written or sent.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Folder with the repository
    #[arg(long, value_name = "DIR", default_value = ".")]
    repo: PathBuf,
}

pub(crate) fn run(context: &Context, args: ImportArgs) -> Result<Code, Error> {
    let failed = || Error::new(Code::Input, format!("cannot read the repository {}", args.repo.display()));
    let files = FolderFiles::open(&args.repo, GitLimits::default().file_bytes)
        .map_err(|error| failed().because(error))?;
    let found = roots::find(&files).map_err(|error| failed().because(error))?;
    if found.is_empty() {
        context.terminal.note(
            "no Kustomization here names a folder that it stands in, and there is no FluxInstance with a path: write a Cluster \
             object for each cluster, with spec.path",
        );
        return Ok(Code::Found);
    }
    context.terminal.print(&objects(&found))?;
    context.terminal.note(&how_to_use(&found));
    Ok(Code::Done)
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

/// One line: which flag makes all roots clusters, or where to put the objects.
pub(crate) fn how_to_use(found: &[Root]) -> String {
    match common_parent(found) {
        Some(parent) if parent.as_str() == "clusters" => {
            "these folders are clusters as they are, without Cluster objects".to_owned()
        }
        Some(parent) => {
            format!("`--clusters {parent}` makes each of these folders a cluster, without Cluster objects")
        }
        None => "save these objects as clusters/clusters.yaml, then run `flotilla check --repo .`".to_owned(),
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
