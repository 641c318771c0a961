//! Who somebody is: the certificate and key of one's own, and the peer's name read from theirs.

use std::fmt;
use std::time::SystemTime;

use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::csr::AgentKey;
use super::x509::{certificates_from_pem, certificates_to_pem};
use super::{CertificateInfo, TlsError};

/// The URI of every hub's certificate.
pub(crate) const HUB_URI: &str = "flotilla://hub";
const CLUSTER_URI: &str = "flotilla://cluster/";

/// The URI of a cluster's certificate.
pub(crate) fn cluster_uri(cluster: &str) -> Result<String, TlsError> {
    check_cluster_name(cluster)?;
    Ok(format!("{CLUSTER_URI}{cluster}"))
}

/// Whether a name can stand in a certificate: a DNS subdomain as Kubernetes names are (1 to 253 lower-case
/// letters, digits, `-` and `.`, with a letter or digit first and last).
pub fn check_cluster_name(name: &str) -> Result<(), TlsError> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let reason = if name.is_empty() || name.len() > 253 {
        "it must have 1 to 253 characters"
    } else if !name.bytes().all(|byte| inner(byte) || byte == b'-' || byte == b'.') {
        "only lower-case letters, digits, - and . are allowed"
    } else if !name
        .split('.')
        .all(|label| label.bytes().next().is_some_and(inner) && label.bytes().next_back().is_some_and(inner))
    {
        "each part between dots must start and end with a letter or digit"
    } else {
        return Ok(());
    };
    Err(TlsError::ClusterName { name: name.to_owned(), reason })
}

/// A certificate chain with its private key. `Debug` does not show the key.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    info: CertificateInfo,
}

impl Identity {
    pub(crate) fn new(chain: Vec<CertificateDer<'static>>, key: &AgentKey) -> Result<Self, TlsError> {
        let leaf = chain.first().ok_or_else(|| TlsError::Malformed {
            what: "a certificate chain",
            reason: "it is empty".into(),
        })?;
        let info = CertificateInfo::parse(leaf)?;
        if info.public_key != key.public_key() {
            return Err(TlsError::KeyMismatch("the certificate"));
        }
        let key = PrivatePkcs8KeyDer::from(key.der().to_vec()).into();
        Ok(Self { chain, key, info })
    }

    /// An agent's identity: the PEM certificate that the hub returned, and the key that asked for it.
    pub fn from_pem(chain: &str, key: &AgentKey) -> Result<Self, TlsError> {
        Self::new(certificates_from_pem(chain)?, key)
    }

    /// The certificate and those above it, as PEM.
    pub fn chain_pem(&self) -> String {
        certificates_to_pem(&self.chain)
    }

    /// What the certificate says.
    pub fn info(&self) -> &CertificateInfo {
        &self.info
    }

    /// When to ask for the next certificate: after two thirds of this one's life.
    pub fn renew_at(&self) -> SystemTime {
        let life = self.info.not_after.duration_since(self.info.not_before).unwrap_or_default();
        self.info.not_before + life * 2 / 3
    }

    /// Whether the next certificate is to be asked for: this one's time has come, or lies in the future, as it does where
    /// the clock was ahead when it was made and is right now.
    pub fn is_due(&self, now: SystemTime) -> bool {
        now < self.info.not_before || now >= self.renew_at()
    }

    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.chain.clone()
    }

    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Identity").field("info", &self.info).finish_non_exhaustive()
    }
}

/// The cluster at the other end of a connection, as its verified certificate says. Whether that certificate
/// was revoked is for the hub to ask, at the start of each stream and while it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The cluster's name.
    pub cluster: String,
    /// The rest of its certificate.
    pub certificate: CertificateInfo,
    /// As it was shown, to be verified again.
    pub(crate) chain: Vec<CertificateDer<'static>>,
}

impl PeerIdentity {
    /// Reads the leaf of a chain that was verified before. A certificate that names anything but exactly
    /// one cluster is nobody's.
    pub(crate) fn from_certificates(chain: &[CertificateDer<'_>]) -> Result<Self, TlsError> {
        let leaf = chain.first().ok_or_else(|| TlsError::NotACluster("the chain is empty".into()))?;
        let certificate = CertificateInfo::parse(leaf)?;
        let cluster = match certificate.uris.as_slice() {
            [uri] => uri.strip_prefix(CLUSTER_URI).filter(|name| check_cluster_name(name).is_ok()),
            _ => None,
        };
        match cluster {
            Some(cluster) => {
                let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
                Ok(Self { cluster: cluster.to_owned(), certificate, chain })
            }
            None => Err(TlsError::NotACluster(format!("it names {:?}", certificate.uris))),
        }
    }
}
