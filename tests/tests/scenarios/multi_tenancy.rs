//! fluxcd/flux2-multi-tenancy as it is, both clusters: platform and tenant under accounts of their own, locked down by the
//! flags of Flux's controllers; the tenant's repository by HTTP, Kyverno's manifests from a registry.

use anyhow::ensure;
use flotilla_api as api;
use flotilla_tests::fleet::{Fleet, HubOptions, SOON, errors};
use flotilla_tests::git::{Change, Repo, file};
use flotilla_tests::git_http::GitServer;
use flotilla_tests::manifests::config_map_in;
use flotilla_tests::objects::ObjectRef;
use flotilla_tests::registry::{Charts, Registry};
use flotilla_tests::wait::eventually;
use flotilla_tests::{ClusterOptions, Clusters};

use crate::shared::{bootstrapped, files, held, shared, source};

const CLUSTERS: [&str; 2] = ["staging", "production"];
const TENANT: &str = "dev-team";
const KYVERNO: &str = "\
apiVersion: v1
kind: Namespace
metadata:
  name: kyverno
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: clusterpolicies.kyverno.io
spec:
  group: kyverno.io
  scope: Cluster
  names: {kind: ClusterPolicy, listKind: ClusterPolicyList, plural: clusterpolicies, singular: clusterpolicy}
  versions:
    - name: v1
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: kyverno-admission-controller
  namespace: kyverno
spec:
  selector: {matchLabels: {app: kyverno}}
  template:
    metadata: {labels: {app: kyverno}}
    spec: {containers: [{name: kyverno, image: 'ghcr.io/kyverno/kyverno:v1.14.4'}]}
";

/// The tenant's branch, much as it is at its public address.
fn tenant() -> Vec<Change> {
    let release = "\
apiVersion: source.toolkit.fluxcd.io/v1
kind: HelmRepository
metadata:
  name: podinfo
spec:
  interval: 5m
  url: https://stefanprodan.github.io/podinfo
---
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata:
  name: podinfo
spec:
  serviceAccountName: dev-team
  interval: 50m
  install: {remediation: {retries: 3}}
  chart:
    spec:
      chart: podinfo
      sourceRef: {kind: HelmRepository, name: podinfo}
";
    let overlay = |cluster: &str| {
        let kustomization = "namespace: apps\nresources: [../base]\npatches: [{path: values.yaml}]\n";
        let range = if cluster == "staging" { ">=1.0.0-alpha" } else { ">=1.0.0" };
        let values = format!(
            "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {{name: podinfo}}\nspec:\n  chart: {{spec: \
             {{version: \"{range}\"}}}}\n  values: {{backend: 'http://{cluster}', hpa: {{enabled: true}}}}\n"
        );
        [
            file(&format!("{cluster}/kustomization.yaml"), kustomization),
            file(&format!("{cluster}/values.yaml"), values),
        ]
    };
    let mut files = vec![
        file("base/kustomization.yaml", "resources: [podinfo.yaml]\n"),
        file("base/podinfo.yaml", release),
    ];
    files.extend(CLUSTERS.iter().flat_map(|cluster| overlay(cluster)));
    files
}

async fn problem(fleet: &Fleet, cluster: &str, unit: &str, says: &str) {
    eventually(SOON, || async {
        let units = fleet.units(cluster).await?;
        let unit: &api::Unit = &units[unit];
        let told =
            errors(unit).into_iter().chain(unit.findings.iter().map(|finding| finding.message.clone()));
        let told: Vec<String> = told.chain([unit.message.clone()]).collect();
        ensure!(told.iter().any(|text| text.contains(says)), "{told:?}");
        anyhow::Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_multi_tenancy_example_runs_as_it_is_in_both_clusters() {
    let Some(folder) = shared("fleet-repos") else { return };
    let (charts, registry) = futures::future::try_join(Charts::new(), Registry::start()).await.unwrap();
    registry.push("kyverno/manifests/kyverno", "v1.14.4", &[("kyverno.yaml", KYVERNO)]).unwrap();
    let pages = "https://stefanprodan.github.io/podinfo";
    let site = charts.publish("podinfo", &["6.9.0", "6.10.0-beta.1"], pages).await.unwrap();
    let team = Repo::new().unwrap();
    team.commit_to(TENANT, "begin", &tenant()).unwrap();
    let server = GitServer::start(&team, None).await.unwrap();

    let mut all = files(&folder.join("flux2-multi-tenancy"));
    CLUSTERS.iter().for_each(|cluster| all.extend(bootstrapped(cluster)));
    let repo = Repo::new().unwrap();
    repo.commit("begin", &all).unwrap();
    let mirror = |from: &str, to: String| ["--mirror".to_owned(), format!("{from}={to}")];
    let args = [
        ["--helm".to_owned(), charts.helm().display().to_string()],
        ["--allow-source".to_owned(), "127.0.0.1".to_owned()],
        ["--allow-unverified".to_owned(), "OCIRepository/flux-system/kyverno-controller".to_owned()],
        mirror("oci://ghcr.io", format!("http://{}", registry.host())),
        mirror("https://github.com/fluxcd/flux2-multi-tenancy", server.url()),
        mirror(pages, site.url()),
    ];
    let options = HubOptions { args: args.concat(), ..HubOptions::default() };
    let url = repo.url();
    let clusters = async { Clusters::new().await?.start(CLUSTERS, &ClusterOptions::default()).await };
    let (started, mut fleet) =
        futures::future::try_join(clusters, Fleet::new(repo, &url, &options)).await.unwrap();
    for cluster in started {
        let name = cluster.name().to_owned();
        fleet.join(&name, cluster).await.unwrap();
    }
    for cluster in CLUSTERS {
        fleet.units_ready(cluster).await.unwrap();
        let kyverno =
            source(&fleet, cluster, "OCIRepository", "flux-system/kyverno-controller").await.unwrap();
        assert!(kyverno.unverified && kyverno.revision.starts_with("v1.14.4@sha256:"), "{kyverno:?}");
        let web = ObjectRef::new("apps/v1", "Deployment", "apps", "podinfo");
        let backend = "/spec/template/spec/containers/0/command/2";
        fleet.field_becomes(cluster, &web, backend, format!("--backend-url=http://{cluster}")).await.unwrap();
        let policy = ObjectRef::global("kyverno.io/v1", "ClusterPolicy", "verify-flux-images");
        fleet.appears(cluster, &policy).await.unwrap();
        let own = held(&fleet, cluster, |unit| unit == "helmrelease/apps/podinfo").await.unwrap();
        let wanted = [
            "Deployment.apps apps/podinfo",
            "HorizontalPodAutoscaler.autoscaling apps/podinfo",
            "Service apps/podinfo",
        ];
        assert_eq!(own, wanted.map(str::to_owned).into());
    }
    fleet.in_sync(&CLUSTERS).await.unwrap();

    // What the tenant may not do is refused by the cluster, in the tenant's name; what it may goes on.
    let more = [
        file("staging/elsewhere.yaml", config_map_in("flux-system", "elsewhere", "1")),
        file("staging/own.yaml", config_map_in("apps", "own", "1")),
        file(
            "staging/kustomization.yaml",
            "resources: [../base, elsewhere.yaml, own.yaml]\npatches: [{path: values.yaml}]\ntransformers: [namespace.yaml]\n",
        ),
        file(
            "staging/namespace.yaml",
            "apiVersion: builtin\nkind: NamespaceTransformer\nmetadata: {name: n, namespace: apps}\nunsetOnly: true\n",
        ),
    ];
    team.commit_to(TENANT, "Beyond", &more).unwrap();
    fleet.cli(&["reconcile", "source", "git", TENANT, "--namespace", "apps"]).await.unwrap();
    let tenant = "kustomization/apps/dev-team";
    problem(&fleet, "staging", tenant, "system:serviceaccount:apps:dev-team").await;
    fleet.appears("staging", &ObjectRef::new("v1", "ConfigMap", "apps", "own")).await.unwrap();
    let elsewhere = ObjectRef::new("v1", "ConfigMap", "flux-system", "elsewhere");
    assert!(fleet.uid("staging", &elsewhere).await.unwrap().is_none());
    fleet.phase_becomes("production", tenant, "Ready").await.unwrap();
}
