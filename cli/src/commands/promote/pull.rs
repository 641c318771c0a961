//! The pull request of a promotion: what it needs is looked at before anything is committed, then the branch is pushed by the git
//! program, and its server is asked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use reqwest::header::HeaderValue;
use serde_json::Value;

use super::commit::git;
use super::forge::{Forge, Pull, Question, Repository};
use crate::env;
use crate::error::Error;
use crate::exit::Code;
use crate::output::clean;

const TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of an answer.
const ANSWER: usize = 1 << 20;

/// How a pull request is made.
#[derive(Debug, Args)]
pub(super) struct PullArgs {
    /// Push the branch, and make a pull request of it; the token for that is in FLOTILLA_FORGE_TOKEN or --forge-token-file
    #[arg(long, requires = "branch", conflicts_with = "dry_run")]
    pull_request: bool,
    /// The branch that it is merged into; without it the one that is checked out
    #[arg(long, value_name = "NAME", requires = "pull_request")]
    base: Option<String>,
    /// The remote that the branch is pushed to
    #[arg(long, value_name = "NAME", default_value = "origin")]
    remote: String,
    /// What serves the remote, where its name does not say that
    #[arg(long, value_enum, value_name = "FORGE", requires = "pull_request")]
    forge: Option<Forge>,
    /// Address of its API, like https://git.example.com/api/v1, where it is not the usual one
    #[arg(long, value_name = "URL", requires = "pull_request")]
    forge_url: Option<String>,
    /// File with the token
    #[arg(long, value_name = "FILE", requires = "pull_request")]
    forge_token_file: Option<PathBuf>,
}

/// A pull request that can be made.
pub(super) struct Prepared {
    forge: Forge,
    repository: Repository,
    api: String,
    remote: String,
    base: String,
    token: String,
}

impl PullArgs {
    /// Looks whether all is there that it takes.
    pub(super) fn prepare(&self, repo: &Path) -> Result<Option<Prepared>, Error> {
        if !self.pull_request {
            return Ok(None);
        }
        let remote = self.remote.clone();
        let url = git(repo, &["remote", "get-url", "--", &remote], "", None)
            .map_err(|error| error.hint("--remote names another one; `git remote` lists them"))?;
        let repository: Repository = url.parse().map_err(|why: String| Error::new(Code::Input, why))?;
        let forge = self.forge.or(repository.forge()).ok_or_else(|| {
            Error::usage(format!("what serves {} is not known", repository.host()))
                .hint("--forge says it: github, gitlab or gitea")
        })?;
        let api = self.forge_url.clone().unwrap_or_else(|| repository.api(forge));
        if !is_safe(&api) {
            return Err(Error::usage(format!("--forge-url {api} is not an https:// address")));
        }
        let base = match &self.base {
            Some(base) => base.clone(),
            None => git(repo, &["rev-parse", "--abbrev-ref", "HEAD"], "", None)?,
        };
        if base == "HEAD" {
            return Err(Error::usage("no branch is checked out: --base names the one to merge into"));
        }
        let token = self.token()?;
        Ok(Some(Prepared { forge, repository, api, remote, base, token }))
    }

    fn token(&self) -> Result<String, Error> {
        let text = match &self.forge_token_file {
            Some(file) => std::fs::read_to_string(file)
                .map_err(|error| Error::io(format_args!("read {}", file.display()), error))?,
            None => env::system(env::FORGE_TOKEN).ok_or_else(|| {
                Error::usage("a pull request takes a token of the Git server")
                    .hint(format!("set {}, or name a file with --forge-token-file", env::FORGE_TOKEN))
            })?,
        };
        let token = text.trim();
        if token.is_empty() || !token.chars().all(|c| c.is_ascii_graphic()) {
            return Err(Error::usage(
                "the token of the Git server is empty or has characters that no token has",
            ));
        }
        Ok(token.to_owned())
    }
}

/// A token goes nowhere in the clear but to this machine.
fn is_safe(api: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(api) else { return false };
    let is_here = matches!(url.host_str(), Some("127.0.0.1" | "[::1]" | "localhost"));
    let is_plain = url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    is_plain && url.has_host() && (url.scheme() == "https" || url.scheme() == "http" && is_here)
}

impl Prepared {
    /// Pushes a branch and makes the pull request; its address comes back.
    pub(super) async fn make(&self, repo: &Path, branch: &str, message: &str) -> Result<String, Error> {
        let refs = format!("refs/heads/{branch}:refs/heads/{branch}");
        git(repo, &["push", "--quiet", "--", &self.remote, &refs], "", None).map_err(|error| {
            error.hint(format!(
                "the commit is on the branch {branch}: push it, then make the pull request there"
            ))
        })?;
        let (title, text) = message.split_once('\n').unwrap_or((message, ""));
        let pull = Pull { branch, into: &self.base, title, text: text.trim() };
        let made = self.ask(self.forge.question(&self.api, &self.repository, &pull)).await;
        made.map_err(|error| {
            error.or_hint(&format!("the branch {branch} is pushed: make the pull request there"))
        })
    }

    async fn ask(&self, question: Question) -> Result<String, Error> {
        const WHAT: &str = "make the pull request";
        let Question { url, header, scheme, body } = question;
        let host = reqwest::Url::parse(&url)
            .ok()
            .and_then(|url| url.host_str().map(str::to_owned))
            .unwrap_or_default();
        let unreached = |error: reqwest::Error| {
            Error::new(Code::Unreachable, format!("cannot {WHAT} at {host}")).because(error.without_url())
        };
        let mut value = HeaderValue::from_str(&format!("{scheme}{}", self.token))
            .map_err(|error| Error::usage("the token cannot be sent").because(error))?;
        value.set_sensitive(true);
        let client = reqwest::Client::builder()
            .user_agent(concat!("flotilla/", env!("CARGO_PKG_VERSION")))
            // A token must not follow.
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .build()
            .map_err(unreached)?;
        let request =
            client.post(&url).header(header, value).header("accept", "application/json").json(&body);
        let mut response = request.send().await.map_err(unreached)?;
        let status = response.status();
        let mut bytes: Vec<u8> = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreached)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > ANSWER {
                return Err(Error::new(
                    Code::Refused,
                    format!("cannot {WHAT}: the answer of {host} is too long"),
                ));
            }
        }
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        if status.is_success() {
            let address = self.forge.address(&answer).map(clean);
            return address.ok_or_else(|| {
                Error::new(Code::Refused, format!("{host} answered {status} and names no pull request"))
            });
        }
        let said =
            answer.get("message").map(|said| said.as_str().map_or_else(|| said.to_string(), str::to_owned));
        let said: String = clean(&said.unwrap_or_default()).chars().take(300).collect();
        let code = if [401, 403, 404].contains(&status.as_u16()) { Code::Denied } else { Code::Refused };
        let error = Error::new(code, format!("cannot {WHAT}: {host} answered {status}: {said}"));
        Err(if code == Code::Denied { error.hint(self.forge.right()) } else { error })
    }
}
