//! Addresses that are fetched from elsewhere: what repositories name at public hosts, an operator behind an air gap keeps
//! on servers of their own.
//!
//! ```text
//!   https://github.com/acme=https://git.corp/acme      https://github.com/acme/x//deploy?ref=v1 ─► https://git.corp/acme/x//…
//!   oci://ghcr.io=http://10.0.0.9:5000/ghcr            oci://ghcr.io/acme/app ─► 10.0.0.9:5000/ghcr/acme/app, without TLS
//! ```
//!
//! Nothing else of a source changes: its name, its key, its credentials, what people see of it.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

const SCHEMES: [&str; 5] = ["https://", "http://", "oci://", "ssh://", "file://"];

/// One rule, as `FROM=TO`: addresses that begin with FROM are fetched from TO and what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    from: String,
    to: String,
}

/// A text that is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a mirror: write FROM=TO with two addresses, like https://github.com/acme=https://git.corp/acme"
)]
pub struct MirrorError(String);

impl FromStr for Mirror {
    type Err = MirrorError;

    fn from_str(text: &str) -> Result<Self, MirrorError> {
        let (from, to) = text.split_once('=').ok_or_else(|| MirrorError(text.to_owned()))?;
        let address = |address: &str| -> Option<String> {
            let address = address.trim_end_matches('/');
            let scheme = SCHEMES.into_iter().find(|scheme| address.starts_with(scheme));
            let rest = match scheme {
                Some(scheme) => &address[scheme.len()..],
                // `git@host:path`
                None if address.contains('@') && address.contains(':') => address,
                None => return None,
            };
            let user = rest.split('/').next()?.rsplit_once('@').map(|(user, _)| user);
            let has_password = scheme.is_some() && user.is_some_and(|user| user.contains(':'));
            let is_plain = !rest.is_empty() && !address.contains(char::is_whitespace) && !has_password;
            is_plain.then(|| address.to_owned())
        };
        match (address(from), address(to)) {
            (Some(from), Some(to)) => Ok(Self { from, to }),
            // It may hold a password.
            _ => Err(MirrorError(from.rsplit('@').next().unwrap_or_default().to_owned())),
        }
    }
}

impl fmt::Display for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.from, self.to)
    }
}

/// All rules; of those that fit an address the longest counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mirrors(Vec<Mirror>);

impl Mirrors {
    pub fn new(mut rules: Vec<Mirror>) -> Self {
        rules.sort_by_key(|rule| std::cmp::Reverse(rule.from.len()));
        Self(rules)
    }

    /// Where an address is fetched from.
    pub(crate) fn address<'a>(&self, address: &'a str) -> Cow<'a, str> {
        let moved = self.0.iter().find_map(|rule| {
            let rest = address.strip_prefix(rule.from.as_str())?;
            let is_whole = rest.is_empty() || rest.starts_with(['/', '?', '#']) || rule.from.ends_with(':');
            let joint = if rule.from.ends_with(':') && !rule.to.ends_with(':') { "/" } else { "" };
            is_whole.then(|| format!("{}{joint}{rest}", rule.to))
        });
        moved.map_or(Cow::Borrowed(address), Cow::Owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirrors(rules: &[&str]) -> Mirrors {
        Mirrors::new(rules.iter().map(|rule| rule.parse().unwrap()).collect())
    }

    #[test]
    fn the_longest_rule_that_ends_between_two_parts_counts() {
        let mirrors = mirrors(&[
            "https://github.com/=https://git.corp/mirror",
            "https://github.com/acme=file:///srv/acme/",
            "git@github.com:=git@git.corp:github/",
            "oci://ghcr.io=http://127.0.0.1:5000/ghcr",
        ]);
        for (address, expected) in [
            ("https://github.com/x/y", "https://git.corp/mirror/x/y"),
            ("https://github.com", "https://git.corp/mirror"),
            ("https://github.com/acme/y.git", "file:///srv/acme/y.git"),
            ("https://github.com/acme", "file:///srv/acme"),
            ("https://github.com/acmes/y", "https://git.corp/mirror/acmes/y"),
            ("https://github.com:8443/x", "https://github.com:8443/x"),
            ("https://github.com.evil/x", "https://github.com.evil/x"),
            ("http://github.com/x", "http://github.com/x"),
            ("git@github.com:x/y", "git@git.corp:github/x/y"),
            ("oci://ghcr.io/a/b", "http://127.0.0.1:5000/ghcr/a/b"),
        ] {
            assert_eq!(mirrors.address(address), expected, "{address}");
        }
        for text in
            ["", "x", "https://a", "https://a=", "=https://a", "a.b=c.d", "https://u:p4ss@a=https://b"]
        {
            let error = text.parse::<Mirror>().unwrap_err().to_string();
            assert!(error.contains("FROM=TO") && !error.contains("p4ss"), "{text}: {error}");
        }
    }
}
