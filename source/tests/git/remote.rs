//! Repositories behind a server: https with a CA and credentials, plain http, ssh, and servers that misbehave.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::support::{Behaviour, GitServer, Remote, fetch, spec, tls};
use anyhow::{Context, Result, ensure};
use flotilla_source::{Credentials, FetchError, GitRepo, Reference};

const PASSWORD: Option<(&str, &str)> = Some(("jo", "s3cret"));

fn basic(username: &str, password: &str) -> Option<Credentials> {
    Some(Credentials::Basic { username: username.into(), password: password.into() })
}

fn holds(dir: &Path, secret: &str) -> Result<bool> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let found = if path.is_dir() {
            holds(&path, secret)?
        } else {
            fs::read(&path)?.windows(secret.len()).any(|part| part == secret.as_bytes())
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

#[test]
fn https_with_a_ca_of_its_own_and_credentials() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let remote = Remote::empty(tmp.path().join("remote"))?;
    let first = remote.put("a", "1")?;
    let (ca, config) = tls()?;
    let server =
        GitServer::start(tmp.path(), Some(config), Behaviour { password: PASSWORD, ..Behaviour::default() })?;
    let mut wanted = spec(&server.url("", "remote/.git"));

    let attempt = |spec: &flotilla_source::GitSpec, name: &str| -> Result<FetchError> {
        let error = fetch(&mut GitRepo::open(tmp.path().join(name), spec.clone())?).unwrap_err();
        assert!(!error.to_string().contains("s3cret") && !error.to_string().contains("wr0ng"), "{error}");
        assert!(error.to_string().contains("/remote/.git") || error.to_string().contains("/nope"), "{error}");
        Ok(error)
    };
    let error = attempt(&wanted, "no-ca")?;
    assert!(matches!(error, FetchError::Certificate { .. }), "{error}");
    wanted.ca_pem = Some("nonsense".into());
    assert!(matches!(attempt(&wanted, "bad-ca")?, FetchError::BadCa { .. }));
    wanted.ca_pem = Some(tls()?.0);
    assert!(matches!(attempt(&wanted, "other-ca")?, FetchError::Certificate { .. }));
    wanted.ca_pem = Some(ca);
    assert!(matches!(attempt(&wanted, "no-credentials")?, FetchError::CredentialsMissing { .. }));
    wanted.credentials = basic("jo", "wr0ng");
    let error = attempt(&wanted, "wrong-password")?;
    assert!(matches!(error, FetchError::CredentialsRefused { .. }), "{error}");

    wanted.credentials = basic("jo", "s3cret");
    let cache = tmp.path().join("cache");
    let mut repo = GitRepo::open(&cache, wanted.clone())?;
    assert_eq!(fetch(&mut repo)?, first);
    let second = remote.put("a", "2")?;
    assert_eq!(fetch(&mut repo)?, second);
    assert_eq!(fetch(&mut repo)?, second);
    assert_eq!(*server.behaviour.packs.lock().unwrap(), 2, "a pack for each change, none without");
    assert!(holds(&cache, "localhost")? && !holds(&cache, "s3cret")?, "credentials stay in memory");

    // Those in the URL serve too.
    let mut embedded = spec(&server.url("jo:s3cret@", "remote/.git"));
    embedded.ca_pem = wanted.ca_pem.clone();
    let cache = tmp.path().join("embedded");
    assert_eq!(fetch(&mut GitRepo::open(&cache, embedded)?)?, second);
    assert!(!holds(&cache, "s3cret")?);

    let mut elsewhere = wanted.clone();
    elsewhere.url = server.url("", "nope").parse()?;
    let error = attempt(&elsewhere, "elsewhere")?;
    assert!(matches!(error, FetchError::NoRepository { .. }), "{error}");
    Ok(())
}

#[test]
fn a_server_that_fails_is_away_and_what_was_fetched_stays() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let remote = Remote::empty(tmp.path().join("remote"))?;
    remote.write(
        "noise",
        (0..20_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect::<Vec<_>>(),
    )?;
    let first = remote.commit("first")?;
    // On the loopback, credentials go over plain http too.
    let server =
        GitServer::start(tmp.path(), None, Behaviour { password: PASSWORD, ..Behaviour::default() })?;
    let mut wanted = spec(&server.url("", "remote/.git"));
    wanted.credentials = basic("jo", "s3cret");
    wanted.limits.timeout = Duration::from_secs(2);
    let behaviour = &server.behaviour;

    behaviour.breaks_off.store(true, Ordering::SeqCst);
    let mut repo = GitRepo::open(tmp.path().join("cache"), wanted)?;
    let error = fetch(&mut repo).unwrap_err();
    assert!(matches!(error, FetchError::Unreachable { .. }), "{error}");
    behaviour.breaks_off.store(false, Ordering::SeqCst);
    assert_eq!(fetch(&mut repo)?, first);

    let second = remote.put("a", "2")?;
    for status in ["500 Internal Server Error", "503 Service Unavailable", "429 Too Many Requests"] {
        *behaviour.status.lock().unwrap() = Some(status);
        let error = fetch(&mut repo).unwrap_err();
        assert!(matches!(error, FetchError::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains(&status[..3]), "{error}");
    }
    *behaviour.status.lock().unwrap() = Some("403 Forbidden");
    assert!(matches!(fetch(&mut repo), Err(FetchError::CredentialsRefused { .. })));
    *behaviour.status.lock().unwrap() = None;

    behaviour.silent.store(true, Ordering::SeqCst);
    let began = Instant::now();
    let error = fetch(&mut repo).unwrap_err();
    assert!(matches!(error, FetchError::Unreachable { .. } | FetchError::TimedOut { .. }), "{error}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    behaviour.silent.store(false, Ordering::SeqCst);

    assert_eq!(repo.newest().map(|commit| commit.id), Some(first));
    assert_eq!(fetch(&mut repo)?, second);
    drop(server);
    let error = fetch(&mut repo).unwrap_err();
    assert!(matches!(error, FetchError::Unreachable { .. }), "{error}");
    Ok(())
}

/// Runs one of the ignored tests below with a PATH of its own, which a process cannot change for one test.
fn with_path(test: &str, path: &Path, variables: &[(&str, &Path)]) -> Result<()> {
    let output = Command::new(std::env::current_exe()?)
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env("PATH", path)
        .envs(variables.iter().copied())
        .output()?;
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.contains("1 passed"), "{said}");
    Ok(())
}

/// An `ssh` that runs the command here, and says with what it was called.
#[test]
fn ssh_goes_by_the_program() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let remote = Remote::empty(tmp.path().join("remote"))?;
    remote.put("a", "1")?;
    let bin = tmp.path().join("bin");
    fs::create_dir(&bin)?;
    fs::write(
        bin.join("ssh"),
        "#!/bin/sh\nprintf '%s\\n' \"$@\" >> \"$SSH_SAID\"\nshift $(($# - 2))\nPATH=\"$OLD_PATH\" exec sh -c \"$1 $2\"\n",
    )?;
    fs::set_permissions(bin.join("ssh"), fs::Permissions::from_mode(0o755))?;
    let said = tmp.path().join("said");
    let old = std::env::var_os("PATH").context("PATH")?;
    let path = std::env::join_paths(std::iter::once(bin.clone()).chain(std::env::split_paths(&old)))?;
    let variables =
        [("OLD_PATH", Path::new(&old)), ("SSH_SAID", &said), ("REMOTE", &remote.dir), ("CACHE", tmp.path())];
    with_path("remote::over_ssh", Path::new(&path), &variables)?;
    let said = fs::read_to_string(said)?;
    for part in ["BatchMode=yes", "StrictHostKeyChecking=yes", "-i\n/keys/it's mine\n", "git@example.org"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let empty = tmp.path().join("empty");
    fs::create_dir(&empty)?;
    with_path("remote::without_programs", &empty, &[("CACHE", tmp.path())])
}

#[test]
#[ignore = "run by ssh_goes_by_the_program"]
fn over_ssh() -> Result<()> {
    let variable = |name: &str| std::env::var(name).context("set by the caller");
    let mut wanted = spec(&format!("git@example.org:{}", variable("REMOTE")?));
    wanted.credentials = Some(Credentials::SshKey {
        private_key: "/keys/it's mine".into(),
        known_hosts: Some("/keys/known_hosts".into()),
    });
    let mut repo = GitRepo::open(Path::new(&variable("CACHE")?).join("ssh"), wanted)?;
    fetch(&mut repo)?;
    Ok(())
}

#[test]
#[ignore = "run by ssh_goes_by_the_program"]
fn without_programs() -> Result<()> {
    for (url, program) in [("git@example.org:fleet", "ssh"), ("/srv/fleet.git", "git")] {
        let cache = Path::new(&std::env::var("CACHE")?).join(program);
        let error = fetch(&mut GitRepo::open(cache, spec(url))?).unwrap_err();
        assert!(error.to_string().contains(&format!("program '{program}'")), "{error}");
    }
    Ok(())
}

#[test]
fn a_poll_in_which_nothing_is_new_is_one_request() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let remote = Remote::empty(tmp.path().join("remote"))?;
    let first = remote.put("a", "1")?;
    remote.git(&["tag", "-a", "-m", "one", "v1"])?;
    let (ca, config) = tls()?;
    let server =
        GitServer::start(tmp.path(), Some(config), Behaviour { password: PASSWORD, ..Behaviour::default() })?;
    let mut wanted = spec(&server.url("", "remote/.git"));
    wanted.ca_pem = Some(ca);
    wanted.credentials = basic("jo", "s3cret");
    let asked = || std::mem::take(&mut *server.behaviour.requests.lock().unwrap());
    let one = ["POST /remote/.git/git-upload-pack"];

    let mut repo = GitRepo::open(tmp.path().join("branch"), wanted.clone())?;
    assert_eq!(fetch(&mut repo)?, first);
    asked();
    assert_eq!((fetch(&mut repo)?, asked()), (first.clone(), one.map(str::to_owned).to_vec()));
    let second = remote.put("a", "2")?;
    assert_eq!(fetch(&mut repo)?, second);
    // A push that takes it back is a change too.
    remote.git(&["reset", "-q", "--hard", first.as_str()])?;
    assert_eq!(fetch(&mut repo)?, first);
    drop(repo);
    asked();
    let mut repo = GitRepo::open(tmp.path().join("branch"), wanted.clone())?;
    assert_eq!((fetch(&mut repo)?, asked().len()), (first.clone(), 1), "after a restart");

    // A server in trouble is asked the same way afterwards.
    *server.behaviour.status.lock().unwrap() = Some("503 Service Unavailable");
    fetch(&mut repo).unwrap_err();
    *server.behaviour.status.lock().unwrap() = None;
    asked();
    assert_eq!((fetch(&mut repo)?, asked().len()), (first.clone(), 1));
    // One that does not answer such requests is not asked so again.
    *server.behaviour.status.lock().unwrap() = Some("405 Method Not Allowed");
    fetch(&mut repo).unwrap_err();
    *server.behaviour.status.lock().unwrap() = None;
    asked();
    assert_eq!(fetch(&mut repo)?, first);
    assert!(asked().len() > 1);

    for reference in [Reference::Tag("v1".into()), Reference::Name("refs/heads/main".into()), Reference::Head]
    {
        let spec = flotilla_source::GitSpec { reference, ..wanted.clone() };
        let mut repo = GitRepo::open(tmp.path().join("other"), spec)?;
        assert_eq!(fetch(&mut repo)?, first);
        asked();
        assert_eq!((fetch(&mut repo)?, asked().len()), (first.clone(), 1));
    }
    Ok(())
}
