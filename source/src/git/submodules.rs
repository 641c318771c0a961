//! The submodules of a commit, fetched and put in their places.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use flotilla_kustomize::files::{Entry, Files, Kind, ReadError, TreePath};

use super::error::FetchError;
use super::files::GitFiles;
use super::repo::{CommitId, GitRepo};
use super::spec::{GitSpec, GitUrl, Reference};
use crate::mounted::Mounted;

/// Submodules of submodules, and so on.
const DEPTH: usize = 8;
/// Submodules of one repository, and theirs.
const MOST: usize = 100;

struct Submodule {
    path: TreePath,
    /// As `.gitmodules` has it; maybe relative to the repository that it is in.
    url: String,
    commit: CommitId,
}

/// The tree of a commit with its submodules, and theirs, in their places, each at the commit that is recorded for it.
/// They are fetched into `dir`, with the credentials of `spec` where they are at its host. Blocks.
///
/// # Errors
/// Where one cannot be fetched: a tree that lacks one would look as if its files were gone.
pub(crate) fn with_submodules(
    files: GitFiles,
    spec: &GitSpec,
    dir: &Path,
    cancel: &AtomicBool,
) -> Result<Arc<dyn Files>, FetchError> {
    fetch(files, spec, dir, cancel, DEPTH, &mut 0)
}

fn fetch(
    files: GitFiles,
    spec: &GitSpec,
    dir: &Path,
    cancel: &AtomicBool,
    depth: usize,
    count: &mut usize,
) -> Result<Arc<dyn Files>, FetchError> {
    let failed = |path: &str, reason: String| FetchError::Submodule {
        url: spec.url.to_string(),
        path: path.to_owned(),
        reason,
    };
    let submodules = submodules(&files).map_err(|reason| failed(".gitmodules", reason))?;
    if submodules.is_empty() {
        return Ok(Arc::new(files));
    }
    *count += submodules.len();
    if depth == 0 || *count > MOST {
        let reason = format!("there are more than {MOST} of them, or {DEPTH} inside each other");
        return Err(failed(".gitmodules", reason));
    }
    let mut mounted = Mounted::new(Arc::new(files));
    for (n, submodule) in submodules.into_iter().enumerate() {
        let path = submodule.path.to_string();
        let inner = module_spec(spec, &submodule).map_err(|reason| failed(&path, reason))?;
        let dir = dir.join(n.to_string());
        let mut repo = GitRepo::open(dir.join("repo"), inner.clone())
            .map_err(|error| failed(&path, error.to_string()))?;
        let is_there = repo.newest().is_some_and(|commit| commit.id == submodule.commit);
        if !is_there {
            repo.fetch(cancel).map_err(|error| failed(&path, error.to_string()))?;
        }
        let tree = repo.tree(&submodule.commit).map_err(|error| failed(&path, error.to_string()))?;
        let tree = fetch(tree, &inner, &dir.join("modules"), cancel, depth - 1, count)?;
        mounted.mount(submodule.path, tree, TreePath::root());
    }
    Ok(Arc::new(mounted))
}

fn module_spec(parent: &GitSpec, submodule: &Submodule) -> Result<GitSpec, String> {
    // The parent's own address is from where it was fetched, and so is what is relative to it.
    let address = match parent.mirrors.address(&submodule.url) {
        Cow::Owned(moved) => moved,
        Cow::Borrowed(named) => resolve(&parent.url.to_string(), named)?,
    };
    let url: GitUrl = address.parse().map_err(|error: super::spec::UrlError| error.to_string())?;
    if url.is_file() && !parent.url.is_file() {
        return Err(format!("{url} is a folder of this machine, which a remote repository may not name"));
    }
    let mut spec = GitSpec { url, reference: Reference::Commit(submodule.commit.clone()), ..parent.clone() };
    if !spec.url.is_same_server(&parent.url) {
        spec.credentials = None;
    } else if spec.credentials.is_none() {
        spec.credentials = parent.credentials().cloned();
    }
    Ok(spec)
}

/// `./x` and `../x` are relative to the repository that they are in.
fn resolve(parent: &str, url: &str) -> Result<String, String> {
    if !(url.starts_with("./") || url.starts_with("../")) {
        return Ok(url.to_owned());
    }
    let (mut base, mut rest) = (parent.trim_end_matches('/').to_owned(), url);
    let floor =
        base.find("://").map_or(0, |at| base[at + 3..].find('/').map_or(base.len(), |slash| at + 3 + slash));
    loop {
        if let Some(after) = rest.strip_prefix("./") {
            rest = after;
        } else if let Some(after) = rest.strip_prefix("../") {
            let cut = base[floor..].rfind(['/', ':']).map(|at| floor + at);
            let cut = cut.ok_or_else(|| format!("'{url}' leads out of the server of {parent}"))?;
            // The colon of `git@host:repo` is part of what stays.
            let keeps_colon = base.as_bytes()[cut] == b':';
            base.truncate(cut + usize::from(keeps_colon));
            rest = after;
        } else {
            let separator = if base.ends_with([':', '/']) { "" } else { "/" };
            return Ok(format!("{base}{separator}{rest}"));
        }
    }
}

fn submodules(files: &GitFiles) -> Result<Vec<Submodule>, String> {
    let path = TreePath::from_root(".gitmodules").map_err(|error| error.to_string())?;
    let said = |error: ReadError| error.to_string();
    if !matches!(files.entry(&path).map_err(said)?, Some(Entry { kind: Kind::File, .. })) {
        return Ok(Vec::new());
    }
    let content = files.read(&path).map_err(said)?;
    let text = std::str::from_utf8(&content).map_err(|_| "it is not UTF-8 text".to_owned())?;
    let config = gix::config::File::try_from(text).map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    for section in config.sections_by_name("submodule").into_iter().flatten() {
        let value = |key: &str| section.value(key).map(|value| value.to_string());
        let (Some(path), Some(url)) = (value("path"), value("url")) else { continue };
        let path = TreePath::root().join(&path).map_err(|error| error.to_string())?;
        // What is listed but not in the tree is not there, as for Git.
        if let Some(commit) = files.submodule(&path).map_err(said)? {
            found.push(Submodule { path, url, commit });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_addresses() {
        for (parent, url, expected) in [
            ("https://h/o/r.git", "../x.git", Ok("https://h/o/x.git")),
            ("https://h/o/r.git/", "../../p/x", Ok("https://h/p/x")),
            ("https://h/o/r", "./x", Ok("https://h/o/r/x")),
            ("git@h:o/r", "../x", Ok("git@h:o/x")),
            ("git@h:r", "../x", Ok("git@h:x")),
            ("file:///srv/a", "../b", Ok("file:///srv/b")),
            ("https://h/o", "https://other/x", Ok("https://other/x")),
            ("https://h/o", "../../x", Err(())),
        ] {
            let resolved = resolve(parent, url);
            assert_eq!(resolved.as_deref().map_err(|_| ()), expected, "{parent} {url}");
        }
    }
}
