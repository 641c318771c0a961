//! The agent's manifests for one cluster: those of `deploy/`, with its image, its rights and its join token. Pure.

use clap::ValueEnum;
use flotilla_core::ClusterName;
use flotilla_runtime::tls::HubAddress;
use serde_json::{Value, json};

use super::{documents, let_call, secret, set_image};

const AGENT: &str = include_str!("../../../deploy/agent.yaml");
const READS_EVERYTHING: &str = include_str!("../../../deploy/agent-reads-everything.yaml");
const CLUSTER_ADMIN: &str = include_str!("../../../deploy/agent-cluster-admin.yaml");

/// Where the agent runs.
pub(crate) const NAMESPACE: &str = "flotilla-system";
/// The name of its StatefulSet.
pub(crate) const NAME: &str = "flotilla-agent";
/// On the agent's StatefulSet: as which cluster it joins.
pub(crate) const CLUSTER: &str = "flotilla.dev/cluster";
/// The Secret that the agent reads its join token from.
const JOIN_SECRET: &str = "flotilla-join";

/// What the agent may do in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Rights {
    /// Read the usual kinds; apply nothing but as service accounts that you let it act as
    #[default]
    Accounts,
    /// Read every kind too, Secrets included
    ReadEverything,
    /// Everything: units without a service account are applied with all rights
    ClusterAdmin,
}

/// What is particular to one cluster's agent.
#[derive(Debug)]
pub(crate) struct Agent<'a> {
    /// `None`: the agent says of its node what it is called by.
    pub cluster: Option<&'a ClusterName>,
    pub rights: Rights,
    /// In place of the image of this version.
    pub image: Option<&'a str>,
    /// Secret in the agent's namespace with the registry's credentials.
    pub pull_secret: Option<&'a str>,
    /// `None` for an agent that has joined: its identity is on its volume.
    pub token: Option<&'a str>,
    /// Where it calls.
    pub hubs: &'a [HubAddress],
    /// What else it may call beside the ports of https and of API servers.
    pub egress_ports: &'a [u16],
}

impl Agent<'_> {
    /// The objects, in an order in which they can be applied.
    pub(crate) fn objects(&self) -> Vec<Value> {
        let more = match self.rights {
            Rights::Accounts => None,
            Rights::ReadEverything => Some(READS_EVERYTHING),
            Rights::ClusterAdmin => Some(CLUSTER_ADMIN),
        };
        let mut objects: Vec<Value> = std::iter::once(AGENT).chain(more).flat_map(documents).collect();
        if let Some(token) = self.token {
            objects.push(secret(JOIN_SECRET, NAMESPACE, "token", token));
        }
        // The pod last: what it needs is there when it starts.
        objects.sort_by_key(|object| object["kind"] == "StatefulSet");
        for object in &mut objects {
            match object["kind"].as_str() {
                Some("StatefulSet") => self.set_pod(object),
                Some("NetworkPolicy") => {
                    let hubs = self.hubs.iter().map(HubAddress::port);
                    let_call(object, hubs.chain(self.egress_ports.iter().copied()));
                }
                _ => {}
            }
        }
        objects
    }

    fn set_pod(&self, stateful_set: &mut Value) {
        if let Some(cluster) = self.cluster {
            stateful_set["metadata"]["annotations"][CLUSTER] = json!(cluster.as_str());
        }
        set_image(stateful_set, self.image, self.pull_secret);
    }
}

/// All objects that an installation makes but the namespace, in the order in which they can be deleted.
pub(crate) fn installed() -> Vec<Value> {
    let mut objects: Vec<Value> =
        [AGENT, READS_EVERYTHING, CLUSTER_ADMIN].into_iter().flat_map(documents).collect();
    objects.retain(|object| object["kind"] != "Namespace");
    for (kind, name) in [("Secret", JOIN_SECRET), ("PersistentVolumeClaim", "state-flotilla-agent-0")] {
        objects.push(
            json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}}),
        );
    }
    // The pod first, so that it does not go on without its rights.
    objects.sort_by_key(|object| object["kind"] != "StatefulSet");
    objects
}

/// Whether an object in the agent's namespace is one that the agent, its installation or Kubernetes itself made there. What
/// only looks like one, by a label or a name, is somebody else's.
pub(crate) fn is_own(object: &Value) -> bool {
    let metadata = &object["metadata"];
    let (kind, name) =
        (object["kind"].as_str().unwrap_or_default(), metadata["name"].as_str().unwrap_or_default());
    let is_installed = || {
        installed().iter().any(|own| {
            (&own["kind"], &own["metadata"]["name"], &own["metadata"]["namespace"])
                == (&object["kind"], &metadata["name"], &json!(NAMESPACE))
        })
    };
    let of_statefulset = || {
        let owners = metadata["ownerReferences"].as_array().into_iter().flatten();
        owners.into_iter().any(|owner| owner["kind"] == "StatefulSet" && owner["name"] == NAME)
    };
    match kind {
        // Of what is in the namespace, or was.
        "Event" => true,
        "ServiceAccount" if name == "default" => true,
        "ConfigMap" if ["kube-root-ca.crt", "flotilla"].contains(&name) => true,
        "Secret" if name.starts_with("flotilla-adoption-") => true,
        "ConfigMap" if name.starts_with("flotilla-inventory-") => true,
        "Pod" | "ControllerRevision" if of_statefulset() => true,
        "PodMetrics" => name == format!("{NAME}-0"),
        _ => is_installed(),
    }
}

/// The name of the cluster whose agent a manifest installs, if it is one that was made here.
pub(crate) fn cluster_of(manifest: &str) -> Option<String> {
    let documents = flotilla_yaml::parse(manifest).ok()?;
    let objects = documents.iter().filter_map(|document| document.to_json().ok());
    objects.into_iter().find_map(|object| {
        let is_agent = object["kind"] == "StatefulSet" && object["metadata"]["name"] == NAME;
        is_agent.then(|| object["metadata"]["annotations"][CLUSTER].as_str().map(str::to_owned))?
    })
}

#[cfg(test)]
mod tests {
    use flotilla_yaml::Node;

    use super::*;

    fn objects(rights: Rights, token: Option<&str>) -> Vec<Value> {
        let cluster: ClusterName = "edge-1".parse().unwrap();
        let cluster = Some(&cluster);
        let hubs = ["hub.example.com:8443".parse().unwrap(), "10.0.0.1:30443".parse().unwrap()];
        let (image, pull_secret) = (Some("registry.example.com/agent@sha256:00"), Some("registry"));
        Agent { cluster, rights, image, pull_secret, token, hubs: &hubs, egress_ports: &[8200] }.objects()
    }

    fn bound(objects: &[Value]) -> Vec<&str> {
        let bindings = objects.iter().filter(|object| object["kind"] == "ClusterRoleBinding");
        bindings.map(|binding| binding["roleRef"]["name"].as_str().unwrap()).collect()
    }

    #[test]
    fn an_agent_has_the_rights_that_were_chosen_and_no_others() {
        for (rights, expected) in [
            (Rights::default(), vec!["flotilla-agent"]),
            (Rights::ReadEverything, vec!["flotilla-agent", "flotilla-agent-reads-everything"]),
            (Rights::ClusterAdmin, vec!["flotilla-agent", "cluster-admin"]),
        ] {
            assert_eq!(bound(&objects(rights, None)), expected, "{rights:?}");
        }
    }

    #[test]
    fn the_manifest_holds_image_token_cluster_and_ports_and_the_pod_comes_last() {
        let all = objects(Rights::default(), Some("flotilla.abc"));
        assert_eq!(all[0]["kind"], "Namespace");
        let pod = all.last().unwrap();
        assert_eq!(pod["metadata"]["annotations"][CLUSTER], "edge-1");
        let spec = &pod["spec"]["template"]["spec"];
        assert_eq!(spec["containers"][0]["image"], "registry.example.com/agent@sha256:00");
        assert_eq!(spec["imagePullSecrets"], json!([{"name": "registry"}]));
        let of_kind = |kind: &str| all.iter().filter(|object| object["kind"] == kind).collect::<Vec<_>>();
        let secrets = of_kind("Secret");
        assert_eq!(secrets.len(), 1);
        assert_eq!(secrets[0]["stringData"]["token"], "flotilla.abc");
        // The name that the pod mounts.
        let mounted =
            spec["volumes"].as_array().unwrap().iter().any(|it| it["secret"]["secretName"] == JOIN_SECRET);
        assert!(mounted, "{spec}");
        let ports = of_kind("NetworkPolicy")[0]["spec"]["egress"][1]["ports"].to_string();
        for port in ["8443", "30443", "8200"] {
            assert_eq!(ports.matches(port).count(), 1, "{port}: {ports}");
        }
        // An agent that has joined is given no token anew.
        assert!(objects(Rights::default(), None).iter().all(|object| object["kind"] != "Secret"));
    }

    #[test]
    fn all_that_is_installed_is_what_is_uninstalled() {
        let id = |object: &Value| {
            let metadata = &object["metadata"];
            format!("{} {} {}", object["kind"], metadata["namespace"], metadata["name"])
        };
        let removed: Vec<String> = installed().iter().map(id).collect();
        assert!(removed[0].contains("StatefulSet"), "{removed:?}");
        let all = [Rights::Accounts, Rights::ReadEverything, Rights::ClusterAdmin];
        for object in all.into_iter().flat_map(|rights| objects(rights, Some("t"))) {
            let stays = object["kind"] == "Namespace";
            assert_eq!(!stays, removed.contains(&id(&object)), "{object}");
        }
    }

    #[test]
    fn what_others_have_in_the_namespace_is_told_from_our_own() {
        let object = |kind: &str, name: &str, owner: &str| {
            let owners = json!([{"kind": "StatefulSet", "name": owner}]);
            json!({"kind": kind, "metadata": {"name": name, "namespace": NAMESPACE, "ownerReferences": owners,
                "labels": {"app.kubernetes.io/name": NAME}}})
        };
        for (kind, name, owner, own) in [
            ("StatefulSet", NAME, "", true),
            ("Secret", JOIN_SECRET, "", true),
            ("Secret", "flotilla-adoption-0", "", true),
            ("PersistentVolumeClaim", "state-flotilla-agent-0", "", true),
            ("ConfigMap", "flotilla-inventory-3-0", "", true),
            ("ConfigMap", "kube-root-ca.crt", "", true),
            ("ConfigMap", "flotilla", "", true),
            ("ServiceAccount", "default", "", true),
            ("Event", "anything", "", true),
            ("Pod", "flotilla-agent-0", NAME, true),
            ("ControllerRevision", "flotilla-agent-55c8", NAME, true),
            ("Pod", "flotilla-agent-1", "other", false),
            ("Secret", "team", "", false),
            ("ConfigMap", "team", NAME, false),
            ("PersistentVolumeClaim", "state-team-0", "", false),
            ("Deployment", NAME, "", false),
            ("Database", NAME, "", false),
        ] {
            assert_eq!(is_own(&object(kind, name, owner)), own, "{kind} {name}");
        }
    }

    #[test]
    fn a_manifest_says_whose_it_is() {
        let text = flotilla_yaml::write_documents(
            &objects(Rights::default(), None).iter().map(Node::from_json).collect::<Vec<_>>(),
        );
        assert_eq!(cluster_of(&text).as_deref(), Some("edge-1"));
        for other in [AGENT, "a: [", "", "kind: StatefulSet\nmetadata: {name: flotilla-agent}\n"] {
            assert_eq!(cluster_of(other), None, "{other}");
        }
    }
}
