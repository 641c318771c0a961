//! From master keys to the data key.

use std::fmt;

use zeroize::Zeroizing;

use crate::age::Identity;
use crate::cipher::DataKey;
use crate::error::SopsError;
use crate::metadata::Metadata;
use crate::shamir;

/// How much of a key a message shows, and of how many keys.
const SHOWN_CHARS: usize = 200;
const SHOWN_KEYS: usize = 8;

/// A key for which a file's data key, or a part of it, is sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MasterKey {
    /// `enc` is an armoured age file.
    Age {
        recipient: String,
        enc: String,
    },
    Pgp {
        fingerprint: String,
        enc: String,
    },
    /// A transit engine of Vault or OpenBao.
    Vault {
        address: String,
        engine: String,
        key: String,
        enc: String,
    },
    /// A service that nobody here speaks to.
    Cloud {
        service: &'static str,
        key: String,
    },
}

/// Keys of which each opens the same part of a data key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyGroup(pub Vec<MasterKey>);

/// What opens data keys.
#[derive(Default, Clone)]
pub struct Keys {
    identities: Vec<Identity>,
}

impl Keys {
    /// Adds what a file of age keys holds, as `age-keygen` and `ssh-keygen` write them.
    ///
    /// # Errors
    /// What is wrong with it, by line; nothing of the file is in the message.
    pub fn add_age(&mut self, text: &str) -> Result<(), String> {
        self.identities.extend(Identity::parse_file(text)?);
        Ok(())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.identities.is_empty()
    }

    pub(crate) fn data_key(&self, metadata: &Metadata) -> Result<DataKey, SopsError> {
        let groups = &metadata.groups;
        let mut tried = Vec::new();
        let mut parts: Vec<Zeroizing<Vec<u8>>> = Vec::new();
        for group in groups {
            for key in &group.0 {
                match self.open(key) {
                    Ok(part) => {
                        parts.push(part);
                        break;
                    }
                    Err(why) => tried.push(format!("{}: {why}", shown(key))),
                }
            }
        }
        let needed = if groups.len() > 1 { metadata.threshold } else { 1 };
        if parts.len() < needed.max(1) {
            let wanted: Vec<String> = groups.iter().flat_map(|group| &group.0).map(shown).collect();
            if wanted.is_empty() {
                return Err(SopsError::field(
                    "age, pgp, hc_vault, kms",
                    "there is no key that the file is encrypted for",
                ));
            }
            let wanted = match groups.len() {
                1 => listed(&wanted, ", "),
                all => format!("{needed} of {all} groups of keys ({})", listed(&wanted, ", ")),
            };
            return Err(SopsError::NoKey { wanted, tried: listed(&tried, "; ") });
        }
        let bad = |message: &str| SopsError::field("enc", message);
        let key = if groups.len() > 1 {
            shamir::combine(&parts).ok_or_else(|| bad("the parts of the data key do not fit each other"))?
        } else {
            std::mem::take(&mut parts[0])
        };
        DataKey::new(&key).ok_or_else(|| bad("what it opens to is not a data key of 32 bytes"))
    }

    fn open(&self, key: &MasterKey) -> Result<Zeroizing<Vec<u8>>, String> {
        match key {
            MasterKey::Age { enc, .. } => crate::age::decrypt(enc, &self.identities),
            MasterKey::Pgp { .. } => {
                Err("PGP is not supported yet; encrypt the file for an age key too".to_owned())
            }
            MasterKey::Vault { .. } => {
                Err("Vault's transit engine is not supported yet; encrypt the file for an age key too"
                    .to_owned())
            }
            MasterKey::Cloud { service, .. } => {
                Err(format!("{service} is not supported; encrypt the file for an age key too"))
            }
        }
    }
}

/// A key as messages name it: its text is that of whoever wrote the file.
fn shown(key: &MasterKey) -> String {
    let text = key.to_string();
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// The first of some texts, and how many more there are.
fn listed(texts: &[String], between: &str) -> String {
    let first = texts[..texts.len().min(SHOWN_KEYS)].join(between);
    match texts.len().saturating_sub(SHOWN_KEYS) {
        0 => first,
        more => format!("{first}{between}and {more} more"),
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.identities.iter().map(Identity::recipient)).finish()
    }
}

impl fmt::Display for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Age { recipient, .. } => f.write_str(recipient),
            Self::Pgp { fingerprint, .. } => write!(f, "PGP {fingerprint}"),
            Self::Vault { address, engine, key, .. } => write!(f, "Vault {address}/v1/{engine}/keys/{key}"),
            Self::Cloud { service, key } => write!(f, "{service} {key}"),
        }
    }
}
