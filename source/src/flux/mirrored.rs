//! Sources as mirrors have them.

use std::borrow::Cow;
use std::fmt;

use flotilla_core::source::{Bucket, GitRepository, HelmRepository, OciRepository};
use flotilla_core::source::{Scheme, SourceSpec, SourceUrl};

use super::{SourceError, Wanted};
use crate::mirror::Mirrors;

impl Mirrors {
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
        let address = super::address(&SourceSpec::Bucket(bucket.clone()));
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
