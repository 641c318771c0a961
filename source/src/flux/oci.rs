//! `OCIRepository`

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use flotilla_core::source::{OciReference, OciRepository};
use flotilla_kustomize::files::Files;
use flotilla_kustomize::ignore::Ignored;
use flotilla_select::Regexp;

use super::archive::{State, Store, fetched};
use super::decode::Decode;
use super::{Fetched, Policy, Secret, Secrets, SourceError};
use crate::http::{Http, Tls, proxy};
use crate::oci::{Repository, credentials};
use crate::semver::{Range, strict};

pub(super) struct OciSource {
    store: Store,
    wanted: OciRepository,
    secrets: Secrets,
    timeout: Duration,
    policy: Policy,
    last: Option<(State, Arc<dyn Files>)>,
}

impl OciSource {
    pub(super) fn open(
        dir: PathBuf,
        wanted: OciRepository,
        secrets: Secrets,
        timeout: Duration,
        policy: Policy,
    ) -> Self {
        let store = Store::new(dir, policy.limits);
        let last = store.recall();
        Self { store, wanted, secrets, timeout, policy, last }
    }

    pub(super) fn last(&self) -> Option<Fetched> {
        // What is left out is found at each start anew.
        let (state, files) = self.last.clone()?;
        Some(fetched((state, self.seen(files).ok()?)))
    }

    pub(super) fn at(&self, revision: &str) -> Option<Fetched> {
        let files = self.store.at(revision)?;
        Some(Fetched { files: self.seen(files).ok()?, revision: revision.to_owned() })
    }

    pub(super) fn keep(&mut self, used: &BTreeSet<String>) -> Result<(), SourceError> {
        self.store.keep(used)
    }

    pub(super) fn fetch(&mut self, told: &dyn Decode) -> Result<Fetched, SourceError> {
        let mut repository = repository(
            self.wanted.url.rest(),
            self.wanted.insecure,
            &self.secrets,
            &self.policy,
            self.timeout,
        )?;
        let (name, reference) = self.reference(&mut repository)?;
        let revision =
            |digest: &str| if name.is_empty() { digest.to_owned() } else { format!("{name}@{digest}") };
        if let Some((state, files)) = &self.last
            && let Some(digest) = repository.digest(&reference)?
            && state.known == digest
            && state.revision == revision(&digest)
        {
            return Ok(fetched((state.clone(), self.seen(files.clone())?)));
        }
        let (digest, manifest) = repository.manifest(&reference)?;
        let wanted = self.wanted.layer.media_type.as_deref();
        let layer =
            manifest.layers.iter().find(|layer| wanted.is_none_or(|wanted| layer.media_type == wanted));
        let Some(layer) = layer else {
            let there: Vec<&str> = manifest.layers.iter().map(|layer| layer.media_type.as_str()).collect();
            let wanted = wanted.unwrap_or("any type");
            return Err(SourceError::Wrong(format!(
                "{} at {} has no layer of {wanted}; it has {}",
                self.wanted.url,
                revision(&digest),
                if there.is_empty() { "none".to_owned() } else { there.join(", ") }
            )));
        };
        let blob = repository.blob(&layer.digest, self.policy.limits.bytes)?;
        let put = self.store.put(revision(&digest), digest, |tree| tree.unpack(&blob, told))?;
        self.last = Some(put.clone());
        let (state, files) = put;
        Ok(fetched((state, self.seen(files)?)))
    }

    /// Without what Flux would leave out.
    fn seen(&self, files: Arc<dyn Files>) -> Result<Arc<dyn Files>, SourceError> {
        if self.wanted.layer.copy {
            return Ok(files);
        }
        Ok(Arc::new(Ignored::new(files, self.wanted.ignore.as_deref())?))
    }

    /// What stands before the digest in a revision, and what to ask for.
    fn reference(&self, repository: &mut Repository) -> Result<(String, String), SourceError> {
        match &self.wanted.reference {
            OciReference::Digest(digest) => Ok((String::new(), digest.clone())),
            OciReference::Tag(tag) => Ok((tag.clone(), tag.clone())),
            OciReference::Semver { range, filter } => {
                let parsed: Range = range
                    .parse()
                    .map_err(|error: crate::RangeError| SourceError::Wrong(error.to_string()))?;
                let filter = filter.as_deref().map(Regexp::new).transpose();
                let filter = filter.map_err(|error| SourceError::Wrong(format!("semverFilter: {error}")))?;
                let mut tags = repository.tags()?;
                tags.retain(|tag| filter.as_ref().is_none_or(|filter| filter.is_match(tag)));
                let newest = parsed.newest(tags.iter().map(String::as_str), strict).map(str::to_owned);
                let url = self.wanted.url.to_string();
                let none =
                    || SourceError::NoVersion { url, what: "tag", range: range.clone(), there: tags.clone() };
                newest.map(|tag| (tag.clone(), tag)).ok_or_else(none)
            }
        }
    }
}

/// A repository by its address and what the source's secrets say of it.
pub(super) fn repository(
    address: &str,
    plain: bool,
    secrets: &Secrets,
    policy: &Policy,
    timeout: Duration,
) -> Result<Repository, SourceError> {
    let host = address.split('/').next().unwrap_or_default();
    let auth = match &secrets.secret {
        Some(secret) => Some(registry_credentials(secret, host)?),
        None => None,
    };
    let proxy = secrets.proxy.as_ref().map(proxy).transpose()?;
    let tls = secrets.cert.as_ref().map(Secret::tls).transpose()?.unwrap_or_default();
    let http = Http::new(&tls, &policy.reach, proxy.as_ref())?;
    Ok(Repository::new(http, address, plain, auth.flatten(), timeout)?)
}

/// From a `.dockerconfigjson`, or a user name and password as HelmRepositories have them.
fn registry_credentials(secret: &Secret, host: &str) -> Result<Option<(String, String)>, SourceError> {
    if let Some(config) = secret.data.get(".dockerconfigjson") {
        let found = credentials(config, host)?;
        let none = || secret.unusable(".dockerconfigjson", "it has no credentials for the registry's host");
        return Ok(Some(found.ok_or_else(none)?));
    }
    match secret.basic()? {
        Some(basic) => Ok(Some(basic)),
        None => Err(secret.missing(".dockerconfigjson", "registries take it, or username and password"))?,
    }
}

impl Secret {
    /// Whom to trust, and a certificate of our own.
    pub(super) fn tls(&self) -> Result<Tls, super::SecretError> {
        let identity = match (self.text("tls.crt")?, self.text("tls.key")?) {
            (Some(certificate), Some(key)) => Some(format!("{certificate}\n{key}")),
            (None, None) => None,
            (Some(_), None) => return Err(self.missing("tls.key", "it has a tls.crt")),
            (None, Some(_)) => return Err(self.missing("tls.crt", "it has a tls.key")),
        };
        let tls = Tls { ca_pem: self.ca()?, identity_pem: identity };
        if tls == Tls::default() {
            return Err(self.missing("ca.crt", "certSecretRef needs ca.crt, or tls.crt and tls.key"));
        }
        Ok(tls)
    }
}
