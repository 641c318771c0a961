//! `GitRepository` objects: what is fetched for each of their fields, and what is there after a restart.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Result;
use flotilla_core::source::{GitReference, GitRepository, Scheme, SecretName, SourceSpec, SourceUrl};
use flotilla_kustomize::files::{Files, Kind, TreePath};
use flotilla_source::Reach;
use flotilla_source::flux::{Fetcher, Policy, Secret, Secrets, SourceError, SourceLimits, Wanted};

use crate::support::{Behaviour, GitServer, Remote, tls};

pub(crate) fn spec(url: &str, reference: GitReference) -> GitRepository {
    let schemes = [Scheme::Http, Scheme::Https, Scheme::Ssh, Scheme::File];
    GitRepository {
        url: SourceUrl::parse(url, &schemes).unwrap(),
        reference,
        ignore: None,
        include: Vec::new(),
        recurse_submodules: false,
        sparse_checkout: Vec::new(),
        secret: None,
        github_app: false,
        proxy_secret: None,
        verify: false,
    }
}

fn wanted(spec: GitRepository) -> Wanted {
    Wanted {
        spec: SourceSpec::Git(spec),
        repository: None,
        secrets: Secrets::default(),
        timeout: Duration::from_secs(60),
    }
}

fn secret(data: &[(&str, &str)]) -> Secret {
    let data = data.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect();
    Secret { name: "ns/creds".into(), data }
}

fn policy() -> Policy {
    Policy::new(Reach::Anything)
}

fn names(files: &dyn Files) -> Vec<String> {
    let (mut names, mut folders) = (Vec::new(), vec![TreePath::root()]);
    while let Some(folder) = folders.pop() {
        for (name, entry) in files.list(&folder).unwrap() {
            let path = folder.join(&name).unwrap();
            if entry.kind == Kind::Folder { folders.push(path) } else { names.push(path.to_string()) }
        }
    }
    names.sort();
    names
}

/// The revision and the files that a fetch brings.
fn fetch(dir: &Path, wanted: &Wanted) -> Result<(String, Vec<String>), SourceError> {
    let mut fetcher = Fetcher::open(dir.to_owned(), wanted.clone(), &policy())?;
    let fetched = fetcher.fetch(&AtomicBool::new(false))?;
    Ok((fetched.revision, names(&*fetched.files)))
}

#[test]
fn each_reference_has_its_revision_and_survives_a_restart() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let remote = Remote::empty(tmp.path().join("remote"))?;
    let url = remote.spec().url.to_string();
    let first = remote.put("a.yaml", "1")?;
    remote.git(&["tag", "v1.0.0"])?;
    let second = remote.put("a.yaml", "2")?;
    remote.git(&["tag", "-a", "v1.2.0", "-m", "a release"])?;
    remote.git(&["tag", "v2.0.0-rc.1"])?;
    remote.git(&["tag", "nightly"])?;
    let third = remote.put("a.yaml", "3")?;
    let commit = |branch: Option<&str>| GitReference::Commit {
        commit: first.to_string(),
        branch: branch.map(str::to_owned),
    };
    for (n, (reference, revision)) in [
        (GitReference::Branch("main".into()), format!("main@sha1:{third}")),
        (GitReference::Tag("v1.0.0".into()), format!("v1.0.0@sha1:{first}")),
        (GitReference::Name("refs/heads/main".into()), format!("refs/heads/main@sha1:{third}")),
        (GitReference::Semver(">=1.0.0".into()), format!("v1.2.0@sha1:{second}")),
        (GitReference::Semver(">=1.0.0-0".into()), format!("v2.0.0-rc.1@sha1:{second}")),
        (commit(None), format!("sha1:{first}")),
        (commit(Some("main")), format!("main@sha1:{first}")),
    ]
    .into_iter()
    .enumerate()
    {
        let (dir, wanted) = (tmp.path().join(n.to_string()), wanted(spec(&url, reference)));
        assert_eq!(fetch(&dir, &wanted)?.0, revision);
        let fetcher = Fetcher::open(dir, wanted, &policy())?;
        let last = fetcher.last().map(|last| (last.revision.clone(), names(&*last.files)));
        assert_eq!(last, Some((revision, vec!["a.yaml".to_owned()])));
    }
    let error = fetch(&tmp.path().join("none"), &wanted(spec(&url, GitReference::Semver("9.x".into()))));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("no tag in the range 9.x; it has nightly, v1.0.0"), "{error}");

    // A range follows its newest tag; what cannot be fetched leaves what was.
    let wanted = wanted(spec(&url, GitReference::Semver("1.x".into())));
    let mut fetcher = Fetcher::open(tmp.path().join("range"), wanted, &policy())?;
    let never = AtomicBool::new(false);
    let before = fetcher.fetch(&never)?;
    remote.git(&["tag", "v1.3.0"])?;
    let after = fetcher.fetch(&never)?;
    assert_eq!(
        (before.revision, &after.revision),
        (format!("v1.2.0@sha1:{second}"), &format!("v1.3.0@sha1:{third}"))
    );
    let path = TreePath::from_root("a.yaml")?;
    assert_eq!((&*before.files.read(&path)?, &*after.files.read(&path)?), (&b"2"[..], &b"3"[..]));
    std::fs::rename(&remote.dir, tmp.path().join("gone"))?;
    assert!(fetcher.fetch(&never).is_err());
    assert_eq!(fetcher.last().map(|last| last.revision), Some(after.revision));
    Ok(())
}

#[test]
fn what_is_left_out_and_what_is_taken_in() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let inner = Remote::empty(tmp.path().join("inner"))?;
    inner.put("in.yaml", "1")?;
    let remote = Remote::empty(tmp.path().join("remote"))?;
    for path in ["a/x.yaml", "b/c/y.yaml", "top.yaml", "pic.png", "docs/d.yaml"] {
        remote.write(path, "1")?;
    }
    remote.write(".sourceignore", "docs/\n")?;
    remote.commit("files")?;
    remote.git(&["-c", "protocol.file.allow=always", "submodule", "add", "-q", "../inner", "mod"])?;
    remote.commit("a submodule")?;
    let plain = spec(&remote.spec().url.to_string(), GitReference::Branch("main".into()));
    for (n, (change, expected)) in [
        (plain.clone(), &[".sourceignore", "a/x.yaml", "b/c/y.yaml", "top.yaml"][..]),
        (GitRepository { ignore: Some("/*\n!/a/\n".into()), ..plain.clone() }, &["a/x.yaml"]),
        (
            GitRepository { recurse_submodules: true, ignore: Some("/a/".into()), ..plain.clone() },
            &[".sourceignore", "b/c/y.yaml", "mod/in.yaml", "top.yaml"],
        ),
        (
            GitRepository { sparse_checkout: vec!["./b/c/".into(), "a".into()], ..plain.clone() },
            &["a/x.yaml", "b/c/y.yaml"],
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let (dir, wanted) = (tmp.path().join(n.to_string()), wanted(change));
        let expected: Vec<String> = expected.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(fetch(&dir, &wanted)?.1, expected);
        let last = Fetcher::open(dir, wanted, &policy())?.last();
        assert_eq!(last.map(|last| names(&*last.files)), Some(expected), "after a restart");
    }
    let few = Policy { limits: SourceLimits { files: 3, ..SourceLimits::default() }, ..policy() };
    let mut fetcher = Fetcher::open(tmp.path().join("few"), wanted(plain), &few)?;
    let error = fetcher.fetch(&AtomicBool::new(false)).unwrap_err();
    assert!(matches!(error, SourceError::TooManyFiles(3)), "{error}");
    Ok(())
}

#[test]
fn secrets_prove_who_asks_and_are_kept_nowhere() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let remote = Remote::empty(tmp.path().join("remote"))?;
    remote.put("a.yaml", "1")?;
    let (ca, config) = tls()?;
    let password = Some(("jo", "s3cret"));
    let server = GitServer::start(tmp.path(), Some(config), Behaviour { password, ..Behaviour::default() })?;
    let url = server.url("", "remote/.git");
    let mut source = wanted(GitRepository {
        secret: Some(SecretName("creds".into())),
        ..spec(&url, GitReference::Branch("main".into()))
    });
    let basic = [("username", "jo"), ("password", "s3cret\n"), ("ca.crt", &*ca)];
    for (n, (data, said)) in [
        (&basic[..], None),
        (&[("username", "jo"), ("password", "wr0ng"), ("ca.crt", &*ca)], Some("refused the credentials")),
        (&[("username", "jo"), ("password", "s3cret")], Some("certificate is not trusted")),
        (&[("ca.crt", &*ca)], Some("asks for credentials")),
        (&[("bearerToken", "s3cret"), ("ca.crt", &*ca)], Some("credentials")),
        (&[("username", "jo")], Some("the secret ns/creds has no password")),
        (&[("githubAppID", "1")], Some("spec.provider is not github")),
        (&[], Some("has no username")),
        (&[("username", "jo"), ("password", "s3cret\nX-Evil: 1")], Some("more than one line")),
    ]
    .into_iter()
    .enumerate()
    {
        source.secrets.secret = Some(secret(data));
        let dir = tmp.path().join(n.to_string());
        match (fetch(&dir, &source), said) {
            (Ok((revision, _)), None) => assert!(revision.starts_with("main@sha1:"), "{revision}"),
            (Err(error), Some(said)) => {
                assert!(error.to_string().contains(said), "{data:?}: {error}");
                assert!(
                    !error.to_string().contains("s3cret") && !error.to_string().contains("wr0ng"),
                    "{error}"
                );
            }
            (other, said) => panic!("{n}: {other:?}, expected {said:?}"),
        }
    }
    let kept =
        std::process::Command::new("grep").args(["-r", "s3cret"]).arg(tmp.path().join("0")).output()?;
    assert!(kept.stdout.is_empty(), "{}", String::from_utf8_lossy(&kept.stdout));
    // Another password is another fetch; the same source with the same one is shared.
    let key = |data: &[(&str, &str)]| {
        let secrets = Secrets { secret: Some(secret(data)), ..Secrets::default() };
        Wanted { secrets, ..source.clone() }.key()
    };
    assert_eq!(key(&basic), key(&basic));
    assert_ne!(key(&basic), key(&[("username", "jo"), ("password", "other")]));
    assert_eq!(
        secret(&[("a", "b")]).digest(),
        Secret { name: "other".into(), ..secret(&[("a", "b")]) }.digest()
    );
    let shown = format!("{:?}", secret(&basic));
    assert!(!shown.contains("s3cret"), "{shown}");

    let mut ssh = wanted(spec("ssh://git@127.0.0.1/x", GitReference::Branch("main".into())));
    for (data, said) in [(None, "spec.secretRef"), (Some(secret(&[("identity", "x")])), "has no known_hosts")]
    {
        ssh.secrets.secret = data;
        let error = fetch(&tmp.path().join("ssh"), &ssh).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    Ok(())
}

#[test]
fn a_proxy_is_asked_for_a_repository() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let remote = Remote::empty(tmp.path().join("remote"))?;
    remote.put("a.yaml", "1")?;
    let proxy = Some(("jo", "s3cret"));
    let server = GitServer::start(tmp.path(), None, Behaviour { proxy, ..Behaviour::default() })?;
    // Nobody but the proxy knows this name.
    let mut source = wanted(spec("http://git.invalid/remote/.git", GitReference::Branch("main".into())));
    assert!(fetch(&tmp.path().join("direct"), &source).is_err());
    let address = server.url("", "");
    let good = [("address", &*address), ("username", "jo"), ("password", "s3cret")];
    source.secrets.proxy = Some(secret(&good));
    assert!(fetch(&tmp.path().join("proxied"), &source)?.0.starts_with("main@sha1:"));
    let requests = std::mem::take(&mut *server.behaviour.requests.lock().unwrap());
    let asked = "GET http://git.invalid/remote/.git/info/refs".to_owned();
    assert!(requests.contains(&asked), "{requests:?}");
    // A look at what did not change goes the same way.
    let mut fetcher = Fetcher::open(tmp.path().join("proxied"), source.clone(), &policy())?;
    fetcher.fetch(&AtomicBool::new(false))?;
    assert!(!server.behaviour.requests.lock().unwrap().is_empty());
    source.secrets.proxy = Some(secret(&[good[0], good[1], ("password", "wr0ng")]));
    let error = fetch(&tmp.path().join("wrong"), &source).unwrap_err().to_string();
    assert!(!error.contains("wr0ng"), "{error}");
    Ok(())
}
