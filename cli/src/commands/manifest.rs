//! Flux objects as files: printed, or written into the working tree of the fleet repo.

use std::path::{Path, PathBuf};

use clap::Args;
use flotilla_core::{ObjectId, ObjectRef};
use flotilla_kustomize::files::TreePath;
use flotilla_runtime::files::{self, FileError};
use flotilla_yaml::Node;
use serde_json::Value;

use crate::error::Error;
use crate::exit::Code;
use crate::output::Terminal;

/// Where objects are written. For commands whose `--path` is something else.
#[derive(Debug, Args)]
pub(crate) struct WriteArgs {
    /// File in the repo to write, instead of printing
    #[arg(long, value_name = "FILE")]
    write: Option<String>,
    #[command(flatten)]
    into: IntoArgs,
}

/// Where objects are written.
#[derive(Debug, Args)]
pub(crate) struct PathArgs {
    /// File in the repo to write, instead of printing
    #[arg(long, value_name = "FILE", alias = "write")]
    path: Option<String>,
    #[command(flatten)]
    into: IntoArgs,
}

#[derive(Debug, Args)]
struct IntoArgs {
    /// Folder with the fleet repo
    #[arg(long, value_name = "DIR", default_value = ".")]
    repo: PathBuf,
    /// Write over a file that holds something else
    #[arg(long)]
    force: bool,
}

impl From<PathArgs> for WriteArgs {
    fn from(args: PathArgs) -> Self {
        Self { write: args.path, into: args.into }
    }
}

/// The objects as Flux's own command prints them.
pub(super) fn yaml(objects: &[Value]) -> String {
    objects.iter().map(|object| format!("---\n{}", flotilla_yaml::write(&Node::from_json(object)))).collect()
}

/// Prints the objects, or writes them where they are wanted.
pub(super) fn deliver(terminal: &Terminal, objects: &[Value], write: &WriteArgs) -> Result<Code, Error> {
    let text = yaml(objects);
    let Some(path) = &write.write else {
        terminal.print(&text)?;
        return Ok(Code::Done);
    };
    let outside = || Error::usage(format!("'{path}' is not a file of the repo"));
    if Path::new(path).is_absolute() {
        return Err(outside().hint("the path is below the folder that --repo names"));
    }
    let inside = TreePath::from_root(path).map_err(|error| outside().because(error))?;
    let file = write.into.repo.join(inside.as_str());
    if !path.ends_with(".yaml") && !path.ends_with(".yml") {
        return Err(Error::usage(format!("'{path}' is not a name of a YAML file")).hint("end it with .yaml"));
    }
    if !write.into.repo.is_dir() {
        return Err(Error::usage(format!("there is no folder {}", write.into.repo.display()))
            .hint("--repo names the folder with the fleet repo"));
    }
    let failed =
        |error: FileError| Error::new(Code::Local, format!("cannot write {}", file.display())).because(error);
    let there = files::read_if_there(&file).map_err(failed)?;
    let verb = match &there {
        Some(there) if *there == text.as_bytes() => {
            terminal.note(&format!("{inside} holds it already"));
            return Ok(Code::Done);
        }
        Some(there) => {
            let own = identities(objects);
            if !write.into.force && holds(there).as_ref() != Some(&own) {
                return Err(Error::usage(format!("{} holds something else", file.display()))
                    .hint("choose another file, or write over it by --force"));
            }
            "replaced"
        }
        None => "wrote",
    };
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)
            .map_err(|error| Error::io(format!("make the folder {}", folder.display()), error))?;
    }
    files::write_atomic(&file, text.as_bytes(), files::PUBLIC).map_err(failed)?;
    terminal.note(&format!("{verb} {inside}"));
    if let Some(kustomization) = unlisted(&file) {
        terminal.hint(&format!("{kustomization} does not list it among its resources"));
    }
    Ok(Code::Done)
}

fn identities(objects: &[Value]) -> Vec<ObjectId> {
    let mut ids: Vec<_> = objects.iter().filter_map(|object| Some(ObjectRef::of(object).ok()?.id)).collect();
    ids.sort();
    ids
}

/// What a file holds; `None` where that is not only objects.
fn holds(content: &[u8]) -> Option<Vec<ObjectId>> {
    let documents = flotilla_yaml::parse(std::str::from_utf8(content).ok()?).ok()?;
    let objects: Vec<Value> = documents.iter().map(|node| node.to_json().ok()).collect::<Option<_>>()?;
    let ids = identities(&objects);
    (ids.len() == objects.len()).then_some(ids)
}

/// The kustomization beside a file, if there is one that does not list it.
fn unlisted(file: &Path) -> Option<String> {
    let name = file.file_name()?.to_str()?;
    let found = ["kustomization.yaml", "kustomization.yml", "Kustomization"]
        .iter()
        .map(|name| file.with_file_name(name))
        .find(|path| path.is_file())?;
    let text = std::fs::read_to_string(&found).ok()?;
    let documents = flotilla_yaml::parse(&text).ok()?;
    let resources = documents.first()?.get("resources").and_then(Node::as_seq);
    let is_it = |node: &Node| node.as_str().is_some_and(|entry| entry.trim_start_matches("./") == name);
    let is_listed = resources.is_some_and(|resources| resources.iter().any(is_it));
    (!is_listed).then(|| found.display().to_string())
}
