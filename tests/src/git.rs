//! Bare Git repositories with commits made to order, by `git fast-import`: no checkout, any history.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// The branch of [`Repo::commit`].
pub const BRANCH: &str = "main";

/// One change of a commit. Paths are relative to the repository's root, with `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A file with this content, new or replaced.
    File(String, Vec<u8>),
    /// A symbolic link to this target.
    Symlink(String, String),
    /// A file or folder goes.
    Remove(String),
}

/// Shorthand for [`Change::File`].
pub fn file(path: &str, content: impl Into<Vec<u8>>) -> Change {
    Change::File(path.to_owned(), content.into())
}

/// Shorthand for [`Change::Remove`].
pub fn remove(path: &str) -> Change {
    Change::Remove(path.to_owned())
}

/// A bare repository, without a commit at first.
#[derive(Debug)]
pub struct Repo {
    path: PathBuf,
    _folder: Option<TempDir>,
}

impl Repo {
    /// A repository in a folder of its own, which goes with it. It is named `fleet.git`.
    ///
    /// # Errors
    /// Where `git` is missing.
    pub fn new() -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("flotilla-git-").tempdir().context("make a folder for git")?;
        let mut repo = Self::at(folder.path().join("fleet.git"))?;
        repo._folder = Some(folder);
        Ok(repo)
    }

    /// A repository at a path, made there if it is not yet.
    ///
    /// # Errors
    /// Where `git` is missing or the path cannot be made.
    pub fn at(path: impl Into<PathBuf>) -> Result<Self> {
        let repo = Self { path: path.into(), _folder: None };
        let mut init = command();
        init.args(["init", "--quiet", "--bare"]).arg(format!("--initial-branch={BRANCH}")).arg(&repo.path);
        run(init, &[]).with_context(|| format!("make the repository {}", repo.path.display()))?;
        Ok(repo)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its `file://` address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("file://{}", self.path.display())
    }

    /// Adds a commit to `main` and gives its id.
    ///
    /// # Errors
    /// If a change does not fit what is there.
    pub fn commit(&self, message: &str, changes: &[Change]) -> Result<String> {
        self.commit_to(BRANCH, message, changes)
    }

    /// Adds a commit to a branch, which begins with it if it is new, and gives its id.
    ///
    /// # Errors
    /// If a change does not fit what is there.
    pub fn commit_to(&self, branch: &str, message: &str, changes: &[Change]) -> Result<String> {
        let parent = self.head(branch)?;
        self.import(branch, parent.as_deref(), message, changes)
    }

    /// Rewrites a branch, as a forced push does: one new commit upon `parent`, or upon nothing.
    ///
    /// # Errors
    /// If there is no such parent or a change does not fit.
    pub fn force(
        &self,
        branch: &str,
        parent: Option<&str>,
        message: &str,
        changes: &[Change],
    ) -> Result<String> {
        self.import(branch, parent, message, changes)
    }

    /// Points a branch at a commit that is there already.
    ///
    /// # Errors
    /// If there is no such commit.
    pub fn reset(&self, branch: &str, commit: &str) -> Result<()> {
        self.git(&["update-ref", &format!("refs/heads/{branch}"), commit]).map(drop)
    }

    /// Removes a branch.
    ///
    /// # Errors
    /// If git refuses.
    pub fn remove_branch(&self, branch: &str) -> Result<()> {
        self.git(&["update-ref", "-d", &format!("refs/heads/{branch}")]).map(drop)
    }

    /// The commit that a branch points at; `None` if there is no such branch.
    ///
    /// # Errors
    /// If the repository cannot be read.
    pub fn head(&self, branch: &str) -> Result<Option<String>> {
        let head = self.git(&["for-each-ref", "--format=%(objectname)", &format!("refs/heads/{branch}")])?;
        Ok(Some(head.trim().to_owned()).filter(|head| !head.is_empty()))
    }

    /// The content of a file at the head of a branch.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn read(&self, branch: &str, path: &str) -> Result<String> {
        self.git(&["cat-file", "blob", &format!("refs/heads/{branch}:{path}")])
    }

    /// Runs a git command in the repository and gives what it prints.
    ///
    /// # Errors
    /// If it fails: with what it wrote to stderr.
    pub fn git(&self, args: &[&str]) -> Result<String> {
        let mut command = command();
        command.arg("--git-dir").arg(&self.path).args(args);
        run(command, &[]).with_context(|| format!("git {}", args.join(" ")))
    }

    fn import(
        &self,
        branch: &str,
        parent: Option<&str>,
        message: &str,
        changes: &[Change],
    ) -> Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        let reference = format!("refs/heads/{branch}");
        let mut stream = format!(
            "reset {reference}\n\ncommit {reference}\ncommitter Tester <tester@example.com> {now} +0000\n"
        )
        .into_bytes();
        data(&mut stream, message.as_bytes())?;
        if let Some(parent) = parent {
            writeln!(stream, "from {parent}")?;
        }
        for change in changes {
            match change {
                Change::File(path, content) => {
                    writeln!(stream, "M 100644 inline {}", quoted(path))?;
                    data(&mut stream, content)?;
                }
                Change::Symlink(path, target) => {
                    writeln!(stream, "M 120000 inline {}", quoted(path))?;
                    data(&mut stream, target.as_bytes())?;
                }
                Change::Remove(path) => writeln!(stream, "D {}", quoted(path))?,
            }
        }
        stream.extend_from_slice(b"\ndone\n");
        let mut import = command();
        import.arg("--git-dir").arg(&self.path).args(["fast-import", "--quiet", "--force", "--done"]);
        run(import, &stream).with_context(|| format!("commit {message:?} to {branch}"))?;
        self.head(branch)?.with_context(|| format!("{branch} has no commit after an import"))
    }
}

/// All files below a folder of this machine, as they would be at the root of a repository.
///
/// # Errors
/// If a file cannot be read.
pub fn folder(path: &Path) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    let mut folders = vec![path.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
            let entry = entry?;
            let kind = entry.file_type()?;
            let full = entry.path();
            let name = full
                .strip_prefix(path)?
                .to_str()
                .with_context(|| format!("{} is not UTF-8", full.display()))?;
            if kind.is_dir() {
                folders.push(full);
            } else if kind.is_symlink() {
                let target = fs::read_link(&full)?.to_string_lossy().into_owned();
                changes.push(Change::Symlink(name.to_owned(), target));
            } else {
                let content = fs::read(&full).with_context(|| format!("read {}", full.display()))?;
                changes.push(file(name, content));
            }
        }
    }
    Ok(changes)
}

/// Git with no settings but its defaults, whatever this machine's user has.
pub(crate) fn command() -> Command {
    let mut git = Command::new("git");
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE"] {
        git.env_remove(name);
    }
    git.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_TERMINAL_PROMPT", "0");
    git
}

fn run(mut command: Command, input: &[u8]) -> Result<String> {
    let mut child = match command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            anyhow::bail!("git is not there: install git")
        }
        Err(error) => return Err(error).context("start git"),
    };
    if let Some(mut stdin) = child.stdin.take() {
        // If git has given up, its own words say more than the broken pipe.
        let _ = stdin.write_all(input);
    }
    let output = child.wait_with_output().context("wait for git")?;
    ensure!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    String::from_utf8(output.stdout).context("git printed something that is not UTF-8")
}

fn data(stream: &mut Vec<u8>, content: &[u8]) -> Result<()> {
    writeln!(stream, "data {}", content.len())?;
    stream.extend_from_slice(content);
    stream.push(b'\n');
    Ok(())
}

/// A path as fast-import reads it, whatever characters it holds.
fn quoted(path: &str) -> String {
    format!("\"{}\"", path.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_add_change_and_remove() {
        let repo = Repo::new().unwrap();
        assert_eq!(repo.head(BRANCH).unwrap(), None, "no branch before the first commit");
        let first = repo
            .commit("one", &[file("a/b.yaml", "b: 1\n"), file("a/with \"space\".yaml", "c: 1\n")])
            .unwrap();
        let link = Change::Symlink("link".into(), "../out".into());
        let second =
            repo.commit("two", &[file("a/b.yaml", "b: 2\n"), remove("a/with \"space\".yaml"), link]).unwrap();
        assert_ne!(first, second);
        assert_eq!(repo.head(BRANCH).unwrap(), Some(second));
        assert_eq!(repo.read(BRANCH, "a/b.yaml").unwrap(), "b: 2\n");
        assert_eq!(
            repo.git(&["ls-tree", "-r", "--format=%(objectmode) %(path)", BRANCH]).unwrap(),
            "100644 a/b.yaml\n120000 link\n"
        );
        assert_eq!(repo.git(&["rev-list", "--count", BRANCH]).unwrap(), "2\n");
    }

    #[test]
    fn a_forced_branch_has_another_history() {
        let repo = Repo::new().unwrap();
        let first = repo.commit("one", &[file("a", "1")]).unwrap();
        repo.commit("two", &[file("b", "2")]).unwrap();
        repo.force(BRANCH, Some(&first), "other", &[file("c", "3")]).unwrap();
        assert_eq!(repo.git(&["ls-tree", "--name-only", BRANCH]).unwrap(), "a\nc\n");
        repo.force(BRANCH, None, "orphan", &[file("d", "4")]).unwrap();
        assert_eq!(repo.git(&["rev-list", "--count", BRANCH]).unwrap(), "1\n");
        repo.reset(BRANCH, &first).unwrap();
        assert_eq!(repo.head(BRANCH).unwrap(), Some(first));
        repo.remove_branch(BRANCH).unwrap();
        assert_eq!(repo.head(BRANCH).unwrap(), None);
    }

    #[test]
    fn a_folder_becomes_a_commit() {
        let source = tempfile::tempdir().unwrap();
        fs::create_dir(source.path().join("apps")).unwrap();
        fs::write(source.path().join("apps/web.yaml"), "web: 1\n").unwrap();
        let repo = Repo::new().unwrap();
        repo.commit("import", &folder(source.path()).unwrap()).unwrap();
        assert_eq!(repo.read(BRANCH, "apps/web.yaml").unwrap(), "web: 1\n");
    }

    #[test]
    fn what_git_refuses_is_told() {
        let repo = Repo::new().unwrap();
        let error =
            repo.force(BRANCH, Some("0123456789012345678901234567890123456789"), "x", &[]).unwrap_err();
        assert!(format!("{error:#}").contains("commit \"x\" to main: "), "{error:#}");
    }
}
