//! AWS KMS.
//!
//! The request is the documented one (<https://docs.aws.amazon.com/kms/latest/APIReference/API_Decrypt.html>): `Decrypt` of the JSON
//! protocol, signed. The server follows from the region in the key's ARN.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flotilla_sigv4::{Credentials, Scope, headers};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Answer, MOST_NAME, MOST_SEALED, Request, Servers, shown};

/// The entries of Flux' `sops.aws-kms`.
const ACCESS: &str = "aws_access_key_id";
const SECRET: &str = "aws_secret_access_key";
const SESSION: &str = "aws_session_token";
/// Bytes of that file.
const MOST_CREDENTIALS: usize = 16 << 10;
/// The regions of each partition are below one domain.
const PARTITIONS: [(&str, &str); 3] =
    [("aws", "amazonaws.com"), ("aws-us-gov", "amazonaws.com"), ("aws-cn", "amazonaws.com.cn")];

/// A data key that a key of AWS KMS sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsKey {
    pub arn: String,
    /// What was said of the content when it was sealed; KMS wants the same said again.
    pub context: BTreeMap<String, String>,
    /// A role that is to be taken on first.
    pub role: Option<String>,
    /// In base64.
    pub enc: String,
}

impl fmt::Display for AwsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AWS KMS {}", self.arn)
    }
}

/// Reads what Flux calls `sops.aws-kms`: a YAML mapping of an access key, its secret and perhaps a session's token.
///
/// # Errors
/// What is wrong with it; nothing of it is in the message.
pub(crate) fn credentials(text: &str) -> Result<Credentials, String> {
    if text.len() > MOST_CREDENTIALS {
        return Err(format!("has more than {MOST_CREDENTIALS} bytes"));
    }
    let documents =
        flotilla_yaml::parse(text).map_err(|error| format!("line {}: is not YAML", error.pos.line))?;
    let field = |name: &str| -> Result<Option<String>, String> {
        let Some(node) = documents.first().and_then(|document| document.get(name)) else { return Ok(None) };
        let text = node.text().map(|text| text.to_string()).filter(|text| !text.is_empty());
        let Some(text) = text else { return Ok(None) };
        let is_word = text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_word { Ok(Some(text)) } else { Err(format!("{name} should be one word")) }
    };
    let needed = |name: &str| field(name)?.ok_or_else(|| format!("has no {name}"));
    let (access, secret) = (needed(ACCESS)?, Zeroizing::new(needed(SECRET)?));
    Ok(Credentials { access, secret, session: field(SESSION)?.map(Zeroizing::new) })
}

/// To be opened with credentials.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub(crate) key: AwsKey,
    pub(crate) credentials: Credentials,
}

/// As SOPS asks: without the key's name, as KMS finds the key by what it sealed.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Decrypt<'a> {
    ciphertext_blob: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    encryption_context: &'a BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Decrypted {
    plaintext: Zeroizing<String>,
}

#[derive(Deserialize, Default)]
struct Refused {
    #[serde(rename = "__type", default)]
    kind: String,
    #[serde(alias = "Message", default)]
    message: String,
}

impl Sealed {
    pub(super) fn parts(&self) -> Vec<&str> {
        let AwsKey { arn, context, role, enc } = &self.key;
        let Credentials { access, secret, session } = &self.credentials;
        let mut parts = vec!["aws", arn, role.as_deref().unwrap_or_default(), enc, access, secret.as_str()];
        parts.push(session.as_ref().map_or("", |session| session.as_str()));
        parts.extend(context.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]));
        parts
    }

    pub(super) fn request(&self, servers: &Servers, now: Timestamp) -> Result<Request, String> {
        let AwsKey { arn, context, role, enc } = &self.key;
        if role.is_some() {
            return Err("its `role` would have to be taken on first, which is not supported; give credentials that may use the \
                        key themselves"
                .to_owned());
        }
        if enc.len() > MOST_SEALED || STANDARD.decode(enc).is_err() {
            return Err(format!("its enc is not base64 of at most {MOST_SEALED} bytes"));
        }
        if context.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > MOST_SEALED {
            return Err(format!("its context has more than {MOST_SEALED} bytes"));
        }
        let (region, address) = place(arn)?;
        let mut url = servers.allowed(&address)?.clone();
        url.set_path("/");
        let body = Decrypt { ciphertext_blob: enc, encryption_context: context };
        let body = serde_json::to_vec(&body).map_err(|error| error.to_string())?;
        let host = match url.port() {
            Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
            None => url.host_str().unwrap_or_default().to_owned(),
        };
        let own = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", "TrentService.Decrypt")];
        let signed = flotilla_sigv4::Request {
            method: "POST",
            host: &host,
            path: "/",
            query: "",
            headers: &own,
            body: &body,
        };
        let mut sent = headers(&self.credentials, Scope { region, service: "kms" }, &signed, now);
        sent.extend(own.map(|(name, value)| (name, Zeroizing::new(value.to_owned()))));
        Ok(Request { method: "POST", url, headers: sent, body })
    }

    pub(super) fn data_key(&self, status: u16, body: &[u8]) -> Answer {
        if status == 200 {
            let bad = || "it answered something else than a key".to_owned();
            let answered: Decrypted = serde_json::from_slice(body).map_err(|_| bad())?;
            return STANDARD.decode(answered.plaintext.as_bytes()).map(Zeroizing::new).map_err(|_| bad());
        }
        // Who answers no JSON says nothing.
        let Refused { kind, message } = serde_json::from_slice(body).unwrap_or_default();
        let kind = kind.rsplit('#').next().unwrap_or_default();
        let said =
            [kind, message.trim()].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(": ");
        let said = if said.is_empty() { said } else { format!(": {}", shown(&said)) };
        let hint = match kind {
            "AccessDeniedException" => "; see that the credentials may use kms:Decrypt with this key",
            "ExpiredTokenException" => {
                "; the session of the credentials is over: put new ones into the Secret"
            }
            "UnrecognizedClientException" | "InvalidClientTokenId" => "; AWS does not know these credentials",
            "InvalidCiphertextException" | "IncorrectKeyException" => {
                "; the key or the context may be another one than the file is encrypted for"
            }
            "NotFoundException" => "; there may be no such key in that region",
            "DisabledException" | "KMSInvalidStateException" => "; the key is disabled, or is to be deleted",
            _ => "",
        };
        Err(format!("it answered HTTP {status}{said}{hint}"))
    }
}

/// The region in the ARN of a key or an alias, and the address of its server.
fn place(arn: &str) -> Result<(&str, String), String> {
    let bad =
        || format!("'{}' is not the ARN of a key, as arn:aws:kms:eu-west-1:111122223333:key/…", shown(arn));
    let parts: Vec<&str> = arn.split(':').collect();
    let ["arn", partition, "kms", region, account, resource] = parts[..] else { return Err(bad()) };
    let is_name = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/');
    let name = resource.strip_prefix("key/").or_else(|| resource.strip_prefix("alias/"));
    if arn.len() > MOST_NAME
        || region.is_empty()
        || !is_name(region)
        || account.is_empty()
        || !account.bytes().all(|byte| byte.is_ascii_digit())
        || name.is_none_or(|name| name.is_empty() || !name.chars().all(fits))
    {
        return Err(bad());
    }
    let domain = PARTITIONS.iter().find(|(name, _)| *name == partition).map(|(_, domain)| domain);
    let domain =
        domain.ok_or_else(|| format!("the partition '{}' of its ARN is not supported", shown(partition)))?;
    Ok((region, format!("https://kms.{region}.{domain}")))
}

#[cfg(test)]
#[path = "aws_tests.rs"]
mod tests;
