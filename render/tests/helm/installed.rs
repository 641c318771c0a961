//! Releases that are installed as Helm does it: what their records need, and the options of their HelmReleases.

use flotilla_core::Digest;
use flotilla_render::helm::TemplateRequest;
use serde_json::json;

use super::{CHART, World, config_map, files, held, objects, unit};

/// A release that is installed as Helm does it, with what stands under `spec`.
fn installed(spec: &str) -> Vec<(&'static str, String)> {
    let mut files = files(&format!("{CHART}{spec}"), "");
    files[1].1 =
        files[1].1.replacen("metadata: {", "metadata: {annotations: {flotilla.dev/release: helm}, ", 1);
    files
}

const PRINTED: &str = "---\n# Source: web/crds/two.yaml\n{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, \
                       metadata: {name: a.example.org}}\n---\n{apiVersion: apiextensions.k8s.io/v1, kind: \
                       CustomResourceDefinition, metadata: {name: b.example.org}}\n---\n# Source: \
                       web/templates/service.yaml\napiVersion: v1\nkind: Service\nmetadata:\n  name: web # kept\n\n---\n# \
                       Source: web/templates/config.yaml\n{apiVersion: v1, kind: ConfigMap, metadata: {name: \
                       web}}\n\n---\n# Source: web/templates/flotilla-notes.yaml\n# flotilla-notes: \"Thank \
                       you \\u003c3\\n\"\n\n---\n# Source: web/templates/job.yaml\n{apiVersion: batch/v1, kind: Job, metadata: \
                       {name: migrate, annotations: {helm.sh/hook: 'pre-install,pre-upgrade'}}}\n\n---\n# Source: \
                       web/templates/test.yaml\n{apiVersion: v1, kind: Pod, metadata: {name: t, annotations: \
                       {helm.sh/hook: test}}}\n\n---\n# Source: web/templates/odd.yaml\n{apiVersion: v1, kind: Pod, metadata: \
                       {name: o, annotations: {helm.sh/hook: crd-install}}}\n";

fn printed(_: &TemplateRequest) -> Result<String, String> {
    Ok(PRINTED.to_owned())
}

#[test]
fn what_a_record_needs_comes_with_a_release_that_is_installed() {
    use flotilla_helm::content::unpack_chart;
    let world = World::default();
    let files = installed("  storageNamespace: records\n  values: {text: hunter2}\n");
    let (render, _) = world.render(&files, printed);
    let web = unit(&render);
    let spec = web.manifest.spec.release.as_deref().unwrap();
    assert_eq!(
        (spec.name.as_str(), spec.namespace.as_str(), spec.storage_namespace.as_str()),
        ("web", "apps", "records")
    );
    assert_eq!(web.manifest.spec.requires, ["helm-release".to_owned()].into());
    let packed = web.content.release.as_ref().unwrap();
    assert_eq!(packed.content.digest, spec.content.digest);
    assert_eq!((packed.chart.digest, packed.chart.bytes.len() as u32), (spec.chart.digest, spec.chart.size));
    let chart = unpack_chart(&packed.chart.bytes).unwrap().value().unwrap();
    assert_eq!((&chart["metadata"]["name"], &chart["values"]), (&json!("web"), &json!({"a": 1})));
    let revision = flotilla_helm::Content::unpack(&packed.content.bytes).unwrap();
    assert_eq!(revision.config.value().unwrap(), json!({"text": "hunter2"}));
    assert_eq!(revision.notes, "Thank you <3\n");
    assert_eq!(
        revision.manifest,
        "---\n# Source: web/templates/config.yaml\n{apiVersion: v1, kind: ConfigMap, metadata: {name: web}}\n\n---\n# Source: \
         web/templates/service.yaml\napiVersion: v1\nkind: Service\nmetadata:\n  name: web # kept\n\n"
    );
    let hooks: Vec<_> = revision.hooks.iter().map(|hook| (hook.kind.as_str(), hook.name.as_str())).collect();
    assert_eq!(hooks, [("Pod", "t"), ("Job", "migrate")]);
    // Objects bear Helm's marks, CRDs do not: they are no part of the release.
    let marks = json!({"meta.helm.sh/release-name": "web", "meta.helm.sh/release-namespace": "apps"});
    let objects = objects(&render);
    let named = |name: &'static str| objects.iter().filter(move |object| object["metadata"]["name"] == name);
    for object in named("web") {
        assert_eq!(object["metadata"]["labels"], json!({"app.kubernetes.io/managed-by": "Helm"}));
        assert_eq!(
            (&object["metadata"]["annotations"], &object["metadata"]["namespace"]),
            (&marks, &json!("apps"))
        );
    }
    assert_eq!((named("web").count(), objects.len()), (2, 4));
    for name in ["a.example.org", "b.example.org"] {
        let annotations = &named(name).next().unwrap()["metadata"]["annotations"];
        assert_eq!(annotations["kustomize.toolkit.fluxcd.io/prune"], "disabled", "{name}");
    }
    let notices = &render.units[&web.manifest.id].problems;
    assert!(notices.iter().any(|it| it.notice && it.message.contains("'crd-install'")), "{notices:?}");

    // Other values are another content, and the chart is the same.
    let (render, _) = world.render(&installed("  values: {text: other}\n"), printed);
    let other = unit(&render);
    let other = other.manifest.spec.release.as_deref().unwrap();
    assert_ne!(other.content, spec.content);
    assert_eq!(other.chart, spec.chart);
}

#[test]
fn hooks_go_through_post_renderers_as_the_release_asks() {
    for (strategy, is_labelled) in [("", true), ("separate", true), ("combined", true), ("nohooks", false)] {
        let strategy = match strategy {
            "" => String::new(),
            strategy => format!("  postRenderStrategy: {strategy}\n"),
        };
        let files = installed(&format!("{strategy}  commonMetadata: {{labels: {{team: a}}}}\n"));
        let (render, _) = World::default().render(&files, printed);
        let content = unit(&render).content.release.clone().unwrap().content;
        let revision = flotilla_helm::Content::unpack(&content.bytes).unwrap();
        let hook = revision.hooks.iter().find(|hook| hook.name == "migrate").unwrap();
        assert_eq!(hook.path, "web/templates/job.yaml");
        assert_eq!(hook.manifest.contains("team: a"), is_labelled, "{strategy}");
        assert_eq!(revision.manifest.matches("team: a").count(), 2, "{strategy}");
        assert!(objects(&render).iter().any(|object| object["metadata"]["labels"]["team"] == "a"));
    }
}

#[test]
fn the_options_of_a_release_are_read_with_helm_controllers_defaults() {
    use flotilla_core::unit::release::*;
    let install_failure = OnFailure { remedy: Remedy::Uninstall, ..OnFailure::default() };
    let on_upgrade = |retries, remediate_last_failure, retry_interval| Options {
        on_upgrade_failure: OnFailure {
            retries,
            remediate_last_failure,
            retry_interval,
            ..OnFailure::default()
        },
        ..Options::default()
    };
    for (spec, expected) in [
        ("", Options::default()),
        (
            "  maxHistory: 0\n  waitStrategy: {name: legacy}\n",
            Options { max_history: 0, wait: WaitStrategy::Legacy, ..Options::default() },
        ),
        (
            "  install: {disableHooks: true, timeout: 1m, replace: true, remediation: {retries: -1}}\n",
            Options {
                install: ActionOptions { timeout: 60, disable_hooks: true, ..ActionOptions::default() },
                replace: true,
                on_install_failure: OnFailure { retries: None, ..install_failure.clone() },
                ..Options::default()
            },
        ),
        ("  upgrade: {remediation: {retries: 2}}\n", on_upgrade(Some(2), true, None)),
        ("  upgrade: {remediation: {retries: -1}}\n", on_upgrade(None, false, None)),
        (
            "  upgrade: {remediation: {retries: 2, remediateLastFailure: false}, strategy: {name: RetryOnFailure}}\n",
            on_upgrade(Some(2), false, Some(300)),
        ),
        (
            "  upgrade: {strategy: {name: RetryOnFailure, retryInterval: 1m}}\n",
            on_upgrade(Some(0), false, Some(60)),
        ),
        (
            "  test: {enable: true, ignoreFailures: true, filters: [{name: a}, {name: b, exclude: true}]}\n",
            Options {
                on_install_failure: OnFailure { ignore_test_failures: true, ..install_failure.clone() },
                on_upgrade_failure: OnFailure { ignore_test_failures: true, ..OnFailure::default() },
                test: TestOptions {
                    enable: true,
                    ignore_failures: true,
                    filters: vec![
                        TestFilter { name: "a".into(), exclude: false },
                        TestFilter { name: "b".into(), exclude: true },
                    ],
                    ..TestOptions::default()
                },
                ..Options::default()
            },
        ),
        (
            "  uninstall: {keepHistory: true, deletionPropagation: foreground}\n  rollback: {force: true, cleanupOnFail: \
             true}\n",
            Options {
                rollback: ActionOptions { force: true, cleanup_on_fail: true, ..ActionOptions::default() },
                uninstall: UninstallOptions {
                    keep_history: true,
                    propagation: Propagation::Foreground,
                    ..UninstallOptions::default()
                },
                ..Options::default()
            },
        ),
        (
            "  timeout: 1m\n  upgrade: {timeout: 2m}\n",
            Options {
                install: ActionOptions { timeout: 60, ..ActionOptions::default() },
                upgrade: ActionOptions { timeout: 120, ..ActionOptions::default() },
                rollback: ActionOptions { timeout: 60, ..ActionOptions::default() },
                uninstall: UninstallOptions {
                    action: ActionOptions { timeout: 60, ..ActionOptions::default() },
                    ..UninstallOptions::default()
                },
                test: TestOptions {
                    action: ActionOptions { timeout: 60, ..ActionOptions::default() },
                    ..TestOptions::default()
                },
                ..Options::default()
            },
        ),
    ] {
        let (render, _) = World::default().render(&installed(spec), config_map);
        let release = unit(&render).manifest.spec.release.clone().unwrap();
        assert_eq!(release.options, expected, "{spec}");
        let read: ReleaseSpec = serde_json::from_str(&serde_json::to_string(&release).unwrap()).unwrap();
        assert_eq!(read, *release, "{spec}");
    }
    for (spec, says) in [
        ("  upgrade: {preserveValues: true}\n", "upgrade.preserveValues: is not supported"),
        ("  install: {remediation: {strategy: rollback}}\n", "'strategy' is not a field here"),
        (
            "  install: {strategy: {name: RemediateOnFailure, retryInterval: 1m}}\n",
            "only for the strategy RetryOnFailure",
        ),
        ("  storageNamespace: 'no/namespace'\n", "spec.storageNamespace: "),
        ("  maxHistory: -1\n", "spec.maxHistory: must be a number"),
    ] {
        let (render, _) = World::default().render(&installed(spec), config_map);
        let problems = format!("{}", held(&render)[0]);
        assert!(problems.contains(says), "{problems}");
    }
}

#[test]
fn a_release_too_large_for_a_record_is_held_by_name() {
    use std::fmt::Write as _;
    let helm = |_: &TemplateRequest| {
        let mut text = String::from(
            "---\n# Source: web/templates/a.yaml\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n",
        );
        for n in 0..60_000_u64 {
            let noise = Digest::of(&n.to_le_bytes());
            writeln!(text, "  k{n}: {noise}").unwrap();
        }
        Ok(text)
    };
    let (render, _) = World::default().render(&installed(""), helm);
    let problem = &held(&render)[0];
    assert!(
        problem.message.contains("does not fit into a record: packed, its chart has 0 KiB"),
        "{problem:?}"
    );
    assert!(problem.message.contains(".helmignore") && !problem.file.is_empty(), "{problem:?}");
}

#[test]
fn a_plan_says_that_a_release_is_upgraded_and_nothing_of_its_values() {
    use flotilla_render::plan::{Differ, Side, UnitChange, plan};
    let root = flotilla_kustomize::files::TreePath::from_root("clusters/x").unwrap();
    let rendered = |spec: &str| World::default().render(&installed(spec), printed).0;
    let planned = |from: &str, to: &str| {
        let (from, to) = (rendered(from), rendered(to));
        let side = |render| Side::Defined { root: &root, render };
        plan(side(&from), side(&to), &Differ::new([7; 32]), "").plan
    };
    let values =
        |password: &str, history| format!("  maxHistory: {history}\n  values: {{password: {password}}}\n");
    let web = super::web();
    let same = planned(&values("hunter2", 5), &values("hunter2", 5));
    assert_eq!(same.units.get(&web), None);
    // The objects are the same: only the record has the values.
    let upgraded = planned(&values("hunter2", 5), &values("other", 6));
    assert!(upgraded.objects.is_empty(), "{:?}", upgraded.objects);
    let unit = &upgraded.units[&web];
    assert_eq!(unit.change, UnitChange::Changed);
    assert_eq!(unit.reason, "its Helm release is upgraded to another revision");
    let fields: Vec<_> = unit.fields.fields.iter().map(|field| field.path.as_str()).collect();
    assert_eq!(fields, ["/release/options/maxHistory"]);
}
