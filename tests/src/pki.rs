//! Keys: a server's certificate with its own CA, and those of a cluster (also what signs service account tokens).

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// Names by which clients, in and out of the cluster, reach an API server.
const API_SERVER_NAMES: &[&str] = &[
    "127.0.0.1",
    "localhost",
    "kubernetes",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];

/// A server's certificate with its key, and the CA that signed it; all PEM.
pub(crate) struct ServerIdentity {
    pub(crate) ca: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl ServerIdentity {
    /// A certificate for these names by a CA made for the purpose.
    pub(crate) fn new(owner: &str, names: &[&str]) -> Result<Self> {
        let mut ca = CertificateParams::default();
        ca.distinguished_name.push(DnType::CommonName, format!("{owner} test CA"));
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?).context("make a CA")?;

        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut server = CertificateParams::new(names)?;
        server.distinguished_name.push(DnType::CommonName, owner);
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        server.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let server = server.signed_by(&key, &ca).context("sign the server's certificate")?;
        Ok(Self { ca: ca.pem(), certificate: server.pem(), key: key.serialize_pem() })
    }
}

/// Writes `ca.crt`, `server.crt`, `server.key`, `sa.key` and `sa.pub` into `folder`; gives the CA's certificate (PEM).
pub(crate) fn write(folder: &Path, cluster: &str) -> Result<String> {
    let server = ServerIdentity::new(cluster, API_SERVER_NAMES)?;
    let accounts = KeyPair::generate()?;
    let files = [
        ("ca.crt", &server.ca),
        ("server.crt", &server.certificate),
        ("server.key", &server.key),
        ("sa.key", &accounts.serialize_pem()),
        ("sa.pub", &accounts.public_key_pem()),
    ];
    for (name, content) in files {
        let path = folder.join(name);
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(server.ca)
}
