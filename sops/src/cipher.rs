//! One value, sealed: `ENC[AES256_GCM,data:…,iv:…,tag:…,type:…]`.

use aes_gcm::aead::consts::{U12, U32};
use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::aes::Aes256;
use aes_gcm::{AesGcm, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::tree::{Comment, Value, float_text};

const START: &str = "ENC[AES256_GCM,data:";

/// The key that values are sealed with.
#[derive(Clone)]
pub struct DataKey(Zeroizing<[u8; 32]>);

impl DataKey {
    /// `None`: not 32 bytes.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        Some(Self(Zeroizing::new(bytes.try_into().ok()?)))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &*self.0
    }
}

impl std::fmt::Debug for DataKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DataKey")
    }
}

/// Opens a value that stands at `path`, which it is sealed with. The error says what is wrong, and nothing of the value.
pub(crate) fn open(text: &str, key: &DataKey, path: &str) -> Result<Value, String> {
    if text.is_empty() {
        return Ok(Value::Text(String::new()));
    }
    let sealed = Sealed::parse(text)?;
    let clear = sealed.open(key, path)?;
    let text = match String::from_utf8(clear.to_vec()) {
        Ok(text) => text,
        Err(_) if sealed.kind == "str" => return Ok(Value::Bytes(clear.to_vec())),
        Err(_) => return Err("is not text".to_owned()),
    };
    let bad = |what: &str| format!("does not hold {what}, though its type says so");
    Ok(match sealed.kind {
        "str" | "bytes" => Value::Text(text),
        "int" => Value::Int(text.parse().map_err(|_| bad("an integer"))?),
        "float" => Value::Float(text.parse().map_err(|_| bad("a number"))?),
        "bool" => match text.as_str() {
            "True" | "true" | "TRUE" | "t" | "T" | "1" => Value::Bool(true),
            "False" | "false" | "FALSE" | "f" | "F" | "0" => Value::Bool(false),
            _ => return Err(bad("a boolean")),
        },
        "time" => Value::Time(text),
        "comment" => Value::Comment(Comment { text, inline: false }),
        kind => return Err(format!("has the type '{kind}', which SOPS does not know")),
    })
}

/// Seals a value at `path`. An empty one stays as it is, as in SOPS.
pub(crate) fn seal(value: &Value, key: &DataKey, path: &str, nonce: [u8; 32]) -> Result<String, String> {
    let (kind, clear) = match value {
        Value::Text(text) => ("str", text.as_bytes().to_vec()),
        Value::Bytes(bytes) => ("str", bytes.clone()),
        Value::Int(value) => ("int", value.to_string().into_bytes()),
        Value::Float(value) => ("float", float_text(*value).into_bytes()),
        Value::Bool(value) => ("bool", if *value { "True" } else { "False" }.into()),
        Value::Time(text) => ("time", text.as_bytes().to_vec()),
        Value::Comment(comment) => ("comment", comment.text.as_bytes().to_vec()),
        Value::Null | Value::Map(_) | Value::List(_) => return Err("cannot be encrypted".to_owned()),
    };
    if clear.is_empty() {
        return Ok(String::new());
    }
    let cipher = AesGcm::<Aes256, U32>::new_from_slice(key.bytes()).map_err(|error| error.to_string())?;
    let payload = Payload { msg: &clear, aad: path.as_bytes() };
    let sealed = cipher.encrypt(&Nonce::<U32>::from(nonce), payload).map_err(|error| error.to_string())?;
    let (data, tag) = sealed.split_at(sealed.len() - 16);
    let [data, nonce, tag] = [data, &nonce[..], tag].map(|part| STANDARD.encode(part));
    Ok(format!("{START}{data},iv:{nonce},tag:{tag},type:{kind}]"))
}

struct Sealed<'a> {
    /// The ciphertext, its tag behind it.
    data: Vec<u8>,
    nonce: Vec<u8>,
    kind: &'a str,
}

impl<'a> Sealed<'a> {
    fn parse(text: &'a str) -> Result<Self, String> {
        let form = || "is not encrypted, though the file's rules say that it should be".to_owned();
        let rest = text.strip_prefix(START).ok_or_else(form)?;
        let (rest, _) = rest.rsplit_once(']').ok_or_else(form)?;
        let (rest, kind) = rest.rsplit_once(",type:").ok_or_else(form)?;
        let (rest, tag) = rest.rsplit_once(",tag:").ok_or_else(form)?;
        let (data, nonce) = rest.rsplit_once(",iv:").ok_or_else(form)?;
        let bytes = |part: &str, name: &str| {
            STANDARD.decode(part).map_err(|error| format!("its {name} is not valid base64: {error}"))
        };
        let mut data = bytes(data, "data")?;
        data.extend(bytes(tag, "tag")?);
        Ok(Self { data, nonce: bytes(nonce, "iv")?, kind })
    }

    fn open(&self, key: &DataKey, path: &str) -> Result<Zeroizing<Vec<u8>>, String> {
        let payload = || Payload { msg: &self.data, aad: path.as_bytes() };
        let opened = if let Ok(nonce) = <[u8; 32]>::try_from(self.nonce.as_slice()) {
            let cipher =
                AesGcm::<Aes256, U32>::new_from_slice(key.bytes()).map_err(|error| error.to_string())?;
            cipher.decrypt(&Nonce::<U32>::from(nonce), payload())
        } else if let Ok(nonce) = <[u8; 12]>::try_from(self.nonce.as_slice()) {
            let cipher =
                AesGcm::<Aes256, U12>::new_from_slice(key.bytes()).map_err(|error| error.to_string())?;
            cipher.decrypt(&Nonce::<U12>::from(nonce), payload())
        } else {
            return Err(format!("its iv has {} bytes, not 32", self.nonce.len()));
        };
        opened.map(Zeroizing::new).map_err(|_| {
            "does not open with the file's data key: it was changed, or stood under another key of the file".to_owned()
        })
    }
}
