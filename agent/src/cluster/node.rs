//! The node that the agent runs on: what a hub may call it by.

use std::path::Path;

use flotilla_core::nodes::NodeFacts;
use flotilla_runtime::{chain, files};
use serde::Deserialize;

use super::path::segment;
use super::{Cluster, Failure, Identity};

const HOSTNAME: &str = "/proc/sys/kernel/hostname";
const MACHINE_ID: &str = "/etc/machine-id";

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
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Answer {
        status: Status,
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
    }
    let path = format!("/api/v1/nodes/{}", segment(name)?);
    Ok(Cluster::new(client.clone(), 1).get_path::<Answer>(path).await?.status.node_info.machine_id)
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
