//! The client's side of TLS: whom it trusts and who it is, replaceable at run time.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::version::TLS13;

use super::verify::HubVerifier;
use super::{CaHash, Clock, Identity, TlsError, TrustBundle, provider};

/// How a client knows the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// By the CAs of a bundle.
    Bundle(TrustBundle),
    /// By the hash of the CA, which the hub presents; for joining, when only the token is there.
    Pins(Vec<CaHash>),
}

/// TLS settings of a client.
#[derive(Debug)]
pub struct ClientTls {
    current: ArcSwap<ClientConfig>,
    clock: Clock,
    alpn: Vec<Vec<u8>>,
}

impl ClientTls {
    /// `identity` is absent for joining, for renewal after expiry and for people. `alpn` is in order of
    /// preference ([`super::ALPN_H2`] for gRPC).
    pub fn new(
        trust: Trust,
        identity: Option<&Identity>,
        alpn: &[&[u8]],
        clock: Clock,
    ) -> Result<Self, TlsError> {
        let alpn: Vec<Vec<u8>> = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let config = config(trust, identity, &alpn, &clock)?;
        Ok(Self { current: ArcSwap::from_pointee(config), clock, alpn })
    }

    /// New connections use the new trust and identity; sessions of the old ones are not resumed.
    pub fn replace(&self, trust: Trust, identity: Option<&Identity>) -> Result<(), TlsError> {
        self.current.store(Arc::new(config(trust, identity, &self.alpn, &self.clock)?));
        Ok(())
    }

    /// The settings for a connection made now.
    pub fn config(&self) -> Arc<ClientConfig> {
        self.current.load_full()
    }
}

fn config(
    trust: Trust,
    identity: Option<&Identity>,
    alpn: &[Vec<u8>],
    clock: &Clock,
) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_details(provider(), Arc::new(clock.clone()))
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Settings)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(HubVerifier::new(trust, clock.clone())));
    let mut config = match identity {
        Some(identity) => builder
            .with_client_auth_cert(identity.chain(), identity.private_key())
            .map_err(TlsError::Settings)?,
        None => builder.with_no_client_auth(),
    };
    // A handful of hub addresses, not the default's 256.
    config.resumption = Resumption::in_memory_sessions(8);
    config.alpn_protocols = alpn.to_vec();
    Ok(config)
}
