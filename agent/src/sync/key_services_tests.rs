use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use flotilla_runtime::lock;
use flotilla_sops::{Format, Keys, Mac, SopsError, decrypt};
use tokio::net::TcpListener;

use super::*;

/// A file that a transit engine opens, whose address stands in the place of `ADDRESS`.
const SECRET: &str = include_str!("../../../sops/tests/recorded/vault.yaml");
/// The data key of [`SECRET`] in base64, as a transit engine gives it.
const DATA_KEY: &str = include_str!("../../../sops/tests/recorded/secret.data-key");

/// A server that writes down what it is asked, and its address.
async fn server(
    answer: impl Fn() -> Response + Clone + Send + Sync + 'static,
) -> (String, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let notes = asked.clone();
    let router = Router::new().fallback(move |uri: Uri, headers: HeaderMap, body: Bytes| {
        let token = headers.get("x-vault-token").map_or("none", |token| token.to_str().unwrap());
        lock(&notes).push(format!("{uri} {token} {}", String::from_utf8_lossy(&body)));
        let response = answer();
        async move { response }
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, asked)
}

async fn opened(allowed: &str, address: &str) -> Result<Vec<u8>, String> {
    flotilla_runtime::tls::install_crypto();
    let text = SECRET.replace("ADDRESS", address);
    let mut keys = Keys::default();
    keys.add_vault_token("hvs.token").unwrap();
    let services = KeyServices::new(Servers::new([allowed.parse().unwrap()]));
    let open = |answers: &Answers| {
        let keys = keys.clone().answered(answers.clone());
        decrypt(text.as_bytes(), Format::Yaml, Format::Yaml, &keys, Mac::Verified)
    };
    services.asking(open, SopsError::asks).await.map_err(|error| error.to_string())
}

fn key() -> Response {
    format!(r#"{{"data":{{"plaintext":"{}"}}}}"#, DATA_KEY.trim()).into_response()
}

#[tokio::test]
async fn what_a_server_answers_opens_the_file() {
    let (address, asked) = server(key).await;
    let clear = opened(&address, &address).await.unwrap();
    assert_eq!(clear, include_bytes!("../../../sops/tests/recorded/secret.clear.yaml"));
    assert_eq!(*lock(&asked), [r#"/v1/transit/decrypt/fleet hvs.token {"ciphertext":"vault:v1:x"}"#]);
}

#[tokio::test]
async fn a_token_is_sent_nowhere_else() {
    let (elsewhere, asked) = server(key).await;
    let refused = opened("http://127.0.0.1:1", &elsewhere).await.unwrap_err();
    assert!(refused.contains("may not be asked for keys"), "{refused}");
    // Nor where the server itself leads to.
    let to = elsewhere.clone();
    let redirect = move || (StatusCode::TEMPORARY_REDIRECT, [("location", to.clone())]).into_response();
    let (address, led) = server(redirect).await;
    let refused = opened(&address, &address).await.unwrap_err();
    assert!(refused.contains("HTTP 307"), "{refused}");
    assert_eq!((lock(&led).len(), lock(&asked).len()), (1, 0));
}

#[tokio::test]
async fn what_keeps_a_server_from_answering_is_said() {
    let closed = opened("http://127.0.0.1:1", "http://127.0.0.1:1").await.unwrap_err();
    assert!(closed.contains("it cannot be reached"), "{closed}");
    let (address, _) = server(|| vec![b'x'; MAX_ANSWER + 1].into_response()).await;
    let large = opened(&address, &address).await.unwrap_err();
    assert!(large.contains("its answer cannot be read"), "{large}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_costs_a_bounded_time() {
    // Accepts and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let before = Instant::now();
    let late = opened(&address, &address).await.unwrap_err();
    assert!(late.contains("did not answer within 10 s"), "{late}");
    assert_eq!(before.elapsed(), TIMEOUT);
}
