//! People at the agents' port: a client of HTTP/1 cannot be an agent, so it is told which port this is.

use std::convert::Infallible;
use std::time::Duration;

use flotilla_runtime::tls::ServerStream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// How long a client may take, all in all.
const LIMIT: Duration = Duration::from_secs(5);
/// Bytes of a request that are read before it is answered.
const MAX_REQUEST: usize = 16 << 10;
const BODY: &str = r#"{"error":"this is the hub's port for agents","hint":"people and scripts use the port of the API: --api-listen of flotilla-hub, 8444 by default"}"#;

/// Answers one request with 421 (RFC 9110, 15.5.20) and closes the connection.
pub(super) async fn answer(mut stream: ServerStream) -> Result<(), Infallible> {
    let exchange = async {
        // An answer to a request that was not read may be lost with the connection.
        let mut request = Vec::new();
        let mut part = [0; 1024];
        while request.len() < MAX_REQUEST && !request.windows(4).any(|end| end == b"\r\n\r\n") {
            match stream.read(&mut part).await? {
                0 => break,
                read => request.extend_from_slice(&part[..read]),
            }
        }
        let head = format!(
            "HTTP/1.1 421 Misdirected Request\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             cache-control: no-store\r\nconnection: close\r\n\r\n",
            BODY.len()
        );
        stream.write_all(format!("{head}{BODY}").as_bytes()).await?;
        stream.shutdown().await
    };
    // A client that goes away has its answer or does not want one.
    let _ = tokio::time::timeout(LIMIT, exchange).await;
    Ok(())
}
