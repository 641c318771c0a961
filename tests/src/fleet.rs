//! A whole fleet: a bare repository, a hub, and an agent in each cluster, all as real programs.
//!
//! ```text
//!   Repo ──file:// or a GitServer──► Hub ──mTLS──► Agent ──(ApiProxy)──► Cluster
//!    ▲ commit                         ▲ flotilla (the CLI)                 ▲ objects
//!    └──────────────────────────── a scenario, the demo ───────────────────┘
//! ```
//!
//! What people would do is done with the CLI; what is claimed of a cluster is read from its API server.

mod agent;
mod hub;
mod view;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flotilla_api as api;
use kube::Client;
use tempfile::TempDir;

pub use self::agent::Agent;
pub use self::hub::{Hub, HubOptions};
pub use self::view::{errors, ready};
use crate::cluster::{Cluster, ClusterOptions, Clusters};
use crate::git::{Change, Repo};
use crate::marked;
use crate::proxy::ApiProxy;

/// Longer than anything should take; the machine may be busy with something else.
pub const SOON: Duration = Duration::from_secs(90);

/// A cluster with its agent.
#[derive(Debug)]
pub struct Member {
    // Before the cluster, so that it goes first.
    agent: Agent,
    proxy: Option<ApiProxy>,
    cluster: Cluster,
}

impl Member {
    /// The agent's program.
    pub fn agent(&mut self) -> &mut Agent {
        &mut self.agent
    }

    /// The cluster, to take its API server away.
    pub fn cluster(&mut self) -> &mut Cluster {
        &mut self.cluster
    }

    /// A client with all rights that does not go through the proxy.
    #[must_use]
    pub fn client(&self) -> Client {
        self.cluster.client()
    }

    /// What stands between the agent and its API server.
    ///
    /// # Panics
    /// If the member joined without a proxy.
    #[must_use]
    pub fn proxy(&self) -> &ApiProxy {
        self.proxy.as_ref().expect("this member joined without a proxy")
    }

    /// Where the agent's kubeconfig is.
    #[must_use]
    pub fn kubeconfig_path(&self) -> &Path {
        self.proxy.as_ref().map_or(self.cluster.kubeconfig_path(), ApiProxy::kubeconfig_path)
    }
}

/// A repository, a hub and its members. Everything goes on drop, and what hub and agents have written until then is searched for
/// [marked](crate::marked) Secrets.
#[derive(Debug)]
pub struct Fleet {
    members: BTreeMap<String, Member>,
    hub: Hub,
    repo: Repo,
    folder: TempDir,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        for member in self.members.values_mut() {
            member.agent.process().kill();
        }
        self.hub.process().kill();
        marked::none_in(self.folder.path()).expect("no value of a Secret is on a disk or in a log");
    }
}

impl Fleet {
    /// Clusters of these names (no more than an API server each), a repository with these files, a hub, an agent
    /// behind an [`ApiProxy`] in each cluster. Nothing has been applied yet when this returns.
    ///
    /// # Errors
    /// Whatever keeps one of them from starting.
    pub async fn start<const N: usize>(names: [&str; N], files: &[Change]) -> Result<Self> {
        Self::start_with(names, files, &ClusterOptions::bare()).await
    }

    /// As [`Fleet::start`], with more in the clusters.
    ///
    /// # Errors
    /// As [`Fleet::start`].
    pub async fn start_with<const N: usize>(
        names: [&str; N],
        files: &[Change],
        options: &ClusterOptions,
    ) -> Result<Self> {
        let repo = Repo::new()?;
        repo.commit("begin", files)?;
        let url = repo.url();
        let clusters = async { Clusters::new().await?.start(names, options).await };
        let hub_options = HubOptions::default();
        let fleet = Self::new(repo, &url, &hub_options);
        let (clusters, mut fleet) = futures::future::try_join(clusters, fleet).await?;
        for cluster in clusters {
            let name = cluster.name().to_owned();
            fleet.join_through_proxy(&name, cluster).await?;
        }
        Ok(fleet)
    }

    /// A hub that reads `repo` at `url`, without members.
    ///
    /// # Errors
    /// If the hub does not come up.
    pub async fn new(repo: Repo, url: &str, options: &HubOptions) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("flotilla-fleet-")
            .tempdir()
            .context("make a folder for the fleet")?;
        let hub = Hub::start(folder.path(), url, options).await?;
        Ok(Self { members: BTreeMap::new(), hub, repo, folder })
    }

    /// Enrols an agent for a cluster under a name.
    ///
    /// # Errors
    /// If the hub gives no token or the agent does not start.
    pub async fn join(&mut self, name: &str, cluster: Cluster) -> Result<()> {
        self.enrol(name, cluster, None).await
    }

    /// As [`Fleet::join`], with a proxy between the agent and its API server.
    ///
    /// # Errors
    /// As [`Fleet::join`], and for a cluster that is not the harness's.
    pub async fn join_through_proxy(&mut self, name: &str, cluster: Cluster) -> Result<()> {
        let proxy = ApiProxy::start(&cluster).await?;
        self.enrol(name, cluster, Some(proxy)).await
    }

    async fn enrol(&mut self, name: &str, cluster: Cluster, proxy: Option<ApiProxy>) -> Result<()> {
        let token = self.join_token(name, &[]).await?;
        let kubeconfig = proxy.as_ref().map_or(cluster.kubeconfig_path(), ApiProxy::kubeconfig_path);
        let agent = Agent::start(&self.agent_folder(name), kubeconfig, Some(&token))?;
        self.members.insert(name.to_owned(), Member { agent, proxy, cluster });
        Ok(())
    }

    /// A join token for a cluster, by the CLI.
    ///
    /// # Errors
    /// If the hub gives none.
    pub async fn join_token(&self, name: &str, more: &[&str]) -> Result<String> {
        let args = [&["cluster", "token", name, "-o", "json"], more].concat();
        Ok(self.json::<api::JoinToken>(&args).await?.token)
    }

    /// Where the agent of this name keeps its state; its log stands beside it.
    #[must_use]
    pub fn agent_folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("agent-{name}"))
    }

    /// The folder with the logs and states of hub and agents. Removed on drop.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves [`Fleet::folder`] where it is, for somebody to look into.
    pub fn keep_folder(&mut self) {
        self.folder.disable_cleanup(true);
    }

    /// The repository.
    #[must_use]
    pub fn repo(&self) -> &Repo {
        &self.repo
    }

    /// The hub's program.
    pub fn hub(&mut self) -> &mut Hub {
        &mut self.hub
    }

    /// The folder that the hub keeps its store in, for `flotilla --data`.
    #[must_use]
    pub fn data(&self) -> &Path {
        self.hub.data()
    }

    /// A member.
    ///
    /// # Panics
    /// If there is none of this name.
    pub fn member(&mut self, name: &str) -> &mut Member {
        self.members.get_mut(name).unwrap_or_else(|| panic!("no member {name}"))
    }

    /// A client with all rights in a member's cluster.
    ///
    /// # Panics
    /// If there is no member of this name.
    #[must_use]
    pub fn client(&self, name: &str) -> Client {
        self.members.get(name).unwrap_or_else(|| panic!("no member {name}")).client()
    }

    /// The names of the members.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.members.keys().cloned().collect()
    }

    /// Runs `flotilla` with these arguments and gives what it wrote to stdout.
    ///
    /// # Errors
    /// If it fails: with its exit code and what it wrote to stderr.
    pub async fn cli(&self, args: &[&str]) -> Result<String> {
        hub::stdout(args, self.cli_output(args).await?)
    }

    /// Runs `flotilla` as [`Fleet::cli`] does, for a command that waits for what a cluster does.
    ///
    /// # Errors
    /// If it fails, as in [`Fleet::cli`], or does not end within the limit.
    pub async fn cli_within(&self, limit: Duration, args: &[&str]) -> Result<String> {
        hub::stdout(args, self.hub.cli_within(limit, args).await?)
    }

    /// Runs `flotilla` with these arguments, whatever its exit code.
    ///
    /// # Errors
    /// If it does not start or does not end.
    pub async fn cli_output(&self, args: &[&str]) -> Result<Output> {
        let output = self.hub.cli(args).await?;
        let is_shown = marked::is_in(&output.stdout) || marked::is_in(&output.stderr);
        ensure!(!is_shown, "flotilla {args:?} shows a Secret's value");
        Ok(output)
    }

    /// Commits to the branch that the hub reads, and has the hub read it.
    ///
    /// # Errors
    /// If git or the hub refuses.
    pub async fn commit(&self, message: &str, changes: &[Change]) -> Result<String> {
        let commit = self.repo.commit(message, changes)?;
        self.reconcile().await?;
        Ok(commit)
    }

    /// Has the hub read the repository now, whatever it finds there. On a busy machine one round may take longer than the hub
    /// lets anybody wait; then it is asked again.
    ///
    /// # Errors
    /// If the CLI fails, as it does where the repository cannot be read.
    pub async fn reconcile(&self) -> Result<()> {
        const ROUNDS: u32 = 5;
        let mut round = 1;
        loop {
            let output = self.cli_output(&["reconcile"]).await?;
            match output.status.code() {
                // 1: there are problems, which scenarios make on purpose.
                Some(0 | 1) => return Ok(()),
                Some(9)
                    if round < ROUNDS
                        && String::from_utf8_lossy(&output.stderr).contains("did not finish") =>
                {
                    round += 1;
                }
                _ => return hub::stdout(&["reconcile"], output).map(drop),
            }
        }
    }
}
