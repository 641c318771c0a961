//! The agent's key, the request for a certificate made with it, and how the hub checks such a request.

use std::fmt;

use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKey,
    PublicKeyData, SigningKey,
};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rustls_pki_types::CertificateSigningRequestDer;
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo, X509CertificationRequest};

use super::TlsError;

/// More than any request with a P-256 key needs.
const MAX_REQUEST: usize = 4 * 1024;

/// An ECDSA P-256 key that never leaves its owner. `Debug` does not show it.
pub struct AgentKey(KeyPair);

impl AgentKey {
    /// A new key.
    pub fn generate() -> Result<Self, TlsError> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .map(Self)
            .map_err(|source| TlsError::Generate { attempt: "make a key", source })
    }

    /// From [`AgentKey::to_pem`]'s text.
    pub fn from_pem(pem: &str) -> Result<Self, TlsError> {
        KeyPair::from_pkcs8_pem_and_sign_algo(pem, &PKCS_ECDSA_P256_SHA256)
            .map(Self)
            .map_err(|error| TlsError::Malformed { what: "a private key", reason: error.to_string() })
    }

    /// PKCS #8 in PEM, to be stored with [`crate::files::PRIVATE`].
    pub fn to_pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// The public key as DER SubjectPublicKeyInfo: what the hub enrols.
    pub fn public_key(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }

    /// A certificate signing request in DER. It names nobody: the hub decides the name.
    pub fn request(&self) -> Result<Vec<u8>, TlsError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "flotilla-agent");
        let request = params
            .serialize_request(&self.0)
            .map_err(|source| TlsError::Generate { attempt: "make a certificate signing request", source })?;
        Ok(request.der().to_vec())
    }

    /// Signs a message for one purpose; see [`verify_signature`].
    pub fn sign(&self, purpose: &str, message: &[u8]) -> Result<Vec<u8>, TlsError> {
        self.0
            .sign(&signed_bytes(purpose, message))
            .map_err(|source| TlsError::Generate { attempt: "sign a message", source })
    }

    pub(crate) fn der(&self) -> &[u8] {
        self.0.serialized_der()
    }

    pub(crate) fn pair(&self) -> &KeyPair {
        &self.0
    }

    pub(crate) fn into_pair(self) -> KeyPair {
        self.0
    }
}

impl fmt::Debug for AgentKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("AgentKey(hidden)")
    }
}

/// Checks a signature by [`AgentKey::sign`]. `public_key` is DER SubjectPublicKeyInfo. A signature for one
/// purpose is none for another.
pub fn verify_signature(
    public_key: &[u8],
    purpose: &str,
    message: &[u8],
    signature: &[u8],
) -> Result<(), TlsError> {
    let (_, key) = SubjectPublicKeyInfo::from_der(public_key)
        .map_err(|error| TlsError::Malformed { what: "a public key", reason: error.to_string() })?;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &key.subject_public_key.data)
        .verify(&signed_bytes(purpose, message), signature)
        .map_err(|_| TlsError::Signature)
}

fn signed_bytes(purpose: &str, message: &[u8]) -> Vec<u8> {
    [b"flotilla/".as_slice(), purpose.as_bytes(), b"\0", message].concat()
}

/// A request whose signature proves that its sender holds the key. Everything else that it says about its
/// sender is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Csr {
    key: PublicKey,
}

impl Csr {
    /// Reads and verifies a DER request. Only P-256 keys are taken.
    pub fn parse(der: &[u8]) -> Result<Self, TlsError> {
        let refuse = |reason: &str| TlsError::Csr(reason.to_owned());
        if der.len() > MAX_REQUEST {
            return Err(refuse("it is too large"));
        }
        let parsed = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der))
            .map_err(|error| TlsError::Csr(error.to_string()))?;
        // The algorithm above is the signature's; the key must be of that kind too.
        let (rest, raw) =
            X509CertificationRequest::from_der(der).map_err(|error| TlsError::Csr(error.to_string()))?;
        let key = parsed.public_key;
        let same = raw.certification_request_info.subject_pki.raw == key.subject_public_key_info();
        if !same || key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(refuse("its key is not ECDSA P-256"));
        }
        if !rest.is_empty() {
            return Err(refuse("bytes follow its end"));
        }
        Ok(Self { key })
    }

    /// The public key as DER SubjectPublicKeyInfo, to compare with the enrolled one.
    pub fn public_key(&self) -> Vec<u8> {
        self.key.subject_public_key_info()
    }

    pub(crate) fn key(&self) -> &PublicKey {
        &self.key
    }
}

impl fmt::Debug for Csr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Csr({})", super::CaHash::of(&self.public_key()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::SanType;

    #[test]
    fn a_key_survives_its_pem_and_is_not_shown() {
        let key = AgentKey::generate().unwrap();
        let again = AgentKey::from_pem(&key.to_pem()).unwrap();
        assert_eq!(again.public_key(), key.public_key());
        assert_eq!(format!("{key:?}"), "AgentKey(hidden)");
        assert!(AgentKey::from_pem("-----BEGIN PRIVATE KEY-----\n").is_err());
    }

    #[test]
    fn requests_are_verified() {
        let key = AgentKey::generate().unwrap();
        let der = key.request().unwrap();
        assert_eq!(Csr::parse(&der).unwrap().public_key(), key.public_key());

        let mut forged = der.clone();
        *forged.last_mut().unwrap() ^= 1;
        let other_curve = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let p384 = CertificateParams::default().serialize_request(&other_curve).unwrap();
        for (request, reason) in [
            (forged, "signature"),
            (der[..der.len() - 1].to_vec(), "not acceptable"),
            ([der.as_slice(), b"x"].concat(), "bytes follow"),
            (p384.der().to_vec(), "not ecdsa p-256"),
            (vec![0x30; MAX_REQUEST + 1], "too large"),
            (Vec::new(), "not acceptable"),
        ] {
            let error = Csr::parse(&request).unwrap_err().to_string();
            assert!(error.to_lowercase().contains(reason), "{error}");
        }
    }

    #[test]
    fn the_names_a_request_asks_for_are_dropped() {
        let key = AgentKey::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI("flotilla://hub".try_into().unwrap())];
        let request = params.serialize_request(&key.0).unwrap();
        assert_eq!(Csr::parse(request.der()).unwrap(), Csr::parse(&key.request().unwrap()).unwrap());
    }

    #[test]
    fn a_signature_is_for_one_key_one_purpose_and_one_message() {
        let (key, other) = (AgentKey::generate().unwrap(), AgentKey::generate().unwrap());
        let signature = key.sign("renew", b"message").unwrap();
        assert!(verify_signature(&key.public_key(), "renew", b"message", &signature).is_ok());
        for (public_key, purpose, message) in [
            (other.public_key(), "renew", "message"),
            (key.public_key(), "join", "message"),
            (key.public_key(), "renew", "massage"),
            (key.public_key(), "renew\0", "message"),
            (vec![1, 2, 3], "renew", "message"),
        ] {
            assert!(verify_signature(&public_key, purpose, message.as_bytes(), &signature).is_err());
        }
    }
}
