//! The ways in which Flux's users split their repositories: one for each environment, one for each team, a library of bases.

use flotilla_tests::fleet::{Fleet, HubOptions};
use flotilla_tests::git::{Change, Repo, file};
use flotilla_tests::git_http::GitServer;
use flotilla_tests::manifests::{config_map, unit};
use flotilla_tests::objects::ObjectRef;
use flotilla_tests::{ClusterOptions, Clusters};

use crate::shared::source;
use crate::{VALUE, config};

const CLUSTERS: [&str; 2] = ["staging", "production"];

/// A repository at its public address, and the unit that is its root.
fn root(cluster: &str, name: &str, path: &str) -> Change {
    let git = format!(
        "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata:\n  name: {name}\n  namespace: \
         flux-system\nspec:\n  interval: 1s\n  url: https://git.example/acme/{name}\n  ref:\n    branch: main\n"
    );
    let unit = unit(name, path, &[]).replace("name: flux-system", &format!("name: {name}"));
    file(&format!("clusters/{cluster}/{name}.yaml"), format!("{git}---\n{unit}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn environments_teams_and_bases_have_repositories_of_their_own() {
    let repos: Vec<(&str, Repo)> = ["fleet-staging", "fleet-production", "team", "bases"]
        .map(|name| (name, Repo::new().unwrap()))
        .into();
    let repo = |name: &str| &repos.iter().find(|(other, _)| *other == name).unwrap().1;
    let base = |value: &str| {
        [
            file("web/kustomization.yaml", "resources: [web.yaml]\n"),
            file("web/web.yaml", config_map("web", value)),
        ]
    };
    let v1 = repo("bases").commit("one", &base("1")).unwrap();
    for (cluster, reference) in [("staging", "main"), ("production", v1.as_str())] {
        let address = format!("https://git.example/acme/bases//web?ref={reference}");
        // A base is looked at as often as the unit that it is for.
        let web = unit("web", "infra/web", &[]).replace("interval: 10m", "interval: 1s");
        let files = [
            // The environment names the teams that it has.
            root("x", "team", &format!("deploy/{cluster}")),
            file("infra/web/kustomization.yaml", format!("resources: ['{address}']\n")),
            file("clusters/x/web.yaml", web.replace("name: flux-system", &format!("name: fleet-{cluster}"))),
        ];
        repo(&format!("fleet-{cluster}")).commit("begin", &files).unwrap();
    }
    let deploy =
        |cluster: &str, value: &str| file(&format!("deploy/{cluster}/app.yaml"), config_map("app", value));
    repo("team").commit("begin", &CLUSTERS.map(|cluster| deploy(cluster, cluster))).unwrap();
    let fleet = Repo::new().unwrap();
    let files = CLUSTERS.map(|cluster| root(cluster, &format!("fleet-{cluster}"), "clusters/x"));
    fleet.commit("begin", &files).unwrap();

    let mut args = ["--allow-source", "127.0.0.1"].map(str::to_owned).to_vec();
    let mut servers = Vec::new();
    for (name, repo) in &repos {
        let server = GitServer::start(repo, None).await.unwrap();
        args.extend(["--mirror".to_owned(), format!("https://git.example/acme/{name}={}", server.url())]);
        servers.push(server);
    }
    let options = HubOptions { args, ..HubOptions::default() };
    let url = fleet.url();
    let clusters = async { Clusters::new().await?.start(CLUSTERS, &ClusterOptions::bare()).await };
    let (started, mut fleet) =
        futures::future::try_join(clusters, Fleet::new(fleet, &url, &options)).await.unwrap();
    for cluster in started {
        let name = cluster.name().to_owned();
        fleet.join(&name, cluster).await.unwrap();
    }
    for cluster in CLUSTERS {
        fleet.field_becomes(cluster, &config("app"), VALUE, cluster).await.unwrap();
        fleet.field_becomes(cluster, &config("web"), VALUE, "1").await.unwrap();
        let team = source(&fleet, cluster, "GitRepository", "flux-system/team").await.unwrap();
        assert!(
            team.ready && team.url == "https://git.example/acme/team" && team.clusters.len() == 2,
            "{team:?}"
        );
    }
    fleet.in_sync(&CLUSTERS).await.unwrap();

    // A base follows its branch where it is named by one, and stays where it is named by a commit.
    let address = format!("https://git.example/acme/bases//web?ref={v1}");
    let pinned = source(&fleet, "production", "RemoteBase", &address).await.unwrap();
    assert_eq!(pinned.revision, format!("sha1:{v1}"));
    repo("bases").commit("two", &base("2")).unwrap();
    repo("team").commit("more", &[deploy("staging", "2")]).unwrap();

    fleet.field_becomes("staging", &config("web"), VALUE, "2").await.unwrap();
    fleet.field_becomes("staging", &config("app"), VALUE, "2").await.unwrap();
    for (name, value) in [("web", "1"), ("app", "production")] {
        let object = ObjectRef::new("v1", "ConfigMap", "default", name);
        assert_eq!(object.field(&fleet.client("production"), VALUE).await.unwrap(), value);
    }
}
