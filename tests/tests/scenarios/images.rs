//! Images of programs, pushed to a real registry and to one that asks who pushes.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use flotilla_release::architecture::Architecture;
use flotilla_release::image::{Image, Origin};
use flotilla_release::layout::{INDEX, Layout, MANIFEST, digest};
use flotilla_release::registry::{Credentials, Repository};
use flotilla_tests::registry::Registry;
use serde_json::{Value, json};

/// An image with a program that is static enough: it is pushed, not run.
fn image(content: &str) -> Layout {
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    elf.extend([0; 28]);
    elf.extend([64, 0, 56, 0, 0, 0, 64, 0, 0, 0, 0, 0]);
    elf.extend(content.bytes());
    let origin = Origin { version: "0.1.0".to_owned(), revision: "c0ffee".to_owned(), seconds: 7 };
    Image::Agent.build(&origin, &[(Architecture::X86_64, vec![("flotilla-agent".to_owned(), elf)])]).unwrap()
}

/// Pushes by what blocks, where that may.
async fn push(address: &str, credentials: Option<Credentials>, image: &Layout) -> anyhow::Result<()> {
    let (address, image) = (address.to_owned(), image.clone());
    let push = move || Repository::new(&address, credentials)?.push(&image, "0.1.0");
    tokio::task::spawn_blocking(push).await?
}

async fn get(url: String) -> Vec<u8> {
    let request = reqwest::Client::new().get(&url).header("accept", format!("{INDEX}, {MANIFEST}, */*"));
    request.send().await.unwrap().error_for_status().unwrap().bytes().await.unwrap().to_vec()
}

#[tokio::test]
async fn a_pushed_image_is_in_the_registry_under_its_digest_and_its_tag_moves() {
    let registry = Registry::start().await.unwrap();
    let address = format!("{}/fleet/flotilla-agent", registry.host());
    let (one, other) = (image("1"), image("2"));
    for image in [&one, &one, &other] {
        push(&address, None, image).await.unwrap();
    }

    let base = format!("http://{}/v2/fleet/flotilla-agent", registry.host());
    for (reference, expected) in [(one.digest(), &one), ("0.1.0", &other)] {
        let index = get(format!("{base}/manifests/{reference}")).await;
        assert_eq!(digest(&index), expected.digest());
        for manifest in expected.manifests() {
            let manifest: Value =
                serde_json::from_slice(&get(format!("{base}/manifests/{manifest}")).await).unwrap();
            let layers = manifest["layers"].as_array().unwrap();
            for blob in layers.iter().chain([&manifest["config"]]) {
                let wanted = blob["digest"].as_str().unwrap();
                assert_eq!(digest(&get(format!("{base}/blobs/{wanted}")).await), wanted);
            }
        }
    }
}

/// A registry that lets in who has a token, and gives one to one user. It keeps the paths of what was put.
#[derive(Clone)]
struct Guarded {
    host: String,
    put: Arc<Mutex<Vec<String>>>,
}

async fn answer(
    State(guarded): State<Guarded>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    _: Bytes,
) -> Response {
    let authorization = headers.get("authorization").map(|value| value.to_str().unwrap());
    if uri.path() == "/token" {
        assert_eq!(uri.query(), Some("service=fleet&scope=repository%3Afleet%2Fagent%3Apull%2Cpush"));
        // jo:s3cret
        let known = authorization == Some("Basic am86czNjcmV0");
        let status = if known { StatusCode::OK } else { StatusCode::FORBIDDEN };
        return (status, json!({"token": "t0ken"}).to_string()).into_response();
    }
    if authorization != Some("Bearer t0ken") {
        let asked = format!("Bearer realm=\"http://{}/token\",service=\"fleet\"", guarded.host);
        return (StatusCode::UNAUTHORIZED, [("www-authenticate", asked)]).into_response();
    }
    match method {
        Method::HEAD => StatusCode::NOT_FOUND.into_response(),
        Method::POST => (StatusCode::ACCEPTED, [("location", "/upload?state=1")]).into_response(),
        Method::PUT => {
            guarded.put.lock().unwrap().push(uri.to_string());
            StatusCode::CREATED.into_response()
        }
        _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
}

#[tokio::test]
async fn who_pushes_is_told_to_a_registry_that_asks_and_the_tag_comes_last() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let guarded = Guarded { host: listener.local_addr().unwrap().to_string(), put: Arc::default() };
    let app = Router::new().fallback(answer).with_state(guarded.clone());
    let server = tokio::spawn(async move { axum::serve(listener, app).await });

    let (address, image) = (format!("{}/fleet/agent", guarded.host), image("1"));
    for wrong in [None, Some("guessed")] {
        let wrong =
            wrong.map(|password| Credentials { user: "jo".to_owned(), password: password.to_owned() });
        let error = push(&address, wrong, &image).await.unwrap_err();
        assert!(format!("{error:#}").contains("cannot get a token"), "{error:#}");
    }
    assert_eq!(*guarded.put.lock().unwrap(), [""; 0]);

    let right = Credentials { user: "jo".to_owned(), password: "s3cret".to_owned() };
    push(&address, Some(right), &image).await.unwrap();
    let contents =
        image.contents().map(|(digest, _)| format!("/upload?state=1&digest={}", digest.replace(':', "%3A")));
    let manifests = image.manifests();
    let manifests = manifests.iter().map(String::as_str).chain(["0.1.0"]);
    let expected: Vec<_> =
        contents.chain(manifests.map(|reference| format!("/v2/fleet/agent/manifests/{reference}"))).collect();
    assert_eq!(*guarded.put.lock().unwrap(), expected);
    server.abort();
}
