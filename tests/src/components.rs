//! The flags that the components of a control plane run with, and how to reach them.

use std::path::Path;

use anyhow::Result;
use base64::Engine;
use serde_json::json;

use crate::Port;
use crate::cluster::{ClusterOptions, ControllerManager};
use crate::controlplane::{Component, ControlPlane};
use crate::etcd::Etcd;
use crate::process::Recipe;

const CONTROLLERS: &[&str] = &[
    "namespace-controller",
    "garbage-collector-controller",
    "deployment-controller",
    "replicaset-controller",
    "statefulset-controller",
    "daemonset-controller",
    "job-controller",
    "cronjob-controller",
    "disruption-controller",
    "ttl-after-finished-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "endpointslice-controller",
    "resourcequota-controller",
    "clusterrole-aggregation-controller",
    "root-ca-certificate-publisher-controller",
    "persistentvolume-binder-controller",
    // Without these two a deleted claim or volume stays for ever: admission gives it a finalizer.
    "persistentvolumeclaim-protection-controller",
    "persistentvolume-protection-controller",
];

/// A kubeconfig for the user with all rights. `ca` is PEM, `None` for plain HTTP.
pub(crate) fn kubeconfig(name: &str, url: &str, ca: Option<&str>, token: &str) -> serde_json::Value {
    let mut cluster = json!({"server": url});
    if let Some(ca) = ca {
        cluster["certificate-authority-data"] = json!(base64::engine::general_purpose::STANDARD.encode(ca));
    }
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    })
}

pub(crate) fn apiserver(
    programs: &ControlPlane,
    folder: &Path,
    port: &Port,
    etcd: &Etcd,
    options: &ClusterOptions,
) -> Result<Recipe> {
    let file = |name: &str| folder.join(name).display().to_string();
    let recipe = programs.recipe(Component::ApiServer)?.owning(folder).args([
        format!("--etcd-servers={}", etcd.url()),
        format!("--etcd-prefix={}", etcd.new_prefix()),
        "--bind-address=127.0.0.1".into(),
        "--advertise-address=127.0.0.1".into(),
        format!("--secure-port={}", port.number()),
        // Nobody would be at the address that it publishes.
        "--endpoint-reconciler-type=none".into(),
        format!("--tls-cert-file={}", file("server.crt")),
        format!("--tls-private-key-file={}", file("server.key")),
        format!("--token-auth-file={}", file("tokens.csv")),
        "--authorization-mode=RBAC".into(),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".into(),
        format!("--service-account-key-file={}", file("sa.pub")),
        format!("--service-account-signing-key-file={}", file("sa.key")),
        "--service-cluster-ip-range=10.96.0.0/16".into(),
        // As kind and k3s do.
        "--allow-privileged=true".into(),
        "--profiling=false".into(),
    ]);
    Ok(recipe.args(&options.apiserver_flags))
}

pub(crate) fn controller_manager(
    programs: &ControlPlane,
    folder: &Path,
    limits: ControllerManager,
) -> Result<Recipe> {
    let file = |name: &str| folder.join(name).display().to_string();
    Ok(programs.recipe(Component::ControllerManager)?.owning(folder).args([
        format!("--kubeconfig={}", file("kubeconfig")),
        format!("--controllers={}", CONTROLLERS.join(",")),
        "--leader-elect=false".into(),
        format!("--kube-api-qps={}", limits.qps),
        format!("--kube-api-burst={}", limits.burst),
        format!("--service-account-private-key-file={}", file("sa.key")),
        format!("--root-ca-file={}", file("ca.crt")),
        "--secure-port=0".into(),
        "--profiling=false".into(),
    ]))
}
