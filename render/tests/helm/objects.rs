//! What becomes of helm's answer: objects, CRDs, hooks, refusals.

use flotilla_core::UnitId;
use flotilla_render::ClusterRender;
use flotilla_render::helm::TemplateRequest;
use serde_json::json;

use super::{CHART, World, config_map, files, held, objects, release, unit, web};

#[test]
fn crds_are_kept_and_post_renderers_leave_them_alone() {
    let output = "---\n# Source: web/crds/monitor.yaml\napiVersion: apiextensions.k8s.io/v1\nkind: \
                  CustomResourceDefinition\nmetadata: {name: monitors.example.org}\n---\n# Source: \
                  web/templates/all.yaml\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Service, metadata: \
                  {name: web}}\n- {apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: \
                  web}}\n---\n# Source: web/templates/test.yaml\napiVersion: v1\nkind: Pod\nmetadata: {name: t, \
                  annotations: {helm.sh/hook: test}}\n---\n# Source: web/templates/empty.yaml\n# nothing\n";
    let helm = |_: &TemplateRequest| Ok(output.to_owned());
    let spec = format!(
        "{CHART}  targetNamespace: apps\n  install: {{createNamespace: true}}\n  commonMetadata: {{labels: {{team: a}}}}\n  postRenderers: \
         [{{kustomize: {{patches: [{{target: {{kind: Service}}, patch: '[{{\"op\": \"add\", \
         \"path\": \"/spec\", \"value\": {{\"type\": \"NodePort\"}}}}]'}}]}}}}]\n"
    );
    let (render, _) = World::default().render(&files(&spec, ""), helm);
    let kept = json!({
        "kustomize.toolkit.fluxcd.io/prune": "disabled", "kustomize.toolkit.fluxcd.io/ssa": "IfNotPresent",
    });
    assert_eq!(
        objects(&render),
        [
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "apps", "annotations": kept}}),
            json!({
                "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                "metadata": {"name": "monitors.example.org", "annotations": kept},
            }),
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                "metadata": {"name": "web", "labels": {"team": "a"}},
            }),
            json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {"name": "web", "namespace": "apps", "labels": {"team": "a"}}, "spec": {"type": "NodePort"},
            }),
        ]
    );
    let origins = &unit(&render).content.origins;
    assert_eq!(origins[1].0, "web/crds/monitor.yaml");
    assert_eq!(origins[2].0, "web/templates/all.yaml");

    for (policy, expected) in [
        ("install: {crds: Skip}", None),
        ("install: {crds: Skip}\n  upgrade: {crds: CreateReplace}", Some(1)),
        ("upgrade: {crds: Create}", Some(2)),
    ] {
        let (render, asked) = World::default().render(&files(&format!("{CHART}  {policy}\n"), ""), helm);
        let objects = objects(&render);
        let crd = objects.iter().find(|object| object["kind"] == "CustomResourceDefinition");
        let marks = crd.map(|crd| crd["metadata"]["annotations"].as_object().unwrap().len());
        assert_eq!((marks, asked[0].crds), (expected, expected.is_some()), "{policy}");
    }
}

#[test]
fn hooks_and_refusals_hold_the_release_by_name() {
    let hook = "---\n# Source: web/templates/job.yaml\napiVersion: batch/v1\nkind: Job\nmetadata: {name: migrate, \
                annotations: {helm.sh/hook: 'pre-install,pre-upgrade'}}\n";
    for (answer, says) in [
        (Ok(hook.to_owned()), "Job migrate (pre-install,pre-upgrade, web/templates/job.yaml)"),
        (Err("helm: values don't meet the schema".to_owned()), "don't meet the schema"),
        (Ok("---\n# Source: web/templates/x.yaml\na: [\n".to_owned()), "is not YAML"),
        (Ok("---\n# Source: web/templates/x.yaml\nkind: ConfigMap\n".to_owned()), "apiVersion"),
    ] {
        let (render, _) = World::default().render(&files(CHART, ""), |_| answer.clone());
        let problem = &held(&render)[0];
        assert!(problem.message.contains(says) && !problem.file.is_empty(), "{problem:?}");
    }
}

#[test]
fn the_namespace_in_git_counts() {
    let declared = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {team: a}}\n";
    let spec = format!("{CHART}  targetNamespace: shop\n  install: {{createNamespace: true}}\n");
    let namespaces = |render: &ClusterRender, id: &UnitId| {
        let unit = render.units[id].unit.clone().unwrap_or_else(|| panic!("{:?}", render.units[id]));
        assert_eq!(unit.content.objects.len(), unit.manifest.objects.len());
        assert_eq!(unit.content.objects.len(), unit.content.origins.len());
        unit.content.objects.iter().filter(|object| object.id().kind == "Namespace").count()
    };
    for (more, own, at_root) in [("", 1, 0), (declared, 0, 1), (&declared.replace("shop", "other"), 1, 1)] {
        let (render, _) = World::default().render(&files(&spec, more), config_map);
        assert_eq!(
            (namespaces(&render, &web()), namespaces(&render, &UnitId::root())),
            (own, at_root),
            "{more}"
        );
    }
    // Two that make it agree, and one that brings it in its chart makes none.
    let mut all = files(&spec, "");
    all.push(("clusters/x/other.yaml", release("other", &spec)));
    let (render, _) = World::default().render(&all, config_map);
    assert_eq!(
        (namespaces(&render, &web()), namespaces(&render, &UnitId::helm_release("apps", "other"))),
        (1, 1)
    );
    let (render, _) = World::default().render(&files(&spec, ""), |_| Ok(declared.to_owned()));
    assert_eq!(namespaces(&render, &web()), 1);
    // Without a namespace of its own there is nothing to make.
    let spec = format!("{CHART}  install: {{createNamespace: true}}\n");
    let (render, _) = World::default().render(&files(&spec, ""), config_map);
    assert_eq!(namespaces(&render, &web()), 0);
    let notice = &render.units[&UnitId::root()].problems[0];
    assert!(notice.notice && notice.message.contains("no effect without targetNamespace"), "{notice:?}");
    // What the fleet's own files declare counts, whatever account applies it.
    let tenant = "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: tenant, namespace: \
                  team}\nspec: {interval: 1m, prune: true, path: tenant, serviceAccountName: sa, sourceRef: {kind: \
                  GitRepository, name: flux-system, namespace: flux-system}}\n";
    let spec = format!("{CHART}  targetNamespace: shop\n  install: {{createNamespace: true}}\n");
    let mut all = files(&spec, tenant);
    all.push(("tenant/namespace.yaml", declared.to_owned()));
    let (render, _) = World::default().render(&all, config_map);
    assert_eq!(namespaces(&render, &web()), 0);
}

#[test]
fn charts_that_install_flux_are_left_out() {
    for (chart, path) in [
        ("flux-operator", "charts/flux-operator/Chart.yaml"),
        ("flux-instance", "charts/flux-instance/Chart.yaml"),
        ("flux2", "charts/flux2/Chart.yaml"),
    ] {
        let spec = format!(
            "  chart:\n    spec: {{chart: ./charts/{chart}, sourceRef: {{kind: GitRepository, name: flux-system, namespace: \
             flux-system}}}}\n"
        );
        let mut all = files(&spec, "");
        all.push((path, format!("name: {chart}\n")));
        let (render, asked) = World::default().render(&all, config_map);
        assert!(asked.is_empty() && unit(&render).content.objects.is_empty(), "{chart}");
        let notice = &render.units[&web()].problems[0];
        assert!(notice.notice && notice.message.contains("Flux's own"), "{notice:?}");
    }
}

#[test]
fn crds_that_are_templates_are_objects_like_the_others() {
    let output = "---\n# Source: own/templates/crds/things.yaml\napiVersion: apiextensions.k8s.io/v1\nkind: \
                  CustomResourceDefinition\nmetadata: {name: things.example.org}\n---\n# Source: \
                  own/charts/sub/crds/stray.yaml\napiVersion: v1\nkind: Service\nmetadata: {name: stray}\n";
    let (render, _) = World::default().render(&files(CHART, ""), |_| Ok(output.to_owned()));
    let expected = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.org"},
    });
    assert_eq!(objects(&render), [expected]);
    let notice = &render.units[&web()].problems[0];
    assert!(notice.notice && notice.message.starts_with("Service stray is in crds/"), "{notice:?}");
}
