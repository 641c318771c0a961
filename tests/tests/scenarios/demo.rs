//! The demo on clusters that exist: the tour passes, and what it made there goes. One kubeconfig has a credential
//! plugin and the other a client certificate, as those of clouds and of k3s have.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flotilla_tests::objects::list;
use flotilla_tests::process::Recipe;
use flotilla_tests::{Cluster, ClusterOptions, Clusters};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use serde_json::{Value, json};

/// The cluster's kubeconfig with another way to say who one is.
fn kubeconfig_with(cluster: &Cluster, user: Value, folder: &Path) -> Result<PathBuf> {
    let mut config: Value = serde_json::from_slice(&fs::read(cluster.kubeconfig_path())?)?;
    config["users"][0]["user"] = user;
    let path = folder.join(format!("{}.kubeconfig", cluster.name()));
    fs::write(&path, config.to_string())?;
    Ok(path)
}

/// A user whose credential a program prints.
fn by_plugin(cluster: &Cluster, folder: &Path) -> Result<Value> {
    let credential = json!({
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": cluster.token()?},
    });
    let path = folder.join("credential.json");
    fs::write(&path, credential.to_string())?;
    Ok(json!({"exec": {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "cat",
        "args": [path],
        "interactiveMode": "Never",
    }}))
}

/// The file of a CA for people's certificates, and a user of group `system:masters` with a certificate by it.
fn by_certificate(folder: &Path) -> Result<(PathBuf, Value)> {
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, "people");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;
    let path = folder.join("people-ca.crt");
    fs::write(&path, ca.pem())?;

    let mut person = CertificateParams::default();
    person.distinguished_name.push(DnType::CommonName, "ann");
    person.distinguished_name.push(DnType::OrganizationName, "system:masters");
    person.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate()?;
    let certificate = person.signed_by(&key, &ca)?;
    let user = json!({
        "client-certificate-data": STANDARD.encode(certificate.pem()),
        "client-key-data": STANDARD.encode(key.serialize_pem()),
    });
    Ok((path, user))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tour_passes_on_existing_clusters_and_leaves_them_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let (people, certificate) = by_certificate(folder.path()).unwrap();
    let options = ClusterOptions {
        apiserver_flags: vec![format!("--client-ca-file={}", people.display())],
        ..ClusterOptions::default()
    };
    let clusters = Clusters::new().await.unwrap();
    let [first, second] = clusters.start(["first", "second"], &options).await.unwrap();
    let plugin = by_plugin(&first, folder.path()).unwrap();
    let kubeconfigs = [(&first, plugin), (&second, certificate)]
        .map(|(cluster, user)| kubeconfig_with(cluster, user, folder.path()).unwrap().display().to_string());
    let demo = Recipe::new(env!("CARGO_BIN_EXE_flotilla-demo"))
        .args(["--exit", "--contexts", "first,second"])
        .env("KUBECONFIG", kubeconfigs.join(":"));
    let said = demo.stdout(Duration::from_secs(600)).await.unwrap();
    println!("{said}");
    assert!(said.contains("All 10 steps verified"), "{said}");
    for cluster in [&first, &second] {
        let client = cluster.client();
        for (api_version, kind) in
            [("v1", "Namespace"), ("apps/v1", "Deployment"), ("networking.k8s.io/v1", "NetworkPolicy")]
        {
            let left = list(&client, api_version, kind, None, "").await.unwrap();
            let names = left.iter().filter_map(|it| it.metadata.name.as_deref());
            let ours: Vec<_> = names
                .filter(|name| !name.starts_with("kube-") && !["default", "flotilla-system"].contains(name))
                .collect();
            assert!(ours.is_empty(), "{} still has {kind} {ours:?}", cluster.name());
        }
    }
}
