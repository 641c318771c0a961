//! Commits read from somebody's own repository.

use std::path::Path;

use anyhow::Result;
use flotilla_kustomize::files::{Files as _, TreePath};
use flotilla_source::{WorkTree, WorkTreeError};

use crate::support::Remote;

fn read(folder: &Path, revision: &str, file: &str) -> Result<String> {
    let (_, files) = WorkTree::open(folder, 1 << 20)?.commit(revision)?;
    Ok(String::from_utf8(files.read(&TreePath::from_root(file)?)?.to_vec())?)
}

#[test]
fn commits_are_found_by_what_git_calls_them() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let remote = Remote::empty(tmp.path().join("work"))?;
    let first = remote.put("fleet/a", "1")?;
    remote.git(&["tag", "-a", "-m", "x", "v1"])?;
    remote.git(&["branch", "feature/x"])?;
    remote.put("fleet/a", "2")?;
    remote.write("fleet/a", "3")?;
    for (revision, content) in [
        (first.as_str(), "1"),
        (first.short(), "1"),
        ("v1", "1"),
        ("feature/x", "1"),
        ("HEAD", "2"),
        ("HEAD~1", "1"),
        ("HEAD^1", "1"),
        ("main", "2"),
    ] {
        assert_eq!(read(&remote.dir, revision, "fleet/a")?, content, "{revision}");
        assert_eq!(
            read(&remote.dir.join("fleet"), revision, "a")?,
            content,
            "{revision} from a folder in it"
        );
    }
    // A linked work tree has its own HEAD and the same objects.
    let linked = tmp.path().join("linked");
    remote.git(&["worktree", "add", "-q", linked.to_str().unwrap(), "v1"])?;
    assert_eq!(read(&linked, "HEAD", "fleet/a")?, "1");
    let (commit, _) = WorkTree::open(&linked, 1 << 20)?.commit("HEAD")?;
    assert_eq!((commit.id, commit.subject.as_str()), (first, "fleet/a: 1"));
    Ok(())
}

#[test]
fn what_cannot_be_read_is_named() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let outside = WorkTree::open(tmp.path(), 1 << 20).err().expect("no repository");
    assert!(matches!(outside, WorkTreeError::NoRepository { .. }), "{outside}");
    let remote = Remote::empty(tmp.path().join("work"))?;
    remote.put("a", "1")?;
    remote.put("fleet/b", "1")?;
    let error = |folder: &Path, revision: &str| {
        WorkTree::open(folder, 1 << 20).unwrap().commit(revision).err().expect("it cannot be read")
    };
    let unknown = error(&remote.dir, "nowhere");
    assert!(matches!(unknown, WorkTreeError::NoCommit { .. }), "{unknown}");
    assert!(unknown.to_string().starts_with("'nowhere' names no commit in the repository of "), "{unknown}");
    let blob = error(&remote.dir, "HEAD:a");
    assert!(matches!(blob, WorkTreeError::Unreadable { .. }), "{blob}");
    let folder = error(&remote.dir.join("fleet"), "HEAD~1");
    assert_eq!(folder.to_string(), "there is no folder 'fleet' in commit 'HEAD~1'");
    let shallow = tmp.path().join("shallow");
    let url = format!("file://{}", remote.dir.display());
    remote.git(&["clone", "-q", "--depth", "1", &url, shallow.to_str().unwrap()])?;
    let unfetched = error(&shallow, "HEAD~1");
    assert!(matches!(unfetched, WorkTreeError::NotFetched { .. }), "{unfetched}");
    Ok(())
}
