//! `flotilla promote`

mod carry;
mod commit;
mod forge;
mod pull;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

pub(super) use self::commit::git;

use self::carry::{Change, Left, Side, carry};
use self::pull::PullArgs;
use crate::Context;
use crate::args::{Format, OutputArgs};
use crate::error::Error;
use crate::exit::Code;
use crate::output::clean;

/// Carry versions from one overlay to the next, as a commit, a branch or a pull request
///
/// For fleets that have their versions in the tree: image tags, names and digests, versions of charts, and each value with the
/// comment `# flotilla: promote` beside it go from PATH/FROM to the files of the same name in PATH/TO. Nothing else of a file
/// changes, nor its comments and its order; a value beside `# flotilla: keep` stays. What differs and is not carried is named.
///
/// It works on a clone on this machine and asks no hub. Nothing is pushed, unless --pull-request says so: then the branch goes to the
/// remote by the git program, and GitHub, GitLab or Gitea is asked for a pull request with a token of the environment or a file.
#[derive(Debug, Args)]
pub(crate) struct PromoteArgs {
    /// Folder of the overlay whose versions are carried, like staging
    from: String,
    /// Folder of the overlay that gets them, like production
    to: String,
    /// Folder that holds both, like apps/web/overlays; repeat it, or list several with commas
    #[arg(long, value_name = "PATH", required = true, value_delimiter = ',')]
    path: Vec<String>,
    /// Folder with the fleet repo, in a Git work tree
    #[arg(long, value_name = "DIR", default_value = ".")]
    repo: PathBuf,
    /// Show the diff, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Make the commit on a new branch of this name; what is checked out stays as it is
    #[arg(long, value_name = "NAME")]
    branch: Option<String>,
    /// Message of the commit
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    #[command(flatten)]
    pull: PullArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Folders inside each other, files of an overlay, and bytes of one.
const DEPTH: usize = 32;
const FILES: usize = 5_000;
const BYTES: u64 = 4 << 20;

/// What was, or would be, done.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Promotion {
    changes: Vec<Change>,
    left: Vec<Left>,
    diff: String,
    commit: Option<String>,
    branch: Option<String>,
    /// The address of the pull request.
    pull_request: Option<String>,
}

pub(crate) async fn run(context: &Context, args: &PromoteArgs) -> Result<Code, Error> {
    if args.from == args.to {
        return Err(Error::usage(format!("FROM and TO are both '{}'", args.from)));
    }
    let (mut done, mut texts, mut folders) = (Promotion::default(), BTreeMap::new(), Vec::new());
    for path in &args.path {
        let path = path.trim_end_matches('/');
        let [from, to] = [&args.from, &args.to].map(|side| format!("{path}/{side}"));
        for (path, text) in files(&args.repo, &from)? {
            let other = format!("{to}{}", &path[from.len()..]);
            let old = read(&args.repo, &other)?;
            let side = Side { path: &path, text: &text };
            let other_side = old.as_deref().map(|text| Side { path: &other, text });
            let carried = carry(&side, other_side.as_ref())
                .map_err(|reason| Error::new(Code::Input, format!("cannot promote: {reason}")))?;
            done.left.extend(carried.left);
            if let (Some(old), false) = (&old, carried.changes.is_empty()) {
                let (a, b) = (format!("a/{other}"), format!("b/{other}"));
                let diff = similar::TextDiff::from_lines(old, &carried.text);
                done.diff += &diff.unified_diff().context_radius(3).header(&a, &b).to_string();
                done.changes.extend(carried.changes);
                texts.insert(other, carried.text);
            }
        }
        if !args.repo.join(&to).is_dir() {
            return Err(missing(&args.repo, &to));
        }
        folders.extend([from, to]);
    }
    if !texts.is_empty() && !args.dry_run {
        commit::are_committed(&args.repo, &folders)?;
        let prepared = args.pull.prepare(&args.repo)?;
        let message = args.message.clone().unwrap_or_else(|| message(args, &done.changes));
        done.commit = Some(match &args.branch {
            Some(branch) => commit::on_branch(&args.repo, branch, &texts, &message)?,
            None => commit::here(&args.repo, &texts, &message)?,
        });
        done.branch.clone_from(&args.branch);
        if let (Some(prepared), Some(branch)) = (prepared, &args.branch) {
            done.pull_request = Some(prepared.make(&args.repo, branch, &message).await?);
        }
    }
    show(context, args.output.output, &done)?;
    Ok(Code::Done)
}

fn show(context: &Context, format: Format, done: &Promotion) -> Result<(), Error> {
    if !matches!(format, Format::Table | Format::Wide) {
        return context.terminal.show(format, done, |_| String::new());
    }
    let diff: Vec<String> = done.diff.lines().map(|line| clean(line) + "\n").collect();
    context.terminal.print(&diff.concat())?;
    for left in &done.left {
        context.terminal.warn(&format!("{}:{}: {} stays: {}", left.file, left.line, left.what, left.why));
    }
    let count = done.changes.len();
    let changed = match (&done.commit, &done.branch) {
        _ if count == 0 => "there is nothing to promote".to_owned(),
        (None, _) => format!("{count} values would change"),
        (Some(commit), None) => format!("{count} values changed in commit {commit}"),
        (Some(commit), Some(branch)) => {
            format!("{count} values changed in commit {commit} on branch {branch}")
        }
    };
    context.terminal.note(&changed);
    if let Some(address) = &done.pull_request {
        context.terminal.note(&format!("the pull request is {address}"));
    }
    Ok(())
}

fn message(args: &PromoteArgs, changes: &[Change]) -> String {
    let mut text = format!("Promote {} to {} in {}\n\n", args.from, args.to, args.path.join(", "));
    for Change { file, what, from, to, .. } in changes {
        text += &format!("{file}: {what} from {from} to {to}\n");
    }
    text
}

fn missing(repo: &Path, folder: &str) -> Error {
    Error::new(Code::Input, format!("there is no folder {}", repo.join(folder).display())).hint(
        "overlays are folders FROM and TO below --path, like staging and production below apps/web/overlays",
    )
}

/// The YAML files of a folder and those below it, with their texts. Links are passed over, as in the fleet repo.
fn files(repo: &Path, folder: &str) -> Result<BTreeMap<String, String>, Error> {
    if !repo.join(folder).is_dir() {
        return Err(missing(repo, folder));
    }
    let (mut found, mut next) = (BTreeMap::new(), vec![(folder.to_owned(), 0)]);
    while let Some((folder, depth)) = next.pop() {
        let failed = |error| Error::io(format_args!("list {folder}"), error);
        for entry in fs::read_dir(repo.join(&folder)).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let kind = entry.file_type().map_err(failed)?;
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            let path = format!("{folder}/{name}");
            if kind.is_dir() && depth < DEPTH {
                next.push((path, depth + 1));
            } else if kind.is_dir() || found.len() == FILES {
                return Err(Error::new(
                    Code::Input,
                    format!("{path}: an overlay has more than {FILES} files, or folders deeper than {DEPTH}"),
                ));
            } else if kind.is_file() && (name.ends_with(".yaml") || name.ends_with(".yml")) {
                let text = read(repo, &path)?.unwrap_or_default();
                found.insert(path, text);
            }
        }
    }
    Ok(found)
}

/// A file's text; `None` where there is none. A folder on the way that is a link is refused: what is read is written later, and the
/// author of a repository must not say where outside of it.
fn read(repo: &Path, path: &str) -> Result<Option<String>, Error> {
    let failed = |error| Error::io(format_args!("read {path}"), error);
    for (at, _) in path.match_indices('/') {
        match fs::symlink_metadata(repo.join(&path[..at])) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
            Ok(about) if about.is_symlink() => {
                let message = format!("{path}: its folder {} is a link", &path[..at]);
                return Err(Error::new(Code::Input, message).hint("put a folder in its place"));
            }
            Ok(_) => {}
        }
    }
    match fs::symlink_metadata(repo.join(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
        Ok(about) if !about.is_file() => {
            return Err(Error::new(Code::Input, format!("{path} is not a file")));
        }
        Ok(about) if about.len() > BYTES => {
            return Err(Error::new(Code::Input, format!("{path} is larger than {BYTES} bytes")));
        }
        Ok(_) => {}
    }
    fs::read_to_string(repo.join(path)).map(Some).map_err(failed)
}
