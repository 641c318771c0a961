//! The addresses of remote bases, as kustomize writes them: a repository, a path in it and what to take, in one text.
//!
//! ```text
//! https://host/org/repo//path?ref=v1&timeout=30s&submodules=false      the `//` ends the repository
//! https://host/org/repo.git/path      `.git` does, `_git/NAME` does, else the second part of the path
//! git@host:org/repo   ssh://git@host/org/repo   file:///srv/repo.git//path   git::https://…   github.com/org/repo
//! ```

use std::str::FromStr;
use std::time::Duration;

use flotilla_kustomize::files::TreePath;
use flotilla_kustomize::without_secrets;
use percent_encoding::percent_decode_str;

use crate::git::spec::GitUrl;

/// How long kustomize gives a remote base.
const TIMEOUT: Duration = Duration::from_secs(27);

/// A folder of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteUrl {
    pub url: GitUrl,
    /// The folder to build.
    pub path: TreePath,
    /// A branch, tag, commit or full name of a ref; "" for the repository's own branch.
    pub reference: String,
    pub timeout: Duration,
    pub submodules: bool,
}

/// A text is not an address of a remote base.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{shown}' is not an address of a folder in a Git repository: {reason}")]
pub struct RemoteUrlError {
    pub shown: String,
    pub reason: String,
}

impl FromStr for RemoteUrl {
    type Err = RemoteUrlError;

    fn from_str(text: &str) -> Result<Self, RemoteUrlError> {
        let fail = |reason: String| RemoteUrlError { shown: without_secrets(text), reason };
        let (address, query) = text.split_once('?').unwrap_or((text, ""));
        let (host, rest) = host(address).map_err(&fail)?;
        let (repository, path) = split(&host, &rest)
            .ok_or_else(|| fail("it names no repository; write HOST/ORG/REPO//PATH".into()))?;
        let path = TreePath::root()
            .join(path.trim_start_matches('/'))
            .map_err(|_| fail(format!("the path '{path}' leads out of the repository")))?;
        let url = format!("{host}{repository}").parse::<GitUrl>().map_err(|error| fail(error.reason))?;
        let mut read = Self { url, path, reference: String::new(), timeout: TIMEOUT, submodules: true };
        read.take(query);
        Ok(read)
    }
}

impl RemoteUrl {
    /// Whether a text says by itself that it means a repository and not a file.
    pub fn is_explicit(text: &str) -> bool {
        let (address, query) = text.split_once('?').unwrap_or((text, ""));
        let path = address.split_once("://").map_or(address, |(_, rest)| rest);
        !(address.starts_with("http://") || address.starts_with("https://"))
            || path.contains("//")
            || path.contains("_git/")
            || path.ends_with(".git")
            || path.contains(".git/")
            || pairs(query).any(|(key, _)| matches!(key, "ref" | "version" | "submodules"))
    }

    /// What is not understood has kustomize's defaults, as there.
    fn take(&mut self, query: &str) {
        let value =
            |name: &str| pairs(query).find(|(key, v)| *key == name && !v.is_empty()).map(|(_, v)| decoded(v));
        self.reference = value("ref").or_else(|| value("version")).unwrap_or_default();
        if let Some(timeout) = value("timeout").and_then(|text| duration(&text)) {
            self.timeout = timeout;
        }
        let no = ["0", "f", "F", "false", "FALSE", "False"];
        self.submodules = value("submodules").is_none_or(|text| !no.contains(&text.as_str()));
    }
}

fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// `%2F` as `/`, and `+` as a space.
fn decoded(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

/// Seconds, or Go's durations: `90s`, `1m30s`.
fn duration(text: &str) -> Option<Duration> {
    let seconds = text.parse::<u64>().map(Duration::from_secs).ok();
    let parse = || -> Option<Duration> {
        let (mut total, mut rest) = (0.0, text);
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
            let number: f64 = rest[..digits].parse().ok()?;
            let unit_end =
                rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |n| digits + n);
            let unit = match &rest[digits..unit_end] {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
            total += number * unit;
            rest = &rest[unit_end..];
        }
        Duration::try_from_secs_f64(total).ok()
    };
    seconds.or_else(parse).filter(|duration| !duration.is_zero())
}

/// What stands before the path in the repository's address, and the rest.
fn host(text: &str) -> Result<(String, String), String> {
    let text = if text.len() >= 5 && text.is_char_boundary(5) && text[..5].eq_ignore_ascii_case("git::") {
        &text[5..]
    } else {
        text
    };
    let scheme = ["ssh://", "https://", "http://", "file://"]
        .into_iter()
        .find(|scheme| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
    let rest = &text[scheme.map_or(0, str::len)..];
    if scheme == Some("file://") {
        return Ok(("file://".into(), rest.to_owned()));
    }
    let authority = rest.find(['/', '?']).unwrap_or(rest.len());
    let user_end = rest[..authority].rfind('@').map_or(0, |at| at + 1);
    let (user, after) = rest.split_at(user_end);
    let is_github = ["github.com/", "github.com:"]
        .iter()
        .any(|host| after.get(..host.len()).is_some_and(|start| start.eq_ignore_ascii_case(host)));
    match scheme {
        _ if is_github && (scheme == Some("ssh://") || (scheme.is_none() && !user.is_empty())) => {
            Ok(("git@github.com:".into(), after["github.com/".len()..].to_owned()))
        }
        _ if is_github => {
            let user = if user.is_empty() || scheme.is_none() { "" } else { user };
            Ok((format!("https://{user}github.com/"), after["github.com/".len()..].to_owned()))
        }
        Some(scheme) => {
            let end = after.find('/').ok_or("it names no repository")?;
            if end == 0 {
                return Err("it names no host".into());
            }
            Ok((format!("{scheme}{user}{}", &after[..=end]), after[end + 1..].to_owned()))
        }
        None if !user.is_empty() => {
            let end = after.find([':', '/']).ok_or("it names no repository")?;
            // `git@host/org/repo` means what `git@host:org/repo` does.
            Ok((format!("{user}{}:", &after[..end]), after[end + 1..].to_owned()))
        }
        None => Err("it has no scheme; begin with https://, ssh://, file:// or git@HOST:".into()),
    }
}

/// The repository and the path in it.
fn split(host: &str, rest: &str) -> Option<(String, String)> {
    if let Some(at) = rest.find("_git/") {
        let name = at + "_git/".len();
        let end = rest[name..].find('/').map_or(rest.len(), |slash| name + slash);
        return (end > name).then(|| (rest[..end].to_owned(), rest[end..].to_owned()));
    }
    // A path on this machine begins with the slash that a third one would follow.
    let from = usize::from(host == "file://");
    if let Some(at) = rest.get(from..)?.find("//") {
        let at = at + from;
        return (at > 0).then(|| (rest[..at].to_owned(), rest[at..].to_owned()));
    }
    let mut ends = rest.match_indices(".git").map(|(at, found)| at + found.len());
    if let Some(end) = ends.find(|end| rest[*end..].is_empty() || rest[*end..].starts_with('/')) {
        return Some((rest[..end].to_owned(), rest[end..].to_owned()));
    }
    if host == "file://" {
        return (!rest.is_empty()).then(|| (rest.to_owned(), String::new()));
    }
    let mut slashes = rest.match_indices('/').map(|(at, _)| at);
    let first = slashes.next().filter(|first| *first > 0 && first + 1 < rest.len())?;
    let end = slashes.next().unwrap_or(rest.len());
    (end > first + 1).then(|| (rest[..end].to_owned(), rest[end..].to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_remote_bases() {
        for (text, url, path, reference) in [
            ("https://github.com/o/r", "https://github.com/o/r", "", ""),
            ("https://github.com/o/r/a/b?ref=v1", "https://github.com/o/r", "a/b", "v1"),
            ("https://github.com/o/r//a/b/?ref=v1", "https://github.com/o/r", "a/b", "v1"),
            ("github.com/o/r/a?ref=feature%2Fx", "https://github.com/o/r", "a", "feature/x"),
            ("github.com:o/r/a", "https://github.com/o/r", "a", ""),
            ("git@github.com:o/r.git/a", "git@github.com:o/r.git", "a", ""),
            ("git@github.com/o/r//a", "git@github.com:o/r", "a", ""),
            ("ssh://git@github.com/o/r//a", "git@github.com:o/r", "a", ""),
            ("git::https://git.example/x/y/z.git//a?version=1", "https://git.example/x/y/z.git", "a", "1"),
            ("GIT::git@host:o/r", "git@host:o/r", "", ""),
            ("ssh://git@host:2222/o/r.git//a", "ssh://git@host:2222/o/r.git", "a", ""),
            ("https://git.example/g/s/r//a?ref=x", "https://git.example/g/s/r", "a", "x"),
            ("https://git.example/g/s/r.git/a", "https://git.example/g/s/r.git", "a", ""),
            ("https://git.example/x.github.io/r/a", "https://git.example/x.github.io/r", "a", ""),
            ("https://u@dev.azure.com/o/p/_git/r/a?ref=x", "https://dev.azure.com/o/p/_git/r", "a", "x"),
            ("file:///srv/repo", "file:///srv/repo", "", ""),
            ("file:///srv/repo.git/a?ref=x", "file:///srv/repo.git", "a", "x"),
            ("file:///srv/repo//a", "file:///srv/repo", "a", ""),
            ("http://127.0.0.1:99/a.git?ref=", "http://127.0.0.1:99/a.git", "", ""),
            ("https://h/o/r//a?version=1&ref=2", "https://h/o/r", "a", "2"),
        ] {
            let read: RemoteUrl = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            let shown = (read.url.to_string(), read.path.as_str().to_owned(), read.reference.as_str());
            assert_eq!(shown, (url.to_owned(), path.to_owned(), reference), "{text}");
        }
    }

    #[test]
    fn what_else_the_query_says() {
        for (query, timeout, submodules) in [
            ("", 27_000, true),
            ("timeout=61", 61_000, true),
            ("timeout=1m30s&submodules=false", 90_000, false),
            ("timeout=250ms&submodules=0", 250, false),
            ("timeout=soon&submodules=maybe", 27_000, true),
            ("timeout=0&submodules=true", 27_000, true),
        ] {
            let read: RemoteUrl = format!("https://h/o/r?{query}").parse().unwrap();
            assert_eq!((read.timeout.as_millis(), read.submodules), (timeout, submodules), "{query}");
        }
    }

    #[test]
    fn addresses_that_are_none() {
        for (text, reason) in [
            ("https://github.com/o", "names no repository"),
            ("https://github.com", "names no repository"),
            ("https:///o/r", "names no host"),
            ("o/r?ref=x", "no scheme"),
            ("gh:o/r", "no scheme"),
            ("https://h/o/r//../a", "leads out"),
            ("ssh://git:s3cret@h/o/r", "key, not a password"),
            ("https://h//a", "names no repository"),
            ("file://", "names no repository"),
            ("file://srv/x", "names a host"),
        ] {
            let error = text.parse::<RemoteUrl>().map(|read| panic!("{text}: {read:?}")).unwrap_err();
            assert!(error.reason.contains(reason), "{text}: {error}");
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn repositories_are_told_from_files() {
        for (text, is_repository) in [
            ("https://h/o/r/deploy.yaml", false),
            ("https://h/o/r/deploy.yaml?token=x", false),
            ("https://h/o/r?ref=x", true),
            ("https://h/o/r//a", true),
            ("https://h/o/r.git", true),
            ("https://h/o/r.github.io/x.yaml", false),
            ("git@h:o/r", true),
            ("file:///x", true),
            ("github.com/o/r", true),
        ] {
            assert_eq!(RemoteUrl::is_explicit(text), is_repository, "{text}");
        }
    }
}
