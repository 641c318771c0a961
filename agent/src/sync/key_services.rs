//! Asking Vault, AWS and their like to open data keys. Which server may be asked is for the operator to say: a file's author chooses the
//! address in it, and the question carries the unit's token.

use std::time::Duration;

use bytes::Bytes;
use flotilla_runtime::chain;
use flotilla_sops::service::{Answer, Answers, Ask, MAX_ANSWER, Request, Servers, next_asks};
use http::header::{HeaderName, HeaderValue};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout, timeout_at};

/// For one question.
const TIMEOUT: Duration = Duration::from_secs(10);
/// For all questions about one object, which takes a seat from others meanwhile.
const ALL: Duration = Duration::from_secs(30);

type Https = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

pub(super) struct KeyServices {
    servers: Servers,
    /// Made when first needed: it reads the certificates of the system.
    client: OnceCell<Https>,
}

impl KeyServices {
    pub(super) fn new(servers: Servers) -> Self {
        Self { servers, client: OnceCell::new() }
    }

    /// Opens something for which services may have to be asked: tries, asks what is still open, and tries again.
    pub(super) async fn asking<T, E>(
        &self,
        open: impl Fn(&Answers) -> Result<T, E>,
        asks_of: impl Fn(&E) -> Option<&[Ask]>,
    ) -> Result<T, E> {
        let (mut answers, until) = (Answers::new(), Instant::now() + ALL);
        loop {
            let asks = match open(&answers) {
                Ok(opened) => return Ok(opened),
                Err(error) => match next_asks(&answers, asks_of(&error)) {
                    None => return Err(error),
                    Some(asks) => asks.to_vec(),
                },
            };
            for ask in asks {
                let late = |_| Err(format!("all its questions together took more than {} s", ALL.as_secs()));
                let answer = timeout_at(until, self.ask(&ask)).await.unwrap_or_else(late);
                answers.insert(ask.id(), answer);
            }
        }
    }

    async fn ask(&self, ask: &Ask) -> Answer {
        let request = ask.request(&self.servers, jiff::Timestamp::now())?;
        let late = |_| Err(format!("it did not answer within {} s", TIMEOUT.as_secs()));
        let (status, body) = timeout(TIMEOUT, self.send(request)).await.unwrap_or_else(late)?;
        ask.data_key(status, &body)
    }

    /// No redirect is followed: what it would lead to was not allowed.
    async fn send(&self, request: Request) -> Result<(u16, Bytes), String> {
        let client = self.client.get_or_try_init(|| std::future::ready(client())).await?;
        let mut sent = http::Request::new(Full::from(request.body));
        *sent.method_mut() = request.method.parse().map_err(|_| "its method cannot be used".to_owned())?;
        *sent.uri_mut() =
            request.url.as_str().parse().map_err(|_| "its address cannot be used".to_owned())?;
        for (name, value) in request.headers {
            let mut value = HeaderValue::from_str(&value).map_err(|_| format!("{name} cannot be sent"))?;
            value.set_sensitive(true);
            sent.headers_mut().insert(HeaderName::from_static(name), value);
        }
        let failed = |error: &dyn std::error::Error| format!("it cannot be reached: {}", chain(error));
        let answer = client.request(sent).await.map_err(|error| failed(&error))?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| format!("its answer cannot be read: {error}"))?;
        Ok((status, body.to_bytes()))
    }
}

fn client() -> Result<Https, String> {
    let connector = HttpsConnectorBuilder::new()
        .with_native_roots()
        .map_err(|error| format!("there are no certificates of CAs on this machine: {error}"))?;
    let connector = connector.https_or_http().enable_http1().build();
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

#[cfg(test)]
#[path = "key_services_tests.rs"]
mod tests;
