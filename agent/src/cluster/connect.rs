//! The way into the cluster, by a kubeconfig that is followed: where it, or a certificate or key that it names, is replaced
//! on disk, requests go on with the new one. A `tokenFile`, and the token of a pod, are read anew by the client itself.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flotilla_runtime::chain;
use flotilla_runtime::lock;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use tokio::time::Instant;

/// Files are looked at no more often than this, and only where there are requests.
const LOOK: Duration = Duration::from_secs(1);

/// No client for the cluster could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("cannot read the kubeconfig {path}")]
    Kubeconfig { path: String, source: KubeconfigError },
    #[error("no access to the cluster: give a kubeconfig, or run in a pod with a service account")]
    Infer(#[source] kube::config::InferConfigError),
    #[error("cannot make a client for the cluster")]
    Client(#[source] kube::Error),
}

/// A client by a kubeconfig (its current context, or `context`), or as the surroundings say: `KUBECONFIG`,
/// `~/.kube/config`, the pod's service account. It retries nothing by itself; the engine does.
pub async fn connect(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<kube::Client, ConnectError> {
    let files = match kubeconfig {
        Some(path) => vec![path.to_owned()],
        None => surroundings(),
    };
    if files.is_empty() {
        let config = kube::Config::infer().await.map_err(ConnectError::Infer)?;
        return client(config);
    }
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let origin = Origin { files, options };
    let (config, named) = origin.read().await?;
    let namespace = config.default_namespace.clone();
    let state = State {
        client: client(config)?,
        stamps: stamps(&named),
        named,
        looked: Instant::now(),
        failed: None,
    };
    let followed = Arc::new(Followed { origin, state: Mutex::new(state) });
    let service = tower::service_fn(move |request| {
        let followed = followed.clone();
        async move { followed.client().await.send(request).await }
    });
    Ok(kube::Client::new(service, namespace))
}

fn client(mut config: kube::Config) -> Result<kube::Client, ConnectError> {
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(10));
    kube::Client::try_from(config).map_err(ConnectError::Client)
}

/// The kubeconfigs that there are where none is given, as kubectl finds them.
fn surroundings() -> Vec<PathBuf> {
    let named: Vec<PathBuf> = std::env::var_os("KUBECONFIG")
        .iter()
        .flat_map(std::env::split_paths)
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    let all = if named.is_empty() {
        std::env::home_dir().map(|home| home.join(".kube/config")).into_iter().collect()
    } else {
        named
    };
    // One that cannot be looked at is there: what is wrong with it is told where it is read.
    all.into_iter().filter(|path: &PathBuf| path.try_exists().unwrap_or(true)).collect()
}

/// Where the configuration comes from.
struct Origin {
    files: Vec<PathBuf>,
    options: KubeConfigOptions,
}

impl Origin {
    /// The configuration, and every file that it was read from.
    async fn read(&self) -> Result<(kube::Config, Vec<PathBuf>), ConnectError> {
        let failed = |source| ConnectError::Kubeconfig {
            path: self.files.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(":"),
            source,
        };
        let mut all = Kubeconfig::default();
        for path in &self.files {
            all = Kubeconfig::read_from(path).and_then(|next| all.merge(next)).map_err(failed)?;
        }
        let clusters = all.clusters.iter().filter_map(|named| named.cluster.as_ref());
        let users = all.auth_infos.iter().filter_map(|named| named.auth_info.as_ref());
        let named = clusters.filter_map(|cluster| cluster.certificate_authority.clone());
        let named = named.chain(
            users.flat_map(|user| [user.client_certificate.clone(), user.client_key.clone()]).flatten(),
        );
        let named: Vec<PathBuf> = self.files.iter().cloned().chain(named.map(PathBuf::from)).collect();
        let config = kube::Config::from_custom_kubeconfig(all, &self.options).await.map_err(failed)?;
        Ok((config, named))
    }
}

/// What of a file is another once it was written or replaced; none where it cannot be looked at.
type Stamp = Option<(i64, i64, u64, u64)>;

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.mtime(), metadata.mtime_nsec(), metadata.size(), metadata.ino()))
    };
    files.iter().map(stamp).collect()
}

/// A client that follows its files.
struct Followed {
    origin: Origin,
    state: Mutex<State>,
}

struct State {
    client: kube::Client,
    named: Vec<PathBuf>,
    stamps: Vec<Stamp>,
    looked: Instant,
    /// Why the files cannot be read, as it was told.
    failed: Option<String>,
}

impl Followed {
    /// The client of the moment. One that cannot be read, half written for example, leaves the one of before.
    async fn client(&self) -> kube::Client {
        {
            let mut state = lock(&self.state);
            if state.looked.elapsed() < LOOK {
                return state.client.clone();
            }
            state.looked = Instant::now();
            let now = stamps(&state.named);
            if now == state.stamps {
                return state.client.clone();
            }
            // Looked at once for each change of the files, however many requests there are.
            state.stamps = now;
        }
        let read = match self.origin.read().await {
            Ok((config, named)) => client(config).map(|client| (client, named)),
            Err(error) => Err(error),
        };
        let mut state = lock(&self.state);
        match read {
            Ok((client, named)) => {
                tracing::info!("the kubeconfig was replaced and is used from now on");
                state.client = client;
                state.failed = None;
                if named != state.named {
                    state.stamps = stamps(&named);
                    state.named = named;
                }
            }
            Err(error) => {
                // They may be good the next time though none of them changes: what keeps them from being read need not be
                // theirs.
                state.stamps.clear();
                let why = chain(&error);
                if state.failed.as_ref() != Some(&why) {
                    tracing::warn!("goes on with the previous kubeconfig: {why}");
                    state.failed = Some(why);
                }
            }
        }
        state.client.clone()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// An API server that tells who asks.
    async fn echo() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    let mut part = [0; 1024];
                    while !request.ends_with(b"\r\n\r\n") {
                        let read = stream.read(&mut part).await.unwrap();
                        if read == 0 {
                            return;
                        }
                        request.extend_from_slice(&part[..read]);
                    }
                    let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
                    let token = text.lines().find_map(|line| line.strip_prefix("authorization: bearer "));
                    let body = json!({"token": token.unwrap_or_default()}).to_string();
                    let head = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                        body.len()
                    );
                    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
                });
            }
        });
        format!("http://{address}")
    }

    fn kubeconfig(server: &str, user: &serde_json::Value) -> String {
        json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]})
        .to_string()
    }

    async fn asked_as(client: &kube::Client) -> String {
        let request = http::Request::get("/version").body(Vec::new()).unwrap();
        let answer: serde_json::Value = client.request(request).await.unwrap();
        answer["token"].as_str().unwrap().to_owned()
    }

    async fn until_asked_as(client: &kube::Client, token: &str) {
        let asked = async {
            while asked_as(client).await != token {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), asked).await.expect("the new token is used");
    }

    #[tokio::test]
    async fn a_kubeconfig_that_is_replaced_is_used() {
        let server = echo().await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        std::fs::write(&path, kubeconfig(&server, &json!({"token": "one"}))).unwrap();
        let client = connect(Some(&path), None).await.unwrap();
        assert_eq!(asked_as(&client).await, "one");

        // Written in place; then half of it; then another file in its place.
        std::fs::write(&path, kubeconfig(&server, &json!({"token": "two"}))).unwrap();
        until_asked_as(&client, "two").await;
        std::fs::write(&path, "apiVersion: v1\nusers: [{").unwrap();
        tokio::time::sleep(LOOK).await;
        assert_eq!(asked_as(&client).await, "two");
        let next = folder.path().join("next");
        std::fs::write(&next, kubeconfig(&server, &json!({"token": "three"}))).unwrap();
        std::fs::rename(&next, &path).unwrap();
        until_asked_as(&client, "three").await;
    }

    #[tokio::test]
    async fn what_a_kubeconfig_names_is_followed_too() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (crt, pem) = (file("a.crt", "a certificate"), file("a.key", "a key"));
        let user = json!({"client-certificate": "a.crt", "client-key": "a.key"});
        let config = file("config", &kubeconfig("https://127.0.0.1:1", &user));
        let origin = Origin { files: vec![config.clone()], options: KubeConfigOptions::default() };
        let (_, named) = origin.read().await.unwrap();
        assert_eq!(named, [config, crt.clone(), pem]);
        let before = stamps(&named);
        assert_eq!(stamps(&named), before);
        file("a.crt", "another certificate");
        assert_ne!(stamps(&named), before);
        std::fs::remove_file(crt).unwrap();
        assert_ne!(stamps(&named), before);
    }
}
