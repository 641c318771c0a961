//! Repositories on this machine: what is fetched, kept, refused and repaired.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::support::{Remote, fetch};
use anyhow::Result;
use flotilla_kustomize::files::{Files, Kind, TreePath};
use flotilla_source::{CommitError, CommitId, FetchError, GitRepo, OpenError};

fn path(text: &str) -> TreePath {
    TreePath::from_root(text).unwrap()
}

fn read(repo: &GitRepo, commit: &CommitId, file: &str) -> Result<String> {
    Ok(String::from_utf8(repo.tree(commit)?.read(&path(file))?.to_vec())?)
}

fn packs(cache: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let dir = entry.path().join("objects/pack");
        let files = fs::read_dir(dir).into_iter().flatten().flatten().map(|file| file.path());
        found.extend(files.filter(|file| file.extension().is_some_and(|e| e == "pack")));
    }
    found
}

/// What is kept is readable after a forced push, in a new clone and after a restart; what is not kept goes.
#[test]
fn kept_commits_outlive_their_branch_and_their_clone() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let remote = Remote::empty(tmp.path().join("remote"))?;
    let mut repo = GitRepo::open(tmp.path().join("cache"), remote.spec())?;
    let [dropped, kept] = [remote.put("a", "1")?, remote.put("a", "2")?];
    fetch(&mut repo)?;
    repo.keep(&[kept.clone()].into())?;
    remote.git(&["checkout", "-q", "--orphan", "other"])?;
    let forced = remote.put("a", "3")?;
    remote.git(&["branch", "-M", "main"])?;
    assert_eq!(fetch(&mut repo)?, forced);
    // So many packs that the clone is made anew, twice.
    for clone in 1..=2 {
        let packs = tmp.path().join(format!("cache/clone-{clone}/objects/pack"));
        (0..=500).try_for_each(|n| fs::write(packs.join(format!("x{n}.pack")), ""))?;
        assert_eq!(fetch(&mut repo)?, forced);
        assert_eq!((read(&repo, &kept, "a")?, read(&repo, &forced, "a")?), ("2".into(), "3".into()));
    }
    drop(repo);
    let mut repo = GitRepo::open(tmp.path().join("cache"), remote.spec())?;
    assert_eq!(read(&repo, &kept, "a")?, "2", "after a restart");
    // Whoever keeps another one too does not lose it.
    repo.keep(&[kept.clone(), forced.clone()].into())?;
    assert_eq!(read(&repo, &kept, "a")?, "2");
    repo.keep(&[forced.clone()].into())?;
    drop(repo);
    let repo = GitRepo::open(tmp.path().join("cache"), remote.spec())?;
    assert_eq!(read(&repo, &forced, "a")?, "3");
    for gone in [kept, dropped] {
        assert!(matches!(repo.tree(&gone), Err(CommitError::NotFetched { .. })), "{gone}");
    }
    let clones = fs::read_dir(tmp.path().join("cache"))?.flatten();
    let clones = clones.filter(|entry| entry.file_name().to_string_lossy().starts_with("clone-"));
    assert_eq!(clones.count(), 1);
    Ok(())
}

#[test]
fn a_branch_is_cloned_then_followed_and_older_commits_stay() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let remote = Remote::empty(tmp.path().join("remote"))?;
    let first = remote.put("apps/a.yaml", "a: 1")?;
    let mut repo = GitRepo::open(tmp.path().join("cache"), remote.spec())?;
    assert_eq!(repo.newest(), None);
    assert!(matches!(repo.tree(&first), Err(CommitError::NotFetched { .. })));

    let commit = repo.fetch(&AtomicBool::new(false))?;
    assert_eq!((&commit.id, &*commit.author, &*commit.subject), (&first, "Ada", "apps/a.yaml: a: 1"));
    assert_eq!(commit.time, jiff::Timestamp::from_second(1_700_000_000)?);
    assert_eq!(read(&repo, &first, "apps/a.yaml")?, "a: 1");

    let before = repo.tree(&first)?;
    let second = remote.put("apps/a.yaml", "a: 2")?;
    assert_eq!(fetch(&mut repo)?, second);
    assert_eq!(packs(&tmp.path().join("cache")).len(), 2);
    assert_eq!(fetch(&mut repo)?, second);
    assert_eq!(packs(&tmp.path().join("cache")).len(), 2, "nothing travels when nothing changed");
    assert_eq!(read(&repo, &second, "apps/a.yaml")?, "a: 2");
    assert_eq!(read(&repo, &first, "apps/a.yaml")?, "a: 1");
    assert_eq!(&*before.read(&path("apps/a.yaml"))?, b"a: 1");

    // A forced push, to a shorter history.
    remote.git(&["checkout", "-q", "--orphan", "other"])?;
    let forced = remote.put("apps/a.yaml", "a: 3")?;
    remote.git(&["branch", "-M", "main"])?;
    assert_eq!(fetch(&mut repo)?, forced);
    assert_eq!(read(&repo, &second, "apps/a.yaml")?, "a: 2");
    assert_eq!(repo.commit(&second)?.subject, "apps/a.yaml: a: 2");

    // Away: said so, and all of it is still there, after a restart too.
    fs::rename(&remote.dir, tmp.path().join("gone"))?;
    for _ in 0..2 {
        assert!(matches!(fetch(&mut repo), Err(FetchError::NoRepository { .. })));
        assert_eq!(repo.newest().map(|commit| commit.id), Some(forced.clone()));
        assert_eq!(read(&repo, &first, "apps/a.yaml")?, "a: 1");
        drop(repo);
        repo = GitRepo::open(tmp.path().join("cache"), remote.spec())?;
    }
    Ok(())
}

#[test]
fn content_ids_are_equal_for_equal_content() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let remote = Remote::empty(tmp.path().join("remote"))?;
    remote.put("a/x", "1")?;
    let first = remote.put("b/x", "1")?;
    let second = remote.put("b/x", "2")?;
    let mut repo = GitRepo::open(tmp.path().join("cache"), remote.spec())?;
    fetch(&mut repo)?;
    let id = |commit: &CommitId, at: &str| repo.tree(commit).unwrap().entry(&path(at)).unwrap().unwrap().id;
    assert_eq!(id(&first, "a"), id(&first, "b"));
    assert_eq!(id(&first, "a"), id(&second, "a"));
    assert_ne!(id(&first, "b"), id(&second, "b"));
    assert_ne!(id(&first, ""), id(&second, ""));
    Ok(())
}

#[test]
fn what_is_missing_is_named_and_comes_when_it_is_there() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let remote = Remote::empty(tmp.path().join("remote"))?;
    let mut repo = GitRepo::open(tmp.path().join("cache"), remote.spec())?;
    assert!(matches!(fetch(&mut repo), Err(FetchError::Empty { .. })));
    remote.git(&["checkout", "-q", "-b", "release/1"])?;
    remote.put("a", "1")?;
    let error = fetch(&mut repo).unwrap_err();
    assert!(error.to_string().contains("no branch 'main'; it has 'release/1'"), "{error}");
    remote.git(&["branch", "main2"])?;
    assert!(
        matches!(fetch(&mut repo), Err(FetchError::NoSuchBranch { existing, .. }) if existing.len() == 2)
    );
    remote.git(&["branch", "main"])?;
    let commit = fetch(&mut repo)?;

    // The branch goes: what was fetched stays.
    remote.git(&["branch", "-D", "main"])?;
    assert!(matches!(fetch(&mut repo), Err(FetchError::NoSuchBranch { .. })));
    assert_eq!(read(&repo, &commit, "a")?, "1");

    // One process a clone; another branch or repository is another clone.
    assert!(matches!(GitRepo::open(tmp.path().join("cache"), remote.spec()), Err(OpenError::InUse { .. })));
    drop(repo);
    let mut spec = remote.spec();
    spec.reference = "main2".parse::<flotilla_source::Branch>()?.into();
    let mut repo = GitRepo::open(tmp.path().join("cache"), spec)?;
    assert_eq!(repo.newest(), None);
    assert_eq!(fetch(&mut repo)?, commit);
    Ok(())
}

type Damage = fn(&Path) -> Result<()>;
type Case = (&'static str, Box<dyn Fn(&Path) -> Result<()>>);

fn truncate_pack(cache: &Path) -> Result<()> {
    for pack in packs(cache) {
        let content = fs::read(&pack)?;
        fs::remove_file(&pack)?;
        fs::write(&pack, &content[..content.len() / 2])?;
    }
    Ok(())
}

fn flip_a_byte(cache: &Path) -> Result<()> {
    for pack in packs(cache) {
        let mut content = fs::read(&pack)?;
        let middle = content.len() / 2;
        content[middle] ^= 0xff;
        fs::remove_file(&pack)?;
        fs::write(&pack, content)?;
    }
    Ok(())
}

fn remove_packs(cache: &Path) -> Result<()> {
    for pack in packs(cache) {
        fs::remove_file(pack.with_extension("idx"))?;
        fs::remove_file(pack)?;
    }
    Ok(())
}

fn spoil(file: &'static str) -> impl Fn(&Path) -> Result<()> {
    move |cache| Ok(fs::write(cache.join("clone-1").join(file), "\0nonsense")?)
}

#[test]
fn a_damaged_clone_is_made_anew() -> Result<()> {
    let remove_all: Damage = |cache| Ok(fs::remove_dir_all(cache.join("clone-1"))?);
    let remove_refs: Damage = |cache| Ok(fs::remove_dir_all(cache.join("clone-1/refs"))?);
    let cases: Vec<Case> = vec![
        ("truncated pack", Box::new(truncate_pack)),
        ("flipped byte", Box::new(flip_a_byte)),
        ("no packs", Box::new(remove_packs)),
        ("no clone", Box::new(remove_all)),
        ("no refs", Box::new(remove_refs)),
        ("HEAD", Box::new(spoil("HEAD"))),
        ("config", Box::new(spoil("config"))),
        ("tip", Box::new(spoil("refs/flotilla/tip"))),
    ];
    let tmp = tempfile::tempdir()?;
    let remote = Remote::empty(tmp.path().join("remote"))?;
    let first = remote.put("a", "1")?;
    let last = remote.put("a", &"2".repeat(5000))?;
    for (name, damage) in cases {
        let cache = tmp.path().join(name);
        let mut repo = GitRepo::open(&cache, remote.spec())?;
        fetch(&mut repo)?;
        drop(repo);
        damage(&cache)?;
        let mut repo = GitRepo::open(&cache, remote.spec())?;
        assert_eq!(fetch(&mut repo)?, last, "{name}");
        assert_eq!(read(&repo, &first, "a")?, "1", "{name}");
    }
    Ok(())
}

#[test]
fn damage_that_a_reader_meets_is_repaired_by_the_next_fetch() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let remote = Remote::empty(tmp.path().join("remote"))?;
    let first = remote.put("dir/a", "1")?;
    let cache = tmp.path().join("cache");
    let mut repo = GitRepo::open(&cache, remote.spec())?;
    fetch(&mut repo)?;
    drop(repo);
    // An object that is not there is no absent file: a commit whose folder was lost.
    let object = remote.git(&["rev-parse", "HEAD:dir"])?;
    remove_packs(&cache)?;
    for kept in ["HEAD", "HEAD^{tree}"] {
        let id = remote.git(&["rev-parse", kept])?;
        let place = format!("objects/{}", &id[..2]);
        fs::create_dir_all(cache.join("clone-1").join(&place))?;
        fs::copy(
            remote.dir.join(".git").join(&place).join(&id[2..]),
            cache.join("clone-1").join(&place).join(&id[2..]),
        )?;
    }
    let mut repo = GitRepo::open(&cache, remote.spec())?;
    let files = repo.tree(&first)?;
    let error = files.entry(&path("dir/a")).unwrap_err();
    assert!(error.reason.contains(&object) && error.reason.contains("missing"), "{error}");
    fetch(&mut repo)?;
    assert_eq!(read(&repo, &first, "dir/a")?, "1");
    Ok(())
}

#[test]
fn what_a_killed_fetch_left_is_no_hindrance() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let remote = Remote::empty(tmp.path().join("remote"))?;
    remote.put("a", "1")?;
    let cache = tmp.path().join("cache");
    let mut repo = GitRepo::open(&cache, remote.spec())?;
    fetch(&mut repo)?;
    drop(repo);
    for left in ["objects/pack/.tmpAbc", "refs/flotilla/tip.lock", "HEAD.lock", "packed-refs.lock"] {
        fs::write(cache.join("clone-1").join(left), "x")?;
    }
    fs::create_dir_all(cache.join("new/objects"))?;
    let last = remote.put("a", "2")?;
    let mut repo = GitRepo::open(&cache, remote.spec())?;
    assert!(repo.newest().is_some());
    assert_eq!(fetch(&mut repo)?, last);
    assert!(!cache.join("new").exists() && !cache.join("clone-1/objects/pack/.tmpAbc").exists());
    assert!(cache.join("clone-1").exists(), "it was whole, so it was kept");
    Ok(())
}

#[test]
fn packs_do_not_pile_up_without_end() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let remote = Remote::empty(tmp.path().join("remote"))?;
    let first = remote.put("a", "1")?;
    let cache = tmp.path().join("cache");
    let mut repo = GitRepo::open(&cache, remote.spec())?;
    fetch(&mut repo)?;
    let before = repo.tree(&first)?;
    for n in 0..500 {
        fs::write(cache.join(format!("clone-1/objects/pack/pack-{n}.pack")), "")?;
    }
    assert_eq!(fetch(&mut repo)?, first);
    assert!(cache.join("clone-2").exists() && cache.join("clone-1").exists());
    assert_eq!(&*before.read(&path("a"))?, b"1", "who still reads the old one can");
    drop(repo);
    let repo = GitRepo::open(&cache, remote.spec())?;
    assert!(!cache.join("clone-1").exists());
    assert_eq!(read(&repo, &first, "a")?, "1");
    Ok(())
}

#[test]
fn files_are_bounded_and_nothing_leads_out_of_the_tree() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let remote = Remote::empty(tmp.path().join("remote"))?;
    remote.write("apps/web/a.yaml", "a: 1")?;
    remote.write("apps/run.sh", "true")?;
    remote.write("apps/huge.yaml", vec![b'x'; 2000])?;
    std::os::unix::fs::symlink("/etc/passwd", remote.dir.join("apps/passwd"))?;
    std::os::unix::fs::symlink("web", remote.dir.join("apps/link"))?;
    remote.git(&["update-index", "--add", "--chmod=+x", "apps/run.sh"])?;
    let first = remote.commit("files")?;
    remote.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{first},apps/module")])?;
    remote.git(&["commit", "-q", "-m", "a submodule"])?;
    let mut spec = remote.spec();
    spec.limits.file_bytes = 1000;
    let mut repo = GitRepo::open(tmp.path().join("cache"), spec.clone())?;
    let commit = fetch(&mut repo)?;
    let files = repo.tree(&commit)?;
    let listed: Vec<_> =
        files.list(&path("apps"))?.into_iter().map(|(name, entry)| (name, entry.kind)).collect();
    let expected = [
        ("huge.yaml", Kind::File),
        ("link", Kind::Symlink),
        ("passwd", Kind::Symlink),
        ("run.sh", Kind::File),
        ("web", Kind::Folder),
    ];
    assert_eq!(listed, expected.map(|(name, kind)| (name.to_owned(), kind)));
    assert_eq!(&*files.read(&path("apps/web/a.yaml"))?, b"a: 1");
    for (name, reason) in [
        ("apps/huge.yaml", "2000 bytes, the limit for one file is 1000"),
        ("apps/passwd", "symbolic link"),
        ("apps/web", "folder"),
        ("apps/link/a.yaml", "no such file"),
        ("apps/module", "no such file"),
        ("apps/web/a.yaml/b", "no such file"),
        ("nope", "no such file"),
    ] {
        let error = files.read(&path(name)).unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains(name), "{error}");
    }
    for absent in ["apps/link/a.yaml", "apps/module", "nope/x"] {
        assert_eq!(files.entry(&path(absent))?, None, "{absent}");
    }
    assert!(files.list(&path("apps/link")).is_err());
    Ok(())
}

#[test]
fn a_name_that_leads_out_of_its_folder_is_an_error() -> Result<()> {
    use std::io::Write;
    let tmp = tempfile::tempdir()?;
    let remote = Remote::empty(tmp.path().join("remote"))?;
    remote.put("x", "1")?;
    let blob = remote.git(&["rev-parse", "HEAD:x"])?;
    for (branch, name, reason) in [("dots", &b".."[..], "leads out"), ("latin", &b"caf\xe9"[..], "not UTF-8")]
    {
        // A tree object by hand: git itself refuses to make some of these.
        let mut content = [b"100644 ", name, b"\0"].concat();
        content.extend((0..20).map(|n| u8::from_str_radix(&blob[n * 2..n * 2 + 2], 16).unwrap()));
        let mut hash = std::process::Command::new("git")
            .current_dir(&remote.dir)
            .args(["hash-object", "-t", "tree", "--literally", "-w", "--stdin"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()?;
        hash.stdin.take().unwrap().write_all(&content)?;
        let evil = String::from_utf8(hash.wait_with_output()?.stdout)?.trim().to_owned();
        let mut outer = b"40000 evil\0".to_vec();
        outer.extend((0..20).map(|n| u8::from_str_radix(&evil[n * 2..n * 2 + 2], 16).unwrap()));
        fs::write(tmp.path().join("outer"), outer)?;
        let outer = tmp.path().join("outer").display().to_string();
        let root = remote.git(&["hash-object", "-t", "tree", "--literally", "-w", &outer])?;
        let commit = remote.git(&["commit-tree", &root, "-m", "evil"])?;
        remote.git(&["branch", branch, &commit])?;
        let mut spec = remote.spec();
        spec.reference = branch.parse::<flotilla_source::Branch>()?.into();
        let mut repo = GitRepo::open(tmp.path().join(format!("cache-{branch}")), spec)?;
        let commit = fetch(&mut repo)?;
        let error = repo.tree(&commit)?.list(&path("evil")).unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains("evil"), "{error}");
    }
    Ok(())
}

#[test]
fn limits_and_cancelling_stop_a_fetch_and_keep_what_was_there() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let remote = Remote::empty(tmp.path().join("remote"))?;
    let first = remote.put("a", "1")?;
    let cache = tmp.path().join("cache");
    let mut spec = remote.spec();
    spec.limits.clone_bytes = 100_000;
    let mut repo = GitRepo::open(&cache, spec.clone())?;
    fetch(&mut repo)?;

    // Content that does not compress.
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    })
    .take(500_000)
    .collect();
    remote.write("noise", &noise)?;
    remote.commit("noise")?;
    let error = fetch(&mut repo).unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { limit: 100_000, .. }), "{error}");
    assert_eq!(fetch(&mut repo).unwrap_err(), error, "again, without fetching it again");
    assert_eq!(read(&repo, &first, "a")?, "1");
    // Smaller again.
    remote.git(&["reset", "-q", "--hard", first.as_str()])?;
    let small = remote.put("a", "2")?;
    assert_eq!(fetch(&mut repo)?, small);
    drop(repo);
    let mut fresh = GitRepo::open(tmp.path().join("fresh"), spec.clone())?;
    assert!(matches!(fresh.fetch(&AtomicBool::new(true)), Err(FetchError::Cancelled { .. })));
    spec.limits.timeout = Duration::ZERO;
    let mut repo = GitRepo::open(&cache, spec)?;
    remote.put("a", "3")?;
    assert!(matches!(fetch(&mut repo), Err(FetchError::TimedOut { .. })));
    assert_eq!(repo.newest().map(|commit| commit.id), Some(small));
    Ok(())
}

/// Some kilobytes that unpack to megabytes.
#[test]
fn an_object_that_is_too_large_is_never_unpacked() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let remote = Remote::empty(tmp.path().join("remote"))?;
    let first = remote.put("a", "1")?;
    let mut spec = remote.spec();
    spec.limits.object_bytes = 1 << 20;
    let mut repo = GitRepo::open(tmp.path().join("cache"), spec)?;
    fetch(&mut repo)?;
    remote.write("zeros", vec![0; 1 << 20])?;
    let fits = remote.commit("zeros")?;
    assert_eq!(fetch(&mut repo)?, fits);
    remote.write("more", vec![0; (1 << 20) + 1])?;
    remote.commit("more")?;
    let error = fetch(&mut repo).unwrap_err();
    assert!(matches!(error, FetchError::ObjectTooLarge { limit: 1_048_576, .. }), "{error}");
    assert_eq!(read(&repo, &first, "a")?, "1");
    Ok(())
}

#[test]
fn readers_on_many_threads_share_a_commit() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let remote = Remote::empty(tmp.path().join("remote"))?;
    for n in 0..200 {
        remote.write(&format!("dir-{}/{n}", n % 10), format!("{n}"))?;
    }
    let commit = remote.commit("many")?;
    let mut repo = GitRepo::open(tmp.path().join("cache"), remote.spec())?;
    fetch(&mut repo)?;
    let files = repo.tree(&commit)?;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for n in 0..200 {
                    let content = files.read(&path(&format!("dir-{}/{n}", n % 10))).unwrap();
                    assert_eq!(&*content, n.to_string().as_bytes());
                }
            });
        }
    });
    Ok(())
}

#[test]
fn a_repository_can_go_to_a_blocking_thread() {
    fn goes<T: Send + Sync + 'static>() {}
    goes::<GitRepo>();
    goes::<flotilla_source::GitFiles>();
    goes::<flotilla_source::FolderFiles>();
}
