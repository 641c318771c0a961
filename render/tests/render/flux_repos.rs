//! Repositories as people write them for Flux, from `shared` beside the repository.

use std::collections::BTreeMap;
use std::path::Path;

use flotilla_core::UnitId;
use flotilla_leftout::shared;
use flotilla_render::ClusterRender;

use crate::world::*;

/// All texts below a folder, by path.
pub(crate) fn files(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                let text = String::from_utf8(std::fs::read(&path).unwrap());
                found.extend(text.ok().map(|text| (name, text)));
            }
        }
    }
    found
}

/// What `flux bootstrap` writes beside the components.
fn sync(cluster: &str) -> String {
    let own = unit("flux-system", FLEET, &format!("  path: ./clusters/{cluster}\n"));
    format!("{}---\n{own}", git("flux-system", "  ref: {branch: main}\n"))
}

/// A repository with the real components in it.
fn repository(name: &str, cluster: &str) -> Option<BTreeMap<String, String>> {
    let repos = shared("fleet-repos")?;
    let mut all = files(&repos.join(name));
    let folder = format!("clusters/{cluster}/flux-system");
    let components = std::fs::read_to_string(repos.join("gotk-components.yaml")).unwrap();
    all.insert(format!("{folder}/gotk-components.yaml"), components);
    all.insert(format!("{folder}/gotk-sync.yaml"), sync(cluster));
    Some(all)
}

/// A line for each unit: its state, account and source, and how many objects it has.
fn summary(render: &ClusterRender) -> Vec<String> {
    let line = |(id, rendered): (&UnitId, &std::sync::Arc<flotilla_render::RenderedUnit>)| {
        let errors: Vec<_> = rendered.problems.iter().filter(|problem| !problem.notice).collect();
        let what = match &rendered.unit {
            Some(unit) => {
                let account = unit.manifest.spec.service_account.as_ref();
                let account = account.map_or(String::new(), |account| format!(" as {account}"));
                format!("{} objects{account}", unit.content.objects.len())
            }
            None => format!("held: {}", errors.first().map_or(String::new(), |error| error.message.clone())),
        };
        format!("{id} of {}: {what}", rendered.definition.source)
    };
    render.units.iter().map(line).collect()
}

fn notices(render: &ClusterRender, unit: &str) -> Vec<String> {
    let unit = &render.units[&unit.parse().unwrap()];
    unit.problems.iter().filter(|problem| problem.notice).map(|problem| problem.message.clone()).collect()
}

const FLEET_SOURCE: &str = "GitRepository/flux-system/flux-system";

#[test]
fn tenants_of_the_multi_tenancy_example_are_locked_in() {
    for cluster in ["staging", "production"] {
        let Some(files) = repository("flux2-multi-tenancy", cluster) else { return };
        let path = if cluster == "staging" { "staging" } else { "production" };
        let tenant = [(format!("{path}/app.yaml"), config_map("app"))];
        let tenant: Vec<(&str, String)> =
            tenant.iter().map(|(path, text)| (path.as_str(), text.clone())).collect();
        let world = World::new(&[("dev-team", tree(&tenant, "dev-team"))]);
        let render = world.render_in(cluster, &files);
        let kyverno = "OCIRepository/flux-system/kyverno-controller asks for verification, which is not supported: its \
                       content is not used; an operator may allow it as it is by --allow-unverified";
        assert_eq!(
            summary(&render),
            [
                format!("root of {FLEET_SOURCE}: 17 objects as flux-system/kustomize-controller"),
                "kustomization/apps/dev-team of GitRepository/apps/dev-team: 1 objects as apps/dev-team"
                    .into(),
                format!(
                    "kustomization/flux-system/kyverno of {FLEET_SOURCE}: 0 objects as flux-system/kustomize-controller"
                ),
                format!(
                    "kustomization/flux-system/kyverno-controller of OCIRepository/flux-system/kyverno-controller: held: {kyverno}"
                ),
                format!(
                    "kustomization/flux-system/kyverno-policies of {FLEET_SOURCE}: 2 objects as flux-system/kustomize-controller"
                ),
                format!(
                    "kustomization/flux-system/tenants of {FLEET_SOURCE}: 3 objects as flux-system/kustomize-controller"
                ),
            ]
        );
        let root = render.units[&UnitId::root()].unit.as_ref().unwrap();
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        root.content.objects.iter().for_each(|object| *kinds.entry(&object.id().kind).or_default() += 1);
        let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        assert_eq!(
            kinds,
            [
                "ClusterRole 3",
                "ClusterRoleBinding 2",
                "Namespace 1",
                "NetworkPolicy 3",
                "ResourceQuota 1",
                "Service 3",
                "ServiceAccount 4"
            ]
        );
        assert_eq!(
            notices(&render, "root").last().map(String::as_str),
            Some("15 controllers and kinds of Flux's own are not applied: their work is done here")
        );
    }
}

#[test]
fn flags_that_lock_down_are_followed_and_others_are_named() {
    let Some(mut files) = repository("flux2-multi-tenancy", "staging") else { return };
    let patches = files.get_mut("clusters/staging/flux-system/kustomization.yaml").unwrap();
    patches.push_str(
        "  - patch: |\n      - op: add\n        path: /spec/template/spec/containers/0/args/-\n        value: \
         --feature-gates=CacheSecretsAndConfigMaps=true\n    target: {kind: Deployment, name: kustomize-controller}\n",
    );
    files.insert(
        "tenants/base/dev-team/more.yaml".into(),
        format!(
            "{}---\n{}",
            unit("apps/elsewhere", FLEET, "  path: ./\n"),
            unit("apps/nobody", "{kind: GitRepository, name: dev-team}", "  path: ./staging\n")
        ),
    );
    files.insert(
        "tenants/base/dev-team/kustomization.yaml".into(),
        "namespace: apps\nresources: [rbac.yaml, sync.yaml, more.yaml]\n".into(),
    );
    files.insert(
        "infrastructure/kyverno/kustomization.yaml".into(),
        "resources: ['https://example.org/x.yaml']\n".into(),
    );
    let remote = "resources: ['https://github.com/x/y//z?ref=v1']\n".to_owned();
    let tenant = [("staging/kustomization.yaml", remote)];
    let render = World::new(&[("dev-team", tree(&tenant, "dev-team"))]).render_in("staging", &files);
    let summary = summary(&render);
    let of =
        |name: &str| summary.iter().find(|line| line.starts_with(&format!("kustomization/{name} "))).unwrap();
    assert!(of("apps/elsewhere").ends_with(
        "held: GitRepository/flux-system/flux-system is in another namespace than 'apps': --no-cross-namespace-refs is set"
    ));
    assert!(of("apps/dev-team").ends_with(
        "held: the build needs the remote base or file 'https://github.com/x/y//z?ref=v1', which --no-remote-bases forbids"
    ));
    assert!(of("flux-system/kyverno").ends_with("which --no-remote-bases forbids"));
    let notices = notices(&render, "root");
    let gates = "flags of the kustomize-controller that are not honoured: --feature-gates=CacheSecretsAndConfigMaps=true";
    assert!(notices.iter().any(|notice| notice == gates), "{notices:?}");

    files.insert(
        "infrastructure/kyverno/kustomization.yaml".into(),
        "resources: [sync.yaml, source.yaml]\n".into(),
    );
    let tenant = [("staging/app.yaml", config_map("app"))];
    let render = World::new(&[("dev-team", tree(&tenant, "dev-team"))]).render_in("staging", &files);
    let nobody = render.units[&"apps/nobody".parse().unwrap()].unit.as_ref().unwrap();
    assert_eq!(
        nobody.manifest.spec.service_account.as_ref().map(ToString::to_string).as_deref(),
        Some("apps/default"),
        "--default-service-account goes before the parent's account"
    );
}

#[test]
fn the_helm_example_asks_for_its_artifacts_and_charts() {
    for cluster in ["staging", "production"] {
        let Some(files) = repository("flux2-kustomize-helm-example", cluster) else { return };
        let world = World::new(&[]);
        let render = world.render_in(cluster, &files);
        let apps = "ExternalArtifact/flux-system/apps";
        let infrastructure = "ExternalArtifact/flux-system/infrastructure";
        let oci = |name: &str| format!("OCIRepository/{name}: is not fetched yet");
        assert_eq!(
            summary(&render),
            [
                format!("root of {FLEET_SOURCE}: 17 objects"),
                format!("kustomization/flux-system/apps of {apps}: 1 objects"),
                format!("kustomization/flux-system/infra-configs of {infrastructure}: 3 objects"),
                format!("kustomization/flux-system/infra-controllers of {infrastructure}: 2 objects"),
                format!("helmrelease/cert-manager/cert-manager of OCIRepository/cert-manager/cert-manager: held: {}", oci("cert-manager/cert-manager")),
                format!("helmrelease/envoy-gateway-system/envoy-gateway of OCIRepository/envoy-gateway-system/gateway-helm: held: {}", oci("envoy-gateway-system/gateway-helm")),
                "helmrelease/podinfo/podinfo of HelmChart/podinfo/podinfo-podinfo: held: HelmChart/podinfo/podinfo-podinfo: is not fetched yet".into(),
            ]
        );
        let issuer = render.units[&"flux-system/infra-configs".parse().unwrap()].unit.as_ref().unwrap();
        let server =
            issuer.content.objects.iter().find(|object| object.id().kind == "ClusterIssuer").unwrap().value();
        let host = if cluster == "staging" { "acme-staging-v02" } else { "acme-v02" };
        let server =
            server.pointer("/spec/acme/server").and_then(|server| server.as_str()).unwrap().to_owned();
        assert!(server.starts_with(&format!("https://{host}.")), "{server}");
        let labels = &render.units[&UnitId::root()].unit.as_ref().unwrap().content.objects[0].value()["metadata"]
            ["labels"];
        assert_eq!(labels["toolkit.fluxcd.io/tenant"], "sre-team");
    }
}
