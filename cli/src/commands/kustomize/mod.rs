//! `flotilla kustomize`

mod disk;
mod helm;
mod needs;
mod origins;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Args, Subcommand, ValueEnum};
use flotilla_kustomize::files::{Files, TreePath};
use flotilla_kustomize::{BuildError, Document, Limits, LoadRestrictor, Options, Output, Reorder};
use flotilla_source::Remotes;

use crate::Context;
use crate::env;
use crate::error::Error;
use crate::exit::Code;
use crate::output::Terminal;
use disk::{Disk, absolute};
pub(super) use origins::leaves;

/// Build kustomizations as kustomize does
#[derive(Debug, Subcommand)]
pub(crate) enum KustomizeCommand {
    Build(Box<BuildArgs>),
}

/// Print what a kustomization builds to; flags as those of `kustomize build`
#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// Folder of the kustomization, or of one in a Git repository: https://HOST/ORG/REPO//PATH?ref=v1
    #[arg(value_name = "DIR", default_value = ".")]
    folder: String,
    /// File to write to, instead of stdout; a folder gets a file for each object
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Which files a kustomization may name
    #[arg(long, value_enum, value_name = "RULE", default_value_t = Restrictor::RootOnly)]
    load_restrictor: Restrictor,
    /// Order of the objects where the kustomization does not say
    #[arg(long, value_enum, value_name = "ORDER", default_value_t = Order::Legacy)]
    reorder: Order,
    /// Label the objects with app.kubernetes.io/managed-by
    #[arg(long)]
    enable_managedby_label: bool,
    /// Say of each value which file and line set it
    #[arg(long, value_enum, value_name = "FORM", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "yaml")]
    origins: Option<origins::Form>,
    #[command(flatten)]
    helm: helm::HelmArgs,
    #[command(flatten)]
    functions: FunctionArgs,
}

/// Flags of kustomize for programs and containers, which are never run here, and for its own faults.
#[derive(Debug, Args)]
#[command(next_help_heading = "Accepted as kustomize's, without effect: programs and containers are not run")]
struct FunctionArgs {
    #[arg(long)]
    enable_alpha_plugins: bool,
    #[arg(long)]
    enable_exec: bool,
    #[arg(long)]
    network: bool,
    #[arg(long, value_name = "NAME")]
    network_name: Option<String>,
    #[arg(long, value_name = "MOUNT")]
    mount: Vec<String>,
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    #[arg(long)]
    as_current_user: bool,
    #[arg(long)]
    stack_trace: bool,
}

impl FunctionArgs {
    /// The flags that were given.
    fn given(&self) -> Vec<&'static str> {
        [
            ("--enable-alpha-plugins", self.enable_alpha_plugins),
            ("--enable-exec", self.enable_exec),
            ("--network", self.network),
            ("--network-name", self.network_name.is_some()),
            ("--mount", !self.mount.is_empty()),
            ("--env", !self.env.is_empty()),
            ("--as-current-user", self.as_current_user),
            ("--stack-trace", self.stack_trace),
        ]
        .into_iter()
        .filter_map(|(flag, given)| given.then_some(flag))
        .collect()
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Restrictor {
    #[value(name = "LoadRestrictionsRootOnly")]
    RootOnly,
    #[value(name = "LoadRestrictionsNone")]
    None,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Order {
    Legacy,
    None,
}

pub(crate) async fn run(context: &Context, command: KustomizeCommand) -> Result<Code, Error> {
    let KustomizeCommand::Build(args) = command;
    let terminal = context.terminal;
    // Fetching blocks.
    let built = tokio::task::spawn_blocking(move || build(terminal, &args)).await;
    built
        .map_err(|error| Error::new(Code::Local, "cannot build: the build ended by itself").because(error))?
}

/// The tree that is built, and the folder in it.
struct Root {
    files: Arc<dyn Files>,
    folder: TreePath,
    /// The repository that the tree is of; `None` for this machine's disk.
    remote: Option<String>,
}

fn build(terminal: Terminal, args: &BuildArgs) -> Result<Code, Error> {
    let given = args.functions.given();
    if !given.is_empty() {
        terminal.warn(&format!("{} without effect: programs and containers are not run", given.join(", ")));
    }
    let temporary = tempfile::tempdir().map_err(|error| Error::io("make a temporary folder", error))?;
    let remotes = Remotes::anywhere();
    let root = open(&args.folder, &remotes, &temporary.path().join("root"))?;
    let options = Options {
        load_restrictor: match args.load_restrictor {
            // What comes from elsewhere reads nothing but its own folder, as in kustomize.
            Restrictor::None if root.remote.is_none() => LoadRestrictor::None,
            Restrictor::None | Restrictor::RootOnly => LoadRestrictor::RootOnly,
        },
        reorder: match args.reorder {
            Order::Legacy => Reorder::Legacy,
            Order::None => Reorder::None,
        },
        add_managed_by: args.enable_managedby_label
            || env::system(env::MANAGED_BY).is_some_and(|value| value == "on"),
        helm: args.helm.enabled(),
        limits: Limits::default(),
    };
    let needs = needs::Needs { remotes: &remotes, helm: &args.helm, dir: temporary.path() };
    let place = |file: &TreePath| place(&root, file);
    let built = needs.build(&root, &options).map_err(|error| failed(&args.folder, error, &place))?;
    for notice in &built.notices {
        let file = built.sources.iter().find(|file| notice.starts_with(&format!("{file}:")));
        let rest = file.map(|file| format!("{}{}", place(file), &notice[file.to_string().len()..]));
        terminal.warn(rest.as_ref().unwrap_or(notice));
    }
    let text = |documents: &Output| -> Result<String, Error> {
        let failed = || Error::new(Code::Input, format!("cannot write what {} builds to", args.folder));
        match args.origins {
            None => documents.to_yaml().map_err(|mut error| {
                let at = position(&mut error, &place);
                failed().because(format!("{at}{error}"))
            }),
            Some(form) => origins::text(documents, form, &place).map_err(|error| failed().because(error)),
        }
    };
    match &args.output {
        None => terminal.print(&text(&built)?)?,
        Some(path) if path.is_dir() => {
            let namespaces: BTreeSet<_> =
                built.documents.iter().filter_map(|d| d.namespace.as_ref()).collect();
            for document in &built.documents {
                let one = Output { documents: vec![document.clone()], ..built.clone() };
                write(&path.join(file_name(document, namespaces.len() > 1)), &text(&one)?)?;
            }
        }
        Some(path) => write(path, &text(&built)?)?,
    }
    Ok(Code::Done)
}

/// A folder of this machine if there is one, else a remote one.
fn open(folder: &str, remotes: &Remotes, dir: &Path) -> Result<Root, Error> {
    let attempt = format!("cannot build {folder}");
    match std::fs::canonicalize(folder) {
        Ok(real) => {
            let path = real.to_str().and_then(|path| TreePath::from_root(path).ok());
            let folder =
                path.ok_or_else(|| Error::new(Code::Input, format!("{attempt}: its path is not UTF-8")))?;
            Ok(Root { files: Arc::new(Disk), folder, remote: None })
        }
        Err(error) => {
            let url = match folder.parse::<flotilla_source::RemoteUrl>() {
                Ok(url) if !folder.starts_with('/') => url,
                Err(wrong) if folder.contains("://") => {
                    return Err(Error::new(Code::Input, attempt).because(wrong));
                }
                _ => return Err(Error::new(Code::Input, attempt).because(error)),
            };
            let tree = remotes
                .tree(&url, dir, &AtomicBool::new(false))
                .map_err(|error| Error::new(Code::Input, attempt).because(error))?;
            Ok(Root { files: tree.files, folder: tree.path, remote: Some(url.url.to_string()) })
        }
    }
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    std::fs::write(path, text).map_err(|error| Error::io(format!("write {}", path.display()), error))
}

/// `GROUP_VERSION_KIND_NAME.yaml` in lower case, as kustomize calls them, with the namespace before it where there are
/// several.
fn file_name(document: &Document, with_namespace: bool) -> String {
    let text = |path: &[&str]| document.node.at(path).and_then(|n| n.text()).unwrap_or_default();
    let namespace = document.namespace.as_deref().filter(|_| with_namespace).unwrap_or_default();
    let parts = [namespace, text(&["apiVersion"]), text(&["kind"]), text(&["metadata", "name"])];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    format!("{}.yaml", parts.join("_").to_lowercase().replace('/', "_"))
}

/// Where a file is, for people: on this machine from the current folder, elsewhere by its address.
fn place(root: &Root, file: &TreePath) -> String {
    let (first, rest) = file.as_str().split_once('/').unwrap_or((file.as_str(), ""));
    if matches!(first, "http" | "https" | "ssh" | "file") {
        let slash = if first == "file" { "/" } else { "" };
        return format!("{first}://{slash}{rest}");
    }
    if let Some(url) = &root.remote {
        return format!("{url}//{file}");
    }
    let path = absolute(file);
    // Remote files without a scheme are called like nothing on the disk.
    if !path.exists() {
        return file.to_string();
    }
    let here = std::env::current_dir().and_then(std::fs::canonicalize).unwrap_or_default();
    relative(&here, &path).display().to_string()
}

/// `path` from `here`, where that is no detour through the root.
fn relative(here: &Path, path: &Path) -> PathBuf {
    let shared = here.components().zip(path.components()).take_while(|(a, b)| a == b).count();
    if shared <= 1 {
        return path.to_owned();
    }
    let up = here.components().skip(shared).map(|_| std::path::Component::ParentDir);
    up.chain(path.components().skip(shared)).collect()
}

fn failed(folder: &str, error: needs::NeedError, place: &dyn Fn(&TreePath) -> String) -> Error {
    let attempt = format!("cannot build {folder}");
    match error {
        needs::NeedError::Build(BuildError::Failed(mut error)) => {
            let at = position(&mut error, place);
            Error::new(Code::Input, format!("{attempt}: {at}{error}"))
        }
        other => Error::new(Code::Input, attempt).because(other),
    }
}

/// Takes the file out of an error, and says where it is in words of this machine.
fn position(error: &mut flotilla_kustomize::Error, place: &dyn Fn(&TreePath) -> String) -> String {
    let Some(file) = error.file.take() else { return String::new() };
    let numbers = [error.line, error.column].into_iter().take_while(|n| *n > 0);
    let line: String = numbers.map(|n| format!(":{n}")).collect();
    format!("{}{line}: ", place(&file))
}
