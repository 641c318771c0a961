//! `flotilla promote`: versions go from one overlay to the next, as a commit, on a branch or in a pull request.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use crate::kustomize::git;
use crate::{Ran, flotilla, run};

fn overlay(tag: &str, replicas: u32) -> String {
    format!(
        "# ours\nkind: Kustomization\nimages:\n- name: web\n  newTag: {tag}   # by ann\nreplicas:\n- name: web\n  count: {replicas}\n"
    )
}

fn file(root: &Path, side: &str) -> std::path::PathBuf {
    root.join(format!("apps/web/{side}/kustomization.yaml"))
}

/// Staging is a version ahead of production.
fn repository() -> anyhow::Result<tempfile::TempDir> {
    let repo = tempfile::tempdir()?;
    let root = repo.path();
    for (side, tag, replicas) in [("staging", "1.1", 1), ("production", "1.0", 3)] {
        let at = file(root, side);
        fs::create_dir_all(at.parent().unwrap())?;
        fs::write(at, overlay(tag, replicas))?;
    }
    git(root, &["init", "-q", "-b", "main"])?;
    git(root, &["config", "user.name", "ann"])?;
    git(root, &["config", "user.email", "ann@example.com"])?;
    git(root, &["add", "-A"])?;
    git(root, &["commit", "-q", "-m", "one"])?;
    Ok(repo)
}

/// Whoever writes the repository must not have files changed beside it.
#[tokio::test]
async fn nothing_is_written_through_a_link() -> anyhow::Result<()> {
    let (repo, outside) = (repository()?, tempfile::tempdir()?);
    let root = repo.path();
    let sub = file(root, "staging").parent().unwrap().join("sub");
    fs::create_dir(&sub)?;
    fs::write(sub.join("kustomization.yaml"), overlay("1.1", 1))?;
    let beside = outside.path().join("kustomization.yaml");
    fs::write(&beside, overlay("1.0", 1))?;
    std::os::unix::fs::symlink(outside.path(), file(root, "production").parent().unwrap().join("sub"))?;
    git(root, &["add", "-A"])?;
    git(root, &["commit", "-q", "-m", "linked"])?;
    for more in [&[][..], &["--branch", "release"], &["--dry-run"]] {
        let args =
            ["promote", "staging", "production", "--path", "apps/web", "--repo", root.to_str().unwrap()];
        let ran = run(&[&args[..], more].concat()).await?;
        assert!(
            ran.code != 0 && ran.stderr.contains("its folder apps/web/production/sub is a link"),
            "{ran:?}"
        );
        assert_eq!(fs::read_to_string(&beside)?, overlay("1.0", 1));
    }
    Ok(())
}

#[tokio::test]
async fn a_promotion_is_shown_then_committed_or_put_on_a_branch() -> anyhow::Result<()> {
    let repo = repository()?;
    let root = repo.path();
    let at = |side: &str| file(root, side);
    let folder = root.to_str().unwrap();
    let promote = async |more: &[&str]| -> anyhow::Result<Ran> {
        run(&[&["promote", "staging", "production", "--path", "apps/web", "--repo", folder], more].concat())
            .await
    };

    let ran = promote(&["--dry-run"]).await?;
    let diff = "--- a/apps/web/production/kustomization.yaml\n+++ b/apps/web/production/kustomization.yaml\n@@ -2,7 +2,7 @@\n";
    assert!(ran.stdout.starts_with(diff), "{ran:?}");
    assert!(ran.stdout.contains("\n-  newTag: 1.0   # by ann\n+  newTag: 1.1   # by ann\n"), "{ran:?}");
    assert_eq!(ran.stderr, "1 values would change\n");
    assert_eq!(fs::read_to_string(at("production"))?, overlay("1.0", 3), "a dry run changes nothing");

    // What is not committed was not reviewed.
    fs::write(at("staging"), overlay("1.2", 1))?;
    let ran = promote(&[]).await?;
    assert!(ran.code == 3 && ran.stderr.contains("not committed"), "{ran:?}");
    fs::write(at("staging"), overlay("1.1", 1))?;

    let ran = promote(&["--branch", "release"]).await?;
    assert!(ran.code == 0 && ran.stderr.contains("on branch release"), "{ran:?}");
    assert_eq!(fs::read_to_string(at("production"))?, overlay("1.0", 3), "what is checked out stays");
    git(root, &["diff", "--quiet", "HEAD"])?;
    let ran = promote(&["--branch", "release"]).await?;
    assert!(ran.code != 0 && ran.stderr.contains("name another one"), "{ran:?}");

    let ran = promote(&["-o", "json"]).await?;
    let told: serde_json::Value = serde_json::from_str(&ran.stdout)?;
    assert_eq!(told["changes"][0]["what"], "images[web].newTag");
    assert_eq!(fs::read_to_string(at("production"))?, overlay("1.1", 3));
    // The branch and the commit come to the same files.
    git(root, &["diff", "--quiet", "release", "HEAD"])?;
    assert_eq!(promote(&[]).await?.stderr, "there is nothing to promote\n");

    let ran = run(&["promote", "staging", "prod", "--path", "apps/web", "--repo", folder]).await?;
    assert!(ran.code == 3 && ran.stderr.contains("apps/web/prod"), "{ran:?}");
    Ok(())
}

/// What a server was asked: method, path, the header with the token, body.
type Asked = (String, String, String, Value);

/// A server that remembers what it was asked, and its next answer.
#[derive(Default)]
struct Recorder {
    asked: Mutex<Vec<Asked>>,
    answer: Mutex<(u16, Value)>,
}

async fn record(State(recorder): State<Arc<Recorder>>, request: Request) -> Response {
    let header = ["authorization", "private-token"]
        .into_iter()
        .find_map(|name| Some(format!("{name}: {}", request.headers().get(name)?.to_str().ok()?)));
    let (method, path) = (request.method().to_string(), request.uri().to_string());
    let body = to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let body = serde_json::from_slice(&body).unwrap();
    recorder.asked.lock().unwrap().push((method, path, header.unwrap_or_default(), body));
    let (status, answer) = recorder.answer.lock().unwrap().clone();
    let headers = [("location", "/elsewhere")];
    (StatusCode::from_u16(status).unwrap(), headers, axum::Json(answer)).into_response()
}

#[tokio::test]
async fn a_promotion_is_a_pull_request() -> anyhow::Result<()> {
    let recorder = Arc::new(Recorder::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let server = format!("http://{}", listener.local_addr()?);
    let router = Router::new().fallback(record).with_state(recorder.clone());
    let _server = tokio::spawn(async move { axum::serve(listener, router).await });

    let (repo, bare) = (repository()?, tempfile::tempdir()?);
    let (root, folder) = (repo.path(), repo.path().to_str().unwrap());
    git(bare.path(), &["init", "-q", "--bare"])?;
    git(root, &["remote", "add", "origin", "git@git.example.com:group/sub/fleet.git"])?;
    git(root, &["remote", "set-url", "--push", "origin", bare.path().to_str().unwrap()])?;
    let promote = async |branch: &str, token: &str, more: &[&str]| -> anyhow::Result<Ran> {
        let args = ["promote", "staging", "production", "--path", "apps/web", "--repo", folder];
        let args = [&args, &["--pull-request", "--branch", branch][..], more].concat();
        let mut command = flotilla(&args);
        command.env("PATH", std::env::var("PATH")?);
        if !token.is_empty() {
            command.env("FLOTILLA_FORGE_TOKEN", token);
        }
        Ok(command.output().await?.into())
    };
    let answer = |status: u16, body: Value| *recorder.answer.lock().unwrap() = (status, body);
    let asked = || std::mem::take(&mut *recorder.asked.lock().unwrap());
    let pushed = |branch: &str| {
        git(bare.path(), &["rev-parse", "--verify", "-q", &format!("refs/heads/{branch}")]).is_ok()
    };

    let title = "Promote staging to production in apps/web";
    let text = "apps/web/production/kustomization.yaml: images[web].newTag from 1.0 to 1.1";
    for (forge, path, header, body, address) in [
        (
            "github",
            "/repos/group/sub/fleet/pulls",
            "authorization: Bearer t0ken",
            json!({"title": title, "body": text, "head": "b-github", "base": "main"}),
            "html_url",
        ),
        (
            "gitlab",
            "/projects/group%2Fsub%2Ffleet/merge_requests",
            "private-token: t0ken",
            json!({"title": title, "description": text, "source_branch": "b-gitlab", "target_branch": "main"}),
            "web_url",
        ),
        (
            "gitea",
            "/repos/group/sub/fleet/pulls",
            "authorization: token t0ken",
            json!({"title": title, "body": text, "head": "b-gitea", "base": "main"}),
            "html_url",
        ),
    ] {
        answer(201, json!({address: "https://git.example.com/pulls/7"}));
        let branch = format!("b-{forge}");
        let ran = promote(&branch, "t0ken", &["--forge", forge, "--forge-url", &server]).await?;
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(ran.stderr.ends_with("the pull request is https://git.example.com/pulls/7\n"), "{ran:?}");
        assert_eq!(asked(), [("POST".to_owned(), path.to_owned(), header.to_owned(), body)], "{forge}");
        assert!(pushed(&branch), "{forge}");
    }
    // The base is the one that is named, and the token may be in a file.
    fs::write(bare.path().join("token"), "from-file\n")?;
    let file = bare.path().join("token");
    let more = [
        "--forge",
        "gitea",
        "--forge-url",
        &server,
        "--base",
        "release",
        "--forge-token-file",
        file.to_str().unwrap(),
    ];
    let ran = promote("b-file", "", &[&more[..], &["-o", "json"]].concat()).await?;
    let told: Value = serde_json::from_str(&ran.stdout)?;
    assert_eq!(told["pullRequest"], "https://git.example.com/pulls/7", "{ran:?}");
    let [(_, _, header, body)] = &asked()[..] else { panic!("one question") };
    assert_eq!((header.as_str(), &body["base"]), ("authorization: token from-file", &json!("release")));

    // What is refused is said, without the token; a redirect is not followed.
    for (status, body, code, says) in [
        (403, json!({"message": "not \u{1b}[31myours"}), 5, "403 Forbidden: not "),
        (422, json!({"message": "no such base"}), 7, "422 Unprocessable Entity: no such base"),
        (409, json!({"message": ["exists"]}), 7, "exists"),
        (302, json!({}), 7, "302 Found"),
        (201, json!({"id": 7}), 7, "names no pull request"),
    ] {
        answer(status, body);
        let branch = format!("b-{status}-{code}-{}", says.len());
        let ran = promote(&branch, "t0ken", &["--forge", "gitea", "--forge-url", &server]).await?;
        assert!(ran.code == code && ran.stderr.contains(says), "{status}: {ran:?}");
        assert!(!ran.stderr.contains("t0ken") && !ran.stderr.contains('\u{1b}'), "{ran:?}");
        assert_eq!(asked().len(), 1);
    }
    // What is missing is missed before anything is committed or pushed.
    for (token, more, says) in [
        ("", &["--forge", "gitea"][..], "FLOTILLA_FORGE_TOKEN"),
        ("t0ken", &[], "what serves git.example.com is not known"),
        (
            "t0ken",
            &["--forge", "gitea", "--forge-url", "http://git.example.com/api/v1"],
            "is not an https:// address",
        ),
        ("t0ken", &["--forge", "gitea", "--remote=--mirror"], "No such remote"),
        ("a b", &["--forge", "gitea"], "characters that no token has"),
    ] {
        let ran = promote("b-never", token, more).await?;
        assert!(ran.code != 0 && ran.stderr.contains(says), "{says}: {ran:?}");
        assert!(
            git(root, &["rev-parse", "--verify", "-q", "refs/heads/b-never"]).is_err() && asked().is_empty()
        );
    }
    Ok(())
}
