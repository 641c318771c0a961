//! Tags, refs, commits and the own branch of a repository, without its past; and what may not be talked to.

use std::path::Path;

use anyhow::Result;
use flotilla_kustomize::files::{Files, TreePath};
use flotilla_source::{CommitId, FetchError, GitRepo, GitSpec, Reach, Reference};

use crate::support::{Behaviour, GitServer, Remote, fetch};

fn shallow(url: &str, reference: Reference) -> GitSpec {
    GitSpec::shallow(url.parse().unwrap(), reference)
}

/// Fetches into a folder of its own; gives the commit and what is in the file `a`.
fn get(dir: &Path, spec: &GitSpec) -> Result<(CommitId, String), FetchError> {
    let mut repo = GitRepo::open(dir, spec.clone()).unwrap();
    let commit = fetch(&mut repo)?;
    let content = repo.tree(&commit).unwrap().read(&TreePath::from_root("a").unwrap()).unwrap();
    Ok((commit, String::from_utf8(content.to_vec()).unwrap()))
}

#[test]
fn one_commit_by_any_name_from_any_server() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let remote = Remote::empty(tmp.path().join("remote"))?;
    let first = remote.put("a", "1")?;
    remote.git(&["tag", "light"])?;
    let second = remote.put("a", "2")?;
    remote.git(&["tag", "-a", "heavy", "-m", "a release"])?;
    remote.git(&["tag", "-a", "nested", "heavy", "-m", "a tag of a tag"])?;
    let third = remote.put("a", "3")?;
    remote.git(&["update-ref", "refs/pull/1/head", second.as_str()])?;
    let server = GitServer::start(tmp.path(), None, Behaviour::default())?;
    for (n, url) in [remote.spec().url.to_string(), server.url("", "remote/.git")].iter().enumerate() {
        for (m, (reference, commit, content)) in [
            (Reference::Head, &third, "3"),
            (Reference::Branch("main".parse()?), &third, "3"),
            (Reference::Tag("light".into()), &first, "1"),
            (Reference::Tag("heavy".into()), &second, "2"),
            (Reference::Tag("nested".into()), &second, "2"),
            (Reference::Name("refs/pull/1/head".into()), &second, "2"),
            (Reference::Commit(second.clone()), &second, "2"),
            (Reference::Commit(first.clone()), &first, "1"),
        ]
        .into_iter()
        .enumerate()
        {
            let dir = tmp.path().join(format!("cache-{n}-{m}"));
            let spec = shallow(url, reference);
            assert_eq!(get(&dir, &spec)?, (commit.clone(), content.to_owned()), "{url} {spec:?}");
            // Once more, with what is there already; then what was there before is not: it has no past.
            assert_eq!(get(&dir, &spec)?.0, *commit, "{url} {spec:?}");
            let repo = GitRepo::open(&dir, spec)?;
            let others = [&first, &second, &third].into_iter().filter(|other| *other != commit);
            assert!(others.map(|other| repo.commit(other)).all(|read| read.is_err()), "{url} {m}");
        }
    }
    Ok(())
}

#[test]
fn a_branch_without_its_past_is_followed() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let remote = Remote::empty(tmp.path().join("remote"))?;
    remote.put("a", "0")?;
    let mut repo = GitRepo::open(
        tmp.path().join("cache"),
        shallow(&remote.spec().url.to_string(), Reference::Branch("main".parse()?)),
    )?;
    for content in ["1", "2", "3"] {
        let commit = remote.put("a", content)?;
        assert_eq!(fetch(&mut repo)?, commit);
        assert_eq!(&*repo.tree(&commit)?.read(&TreePath::from_root("a")?)?, content.as_bytes());
        assert_eq!(fetch(&mut repo)?, commit);
    }
    remote.git(&["checkout", "-q", "--orphan", "other"])?;
    let forced = remote.put("a", "4")?;
    remote.git(&["branch", "-M", "main"])?;
    assert_eq!(fetch(&mut repo)?, forced);
    Ok(())
}

#[test]
fn what_a_repository_does_not_have() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let remote = Remote::empty(tmp.path().join("remote"))?;
    let url = remote.spec().url.to_string();
    let error = get(&tmp.path().join("empty"), &shallow(&url, Reference::Head)).unwrap_err();
    assert!(matches!(error, FetchError::Empty { .. }), "{error}");
    remote.put("a", "1")?;
    let missing: CommitId = "0123456789012345678901234567890123456789".parse()?;
    for (reference, what) in [
        (Reference::Tag("v1".into()), "tag 'v1'"),
        (Reference::Tag("a b".into()), "'a b' is not a name"),
        (Reference::Name("refs/x/y".into()), "ref 'refs/x/y'"),
        (Reference::Commit(missing.clone()), "commit 0123456789012345678901234567890123456789"),
    ] {
        let error = get(&tmp.path().join("cache"), &shallow(&url, reference)).unwrap_err();
        assert!(matches!(&error, FetchError::NoSuchReference { .. }), "{error}");
        assert!(error.to_string().contains(what), "{error}");
    }
    Ok(())
}

#[test]
fn what_is_not_public_is_refused_unless_it_is_allowed() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let remote = Remote::empty(tmp.path().join("remote"))?;
    remote.put("a", "1")?;
    let server = GitServer::start(tmp.path(), None, Behaviour::default())?;
    let by_address = server.url("", "remote/.git").replace("localhost", "127.0.0.1");
    let by_name = by_address.replace("127.0.0.1", "localhost");
    let folder = remote.spec().url.to_string();
    let ssh = "ssh://git@127.0.0.1/x".to_owned();
    let spelled = |host: &str| by_address.replace("127.0.0.1", host);
    let (decimal, hex, octal) = (spelled("2130706433"), spelled("0x7f.1"), spelled("0177.0.0.1"));
    let (encoded, mapped, dotted) =
        (spelled("%31%32%37.0.0.1"), spelled("[::ffff:127.0.0.1]"), spelled("127.0.0.1."));
    for (n, (url, allowed, fetched)) in [
        (&folder, None, false),
        (&folder, Some(format!("file://{}", tmp.path().display())), true),
        (&by_address, None, false),
        (&by_address, Some("127.0.0.0/8".to_owned()), true),
        (&by_name, None, false),
        (&by_name, Some("localhost".to_owned()), true),
        (&ssh, None, false),
        (&decimal, None, false),
        (&hex, None, false),
        (&octal, None, false),
        (&encoded, None, false),
        (&mapped, None, false),
        (&dotted, None, false),
        // They are what they mean: allowed as that, too.
        (&decimal, Some("127.0.0.1".to_owned()), true),
        (&dotted, Some("127.0.0.0/8".to_owned()), true),
    ]
    .into_iter()
    .enumerate()
    {
        let mut spec = shallow(url, Reference::Head);
        let allowed = allowed.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        spec.reach = Reach::Public(allowed);
        let got = get(&tmp.path().join(format!("cache-{n}")), &spec);
        match got {
            Ok(_) => assert!(fetched, "{url}"),
            Err(FetchError::OutOfReach { reason, .. }) => {
                assert!(!fetched && reason.contains("--allow-source"), "{url}: {reason}");
            }
            Err(error) => panic!("{url}: {error}"),
        }
    }
    Ok(())
}
