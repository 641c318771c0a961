//! TLS 1.3 between hub, agents and people, and the certificates that say who is who.
//!
//! ```text
//! CaSet ─ signs ─► hub certificate      URI SAN flotilla://hub,           serverAuth
//!   │     signs ─► agent certificate    URI SAN flotilla://cluster/NAME,  clientAuth
//!   └─ TrustBundle ─► both sides check the other against it, at the time of a Clock
//!
//! agent: ClientTls ─► Connector ─► stream      hub: ServerTls ─► Acceptor ─► stream with PeerIdentity
//! ```
//! Names and time do not come from the network: the hub is whoever holds a certificate for the fixed URI,
//! under whatever host name, and the time is the latest of all that is known. Certificates and CAs are
//! replaced while connections go on; new handshakes take the new ones.

mod accept;
mod address;
mod bundle;
mod ca;
mod ca_set;
mod client;
mod clock;
mod connect;
mod csr;
mod identity;
mod places;
mod server;
mod tickets;
mod verify;
mod waiting;
mod x509;

pub use accept::{AcceptOptions, Acceptor, ServerStream};
pub use address::{AddressError, HubAddress};
pub use bundle::{CaHash, TrustBundle};
pub use ca::{Ca, Validity};
pub use ca_set::CaSet;
pub use client::{ClientTls, Trust};
pub use clock::{Clock, build_time};
pub use connect::{ConnectError, Connector};
pub use csr::{AgentKey, Csr, verify_signature};
pub use identity::{Identity, PeerIdentity, check_cluster_name};
pub use places::{Place, PlaceCounts, PlaceLimits, Places};
pub use server::{ClientCertificates, ServerTls};
pub use tickets::TicketKeys;
pub use x509::CertificateInfo;

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;

/// ALPN of HTTP/2, as gRPC needs it.
pub const ALPN_H2: &[u8] = b"h2";
/// ALPN of HTTP/1.1.
pub const ALPN_HTTP1: &[u8] = b"http/1.1";

/// What can go wrong with certificates, keys and TLS settings.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error(transparent)]
    File(#[from] crate::files::FileError),
    #[error("cannot {attempt}")]
    Generate { attempt: &'static str, source: rcgen::Error },
    #[error("cannot set up TLS")]
    Settings(#[source] rustls::Error),
    #[error("cannot read {what}: {reason}")]
    Malformed { what: &'static str, reason: String },
    #[error("the key does not belong to {0}")]
    KeyMismatch(&'static str),
    #[error("the certificate signing request is not acceptable: {0}")]
    Csr(String),
    #[error("\"{name}\" is not a cluster name: {reason}")]
    ClusterName { name: String, reason: &'static str },
    #[error("\"{0}\" is neither a DNS name nor an IP address")]
    HostName(String),
    #[error("the certificate was not issued to a cluster: {0}")]
    NotACluster(String),
    #[error("the signature does not match the key")]
    Signature,
    #[error("CA {0} is not in the set")]
    UnknownCa(CaHash),
    #[error("CA {0} signs: let another one sign before it is removed")]
    SigningCa(CaHash),
    #[error("{0}")]
    CaFolder(String),
}

static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));

pub(crate) fn provider() -> Arc<CryptoProvider> {
    PROVIDER.clone()
}

/// Makes ring the default of the process, for libraries that build TLS settings of their own (kube,
/// reqwest). Once, first thing in `main`; later calls do nothing.
pub fn install_crypto() {
    // An error says that there is a default already, which can only be ring.
    let _ = (*provider()).clone().install_default();
}

/// Gives a newtype of 32 bytes its text: 64 hex digits, in `Display`, `Debug`, `FromStr` and serde.
macro_rules! hex_text {
    ($name:ident, $what:literal) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(&$crate::tls::hex(&self.0))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(formatter, "{}({self})", stringify!($name))
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::tls::TlsError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $crate::tls::unhex(text).map(Self).ok_or_else(|| $crate::tls::TlsError::Malformed {
                    what: $what,
                    reason: "not 64 hex digits".into(),
                })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use hex_text;

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn unhex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    hash
}

#[cfg(test)]
mod tests;
