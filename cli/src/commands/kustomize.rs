//! `flotilla kustomize`

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};
use flotilla_kustomize::files::{ContentId, Entry, Files, Kind, ReadError, TreePath};
use flotilla_kustomize::{BuildError, LoadRestrictor, Options, Reorder, build};

use crate::Context;
use crate::error::Error;
use crate::exit::Code;

/// Build kustomizations as kustomize does
#[derive(Debug, Subcommand)]
pub(crate) enum KustomizeCommand {
    Build(BuildArgs),
}

/// Print what a kustomization builds to; flags as those of `kustomize build`
#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// Folder of the kustomization
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// File to write to, in place of stdout; a folder gets a file for each object
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

pub(crate) fn run(context: &Context, command: KustomizeCommand) -> Result<Code, Error> {
    let KustomizeCommand::Build(args) = command;
    let shown = args.folder.display();
    let real = std::fs::canonicalize(&args.folder)
        .map_err(|error| Error::new(Code::Input, format!("cannot build {shown}")).because(error))?;
    let root = real
        .to_str()
        .and_then(|path| TreePath::from_root(path).ok())
        .ok_or_else(|| Error::new(Code::Input, format!("cannot build {shown}: its path is not UTF-8")))?;
    let options = Options {
        load_restrictor: match args.load_restrictor {
            Restrictor::RootOnly => LoadRestrictor::RootOnly,
            Restrictor::None => LoadRestrictor::None,
        },
        reorder: match args.reorder {
            Order::Legacy => Reorder::Legacy,
            Order::None => Reorder::None,
        },
        add_managed_by: args.enable_managedby_label,
        helm: false,
    };
    let built = build(&Disk, &root, &options).map_err(|error| failed(&args.folder, error))?;
    for notice in &built.notices {
        context.terminal.warn(notice);
    }
    let unwritable =
        |error| Error::new(Code::Input, format!("cannot write what {shown} builds to")).because(error);
    match &args.output {
        None => context.terminal.print(&built.to_yaml().map_err(unwritable)?)?,
        Some(path) if path.is_dir() => {
            for document in &built.documents {
                let text = flotilla_yaml::write_canonical(&document.node).map_err(unwritable)?;
                write(&path.join(file_name(&document.node)), &text)?;
            }
        }
        Some(path) => write(path, &built.to_yaml().map_err(unwritable)?)?,
    }
    Ok(Code::Done)
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    std::fs::write(path, text).map_err(|error| Error::io(format!("write {}", path.display()), error))
}

/// `NAMESPACE_GROUP_VERSION_KIND_NAME.yaml`, as kustomize calls them, in lower case.
fn file_name(node: &flotilla_yaml::Node) -> String {
    let text = |path: &[&str]| node.at(path).and_then(|n| n.text()).unwrap_or_default().to_owned();
    let version = text(&["apiVersion"]).replace('/', "_");
    let parts = [text(&["metadata", "namespace"]), version, text(&["kind"]), text(&["metadata", "name"])];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    format!("{}.yaml", parts.join("_").to_lowercase().replace(['/', ':'], "_"))
}

fn failed(folder: &Path, error: BuildError) -> Error {
    let attempt = format!("cannot build {}", folder.display());
    match error {
        BuildError::Failed(mut error) => {
            let place = error.file.take().map(|file| absolute(&file).display().to_string());
            let line = if error.line > 0 { format!(":{}", error.line) } else { String::new() };
            let place = place.map(|place| format!("{place}{line}: ")).unwrap_or_default();
            Error::new(Code::Input, format!("{attempt}: {place}{error}"))
        }
        needs @ BuildError::Needs(_) => Error::new(Code::Input, attempt)
            .because(needs)
            .hint("nothing is fetched here: copy the base or chart's output into the repo, or use kustomize for this one"),
    }
}

fn absolute(path: &TreePath) -> PathBuf {
    Path::new("/").join(path.as_str())
}

/// The whole disk as a tree: bases may be anywhere. Symlinks are not followed below the folder that is built.
struct Disk;

/// A file larger than this is no manifest.
const LARGEST: u64 = 50 << 20;

impl Files for Disk {
    fn entry(&self, path: &TreePath) -> Result<Option<Entry>, ReadError> {
        let path_on_disk = absolute(path);
        let metadata = match std::fs::symlink_metadata(&path_on_disk) {
            Ok(metadata) => metadata,
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(unread(path, &error)),
        };
        let real = std::fs::canonicalize(&path_on_disk).map_err(|error| unread(path, &error));
        let kind = if metadata.is_symlink() || real? != path_on_disk {
            Kind::Symlink
        } else if metadata.is_dir() {
            Kind::Folder
        } else {
            Kind::File
        };
        // Nothing is remembered between builds, so nobody compares.
        Ok(Some(Entry { kind, id: ContentId([0; 32]) }))
    }

    fn read(&self, path: &TreePath) -> Result<Arc<[u8]>, ReadError> {
        let refuse = |reason: &str| ReadError { path: path.clone(), reason: reason.to_owned() };
        match self.entry(path)?.map(|entry| entry.kind) {
            Some(Kind::File) => {}
            Some(Kind::Folder) => return Err(refuse("it is a folder, not a file")),
            Some(Kind::Symlink) => {
                return Err(refuse("a symbolic link is on the way; links are not followed"));
            }
            None => return Err(refuse("no such file")),
        }
        let on_disk = absolute(path);
        if std::fs::metadata(&on_disk).map_err(|error| unread(path, &error))?.len() > LARGEST {
            return Err(refuse("it is larger than 50 MiB"));
        }
        std::fs::read(&on_disk).map(Arc::from).map_err(|error| unread(path, &error))
    }

    fn list(&self, folder: &TreePath) -> Result<Vec<(String, Entry)>, ReadError> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(absolute(folder)).map_err(|error| unread(folder, &error))? {
            let name = entry.map_err(|error| unread(folder, &error))?.file_name();
            let unusable = || ReadError {
                path: folder.clone(),
                reason: format!("the name {name:?} in it is not UTF-8"),
            };
            let name = name.to_str().ok_or_else(unusable)?.to_owned();
            let path = folder.join(&name).map_err(|_| unusable())?;
            if let Some(entry) = self.entry(&path)? {
                names.push((name, entry));
            }
        }
        names.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(names)
    }
}

fn unread(path: &TreePath, error: &std::io::Error) -> ReadError {
    ReadError { path: path.clone(), reason: error.to_string() }
}
