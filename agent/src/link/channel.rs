//! gRPC over our own TLS: a channel is one connection to the first hub address that answers.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flotilla_runtime::tls::{ClientTls, ConnectError, Connector, HubAddress};
use http::Uri;
use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint};

/// For each IP address of a hub, TCP and TLS together.
const CONNECT: Duration = Duration::from_secs(10);
/// A connection that says nothing for so long is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// No channel to a hub.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    #[error(transparent)]
    Connect(ConnectError),
    #[error("no HTTP/2 with the hub")]
    Http(#[source] tonic::transport::Error),
}

/// Connects to the first of the addresses that works.
pub(crate) async fn connect(
    tls: Arc<ClientTls>,
    addresses: Vec<HubAddress>,
) -> Result<Channel, ChannelError> {
    let connector = Connector::new(tls, CONNECT);
    // tonic shows the connector's errors only as boxes.
    let failure = Arc::new(Mutex::new(None));
    let keep = failure.clone();
    type Io = TokioIo<Box<dyn Stream>>;
    let service = tower::service_fn(move |_: Uri| {
        let (connector, addresses, keep) = (connector.clone(), addresses.clone(), keep.clone());
        let connect = async move {
            match connector.connect_any(&addresses).await {
                Ok((address, stream)) => {
                    tracing::debug!(%address, "connected");
                    Ok(TokioIo::new(Box::new(stream) as Box<dyn Stream>))
                }
                Err(error) => {
                    *flotilla_runtime::lock(&keep) = Some(error);
                    Err(std::io::Error::other("no connection"))
                }
            }
        };
        Box::pin(connect) as Pin<Box<dyn Future<Output = Result<Io, std::io::Error>> + Send>>
    });
    // The name stands for whichever address answers; TLS goes by the certificate.
    let endpoint = Endpoint::from_static("http://flotilla-hub")
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
        .initial_connection_window_size(2 << 20)
        .initial_stream_window_size(1 << 20)
        .buffer_size(16);
    endpoint.connect_with_connector(service).await.map_err(|error| {
        match flotilla_runtime::lock(&failure).take() {
            Some(failure) => ChannelError::Connect(failure),
            None => ChannelError::Http(error),
        }
    })
}

/// What a connection reads and writes.
trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Stream for T {}
