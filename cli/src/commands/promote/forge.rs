//! What GitHub, GitLab and Gitea are asked for a pull request.
//!
//! By their documentation: GitHub's "Create a pull request" (REST, version 2022-11-28), GitLab's "Create MR" (v4), Gitea's
//! `repoCreatePullRequest` (v1).

use std::str::FromStr;

use clap::ValueEnum;
use serde_json::{Value, json};

/// What serves the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Forge {
    #[value(name = "github")]
    GitHub,
    #[value(name = "gitlab")]
    GitLab,
    /// Forgejo too.
    Gitea,
}

/// A repository on a server, as the URL of a remote names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Repository {
    /// With the port, where it is spoken to by HTTP.
    host: String,
    /// `team/fleet`, without `.git`.
    path: String,
}

/// A request for a pull request from one branch of a repository into another one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pull<'a> {
    pub(super) branch: &'a str,
    pub(super) into: &'a str,
    pub(super) title: &'a str,
    pub(super) text: &'a str,
}

/// A POST of JSON; the token goes into `header`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) url: String,
    pub(super) header: &'static str,
    /// Before the token in it.
    pub(super) scheme: &'static str,
    pub(super) body: Value,
}

impl FromStr for Repository {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        // It may hold a password.
        let wrong = || {
            "the remote is not a repository on a server: https://HOST/OWNER/NAME, or git@HOST:OWNER/NAME"
                .to_owned()
        };
        let (is_http, authority, path) = match url.split_once("://") {
            Some((scheme, rest)) => {
                let (authority, path) = rest.split_once('/').ok_or_else(wrong)?;
                match scheme {
                    "https" | "http" => (true, authority, path),
                    "ssh" | "git+ssh" => (false, authority, path),
                    _ => return Err(wrong()),
                }
            }
            None => {
                let (authority, path) = url.split_once(':').ok_or_else(wrong)?;
                (false, authority, path)
            }
        };
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let host = if is_http { host } else { host.split(':').next().unwrap_or_default() };
        let is_host = |c: char| c.is_ascii_alphanumeric() || ".-:".contains(c);
        let path = path.trim_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path);
        let is_name = |name: &str| {
            !["", ".", ".."].contains(&name)
                && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-~".contains(c))
        };
        let is_whole = path.contains('/') && path.split('/').all(is_name);
        if host.is_empty() || !host.chars().all(is_host) || !is_whole {
            return Err(wrong());
        }
        Ok(Self { host: host.to_ascii_lowercase(), path: path.to_owned() })
    }
}

impl Repository {
    /// What serves it, where its name tells.
    pub(super) fn forge(&self) -> Option<Forge> {
        match self.host.as_str() {
            "github.com" => Some(Forge::GitHub),
            "gitlab.com" => Some(Forge::GitLab),
            "gitea.com" | "codeberg.org" => Some(Forge::Gitea),
            _ => None,
        }
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// The address of the API of what serves it.
    pub(super) fn api(&self, forge: Forge) -> String {
        match (forge, self.host.as_str()) {
            (Forge::GitHub, "github.com") => "https://api.github.com".to_owned(),
            (Forge::GitHub, host) => format!("https://{host}/api/v3"),
            (Forge::GitLab, host) => format!("https://{host}/api/v4"),
            (Forge::Gitea, host) => format!("https://{host}/api/v1"),
        }
    }
}

impl Forge {
    /// The question for a pull request, to the API at an address.
    pub(super) fn question(self, api: &str, repository: &Repository, pull: &Pull<'_>) -> Question {
        let Pull { branch, into, title, text } = pull;
        let (api, path) = (api.trim_end_matches('/'), &repository.path);
        match self {
            Self::GitHub | Self::Gitea => Question {
                url: format!("{api}/repos/{path}/pulls"),
                header: "authorization",
                scheme: if self == Self::GitHub { "Bearer " } else { "token " },
                body: json!({"title": title, "head": branch, "base": into, "body": text}),
            },
            Self::GitLab => Question {
                url: format!("{api}/projects/{}/merge_requests", path.replace('/', "%2F")),
                header: "private-token",
                scheme: "",
                body: json!({"title": title, "source_branch": branch, "target_branch": into, "description": text}),
            },
        }
    }

    /// Where people find what was made, as its answer says.
    pub(super) fn address(self, answer: &Value) -> Option<&str> {
        let field = if self == Self::GitLab { "web_url" } else { "html_url" };
        answer.get(field)?.as_str()
    }

    /// What a token has to be good for.
    pub(super) fn right(self) -> &'static str {
        match self {
            Self::GitHub => "a token needs \"Pull requests: write\" for the repository",
            Self::GitLab => "a token needs the scope `api`, and the role Developer",
            Self::Gitea => "a token needs the scope `write:repository`",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remotes_are_read_as_git_writes_them() {
        for (url, expected) in [
            ("https://github.com/team/fleet.git", Some(("github.com", "team/fleet"))),
            ("https://ann:secret@GitHub.com/team/fleet/", Some(("github.com", "team/fleet"))),
            ("http://git.example.com:3000/team/fleet", Some(("git.example.com:3000", "team/fleet"))),
            ("git@gitlab.com:group/sub/fleet.git", Some(("gitlab.com", "group/sub/fleet"))),
            ("ssh://git@git.example.com:2222/team/fleet", Some(("git.example.com", "team/fleet"))),
            ("/srv/git/fleet.git", None),
            ("file:///srv/git/fleet.git", None),
            ("https://github.com/fleet", None),
            ("https://github.com/team/../fleet", None),
            ("https://github.com/team/fleet?x=y", None),
            ("https://git hub.com/team/fleet", None),
            ("git@:team/fleet", None),
            ("", None),
        ] {
            let read = url.parse::<Repository>();
            let found = read.as_ref().ok().map(|one| (one.host.as_str(), one.path.as_str()));
            assert_eq!(found, expected, "{url}");
            assert!(!read.is_err_and(|error| error.contains("secret")));
        }
    }

    #[test]
    fn each_is_asked_where_it_answers() {
        let pull = Pull { branch: "b", into: "main", title: "t", text: "x" };
        for (url, forge, expected) in [
            ("https://github.com/team/fleet", Forge::GitHub, "https://api.github.com/repos/team/fleet/pulls"),
            ("https://git.corp/team/fleet", Forge::GitHub, "https://git.corp/api/v3/repos/team/fleet/pulls"),
            (
                "git@gitlab.com:g/s/fleet",
                Forge::GitLab,
                "https://gitlab.com/api/v4/projects/g%2Fs%2Ffleet/merge_requests",
            ),
            (
                "https://git.corp:3000/team/fleet",
                Forge::Gitea,
                "https://git.corp:3000/api/v1/repos/team/fleet/pulls",
            ),
        ] {
            let repository: Repository = url.parse().unwrap();
            assert_eq!(forge.question(&repository.api(forge), &repository, &pull).url, expected);
        }
        let forges = [
            "https://github.com/a/b",
            "git@gitlab.com:a/b",
            "https://codeberg.org/a/b",
            "https://git.corp/a/b",
        ];
        let forges = forges.map(|url| url.parse::<Repository>().unwrap().forge());
        assert_eq!(forges, [Some(Forge::GitHub), Some(Forge::GitLab), Some(Forge::Gitea), None]);
    }
}
