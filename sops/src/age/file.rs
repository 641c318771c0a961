//! The form of an age file.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ring::hmac;
use zeroize::Zeroizing;

use super::{derive, seal, unseal};

const BEGIN: &str = "-----BEGIN AGE ENCRYPTED FILE-----";
const END: &str = "-----END AGE ENCRYPTED FILE-----";
const VERSION: &str = "age-encryption.org/v1";
/// Bytes of a chunk, without its tag.
const CHUNK: usize = 64 << 10;
const TAG: usize = 16;
/// Recipients of one file.
const MOST_STANZAS: usize = 256;

/// The file key, wrapped for one recipient.
#[derive(Debug)]
pub(super) struct Stanza {
    pub(super) kind: String,
    pub(super) arguments: Vec<String>,
    pub(super) body: Vec<u8>,
}

pub(super) struct File<'a> {
    pub(super) stanzas: Vec<Stanza>,
    /// What the MAC is over.
    header: &'a [u8],
    mac: Vec<u8>,
    payload: &'a [u8],
}

/// The bytes within the armour.
pub(super) fn dearmour(text: &str) -> Result<Vec<u8>, String> {
    let not_armoured = || "what is sealed for it is not an armoured age file".to_owned();
    let inner =
        text.trim().strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END)).ok_or_else(not_armoured)?;
    let joined: String = inner.lines().map(str::trim).collect();
    STANDARD.decode(joined).map_err(|error| format!("the age file is not valid base64: {error}"))
}

/// Bytes in armour.
pub(super) fn armour(bytes: &[u8]) -> String {
    let packed = STANDARD.encode(bytes);
    let lines = packed.as_bytes().chunks(64).map(String::from_utf8_lossy);
    lines.fold(format!("{BEGIN}\n"), |text, line| text + &line + "\n") + END + "\n"
}

/// A file to be made.
pub(super) struct Payload<'a> {
    /// The file key.
    pub(super) key: [u8; 16],
    pub(super) nonce: [u8; 16],
    /// A chunk at most.
    pub(super) clear: &'a [u8],
}

impl Payload<'_> {
    /// The file for one recipient, who has the file key in `stanza`.
    pub(super) fn sealed(&self, stanza: &Stanza) -> Vec<u8> {
        let arguments = stanza.arguments.join(" ");
        let body = STANDARD_NO_PAD.encode(&stanza.body);
        let mut file = format!("{VERSION}\n-> {} {arguments}\n{body}\n---", stanza.kind).into_bytes();
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &*derive(&[], &self.key, "header")), &file);
        file.extend(format!(" {}\n", STANDARD_NO_PAD.encode(mac)).bytes());
        let mut last = [0; 12];
        last[11] = 1;
        file.extend(self.nonce);
        file.extend(seal(&derive(&self.nonce, &self.key, "payload"), last, self.clear));
        file
    }
}

impl<'a> File<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        let broken = |what: &str| format!("the age file is broken: {what}");
        let mut at = 0;
        let mut line = || {
            let rest = &bytes[at..];
            let end =
                rest.iter().position(|byte| *byte == b'\n').ok_or_else(|| broken("its header has no end"))?;
            let line = std::str::from_utf8(&rest[..end]).map_err(|_| broken("its header is not text"))?;
            at += end + 1;
            Ok::<_, String>((line, at))
        };
        if line()?.0 != VERSION {
            return Err(broken("it is of a version that is not known"));
        }
        let base64 =
            |text: &str| STANDARD_NO_PAD.decode(text).map_err(|_| broken("its header is not valid base64"));
        let mut stanzas: Vec<Stanza> = Vec::new();
        loop {
            let (text, end) = line()?;
            if let Some(mac) = text.strip_prefix("---") {
                let header = &bytes[..end - 1 - mac.len()];
                return Ok(Self {
                    stanzas,
                    header,
                    mac: base64(mac.trim_start_matches(' '))?,
                    payload: &bytes[end..],
                });
            }
            let arguments =
                text.strip_prefix("-> ").ok_or_else(|| broken("a stanza does not begin with '->'"))?;
            let mut arguments = arguments.split(' ').map(str::to_owned);
            let kind = arguments.next().unwrap_or_default();
            let mut body = Vec::new();
            loop {
                let (text, _) = line()?;
                body.extend(base64(text)?);
                if text.len() < 64 {
                    break;
                }
            }
            if stanzas.len() >= MOST_STANZAS {
                return Err(broken("it has too many recipients"));
            }
            stanzas.push(Stanza { kind, arguments: arguments.collect(), body });
        }
    }

    /// The content, by the file key.
    pub(super) fn open(&self, key: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
        let changed = || "the age file was changed after it was made".to_owned();
        let mac = hmac::Key::new(hmac::HMAC_SHA256, &*derive(&[], key, "header"));
        hmac::verify(&mac, self.header, &self.mac).map_err(|_| changed())?;
        let (nonce, mut rest) = self.payload.split_at_checked(16).ok_or_else(changed)?;
        let key = derive(nonce, key, "payload");
        let mut clear = Zeroizing::new(Vec::with_capacity(rest.len()));
        for counter in 0u64.. {
            let (chunk, after) = rest.split_at(rest.len().min(CHUNK + TAG));
            let is_last = after.is_empty();
            let mut nonce = [0; 12];
            nonce[3..11].copy_from_slice(&counter.to_be_bytes());
            nonce[11] = u8::from(is_last);
            clear.extend_from_slice(&unseal(&key, nonce, chunk).ok_or_else(changed)?);
            rest = after;
            if is_last {
                break;
            }
        }
        Ok(clear)
    }
}
