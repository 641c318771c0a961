//! Who the agent is, on disk: its keys, and what the hub gave it at enrolment.
//!
//! `key.pem` and `sealing.key` are made before the first request; `enrolment.json` is what a renewal and the hub's word on
//! trust replace, as one. Who joins anew gets a new key, as the old one may be why: it is `key.next.pem` until the enrolment
//! is of it. `token-used` names the join token that was tried last, by a digest.

use std::path::{Path, PathBuf};

use flotilla_core::Digest;
use flotilla_runtime::files::{self, FileError};
use flotilla_runtime::tls::{AgentKey, HubAddress, Identity, TlsError, TrustBundle};
use flotilla_runtime::token::JoinToken;
use serde::{Deserialize, Serialize};
use x25519_dalek::{PublicKey, StaticSecret};

const VERSION: u32 = 1;

/// What the hub gave: valid, since it is read and checked before it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolment {
    /// The cluster that this agent is.
    pub cluster: String,
    /// PEM, leaf first.
    pub certificate: String,
    pub bundle: TrustBundle,
    /// At least one, in order of preference.
    pub addresses: Vec<HubAddress>,
    /// uid of the kube-system namespace of the cluster that enrolled.
    pub cluster_uid: String,
}

/// An identity on disk that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(
        "{} was written by a newer version ({found}, this one knows {VERSION}): upgrade the agent", path.display()
    )]
    Newer { path: PathBuf, found: u32 },
    #[error(
        "{} is damaged: remove it and start the agent with a new join token (flotilla cluster token NAME); the \
         cluster stays as it is", path.display()
    )]
    Damaged { path: PathBuf, source: serde_json::Error },
    #[error("{} holds no X25519 key of 32 bytes: restore or remove it", .0.display())]
    SealingKey(PathBuf),
}

#[derive(Serialize, Deserialize)]
struct Version {
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    version: u32,
    cluster: String,
    certificate: String,
    bundle: String,
    addresses: Vec<HubAddress>,
    cluster_uid: String,
}

/// The files of the identity. All methods block.
#[derive(Debug, Clone)]
pub struct IdentityFiles {
    folder: PathBuf,
}

impl IdentityFiles {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The agent's key; made and stored the first time.
    pub fn key(&self) -> Result<AgentKey, IdentityError> {
        let path = self.folder.join("key.pem");
        if let Some(pem) = files::read_if_there(&path)? {
            return Ok(AgentKey::from_pem(&String::from_utf8_lossy(&pem))?);
        }
        let key = AgentKey::generate()?;
        files::write_atomic(&path, key.to_pem().as_bytes(), files::PRIVATE)?;
        Ok(key)
    }

    /// The key to join anew with; made and stored the first time.
    pub fn next_key(&self) -> Result<AgentKey, IdentityError> {
        let path = self.next_key_path();
        if let Some(pem) = files::read_if_there(&path)? {
            let key = AgentKey::from_pem(&String::from_utf8_lossy(&pem))?;
            // Else it is what an end in the midst of the last time left.
            if key.public_key() != self.key()?.public_key() {
                return Ok(key);
            }
        }
        let key = AgentKey::generate()?;
        files::write_atomic(&path, key.to_pem().as_bytes(), files::PRIVATE)?;
        Ok(key)
    }

    /// Replaces the enrolment by one of the next key, and the key by that one.
    pub fn save_next(&self, enrolment: &Enrolment) -> Result<(), IdentityError> {
        self.save(enrolment)?;
        Ok(self.promote()?)
    }

    fn promote(&self) -> Result<(), FileError> {
        if let Some(pem) = files::read_if_there(&self.next_key_path())? {
            files::write_atomic(&self.folder.join("key.pem"), &pem, files::PRIVATE)?;
        }
        files::remove(&self.next_key_path())
    }

    fn next_key_path(&self) -> PathBuf {
        self.folder.join("key.next.pem")
    }

    /// Whether a join token is another one than was tried last.
    pub fn is_new_token(&self, token: &JoinToken) -> Result<bool, FileError> {
        Ok(files::read_if_there(&self.token_path())?.as_deref() != Some(token_note(token).as_bytes()))
    }

    /// Remembers that a join token was used, or was refused.
    pub fn note_token(&self, token: &JoinToken) -> Result<(), FileError> {
        files::write_atomic(&self.token_path(), token_note(token).as_bytes(), files::PRIVATE)
    }

    fn token_path(&self) -> PathBuf {
        self.folder.join("token-used")
    }

    /// The public part of the key that secrets are sealed to; made and stored the first time.
    pub fn sealing_key(&self) -> Result<[u8; 32], IdentityError> {
        let path = self.folder.join("sealing.key");
        let secret: [u8; 32] = match files::read_if_there(&path)? {
            Some(bytes) => bytes.try_into().map_err(|_| IdentityError::SealingKey(path))?,
            None => {
                let secret: [u8; 32] = rand::random();
                files::write_atomic(&path, &secret, files::PRIVATE)?;
                secret
            }
        };
        Ok(PublicKey::from(&StaticSecret::from(secret)).to_bytes())
    }

    /// The enrolment, if there was one.
    pub fn enrolment(&self) -> Result<Option<Enrolment>, IdentityError> {
        let path = self.path();
        let Some(bytes) = files::read_if_there(&path)? else { return Ok(None) };
        let damaged = |source| IdentityError::Damaged { path: path.clone(), source };
        let version: Version = serde_json::from_slice(&bytes).map_err(damaged)?;
        if version.version != VERSION {
            return Err(IdentityError::Newer { path, found: version.version });
        }
        let stored: Stored = serde_json::from_slice(&bytes).map_err(damaged)?;
        let enrolment = Enrolment {
            cluster: stored.cluster,
            certificate: stored.certificate,
            bundle: TrustBundle::from_pem(&stored.bundle)?,
            addresses: stored.addresses,
            cluster_uid: stored.cluster_uid,
        };
        if let Err(error) = Identity::from_pem(&enrolment.certificate, &self.key()?) {
            // Ended between the enrolment and its key.
            let is_next = files::read_if_there(&self.next_key_path())?.is_some()
                && Identity::from_pem(&enrolment.certificate, &self.next_key()?).is_ok();
            if !is_next {
                return Err(error.into());
            }
            self.promote()?;
        }
        Ok(Some(enrolment))
    }

    /// Replaces the enrolment durably.
    pub fn save(&self, enrolment: &Enrolment) -> Result<(), FileError> {
        let stored = Stored {
            version: VERSION,
            cluster: enrolment.cluster.clone(),
            certificate: enrolment.certificate.clone(),
            bundle: enrolment.bundle.to_pem(),
            addresses: enrolment.addresses.clone(),
            cluster_uid: enrolment.cluster_uid.clone(),
        };
        let json = serde_json::to_vec_pretty(&stored).expect("texts and numbers are always JSON");
        files::write_atomic(&self.path(), &json, files::PRIVATE)
    }

    /// When the hub was last heard, in seconds since 1970; none if that is not known.
    pub fn heard(&self) -> Option<i64> {
        let bytes = files::read(&self.folder.join("heard")).ok()?;
        String::from_utf8(bytes).ok()?.trim().parse().ok()
    }

    /// Remembers when the hub was last heard.
    pub fn save_heard(&self, seconds: i64) -> Result<(), FileError> {
        files::write_atomic(&self.folder.join("heard"), format!("{seconds}\n").as_bytes(), files::PRIVATE)
    }

    fn path(&self) -> PathBuf {
        self.folder.join("enrolment.json")
    }

    /// Where the files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

fn token_note(token: &JoinToken) -> String {
    format!("{}\n", Digest::of(token.secret.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::testing::enrolment;
    use flotilla_runtime::token::TokenSecret;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn keys_are_made_once_for_the_owner_only_and_enrolments_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let identity = IdentityFiles::new(folder.path().to_owned());
        assert_eq!(identity.enrolment().unwrap(), None);
        let key = identity.key().unwrap();
        assert_eq!(identity.key().unwrap().public_key(), key.public_key());
        assert_eq!(identity.sealing_key().unwrap(), identity.sealing_key().unwrap());
        let enrolment = enrolment(&key);
        identity.save(&enrolment).unwrap();
        assert_eq!(identity.enrolment().unwrap(), Some(enrolment));
        for path in files::list(folder.path()).unwrap() {
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{path:?}");
        }
        assert_eq!(identity.heard(), None);
        identity.save_heard(1_700_000_000).unwrap();
        assert_eq!(identity.heard(), Some(1_700_000_000));
    }

    #[test]
    fn who_joins_anew_has_a_new_key_and_an_end_in_between_loses_neither() {
        let folder = tempfile::tempdir().unwrap();
        let identity = IdentityFiles::new(folder.path().to_owned());
        let old = enrolment(&identity.key().unwrap());
        identity.save(&old).unwrap();
        let next = identity.next_key().unwrap();
        assert_eq!(identity.next_key().unwrap().public_key(), next.public_key());
        assert_ne!(identity.key().unwrap().public_key(), next.public_key());
        assert_eq!(identity.enrolment().unwrap(), Some(old), "nothing is joined yet");
        let new = enrolment(&next);
        // As if it ended here: the enrolment is of the next key, which has no place of its own yet.
        identity.save(&new).unwrap();
        assert_eq!(identity.enrolment().unwrap(), Some(new.clone()));
        assert_eq!(identity.key().unwrap().public_key(), next.public_key());
        let later = identity.next_key().unwrap();
        assert_ne!(later.public_key(), next.public_key(), "each attempt after a success has its own");
        identity.save_next(&enrolment(&later)).unwrap();
        assert_eq!(identity.key().unwrap().public_key(), later.public_key());

        let token = |secret| JoinToken {
            cluster: "staging".into(),
            hubs: new.addresses.clone(),
            cas: Vec::new(),
            secret,
        };
        let (a, b) = (token(TokenSecret::generate()), token(TokenSecret::generate()));
        assert!(identity.is_new_token(&a).unwrap());
        identity.note_token(&a).unwrap();
        assert!(!identity.is_new_token(&a).unwrap() && identity.is_new_token(&b).unwrap());
        let kept = std::fs::read_to_string(folder.path().join("token-used")).unwrap();
        assert!(!kept.contains(&a.secret.encode()), "the secret itself is not kept");
    }

    #[test]
    fn what_cannot_be_used_is_an_error_that_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let identity = IdentityFiles::new(folder.path().to_owned());
        let key = identity.key().unwrap();
        identity.save(&enrolment(&key)).unwrap();
        let error = |text: &str| {
            std::fs::write(identity.path(), text).unwrap();
            identity.enrolment().unwrap_err().to_string()
        };
        assert!(error(r#"{"version": 2, "anything": true}"#).contains("upgrade the agent"));
        assert!(error("{").contains("join token"));
        assert!(error("").contains("join token"));
        identity.save(&enrolment(&AgentKey::generate().unwrap())).unwrap();
        assert!(identity.enrolment().unwrap_err().to_string().contains("key does not belong"));
        std::fs::write(folder.path().join("sealing.key"), "short").unwrap();
        assert!(identity.sealing_key().unwrap_err().to_string().contains("32 bytes"));
    }
}
