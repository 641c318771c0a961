//! From Flotilla to Flux: what `flotilla export flux` prints makes the same objects of the same repository, and Flux goes on with
//! those that run.

use flotilla_tests::fleet::{Fleet, HubOptions};
use flotilla_tests::git::{Repo, file};
use flotilla_tests::manifests::{app, config_map, deployment_with_pods, unit};
use flotilla_tests::objects::{ObjectRef, api, apply};
use flotilla_tests::{ClusterOptions, Clusters};
use kube::config::Kubeconfig;
use serde_json::{Value, json};

use crate::shared::{objects, shared};

const CLUSTER: &str = "apiVersion: flotilla.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: one\nspec:\n  variables:\n    region: eu\n    tier: edge\n";

/// A root with a Cluster object in it, a unit that substitutes, and one below a unit that does not.
fn fleet_repo() -> Repo {
    let substituting = |name: &str, path: &str| unit(name, path, &["postBuild: {substitute: {tier: core}}"]);
    let nested = substituting("nested", "apps/nested");
    let files = [
        file("clusters/one/cluster.yaml", CLUSTER),
        file("clusters/one/app.yaml", substituting("app", "apps/app")),
        file("clusters/one/all.yaml", unit("all", "apps/all", &[])),
        file("clusters/one/own.yaml", config_map("own", "${region}")),
        file("apps/app/config.yaml", config_map("app", "${region}-${tier}")),
        file("apps/all/nested.yaml", nested),
        file("apps/nested/config.yaml", config_map("nested", "${region}-${tier}")),
    ];
    let repo = Repo::new().unwrap();
    repo.commit("begin", &files).unwrap();
    repo
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_export_for_flux_makes_the_same_objects() {
    let repo = fleet_repo();
    let url = repo.url();
    let work = tempfile::tempdir().unwrap();
    let tree = work.path().to_str().unwrap().to_owned();
    repo.git(&["--work-tree", &tree, "checkout", "main", "--", "."]).unwrap();
    let clusters = async { Clusters::new().await?.start_one("one", &ClusterOptions::bare()).await };
    let (cluster, mut fleet) =
        futures::future::try_join(clusters, Fleet::new(repo, &url, &HubOptions::default())).await.unwrap();
    fleet.join("one", cluster).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();

    let build =
        async |name: &str| fleet.cli(&["build", "ks", name, "-c", "one", "--repo", &tree]).await.unwrap();
    let (app, nested) = (build("app").await, build("nested").await);
    assert!(app.contains("eu-core") && nested.contains("eu-core"), "{app}{nested}");
    let line = ["export", "flux", "-c", "one", "--url", "https://git.example.com/fleet", "--secret", "git"];
    let exported = fleet.cli(&line).await.unwrap();

    // Beside a Cluster without variables, the root's own objects say what Flux would be told; the others are in Git as before.
    let is_of_git =
        |object: &Value| ["app", "all", "nested"].iter().any(|name| object["metadata"]["name"] == *name);
    let (of_git, own): (Vec<Value>, Vec<Value>) = objects(&exported).into_iter().partition(is_of_git);
    assert_eq!((of_git.len(), own.len()), (3, 3), "{exported}");
    let own: String = own.iter().map(|object| format!("---\n{object}\n")).collect();
    let root = work.path().join("clusters/one");
    std::fs::write(root.join("sync.yaml"), own).unwrap();
    std::fs::write(root.join("cluster.yaml"), CLUSTER.split("spec:").next().unwrap()).unwrap();
    assert_eq!(build("app").await, app);
    assert_eq!(build("nested").await, nested);
    let all = build("root").await;
    assert!(
        !all.contains("kind: Cluster\n") && all.contains("${region}"),
        "the root does not substitute: {all}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flux_takes_a_cluster_over_without_a_restart() {
    let Some(crds) = shared("flux-crds") else { return };
    let repo = Repo::new().unwrap();
    let marked = deployment_with_pods("default", "web", 1, ("a", "b"));
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app, namespace: default}\ndata: {kept: a, dropped: b}\n";
    let files =
        [app("one", "app", &[]), file("apps/app/web.yaml", marked), file("apps/app/config.yaml", config)];
    repo.commit("begin", &files).unwrap();
    let url = repo.url();
    let clusters = async { Clusters::new().await?.start_one("one", &ClusterOptions::default()).await };
    let (cluster, mut fleet) =
        futures::future::try_join(clusters, Fleet::new(repo, &url, &HubOptions::default())).await.unwrap();
    let client = cluster.client();
    for kind in ["kustomize.toolkit.fluxcd.io_kustomizations", "source.toolkit.fluxcd.io_gitrepositories"] {
        for crd in objects(&std::fs::read_to_string(crds.join(format!("{kind}.yaml"))).unwrap()) {
            apply(&client, "flux", &crd).await.unwrap();
        }
    }
    fleet.join("one", cluster).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    let web = ObjectRef::new("apps/v1", "Deployment", "default", "web");
    let config = ObjectRef::new("v1", "ConfigMap", "default", "app");
    let running = async || {
        let mut found = vec![web.field(&client, "/metadata/generation").await.unwrap()];
        found.push(config.field(&client, "/metadata/uid").await.unwrap());
        for kind in [("apps/v1", "ReplicaSet"), ("v1", "Pod")] {
            let all = api(&client, kind.0, kind.1, Some("default")).list(&Default::default()).await.unwrap();
            found.extend(all.items.into_iter().map(|it| json!(it.metadata.uid)));
        }
        found
    };
    let before = running().await;
    assert_eq!(before.len(), 4, "{before:?}");

    let work = tempfile::tempdir().unwrap();
    let folder = work.path().to_str().unwrap();
    let line =
        ["export", "flux", "-c", "one", "--url", "https://git.example.com/fleet", "--write", "flux.yaml"];
    fleet.cli(&[&line[..], &["--repo", folder]].concat()).await.unwrap();
    let exported = format!("{folder}/flux.yaml");
    let kubeconfig = fleet.member("one").kubeconfig_path().to_str().unwrap().to_owned();
    let context = Kubeconfig::read_from(&kubeconfig).unwrap().current_context.unwrap();
    let there = ["--context", &context, "--kubeconfig", &kubeconfig, "--to-flux", &exported];
    let uninstall = async |more: &[&str]| {
        let output =
            fleet.cli_output(&[&["uninstall", "cluster", "one"], &there[..], more].concat()).await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        String::from_utf8_lossy(&output.stdout).into_owned() + &said
    };
    let unit = ObjectRef::new("kustomize.toolkit.fluxcd.io/v1", "Kustomization", "flux-system", "app");
    let said = uninstall(&["--dry-run"]).await;
    assert!(said.contains("apply 2 units of Flux"), "{said}");
    assert!(unit.get(&client).await.unwrap().is_none());
    fleet.connected("one").await.unwrap();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "flux-system"}});
    apply(&client, "flux", &namespace).await.unwrap();
    let said = uninstall(&["--confirm", &context]).await;
    assert!(said.contains("2 objects are in its hands"), "{said}");
    assert_eq!(running().await, before);

    let root = ObjectRef { name: "flux-system".into(), ..unit.clone() };
    for (of, entry) in [
        (&unit, "default_web_apps_Deployment"),
        (&root, "flux-system_app_kustomize.toolkit.fluxcd.io_Kustomization"),
    ] {
        let now = of.json(&client).await.unwrap();
        assert_eq!(now["spec"].get("suspend"), None, "{now}");
        let entries = now["status"]["inventory"]["entries"].as_array().unwrap();
        assert!(entries.iter().any(|it| it["id"] == entry), "{entries:?}");
    }
    // What Git drops later goes, and so does our label: nobody but Flux holds it.
    let without = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"kept": "a"},
        "metadata": {"name": "app", "namespace": "default"}});
    apply(&client, "kustomize-controller", &without).await.unwrap();
    let now = config.json(&client).await.unwrap();
    assert_eq!(now["data"], json!({"kept": "a"}));
    assert_eq!(now["metadata"].get("labels"), None, "{now}");
    assert_eq!(running().await, before);
}
