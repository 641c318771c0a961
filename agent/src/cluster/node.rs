//! The node that the agent runs on: what a hub may call it by. And what all nodes of the cluster are.

use std::collections::HashMap;
use std::path::Path;

use flotilla_core::nodes::NodeFacts;
use flotilla_core::reported::Nodes;
use flotilla_runtime::{chain, files};
use http::Method;
use serde::Deserialize;

use super::path::{encoded, segment};
use super::request::Call;
use super::{Cluster, Failure, Identity};

const HOSTNAME: &str = "/proc/sys/kernel/hostname";
const MACHINE_ID: &str = "/etc/machine-id";
/// Nodes in one answer of the API server. A node is some 10 KB long.
const PAGE: usize = 100;
const REGION: &str = "topology.kubernetes.io/region";

/// What there is to say of the node of this name; without one, of the machine of this process. The hostname of a pod says
/// nothing of its node. What cannot be told is empty.
pub async fn node(client: &kube::Client, name: Option<&str>, identity: &Identity) -> NodeFacts {
    let (hostname, machine_id) = match name {
        Some(name) => (name.to_owned(), machine_id_of(client, name).await),
        None if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() => Default::default(),
        None => (text(HOSTNAME), text(MACHINE_ID)),
    };
    NodeFacts { hostname, machine_id, cluster_uid: identity.uid.clone() }
}

async fn machine_id_of(client: &kube::Client, name: &str) -> String {
    asked_machine_id(client, name).await.unwrap_or_else(|error| {
        tracing::info!(node = name, "cannot ask for the node's machine id: {}", chain(&error));
        String::new()
    })
}

async fn asked_machine_id(client: &kube::Client, name: &str) -> Result<String, Failure> {
    let path = format!("/api/v1/nodes/{}", segment(name)?);
    Ok(Cluster::new(client.clone(), 1).get_path::<Node>(path).await?.status.node_info.machine_id)
}

/// Of a node, only what is needed.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Node {
    metadata: Metadata,
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    labels: HashMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    node_info: Info,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Info {
    #[serde(rename = "machineID")]
    machine_id: String,
    architecture: Option<String>,
}

impl Cluster {
    /// What the nodes of the cluster are, all together.
    pub(crate) async fn nodes(&self) -> Result<Nodes, Failure> {
        let mut nodes = Nodes::default();
        let mut more = String::new();
        loop {
            let call = Call::new(Method::GET, format!("/api/v1/nodes?limit={PAGE}{more}"));
            let page = self.ask_list::<Node>(call, "nodes").await?;
            for Node { metadata, status } in &page.items {
                nodes.add(
                    status.node_info.architecture.as_deref(),
                    metadata.labels.get(REGION).map(String::as_str),
                );
            }
            if page.more.is_empty() {
                return Ok(nodes);
            }
            more = format!("&continue={}", encoded(&page.more));
        }
    }
}

fn text(path: &str) -> String {
    match files::read_if_there(Path::new(path)) {
        Ok(bytes) => String::from_utf8_lossy(&bytes.unwrap_or_default()).trim().to_owned(),
        Err(error) => {
            tracing::info!("cannot say what this node is called: {}", chain(&error));
            String::new()
        }
    }
}
