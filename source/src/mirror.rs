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

use flotilla_core::source::{Bucket, GitRepository, HelmRepository, OciRepository};
use flotilla_core::source::{Scheme, SourceSpec, SourceUrl};

use crate::flux::{SourceError, Wanted};
use crate::git::spec::{GitUrl, UrlError};

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
    "'{0}' is no mirror: write FROM=TO with two addresses, like https://github.com/acme=https://git.corp/acme"
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

    /// Where a repository is fetched from. A password inside an address stays with that address.
    pub(crate) fn git(&self, url: &GitUrl) -> Result<GitUrl, UrlError> {
        let address = url.to_string();
        match self.address(&address) {
            Cow::Borrowed(_) => Ok(url.clone()),
            Cow::Owned(moved) => moved.parse(),
        }
    }

    /// The source as it is to be fetched.
    pub(crate) fn wanted(&self, wanted: Wanted) -> Result<Wanted, SourceError> {
        let spec = match wanted.spec {
            SourceSpec::Git(git) => {
                let allowed = [Scheme::Http, Scheme::Https, Scheme::Ssh, Scheme::File];
                SourceSpec::Git(GitRepository { url: self.url(&git.url, &allowed)?, ..git })
            }
            SourceSpec::Oci(oci) => {
                let (url, insecure) = self.registry(&oci.url, oci.insecure)?;
                SourceSpec::Oci(OciRepository { url, insecure, ..oci })
            }
            SourceSpec::Bucket(bucket) => SourceSpec::Bucket(self.bucket(bucket)?),
            SourceSpec::HelmRepository(helm) => SourceSpec::HelmRepository(self.helm(helm)?),
            other => other,
        };
        let repository = wanted.repository.map(|helm| self.helm(helm)).transpose()?;
        Ok(Wanted { spec, repository, ..wanted })
    }

    fn url(&self, url: &SourceUrl, allowed: &[Scheme]) -> Result<SourceUrl, SourceError> {
        match self.address(url.as_str()) {
            Cow::Borrowed(_) => Ok(url.clone()),
            Cow::Owned(moved) => {
                SourceUrl::parse(&moved, allowed).map_err(|error| unfit(url.as_str(), &error))
            }
        }
    }

    fn helm(&self, helm: HelmRepository) -> Result<HelmRepository, SourceError> {
        let (url, insecure) = match helm.url.scheme() {
            Scheme::Oci => self.registry(&helm.url, helm.insecure)?,
            _ => {
                let moved = self.url(&helm.url, &[Scheme::Http, Scheme::Https])?;
                // The operator says where a mirror is, and so that the way there is safe.
                let is_moved = moved != helm.url;
                let insecure = helm.insecure || (is_moved && moved.scheme() == Scheme::Http);
                (moved, insecure)
            }
        };
        Ok(HelmRepository { url, insecure, ..helm })
    }

    /// Where a registry is, and whether it is spoken to without TLS: then the rule says `http://`.
    fn registry(&self, url: &SourceUrl, insecure: bool) -> Result<(SourceUrl, bool), SourceError> {
        let moved = match self.address(url.as_str()) {
            Cow::Borrowed(_) => return Ok((url.clone(), insecure)),
            Cow::Owned(moved) => moved,
        };
        let (moved, insecure) = match moved.strip_prefix("http://") {
            Some(rest) => (format!("oci://{rest}"), true),
            None => (moved, false),
        };
        let read = SourceUrl::parse(&moved, &[Scheme::Oci]);
        Ok((read.map_err(|error| unfit(url.as_str(), &error))?, insecure))
    }

    /// A bucket is `https://ENDPOINT/BUCKET` here.
    fn bucket(&self, bucket: Bucket) -> Result<Bucket, SourceError> {
        let address = crate::flux::address(&SourceSpec::Bucket(bucket.clone()));
        let moved = match self.address(&address) {
            Cow::Borrowed(_) => return Ok(bucket),
            Cow::Owned(moved) => moved,
        };
        let url = SourceUrl::parse(&moved, &[Scheme::Http, Scheme::Https]);
        let url = url.map_err(|error| unfit(&address, &error))?;
        let insecure = url.scheme() == Scheme::Http;
        let (endpoint, name) = url.rest().split_once('/').unwrap_or((url.rest(), ""));
        Ok(Bucket { endpoint: endpoint.to_owned(), bucket: name.to_owned(), insecure, ..bucket })
    }
}

fn unfit(address: &str, error: &dyn fmt::Display) -> SourceError {
    SourceError::Wrong(format!("{address} cannot be fetched from where --mirror says: {error}"))
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

    #[test]
    fn registries_and_buckets_are_spoken_to_as_the_rule_says() {
        let mirrors = mirrors(&[
            "oci://ghcr.io=http://127.0.0.1:5000/ghcr",
            "oci://quay.io=oci://registry.corp/quay",
            "https://s3.example/fleet=http://127.0.0.1:9000/mirror",
            "https://s3.example/bad=ssh://git@git.corp",
        ]);
        let registry = |url: &str, insecure| {
            let url = SourceUrl::parse(url, &[Scheme::Oci]).unwrap();
            let (url, insecure) = mirrors.registry(&url, insecure).unwrap();
            (url.to_string(), insecure)
        };
        assert_eq!(registry("oci://ghcr.io/a", false), ("oci://127.0.0.1:5000/ghcr/a".into(), true));
        assert_eq!(registry("oci://quay.io/a", true), ("oci://registry.corp/quay/a".into(), false));
        assert_eq!(registry("oci://other/a", true), ("oci://other/a".into(), true));
        let bucket = |name: &str| {
            mirrors.bucket(Bucket {
                bucket: name.into(),
                endpoint: "s3.example".into(),
                region: None,
                prefix: Some("apps/".into()),
                ignore: None,
                insecure: false,
                secret: None,
                cert_secret: None,
                proxy_secret: None,
            })
        };
        let moved = bucket("fleet").unwrap();
        assert_eq!((&*moved.endpoint, &*moved.bucket, moved.insecure), ("127.0.0.1:9000", "mirror", true));
        assert_eq!(moved.prefix.as_deref(), Some("apps/"));
        let other = bucket("other").unwrap();
        assert_eq!((&*other.endpoint, &*other.bucket, other.insecure), ("s3.example", "other", false));
        let error = bucket("bad").unwrap_err().to_string();
        assert!(
            error.contains("https://s3.example/bad cannot be fetched from where --mirror says"),
            "{error}"
        );
    }
}
