//! The CAs that one side trusts the other by.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;

use super::x509::{certificates_from_pem, certificates_to_pem};
use super::{CertificateInfo, TlsError, sha256};

/// SHA-256 of a CA's public key (DER SubjectPublicKeyInfo): what names a CA, and what a join token pins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CaHash(pub(crate) [u8; 32]);

super::hex_text!(CaHash, "a CA hash");

impl CaHash {
    /// Of a public key as DER SubjectPublicKeyInfo.
    pub fn of(public_key: &[u8]) -> Self {
        Self(sha256(public_key))
    }

    pub(crate) fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Self, TlsError> {
        Ok(Self::of(&CertificateInfo::parse(certificate)?.public_key))
    }
}

/// One or more CA certificates, each usable as a trust anchor. Equality and text are by their order.
#[derive(Clone)]
pub struct TrustBundle {
    certificates: Vec<CertificateDer<'static>>,
    hashes: Vec<CaHash>,
    roots: Arc<RootCertStore>,
}

impl TrustBundle {
    pub(crate) fn new(certificates: Vec<CertificateDer<'static>>) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            roots.add(certificate.clone()).map_err(TlsError::Settings)?;
        }
        if roots.is_empty() {
            return Err(TlsError::Malformed {
                what: "a trust bundle",
                reason: "it holds no certificate".into(),
            });
        }
        let hashes = certificates.iter().map(CaHash::of_certificate).collect::<Result<_, _>>()?;
        Ok(Self { certificates, hashes, roots: Arc::new(roots) })
    }

    /// From concatenated PEM certificates; at least one.
    pub fn from_pem(pem: &str) -> Result<Self, TlsError> {
        Self::new(certificates_from_pem(pem)?)
    }

    /// As concatenated PEM certificates.
    pub fn to_pem(&self) -> String {
        certificates_to_pem(&self.certificates)
    }

    /// What names its CAs.
    pub fn hashes(&self) -> &[CaHash] {
        &self.hashes
    }

    pub(crate) fn roots(&self) -> Arc<RootCertStore> {
        self.roots.clone()
    }
}

impl FromStr for TrustBundle {
    type Err = TlsError;

    fn from_str(pem: &str) -> Result<Self, Self::Err> {
        Self::from_pem(pem)
    }
}

impl PartialEq for TrustBundle {
    fn eq(&self, other: &Self) -> bool {
        self.certificates == other.certificates
    }
}

impl Eq for TrustBundle {}

impl fmt::Debug for TrustBundle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("TrustBundle").field(&self.hashes).finish()
    }
}
