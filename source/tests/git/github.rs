//! `provider: github`: an app's proof, the token that it is given, and what is fetched with it.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flotilla_core::source::{GitReference, GitRepository, SecretName, SourceSpec};
use flotilla_source::Reach;
use flotilla_source::flux::{Fetcher, Policy, Secret, Secrets, Wanted};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::flux::spec;
use crate::support::{Behaviour, GitServer, Remote};

const TOKEN: &str = "ghs_0123456789";
const DENIED: (u16, &str) = (401, "{}");

/// What GitHub is asked and answers.
#[derive(Default)]
struct GitHub {
    /// Of whoever may ask: the public key of app 7.
    key: Vec<u8>,
    requests: Mutex<Vec<String>>,
    /// In place of the usual answer to a request for a token: a status, with a header or a body.
    answer: Mutex<Option<(u16, String)>>,
}

impl GitHub {
    fn start(self) -> Result<(Arc<Self>, String)> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = format!("http://{}/api/v3/", listener.local_addr()?);
        let github = Arc::new(self);
        let shared = github.clone();
        // It ends with the process; whoever asked something odd sees the connection end.
        std::thread::spawn(move || {
            listener.incoming().flatten().for_each(|stream| drop(shared.serve(stream)));
        });
        Ok((github, address))
    }

    fn serve(&self, mut stream: TcpStream) -> Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let request = lines.next().context("a request")??;
        let request = request.trim_end_matches(" HTTP/1.1").to_owned();
        let mut proof = String::new();
        for line in lines {
            let line = line?;
            if let Some(found) = line.strip_prefix("authorization: Bearer ") {
                proof = found.to_owned();
            }
            if line.is_empty() {
                break;
            }
        }
        self.requests.lock().unwrap().push(request.clone());
        let (status, text) = match (&*request, self.is_app(&proof)) {
            (_, false) => (DENIED.0, DENIED.1.to_owned()),
            ("POST /api/v3/app/installations/42/access_tokens", true) => {
                let ends = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
                let usual = (201, json!({"token": TOKEN, "expires_at": ends.to_string()}).to_string());
                self.answer.lock().unwrap().clone().unwrap_or(usual)
            }
            ("GET /api/v3/orgs/acme/installation" | "GET /api/v3/users/jo/installation", true) => {
                (200, json!({"id": 42}).to_string())
            }
            _ => (404, "{}".to_owned()),
        };
        let header = if status == 302 { format!("Location: {text}\r\n") } else { String::new() };
        write!(
            stream,
            "HTTP/1.1 {status} X\r\n{header}Content-Length: {}\r\nConnection: close\r\n\r\n{text}",
            text.len()
        )?;
        Ok(stream.flush()?)
    }

    /// Whether a proof is one of app 7, signed and of now.
    fn is_app(&self, proof: &str) -> bool {
        let Some((said, signature)) = proof.rsplit_once('.') else { return false };
        let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return false };
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.key);
        let part = |n: usize| -> Value {
            let text = URL_SAFE_NO_PAD.decode(said.split('.').nth(n).unwrap_or_default()).unwrap_or_default();
            serde_json::from_slice(&text).unwrap_or_default()
        };
        let (head, claims, now) = (part(0), part(1), jiff::Timestamp::now().as_second());
        let between = (claims["iat"].as_i64(), claims["exp"].as_i64());
        key.verify(said.as_bytes(), &signature).is_ok()
            && head == json!({"alg": "RS256", "typ": "JWT"})
            && claims["iss"] == "7"
            && matches!(between, (Some(from), Some(to)) if from <= now && now < to && to - from <= 600)
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }
}

/// A private key as GitHub gives one, and the public one.
fn rsa(folder: &Path) -> Result<(String, Vec<u8>)> {
    let path = folder.join("app");
    let arguments = ["-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "", "-f"];
    let made = Command::new("ssh-keygen").args(arguments).arg(&path).status()?;
    ensure!(made.success(), "ssh-keygen: {made}");
    let pem = std::fs::read_to_string(path)?;
    let PrivateKeyDer::Pkcs1(der) = PrivateKeyDer::from_pem_slice(pem.as_bytes())? else {
        anyhow::bail!("not PKCS #1")
    };
    let key = RsaKeyPair::from_der(der.secret_pkcs1_der()).ok().context("an RSA key")?;
    Ok((pem, key.public().as_ref().to_vec()))
}

fn wanted(url: &str, data: &[(&str, &str)]) -> Wanted {
    let data = data.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect();
    Wanted {
        spec: SourceSpec::Git(GitRepository {
            secret: Some(SecretName("creds".into())),
            github_app: true,
            ..spec(url, GitReference::Branch("main".into()))
        }),
        repository: None,
        secrets: Secrets { secret: Some(Secret { name: "ns/creds".into(), data }), ..Secrets::default() },
        timeout: Duration::from_secs(60),
    }
}

fn error(dir: &Path, wanted: &Wanted, reach: Reach) -> String {
    let mut fetcher = Fetcher::open(dir.to_owned(), wanted.clone(), &Policy::new(reach)).unwrap();
    fetcher.fetch(&AtomicBool::new(false)).unwrap_err().to_string()
}

#[test]
fn a_github_app_is_given_a_token_and_keeps_it() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let (pem, key) = rsa(tmp.path())?;
    let (github, api) = GitHub { key, ..GitHub::default() }.start()?;
    let remote = Remote::empty(tmp.path().join("remote"))?;
    remote.put("a.yaml", "1")?;
    let password = Some(("x-access-token", TOKEN));
    let server = GitServer::start(tmp.path(), None, Behaviour { password, ..Behaviour::default() })?;
    let url = server.url("", "remote/.git");
    let app = [("githubAppID", "7\n"), ("githubAppPrivateKey", &*pem), ("githubAppBaseURL", &*api)];
    let with = |more: &[(&'static str, &'static str)]| -> Vec<(&str, &str)> {
        app.iter()
            .copied()
            .filter(|(key, _)| more.iter().all(|(other, _)| key != other))
            .chain(more.iter().copied())
            .collect()
    };
    let token = "POST /api/v3/app/installations/42/access_tokens";
    let (org, user) = ("GET /api/v3/orgs/acme/installation", "GET /api/v3/users/jo/installation");
    for (n, (more, asked)) in [
        (&[("githubAppInstallationID", "42")][..], &[token][..]),
        (&[("githubAppInstallationOwner", "acme")], &[org, token]),
        (&[("githubAppInstallationOwner", "jo")], &["GET /api/v3/orgs/jo/installation", user, token]),
    ]
    .into_iter()
    .enumerate()
    {
        let dir = tmp.path().join(n.to_string());
        let wanted = wanted(&url, &with(more));
        let mut fetcher = Fetcher::open(dir.clone(), wanted.clone(), &Policy::new(Reach::Anything))?;
        let first = fetcher.fetch(&AtomicBool::new(false))?.revision;
        assert!(first.starts_with("main@sha1:"), "{first}");
        assert_eq!(github.asked(), asked);
        remote.put("a.yaml", &format!("{n} more"))?;
        assert_ne!(fetcher.fetch(&AtomicBool::new(false))?.revision, first);
        assert_eq!(github.asked(), [""; 0], "it is good for an hour");
        drop(fetcher);
        let after = Fetcher::open(dir.clone(), wanted, &Policy::new(Reach::Anything))?;
        assert!(
            after.last().is_some() && github.asked().is_empty(),
            "nobody is asked to look at what is there"
        );
        let kept = Command::new("grep").args(["-r", "-e", TOKEN, "-e", "PRIVATE KEY"]).arg(dir).output()?;
        assert!(kept.stdout.is_empty(), "{}", String::from_utf8_lossy(&kept.stdout));
    }

    for (n, (more, said)) in [
        (&[][..], "has no githubAppInstallationID or githubAppInstallationOwner"),
        (
            &[("githubAppInstallationID", "x")],
            "githubAppInstallationID of the secret ns/creds cannot be used",
        ),
        (
            &[("githubAppInstallationID", "1"), ("githubAppInstallationOwner", "acme")],
            "take one of them away",
        ),
        (&[("githubAppInstallationOwner", "../x")], "not the name of an organization or user"),
        (&[("githubAppInstallationOwner", "nobody")], "App 7 is not installed for 'nobody'"),
        (&[("githubAppInstallationID", "41")], "installations/41/access_tokens (HTTP 404)"),
        (&[("githubAppInstallationID", "42"), ("githubAppID", "8")], "refused those that are set (HTTP 401)"),
        (&[("githubAppInstallationID", "42"), ("githubAppPrivateKey", "x")], "it is not an RSA key"),
        (
            &[("githubAppInstallationID", "42"), ("githubAppBaseURL", "http://ghe.example.com/")],
            "not sent to http://ghe.example.com/ in clear text",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let found = error(&tmp.path().join(format!("e{n}")), &wanted(&url, &with(more)), Reach::Anything);
        assert!(found.contains(said), "{more:?}: {found}");
    }
    github.asked();

    // What it answers is believed no further than a token goes.
    let ours = with(&[("githubAppInstallationID", "42")]);
    let here = || Reach::Public(vec!["127.0.0.1".parse().unwrap()]);
    for (status, text, said) in [
        (201, r#"{"token": "a b\r\nX-Evil: 1"}"#, "characters that no token has"),
        (201, r#"{"token": ""}"#, "there is no token in it"),
        (201, "<html>", "it is not JSON"),
        (302, "http://10.0.0.1/", "10.0.0.1 does not have a public address"),
    ] {
        *github.answer.lock().unwrap() = Some((status, text.to_owned()));
        let found = error(&tmp.path().join("odd"), &wanted(&url, &ours), here());
        assert!(found.contains(said) && !found.contains("X-Evil"), "{text}: {found}");
    }
    github.asked();
    let found = error(&tmp.path().join("reach"), &wanted(&url, &ours), Reach::Public(Vec::new()));
    assert!(found.contains("127.0.0.1 does not have a public address"), "{found}");
    assert_eq!(github.asked(), [""; 0]);
    Ok(())
}
