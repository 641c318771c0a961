//! The commit of a promotion, by the git program: it knows the author, and signs where it is told to.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::Error;
use crate::exit::Code;

/// New texts by path below the folder of the fleet repo.
type Texts = BTreeMap<String, String>;

/// Runs git in the folder, and gives what it prints.
pub(in crate::commands) fn git(
    repo: &Path,
    args: &[&str],
    input: &str,
    index: Option<&Path>,
) -> Result<String, Error> {
    let attempt = format!("git {}", args.first().copied().unwrap_or_default());
    let failed = |error| {
        Error::io(format_args!("run {attempt}"), error)
            .hint("a commit is made by the git program: is it installed?")
    };
    let mut command = Command::new("git");
    command.arg("--literal-pathspecs").arg("-C").arg(repo).args(args);
    if let Some(index) = index {
        command.env("GIT_INDEX_FILE", index);
    }
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read says why.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::new(Code::Local, format!("{attempt} failed: {}", said.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Makes sure that the folders are as the last commit has them: what is promoted was reviewed.
pub(super) fn are_committed(repo: &Path, folders: &[String]) -> Result<(), Error> {
    let mut args = vec!["status", "--porcelain", "--"];
    args.extend(folders.iter().map(String::as_str));
    let open = git(repo, &args, "", None)?;
    if open.is_empty() {
        return Ok(());
    }
    let first = open.lines().next().unwrap_or_default().trim();
    Err(Error::new(Code::Input, format!("the overlays have changes that are not committed: {first}"))
        .hint("commit or stash them first; --dry-run shows the diff all the same"))
}

/// Writes the files and commits them on what is checked out.
pub(super) fn here(repo: &Path, texts: &Texts, message: &str) -> Result<String, Error> {
    for (path, text) in texts {
        fs::write(repo.join(path), text).map_err(|error| Error::io(format_args!("write {path}"), error))?;
    }
    let mut args = vec!["commit", "--quiet", "--file=-", "--only", "--"];
    args.extend(texts.keys().map(String::as_str));
    git(repo, &args, message, None)?;
    git(repo, &["rev-parse", "HEAD"], "", None)
}

/// Commits on a new branch, without a change to what is checked out.
pub(super) fn on_branch(repo: &Path, branch: &str, texts: &Texts, message: &str) -> Result<String, Error> {
    let name = format!("refs/heads/{branch}");
    git(repo, &["check-ref-format", &name], "", None)
        .map_err(|_| Error::usage(format!("'{branch}' is no name of a branch")))?;
    let folder = tempfile::tempdir().map_err(|error| Error::io("make a temporary folder", error))?;
    let index = folder.path().join("index");
    let head = git(repo, &["rev-parse", "HEAD"], "", None)?;
    let prefix = git(repo, &["rev-parse", "--show-prefix"], "", None)?;
    git(repo, &["read-tree", &head], "", Some(&index))?;
    for (path, text) in texts {
        let listed = git(repo, &["ls-files", "--stage", "--", path], "", Some(&index))?;
        let mode = listed.split(' ').next().unwrap_or_default();
        let whole = format!("{prefix}{path}");
        let object = git(repo, &["hash-object", "-w", "--stdin"], text, None)?;
        let info = format!("{mode},{object},{whole}");
        git(repo, &["update-index", "--cacheinfo", &info], "", Some(&index))?;
    }
    let tree = git(repo, &["write-tree"], "", Some(&index))?;
    let commit = git(repo, &["commit-tree", &tree, "-p", &head], message, None)?;
    // Only where there is none of this name: whose it is, nobody knows.
    git(repo, &["update-ref", &name, &commit, &"0".repeat(head.len())], "", None)
        .map_err(|error| error.hint(format!("is there a branch {branch} already? name another one")))?;
    Ok(commit)
}
