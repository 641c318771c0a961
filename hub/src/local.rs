//! Asks the hub that runs on this machine, with the first token from its data folder.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use flotilla_api::ErrorBody;
use flotilla_hub::store::backup::create_private;
use flotilla_runtime::files::{self, FileError};
use flotilla_runtime::tls::{
    ALPN_HTTP1, AddressError, ClientTls, Clock, ConnectError, Connector, HubAddress, TlsError, Trust,
    TrustBundle,
};
use http::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;

const CONNECT_LIMIT: Duration = Duration::from_secs(10);
const MAX_ANSWER: usize = 1 << 30;

/// The hub could not be asked, or refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocalError {
    #[error("cannot read what the running hub says of itself")]
    File(#[from] FileError),
    #[error("{0} in the data folder is damaged")]
    Damaged(&'static str),
    #[error("addresses.json in the data folder names no address")]
    Address(#[source] AddressError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the hub cannot be reached (is it running?)")]
    Connect(#[from] ConnectError),
    #[error("the conversation with the hub broke off")]
    Http(#[source] hyper::Error),
    #[error("the hub's answer broke off")]
    Body(#[source] axum::Error),
    #[error("the hub answered {0}: {1}")]
    Refused(StatusCode, String),
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} is there already, and is not written over: name another file, or move it away", .0.display())]
    Exists(PathBuf),
}

pub(crate) async fn get(data: &Path, path: &str) -> Result<Vec<u8>, LocalError> {
    ask(data, Method::GET, path, "").await
}

pub(crate) async fn post(data: &Path, path: &str, body: &str) -> Result<Vec<u8>, LocalError> {
    ask(data, Method::POST, path, body).await
}

/// The API token that the hub made for the first admin. Blocking.
pub(crate) fn admin_token(data: &Path) -> Result<String, LocalError> {
    Ok(text(data, "admin-token")?.trim().to_owned())
}

fn text(data: &Path, name: &'static str) -> Result<String, LocalError> {
    String::from_utf8(files::read(&data.join(name))?).map_err(|_| LocalError::Damaged(name))
}

async fn ask(data: &Path, method: Method, path: &str, body: &str) -> Result<Vec<u8>, LocalError> {
    let addresses: serde_json::Value = serde_json::from_str(&text(data, "addresses.json")?)
        .map_err(|_| LocalError::Damaged("addresses.json"))?;
    let api = addresses["api"].as_str().ok_or(LocalError::Damaged("addresses.json"))?;
    let address: HubAddress = api.trim_start_matches("https://").parse().map_err(LocalError::Address)?;
    let trust = Trust::Bundle(TrustBundle::from_pem(&text(data, "ca.pem")?)?);
    let tls = ClientTls::new(trust, None, &[ALPN_HTTP1], Clock::system())?;
    let stream = Connector::new(Arc::new(tls), CONNECT_LIMIT).connect(&address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(LocalError::Http)?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, address.to_string())
        .header(header::AUTHORIZATION, format!("Bearer {}", admin_token(data)?))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(body.to_owned()))
        .map_err(|_| LocalError::Damaged("admin-token"))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(LocalError::Http)?;
        let status = response.status();
        let bytes = to_bytes(Body::new(response.into_body()), MAX_ANSWER).await.map_err(LocalError::Body)?;
        if status.is_success() {
            return Ok(bytes.to_vec());
        }
        let said: ErrorBody = serde_json::from_slice(&bytes).unwrap_or_default();
        let hint = said.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        Err(LocalError::Refused(status, format!("{}{hint}", said.error)))
    };
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        // The connection's end may come just before the answer's.
        _ = connection => exchange.await,
    }
}

/// Writes a private file that must not be there yet, durably. Blocking.
pub(crate) fn write_new(path: &Path, content: &[u8]) -> Result<(), LocalError> {
    let write = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => LocalError::Exists(path.to_owned()),
        _ => LocalError::Write { path: path.to_owned(), source },
    };
    let mut file: File = create_private(path).map_err(write)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(write)
}
