//! The cluster: requests to its API server, what it serves, and what was seen of our objects.
//!
//! ```text
//!   request  one request, bounded by concurrency; path  discovery  kind → path, follows new CRDs
//!   objects  apply, fold, get, delete           find    an object whose kind may not be served at the moment
//!   watch ──► members  what each of our objects looked like last
//!   access   what accounts may do            applyset, events  for people with kubectl
//!   values   what templates take their values from
//!   connect    the client, whose kubeconfig is followed         node    where the agent itself runs
//!   inventory  which objects are ours, in ConfigMaps    owners  live Flux owners that are respected
//! ```
//!
//! Objects are bytes on the way out; of answers only what health, drift and guards need is parsed.

mod access;
pub(crate) mod applyset;
mod concurrency;
mod connect;
pub(crate) mod discovery;
pub(crate) mod events;
pub(crate) mod find;
mod groups;
pub(crate) mod inventory;
pub(crate) mod members;
mod node;
pub(crate) mod objects;
pub(crate) mod owners;
pub(crate) mod path;
pub(crate) mod request;
pub(crate) mod values;
pub(crate) mod watch;

use std::sync::Arc;

use flotilla_core::ServiceAccount;
use serde::Deserialize;

use concurrency::ConcurrencyLimit;
pub use connect::{ConnectError, connect};
use discovery::Discovery;
pub use node::node;
pub use request::Failure;

/// The namespace of the agent and its inventory.
pub const SYSTEM_NAMESPACE: &str = "flotilla-system";
/// The label that limits watches to our objects. Controllers copy labels, so it is never a reason to delete.
pub const UNIT_LABEL: &str = "flotilla.dev/unit";

/// Who a cluster is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The uid of the namespace kube-system.
    pub uid: String,
    /// As `v1.36.3`.
    pub version: String,
}

/// Asks the API server who it is.
pub async fn identity(client: &kube::Client) -> Result<Identity, Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        git_version: String,
    }
    let cluster = Cluster::new(client.clone(), 2);
    let call = request::Call::new(http::Method::GET, "/api/v1/namespaces/kube-system");
    let namespace: flotilla_core::live::Live = cluster.ask_for(call, "Namespace", "kube-system").await?;
    let version: Version = cluster.get_path("/version").await?;
    Ok(Identity { uid: namespace.metadata.uid, version: version.git_version })
}

/// The API server, with what was learnt of it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Cluster {
    inner: Arc<Inner>,
    /// The account in whose name requests are made; the agent's own without.
    account: Option<Arc<str>>,
}

struct Inner {
    client: kube::Client,
    limit: ConcurrencyLimit,
    discovery: Discovery,
}

impl Cluster {
    pub(crate) fn new(client: kube::Client, in_flight: usize) -> Self {
        let inner =
            Inner { client, limit: ConcurrencyLimit::new(in_flight), discovery: Discovery::default() };
        Self { inner: Arc::new(inner), account: None }
    }

    /// The same cluster, to which every request is made in the name of this account.
    pub(crate) fn acting_as(&self, account: Option<&ServiceAccount>) -> Self {
        Self { inner: self.inner.clone(), account: account.map(|account| account.user().into()) }
    }

    /// The agent itself: what it serves, guards and books is no business of accounts.
    pub(crate) fn itself(&self) -> Self {
        self.acting_as(None)
    }

    pub(crate) fn discovery(&self) -> &Discovery {
        &self.inner.discovery
    }
}
