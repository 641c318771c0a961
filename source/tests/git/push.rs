//! Refs of stages, pushed to real repositories.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use flotilla_source::{CommitId, Credentials, FetchError, PushError, Pushed, RefPusher, StageRef};

use crate::support::{Behaviour, GitServer, Remote, spec, tls};

fn refs(of: &[(&str, &CommitId)]) -> BTreeMap<StageRef, CommitId> {
    of.iter().map(|(stage, id)| (StageRef::new("shop", stage).unwrap(), (*id).clone())).collect()
}

fn push(pusher: &RefPusher, of: &[(&str, &CommitId)]) -> Result<Pushed, PushError> {
    pusher.push(&refs(of), &AtomicBool::new(false)).inspect_err(|error| eprintln!("{error}"))
}

fn at(remote: &Remote, stage: &str) -> Result<String> {
    remote.git(&["rev-parse", &format!("refs/flotilla/shop/{stage}")])
}

fn moved(moved: usize) -> Pushed {
    Pushed { moved, ..Pushed::default() }
}

#[test]
fn refs_follow_their_stages_over_every_kind_of_address() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let remote = Remote::empty(tmp.path().join("remote"))?;
    let (first, second) = (remote.put("a", "1")?, remote.put("a", "2")?);
    remote.git(&["config", "http.receivepack", "true"])?;
    let (ca, config) = tls()?;
    let behaviour = Behaviour { password: Some(("jo", "s3cret")), ..Behaviour::default() };
    let server = GitServer::start(tmp.path(), Some(config), behaviour)?;
    let mut https = spec(&server.url("", "remote/.git"));
    https.ca_pem = Some(ca);
    https.credentials = Some(Credentials::Basic { username: "jo".into(), password: "s3cret".into() });
    for (name, spec) in [("file", remote.spec()), ("https", https)] {
        let pusher = RefPusher::open(tmp.path().join(name), spec)?;
        assert_eq!(push(&pusher, &[("staging", &second), ("edge", &first)])?, moved(2), "{name}");
        assert_eq!((at(&remote, "staging")?, at(&remote, "edge")?), (second.to_string(), first.to_string()));
        assert_eq!(push(&pusher, &[("staging", &second), ("edge", &first)])?, moved(0), "{name}");
        // Forward and back.
        assert_eq!(push(&pusher, &[("staging", &first), ("edge", &second)])?, moved(2), "{name}");
        assert_eq!((at(&remote, "staging")?, at(&remote, "edge")?), (first.to_string(), second.to_string()));
        assert_eq!(remote.git(&["rev-parse", "main"])?, second.to_string(), "other refs stay");
        remote.git(&["update-ref", "-d", "refs/flotilla/shop/staging"])?;
        remote.git(&["update-ref", "-d", "refs/flotilla/shop/edge"])?;
    }
    Ok(())
}

#[test]
fn what_is_refused_is_said_and_costs_no_other_ref() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let remote = Remote::empty(tmp.path().join("remote"))?;
    let first = remote.put("a", "1")?;
    let hook = remote.dir.join(".git/hooks/update");
    fs::create_dir_all(remote.dir.join(".git/hooks"))?;
    fs::write(&hook, "#!/bin/sh\n[ \"$1\" != refs/flotilla/shop/edge ]\n")?;
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755))?;
    let pusher = RefPusher::open(tmp.path().join("pusher"), remote.spec())?;
    let pushed = push(&pusher, &[("staging", &first), ("edge", &first)])?;
    let refused: Vec<_> = pushed.refused.iter().map(|(name, said)| format!("{name}: {said}")).collect();
    assert_eq!((pushed.moved, &refused[..]), (1, &["refs/flotilla/shop/edge: hook declined".to_owned()][..]));
    assert_eq!(at(&remote, "staging")?, first.to_string());

    // A commit that the remote does not have any more.
    let gone: CommitId = "0123456789abcdef0123456789abcdef01234567".parse()?;
    let outcome = push(&pusher, &[("staging", &gone)]);
    assert!(
        matches!(&outcome, Ok(Pushed { moved: 0, refused }) if refused.len() == 1)
            || matches!(&outcome, Err(PushError::Unpack { .. })),
        "{outcome:?}"
    );
    assert_eq!(at(&remote, "staging")?, first.to_string());
    Ok(())
}

#[test]
fn credentials_that_only_read_are_told_apart() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let remote = Remote::empty(tmp.path().join("remote"))?;
    let first = remote.put("a", "1")?;
    remote.git(&["config", "http.receivepack", "false"])?;
    let server = GitServer::start(tmp.path(), None, Behaviour::default())?;
    let pusher = RefPusher::open(tmp.path().join("pusher"), spec(&server.url("", "remote/.git")))?;
    let error = push(&pusher, &[("staging", &first)]).unwrap_err();
    assert!(matches!(error, PushError::Talk(FetchError::CredentialsRefused { .. })), "{error}");
    let nowhere = RefPusher::open(tmp.path().join("nowhere"), spec("file:///nope"))?;
    let error = push(&nowhere, &[("staging", &first)]).unwrap_err();
    assert!(matches!(error, PushError::Talk(FetchError::NoRepository { .. })), "{error}");
    Ok(())
}
