//! What somebody who may write a tenant's repository, and nothing else, can try by what that repository defines. What the
//! cluster says to each is in the scenarios: here is what the hub itself must not do for them.

use flotilla_core::UnitId;
use flotilla_render::ClusterRender;

use crate::world::*;

const OWN: &str = "{kind: GitRepository, name: team}";

/// The platform: a tenant under an account of its own, and a part in a repository of its own, which defines sources and
/// units late.
fn platform() -> Vec<(&'static str, String)> {
    vec![
        ("clusters/x/a-tenant.yaml", unit("apps/team", OWN, "  serviceAccountName: deployer\n")),
        ("clusters/x/a-tenant-source.yaml", git("apps/team", "")),
        (
            "clusters/x/infra.yaml",
            unit("infra", "{kind: GitRepository, name: infra}", "  serviceAccountName: admin\n"),
        ),
        ("clusters/x/infra-source.yaml", git("infra", "")),
        ("clusters/x/local.yaml", unit("local", FLEET, "  path: local\n")),
        ("local/own.yaml", unit("local-charts", "{kind: GitRepository, name: local-charts}", "")),
        ("local/source.yaml", git("local-charts", "")),
    ]
}

fn generator(name: &str, input: &str, artifact: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap_or(("flux-system", name));
    format!(
        "apiVersion: source.extensions.fluxcd.io/v1beta1\nkind: ArtifactGenerator\nmetadata: {{name: {name}, namespace: \
         {namespace}}}\nspec:\n  sources: [{{alias: in, {input}}}]\n  artifacts: [{{name: {artifact}, copy: [{{from: \
         '@in/**', to: '@artifact/'}}]}}]\n"
    )
}

fn release(name: &str, chart: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap_or(("flux-system", name));
    format!(
        "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {{name: {name}, namespace: \
         {namespace}}}\nspec:\n  interval: 1m\n  chart: {{spec: {{chart: web, sourceRef: {chart}}}}}\n"
    )
}

/// Renders the platform with what the tenant's repository, and that of the infrastructure, hold.
fn render(tenant: &[&str], infra: &[&str]) -> ClusterRender {
    let named = |texts: &[&str], origin: &str| {
        let files: Vec<(String, String)> =
            texts.iter().enumerate().map(|(n, text)| (format!("{n}.yaml"), (*text).to_owned())).collect();
        let files: Vec<(&str, String)> =
            files.iter().map(|(path, text)| (path.as_str(), text.clone())).collect();
        tree(&files, origin)
    };
    let map = |name: &str| tree(&[("m.yaml", config_map(name))], name);
    let world = World::new(&[
        ("team", named(tenant, "team")),
        ("infra", named(infra, "infra")),
        ("charts", map("charts")),
        ("local-charts", map("local-charts")),
    ]);
    world.render(&platform())
}

fn account(render: &ClusterRender, unit: &str) -> String {
    let unit = render.units[&unit.parse::<UnitId>().unwrap()].unit.as_ref().unwrap();
    unit.manifest.spec.service_account.as_ref().map_or("the agent".to_owned(), ToString::to_string)
}

/// Why a unit is held; "" where it is not.
fn held(render: &ClusterRender, unit: &str) -> String {
    let unit = &render.units[&unit.parse::<UnitId>().unwrap()];
    let errors = unit.problems.iter().filter(|problem| !problem.notice).map(ToString::to_string);
    if unit.unit.is_some() { String::new() } else { errors.collect::<Vec<_>>().join("; ") }
}

#[test]
fn accounts_are_inherited_and_not_shaken_off() {
    let own = unit("apps/team", OWN, "");
    let below = unit("apps/below", OWN, "  path: nothing\n");
    let other = unit("apps/other", OWN, "  path: nothing\n  serviceAccountName: builder\n");
    let elsewhere = unit("flux-system/taken", "{kind: GitRepository, name: team, namespace: apps}", "");
    let fleet = unit("apps/fleet", FLEET, "  path: clusters/x\n");
    let render = render(&[&own, &below, &other, &elsewhere, &fleet, &git("flux-system", "")], &[]);
    assert_eq!(account(&render, "apps/team"), "apps/deployer", "it cannot define itself anew");
    for (unit, says) in [
        ("apps/below", "there is no such folder"),
        ("apps/other", "there is no such folder"),
        ("apps/fleet", "reads its own namespace only"),
    ] {
        assert!(held(&render, unit).contains(says), "{unit}: {}", held(&render, unit));
        assert_eq!(render.units[&unit.parse().unwrap()].parent, Some("apps/team".parse().unwrap()));
    }
    let told = &render.units[&"apps/team".parse().unwrap()].problems;
    assert!(!render.units.contains_key(&"flux-system/taken".parse().unwrap()));
    let says = "kustomization/flux-system/taken is not taken: kustomization/apps/team is applied as a service account and may \
                define what is in the namespace apps, not in 'flux-system'";
    assert!(told.iter().any(|problem| problem.message.starts_with(says)), "{told:?}");
    assert!(
        told.iter().any(|problem| problem.message.contains("which only the root unit defines")),
        "{told:?}"
    );
}

#[test]
fn a_source_of_somebody_else_is_not_put_in_the_place_of_one_that_is_meant() {
    let late = unit("late", "{kind: GitRepository, name: charts}", "");
    let shadow = git("charts", "");
    // The tenant's repository is rendered before that of the infrastructure, whose own definition comes too late.
    let render_both = |tenant: &[&str]| render(tenant, &[&late, &shadow]);
    assert_eq!(held(&render_both(&[]), "flux-system/late"), "");
    let both = render_both(&[&shadow]);
    assert_eq!(held(&both, "flux-system/late"), "");
    let charts = both.sources.iter().find(|(id, _)| id.name == "charts").unwrap().1;
    assert_eq!(charts.defined_by, "flux-system/infra".parse().unwrap(), "the tenant's has no place there");
    // What the fleet repo defines goes before, wherever it stands.
    let local = render(&[&git("local-charts", "  url: https://evil.example/x\n")], &[]);
    assert_eq!(held(&local, "flux-system/local-charts"), "");
    let source = local
        .sources
        .values()
        .find(|source| source.source.as_ref().is_some_and(|s| s.id.name == "local-charts"));
    assert_eq!(source.unwrap().defined_by, "flux-system/local".parse().unwrap());

    // A chart by way of its repository.
    let repository = |url: &str| {
        format!(
            "apiVersion: source.toolkit.fluxcd.io/v1\nkind: HelmRepository\nmetadata: {{name: repo, namespace: \
             flux-system}}\nspec: {{interval: 1m, url: '{url}'}}\n"
        )
    };
    let web = release("web", "{kind: HelmRepository, name: repo}");
    let chart =
        render(&[&repository("https://evil.example")], &[&web, &repository("https://charts.example")]);
    let repo = chart.sources.iter().find(|(id, _)| id.name == "repo").unwrap().1;
    assert_eq!(repo.defined_by, "flux-system/infra".parse().unwrap());

    // Of two whose namespace it is, the first has it, and the other does not take it for its own.
    let second = unit("a-second", "{kind: GitRepository, name: second}", "  serviceAccountName: second\n");
    let mut files = platform();
    files.extend([("clusters/x/a-second.yaml", second), ("clusters/x/a-source.yaml", git("second", ""))]);
    let named = |texts: &[&String], origin: &str| {
        let names = ["0.yaml", "1.yaml"];
        let files: Vec<(&str, String)> =
            names.into_iter().zip(texts.iter().map(|text| (*text).clone())).collect();
        tree(&files, origin)
    };
    let trees = [("second", named(&[&shadow], "second")), ("infra", named(&[&late, &shadow], "infra"))];
    let why = held(&World::new(&trees).render(&files), "flux-system/late");
    assert!(
        why.contains(
            "GitRepository/flux-system/charts is defined by kustomization/flux-system/a-second, which is applied as \
             flux-system/second from GitRepository/flux-system/second: only what that unit defines"
        ),
        "{why}"
    );

    // What is the tenant's own is theirs to use.
    let own = [git("apps/own", ""), unit("apps/below", "{kind: GitRepository, name: own}", "")];
    let world = render(&own.each_ref().map(String::as_str), &[]);
    assert!(held(&world, "apps/below").contains("is not fetched yet"), "{}", held(&world, "apps/below"));
}

#[test]
fn generators_give_a_tenant_nothing_of_others() {
    let meant = generator("meant", "kind: GitRepository, name: charts", "made");
    let late = unit("late", "{kind: ExternalArtifact, name: made}", "");
    let infra: Vec<String> = vec![meant, late, git("charts", "")];
    let infra: Vec<&str> = infra.iter().map(String::as_str).collect();
    // One in the namespace of the platform, by a name that comes first.
    let evil = generator("flux-system/a-evil", "kind: GitRepository, name: charts", "made");
    let both = render(&[&evil], &infra);
    assert_eq!(held(&both, "flux-system/late"), "");
    assert!(!both.sources.keys().any(|id| id.name == "a-evil"));
    let told = &both.units[&"apps/team".parse().unwrap()].problems;
    assert!(told[0].message.starts_with("ArtifactGenerator/flux-system/a-evil is not taken"), "{told:?}");
    // One of their own that reads what is not theirs.
    let reads =
        generator("apps/reads", "kind: GitRepository, name: charts, namespace: flux-system", "theirs");
    let uses = unit("apps/uses", "{kind: ExternalArtifact, name: theirs}", "");
    let why = held(&render(&[&reads, &uses], &infra), "apps/uses");
    assert!(why.contains("is in another namespace, which it may not read"), "{why}");
}

#[test]
fn credentials_of_another_namespace_go_nowhere() {
    let steals = git("flux-system/steals", "  secretRef: {name: flux-system}\n");
    let chart = "apiVersion: source.toolkit.fluxcd.io/v1\nkind: HelmRepository\nmetadata: {name: steals, namespace: \
                 flux-system}\nspec: {interval: 1m, url: 'https://evil.example', certSecretRef: {name: tls}}\n";
    let own = git("apps/own", "  secretRef: {name: own}\n");
    let render = render(&[&steals, chart, &own], &[&git("other/theirs", "  secretRef: {name: x}\n")]);
    let names: Vec<String> = render.sources.keys().map(ToString::to_string).collect();
    assert!(!names.iter().any(|name| name.contains("steals") || name.contains("other/")), "{names:?}");
    assert!(names.contains(&"GitRepository/apps/own".to_owned()), "{names:?}");
    for (unit, what) in [
        ("apps/team", "GitRepository/flux-system/steals"),
        ("apps/team", "HelmRepository/flux-system/steals"),
        ("flux-system/infra", "GitRepository/other/theirs"),
    ] {
        let told = &render.units[&unit.parse().unwrap()].problems;
        assert!(
            told.iter().any(|problem| problem.message.starts_with(&format!("{what} is not taken"))),
            "{told:?}"
        );
    }
    // What is refused takes nobody's place.
    let meant = git("flux-system/steals", "  secretRef: {name: flux-system}\n  suspend: true\n");
    let both = self::render(&[&steals], &[&meant]);
    let source =
        both.sources.values().find_map(|source| source.source.as_ref().filter(|s| s.id.name == "steals"));
    assert!(source.is_some_and(|source| source.suspend));
}

#[test]
fn our_own_kinds_and_fluxs_flags_count_in_the_fleet_repo_only() {
    let cluster =
        "apiVersion: flotilla.dev/v1alpha1\nkind: Cluster\nmetadata: {name: x}\nspec: {path: evil}\n";
    let why = held(&render(&[cluster], &[]), "apps/team");
    assert!(why.contains("a Cluster belongs below"), "{why}");
    // Controllers in a tenant's repository loosen nothing, and are no Deployments of anybody's.
    let loose = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: kustomize-controller, namespace: flux-system, \
                 labels: {app.kubernetes.io/part-of: flux}}\nspec: {template: {spec: {containers: [{name: m, args: \
                 [--default-service-account=admin]}]}}}\n";
    let below = unit("apps/below", "{kind: GitRepository, name: own}", "");
    let world = World::new(&[
        (
            "team",
            tree(&[("a.yaml", loose.to_owned()), ("b.yaml", below), ("c.yaml", git("apps/own", ""))], "team"),
        ),
        ("own", tree(&[("m.yaml", config_map("m"))], "own")),
    ]);
    let render = world.render(&platform());
    assert_eq!(account(&render, "apps/below"), "apps/deployer");
    assert!(render.units[&"apps/team".parse().unwrap()].unit.as_ref().unwrap().content.objects.is_empty());
}
