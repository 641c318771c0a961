//! The demo on clusters that exist: the tour passes, and what it made there goes.

use std::time::Duration;

use flotilla_tests::objects::list;
use flotilla_tests::process::Recipe;
use flotilla_tests::{ClusterOptions, Clusters};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tour_passes_on_existing_clusters_and_leaves_them_as_they_were() {
    let clusters = Clusters::new().await.unwrap();
    let [first, second] = clusters.start(["first", "second"], &ClusterOptions::default()).await.unwrap();
    let kubeconfigs =
        [first.kubeconfig_path(), second.kubeconfig_path()].map(|path| path.display().to_string());
    let demo = Recipe::new(env!("CARGO_BIN_EXE_flotilla-demo"))
        .args(["--exit", "--contexts", "first,second"])
        .env("KUBECONFIG", kubeconfigs.join(":"));
    let said = demo.stdout(Duration::from_secs(300)).await.unwrap();
    println!("{said}");
    assert!(said.contains("All 7 steps verified"), "{said}");
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
