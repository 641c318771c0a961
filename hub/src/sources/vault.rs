//! Secrets in the hub's store, under a key of the hub's own.
//!
//! ```text
//! values ─► JSON ─► ChaCha20-Poly1305 (key file beside the CA's, a new nonce each time, the place as associated data)
//!        ─► `secret/SCOPE/NAMESPACE/NAME`
//! ```
//! A sealed secret that is moved to another place does not open there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flotilla_api::redact::Redactor;
use flotilla_core::names::is_dns_label;
use flotilla_core::{ClusterName, Digest};
use flotilla_runtime::files::{self, FileError};
use flotilla_source::flux::Secret;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

use crate::store::backup::CA_FOLDER;
use crate::store::secrets::SecretRecord;
use crate::store::{AuditRecord, Records, StoreError};

/// The file of the key, in the CA's folder: backups have that folder.
const KEY_FILE: &str = "secrets.key";
const KEY_BYTES: usize = 32;
/// What the key for hiding values is derived for.
const REDACTION: &[u8] = b"flotilla: hidden values v1";
/// The shortest value that is looked for in other texts.
const SHORTEST: usize = 6;

/// For whom a secret is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    Fleet,
    /// By the name of a `ClusterGroup`.
    Group(String),
    Cluster(ClusterName),
}

/// `fleet`, `group.NAME` or `cluster.NAME`.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fleet => f.write_str("fleet"),
            Self::Group(name) => write!(f, "group.{name}"),
            Self::Cluster(name) => write!(f, "cluster.{name}"),
        }
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || format!("'{text}' is not a scope: expected fleet, group.NAME or cluster.NAME");
        match text.split_once('.') {
            Some(("cluster", name)) => {
                name.parse().map(Self::Cluster).map_err(|error| format!("scope: {error}"))
            }
            Some(("group", name)) if is_dns_label(name) => Ok(Self::Group(name.to_owned())),
            Some(("group", name)) => Err(format!("scope: '{name}' is not a valid ClusterGroup name")),
            None if text == "fleet" => Ok(Self::Fleet),
            _ => Err(unknown()),
        }
    }
}

/// Where a secret is: scope, namespace, name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretPlace {
    scope: Scope,
    namespace: String,
    name: String,
}

impl SecretPlace {
    /// # Errors
    /// Where namespace or name cannot be those of a Secret.
    pub fn new(scope: Scope, namespace: &str, name: &str) -> Result<Self, String> {
        let is_name = |text: &str| text.len() <= 253 && text.split('.').all(is_dns_label);
        if !is_dns_label(namespace) {
            return Err(format!("'{namespace}' is not a valid namespace name"));
        }
        if !is_name(name) {
            return Err(format!("'{name}' is not a valid Secret name"));
        }
        Ok(Self { scope, namespace: namespace.to_owned(), name: name.to_owned() })
    }

    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }
}

/// As it is shown.
impl FromStr for SecretPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, '/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(scope), Some(namespace), Some(name)) => Self::new(scope.parse()?, namespace, name),
            _ => Err(format!("'{text}' does not name a secret: expected SCOPE/NAMESPACE/NAME")),
        }
    }
}

impl fmt::Display for SecretPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.scope, self.namespace, self.name)
    }
}

/// Why secrets cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{0} is not a key for secrets: it must have {KEY_BYTES} bytes; restore it from a backup")]
    Key(String),
    #[error(
        "the secret {0} does not open with this hub's key; create it again, or restore the key that it was made with"
    )]
    Sealed(String),
    #[error("this machine gives no random numbers")]
    Random,
}

/// The hub's secrets.
pub struct Vault {
    records: Arc<Records>,
    key: LessSafeKey,
    redactor: Redactor,
    random: SystemRandom,
}

impl Vault {
    /// With the key in the data folder, which is made at the first start. Blocking.
    ///
    /// # Errors
    /// Where the key cannot be read or made.
    pub fn open(data: &Path, records: Arc<Records>) -> Result<Self, VaultError> {
        let folder = data.join(CA_FOLDER);
        files::private_folder(&folder)?;
        let path = folder.join(KEY_FILE);
        let random = SystemRandom::new();
        let bytes = match files::read_if_there(&path)? {
            Some(bytes) => bytes,
            None => {
                let mut bytes = vec![0; KEY_BYTES];
                random.fill(&mut bytes).map_err(|_| VaultError::Random)?;
                files::write_atomic(&path, &bytes, files::PRIVATE)?;
                bytes
            }
        };
        let wrong = || VaultError::Key(path.display().to_string());
        let own: [u8; KEY_BYTES] = bytes.as_slice().try_into().map_err(|_| wrong())?;
        let redactor = Redactor::new(*Digest::keyed(&own, [REDACTION]).as_bytes());
        let key = UnboundKey::new(&CHACHA20_POLY1305, &bytes);
        let key = key.map_err(|_| VaultError::Key(path.display().to_string()))?;
        Ok(Self { records, key: LessSafeKey::new(key), redactor, random })
    }

    /// Hides values under a key of this hub, the same after a restart and a restore.
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// Every value that the hub keeps for sources and Helm values, as text and as Kubernetes writes it; not those that are too
    /// short to be told from other texts. Blocking.
    ///
    /// # Errors
    /// Where one cannot be read: what it holds could not be hidden.
    pub fn values(&self) -> Result<Vec<String>, VaultError> {
        let mut values = BTreeSet::new();
        for (text, record) in self.records.secrets()? {
            let place = text.parse().map_err(|_| VaultError::Sealed(text.clone()))?;
            for value in self.open_sealed(&place, &record)?.into_values() {
                values.insert(STANDARD.encode(&value));
                values.insert(String::from_utf8_lossy(&value).trim().to_owned());
            }
        }
        Ok(values.into_iter().filter(|value| value.len() >= SHORTEST).collect())
    }

    /// Keeps a secret; one that was there is replaced. Blocking.
    ///
    /// # Errors
    /// Where the store fails.
    pub fn put(
        &self,
        place: &SecretPlace,
        kind: &str,
        data: &BTreeMap<String, Vec<u8>>,
        audit: &AuditRecord,
    ) -> Result<(), VaultError> {
        let texts: BTreeMap<&String, String> =
            data.iter().map(|(key, value)| (key, STANDARD.encode(value))).collect();
        let sealed = self.seal(&place.to_string(), serde_json::to_vec(&texts).expect("texts by texts"))?;
        let record = SecretRecord {
            kind: kind.to_owned(),
            keys: data.keys().cloned().collect(),
            changed_at: audit.at,
            changed_by: audit.who.clone(),
            sealed: STANDARD.encode(sealed),
        };
        Ok(self.records.put_secret(&place.to_string(), &record, audit)?)
    }

    /// Seals bytes that belong to a place: a nonce, then the bytes under the hub's key.
    ///
    /// # Errors
    /// Where this machine gives no random numbers.
    pub fn seal(&self, place: &str, clear: Vec<u8>) -> Result<Vec<u8>, VaultError> {
        let mut sealed = clear;
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| VaultError::Random)?;
        let unique = Nonce::assume_unique_for_key(nonce);
        let aad = Aad::from(place);
        self.key.seal_in_place_append_tag(unique, aad, &mut sealed).map_err(|_| VaultError::Random)?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// Opens what [`Vault::seal`] gave for this place; `None` where it is damaged, or of another place or key.
    pub fn unseal(&self, place: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = sealed.to_vec();
        let length = self.key.open_in_place(nonce, Aad::from(place), &mut sealed).ok()?.len();
        sealed.truncate(length);
        Some(sealed)
    }

    /// The secret of this name in the first of the scopes that has one. Blocking.
    ///
    /// # Errors
    /// Where it is there and cannot be read.
    pub fn find(&self, scopes: &[Scope], namespace: &str, name: &str) -> Result<Option<Secret>, VaultError> {
        for scope in scopes.iter().cloned() {
            // What cannot be the name of a Secret is none.
            let Ok(place) = SecretPlace::new(scope, namespace, name) else { return Ok(None) };
            if let Some(record) = self.records.secret(&place.to_string())? {
                let data = self.open_sealed(&place, &record)?;
                return Ok(Some(Secret { name: format!("{namespace}/{name}"), data }));
            }
        }
        Ok(None)
    }

    /// The groups that have a secret of this name. Blocking.
    ///
    /// # Errors
    /// Where the store fails.
    pub fn groups(&self, namespace: &str, name: &str) -> Result<Vec<String>, VaultError> {
        let (end, mut groups) = (format!("/{namespace}/{name}"), Vec::new());
        for (place, _) in self.records.secrets()? {
            groups.extend(
                place.strip_prefix("group.").and_then(|place| place.strip_suffix(&end)).map(str::to_owned),
            );
        }
        Ok(groups)
    }

    fn open_sealed(
        &self,
        place: &SecretPlace,
        record: &SecretRecord,
    ) -> Result<BTreeMap<String, Vec<u8>>, VaultError> {
        let wrong = || VaultError::Sealed(place.to_string());
        let bytes = STANDARD.decode(&record.sealed).map_err(|_| wrong())?;
        let opened = self.unseal(&place.to_string(), &bytes).ok_or_else(wrong)?;
        let texts: BTreeMap<String, String> = serde_json::from_slice(&opened).map_err(|_| wrong())?;
        let decode = |(key, text): (String, String)| Ok((key, STANDARD.decode(text).map_err(|_| wrong())?));
        texts.into_iter().map(decode).collect()
    }

    pub fn records(&self) -> &Records {
        &self.records
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    #[test]
    fn secrets_are_sealed_found_by_scope_and_bound_to_their_place() {
        let folder = tempfile::tempdir().unwrap();
        let records = || Arc::new(Records::open(Arc::new(MemoryStore::default())).unwrap());
        let kept = records();
        let vault = Vault::open(folder.path(), kept.clone()).unwrap();
        let place = |scope: &str| SecretPlace::new(scope.parse().unwrap(), "team", "git").unwrap();
        let data = |value: &str| BTreeMap::from([("password".to_owned(), value.as_bytes().to_vec())]);
        let audit = AuditRecord::new(7, "ann", "secret.create", "x");
        vault.put(&place("fleet"), "git", &data("s3cret"), &audit).unwrap();
        vault.put(&place("cluster.edge"), "git", &data("other"), &audit).unwrap();
        vault.put(&place("group.west"), "git", &data("group"), &audit).unwrap();

        // Another start has the same key.
        let vault = Vault::open(folder.path(), kept.clone()).unwrap();
        let scopes =
            |cluster: &str| [format!("cluster.{cluster}"), "fleet".into()].map(|s| s.parse().unwrap());
        let find = |vault: &Vault, cluster: &str| vault.find(&scopes(cluster), "team", "git");
        let in_group = [scopes("x")[0].clone(), "group.west".parse().unwrap(), Scope::Fleet];
        assert_eq!(vault.find(&in_group, "team", "git").unwrap().unwrap().data, data("group"));
        assert_eq!(vault.groups("team", "git").unwrap(), ["west"]);
        assert!(vault.groups("team", "other").unwrap().is_empty());
        assert_eq!(find(&vault, "edge").unwrap().unwrap().data, data("other"));
        assert_eq!(find(&vault, "x").unwrap().unwrap().data, data("s3cret"));
        assert_eq!(vault.find(&scopes("x"), "team", "../git").unwrap(), None);
        let record = kept.secret("fleet/team/git").unwrap().unwrap();
        assert_eq!(
            (record.keys.as_slice(), record.changed_by.as_str()),
            (&["password".to_owned()][..], "ann")
        );
        for (_, value) in kept.store().scan("").unwrap() {
            assert!(!String::from_utf8_lossy(&value).contains("s3cret"), "it is in the store in clear");
        }

        // Neither another place nor another key opens it.
        kept.put_secret("cluster.x/team/git", &record, &audit).unwrap();
        assert!(matches!(find(&vault, "x"), Err(VaultError::Sealed(_))));
        let other = tempfile::tempdir().unwrap();
        let stranger = Vault::open(other.path(), kept.clone()).unwrap();
        assert!(matches!(find(&stranger, "edge"), Err(VaultError::Sealed(_))));

        assert!(kept.remove_secret("cluster.x/team/git", &audit).unwrap());
        assert!(!kept.remove_secret("cluster.x/team/git", &audit).unwrap());
        assert_eq!(find(&vault, "x").unwrap().unwrap().data, data("s3cret"));
        std::fs::write(folder.path().join("ca/secrets.key"), "short").unwrap();
        assert!(matches!(Vault::open(folder.path(), kept), Err(VaultError::Key(_))));
    }

    #[test]
    fn places_are_checked() {
        for (scope, namespace, name, good) in [
            ("fleet", "a", "b.c-d", true),
            ("cluster.x", "a", "b", true),
            ("cluster.X", "a", "b", false),
            ("group.x", "a", "b", true),
            ("group.X", "a", "b", false),
            ("group.x/y", "a", "b", false),
            ("tenant.x", "a", "b", false),
            ("fleet", "a/b", "c", false),
            ("fleet", "a", "", false),
            ("fleet", "a", "..", false),
        ] {
            let place = scope.parse().and_then(|scope| SecretPlace::new(scope, namespace, name));
            assert_eq!(place.is_ok(), good, "{scope}/{namespace}/{name}");
        }
    }
}
