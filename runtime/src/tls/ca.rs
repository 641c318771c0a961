//! One certificate authority: makes the certificates of the hub and of agents.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, ServerName};

use super::identity::{HUB_URI, cluster_uri};
use super::x509::{certificates_from_pem, certificates_to_pem};
use super::{AgentKey, CaHash, CertificateInfo, Csr, Identity, TlsError};

const DAY: Duration = Duration::from_secs(24 * 3600);
const CA_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Certificates start this long before now, for peers whose clocks are late.
const BACKDATED: Duration = Duration::from_secs(300);

/// A point in time as rcgen takes it (whole seconds).
macro_rules! time {
    ($at:expr) => {{
        let at: SystemTime = $at;
        let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
    }};
}

/// From when and for how long a certificate is good; it never outlives its CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The time of issue.
    pub now: SystemTime,
    /// From `now`; the certificate starts five minutes earlier.
    pub life: Duration,
}

/// A CA with its key. `Debug` does not show the key.
pub struct Ca {
    certificate: CertificateDer<'static>,
    info: CertificateInfo,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    /// A new CA, good for ten years, with a new ECDSA P-256 key.
    pub fn create(now: SystemTime) -> Result<Self, TlsError> {
        let key = AgentKey::generate()?;
        let hash = CaHash::of(&key.public_key());
        let mut params = params(&format!("Flotilla CA {}", &hash.to_string()[..8]));
        params.not_before = time!(now - DAY);
        params.not_after = time!(now + CA_LIFE);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params
            .self_signed(key.pair())
            .map_err(|source| TlsError::Generate { attempt: "make a CA", source })?;
        Self::new(certificate.der().clone(), key)
    }

    /// From the two texts that [`Ca::certificate_pem`] and [`Ca::key_pem`] gave.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, TlsError> {
        let certificate = certificates_from_pem(certificate)?.swap_remove(0);
        Self::new(certificate, AgentKey::from_pem(key)?)
    }

    fn new(certificate: CertificateDer<'static>, key: AgentKey) -> Result<Self, TlsError> {
        let info = CertificateInfo::parse(&certificate)?;
        if info.public_key != key.public_key() {
            return Err(TlsError::KeyMismatch("the CA's certificate"));
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key.into_pair()).map_err(|error| {
            TlsError::Malformed { what: "the CA's certificate", reason: error.to_string() }
        })?;
        Ok(Self { certificate, info, issuer })
    }

    pub fn certificate_pem(&self) -> String {
        certificates_to_pem([&self.certificate])
    }

    /// To be stored with [`crate::files::PRIVATE`].
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// What names this CA.
    pub fn hash(&self) -> CaHash {
        CaHash::of(&self.info.public_key)
    }

    /// What its certificate says.
    pub fn info(&self) -> &CertificateInfo {
        &self.info
    }

    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// A certificate for the hub, with a new key. `hosts` are DNS names and IP addresses for browsers and
    /// other programs; agents and our CLI go by the URI that is always there. The chain includes the CA, so
    /// that a joining agent can find the one that its token pins.
    pub fn issue_hub(&self, hosts: &[String], validity: Validity) -> Result<Identity, TlsError> {
        let key = AgentKey::generate()?;
        let mut names = vec![uri(HUB_URI)?];
        for host in hosts {
            names.push(match ServerName::try_from(host.as_str()) {
                Ok(ServerName::IpAddress(address)) => SanType::IpAddress(IpAddr::from(address)),
                Ok(_) => {
                    SanType::DnsName(host.as_str().try_into().map_err(|_| TlsError::HostName(host.clone()))?)
                }
                Err(_) => return Err(TlsError::HostName(host.clone())),
            });
        }
        let usage = ExtendedKeyUsagePurpose::ServerAuth;
        let certificate = self.issue("flotilla-hub", names, vec![usage], key.pair(), validity)?;
        Identity::new(vec![certificate, self.certificate.clone()], &key)
    }

    /// A certificate for a cluster's agent, as PEM and read: the key is the request's, everything else is
    /// the hub's word.
    pub fn issue_agent(
        &self,
        csr: &Csr,
        cluster: &str,
        validity: Validity,
    ) -> Result<(String, CertificateInfo), TlsError> {
        let names = vec![uri(&cluster_uri(cluster)?)?];
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        let certificate = self.issue("flotilla-agent", names, vec![usage], csr.key(), validity)?;
        let info = CertificateInfo::parse(&certificate)?;
        Ok((certificates_to_pem([&certificate]), info))
    }

    pub(crate) fn issue(
        &self,
        name: &str,
        names: Vec<SanType>,
        usages: Vec<ExtendedKeyUsagePurpose>,
        key: &impl PublicKeyData,
        validity: Validity,
    ) -> Result<CertificateDer<'static>, TlsError> {
        let mut params = params(name);
        params.not_before = time!(validity.now - BACKDATED);
        params.not_after = time!((validity.now + validity.life).min(self.info.not_after));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages;
        params.subject_alt_names = names;
        params.use_authority_key_identifier_extension = true;
        params
            .signed_by(key, &self.issuer)
            .map(Into::into)
            .map_err(|source| TlsError::Generate { attempt: "issue a certificate", source })
    }
}

impl fmt::Debug for Ca {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Ca({})", self.hash())
    }
}

pub(crate) fn uri(text: &str) -> Result<SanType, TlsError> {
    let name =
        text.try_into().map_err(|source| TlsError::Generate { attempt: "write a URI name", source })?;
    Ok(SanType::URI(name))
}

fn params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    // RFC 5280: positive, at most 20 octets; 126 random bits here.
    let mut serial: [u8; 16] = rand::random();
    serial[0] = serial[0] & 0x3f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params
}
