//! The harness itself, on real API servers: clusters come up, work as clusters do, go away for good.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use flotilla_tests::controlplane::Progress;
use flotilla_tests::objects::{self, ObjectRef, apply, list};
use flotilla_tests::process::{Recipe, is_alive};
use flotilla_tests::proxy::{ApiProxy, Fault};
use flotilla_tests::wait::{always, eventually};
use flotilla_tests::{Cluster, ClusterOptions, Clusters, NOT_READY_ANNOTATION};
use futures::StreamExt;
use kube::config::Kubeconfig;
use kube::runtime::watcher::{Event, watcher};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);

fn deployment(name: &str, replicas: u32) -> Value {
    let labels = json!({"app": name});
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}},
        },
    })
}

fn object(kind: &str, name: &str) -> ObjectRef {
    let api_version = if kind == "Job" { "batch/v1" } else { "apps/v1" };
    ObjectRef::new(api_version, kind, "shop", name)
}

async fn field_becomes(cluster: &Cluster, object: &ObjectRef, pointer: &str, wanted: Value) -> Result<()> {
    let client = cluster.client();
    let became = eventually(SOON, || async {
        let value = object.field(&client, pointer).await?;
        ensure!(value == wanted, "{object}: {pointer} is {value}, not {wanted}");
        anyhow::Ok(())
    });
    Ok(became.await?)
}

async fn workloads(cluster: &Cluster) -> Result<()> {
    let client = cluster.client();
    let run = async |manifest: Value| apply(&client, "tester", &manifest).await;
    run(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})).await?;
    run(deployment("web", 2)).await?;
    field_becomes(cluster, &object("Deployment", "web"), "/status/readyReplicas", json!(2)).await?;

    let pod =
        json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "once", "image": "once:1"}]}});
    run(json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "once", "namespace": "shop"},
        "spec": {"template": pod},
    }))
    .await?;
    let mut daemon = deployment("daemon", 1);
    daemon["kind"] = json!("DaemonSet");
    daemon["spec"].as_object_mut().unwrap().remove("replicas");
    run(daemon).await?;
    let mut database = deployment("database", 3);
    database["kind"] = json!("StatefulSet");
    database["spec"]["serviceName"] = json!("database");
    run(database).await?;
    field_becomes(cluster, &object("Job", "once"), "/status/succeeded", json!(1)).await?;
    field_becomes(cluster, &object("DaemonSet", "daemon"), "/status/numberReady", json!(1)).await?;
    field_becomes(cluster, &object("StatefulSet", "database"), "/status/readyReplicas", json!(3)).await?;

    // The annotation counts for pods that are ready already, and no longer counts when it goes.
    let pods = list(&client, "v1", "Pod", Some("shop"), "app=web").await?;
    let pod = ObjectRef::new("v1", "Pod", "shop", pods[0].metadata.name.as_deref().unwrap());
    let annotate = |value: Value| json!({"metadata": {"annotations": {NOT_READY_ANNOTATION: value}}});
    pod.edit(&client, annotate(json!("test"))).await?;
    field_becomes(cluster, &object("Deployment", "web"), "/status/unavailableReplicas", json!(1)).await?;
    pod.edit(&client, annotate(Value::Null)).await?;
    field_becomes(cluster, &object("Deployment", "web"), "/status/readyReplicas", json!(2)).await
}

async fn many_pods(cluster: &Cluster) -> Result<()> {
    let start = Instant::now();
    apply(&cluster.client(), "tester", &deployment("many", 300)).await?;
    field_becomes(cluster, &object("Deployment", "many"), "/status/readyReplicas", json!(300)).await?;
    println!("300 pods ready after {:?}", start.elapsed());
    Ok(())
}

async fn pod_bound_to_the_node_is_deleted(cluster: &Cluster) -> Result<()> {
    let client = cluster.client();
    apply(
        &client,
        "tester",
        &json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bound", "namespace": "shop"},
            "spec": {"nodeName": "node-0", "containers": [{"name": "web", "image": "web:1"}]},
        }),
    )
    .await?;
    let pod = ObjectRef::new("v1", "Pod", "shop", "bound");
    field_becomes(cluster, &pod, "/status/phase", json!("Running")).await?;
    pod.delete(&client).await?;
    gone(cluster, &pod).await
}

async fn gone(cluster: &Cluster, object: &ObjectRef) -> Result<()> {
    let client = cluster.client();
    let gone = eventually(SOON, || async {
        match object.get(&client).await? {
            None => Ok(()),
            Some(there) => Err(anyhow::anyhow!("{object} is there: {:?}", there.metadata.finalizers)),
        }
    });
    Ok(gone.await?)
}

/// Away and back: what was there is there, and is worked on again.
async fn apiserver_comes_back(cluster: &mut Cluster) -> Result<()> {
    cluster.stop_apiserver()?;
    let client = cluster.client();
    let web = object("Deployment", "web");
    ensure!(web.get(&client).await.is_err(), "the stopped API server answered");
    ensure!(cluster.stop_apiserver().is_ok(), "stopping twice is no error");
    let start = Instant::now();
    cluster.start_apiserver().await?;
    println!("API server back after {:?}", start.elapsed());
    web.edit(&client, json!({"spec": {"replicas": 4}})).await?;
    field_becomes(cluster, &web, "/status/readyReplicas", json!(4)).await
}

async fn all_end(pids: &[u32]) {
    eventually(Duration::from_secs(10), || async {
        let alive: Vec<u32> = pids.iter().copied().filter(|pid| is_alive(*pid)).collect();
        if alive.is_empty() { Ok(()) } else { Err(format!("still running: {alive:?}")) }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clusters_work_and_go() {
    let start = Instant::now();
    let clusters = Clusters::new().await.unwrap();
    println!("etcd ready after {:?}", start.elapsed());
    let options = ClusterOptions::default();
    let [mut staging, production] = clusters.start(["staging", "production"], &options).await.unwrap();
    println!("two clusters ready after {:?}", start.elapsed());
    let mib = |bytes: Result<u64>| bytes.unwrap() >> 20;
    println!(
        "resident MiB: etcd {}, API server {}, controller-manager {}",
        mib(clusters.etcd_resident_bytes()),
        mib(staging.apiserver_resident_bytes()),
        mib(staging.controller_manager_resident_bytes()),
    );

    assert_ne!(staging.url(), production.url());
    assert!(staging.kubeconfig().unwrap().contains(staging.token().unwrap()));
    let version = staging.client().apiserver_version().await.unwrap();
    assert!(version.git_version.starts_with("v1."), "{version:?}");

    futures::future::try_join(workloads(&staging), workloads(&production)).await.unwrap();
    println!("workloads ready after {:?}", start.elapsed());
    many_pods(&staging).await.unwrap();
    pod_bound_to_the_node_is_deleted(&staging).await.unwrap();
    apiserver_comes_back(&mut staging).await.unwrap();
    let web = object("Deployment", "web");
    always(Duration::from_millis(300), || async {
        let replicas = web.field(&production.client(), "/spec/replicas").await?;
        ensure!(replicas == json!(2), "the other cluster has {replicas} replicas");
        anyhow::Ok(())
    })
    .await
    .unwrap();
    let shop = ObjectRef::global("v1", "Namespace", "shop");
    shop.delete(&staging.client()).await.unwrap();
    gone(&staging, &shop).await.unwrap();
    println!("namespace gone after {:?}", start.elapsed());

    let mut pids = [staging.pids(), production.pids()].concat();
    assert_eq!(pids.len(), 4);
    pids.extend(clusters.etcd_pid());
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    let folders = [staging.folder().to_owned(), production.folder().to_owned()];
    drop((staging, production, clusters));
    all_end(&pids).await;
    assert!(folders.iter().all(|folder| !folder.exists()), "{folders:?}");
}

/// Set for a test that runs itself in a process of its own, in which it plays the other part.
const PART_VARIABLE: &str = "FLOTILLA_TEST_PART";

fn is_other_part() -> bool {
    std::env::var_os(PART_VARIABLE).is_some()
}

/// This test binary with nothing but the named test, which sees [`is_other_part`].
fn other_part(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(PART_VARIABLE, "1");
    command
}

#[tokio::test]
async fn nothing_outlives_an_owner_that_is_killed() {
    if is_other_part() {
        let clusters = Clusters::new().await.unwrap();
        let cluster = clusters.start_one("orphan", &ClusterOptions::bare()).await.unwrap();
        println!(
            "\nowns {} {} {}",
            clusters.etcd_pid().unwrap(),
            cluster.pids()[0],
            cluster.folder().display()
        );
        return std::future::pending().await;
    }
    let mut owner =
        other_part("nothing_outlives_an_owner_that_is_killed").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines().map_while(Result::ok);
    let line = lines.find(|line| line.starts_with("owns ")).expect("the owner's cluster is ready");
    let words: Vec<&str> = line.split(' ').collect();
    let pids: Vec<u32> = words[1..3].iter().map(|pid| pid.parse().unwrap()).collect();
    let folder = PathBuf::from(words[3]);
    assert!(pids.iter().all(|pid| is_alive(*pid)) && folder.exists());
    owner.kill().unwrap();
    owner.wait().unwrap();
    all_end(&pids).await;
    eventually(SOON, || async { if folder.exists() { Err(format!("{folder:?} is there")) } else { Ok(()) } })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_panic_ends_processes_and_prints_their_logs() {
    if is_other_part() {
        let folder = tempfile::tempdir().unwrap();
        let script = "echo words of the log; exec sleep 1000";
        let process = Recipe::new("/bin/sh").args(["-c", script]).start(folder.path().join("log")).unwrap();
        println!("\nowns {}", process.pid().unwrap());
        eventually(SOON, || async {
            ensure!(!process.log()?.is_empty(), "no log");
            anyhow::Ok(())
        })
        .await
        .unwrap();
        panic!("as it should be");
    }
    let output = other_part("a_panic_ends_processes_and_prints_their_logs").output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!output.status.success());
    assert!(stderr.contains("words of the log"), "{stderr}");
    let pid = stdout.lines().find_map(|line| line.strip_prefix("owns ")).unwrap();
    all_end(&[pid.parse().unwrap()]).await;
}

#[tokio::test]
async fn without_go_one_line_says_what_to_install() {
    if is_other_part() {
        println!("\nerror: {:#}", Clusters::new().await.unwrap_err());
        return;
    }
    let cache = tempfile::tempdir().unwrap();
    let output = other_part("without_go_one_line_says_what_to_install")
        .env("FLOTILLA_CACHE", cache.path())
        .env_remove("KUBEBUILDER_ASSETS")
        .env("PATH", cache.path())
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let error =
        stdout.lines().find(|line| line.starts_with("error: ")).unwrap_or_else(|| panic!("{output:?}"));
    assert!(error.contains("needs Go: install Go 1."), "{error}");
    assert!(error.contains("KUBEBUILDER_ASSETS"), "{error}");
}

#[tokio::test]
async fn assets_are_used_where_they_are_named() {
    if is_other_part() {
        let clusters = Clusters::new().await.unwrap();
        clusters.start_one("assets", &ClusterOptions::bare()).await.unwrap();
        println!("\nbare is ready");
        println!("error: {:#}", clusters.start_one("whole", &ClusterOptions::default()).await.unwrap_err());
        return;
    }
    // Where the machine has assets of its own, every other test uses them.
    if std::env::var_os("KUBEBUILDER_ASSETS").is_some() {
        return;
    }
    let (found, binary) = std::sync::mpsc::sync_channel(1);
    let progress = move |step| {
        if let Progress::Found(path) | Progress::Built { path, .. } = step {
            found.send(path).unwrap();
        }
    };
    drop(Clusters::with_progress(progress).await.unwrap());
    let binary = binary.recv().unwrap();
    let assets = tempfile::tempdir().unwrap();
    for name in ["etcd", "kube-apiserver"] {
        let path = assets.path().join(name);
        fs::write(&path, format!("#!/bin/sh\nexec {} {name} \"$@\"\n", binary.display())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let cache = tempfile::tempdir().unwrap();
    let output = other_part("assets_are_used_where_they_are_named")
        .env("FLOTILLA_CACHE", cache.path())
        .env("KUBEBUILDER_ASSETS", assets.path())
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("bare is ready"), "{output:?}");
    assert!(stdout.contains("kube-controller-manager is not there: put it beside"), "{stdout}");
    assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0, "nothing was built");
}

#[tokio::test]
async fn a_proxy_sees_and_fails_requests_and_contexts_are_found() {
    let clusters = Clusters::new().await.unwrap();
    let cluster = clusters.start_one("proxied", &ClusterOptions::bare()).await.unwrap();
    let proxy = ApiProxy::start(&cluster).await.unwrap();
    let through = Cluster::existing_in(Kubeconfig::read_from(proxy.kubeconfig_path()).unwrap(), "proxied")
        .await
        .unwrap();
    let client = through.client();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
    drop(proxy.take_seen());
    apply(&client, "tester", &namespace).await.unwrap();
    let seen = proxy.take_seen();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert!(seen[0].is_write() && seen[0].path.starts_with("/api/v1/namespaces/shop?"), "{seen:?}");

    let status = http::StatusCode::CONFLICT;
    proxy.fail(Fault { method: Some(http::Method::PATCH), path: "/shop".into(), status, times: Some(1) });
    let refused = apply(&client, "tester", &namespace).await.unwrap_err();
    assert!(format!("{refused:#}").contains("a fault on demand"), "{refused:#}");
    apply(&client, "tester", &namespace).await.unwrap();

    let api = objects::api(&client, "v1", "ConfigMap", Some("default"));
    let mut watch = Box::pin(watcher(api, Default::default()));
    loop {
        if let Event::InitDone = watch.next().await.unwrap().unwrap() {
            break;
        }
    }
    let map =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": "default"}});
    apply(&cluster.client(), "tester", &map).await.unwrap();
    let event = tokio::time::timeout(SOON, watch.next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(event, Event::Apply(it) if it.metadata.name.as_deref() == Some("m")), "watches stream");

    let unknown = Cluster::existing_in(Kubeconfig::read_from(cluster.kubeconfig_path()).unwrap(), "x")
        .await
        .unwrap_err();
    assert_eq!(unknown.to_string(), "the kubeconfig has no context \"x\", but: proxied");
    assert!(through.token().is_err(), "whose token that is, nobody knows");
}
