//! From Flotilla to Flux: what `flotilla export flux` prints makes the same objects of the same repository.

use flotilla_tests::fleet::{Fleet, HubOptions};
use flotilla_tests::git::{Repo, file};
use flotilla_tests::manifests::{config_map, unit};
use flotilla_tests::{ClusterOptions, Clusters};
use serde_json::Value;

use crate::shared::objects;

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
