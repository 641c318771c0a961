//! fluxcd/flux2-kustomize-helm-example as it is, both clusters, with stand-ins of its charts at the addresses that it names.

use std::path::{Path, PathBuf};

use flotilla_tests::fleet::{Fleet, HubOptions};
use flotilla_tests::git::{Change, Repo, file};
use flotilla_tests::objects::ObjectRef;
use flotilla_tests::registry::{Charts, Registry};
use flotilla_tests::{ClusterOptions, Clusters};
use serde_json::{Value, json};

use crate::shared::{bootstrapped, held, lacks, name_of, objects, shared, source};

const CLUSTERS: [&str; 2] = ["staging", "production"];
const GATEWAY: &str = "1.8.1-rc.1";
const CERT_MANAGER: &str = "v1.18.2";
const PODINFO: [(&str, &str); 2] = [("staging", "6.10.0-beta.1"), ("production", "6.9.0")];

/// A release of the example: its name (and namespace), the chart's archive, and its values.
struct Release {
    name: &'static str,
    namespace: &'static str,
    chart: PathBuf,
    values: Value,
}

fn releases(charts: &Charts, cluster: &str) -> Vec<Release> {
    let package = |name: &str, version: &str| charts.package(name, version).unwrap();
    let version = PODINFO.iter().find(|(name, _)| *name == cluster).unwrap().1;
    let route = json!({
        "enabled": true, "hostnames": [format!("podinfo.{cluster}")],
        "parentRefs": [{"name": "envoy", "namespace": "envoy-gateway-system", "sectionName": "http"}],
        "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}]}],
    });
    let redis = json!({"enabled": true, "repository": "public.ecr.aws/docker/library/redis", "tag": "8.6.2"});
    vec![
        Release {
            name: "cert-manager",
            namespace: "cert-manager",
            chart: package("cert-manager", CERT_MANAGER),
            values: json!({"crds": {"enabled": true, "keep": false}, "config": {"enableGatewayAPI": true}}),
        },
        Release {
            name: "envoy-gateway",
            namespace: "envoy-gateway-system",
            chart: package("gateway-helm", GATEWAY),
            values: json!({}),
        },
        Release {
            name: "podinfo",
            namespace: "podinfo",
            chart: package("podinfo", version),
            values: json!({"redis": redis, "httpRoute": route}),
        },
    ]
}

/// What `helm template` gives for a release: helm itself, told by hand.
fn template(charts: &Charts, release: &Release, folder: &Path) -> Vec<Value> {
    let values = folder.join(format!("{}.json", release.name));
    std::fs::write(&values, release.values.to_string()).unwrap();
    let more = [
        "--kube-version=v1.36.3",
        "--api-versions=policy/v1/PodDisruptionBudget",
        "--api-versions=gateway.networking.k8s.io/v1/HTTPRoute",
        "--values",
        values.to_str().unwrap(),
    ];
    let mut objects =
        objects(&charts.template(release.name, release.namespace, &release.chart, &more).unwrap());
    for object in &mut objects {
        if object["kind"] != "CustomResourceDefinition" {
            object["metadata"]["namespace"] = json!(release.namespace);
        }
        // It is drawn anew by each run.
        if let Some(texts) = object.as_object_mut().unwrap().remove("stringData") {
            assert_eq!(texts["token"].as_str().map(str::len), Some(24), "{texts}");
        }
    }
    objects
}

async fn is_as_helm_has_it(fleet: &Fleet, cluster: &str, charts: &Charts, folder: &Path) {
    for release in releases(charts, cluster) {
        let wanted = template(charts, &release, folder);
        let unit = format!("helmrelease/{}/{}", release.namespace, release.name);
        let ours = held(fleet, cluster, |name| name == unit).await.unwrap();
        assert_eq!(ours, wanted.iter().map(name_of).collect(), "{cluster}: {unit}");
        for object in &wanted {
            let differences = lacks(fleet, cluster, object).await.unwrap();
            assert!(differences.is_empty(), "{cluster}: {}", differences.join("\n"));
        }
    }
}

fn repository() -> Option<Vec<Change>> {
    let mut files = crate::shared::files(&shared("fleet-repos")?.join("flux2-kustomize-helm-example"));
    CLUSTERS.iter().for_each(|cluster| files.extend(bootstrapped(cluster)));
    Some(files)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_helm_example_runs_as_it_is_in_both_clusters() {
    let Some(files) = repository() else { return };
    let (charts, registry) = futures::future::try_join(Charts::new(), Registry::start()).await.unwrap();
    for version in ["1.7.0", "1.8.0", GATEWAY] {
        charts.push(&registry, "envoyproxy", "gateway-helm", version).unwrap();
    }
    for version in ["v1.17.0", CERT_MANAGER, "v1.19.0-alpha.1", "v2.0.0"] {
        charts.push(&registry, "jetstack/charts", "cert-manager", version).unwrap();
    }
    let pages = "https://stefanprodan.github.io/podinfo";
    let site = charts.publish("podinfo", &["6.8.0", PODINFO[1].1, PODINFO[0].1], pages).await.unwrap();
    let mirror = |from: &str, to: String| ["--mirror".to_owned(), format!("{from}={to}")];
    let args = [
        ["--helm".to_owned(), charts.helm().display().to_string()],
        ["--allow-source".to_owned(), "127.0.0.1".to_owned()],
        mirror("oci://docker.io/envoyproxy", format!("http://{}/envoyproxy", registry.host())),
        mirror("oci://quay.io", format!("http://{}", registry.host())),
        mirror(pages, site.url()),
    ];
    let options = HubOptions { args: args.concat(), ..HubOptions::default() };
    let repo = Repo::new().unwrap();
    repo.commit("begin", &files).unwrap();
    let url = repo.url();
    let clusters = async { Clusters::new().await?.start(CLUSTERS, &ClusterOptions::default()).await };
    let fleet = Fleet::new(repo, &url, &options);
    let (started, mut fleet) = futures::future::try_join(clusters, fleet).await.unwrap();
    for cluster in started {
        let name = cluster.name().to_owned();
        fleet.join(&name, cluster).await.unwrap();
    }
    for cluster in CLUSTERS {
        fleet.units_ready(cluster).await.unwrap();
    }
    fleet.in_sync(&CLUSTERS).await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    for (cluster, podinfo) in PODINFO {
        for (kind, name, revision) in [
            ("OCIRepository", "envoy-gateway-system/gateway-helm", GATEWAY),
            ("OCIRepository", "cert-manager/cert-manager", CERT_MANAGER),
            ("HelmChart", "podinfo/podinfo-podinfo", podinfo),
        ] {
            let source = source(&fleet, cluster, kind, name).await.unwrap();
            assert!(source.ready && source.revision.starts_with(revision), "{cluster}: {source:?}");
        }
        is_as_helm_has_it(&fleet, cluster, &charts, folder.path()).await;
        let acme = if cluster == "staging" { "acme-staging-v02" } else { "acme-v02" };
        let issuer = ObjectRef::global("cert-manager.io/v1", "ClusterIssuer", "letsencrypt");
        let server = format!("https://{acme}.api.letsencrypt.org/directory");
        fleet.field_becomes(cluster, &issuer, "/spec/acme/server", server).await.unwrap();
        let gateway =
            ObjectRef::new("gateway.networking.k8s.io/v1", "Gateway", "envoy-gateway-system", "envoy");
        fleet.appears(cluster, &gateway).await.unwrap();
        let tenant = ObjectRef::global("v1", "Namespace", "podinfo");
        fleet
            .field_becomes(cluster, &tenant, "/metadata/labels/toolkit.fluxcd.io~1tenant", "dev-team")
            .await
            .unwrap();
    }

    // An edit in one environment's folder is that environment's alone.
    let values = "apps/staging/podinfo-values.yaml";
    let edited = fleet.repo().read("main", values).unwrap().replace("podinfo.staging", "podinfo.example.org");
    fleet.commit("Another name", &[file(values, edited)]).await.unwrap();
    let route = ObjectRef::new("gateway.networking.k8s.io/v1", "HTTPRoute", "podinfo", "podinfo");
    fleet.field_becomes("staging", &route, "/spec/hostnames/0", "podinfo.example.org").await.unwrap();
    fleet.field_becomes("production", &route, "/spec/hostnames/0", "podinfo.production").await.unwrap();
    fleet.in_sync(&CLUSTERS).await.unwrap();
}
