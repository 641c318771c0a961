//! Remote bases and files, as kustomizations name them; submodules.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use flotilla_kustomize::Answer;
use flotilla_kustomize::files::TreePath;
use flotilla_source::{FetchError, Mirrors, Reach, RemoteError, RemoteLimits, Remotes};

use crate::support::{Behaviour, GitServer, Remote};

fn remotes() -> Remotes {
    Remotes::anywhere()
}

/// What an address leads to: the file `a` of a folder, or a text.
fn answer(remotes: &Remotes, text: &str) -> Result<String, RemoteError> {
    let dir = tempfile::tempdir().unwrap();
    match remotes.answer(text, dir.path(), &AtomicBool::new(false))? {
        Answer::Text(text) => Ok(format!("text {text}")),
        Answer::Tree { files, root } => {
            let file = files.read(&root.join("a").unwrap()).unwrap();
            Ok(format!("{root} {}", String::from_utf8_lossy(&file)))
        }
    }
}

#[test]
fn folders_of_repositories_by_their_addresses() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let remote = Remote::empty(tmp.path().join("org/repo"))?;
    let first = remote.put("base/a", "1")?;
    remote.git(&["tag", "v1"])?;
    remote.git(&["branch", "release/1"])?;
    remote.put("base/a", "2")?;
    let server = GitServer::start(tmp.path(), None, Behaviour::default())?;
    let (http, file) = (server.url("", "org/repo/.git"), format!("file://{}/org/repo", tmp.path().display()));
    for (text, expected) in [
        (format!("{http}//base"), "base 2"),
        (format!("{http}//base?ref=v1"), "base 1"),
        (format!("{http}/base?ref=release%2F1&timeout=20"), "base 1"),
        (format!("{http}//base?ref={first}"), "base 1"),
        (format!("{http}//base?ref=refs/heads/main"), "base 2"),
        (format!("git::{http}//base?version=main"), "base 2"),
        (format!("{file}//base"), "base 2"),
        (format!("{file}//base?ref=v1&submodules=false"), "base 1"),
    ] {
        assert_eq!(answer(&remotes(), &text)?, expected, "{text}");
    }
    let missing = answer(&remotes(), &format!("{file}//base?ref=v9")).unwrap_err();
    assert!(missing.to_string().contains("no branch, tag or commit 'v9'"), "{missing}");
    let nowhere = answer(&remotes(), &format!("file://{}/nope//base", tmp.path().display())).unwrap_err();
    assert!(matches!(nowhere, RemoteError::Git(FetchError::NoRepository { .. })), "{nowhere}");
    Ok(())
}

#[test]
fn submodules_stand_in_their_places() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let inner = Remote::empty(tmp.path().join("inner"))?;
    inner.put("a", "inner")?;
    let middle = Remote::empty(tmp.path().join("middle"))?;
    middle.put("a", "middle")?;
    let add = |to: &Remote, url: &str, path: &str| -> Result<()> {
        to.git(&["-c", "protocol.file.allow=always", "submodule", "add", "-q", url, path])?;
        to.commit("a submodule").map(drop)
    };
    add(&middle, "../inner", "deep")?;
    let outer = Remote::empty(tmp.path().join("outer"))?;
    outer.put("x", "x")?;
    add(&outer, "../middle", "mods/m")?;
    // It goes on, but what was recorded stays.
    middle.put("a", "newer")?;
    let server = GitServer::start(tmp.path(), None, Behaviour::default())?;
    let by_file = format!("file://{}/outer", tmp.path().display());
    assert_eq!(answer(&remotes(), &format!("{by_file}//mods/m"))?, "mods/m middle");
    assert_eq!(answer(&remotes(), &format!("{by_file}//mods/m/deep"))?, "mods/m/deep inner");

    // By http the relative address is one of the server's.
    for name in ["inner", "middle", "outer"] {
        std::os::unix::fs::symlink(
            tmp.path().join(name).join(".git"),
            tmp.path().join(format!("{name}.git")),
        )?;
    }
    for (outer_or_middle, url, path) in
        [(&middle, "../inner.git", "deep"), (&outer, "../middle.git", "mods/m")]
    {
        outer_or_middle.git(&["config", "-f", ".gitmodules", &format!("submodule.{path}.url"), url])?;
        outer_or_middle.commit("by http")?;
    }
    outer.git(&["-C", "mods/m", "-c", "protocol.file.allow=always", "pull", "-q", "origin", "main"])?;
    outer.commit("newer")?;
    let by_http = server.url("", "outer.git");
    assert_eq!(answer(&remotes(), &format!("{by_http}//mods/m"))?, "mods/m newer");
    assert_eq!(answer(&remotes(), &format!("{by_http}//mods/m/deep"))?, "mods/m/deep inner");
    let without = format!("{by_http}//mods?submodules=false");
    let dir = tempfile::tempdir()?;
    let Answer::Tree { files, .. } = remotes().answer(&without, dir.path(), &AtomicBool::new(false))? else {
        anyhow::bail!("a folder was expected")
    };
    assert!(files.entry(&TreePath::from_root("mods/m")?)?.is_none());

    // What comes from elsewhere names no folder of this machine.
    let at_home = format!("file://{}/inner", tmp.path().display());
    outer.git(&["config", "-f", ".gitmodules", "submodule.mods/m.url", &at_home])?;
    outer.commit("a folder here")?;
    let error = answer(&remotes(), &format!("{by_http}//mods/m")).unwrap_err();
    assert!(error.to_string().contains("may not name"), "{error}");
    Ok(())
}

/// Answers each path with a head and a body, until it is dropped with the test.
fn serve(answers: &'static [(&'static str, &'static str, &'static str)]) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let mut request = [0; 4096];
            let Ok(length) = stream.read(&mut request) else { continue };
            let line = String::from_utf8_lossy(&request[..length]).into_owned();
            let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
            let found = answers.iter().find(|(wanted, ..)| *wanted == path);
            let (head, body) = found.map_or(("404 Not Found", ""), |(_, head, body)| (*head, *body));
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
        }
    });
    Ok(url)
}

#[test]
fn files_by_http() -> Result<()> {
    let url = serve(&[
        ("/o/r/deploy.yaml", "200 OK\r\nContent-Type: text/plain", "a: 1"),
        ("/o/r/deploy.yaml?token=s3cret", "200 OK", "b: 1"),
        ("/moved", "302 Found\r\nLocation: /o/r/deploy.yaml", ""),
        ("/loop", "302 Found\r\nLocation: /loop", ""),
        ("/inside", "302 Found\r\nLocation: http://169.254.169.254/latest", ""),
        ("/o/r/page", "200 OK\r\nContent-Type: text/html; charset=utf-8", "<html>"),
        ("/o/r/down", "503 Unavailable", ""),
        ("/o/r/large", "200 OK", "12345678901234567890"),
    ])?;
    let small =
        || Remotes { limits: RemoteLimits { file_bytes: 10, ..RemoteLimits::default() }, ..remotes() };
    let get = |path: &str| answer(&small(), &format!("{url}{path}"));
    assert_eq!(get("/o/r/deploy.yaml")?, "text a: 1");
    assert_eq!(get("/o/r/deploy.yaml?token=s3cret")?, "text b: 1");
    assert_eq!(get("/moved")?, "text a: 1");
    for (path, reason) in [
        ("/o/r/gone?token=s3cret", "there is nothing at"),
        ("/o/r/page", "Git repository"),
        ("/o/r/down", "HTTP 503"),
        ("/o/r/large", "limit of 10 bytes"),
        ("/loop", "redirects too often"),
    ] {
        let error = get(path).err().context("an error")?;
        assert!(error.to_string().contains(reason), "{path}: {error}");
        assert!(!error.to_string().contains("s3cret"), "{path}: {error}");
    }
    let fenced = Remotes { reach: Reach::Public(vec!["127.0.0.1".parse()?]), ..remotes() };
    let error = answer(&fenced, &format!("{url}/inside")).err().context("an error")?;
    assert!(error.to_string().contains("169.254.169.254"), "{error}");
    let fenced = Remotes { reach: Reach::Public(vec![]), ..remotes() };
    for host in ["127.0.0.1", "localhost"] {
        let error = answer(&fenced, &format!("{}/o/r/deploy.yaml", url.replace("127.0.0.1", host)));
        assert!(matches!(error, Err(RemoteError::Http(flotilla_source::HttpError::Reach(_)))), "{error:?}");
    }
    Ok(())
}

#[test]
fn what_is_named_at_one_address_is_fetched_from_another() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let inner = Remote::empty(tmp.path().join("mirror/inner"))?;
    inner.put("a", "inner")?;
    let outer = Remote::empty(tmp.path().join("mirror/org/outer"))?;
    outer.put("base/a", "outer")?;
    // The submodule's address is the public one; Git has it from the mirror.
    let folder = format!("file://{}/mirror", tmp.path().display());
    let insteadof = format!("url.{folder}/inner.insteadOf=https://git.example/inner");
    outer.git(&[
        "-c",
        "protocol.file.allow=always",
        "-c",
        &insteadof,
        "submodule",
        "add",
        "-q",
        "https://git.example/inner",
        "m",
    ])?;
    outer.commit("a submodule")?;
    let mirrors = Mirrors::new(vec![format!("https://git.example={folder}").parse()?]);
    let remotes = Remotes { mirrors, ..remotes() };
    assert_eq!(answer(&remotes, "https://git.example/org/outer//base?ref=main")?, "base outer");
    assert_eq!(answer(&remotes, "https://git.example/org/outer//m")?, "m inner");

    let url = serve(&[("/mirror/x.yaml", "200 OK", "a: 1")])?;
    let mirrors = Mirrors::new(vec![format!("https://files.example/x={url}/mirror").parse()?]);
    let remotes = Remotes { mirrors, ..remotes };
    assert_eq!(answer(&remotes, "https://files.example/x/x.yaml")?, "text a: 1");
    Ok(())
}

#[test]
fn the_keys_of_whoever_runs_the_hub_are_not_shown() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let outer = Remote::empty(tmp.path().join("outer"))?;
    let commit = outer.put("a", "1")?;
    outer.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},m")])?;
    outer.git(&["config", "-f", ".gitmodules", "submodule.m.path", "m"])?;
    outer.git(&["config", "-f", ".gitmodules", "submodule.m.url", "git@127.0.0.1:platform/secrets"])?;
    outer.git(&["add", ".gitmodules"])?;
    outer.git(&["commit", "-q", "-m", "a submodule by ssh"])?;
    let here = format!("file://{}", tmp.path().display());
    let fenced = Remotes { reach: Reach::Public(vec!["127.0.0.1".parse()?, here.parse()?]), ..remotes() };
    let mirrors = Mirrors::new(vec!["https://git.example=ssh://git@127.0.0.1".parse()?]);
    let mirrored = Remotes { mirrors, reach: fenced.reach.clone(), ..remotes() };
    for (remotes, address) in [
        (&fenced, "git@127.0.0.1:platform/secrets".to_owned()),
        (&fenced, "ssh://git@127.0.0.1/platform/secrets//a?ref=main".to_owned()),
        (&mirrored, "https://git.example/platform/secrets//a?ref=main".to_owned()),
        (&fenced, format!("{here}/outer")),
    ] {
        let error = answer(remotes, &address).err().with_context(|| address.clone())?;
        assert!(error.to_string().contains("ssh needs a key"), "{address}: {error}");
    }
    Ok(())
}
