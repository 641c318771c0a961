//! Flotilla's own parts in a cluster: the manifests that put them there, and the way into the cluster.

pub(crate) mod agent;
pub(crate) mod kubernetes;
