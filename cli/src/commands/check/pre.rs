//! `flotilla check --pre`: what a cluster lacks for the agent or the hub, before anything is installed. Nothing is changed: rights
//! are told by dry runs.

use std::collections::{BTreeMap, BTreeSet};

use clap::ValueEnum;
use serde_json::Value;

use super::Check;
use crate::error::Error;
use crate::install::agent::{self, Agent, Rights};
use crate::install::hub::{self, Hub};
use crate::install::kubernetes::{Kubernetes, Trial};
use crate::output::clean;

/// What is to be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// An agent with the rights of --rights cluster-admin
    Agent,
    /// A hub
    Hub,
}

impl Part {
    fn objects(self) -> Vec<Value> {
        match self {
            Self::Agent => Agent {
                cluster: None,
                rights: Rights::ClusterAdmin,
                image: None,
                pull_secret: None,
                token: Some("a dry run"),
                hubs: &[],
                egress_ports: &[],
            }
            .objects(),
            Self::Hub => Hub {
                namespace: hub::NAMESPACE,
                settings: Vec::new(),
                image: None,
                pull_secret: None,
                git_password: Some("a dry run"),
                storage_class: None,
                egress_ports: Vec::new(),
                backup: None,
            }
            .objects(),
        }
    }

    fn place(self) -> (&'static str, &'static str) {
        match self {
            Self::Agent => (agent::NAMESPACE, agent::NAME),
            Self::Hub => (hub::NAMESPACE, hub::NAME),
        }
    }
}

/// What was seen of a cluster. `Err` is why something could not be looked at.
#[derive(Debug)]
struct Facts {
    version: (u32, u32, String),
    /// Their names, and whether they are the default.
    storage_classes: Result<Vec<(String, bool)>, String>,
    /// How many there are of each architecture.
    nodes: Result<BTreeMap<String, usize>, String>,
    /// What may not be made, with the reason.
    refused: Vec<(String, String)>,
    flux: bool,
    /// The StatefulSet, if it is there.
    installed: Option<Value>,
}

/// # Errors
/// If the cluster cannot be reached.
pub(super) async fn checks(kubernetes: &Kubernetes, part: Part) -> Result<Vec<Check>, Error> {
    let version = kubernetes.version().await?;
    let (namespace, name) = part.place();
    let mut refused = Vec::new();
    for object in part.objects() {
        let why = match kubernetes.trial(&object).await? {
            Trial::Works => continue,
            Trial::Refused(why) => why,
            // The namespace is one of the objects: only the right to make what is to be in it can be asked for.
            Trial::NoNamespace if kubernetes.may_create(&object).await? => continue,
            Trial::NoNamespace => "you may not create it".to_owned(),
        };
        refused.push((super::super::uninstall::name_of(&object), why));
    }
    let seen = |error: Error| error.chain();
    let classes = kubernetes.list("storage.k8s.io/v1", "StorageClass", "", "").await.map_err(seen);
    let nodes = kubernetes.list("v1", "Node", "", "").await.map_err(seen);
    let flux = BTreeSet::from(["kustomize.toolkit.fluxcd.io".to_owned()]);
    let facts = Facts {
        version,
        storage_classes: classes.map(|all| all.iter().map(class).collect()),
        nodes: nodes.map(|all| {
            let architectures = all.iter().map(|node| {
                let architecture = node["status"]["nodeInfo"]["architecture"].as_str();
                architecture.filter(|text| !text.is_empty()).unwrap_or("unknown").to_owned()
            });
            let mut counted = BTreeMap::new();
            architectures.for_each(|architecture| *counted.entry(architecture).or_default() += 1);
            counted
        }),
        refused,
        flux: !kubernetes.kinds(&flux).await?.is_empty(),
        installed: kubernetes.get("apps/v1", "StatefulSet", namespace, name).await?,
    };
    Ok(judge(part, &facts))
}

fn class(class: &Value) -> (String, bool) {
    let metadata = &class["metadata"];
    let is_default = metadata["annotations"]["storageclass.kubernetes.io/is-default-class"] == "true";
    (metadata["name"].as_str().unwrap_or_default().to_owned(), is_default)
}

fn judge(part: Part, facts: &Facts) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut add = |check, ok, message: String| checks.push(Check { check, ok, message: clean(&message) });
    let (major, minor, text) = &facts.version;
    match (*major, *minor) >= (1, 22) {
        true => add("kubernetes", true, text.clone()),
        false => add("kubernetes", false, format!("{text}: Server-Side Apply is complete from 1.22 on")),
    }
    match &facts.storage_classes {
        Err(why) => add("storage", false, format!("not known: {why}")),
        Ok(classes) => match classes.iter().find(|(_, is_default)| *is_default) {
            Some((name, _)) => add("storage", true, format!("default storage class {name}")),
            None => {
                let names: Vec<&str> = classes.iter().map(|(name, _)| &name[..]).collect();
                let what = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                let how = match part {
                    Part::Agent => "mark one as the default",
                    Part::Hub => "mark one as the default, or name one by --storage-class",
                };
                add(
                    "storage",
                    false,
                    format!(
                        "no default storage class, and the volume would wait for one; there is: {what}; {how}"
                    ),
                );
            }
        },
    }
    match &facts.nodes {
        Err(why) => add("nodes", false, format!("not known: {why}")),
        Ok(nodes) => {
            let counted: Vec<String> = nodes.iter().map(|(name, count)| format!("{count} {name}")).collect();
            let fits = ["amd64", "arm64"].iter().any(|it| nodes.contains_key(*it));
            let said = if counted.is_empty() { "none".to_owned() } else { counted.join(", ") };
            add("nodes", fits, if fits { said } else { format!("{said}: images are for amd64 and arm64") });
        }
    }
    match &facts.refused[..] {
        [] => add("rights", true, "you may make all its objects".to_owned()),
        refused => refused.iter().for_each(|(object, why)| add("rights", false, format!("{object}: {why}"))),
    }
    match (&facts.installed, part) {
        (None, _) => add("installed", true, "not yet".to_owned()),
        (Some(set), Part::Agent) => {
            let of = set["metadata"]["annotations"][agent::CLUSTER].as_str();
            let of = of.map_or_else(String::new, |name| format!(" of cluster {name}"));
            add("installed", true, format!("the agent{of} is there; `flotilla cluster add` upgrades it"));
        }
        (Some(_), Part::Hub) => {
            add("installed", true, "a hub is there; `flotilla hub upgrade` upgrades it".to_owned());
        }
    }
    if facts.flux && part == Part::Agent {
        add(
            "flux",
            true,
            "Flux is there: what it applies is left alone until `flotilla cluster adopt`".to_owned(),
        );
    }
    checks
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn facts() -> Facts {
        Facts {
            version: (1, 33, "v1.33.1+k3s1".into()),
            storage_classes: Ok(vec![("local-path".into(), true)]),
            nodes: Ok(BTreeMap::from([("arm64".to_owned(), 3)])),
            refused: Vec::new(),
            flux: false,
            installed: None,
        }
    }

    #[test]
    fn a_cluster_that_has_all_is_well() {
        let found = judge(Part::Agent, &facts());
        let said: Vec<&str> = found.iter().map(|check| &check.message[..]).collect();
        assert!(found.iter().all(|check| check.ok), "{said:?}");
        assert_eq!(
            said,
            [
                "v1.33.1+k3s1",
                "default storage class local-path",
                "3 arm64",
                "you may make all its objects",
                "not yet"
            ]
        );
        let there = Facts {
            flux: true,
            installed: Some(json!({"metadata": {"annotations": {"flotilla.dev/cluster": "edge"}}})),
            ..facts()
        };
        let found = judge(Part::Agent, &there);
        assert!(found.iter().all(|check| check.ok) && found[4].message.contains("cluster edge"), "{found:?}");
        assert!(found[5].message.contains("Flux is there"), "{found:?}");
    }

    #[test]
    fn what_lacks_and_what_is_not_known_is_a_problem() {
        for (facts, check, says) in [
            (Facts { version: (1, 21, "v1.21.0".into()), ..facts() }, "kubernetes", "1.22"),
            (
                Facts { storage_classes: Ok(vec![("slow".into(), false)]), ..facts() },
                "storage",
                "there is: slow",
            ),
            (Facts { storage_classes: Ok(vec![]), ..facts() }, "storage", "there is: none"),
            (
                Facts { storage_classes: Err("forbidden".into()), ..facts() },
                "storage",
                "not known: forbidden",
            ),
            (
                Facts { nodes: Ok(BTreeMap::from([("arm".to_owned(), 2)])), ..facts() },
                "nodes",
                "2 arm: images",
            ),
            (Facts { nodes: Err("forbidden".into()), ..facts() }, "nodes", "not known"),
            (
                Facts { refused: vec![("ClusterRole a".into(), "no".into())], ..facts() },
                "rights",
                "ClusterRole a: no",
            ),
        ] {
            let found = judge(Part::Hub, &facts);
            let problems: Vec<&Check> = found.iter().filter(|check| !check.ok).collect();
            assert_eq!((problems.len(), problems[0].check), (1, check), "{problems:?}");
            assert!(problems[0].message.contains(says), "{problems:?}");
        }
    }
}
