//! From master keys to the data key.

use std::fmt;

use flotilla_sigv4::Credentials;
use zeroize::Zeroizing;

use crate::age::Identity;
use crate::cipher::DataKey;
use crate::error::SopsError;
use crate::metadata::Metadata;
use crate::service::{self, Answer, Answers, Ask, AwsKey, Question, Sealed, Transit, TransitKey, next_asks};
use crate::shamir;

/// How many keys a message shows.
const SHOWN_KEYS: usize = 8;
/// Bytes of a token.
const MOST_TOKEN: usize = 16 << 10;

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
    Vault(TransitKey),
    Aws(AwsKey),
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
    /// What proves to Vault who asks.
    vault_token: Option<Zeroizing<String>>,
    /// What signs questions to AWS.
    aws: Option<Credentials>,
    answers: Answers,
}

/// What becomes of a sealed data key.
enum Opening {
    Done(Zeroizing<Vec<u8>>),
    /// A service would have to be asked first.
    Ask(Ask),
    Not(String),
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

    /// Adds the token that Vault, or OpenBao, is asked with.
    ///
    /// # Errors
    /// Where it is no token; nothing of it is in the message.
    pub fn add_vault_token(&mut self, text: &str) -> Result<(), String> {
        let token = text.trim();
        if token.is_empty() || token.len() > MOST_TOKEN || !token.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err("is not a token of Vault: it should be one word".to_owned());
        }
        self.vault_token = Some(Zeroizing::new(token.to_owned()));
        Ok(())
    }

    /// Adds the credentials that AWS KMS is asked with, a YAML mapping as Flux has it: `aws_access_key_id`,
    /// `aws_secret_access_key` and perhaps `aws_session_token`.
    ///
    /// # Errors
    /// What is wrong with it; nothing of it is in the message.
    pub fn add_aws_credentials(&mut self, text: &str) -> Result<(), String> {
        self.aws = Some(service::credentials(text)?);
        Ok(())
    }

    /// The same keys, with what services answered to [`Unasked`](SopsError::Unasked).
    #[must_use]
    pub fn answered(mut self, answers: Answers) -> Self {
        self.answers = answers;
        self
    }

    /// Opens something for which services may have to be asked: tries, asks what is still open, and tries again.
    ///
    /// # Errors
    /// Those of `open`, and where there are more questions than one object or file may have.
    pub fn asking<T, E>(
        &self,
        open: impl Fn(&Self) -> Result<T, E>,
        asks_of: impl Fn(&E) -> Option<&[Ask]>,
        mut ask: impl FnMut(&Ask) -> Answer,
    ) -> Result<T, E> {
        let (mut answers, mut result) = (Answers::new(), open(self));
        while let Some(asks) = next_asks(&answers, result.as_ref().err().and_then(&asks_of)) {
            answers.extend(asks.iter().map(|one| (one.id(), ask(one))));
            result = open(&self.clone().answered(answers.clone()));
        }
        result
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.identities.is_empty() && self.vault_token.is_none() && self.aws.is_none()
    }

    pub(crate) fn data_key(&self, metadata: &Metadata) -> Result<DataKey, SopsError> {
        let groups = &metadata.groups;
        let needed = if groups.len() > 1 { metadata.threshold } else { 1 }.max(1);
        let (mut parts, mut asks, mut tried) = (Vec::new(), Vec::new(), Vec::new());
        for group in groups {
            let mut ask = None;
            for key in &group.0 {
                match self.open(key) {
                    Opening::Done(part) => {
                        parts.push(part);
                        ask = None;
                        break;
                    }
                    Opening::Ask(one) => ask = ask.or(Some(one)),
                    Opening::Not(why) => tried.push(format!("{}: {why}", shown(key))),
                }
            }
            asks.extend(ask);
        }
        if parts.len() < needed {
            // Nobody is asked for what would not be enough.
            if parts.len() + asks.len() >= needed {
                return Err(SopsError::Unasked(asks));
            }
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

    fn open(&self, key: &MasterKey) -> Opening {
        let not = |why: &str| Opening::Not(why.to_owned());
        match key {
            MasterKey::Age { enc, .. } => match crate::age::decrypt(enc, &self.identities) {
                Ok(part) => Opening::Done(part),
                Err(why) => Opening::Not(why),
            },
            MasterKey::Pgp { .. } => not(
                "PGP is not supported; add an age key to .sops.yaml, and run `sops updatekeys` on the file",
            ),
            MasterKey::Vault(key) => match &self.vault_token {
                None => not("there is no token of Vault here"),
                Some(token) => {
                    let question = Question::Vault(Transit { key: key.clone(), token: token.clone() });
                    self.answer(Ask::new(question))
                }
            },
            MasterKey::Aws(key) => match &self.aws {
                None => not("there are no credentials of AWS here"),
                Some(credentials) => {
                    let sealed = Sealed { key: key.clone(), credentials: credentials.clone() };
                    self.answer(Ask::new(Question::Aws(sealed)))
                }
            },
            MasterKey::Cloud { service, .. } => Opening::Not(format!(
                "{service} is not supported; add an age key to .sops.yaml, and run `sops updatekeys` on the file"
            )),
        }
    }

    fn answer(&self, ask: Ask) -> Opening {
        match self.answers.get(&ask.id()) {
            None => Opening::Ask(ask),
            Some(Ok(part)) => Opening::Done(part.clone()),
            Some(Err(why)) => Opening::Not(why.clone()),
        }
    }
}

/// A key as messages name it: its text is that of whoever wrote the file.
fn shown(key: &MasterKey) -> String {
    service::shown(&key.to_string())
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
            Self::Vault(key) => key.fmt(f),
            Self::Aws(key) => key.fmt(f),
            Self::Cloud { service, key } => write!(f, "{service} {key}"),
        }
    }
}
