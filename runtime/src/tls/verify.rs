//! How an agent, or a person's CLI, knows the hub: its certificate leads to a trusted CA, is for servers, is
//! in time, and carries the hub's URI and no other. Host names are not looked at, so a hub can move.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::identity::HUB_URI;
use super::{CaHash, CertificateInfo, Clock, Trust, provider};

#[derive(Debug)]
pub(crate) struct HubVerifier {
    trust: Trust,
    clock: Clock,
    algorithms: WebPkiSupportedAlgorithms,
}

/// Why a certificate that may well be valid is not the hub's.
#[derive(Debug, thiserror::Error)]
enum NotTheHub {
    #[error(
        "none of the CAs that the server shows is the one that the join token pins: it is another hub, or somebody intercepts the connection"
    )]
    Pin,
    #[error("the server's certificate is for {0:?}, not for {HUB_URI}")]
    Name(Vec<String>),
}

impl From<NotTheHub> for Error {
    fn from(reason: NotTheHub) -> Self {
        CertificateError::Other(OtherError(Arc::new(reason))).into()
    }
}

impl HubVerifier {
    pub(crate) fn new(trust: Trust, clock: Clock) -> Self {
        Self { trust, clock, algorithms: provider().signature_verification_algorithms }
    }

    fn roots(&self, presented: &[CertificateDer<'_>]) -> Result<Arc<RootCertStore>, Error> {
        match &self.trust {
            Trust::Bundle(bundle) => Ok(bundle.roots()),
            Trust::Pins(pins) => {
                let mut roots = RootCertStore::empty();
                for certificate in presented {
                    if CaHash::of_certificate(certificate).is_ok_and(|hash| pins.contains(&hash)) {
                        roots.add(certificate.clone().into_owned())?;
                    }
                }
                if roots.is_empty() { Err(NotTheHub::Pin.into()) } else { Ok(Arc::new(roots)) }
            }
        }
    }
}

impl ServerCertVerifier for HubVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let roots = self.roots(intermediates)?;
        // Includes the serverAuth usage and the times.
        let at = |time: UnixTime| {
            let all = self.algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&certificate, &roots, intermediates, time, all)
        };
        at(now).or_else(|error| match error {
            // The hub's clock was wrong when it was last heard, and is right again: it cannot say so before it is known. A
            // certificate that is in time by this machine's clock is in time.
            Error::InvalidCertificate(
                CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. }
                | CertificateError::Expired
                | CertificateError::ExpiredContext { .. },
            ) => self.clock.own_unix().map_or(Err(error), at),
            other => Err(other),
        })?;
        let uris =
            CertificateInfo::parse(end_entity).map_err(|_| Error::from(CertificateError::BadEncoding))?.uris;
        if uris != [HUB_URI] {
            return Err(NotTheHub::Name(uris).into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
