//! What we read out of a certificate, and PEM.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::GeneralName;

use super::{TlsError, hex, sha256};

/// The facts of a certificate that matter here. Reading them verifies nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateInfo {
    /// Serial number in hex.
    pub serial: String,
    /// SHA-256 of the whole certificate in hex.
    pub fingerprint: String,
    /// URI subject alternative names.
    pub uris: Vec<String>,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
    /// The public key, as DER SubjectPublicKeyInfo.
    pub public_key: Vec<u8>,
}

impl CertificateInfo {
    /// Reads a DER certificate.
    pub fn parse(der: &[u8]) -> Result<Self, TlsError> {
        let malformed = |reason: String| TlsError::Malformed { what: "a certificate", reason };
        let (rest, certificate) =
            x509_parser::parse_x509_certificate(der).map_err(|error| malformed(error.to_string()))?;
        if !rest.is_empty() {
            return Err(malformed("bytes follow its end".into()));
        }
        let names = certificate.subject_alternative_name().map_err(|error| malformed(error.to_string()))?;
        let uris = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        });
        let time = |seconds: i64| UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap_or_default());
        Ok(Self {
            serial: hex(certificate.raw_serial()),
            fingerprint: hex(&sha256(der)),
            uris: uris.collect(),
            not_before: time(certificate.validity().not_before.timestamp()),
            not_after: time(certificate.validity().not_after.timestamp()),
            public_key: certificate.public_key().raw.to_vec(),
        })
    }
}

/// All certificates of a PEM text; at least one.
pub(crate) fn certificates_from_pem(pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let malformed = |reason: String| TlsError::Malformed { what: "PEM certificates", reason };
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| malformed(error.to_string()))?;
    if certificates.is_empty() {
        return Err(malformed("there is none".into()));
    }
    Ok(certificates)
}

/// DER certificates as a PEM text.
pub(crate) fn certificates_to_pem<'a>(
    certificates: impl IntoIterator<Item = &'a CertificateDer<'static>>,
) -> String {
    let mut pem = String::new();
    for certificate in certificates {
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        let text = STANDARD.encode(certificate);
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(64));
            pem.push_str(line);
            pem.push('\n');
            rest = after;
        }
        pem.push_str("-----END CERTIFICATE-----\n");
    }
    pem
}
