//! `Bucket`, by the S3 API

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use flotilla_core::source::Bucket;
use flotilla_kustomize::files::{Files, TreePath};
use flotilla_kustomize::ignore::{FILE, Ignored, Rules};
use flotilla_sigv4::Credentials;

use super::archive::{self, State, fetched};
use super::{Fetched, Policy, Secret, Secrets, SourceError};
use crate::http::{Http, proxy};
use crate::oci::sha256;
use crate::s3::{Object, Store};

pub(super) struct BucketSource {
    store: archive::Store,
    wanted: Bucket,
    secrets: Secrets,
    timeout: Duration,
    policy: Policy,
    last: Option<(State, Arc<dyn Files>)>,
}

impl BucketSource {
    pub(super) fn open(
        dir: PathBuf,
        wanted: Bucket,
        secrets: Secrets,
        timeout: Duration,
        policy: Policy,
    ) -> Self {
        let store = archive::Store::new(dir, policy.limits);
        let last = store.recall();
        Self { store, wanted, secrets, timeout, policy, last }
    }

    pub(super) fn last(&self) -> Option<Fetched> {
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

    pub(super) fn fetch(&mut self) -> Result<Fetched, SourceError> {
        let proxy = self.secrets.proxy.as_ref().map(proxy).transpose()?;
        let tls = self.secrets.cert.as_ref().map(Secret::tls).transpose()?.unwrap_or_default();
        let http = Http::new(&tls, &self.policy.reach, proxy.as_ref())?;
        let keys = self.secrets.secret.as_ref().map(keys).transpose()?;
        let bucket = Store::new(http, &self.wanted, keys, self.timeout)?;
        let limits = self.policy.limits;
        let prefix = self.wanted.prefix.as_deref().unwrap_or_default();
        let listed = bucket.list(prefix, limits.files)?;
        let objects = self.used(listed.ok_or(SourceError::TooManyFiles(limits.files))?);
        // One listing tells whether anything changed.
        let mut text = String::new();
        for Object { key, etag, .. } in &objects {
            text.push_str(&format!("{key}\0{etag}\n"));
        }
        let revision = sha256(text.as_bytes());
        if let Some((state, files)) = self.last.clone().filter(|(state, _)| state.revision == revision) {
            return Ok(fetched((state, self.seen(files)?)));
        }
        if objects.iter().map(|object| object.size).sum::<u64>() > limits.bytes {
            return Err(SourceError::TooLarge(limits.bytes));
        }
        let put = self.store.put(revision.clone(), revision, |tree| {
            for object in &objects {
                let content = bucket.object(&object.key, limits.bytes)?;
                tree.add(&object.key, &mut &*content)?;
            }
            Ok(())
        })?;
        self.last = Some(put.clone());
        let (state, files) = put;
        Ok(fetched((state, self.seen(files)?)))
    }

    /// The objects that are files, without what need not be fetched: where the bucket has patterns of its own, they may
    /// take anything back.
    fn used(&self, mut objects: Vec<Object>) -> Vec<Object> {
        objects.retain(|object| !object.key.ends_with('/'));
        if objects.iter().any(|object| object.key.rsplit('/').next() == Some(FILE)) {
            return objects;
        }
        let mut rules = Rules::defaults();
        rules.add(self.wanted.ignore.as_deref().unwrap_or_default(), &TreePath::root());
        // A name that leads out is an error later.
        let path = |object: &Object| TreePath::root().join(object.key.trim_start_matches('/'));
        objects.retain(|object| path(object).map_or(true, |path| !rules.leave_out(&path, false)));
        objects
    }

    fn seen(&self, files: Arc<dyn Files>) -> Result<Arc<dyn Files>, SourceError> {
        Ok(Arc::new(Ignored::new(files, self.wanted.ignore.as_deref())?))
    }
}

fn keys(secret: &Secret) -> Result<Credentials, SourceError> {
    let hint = "buckets need accesskey and secretkey";
    let access = secret.line("accesskey")?.ok_or_else(|| secret.missing("accesskey", hint))?;
    let key = secret.line("secretkey")?.ok_or_else(|| secret.missing("secretkey", hint))?;
    let session = secret.line("sessiontoken")?.map(Into::into);
    Ok(Credentials { access, secret: key.into(), session })
}
