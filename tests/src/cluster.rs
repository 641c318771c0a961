//! Clusters: an API server each, most with a controller-manager and the fake kubelet.
//!
//! ```text
//!   Clusters::new ──► binaries, etcd
//!   Clusters::start(["staging", "production"]) ──► in parallel, for each:
//!        keys, token, kubeconfig ─► kube-apiserver ─► /readyz ─► kube-controller-manager, fake kubelet
//!        ─► ready when a pod could be made: the `default` service account is there
//! ```

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::components::{apiserver, controller_manager, kubeconfig};
use crate::controlplane::{ControlPlane, Progress};
use crate::etcd::Etcd;
use crate::process::{Process, tail};
use crate::wait::eventually;
use crate::{Port, kubelet, pki};

/// Generous: the machine may be busy with something else.
const READY_WITHIN: Duration = Duration::from_secs(180);

/// What a cluster consists of beside its API server.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// The controller-manager: workloads, garbage collection, namespace deletion. `None` saves 100 MB and a second.
    pub controller_manager: Option<ControllerManager>,
    /// Whether pods become ready and jobs finish.
    pub fake_kubelet: bool,
    /// More flags for the API server, after the harness's own.
    pub apiserver_flags: Vec<String>,
}

/// The controller-manager's rate limits towards the API server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ControllerManager {
    /// Requests per second (its own default is 20).
    pub qps: u32,
    /// Requests at once (its own default is 30).
    pub burst: u32,
}

impl Default for ControllerManager {
    /// Limits that nobody reaches: the default ones would be what a benchmark measures.
    fn default() -> Self {
        Self { qps: 1000, burst: 1000 }
    }
}

impl Default for ClusterOptions {
    /// With controller-manager and fake kubelet.
    fn default() -> Self {
        Self {
            controller_manager: Some(ControllerManager::default()),
            fake_kubelet: true,
            apiserver_flags: Vec::new(),
        }
    }
}

impl ClusterOptions {
    /// An API server and nothing else: objects are stored, nothing acts on them.
    #[must_use]
    pub fn bare() -> Self {
        Self { controller_manager: None, fake_kubelet: false, apiserver_flags: Vec::new() }
    }
}

/// The means to start clusters: the binaries, and the etcd that all of them share.
#[derive(Debug, Clone)]
pub struct Clusters {
    programs: ControlPlane,
    etcd: Arc<Etcd>,
}

impl Clusters {
    /// Finds the binaries (or builds them, which takes minutes) and starts etcd.
    ///
    /// # Errors
    /// Where Go is needed and missing, or etcd does not start.
    pub async fn new() -> Result<Self> {
        Self::with_progress(|_| {}).await
    }

    /// As [`Clusters::new`], telling what is done about the binaries.
    ///
    /// # Errors
    /// As [`Clusters::new`].
    pub async fn with_progress(mut progress: impl FnMut(Progress) + Send + 'static) -> Result<Self> {
        let programs = tokio::task::spawn_blocking(move || ControlPlane::find_or_build(&mut progress))
            .await
            .context("find the control plane")??;
        let etcd = Etcd::shared(&programs).await?;
        Ok(Self { programs, etcd })
    }

    /// Starts clusters of these names at the same time and waits until all are ready.
    ///
    /// # Errors
    /// The first failure, with the last lines of the program concerned; the others are taken down.
    pub async fn start<const N: usize>(
        &self,
        names: [&str; N],
        options: &ClusterOptions,
    ) -> Result<[Cluster; N]> {
        let clusters = try_join_all(names.map(|name| self.start_one(name, options))).await?;
        clusters.try_into().map_err(|_| anyhow::anyhow!("as many clusters as names"))
    }

    /// Starts one cluster and waits until it is ready.
    ///
    /// # Errors
    /// As [`Clusters::start`].
    pub async fn start_one(&self, name: &str, options: &ClusterOptions) -> Result<Cluster> {
        Cluster::start(self, name, options).await.with_context(|| format!("start the cluster {name}"))
    }

    /// The resident memory of etcd, in bytes.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn etcd_resident_bytes(&self) -> Result<u64> {
        self.etcd.process().resident_bytes()
    }

    /// etcd's process id.
    #[must_use]
    pub fn etcd_pid(&self) -> Option<u32> {
        self.etcd.process().pid()
    }
}

/// A cluster to test with: one of ours, taken down on drop, or a context of the user's, left alone on drop.
pub struct Cluster {
    name: String,
    url: String,
    client: Client,
    kubeconfig: PathBuf,
    local: Option<Local>,
    // After `local`: programs go before the files that they use.
    folder: TempDir,
}

/// What runs here for a cluster of ours.
#[derive(Debug)]
struct Local {
    token: String,
    kubelet: Option<JoinHandle<()>>,
    controller_manager: Option<Process>,
    apiserver: Process,
    _port: Port,
    _etcd: Arc<Etcd>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("name", &self.name).field("url", &self.url).finish_non_exhaustive()
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if let Some(kubelet) = &self.kubelet {
            kubelet.abort();
        }
    }
}

impl Cluster {
    async fn start(clusters: &Clusters, name: &str, options: &ClusterOptions) -> Result<Self> {
        let folder = new_folder(name)?;
        let port = Port::reserve()?;
        let url = format!("https://127.0.0.1:{}", port.number());
        let ca = pki::write(folder.path(), name)?;
        let token = format!("{:032x}", rand::random::<u128>());
        let write = |file: &str, content: String| -> Result<PathBuf> {
            let path = folder.path().join(file);
            fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
            Ok(path)
        };
        write("tokens.csv", format!("{token},admin,admin,system:masters\n"))?;
        let kubeconfig = write("kubeconfig", kubeconfig(name, &url, Some(&ca), &token).to_string())?;

        let mut apiserver = apiserver(&clusters.programs, folder.path(), &port, &clusters.etcd, options)?
            .start(folder.path().join("kube-apiserver.log"))?
            .quiet_on_panic();
        let client = Client::try_from(client_config(&kubeconfig).await?)?;
        serving(&client, &mut apiserver).await?;

        let mut local = Local {
            token,
            kubelet: None,
            controller_manager: None,
            apiserver,
            _port: port,
            _etcd: clusters.etcd.clone(),
        };
        if let Some(limits) = options.controller_manager {
            let controller_manager = controller_manager(&clusters.programs, folder.path(), limits)?
                .start(folder.path().join("kube-controller-manager.log"))?
                .quiet_on_panic();
            local.controller_manager = Some(controller_manager);
        }
        if options.fake_kubelet {
            // It runs until it is aborted: its loop has no end of its own.
            local.kubelet = Some(tokio::spawn(kubelet::run(client.clone())));
        }
        let mut cluster = Self { name: name.to_owned(), url, client, kubeconfig, local: Some(local), folder };
        cluster.populated().await?;
        Ok(cluster)
    }

    /// A context of the user's kubeconfig (`KUBECONFIG`, or the default file). It must answer.
    ///
    /// # Errors
    /// If there is no such context, or its API server does not answer.
    pub async fn existing(context: &str) -> Result<Self> {
        Self::existing_in(Kubeconfig::read().context("read the kubeconfig")?, context).await
    }

    /// As [`Cluster::existing`], of a kubeconfig read elsewhere.
    ///
    /// # Errors
    /// As [`Cluster::existing`].
    pub async fn existing_in(mut config: Kubeconfig, context: &str) -> Result<Self> {
        let names: Vec<&str> = config.contexts.iter().map(|context| context.name.as_str()).collect();
        ensure!(
            names.contains(&context),
            "the kubeconfig has no context {context:?}, but: {}",
            names.join(", ")
        );
        config.current_context = Some(context.to_owned());
        // Only this context, so that whoever is given the file cannot mistake the cluster.
        config.contexts.retain(|each| each.name == context);
        let chosen = config.contexts[0].context.clone().unwrap_or_default();
        config.clusters.retain(|each| each.name == chosen.cluster);
        config.auth_infos.retain(|each| Some(&each.name) == chosen.user.as_ref());
        let url = config.clusters.first().and_then(|each| each.cluster.as_ref()?.server.clone());

        let folder = new_folder("context")?;
        let kubeconfig = folder.path().join("kubeconfig");
        fs::write(&kubeconfig, serde_json::to_string(&config)?)
            .with_context(|| format!("write {}", kubeconfig.display()))?;
        let client = Client::try_from(client_config(&kubeconfig).await?)?;
        client
            .apiserver_version()
            .await
            .with_context(|| format!("reach the cluster of the context {context}"))?;
        Ok(Self {
            name: context.to_owned(),
            url: url.with_context(|| format!("the context {context} has no server"))?,
            client,
            kubeconfig,
            local: None,
            folder,
        })
    }

    /// The name given at start, or the context's.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The API server's address, as `https://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A client with all rights. It belongs to the runtime that the cluster was started in.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// A kubeconfig with all rights and this cluster only.
    #[must_use]
    pub fn kubeconfig_path(&self) -> &Path {
        &self.kubeconfig
    }

    /// The content of [`Cluster::kubeconfig_path`]: JSON, which is YAML too.
    ///
    /// # Errors
    /// If somebody removed the file.
    pub fn kubeconfig(&self) -> Result<String> {
        fs::read_to_string(&self.kubeconfig).with_context(|| format!("read {}", self.kubeconfig.display()))
    }

    /// The bearer token of the user with all rights (group `system:masters`).
    ///
    /// # Errors
    /// For an existing context, which may have other credentials.
    pub fn token(&self) -> Result<&str> {
        Ok(&self.local()?.token)
    }

    /// A folder of this cluster's own, with its logs. Removed on drop.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Takes the API server away, at once. The other programs stay and try to reach it.
    ///
    /// # Errors
    /// For an existing context.
    pub fn stop_apiserver(&mut self) -> Result<()> {
        self.local_mut()?.apiserver.kill();
        Ok(())
    }

    /// Brings the API server back at the same address, and waits until it serves.
    ///
    /// # Errors
    /// For an existing context, or if it runs, or does not start.
    pub async fn start_apiserver(&mut self) -> Result<()> {
        let client = self.client.clone();
        let apiserver = &mut self.local_mut()?.apiserver;
        apiserver.start()?;
        serving(&client, apiserver).await
    }

    /// The API server's resident memory, in bytes.
    ///
    /// # Errors
    /// For an existing context, or while it is stopped.
    pub fn apiserver_resident_bytes(&self) -> Result<u64> {
        self.local()?.apiserver.resident_bytes()
    }

    /// The controller-manager's resident memory, in bytes.
    ///
    /// # Errors
    /// For an existing context, or where none runs.
    pub fn controller_manager_resident_bytes(&self) -> Result<u64> {
        self.local()?.controller_manager.as_ref().context("no controller-manager")?.resident_bytes()
    }

    /// The ids of the processes that run here for this cluster alone.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        let Some(local) = &self.local else { return Vec::new() };
        [Some(&local.apiserver), local.controller_manager.as_ref()]
            .into_iter()
            .flatten()
            .filter_map(Process::pid)
            .collect()
    }

    /// A client that says nobody's name and tries nothing twice: for forwarding what others say.
    pub(crate) async fn anonymous_client(&self) -> Result<Client> {
        let mut config = client_config(&self.kubeconfig).await?;
        config.auth_info = AuthInfo::default();
        config.default_retry = false;
        Ok(Client::try_from(config)?)
    }

    fn local(&self) -> Result<&Local> {
        self.local.as_ref().with_context(|| format!("{} is not a cluster of the harness", self.name))
    }

    fn local_mut(&mut self) -> Result<&mut Local> {
        self.local.as_mut().with_context(|| format!("{} is not a cluster of the harness", self.name))
    }

    /// Waits for what everybody expects in a cluster, and which comes a little after `/readyz`.
    async fn populated(&mut self) -> Result<()> {
        let client = self.client.clone();
        let Some(local) = &mut self.local else { return Ok(()) };
        let has_accounts = local.controller_manager.is_some();
        let populated = eventually(READY_WITHIN, || {
            let client = client.clone();
            let ended = local.controller_manager.as_mut().map(Process::ended);
            async move {
                if let Some(Some(status)) = ended.transpose()? {
                    return Ok(Some(status));
                }
                for name in ["default", "kube-system"] {
                    Api::<Namespace>::all(client.clone()).get_metadata(name).await?;
                }
                if has_accounts {
                    Api::<ServiceAccount>::namespaced(client, "default").get_metadata("default").await?;
                }
                anyhow::Ok(None)
            }
        })
        .await;
        let log = || local.controller_manager.as_ref().and_then(|it| it.log().ok()).unwrap_or_default();
        match populated {
            Ok(None) => Ok(()),
            Ok(Some(status)) => bail!("kube-controller-manager ended ({status}):\n{}", tail(&log(), 20)),
            Err(error) => {
                Err(error).with_context(|| format!("kube-controller-manager says:\n{}", tail(&log(), 20)))
            }
        }
    }
}

fn new_folder(name: &str) -> Result<TempDir> {
    let prefix = format!("flotilla-{name}-");
    tempfile::Builder::new().prefix(&prefix).tempdir().with_context(|| format!("make a folder for {name}"))
}

async fn client_config(kubeconfig: &Path) -> Result<Config> {
    let content = Kubeconfig::read_from(kubeconfig)?;
    let mut config = Config::from_custom_kubeconfig(content, &KubeConfigOptions::default())
        .await
        .with_context(|| format!("use {}", kubeconfig.display()))?;
    // No long waits on an API server that was taken away.
    config.connect_timeout = Some(Duration::from_secs(5));
    Ok(config)
}

/// Waits until the API server says that it is ready.
async fn serving(client: &Client, apiserver: &mut Process) -> Result<()> {
    let serving = eventually(READY_WITHIN, || {
        let ended = apiserver.ended();
        let client = client.clone();
        async move {
            if let Some(status) = ended? {
                return Ok(Some(status));
            }
            client.request_text(http::Request::get("/readyz").body(Vec::new())?).await?;
            anyhow::Ok(None)
        }
    })
    .await;
    match serving {
        Ok(None) => Ok(()),
        Ok(Some(status)) => bail!("kube-apiserver ended ({status}):\n{}", tail(&apiserver.log()?, 20)),
        Err(error) => {
            let log = apiserver.log().unwrap_or_default();
            Err(error).with_context(|| format!("kube-apiserver says:\n{}", tail(&log, 20)))
        }
    }
}
