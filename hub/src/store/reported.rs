//! What agents report of their clusters by themselves, as labels: see [`flotilla_core::reported`].

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::question::{Question, Reply};
use flotilla_core::reported;
use flotilla_core::{ClusterName, Digest};

use super::records::by_cluster;
use super::{Kubernetes, NodesRecord, Records, StoreError};

/// Records that the labels are made of.
const VERSIONS: &str = "kubernetes/";
const NODES: &str = "nodes/";

/// The labels of one cluster.
type Labels = BTreeMap<String, String>;

impl Records {
    /// The labels that a cluster's agent reports.
    pub fn reported(&self, cluster: &ClusterName) -> Result<Labels, StoreError> {
        let version = self.kubernetes_version(cluster)?;
        let nodes = self.nodes(cluster)?.map(|record| record.nodes);
        Ok(reported::labels(version.as_deref(), nodes.as_ref()))
    }

    /// Those of all clusters.
    pub fn all_reported(&self) -> Result<BTreeMap<ClusterName, Labels>, StoreError> {
        let versions: BTreeMap<_, Kubernetes> = by_cluster(self.list(VERSIONS)?)?;
        let nodes: BTreeMap<_, NodesRecord> = by_cluster(self.list(NODES)?)?;
        let names: BTreeSet<&ClusterName> = versions.keys().chain(nodes.keys()).collect();
        let labels = names.into_iter().map(|name| {
            let version = versions.get(name).map(|record| record.version.as_str());
            (name.clone(), reported::labels(version, nodes.get(name).map(|record| &record.nodes)))
        });
        Ok(labels.collect())
    }

    /// What an agent is asked for its labels, with the digest of what it last answered.
    pub fn question_of_nodes(&self, cluster: &ClusterName) -> Result<(Question, Option<Digest>), StoreError> {
        Ok((Question::nodes(), self.nodes(cluster)?.map(|record| record.digest)))
    }

    /// Takes what the nodes of a cluster are. An answer that says why that cannot be told takes nothing away.
    pub fn note_nodes(&self, cluster: &ClusterName, reply: &Reply) -> Result<(), StoreError> {
        let Reply::Nodes(nodes) = reply else { return Ok(()) };
        let record = NodesRecord { digest: reply.digest(), nodes: nodes.clone() };
        self.set(&key(cluster), None, |_| Some(record.clone())).map(|_: Option<NodesRecord>| ())
    }

    fn nodes(&self, cluster: &ClusterName) -> Result<Option<NodesRecord>, StoreError> {
        self.read(&key(cluster))
    }
}

fn key(cluster: &ClusterName) -> String {
    format!("{NODES}{cluster}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use flotilla_core::Capabilities;
    use flotilla_core::reported::Nodes;

    use super::*;
    use crate::store::{AuditRecord, MemoryStore};

    #[test]
    fn what_cannot_be_told_takes_nothing_away_and_a_cluster_that_is_deleted_leaves_nothing() {
        let records = Records::open(Arc::new(MemoryStore::default())).unwrap();
        let cluster: ClusterName = "edge".parse().unwrap();
        let mut nodes = Nodes::default();
        nodes.add(Some("arm64"), None);
        let reply = Reply::Nodes(nodes);
        records.note_nodes(&cluster, &reply).unwrap();
        records.note_agent(&cluster, "v1.33.1+k3s1", &Capabilities::default()).unwrap();
        let labels: Labels =
            [("architecture", "arm64"), ("distribution", "k3s"), ("kubernetes", "1.33"), ("nodes", "1")]
                .map(|(key, value)| (format!("{}{key}", reported::PREFIX), value.to_owned()))
                .into();
        for unknown in [Reply::Failed("500".into()), Reply::Refused("403".into())] {
            records.note_nodes(&cluster, &unknown).unwrap();
            assert_eq!(records.reported(&cluster).unwrap(), labels, "{unknown:?}");
        }
        assert_eq!(records.all_reported().unwrap(), [(cluster.clone(), labels)].into());
        assert_eq!(records.question_of_nodes(&cluster).unwrap().1, Some(reply.digest()));
        records.forget_cluster(&cluster, &AuditRecord::new(1, "t", "delete", "edge")).unwrap();
        assert!(records.reported(&cluster).unwrap().is_empty() && records.all_reported().unwrap().is_empty());
    }
}
