//! Labels that agents report of their clusters: under a prefix of their own, beside those that Git gives.
//!
//! | label | value |
//! |---|---|
//! | `reported.flotilla.dev/kubernetes` | the minor version, as `1.33` |
//! | `reported.flotilla.dev/distribution` | `k3s`, `rke2`, `k0s`, `eks` or `gke`, where the version says it |
//! | `reported.flotilla.dev/architecture` | that of all nodes, as `arm64`; `mixed` |
//! | `reported.flotilla.dev/region` | `topology.kubernetes.io/region` of all nodes; `mixed` |
//! | `reported.flotilla.dev/nodes` | how many nodes there are |
//!
//! What is not known has no label. Whoever has an agent's identity can report anything.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// What the keys of all reported labels begin with. Nobody else gives labels that begin with it.
pub const PREFIX: &str = "reported.flotilla.dev/";

/// More architectures or regions than any cluster has.
pub const MAX_VALUES: usize = 100;
/// The longest value of a label.
const MAX_VALUE: usize = 63;

/// What distributions of Kubernetes have in their versions, as in `v1.33.1+k3s1` and `v1.33.1-eks-1234567`.
const DISTRIBUTIONS: [(&str, &str); 5] =
    [("+k3s", "k3s"), ("+rke2", "rke2"), ("+k0s", "k0s"), ("-eks-", "eks"), ("-gke.", "gke")];

/// What the nodes of a cluster are, all together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Nodes {
    pub count: u32,
    /// As in `status.nodeInfo.architecture`.
    pub architectures: BTreeSet<String>,
    /// Those that nodes have in their labels.
    pub regions: BTreeSet<String>,
}

impl Nodes {
    /// Takes another node.
    pub fn add(&mut self, architecture: Option<&str>, region: Option<&str>) {
        self.count = self.count.saturating_add(1);
        for (values, value) in [(&mut self.architectures, architecture), (&mut self.regions, region)] {
            // Only whether there are several counts.
            if values.len() < MAX_VALUES {
                values.extend(value.filter(|value| is_value(value)).map(str::to_owned));
            }
        }
    }
}

/// Whether a label is one that agents report.
pub fn is_reported(key: &str) -> bool {
    key.starts_with(PREFIX)
}

/// The labels of a cluster, by the version of its Kubernetes (`v1.33.1+k3s1`) and by its nodes, as far as each is known.
pub fn labels(version: Option<&str>, nodes: Option<&Nodes>) -> BTreeMap<String, String> {
    let same = |values: &BTreeSet<String>| match values.len() {
        0 => None,
        1 => values.first().cloned(),
        _ => Some("mixed".to_owned()),
    };
    let distribution = |version: &str| {
        let (_, name) = DISTRIBUTIONS.iter().find(|(mark, _)| version.contains(mark))?;
        Some((*name).to_owned())
    };
    let labels = [
        ("kubernetes", version.and_then(minor)),
        ("distribution", version.and_then(distribution)),
        ("architecture", nodes.and_then(|nodes| same(&nodes.architectures))),
        ("region", nodes.and_then(|nodes| same(&nodes.regions))),
        ("nodes", nodes.map(|nodes| nodes.count.to_string())),
    ];
    let is_good = |value: &String| is_value(value);
    labels
        .into_iter()
        .filter_map(|(key, value)| Some((format!("{PREFIX}{key}"), value.filter(is_good)?)))
        .collect()
}

/// `1.33` of `v1.33.1+k3s1`.
fn minor(version: &str) -> Option<String> {
    let mut parts = version.strip_prefix('v').unwrap_or(version).splitn(3, '.');
    let number = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    // Some managed clusters have a minor version of `33+`.
    let (major, minor) = (parts.next()?, parts.next()?.trim_end_matches('+'));
    (number(major) && number(minor)).then(|| format!("{major}.{minor}"))
}

/// Whether this can be the value of a label, and says something.
fn is_value(text: &str) -> bool {
    let is_end = |c: char| c.is_ascii_alphanumeric();
    text.len() <= MAX_VALUE
        && text.starts_with(is_end)
        && text.ends_with(is_end)
        && text.chars().all(|c| is_end(c) || "-_.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(version: Option<&str>, nodes: Option<&Nodes>) -> String {
        let labels = labels(version, nodes);
        let shown =
            labels.iter().map(|(key, value)| format!("{}={value}", key.strip_prefix(PREFIX).unwrap()));
        shown.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn versions_say_minor_and_distribution() {
        for (version, expected) in [
            ("v1.33.1", "kubernetes=1.33"),
            ("v1.33.1+k3s1", "distribution=k3s kubernetes=1.33"),
            ("v1.30.4+rke2r1", "distribution=rke2 kubernetes=1.30"),
            ("v1.31.0+k0s.0", "distribution=k0s kubernetes=1.31"),
            ("v1.32.3-eks-4096722", "distribution=eks kubernetes=1.32"),
            ("v1.32.4-gke.1353003", "distribution=gke kubernetes=1.32"),
            ("1.33+", "kubernetes=1.33"),
            ("", ""),
            ("v1", ""),
            ("vone.two", ""),
        ] {
            assert_eq!(shown(Some(version), None), expected, "{version}");
        }
        assert_eq!(shown(None, None), "", "what is not known has no label");
    }

    #[test]
    fn nodes_say_what_all_of_them_are() {
        let nodes = |of: &[(&str, Option<&str>)]| {
            let mut nodes = Nodes::default();
            of.iter().for_each(|(architecture, region)| nodes.add(Some(architecture), *region));
            nodes
        };
        for (of, expected) in [
            (nodes(&[]), "nodes=0"),
            (nodes(&[("arm64", None)]), "architecture=arm64 nodes=1"),
            (nodes(&[("amd64", Some("eu-1")), ("amd64", None)]), "architecture=amd64 nodes=2 region=eu-1"),
            (
                nodes(&[("amd64", Some("eu-1")), ("arm64", Some("eu-2"))]),
                "architecture=mixed nodes=2 region=mixed",
            ),
            // What no label can hold is not one.
            (nodes(&[("a b", Some(&"x".repeat(64)))]), "nodes=1"),
        ] {
            assert_eq!(shown(None, Some(&of)), expected);
        }
    }
}
