//! The boundary between tenants: what an object, a definition or a name in a tenant's repository may not bring about.
//! The table of all of it is in docs/security.md.

use flotilla_core::UnitId;
use flotilla_render::ClusterRender;

use crate::world::*;

/// What a ConfigMap would be that has the agent read a Secret of another namespace.
const FORGED: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: loot, namespace: d}\nflotilla.dev/template: {text: \
                      'kind: ConfigMap', variables: {layers: [{from: {kind: Secret, namespace: kube-system, name: x}}]}}\n";

#[test]
fn nobody_writes_the_fields_of_the_wire() {
    let apps = |more: &str| ("clusters/x/apps.yaml", unit("apps", FLEET, &format!("  path: apps\n{more}")));
    let plain = |text: &str| ("apps/m.yaml", text.to_owned());
    let kustomization = |text: &str| ("apps/kustomization.yaml", format!("resources: [m.yaml]\n{text}"));
    let patch = "{target: {kind: ConfigMap}, patch: '[{\"op\": \"add\", \"path\": \"/flotilla.dev~1template\", \"value\": {\"text\": \"a\"}}]'}";
    for (what, files) in [
        ("manifest", vec![apps(""), plain(FORGED)]),
        ("another field of ours", vec![apps(""), plain(&FORGED.replace("/template", "/of-the-future"))]),
        (
            "list",
            vec![
                apps(""),
                plain(&format!(
                    "apiVersion: v1\nkind: List\nitems:\n- {}",
                    FORGED.trim_end().replace('\n', "\n  ")
                )),
            ],
        ),
        ("patch", vec![apps(""), plain(&config_map("m")), kustomization(&format!("patches: [{patch}]\n"))]),
        ("patch of the unit", vec![apps(&format!("  patches: [{patch}]\n")), plain(&config_map("m"))]),
        (
            "substituted key",
            vec![
                apps("  postBuild: {substitute: {a: template}}\n"),
                plain(&FORGED.replace("flotilla.dev/template", "\"flotilla.dev/${a}\"")),
            ],
        ),
        (
            "beside variables that only the cluster has",
            vec![
                apps("  postBuild: {substituteFrom: [{kind: Secret, name: keys}]}\n"),
                plain(&format!("{FORGED}data: {{a: '${{password}}'}}\n")),
            ],
        ),
    ] {
        let render = World::new(&[]).render(&files);
        let apps = &render.units[&UnitId::kustomization("flux-system", "apps")];
        assert!(apps.unit.is_none(), "{what}");
        let said = apps.problems[0].to_string();
        assert!(said.contains("which only hub and agent write between them; remove it"), "{what}: {said}");
    }
}

/// Three tenants beside the platform: each a repository that is applied as an account of one namespace. `inside` is what
/// the repository of team-a holds; team-b has secrets, a unit and a ConfigMap of its own.
fn fleet(hops: usize, inside: &[&str]) -> (World, ClusterRender) {
    fleet_with(hops, inside, &[], "")
}

fn fleet_with(
    hops: usize,
    inside: &[&str],
    more: &[(&str, String)],
    annotations: &str,
) -> (World, ClusterRender) {
    // From two hops away: what the repository of team-a defines is a unit under another account of its namespace, of
    // another repository of theirs.
    let hop = [
        git("team-a/next", ""),
        unit("team-a/next", "{kind: GitRepository, name: next}", "  serviceAccountName: other\n"),
    ];
    let inside: Vec<String> = inside.iter().map(|text| (*text).to_owned()).collect();
    let (first, next) = if hops == 1 { (inside, Vec::new()) } else { (hop.to_vec(), inside) };
    let named = |texts: &[String], origin: &str| {
        let files: Vec<(String, String)> =
            texts.iter().enumerate().map(|(n, text)| (format!("{n}.yaml"), text.clone())).collect();
        let files: Vec<(&str, String)> =
            files.iter().map(|(path, text)| (path.as_str(), text.clone())).collect();
        tree(&files, origin)
    };
    let world = World::new(&[
        ("team-a", named(&first, "team-a")),
        ("next", named(&next, "next")),
        (
            "team-b",
            tree(&[("app.yaml", config_map("app").replace("namespace: d", "namespace: team-b"))], "team-b"),
        ),
        ("evil", tree(&[("m.yaml", config_map("m"))], "evil")),
    ]);
    let own = |team: &str, annotations: &str| {
        let source = format!("{{kind: GitRepository, name: {team}}}");
        unit(&format!("{team}/{team}"), &source, "  serviceAccountName: sa\n")
            .replace("metadata: {", &format!("metadata: {{{annotations}"))
    };
    let mut files = vec![
        ("clusters/x/a-source.yaml", git("team-a/team-a", "")),
        ("clusters/x/a.yaml", own("team-a", annotations)),
        ("clusters/x/b-source.yaml", git("team-b/team-b", "  secretRef: {name: git-creds}\n")),
        ("clusters/x/b.yaml", own("team-b", "")),
    ];
    files.extend(more.iter().cloned());
    let render = world.render(&files);
    (world, render)
}

/// What team-a's units are told.
fn told(render: &ClusterRender) -> String {
    let theirs = render.units.iter().filter(|(id, _)| id.namespace == "team-a");
    let problems =
        theirs.flat_map(|(id, unit)| unit.problems.iter().map(move |problem| format!("{id}: {problem}")));
    problems.collect::<Vec<_>>().join("\n")
}

fn source_of(kind: &str, name: &str, spec: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap();
    format!(
        "apiVersion: source.toolkit.fluxcd.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: \
         {{interval: 1m, {spec}}}\n"
    )
}

fn release(name: &str, spec: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap();
    format!(
        "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: \
         {{interval: 1m, {spec}}}\n"
    )
}

#[test]
fn nothing_is_defined_outside_of_the_accounts_namespace_however_it_is_reached() {
    let git_b = "url: 'https://evil.example/x'";
    let with_secret = "url: 'https://evil.example/x', secretRef: {name: git-creds}";
    for hops in [1, 2] {
        for (what, inside) in [
            ("a source", source_of("GitRepository", "team-b/evil", git_b)),
            ("a source with credentials", source_of("GitRepository", "team-b/evil", with_secret)),
            (
                "a proxy's secret",
                source_of("GitRepository", "team-b/evil", &format!("{git_b}, proxySecretRef: {{name: p}}")),
            ),
            ("a chart repository", source_of("HelmRepository", "team-b/evil", with_secret)),
            (
                "certificates",
                source_of("HelmRepository", "team-b/evil", &format!("{git_b}, certSecretRef: {{name: tls}}")),
            ),
            (
                "an OCI repository",
                source_of(
                    "OCIRepository",
                    "team-b/evil",
                    "url: 'oci://evil.example/x', secretRef: {name: r}",
                ),
            ),
            (
                "a bucket",
                source_of(
                    "Bucket",
                    "team-b/evil",
                    "bucketName: x, endpoint: evil.example, secretRef: {name: s3}",
                ),
            ),
            (
                "keys to verify with",
                source_of(
                    "GitRepository",
                    "team-b/evil",
                    &format!("{git_b}, verify: {{mode: HEAD, secretRef: {{name: k}}}}"),
                ),
            ),
            (
                "a chart",
                source_of(
                    "HelmChart",
                    "team-b/evil",
                    "chart: x, sourceRef: {kind: HelmRepository, name: charts}",
                ),
            ),
            ("a wrong source", source_of("GitRepository", "team-b/evil", "nonsense: 1")),
            (
                "a unit with an account",
                unit("team-b/evil", "{kind: GitRepository, name: team-b}", "  serviceAccountName: sa\n"),
            ),
            ("a unit", unit("team-b/evil", "{kind: GitRepository, name: team-a, namespace: team-a}", "")),
            (
                "a unit of the platform's",
                unit("flux-system/evil", FLEET, "  serviceAccountName: kustomize-controller\n"),
            ),
            ("a unit of the fleet repo", unit("team-b/evil", FLEET, "  path: clusters/x\n")),
            (
                "variables of another's Secret",
                unit(
                    "team-b/evil",
                    "{kind: GitRepository, name: team-b}",
                    "  postBuild: {substituteFrom: [{kind: Secret, name: keys}]}\n",
                ),
            ),
            ("a wrong unit", unit("team-b/evil", FLEET, "  nonsense: 1\n")),
            (
                "a release",
                release(
                    "team-b/evil",
                    "chart: {spec: {chart: x, sourceRef: {kind: HelmRepository, name: charts}}}",
                ),
            ),
            (
                "values of another's Secret",
                release(
                    "team-b/evil",
                    "chartRef: {kind: OCIRepository, name: x}, valuesFrom: [{kind: Secret, name: keys}]",
                ),
            ),
            ("a wrong release", release("team-b/evil", "nonsense: 1")),
        ] {
            let (world, render) = fleet(hops, &[&inside]);
            assert!(!render.units.keys().any(|id| id.name == "evil"), "{what} from {hops}");
            assert!(!render.sources.keys().any(|id| id.name == "evil"), "{what} from {hops}");
            let asked = world.fetched.asked.lock().unwrap().clone();
            assert!(!asked.iter().any(|source| source.contains("evil")), "{what} from {hops}: {asked:?}");
            let told = told(&render);
            assert!(
                told.contains(
                    "is applied as a service account and may define what is in the namespace team-a, not in '"
                ),
                "{what} from {hops}: {told}"
            );
            let b = &render.units[&UnitId::kustomization("team-b", "team-b")];
            assert!(b.unit.is_some() && b.problems.is_empty(), "{what}: {:?}", b.problems);
        }
    }
}

#[test]
fn a_name_of_somebody_else_is_not_taken_before_them() {
    for hops in [1, 2] {
        for first in [
            unit("team-b/team-b", "{kind: GitRepository, name: evil}", ""),
            git("team-b/team-b", "  nonsense: 1\n"),
        ] {
            let (_, render) = fleet(hops, &[&first]);
            let b = &render.units[&UnitId::kustomization("team-b", "team-b")];
            assert_eq!(b.parent, Some(UnitId::root()));
            assert!(b.unit.is_some(), "{:?}", b.problems);
        }
    }
    // In a tenant's own namespace the fleet repo's definition counts, though it waits for a ConfigMap of another unit and
    // so comes after the tenant's.
    let values = "  path: quota\n  postBuild: {substituteFrom: [{kind: ConfigMap, name: late}]}\n";
    let policy = unit("platform", FLEET, values);
    let ours = unit("team-a/quota", FLEET, "  path: ours\n");
    let theirs = unit("team-a/quota", "{kind: GitRepository, name: own}", "");
    let files = [
        ("clusters/x/platform.yaml", policy),
        ("quota/q.yaml", ours),
        ("quota/s.yaml", git("team-a/own", "  ref: {branch: ours}\n")),
        ("ours/m.yaml", config_map("ours")),
        ("clusters/x/vars.yaml", unit("vars", "{kind: GitRepository, name: vars}", "")),
        ("clusters/x/vars-source.yaml", git("vars", "")),
    ];
    for inside in [
        vec![theirs.as_str()],
        vec![&theirs, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, namespace: team-a}\n"],
    ] {
        let own = git("team-a/own", "");
        let inside: Vec<&str> = inside.into_iter().chain([own.as_str()]).collect();
        let (_, render) = fleet_with(1, &inside, &files, "");
        let quota = &render.units[&UnitId::kustomization("team-a", "quota")];
        assert_eq!(quota.parent, Some(UnitId::kustomization("flux-system", "platform")));
        assert!(quota.unit.is_some(), "{:?}", quota.problems);
        let own = render.sources.iter().find(|(id, _)| id.name == "own").unwrap().1;
        assert_eq!(own.defined_by, UnitId::kustomization("flux-system", "platform"));
        assert!(told(&render).contains("kustomization/team-a/quota is not taken from kustomization/team-a/team-a: a unit of the fleet repo"));
    }
}

#[test]
fn the_fleet_repo_may_allow_more_namespaces_and_a_tenant_may_not() {
    let child = unit("team-b/more", "{kind: GitRepository, name: team-b}", "");
    let is_there =
        |render: &ClusterRender| render.units.contains_key(&UnitId::kustomization("team-b", "more"));
    let allow = |names: &str| format!("annotations: {{flotilla.dev/namespaces: '{names}'}}, ");
    for (names, expected) in [("team-b", true), ("x, team-b", true), ("*", true), ("team-c", false)] {
        let (_, render) = fleet_with(1, &[&child], &[], &allow(names));
        assert_eq!(is_there(&render), expected, "{names}: {}", told(&render));
        let (_, render) = fleet_with(2, &[&child], &[], &allow(names));
        assert!(!is_there(&render), "from two hops the next account counts: {names}");
    }
    let (_, render) = fleet_with(1, &[], &[], &allow("Team_B"));
    assert!(told(&render).contains("'Team_B' is not a valid name of a namespace"), "{}", told(&render));
    // What a tenant writes of itself.
    let widened = unit("team-a/wide", "{kind: GitRepository, name: next}", "  serviceAccountName: other\n")
        .replace("metadata: {", "metadata: {annotations: {flotilla.dev/namespaces: '*'}, ");
    let files = [("clusters/x/next.yaml", git("team-a/next", ""))];
    let (_, render) = fleet_with(1, &[&widened], &files, "");
    let wide = &render.units[&UnitId::kustomization("team-a", "wide")];
    assert_eq!(wide.authority.to_string(), "the namespace team-a");
}

#[test]
fn what_a_tenant_puts_out_for_another_namespace_counts_for_nobody_there() {
    let map = |name: &str, value: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: team-b}}\ndata: {{x: {value}}}\n"
        )
    };
    for hops in [1, 2] {
        let files = [
            ("clusters/x/v.yaml", unit("team-b/uses", FLEET, "  path: uses\n  postBuild: {substituteFrom: [{kind: ConfigMap, name: vars}]}\n")),
            ("uses/m.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, namespace: team-b}\ndata: {x: '${x}'}\n".to_owned()),
            ("clusters/x/w.yaml", release("team-b/web", "chart: {spec: {chart: web, sourceRef: {kind: GitRepository, name: flux-system, namespace: flux-system}}}, valuesFrom: [{kind: ConfigMap, name: vars, valuesKey: x}]")),
            ("web/Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.0.0\n".to_owned()),
        ];
        let (_, render) = fleet_with(hops, &[&map("vars", "'evil: 1'")], &files, "");
        let uses = render.units[&UnitId::kustomization("team-b", "uses")].unit.as_ref().unwrap();
        assert!(uses.content.objects[0].is_template(), "only the cluster knows");
        let web = &render.units[&UnitId::helm_release("team-b", "web")];
        let says = web.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        assert!(says.contains("ConfigMap/vars is in nothing that is rendered"), "{says}");
        assert!(render.requests.is_empty(), "helm is not asked with a stranger's values");

        // Nor do the APIs that it declares decide what charts of others put out.
        let crd = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: monitors.example.com}\nspec: {group: example.com, names: {kind: Monitor}, versions: [{name: v1}]}\n";
        let chart = [
            (
                "clusters/x/w.yaml",
                release(
                    "team-b/web",
                    "chart: {spec: {chart: web, sourceRef: {kind: GitRepository, name: flux-system, namespace: flux-system}}}",
                ),
            ),
            ("web/Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.0.0\n".to_owned()),
        ];
        let declared = |render: &ClusterRender| {
            let apis = |asked: &flotilla_render::helm::Asked| asked.request.capabilities.api_versions.clone();
            render.requests.values().flat_map(apis).any(|api| api.to_string().starts_with("example.com/"))
        };
        let (_, render) = fleet_with(hops, &[crd], &chart, "");
        assert_eq!(render.requests.len(), 1);
        assert!(!declared(&render));
        let mut by_platform = chart.to_vec();
        by_platform.push(("clusters/x/crd.yaml", crd.to_owned()));
        assert!(declared(&fleet_with(hops, &[], &by_platform, "").1));
    }
}

#[test]
fn a_clash_takes_the_object_from_the_intruder_and_nothing_from_the_victim() {
    let app = |namespace: &str, value: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: app, namespace: {namespace}}}\ndata: {{x: '{value}'}}\n"
        )
    };
    let own = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: own, namespace: team-a}\n";
    let role =
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: r}\nrules: []\n";
    let other_role = format!("{role}aggregationRule: {{}}\n");
    let fleet_unit = ("clusters/x/z.yaml", unit("z/platform", FLEET, "  path: platform\n"));
    let after = (
        "clusters/x/after.yaml",
        unit("after", FLEET, "  path: after\n  dependsOn: [{name: team-a, namespace: team-a}]\n"),
    );
    for hops in [1, 2] {
        let intruder = UnitId::kustomization("team-a", if hops == 1 { "team-a" } else { "next" });
        for (what, victim, theirs, ours) in [
            (
                "an object of another tenant",
                UnitId::kustomization("team-b", "team-b"),
                app("team-b", "evil"),
                None,
            ),
            (
                "one of the platform's in the tenant's namespace",
                UnitId::kustomization("z", "platform"),
                app("team-a", "evil"),
                Some(app("team-a", "good")),
            ),
            (
                "one of no namespace",
                UnitId::kustomization("z", "platform"),
                other_role.clone(),
                Some(role.to_owned()),
            ),
        ] {
            let mut files = vec![after.clone(), ("after/m.yaml", config_map("after"))];
            if let Some(ours) = ours {
                files.extend([fleet_unit.clone(), ("platform/m.yaml", ours)]);
            }
            let (_, render) = fleet_with(hops, &[&theirs, own], &files, "");
            let victims =
                render.units[&victim].unit.as_ref().unwrap_or_else(|| panic!("{what}: {victim} is held"));
            assert_eq!(victims.content.objects.len(), 1, "{what}");
            assert!(
                render.units[&victim].problems.is_empty(),
                "{what}: {:?}",
                render.units[&victim].problems
            );
            let rendered = &render.units[&intruder];
            let theirs = rendered.unit.as_ref().unwrap();
            let names: Vec<&str> =
                theirs.content.objects.iter().map(|object| object.id().name.as_str()).collect();
            assert_eq!(names, ["own"], "{what}: the rest is applied");
            assert_eq!(theirs.manifest.objects.len(), 1);
            let says = rendered.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            assert!(
                says.contains(&format!("belongs to {victim}")) && says.contains("applied without it"),
                "{says}"
            );
            assert!(rendered.problems.iter().all(|problem| problem.notice));
            assert!(
                render.units[&UnitId::kustomization("flux-system", "after")].unit.is_some(),
                "dependents go on"
            );
        }
    }
}

#[test]
fn what_is_held_loses_nothing_meanwhile() {
    let theirs =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app, namespace: team-b}\ndata: {x: evil}\n";
    let (mut world, render) = fleet(1, &[theirs]);
    let b = UnitId::kustomization("team-b", "team-b");
    world.last_good.insert(b.clone(), render.units[&b].unit.as_ref().unwrap().content.clone());
    // Its source cannot be had, so it does not render.
    world.fetched.trees.remove("team-b");
    let own = |team: &str| {
        unit(
            &format!("{team}/{team}"),
            &format!("{{kind: GitRepository, name: {team}}}"),
            "  serviceAccountName: sa\n",
        )
    };
    let render = world.render(&[
        ("clusters/x/a-source.yaml", git("team-a/team-a", "")),
        ("clusters/x/a.yaml", own("team-a")),
        ("clusters/x/b-source.yaml", git("team-b/team-b", "")),
        ("clusters/x/b.yaml", own("team-b")),
    ]);
    assert!(render.units[&b].unit.is_none());
    let a = render.units[&UnitId::kustomization("team-a", "team-a")].unit.as_ref().unwrap();
    assert!(a.content.objects.is_empty(), "{:?}", a.content.objects);
}

#[test]
fn names_are_those_that_an_api_server_takes() {
    let long = "x".repeat(254);
    let names = ["--x", "../x", "X", "a/b", "a..b", "a\\nb", "ａ", &long, "a:b"];
    for name in names {
        for text in [
            unit("a", FLEET, "").replace("name: a,", &format!("name: \"{name}\",")),
            git("a", "").replace("name: a,", &format!("name: \"{name}\",")),
            unit("a", FLEET, "").replace("namespace: flux-system}", &format!("namespace: \"{name}\"}}")),
            release("d/a", "suspend: true").replace("name: a,", &format!("name: \"{name}\",")),
        ] {
            let render = World::new(&[]).render(&[("clusters/x/a.yaml", text.clone())]);
            let root = &render.units[&UnitId::root()];
            assert!(root.unit.is_none() && render.units.len() == 1, "{text}");
            assert!(root.hold_reason().contains("that no API server takes, '"), "{}", root.hold_reason());
            assert!(root.hold_reason().len() < 400, "{}", root.hold_reason());
        }
        for text in [
            unit("a", FLEET, &format!("  serviceAccountName: \"{name}\"\n")),
            release(
                "d/a",
                &format!("chartRef: {{kind: OCIRepository, name: x}}, serviceAccountName: \"{name}\""),
            ),
        ] {
            let render = World::new(&[]).render(&[("clusters/x/a.yaml", text.clone())]);
            let a = render.units.values().find(|unit| unit.definition.id.name == "a").unwrap();
            assert!(a.hold_reason().contains("is not the name of a service account"), "{}", a.hold_reason());
        }
    }
}

#[test]
fn a_unit_has_a_bounded_number_of_problems() {
    let texts: Vec<String> = (0..300).map(|n| unit(&format!("b{n}/x"), FLEET, "")).collect();
    let inside: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (_, render) = fleet(1, &inside);
    let problems = &render.units[&UnitId::kustomization("team-a", "team-a")].problems;
    assert_eq!(problems.len(), 101);
    assert_eq!(problems[100].message, "200 more problems are not shown");
}
