//! Fields of a Kustomization that no other test is about: each arrives where it has its effect.

use flotilla_core::UnitId;
use flotilla_core::unit::DeletionPolicy;
use serde_json::json;

use crate::world::*;

fn apps(spec: &str) -> flotilla_render::Unit {
    let files = [("clusters/x/apps.yaml", unit("apps", FLEET, spec)), ("apps/m.yaml", config_map("m"))];
    let render = World::new(&[]).render(&files);
    let apps = &render.units[&UnitId::kustomization("flux-system", "apps")];
    apps.unit.clone().unwrap_or_else(|| panic!("{:?}", apps.problems))
}

#[test]
fn every_field_of_the_policy_reaches_the_unit() {
    let unit = apps(
        "  path: apps\n  force: true\n  wait: true\n  retryInterval: 2m\n  timeout: 3m\n  deletionPolicy: \
         WaitForTermination\n  healthChecks: [{apiVersion: apps/v1, kind: Deployment, name: web, namespace: d}]\n  ignore: \
         [{paths: [/spec/replicas], target: {kind: Deployment}}]\n",
    );
    let spec = &unit.manifest.spec;
    assert!(spec.force && spec.wait && spec.prune && !spec.suspend);
    assert_eq!((spec.interval, spec.retry_interval, spec.timeout), (60, Some(120), 180));
    assert_eq!(spec.deletion_policy, DeletionPolicy::WaitForTermination);
    let check = &spec.health_checks[0];
    assert_eq!(
        (check.api_version.as_str(), check.kind.as_str(), check.name.as_str()),
        ("apps/v1", "Deployment", "web")
    );
    assert_eq!(
        (spec.ignore[0].paths[0].as_str(), spec.ignore[0].target.as_ref().unwrap().kind.as_str()),
        ("/spec/replicas", "Deployment")
    );
}

#[test]
fn build_metadata_and_common_metadata() {
    let unit = apps(
        "  path: apps\n  buildMetadata: [originAnnotations]\n  commonMetadata: {labels: {team: a}, annotations: {by: b}}\n",
    );
    assert_eq!(
        unit.content.objects[0].value()["metadata"],
        json!({"name": "m", "namespace": "d", "labels": {"team": "a"},
            "annotations": {"by": "b", "config.kubernetes.io/origin": "path: m.yaml\n"}})
    );
}

#[test]
fn older_versions_are_read_as_the_newest() {
    for version in ["v1", "v1beta2", "v1beta1"] {
        let own = unit("apps", TEAM, "").replace("io/v1\n", &format!("io/{version}\n"));
        let source = git("team", "").replace("io/v1\n", &format!("io/{version}\n"));
        let world = World::new(&[("team", tree(&[("m.yaml", config_map("m"))], "team"))]);
        let shown = world.shown(&[("clusters/x/apps.yaml", own), ("clusters/x/team.yaml", source)]);
        assert_eq!(shown, ["root: 0", "apps: 1"], "{version}");
    }
}

#[test]
fn what_we_do_not_act_on_yet_is_a_notice_and_leaves_the_unit_ready() {
    let kinds = [
        ("notification.toolkit.fluxcd.io/v1beta3", "Alert"),
        ("notification.toolkit.fluxcd.io/v1beta3", "Provider"),
        ("notification.toolkit.fluxcd.io/v1", "Receiver"),
        ("image.toolkit.fluxcd.io/v1", "ImageRepository"),
        ("image.toolkit.fluxcd.io/v1", "ImagePolicy"),
        ("image.toolkit.fluxcd.io/v1", "ImageUpdateAutomation"),
    ];
    for (version, kind) in kinds {
        let object =
            format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: a, namespace: d}}\nspec: {{}}\n");
        let shown = World::new(&[]).shown(&[("clusters/x/a.yaml", object)]);
        assert_eq!(shown, [format!("root: 0 clusters/x/a.yaml:1: {kind} d/a is not acted on yet")]);
    }
    for (kind, says) in [
        ("FluxInstance", "it speaks of Flux itself, whose work is done here"),
        ("FluxReport", "it speaks of Flux itself"),
        ("ResourceSet", "nothing that the Flux Operator would make of it is known here"),
        ("ResourceSetInputProvider", "it only gives inputs to a ResourceSet"),
    ] {
        let object = format!(
            "apiVersion: fluxcd.controlplane.io/v1\nkind: {kind}\nmetadata: {{name: a, namespace: d}}\nspec: {{}}\n"
        );
        let shown = World::new(&[]).shown(&[("clusters/x/a.yaml", object)]);
        let begins = format!("root: 0 clusters/x/a.yaml:1: {kind} d/a is not applied");
        assert!(shown[0].starts_with(&begins) && shown[0].contains(says), "{shown:?}");
    }
}
