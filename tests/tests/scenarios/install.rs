//! A cluster joins by one command and leaves by one: the CLI with a real API server, its pod security and its RBAC. No node runs
//! the image here: the agent is the program, with the token and the rights that the manifests gave it.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use flotilla_api::ConnectionState;
use flotilla_tests::fleet::{Agent, Fleet, HubOptions, SOON};
use flotilla_tests::git::Repo;
use flotilla_tests::git::file;
use flotilla_tests::manifests::{app, config_map};
use flotilla_tests::objects::ObjectRef;
use flotilla_tests::process::Recipe;
use flotilla_tests::wait::eventually;
use flotilla_tests::{Cluster, ClusterOptions, Clusters};
use kube::config::Kubeconfig;
use serde_json::{Value, json};

use crate::config;

fn join_secret() -> ObjectRef {
    ObjectRef::new("v1", "Secret", "flotilla-system", "flotilla-join")
}

/// The join token that is in the cluster.
async fn token(cluster: &Cluster) -> Result<String> {
    let value =
        eventually(SOON, || async { join_secret().field(&cluster.client(), "/data/token").await }).await?;
    let text = value.as_str().context("the token is no text")?;
    Ok(String::from_utf8(base64::engine::general_purpose::STANDARD.decode(text)?)?)
}

/// A kubeconfig with which one is the agent's service account.
async fn as_agent(cluster: &Cluster, file: &Path) -> Result<()> {
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let path = "/api/v1/namespaces/flotilla-system/serviceaccounts/flotilla-agent/token";
    let request = http::Request::post(path)
        .header("content-type", "application/json")
        .body(serde_json::to_vec(&request)?)?;
    let answer: Value = cluster.client().request(request).await?;
    let mut kubeconfig = Kubeconfig::read_from(cluster.kubeconfig_path())?;
    for user in &mut kubeconfig.auth_infos {
        user.auth_info = Some(serde_json::from_value(json!({"token": answer["status"]["token"]}))?);
    }
    std::fs::write(file, serde_json::to_string(&kubeconfig)?)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_joins_by_one_command_and_leaves_by_one() {
    let repo = Repo::new().unwrap();
    let files = [app("edge", "app", &[]), file("apps/app/config.yaml", config_map("app", "1"))];
    repo.commit("begin", &files).unwrap();
    let url = repo.url();
    let options = HubOptions::default();
    let clusters = async { Clusters::new().await?.start_one("edge", &ClusterOptions::default()).await };
    let (cluster, fleet) =
        futures::future::try_join(clusters, Fleet::new(repo, &url, &options)).await.unwrap();
    let kubeconfig = cluster.kubeconfig_path().to_str().unwrap();
    let context = Kubeconfig::read_from(kubeconfig).unwrap().current_context.unwrap();
    let there = ["--context", &context, "--kubeconfig", kubeconfig];

    // What lacks is told before: this cluster has no storage class. The dry runs make nothing.
    let pre = [&["check", "--pre", "agent"], &there[..]].concat();
    let output = fleet.cli_output(&pre).await.unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.code() == Some(1) && printed.contains("no default storage class"), "{printed}");
    assert!(printed.contains("1 unknown: images are for amd64 and arm64"), "{printed}");
    assert_eq!(printed.matches("problem").count(), 2, "{printed}");
    let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "none",
        "metadata": {"name": "local", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}});
    flotilla_tests::objects::apply(&cluster.client(), "test", &class).await.unwrap();
    let node = ObjectRef::global("v1", "Node", "node-0");
    node.edit_status(&cluster.client(), json!({"nodeInfo": {"architecture": "arm64"}})).await.unwrap();
    let printed = fleet.cli(&pre).await.unwrap();
    assert!(printed.contains("you may make all its objects") && printed.contains("not yet"), "{printed}");
    let namespace = ObjectRef::global("v1", "Namespace", "flotilla-system");
    assert!(namespace.get(&cluster.client()).await.unwrap().is_none());

    // The command waits until the agent is connected.
    let add = [&["cluster", "add", "edge", "--rights", "cluster-admin", "--label", "tier=edge"], &there[..]]
        .concat();
    let agent = async {
        let token = token(&cluster).await?;
        let file = fleet.folder().join("agent.kubeconfig");
        as_agent(&cluster, &file).await?;
        Agent::start(&fleet.agent_folder("edge"), &file, Some(&token))
    };
    let (added, agent) = futures::future::join(fleet.cli_output(&add), agent).await;
    let (added, agent) = (added.unwrap(), agent.unwrap());
    let said = String::from_utf8_lossy(&added.stderr);
    assert!(added.status.success() && said.contains("is connected"), "{said}\n{}", agent.log().unwrap());
    fleet.in_sync(&["edge"]).await.unwrap();
    assert_eq!(fleet.cluster("edge").await.unwrap().labels["tier"], "edge");
    // What its agent reports by itself, and people select by.
    let of_arm = ["get", "clusters", "-l", "reported.flotilla.dev/architecture=arm64", "-o", "wide"];
    let reported = eventually(SOON, || async {
        let printed = fleet.cli(&of_arm).await?;
        ensure!(printed.contains("reported.flotilla.dev/nodes=1"), "{printed}");
        anyhow::Ok(())
    });
    reported.await.unwrap();
    assert_eq!(config("app").field(&cluster.client(), "/data/value").await.unwrap(), "1");

    // The pod was let in where the strictest pod security is enforced.
    let pod = ObjectRef::new("v1", "Pod", "flotilla-system", "flotilla-agent-0");
    let made = eventually(SOON, || async {
        ensure!(pod.get(&cluster.client()).await?.is_some(), "there is no pod");
        anyhow::Ok(())
    });
    made.await.unwrap();

    // Again it makes no token, and changes what the call says.
    let again = [&["cluster", "add", "edge", "--image", "registry.example.com/agent:2"], &there[..]].concat();
    let before = join_secret().field(&cluster.client(), "/data/token").await.unwrap();
    let output = fleet.cli_output(&again).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("has joined"), "{said}");
    assert_eq!(join_secret().field(&cluster.client(), "/data/token").await.unwrap(), before);
    let set = ObjectRef::new("apps/v1", "StatefulSet", "flotilla-system", "flotilla-agent");
    let image = set.field(&cluster.client(), "/spec/template/spec/containers/0/image").await.unwrap();
    assert_eq!(image, "registry.example.com/agent:2");

    // One cluster, one name: no token is made for another.
    let other = [&["cluster", "add", "other"], &there[..]].concat();
    let output = fleet.cli_output(&other).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{said}");
    assert!(said.contains("has the agent of cluster edge"), "{said}");
    assert!(!fleet.clusters().await.unwrap().contains_key("other"));

    // The way out: nothing by a dry run, nothing of another name, and then all but what the agent managed.
    let uninstall = async |more: &[&str]| {
        fleet.cli_output(&[&["uninstall", "cluster"], more, &there[..]].concat()).await.unwrap()
    };
    let dry = uninstall(&["edge", "--dry-run"]).await;
    let planned = String::from_utf8_lossy(&dry.stdout);
    assert!(dry.status.success(), "{}", String::from_utf8_lossy(&dry.stderr));
    for line in
        ["delete StatefulSet.apps flotilla-system/flotilla-agent", "keep   the namespace flotilla-system"]
    {
        assert!(planned.contains(line), "no '{line}' in {planned}");
    }
    assert_eq!(uninstall(&["other", "--dry-run"]).await.status.code(), Some(7));
    assert_eq!(uninstall(&["edge"]).await.status.code(), Some(2), "nobody confirmed it");
    assert!(set.get(&cluster.client()).await.unwrap().is_some());
    fleet.connected("edge").await.unwrap();
    let done = uninstall(&["edge", "--confirm", &context]).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(set.get(&cluster.client()).await.unwrap().is_none());
    let admin = "flotilla-agent-applies-everything";
    let binding = ObjectRef::global("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", admin);
    assert!(binding.get(&cluster.client()).await.unwrap().is_none());
    assert_eq!(config("app").field(&cluster.client(), "/data/value").await.unwrap(), "1");
    assert!(namespace.get(&cluster.client()).await.unwrap().is_some());
    assert_ne!(fleet.cluster("edge").await.unwrap().connection, ConnectionState::Connected);

    // The namespace with the inventories is deleted where it has nothing else, of whatever kind.
    let foreign = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "team", "namespace": "flotilla-system"}});
    flotilla_tests::objects::apply(&cluster.client(), "kubectl", &foreign).await.unwrap();
    let delete_namespace = async |more: &[&str]| {
        let args = [&["uninstall", "agent", "--delete-namespace"], more, &there[..]].concat();
        let output = fleet.cli_output(&args).await.unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = delete_namespace(&["--confirm", &context]).await;
    assert!(code == Some(7) && said.contains("1 objects of others: Secret flotilla-system/team"), "{said}");
    let secret = ObjectRef::new("v1", "Secret", "flotilla-system", "team");
    secret.delete(&cluster.client()).await.unwrap();
    let (code, said) = delete_namespace(&["--confirm", &context]).await;
    assert_eq!(code, Some(0), "{said}");
    let gone = eventually(SOON, || async {
        ensure!(namespace.get(&cluster.client()).await?.is_none(), "the namespace is there");
        anyhow::Ok(())
    });
    gone.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_is_installed_by_one_command_and_its_volume_stays() {
    let cluster = Clusters::new().await.unwrap().start_one("hub", &ClusterOptions::default()).await.unwrap();
    let kubeconfig = cluster.kubeconfig_path().to_str().unwrap();
    let context = Kubeconfig::read_from(kubeconfig).unwrap().current_context.unwrap();
    let there = ["--context", &context, "--kubeconfig", kubeconfig];
    let run = async |args: &[&str]| {
        let args = [args, &there[..]].concat();
        let output = Recipe::own("flotilla").unwrap().args(args).output(SOON).await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned(), said)
    };
    let settings = [
        "hub",
        "install",
        "--repo",
        "https://git.example.com/fleet.git",
        "--advertise",
        "hub.example.com:8443",
    ];
    // The node of this cluster runs no image: its kubelet says of every pod that it is ready.
    let (code, _, said) = run(&settings).await;
    assert_eq!(code, Some(0), "{said}");
    let map = ObjectRef::new("v1", "ConfigMap", "flotilla-hub", "flotilla-hub");
    let data = map.field(&cluster.client(), "/data").await.unwrap();
    assert_eq!(
        (&data["FLOTILLA_ADVERTISE"], &data["FLOTILLA_HOST"]),
        (&json!("hub.example.com:8443"), &json!("hub.example.com"))
    );
    let (code, _, said) = run(&[&settings[..], &["--image", "registry.example.com/hub:2"]].concat()).await;
    assert_eq!(code, Some(0), "{said}");
    let pod = ObjectRef::new("v1", "Pod", "flotilla-hub", "flotilla-hub-0");
    let image = pod.field(&cluster.client(), "/spec/containers/0/image").await.unwrap();
    assert_eq!(image, "registry.example.com/hub:2");

    let (code, planned, said) = run(&["uninstall", "hub", "--dry-run"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(planned.contains("delete StatefulSet.apps flotilla-hub/flotilla-hub"), "{planned}");
    assert!(planned.contains("keep   the namespace flotilla-hub with the hub's volume"), "{planned}");
    let set = ObjectRef::new("apps/v1", "StatefulSet", "flotilla-hub", "flotilla-hub");
    assert!(set.get(&cluster.client()).await.unwrap().is_some());
    let (code, _, said) = run(&["uninstall", "hub", "--confirm", &context]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(
        set.get(&cluster.client()).await.unwrap().is_none()
            && map.get(&cluster.client()).await.unwrap().is_none()
    );
    let volume = ObjectRef::new("v1", "PersistentVolumeClaim", "flotilla-hub", "data-flotilla-hub-0");
    assert!(volume.get(&cluster.client()).await.unwrap().is_some());
    let (code, planned, said) = run(&["uninstall", "hub", "--delete-data", "--dry-run"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(planned.contains("delete PersistentVolumeClaim flotilla-hub/data-flotilla-hub-0"), "{planned}");
    assert!(planned.contains("keep   the namespace flotilla-hub with what else is in it"), "{planned}");
}

/// Lets no pod with this image in.
async fn refuse_image(client: &kube::Client, image: &str) -> Result<()> {
    let kind = "admissionregistration.k8s.io/v1";
    let rule = format!("object.spec.containers.all(c, c.image != '{image}')");
    let policy = json!({"apiVersion": kind, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "no-image"}, "spec": {
        "matchConstraints": {"resourceRules": [
            {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]},
        "validations": [{"expression": rule}]}});
    let binding = json!({"apiVersion": kind, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": "no-image"},
        "spec": {"policyName": "no-image", "validationActions": ["Deny"]}});
    for object in [policy, binding] {
        flotilla_tests::objects::apply(client, "test", &object).await?;
    }
    let pod: kube::api::DynamicObject = serde_json::from_value(json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "probe"}, "spec": {"containers": [{"name": "a", "image": image}]}}))?;
    let pods = flotilla_tests::objects::api(client, "v1", "Pod", Some("default"));
    let probe = kube::api::PostParams { dry_run: true, ..kube::api::PostParams::default() };
    eventually(SOON, || async {
        let refused =
            pods.create(&probe, &pod).await.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(refused.contains("no-image"), "it is let in: {refused}");
        anyhow::Ok(())
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_is_upgraded_after_a_backup_and_goes_back_where_the_new_one_is_not_ready() {
    let repo = Repo::new().unwrap();
    repo.commit("begin", &[file("clusters/one/config.yaml", config_map("own", "1"))]).unwrap();
    let url = repo.url();
    let clusters = async { Clusters::new().await?.start_one("hub", &ClusterOptions::default()).await };
    let (cluster, fleet) =
        futures::future::try_join(clusters, Fleet::new(repo, &url, &HubOptions::default())).await.unwrap();
    let kubeconfig = cluster.kubeconfig_path().to_str().unwrap();
    let context = Kubeconfig::read_from(kubeconfig).unwrap().current_context.unwrap();
    let there = ["--context", &context, "--kubeconfig", kubeconfig];
    let run = async |args: &[&str]| {
        let output = fleet.cli_output(&[args, &there[..]].concat()).await.unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    // The hub that answers is a process; what the cluster has of it are its objects.
    let address = fleet.status().await.unwrap().addresses.join(",");
    let settings = ["hub", "install", "--repo", "https://git.example.com/fleet.git", "--image", "hub:1"];
    let install = async |address: &str| {
        let (code, said) =
            run(&[&settings[..], &["--advertise", address, "--egress-port", "3000"]].concat()).await;
        assert_eq!(code, Some(0), "{said}");
    };
    let set = ObjectRef::new("apps/v1", "StatefulSet", "flotilla-hub", "flotilla-hub");
    let pod = ObjectRef::new("v1", "Pod", "flotilla-hub", "flotilla-hub-0");
    let image = async || pod.field(&cluster.client(), "/spec/containers/0/image").await.unwrap();
    let work = tempfile::tempdir().unwrap();
    let backup = work.path().join("before").display().to_string();
    let upgrade = async |image: &str, more: &[&str]| {
        run(&[&["hub", "upgrade", "--image", image, "--timeout", "8s"], more].concat()).await
    };
    assert_eq!(upgrade("hub:2", &["--backup", &backup]).await.0, Some(6), "there is no hub");

    install("other.example.com:8443").await;
    let (code, said) = upgrade("hub:2", &["--backup", &backup]).await;
    assert!(code == Some(7) && said.contains("not the same"), "{said}");
    assert!(image().await == "hub:1" && !Path::new(&backup).exists());

    install(&address).await;
    let map = ObjectRef::new("v1", "ConfigMap", "flotilla-hub", "flotilla-hub");
    let data = map.field(&cluster.client(), "/data").await.unwrap();
    let (code, said) = upgrade("hub:2", &["--backup", &backup]).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!((image().await, map.field(&cluster.client(), "/data").await.unwrap()), (json!("hub:2"), data));
    let restored = work.path().join("restored").display().to_string();
    let restore = Recipe::own("flotilla-hub").unwrap().args(["restore", "--data", &restored, &backup]);
    let restore = restore.output(SOON).await.unwrap();
    assert!(restore.status.success(), "{}", String::from_utf8_lossy(&restore.stderr));
    let (code, said) = upgrade("hub:3", &["--backup", &backup]).await;
    assert!(code == Some(2) && said.contains("is there already"), "{said}");

    refuse_image(&cluster.client(), "hub:4").await.unwrap();
    let (code, said) = upgrade("hub:4", &["--no-backup"]).await;
    assert!(code == Some(9) && said.contains("and hub:2 is back"), "{said}");
    assert_eq!(image().await, "hub:2");
    assert_eq!(set.field(&cluster.client(), "/status/readyReplicas").await.unwrap(), 1);

    // Backups by the time, the oldest deleted; what is named otherwise stays.
    let folder = work.path().join("backups");
    std::fs::create_dir(&folder).unwrap();
    for name in ["20200101T000000Z.flotilla-backup", "20210101T000000Z.flotilla-backup", "mine"] {
        std::fs::write(folder.join(name), "").unwrap();
    }
    fleet.cli(&["hub", "backup", "--into", folder.to_str().unwrap(), "--keep", "2"]).await.unwrap();
    let mut left: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(
        (left.len(), &left[0][..], &left[2][..]),
        (3, "20210101T000000Z.flotilla-backup", "mine"),
        "{left:?}"
    );
}
