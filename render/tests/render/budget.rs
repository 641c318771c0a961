//! What one unit, one tenant or one cluster may come to: what is more is that unit's problem, and the others are rendered.

use flotilla_core::UnitId;
use flotilla_render::{Budget, ClusterRender};

use crate::world::*;

/// Two units over their own folder, with names that grow: each level doubles them.
const BOMB: &str = "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: \"${p}a\", namespace: team-a}\n\
    spec:\n  interval: 1h\n  prune: true\n  path: ./bomb\n  sourceRef: {kind: GitRepository, name: flux-system, namespace: \
    flux-system}\n  postBuild: {substitute: {p: \"${p}a\"}}\n---\napiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\n\
    metadata: {name: \"${p}b\", namespace: team-a}\nspec:\n  interval: 1h\n  prune: true\n  path: ./bomb\n  sourceRef: {kind: \
    GitRepository, name: flux-system, namespace: flux-system}\n  postBuild: {substitute: {p: \"${p}b\"}}\n";

fn bomb(account: &str) -> Vec<(&'static str, String)> {
    let start =
        unit("team-a/u", FLEET, &format!("  path: ./bomb\n  postBuild: {{substitute: {{p: u}}}}\n{account}"));
    vec![
        ("bomb/kustomization.yaml", "resources: [b.yaml]\n".to_owned()),
        ("bomb/b.yaml", BOMB.to_owned()),
        ("clusters/x/start.yaml", start),
        // Named so that it comes last, and what defines it with it.
        ("clusters/x/zz-late.yaml", unit("zz-late", FLEET, "  path: late\n")),
        ("late/later.yaml", unit("zz-later", FLEET, "  path: later\n")),
        ("later/m.yaml", config_map("m")),
    ]
}

/// The objects of a unit; `None` if it is held.
fn objects(render: &ClusterRender, name: &str) -> Option<usize> {
    let id = UnitId::kustomization("flux-system", name);
    Some(render.units[&id].unit.as_ref()?.content.objects.len())
}

fn held(render: &ClusterRender) -> Vec<String> {
    let held = render.units.iter().filter(|(_, unit)| unit.unit.is_none());
    held.map(|(_, unit)| unit.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
        .collect()
}

#[test]
fn units_that_multiply_are_held_and_the_others_rendered() {
    let mut world = World::new(&[]);
    world.budget = Budget { cluster_units: 100, ..world.budget };
    let render = world.render(&bomb(""));
    assert_eq!((objects(&render, "zz-late"), objects(&render, "zz-later")), (Some(0), Some(1)));
    let held = held(&render);
    assert!(render.units.len() - held.len() <= 101 && render.units.len() <= 201, "{}", render.units.len());
    assert!(!held.is_empty());
    for problem in held {
        assert_eq!(problem.matches("the cluster has 100 units already").count(), 1, "{problem}");
        assert!(problem.starts_with("bomb/b.yaml:"), "{problem}");
    }
    // Nothing of it counts as dropped, noted or not.
    for (parent, unit) in &render.units {
        for child in unit.unit.iter().flat_map(|unit| &unit.content.children) {
            assert!(!render.dropped(parent, &child.id));
        }
    }
}

#[test]
fn a_tenants_units_do_not_take_the_place_of_others() {
    // In a repository of the tenant's own: what is confined names no other.
    let own = BOMB.replace("name: flux-system, namespace: flux-system", "name: team");
    let team = tree(&[("bomb/b.yaml", own)], "team");
    let mut world = World::new(&[("team", team)]);
    world.budget = Budget { tenant_units: 40, ..world.budget };
    let mut files = bomb("");
    let more = "  path: ./bomb\n  postBuild: {substitute: {p: u}}\n  serviceAccountName: sa\n";
    files.push(("clusters/x/start.yaml", unit("team-a/u", TEAM, more)));
    files.push(("clusters/x/team.yaml", git("team-a/team", "")));
    let render = world.render(&files);
    assert_eq!(objects(&render, "zz-later"), Some(1));
    let of_tenant = render.units.keys().filter(|id| id.namespace == "team-a");
    let present = of_tenant.filter(|id| render.units[*id].unit.is_some()).count();
    assert_eq!(present, 40, "{:?}", held(&render).first());
    let says = "the accounts of namespace team-a have 40 units in this cluster already";
    assert!(held(&render).iter().all(|problem| problem.contains(says)));
    let noted = render.units.values().flat_map(|unit| &unit.problems).filter(|problem| problem.notice);
    let noted: Vec<_> = noted.map(|problem| problem.message.as_str()).collect();
    assert!(
        noted.iter().all(|notice| notice.contains("of the units that it defines are held: ")),
        "{noted:?}"
    );
    assert!(!noted.is_empty());
}

fn maps(names: std::ops::Range<usize>, value: &str) -> String {
    names.map(|n| format!("---\n{}data: {{v: \"{value}\"}}\n", config_map(&format!("m{n}")))).collect()
}

/// A unit and a good one beside it: what the first says.
fn one(budget: Budget, files: &[(&'static str, String)], more: &str) -> String {
    let mut world = World::new(&[]);
    world.budget = budget;
    let mut all = vec![
        (
            "clusters/x/a.yaml",
            unit("a", FLEET, &format!("{more}{}", if more.contains("  path:") { "" } else { "  path: a\n" })),
        ),
        ("clusters/x/good.yaml", unit("good", FLEET, "  path: good\n")),
        ("good/m.yaml", config_map("good")),
    ];
    all.extend(files.iter().cloned());
    let render = world.render(&all);
    assert_eq!(objects(&render, "good"), Some(1));
    shown(&render).into_iter().find(|line| line.starts_with("a: ")).unwrap()
}

const SUBSTITUTE: &str = "  postBuild: {substitute: {x: \"1\"}}\n";

#[test]
fn a_unit_has_a_number_of_objects_and_of_bytes() {
    let default = Budget::default();
    let (few, small) = (Budget { unit_objects: 20, ..default }, Budget { unit_bytes: 5000, ..default });
    for more in ["", SUBSTITUTE] {
        assert_eq!(one(few, &[("a/m.yaml", maps(0..20, "v"))], more), "a: 20");
        let line = one(few, &[("a/m.yaml", maps(0..21, "v"))], more);
        assert!(line.starts_with("a: held a/m.yaml:"), "{line}");
        assert!(line.ends_with(": the unit has more than 20 objects; make several units of it"), "{line}");
        let line = one(small, &[("a/m.yaml", maps(0..10, &"v".repeat(900)))], more);
        assert!(line.starts_with("a: held a/m.yaml:"), "{line}");
        assert!(
            line.ends_with(": the unit's objects are more than 5000 bytes; make several units of it"),
            "{line}"
        );
    }
    // What substitution makes of them counts.
    let grows = "  postBuild: {substitute: {x: \"".to_owned() + &"v".repeat(3000) + "\"}}\n";
    let text = maps(0..3, "${x}");
    assert!(one(small, &[("a/m.yaml", text)], &grows).contains("more than 5000 bytes"));
    let steps = Budget { unit_steps: 20_000, ..default };
    assert!(
        one(steps, &[("a/m.yaml", maps(0..300, "v"))], "").contains("takes more than 20000 steps of work")
    );
    let kustomizations = Budget { unit_kustomizations: 2, ..default };
    let bases = [
        ("a/kustomization.yaml", "resources: [../b, ../c, ../d]\n".to_owned()),
        ("b/kustomization.yaml", "namePrefix: b-\n".to_owned()),
        ("c/kustomization.yaml", "namePrefix: b-\n".to_owned()),
        ("d/kustomization.yaml", "namePrefix: b-\n".to_owned()),
    ];
    assert!(one(kustomizations, &bases, "").contains("more than 2 kustomizations are built"));
}

#[test]
fn tenants_and_clusters_have_a_number_of_bytes() {
    let team = |name: &str, path: &str, more: &str| unit(name, FLEET, &format!("  path: {path}\n{more}"));
    let files = [
        ("clusters/x/a.yaml", team("team/a", "a", "  serviceAccountName: one\n")),
        ("clusters/x/b.yaml", team("team/b", "b", "  serviceAccountName: two\n")),
        ("clusters/x/c.yaml", team("other/c", "c", "  serviceAccountName: one\n")),
        ("clusters/x/d.yaml", team("d", "d", "")),
        ("a/m.yaml", maps(0..10, "v")),
        ("b/m.yaml", maps(10..20, "v")),
        ("c/m.yaml", maps(20..30, "v")),
        ("d/m.yaml", maps(30..40, "v")),
    ];
    let mut world = World::new(&[]);
    world.budget = Budget { tenant_bytes: 1500, ..world.budget };
    let lines = world.shown(&files);
    let says = "b: held clusters/x/b.yaml:1: with this unit's objects, those of the accounts of namespace team are more \
                than 1500 bytes in this cluster";
    assert!(lines.iter().any(|line| line == says), "{lines:?}");
    assert_eq!(lines.iter().filter(|line| line.contains("held")).count(), 1);
    world.budget = Budget { cluster_bytes: 4500, ..Budget::default() };
    let lines = world.shown(&files);
    let says = "those of the cluster are more than 4500 bytes";
    assert_eq!(
        lines.iter().filter(|line| line.contains("held") && line.contains(says)).count(),
        1,
        "{lines:?}"
    );
}

#[test]
fn a_substitution_that_explodes_is_its_units_problem() {
    let text = format!("{}data: {{k: \"${{a//x/${{a//x/${{a//x/y}}}}}}\"}}\n", config_map("x"));
    let more = format!("  postBuild: {{substitute: {{a: \"{}\"}}}}\n", "x".repeat(10_000));
    let line = one(Budget::default(), &[("a/c.yaml", text)], &more);
    assert!(
        line.starts_with("a: held a/c.yaml:1: post build: 'a' makes more of its values than is allowed"),
        "{line}"
    );
}

#[test]
fn a_chain_of_folders_is_its_units_problem() {
    let mut files = vec![("a/kustomization.yaml", "resources: [../f0]\n".to_owned())];
    for n in 0..600 {
        let path: &'static str = format!("f{n}/kustomization.yaml").leak();
        files.push((path, format!("resources: [../f{}]\n", n + 1)));
    }
    // The stack of a thread that renders.
    let render = move || one(Budget::default(), &files, "");
    let line = std::thread::Builder::new().stack_size(2 << 20).spawn(render).unwrap().join().unwrap();
    assert!(line.contains("f48/kustomization.yaml:1") && line.contains("is the last of 50"), "{line}");
    let long = one(Budget::default(), &[], &format!("  path: {}\n", "d/".repeat(1900)));
    assert!(
        long.contains("clusters/x/a.yaml:8:9: spec.path") && long.contains("deeper than 64 folders"),
        "{long}"
    );
}

#[test]
fn many_that_wait_for_each_other_end() {
    let releases = |count: usize| -> Vec<(&str, String)> {
        let release = |n: usize| {
            format!(
                "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {{name: r{n}, namespace: d}}\nspec:\n  \
                 interval: 1m\n  dependsOn: [{{name: r{}}}]\n  chart: {{spec: {{chart: web, sourceRef: {{kind: HelmRepository, \
                 name: nope}}}}}}\n",
                n + 1
            )
        };
        (0..count).map(|n| (&*format!("clusters/x/r{n}.yaml").leak(), release(n))).collect()
    };
    let units = |count: usize| -> Vec<(&str, String)> {
        let unit = |n: usize| unit(&format!("u{n}"), "{kind: GitRepository, name: nope}", "");
        (0..count).map(|n| (&*format!("clusters/x/u{n}.yaml").leak(), unit(n))).collect()
    };
    for files in [releases(100), releases(200), units(400)] {
        let render = World::new(&[]).render(&files);
        assert_eq!(render.units.len(), files.len() + 1);
        assert!(render.units.values().skip(1).all(|unit| unit.unit.is_none() && !unit.problems.is_empty()));
    }
}

#[test]
fn patterns_over_long_names_are_paid_for() {
    let entry = "- target: {kind: ConfigMap, name: '(x*)*y'}\n  patch: '[{\"op\": \"remove\", \"path\": \"/data\"}]'\n";
    let maps: String =
        (0..20).map(|n| format!("---\n{}", config_map(&format!("{}{n}", "x".repeat(5000))))).collect();
    let files = [
        ("a/m.yaml", maps),
        ("a/kustomization.yaml", format!("resources: [m.yaml]\npatches:\n{}", entry.repeat(200))),
    ];
    let budget = Budget { unit_steps: 1_000_000, ..Budget::default() };
    assert!(one(budget, &files, "").contains("takes more than 1000000 steps of work"));
    let replacement = "resources: [m.yaml]\nreplacements:\n- source: {kind: ConfigMap, name: m, fieldPath: kind}\n  targets:\n  \
                       - select: {kind: ConfigMap}\n    fieldPaths:\n";
    let items = format!("{}data:\n{}", config_map("m"), "- {k: abc}\n".repeat(2000));
    let paths = "    - data.[k=(ab+c|ConfigMap)].k\n".repeat(300);
    let files = [("a/m.yaml", items), ("a/kustomization.yaml", format!("{replacement}{paths}"))];
    let line = one(budget, &files, "");
    assert!(line.contains("takes more than 1000000 steps of work"), "{line}");
}

#[test]
fn images_and_fields_of_large_objects_are_paid_for() {
    let budget = Budget { unit_steps: 1_000_000, ..Budget::default() };
    let pod = |count: usize, image: &str| {
        let containers: String =
            (0..count).map(|n| format!("  - {{name: c{n}, image: {image}}}\n")).collect();
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, namespace: d}}\nspec:\n  containers:\n{containers}"
        )
    };
    let says = "takes more than 1000000 steps of work";
    let long = format!("new{}", "w".repeat(100_000));
    for (what, pod, more) in [
        (
            "patterns over long images",
            pod(20, &"x".repeat(10_000)),
            format!("images:\n{}", "- {name: (x*)*y, newTag: a}\n".repeat(400)),
        ),
        (
            "long names for many images",
            pod(2000, "web"),
            format!("images:\n- {{name: web, newName: {long}}}\n"),
        ),
        (
            "fields of many items",
            pod(2000, "web"),
            format!(
                "labels:\n- pairs: {{a: b}}\n  fields:\n{}",
                (0..6000).map(|n| format!("  - {{path: 'spec/containers[]/f{n}'}}\n")).collect::<String>()
            ),
        ),
    ] {
        let files = [("a/m.yaml", pod), ("a/kustomization.yaml", format!("resources: [m.yaml]\n{more}"))];
        let line = one(budget, &files, "");
        assert!(line.contains(says), "{what}: {line}");
    }
}

#[test]
fn generators_of_a_namespace_hold_so_much() {
    let values = |name: &str| format!("{name}: {}\n", "x".repeat(10_000));
    let generator = |name: &str| {
        format!(
            "apiVersion: source.extensions.fluxcd.io/v1beta1\nkind: ArtifactGenerator\nmetadata: {{name: {name}, namespace: \
             team}}\nspec:\n  sources: [{{alias: in, kind: GitRepository, name: own}}]\n  artifacts:\n  - name: {name}\n    copy: \
             [{{from: '@in/a.yaml', to: '@artifact/v.yaml'}}, {{from: '@in/b.yaml', to: '@artifact/v.yaml', strategy: \
             Merge}}]\n"
        )
    };
    let own = tree(&[("a.yaml", values("a")), ("b.yaml", values("b"))], "own");
    for (account, bound) in [("", "cluster"), ("  serviceAccountName: sa\n", "tenant")] {
        let mut world = World::new(&[("own", own.clone())]);
        world.budget = match bound {
            "tenant" => Budget { tenant_bytes: 50_000, ..world.budget },
            _ => Budget { cluster_bytes: 50_000, ..world.budget },
        };
        let mut files = vec![
            ("clusters/x/team.yaml", unit("team/all", FLEET, &format!("  path: team\n{account}"))),
            ("team/own.yaml", git("team/own", "")),
        ];
        for (at, name) in [("team/g1.yaml", "g1"), ("team/g2.yaml", "g2"), ("team/g3.yaml", "g3")] {
            let reader =
                unit(&format!("team/{name}"), &format!("{{kind: ExternalArtifact, name: {name}}}"), "");
            files.push((at, format!("{}---\n{reader}", generator(name))));
        }
        let render = world.render(&files);
        let told: Vec<String> = ["g1", "g2", "g3"]
            .map(|name| {
                let problems = &render.units[&UnitId::kustomization("team", name)].problems;
                problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
            })
            .into();
        let too_much = "what the generators of its namespace unpack and merge comes to more than 50000 bytes";
        let refused = told.iter().filter(|told| told.contains(too_much)).count();
        assert_eq!(refused, 1, "{bound}: {told:#?}");
    }
}
