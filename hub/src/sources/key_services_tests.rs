use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::IntoResponse as _;
use flotilla_sops::{Format, Keys, Mac, SopsError, decrypt};
use tokio::net::TcpListener;

use super::*;
use crate::sources::SourceSettings;

/// A file that a transit engine opens, whose address stands in the place of `ADDRESS`.
const SECRET: &str = include_str!("../../../sops/tests/recorded/vault.yaml");
/// The data key of [`SECRET`] in base64, as a transit engine gives it.
const DATA_KEY: &str = include_str!("../../../sops/tests/recorded/secret.data-key");

/// A server that refuses the first question, and its address.
async fn server() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::<AtomicUsize>::default();
    let count = asked.clone();
    let router = Router::new().fallback(move |uri: Uri, headers: HeaderMap| {
        assert_eq!(
            (uri.path(), headers["x-vault-token"].to_str().unwrap()),
            ("/v1/transit/decrypt/fleet", "hvs.x")
        );
        let answer = match count.fetch_add(1, Ordering::Relaxed) {
            0 => (StatusCode::FORBIDDEN, r#"{"errors":["permission denied"]}"#).into_response(),
            _ => format!(r#"{{"data":{{"plaintext":"{}"}}}}"#, DATA_KEY.trim()).into_response(),
        };
        async move { answer }
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, asked)
}

fn open(library: &Library, address: &str) -> Result<Vec<u8>, String> {
    let text = SECRET.replace("ADDRESS", address);
    let mut keys = Keys::default();
    keys.add_vault_token("hvs.x").unwrap();
    let opened = keys.asking(
        |keys| decrypt(text.as_bytes(), Format::Yaml, Format::Yaml, keys, Mac::Verified),
        SopsError::asks,
        |ask| library.key_services.data_key(ask),
    );
    opened.map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_render_waits_for_no_answer_and_is_told_of_each() {
    flotilla_runtime::tls::install_crypto();
    let (address, asked) = server().await;
    let folder = tempfile::tempdir().unwrap();
    let settings = SourceSettings {
        key_services: Servers::new([address.parse().unwrap()]),
        ..SourceSettings::default()
    };
    let library = Arc::new(Library::new(folder.path().to_owned(), settings, None));
    let stop = CancellationToken::new();
    let running = tokio::spawn(run_key_services(library.clone(), stop.clone()));
    let mut changes = library.changes();
    changes.borrow_and_update();

    for _ in 0..3 {
        let error = open(&library, &address).unwrap_err();
        assert!(error.contains("is being asked"), "{error}");
    }
    changes.changed().await.unwrap();
    let error = open(&library, &address).unwrap_err();
    assert!(error.contains("HTTP 403: permission denied"), "{error}");
    assert_eq!(asked.load(Ordering::Relaxed), 1, "a service that refused has a pause");

    // The pause is over.
    for answered in lock(&library.key_services.inner).answers.values_mut() {
        if let Answered::At(when, _) = answered {
            *when = when.checked_sub(AGAIN).unwrap();
        }
    }
    changes.borrow_and_update();
    let error = open(&library, &address).unwrap_err();
    assert!(error.contains("HTTP 403"), "until there is another answer: {error}");
    changes.changed().await.unwrap();
    let clear = include_bytes!("../../../sops/tests/recorded/secret.clear.yaml");
    for _ in 0..3 {
        assert_eq!(open(&library, &address).unwrap(), clear);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 2, "what was answered is not asked again");
    let refused = open(&library, "http://127.0.0.1:1").unwrap_err();
    assert!(refused.contains("--allow-key-service http://127.0.0.1:1"), "{refused}");
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[test]
fn as_many_answers_are_kept_as_fit() {
    let services = KeyServices::new(Servers::default());
    for number in 0..MOST_ANSWERS as u32 + 100 {
        let mut id = AskId::default();
        id[..4].copy_from_slice(&number.to_be_bytes());
        services.answered(id, Err("no".to_owned()));
    }
    assert_eq!(lock(&services.inner).answers.len(), MOST_ANSWERS);
}

/// As a render asks that opens one file with a token and a key of its own.
fn ask(services: &KeyServices, token: &str, key: usize) -> String {
    let text = SECRET.replace("ADDRESS", "http://127.0.0.1:1").replace("fleet", &format!("key-{key}"));
    let mut keys = Keys::default();
    keys.add_vault_token(token).unwrap();
    let opened = keys.asking(
        |keys| decrypt(text.as_bytes(), Format::Yaml, Format::Yaml, keys, Mac::Verified),
        SopsError::asks,
        |ask| services.data_key(ask),
    );
    opened.unwrap_err().to_string()
}

#[test]
fn who_asks_takes_turns_and_has_room_for_so_many() {
    let services = KeyServices::new(Servers::new(["http://127.0.0.1:1".parse().unwrap()]));
    for key in 0..MOST_WAITING {
        assert!(ask(&services, "hvs.greedy", key).contains("is being asked"));
    }
    let error = ask(&services, "hvs.greedy", MOST_WAITING);
    assert!(error.contains("is asked later"), "{error}");
    for key in 0..3 {
        assert!(ask(&services, "hvs.other", key).contains("is being asked"), "others have their own room");
    }
    let turns: Vec<AskId> = (0..6).map(|_| services.next().unwrap().asker()).collect();
    assert!(turns.windows(2).all(|turns| turns[0] != turns[1]));
    assert_eq!(std::iter::from_fn(|| services.next()).count(), MOST_WAITING - 3);
    assert!(lock(&services.inner).waiting.is_empty());
}
