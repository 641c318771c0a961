//! The hub's side of TLS: its certificate and whom it trusts, replaceable at run time.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{HandshakeKind, ServerConfig, ServerConnection};

use super::{Clock, Identity, PeerIdentity, TicketKeys, TlsError, TrustBundle, provider};

/// Whether a server asks for client certificates.
#[derive(Clone, Debug)]
pub enum ClientCertificates {
    /// Asked for and verified when given. Who comes without has no identity, and may only join or renew.
    Optional,
    /// Never asked for: people come with tokens.
    None,
}

/// TLS settings of a server.
pub struct ServerTls {
    current: ArcSwap<Current>,
    options: Options,
}

struct Options {
    client_certificates: ClientCertificates,
    alpn: Vec<Vec<u8>>,
    tickets: TicketKeys,
    clock: Clock,
}

pub(crate) struct Current {
    pub(crate) config: Arc<ServerConfig>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    clock: Clock,
}

/// Why a handshake that TLS let pass is refused all the same.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the resumed session's certificate is not valid any more")]
    Resumed(#[source] rustls::Error),
    #[error(transparent)]
    Name(TlsError),
}

impl ServerTls {
    /// `trust` is for clients' certificates. `alpn` is in order of preference.
    pub fn new(
        identity: &Identity,
        trust: &TrustBundle,
        client_certificates: ClientCertificates,
        alpn: &[&[u8]],
        tickets: TicketKeys,
        clock: Clock,
    ) -> Result<Self, TlsError> {
        let alpn = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let options = Options { client_certificates, alpn, tickets, clock };
        let current = options.build(identity, trust)?;
        Ok(Self { current: ArcSwap::from_pointee(current), options })
    }

    /// New handshakes, resumed ones too, use the new certificate and trust; connections go on.
    pub fn replace(&self, identity: &Identity, trust: &TrustBundle) -> Result<(), TlsError> {
        self.current.store(Arc::new(self.options.build(identity, trust)?));
        Ok(())
    }

    /// Whether the certificate of an open connection would be taken now: it is in time, and its CA is trusted still.
    pub fn vouches_for(&self, peer: &PeerIdentity) -> bool {
        let current = self.current();
        let (Some(clients), Some((leaf, rest))) = (&current.clients, peer.chain.split_first()) else {
            return false;
        };
        clients.verify_client_cert(leaf, rest, current.clock.unix()).is_ok()
    }

    pub(crate) fn current(&self) -> Arc<Current> {
        self.current.load_full()
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options { client_certificates, alpn, .. } = &self.options;
        formatter
            .debug_struct("ServerTls")
            .field("client_certificates", client_certificates)
            .field("alpn", alpn)
            .finish_non_exhaustive()
    }
}

impl Options {
    fn build(&self, identity: &Identity, trust: &TrustBundle) -> Result<Current, TlsError> {
        let clients: Option<Arc<dyn ClientCertVerifier>> = match self.client_certificates {
            ClientCertificates::None => None,
            ClientCertificates::Optional => Some(
                WebPkiClientVerifier::builder_with_provider(trust.roots(), provider())
                    .allow_unauthenticated()
                    .build()
                    .map_err(|error| TlsError::Settings(rustls::Error::General(error.to_string())))?,
            ),
        };
        let verifier = clients.clone().unwrap_or_else(WebPkiClientVerifier::no_client_auth);
        let mut config = ServerConfig::builder_with_details(provider(), Arc::new(self.clock.clone()))
            .with_protocol_versions(&[&TLS13])
            .map_err(TlsError::Settings)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(identity.chain(), identity.private_key())
            .map_err(TlsError::Settings)?;
        config.alpn_protocols = self.alpn.clone();
        config.ticketer = Arc::new(self.tickets.clone());
        // Sessions live in tickets, at the clients'.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Current { config: Arc::new(config), clients, clock: self.clock.clone() })
    }
}

impl Current {
    /// Who is at the other end of a finished handshake.
    pub(crate) fn peer(&self, connection: &ServerConnection) -> Result<Option<PeerIdentity>, Refused> {
        let Some(chain) = connection.peer_certificates().filter(|chain| !chain.is_empty()) else {
            return Ok(None);
        };
        // A resumed session brings the certificate that was verified when its ticket was made; since then
        // it may have expired, or its CA may have been removed.
        if connection.handshake_kind() == Some(HandshakeKind::Resumed)
            && let Some(clients) = &self.clients
        {
            clients
                .verify_client_cert(&chain[0], &chain[1..], self.clock.unix())
                .map_err(Refused::Resumed)?;
        }
        PeerIdentity::from_certificates(chain).map(Some).map_err(Refused::Name)
    }
}
