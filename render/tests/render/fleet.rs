//! Which clusters a repository has, and what is said of definitions that are wrong.

use std::sync::Arc;

use flotilla_core::UnitId;
use flotilla_core::change::{KindName, Limit, Policy};
use flotilla_core::unit::DriftMode;
use flotilla_kustomize::files::{MemoryFiles, TreePath};
use flotilla_render::fleet::CLUSTER_FIELDS;
use flotilla_render::{
    Artifact, ClusterRender, Fleet, Inputs, NothingFetched, PolicyRead, RenderCache, discover, render_cluster,
};

fn clusters() -> TreePath {
    TreePath::from_root("clusters").unwrap()
}

fn found(files: &[(&str, &str)]) -> Fleet {
    discover(&MemoryFiles::new(files.iter().copied()), &clusters()).unwrap()
}

fn problems(fleet: &Fleet) -> Vec<String> {
    let unclear =
        fleet.unclear.iter().flat_map(|(name, all)| all.iter().map(move |p| format!("{name}: {p}")));
    fleet.problems.iter().map(ToString::to_string).chain(unclear).collect()
}

const CLUSTER: &str = "apiVersion: flotilla.dev/v1alpha1\nkind: Cluster\nmetadata: {name: east}\nspec:\n";

#[test]
fn folders_and_cluster_objects_define_clusters() {
    let object = format!("{CLUSTER}  path: clusters/shared\n  labels: {{env: prod}}\n  drift: report\n");
    let fleet = found(&[
        ("clusters/west/a.yaml", "a: 1"),
        ("clusters/shared/a.yaml", "a: 1"),
        ("clusters/all.yaml", &object),
    ]);
    let names: Vec<_> = fleet.clusters.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["east", "shared", "west"]);
    let east = &fleet.clusters[&"east".parse().unwrap()];
    assert_eq!(
        (east.root.path.as_str(), east.policy.drift, east.policy.labels["env"].as_str()),
        ("clusters/shared", DriftMode::Report, "prod")
    );
    assert_eq!(problems(&fleet), [] as [&str; 0]);
}

#[test]
fn what_is_wrong_is_said_and_leaves_the_cluster_unclear() {
    let twice = format!("{CLUSTER}  path: a\n---\n{CLUSTER}  path: b\n");
    for (content, unclear, expected) in [
        (
            format!("{CLUSTER}  paht: x\n"),
            true,
            "east: clusters/f.yaml:5:9: spec.paht: is not a field of a Cluster; the fields are \
                                               path, labels, variables, strictSubstitution, substitute, suspend, drift",
        ),
        (
            format!("{CLUSTER}  path: ../x\n"),
            true,
            "east: clusters/f.yaml:5:9: spec.path: '../x' leads out of the root of \
                                                  the source",
        ),
        (
            format!("{CLUSTER}  variables: {{a: 1}}\n"),
            true,
            "east: clusters/f.yaml:5:14: spec.variables: 'a' must be a \
                                                           string; quote it",
        ),
        (
            format!("{CLUSTER}  labels: {{reported.flotilla.dev/nodes: '9'}}\n"),
            true,
            "east: clusters/f.yaml:5:11: spec.labels: 'reported.flotilla.dev/nodes' is a label that the cluster's agent reports; use \
             another name",
        ),
        (twice, true, "east: clusters: two Cluster objects define this cluster; keep one of them"),
        (
            CLUSTER.replace("east", "East"),
            false,
            "clusters/f.yaml:1: metadata.name: 'East' cannot name a cluster: use 1 to \
                                                63 lower-case letters, digits and '-', beginning and ending with a letter \
                                                or digit",
        ),
        (
            CLUSTER.replace("Cluster", "Klaster"),
            false,
            "clusters/f.yaml:1: 'Klaster' in flotilla.dev/v1alpha1 is not a kind that Flotilla knows; it knows Cluster, \
             ClusterGroup, FleetPolicy and Pipeline in flotilla.dev/v1alpha1",
        ),
    ] {
        let fleet = found(&[("clusters/f.yaml", &content)]);
        assert_eq!(problems(&fleet), [expected], "{content}");
        assert_eq!(fleet.unclear.len() == 1 && fleet.clusters.is_empty(), unclear, "{content}");
    }
    // What may have been meant to define a cluster keeps that cluster from being read off its folder.
    for (file, content) in [
        ("clusters/west/c.yaml", CLUSTER.replace("Cluster", "Klaster").replace("east", "any")),
        ("clusters/meta/c.yaml", CLUSTER.replace("Cluster", "Klaster").replace("east", "west")),
        ("clusters/meta/c.yaml", CLUSTER.replace("v1alpha1", "v2").replace("east", "west")),
        ("clusters/west/c.yaml", CLUSTER.replace("east", "West")),
    ] {
        let fleet = found(&[("clusters/west/a.yaml", "a: 1"), (file, &content)]);
        assert!(fleet.unclear.contains_key(&"west".parse().unwrap()), "{file}: {content}");
        assert!(!fleet.clusters.contains_key(&"west".parse().unwrap()), "{file}: {content}");
    }
    let broken = format!("{CLUSTER}  path: [\n");
    let fleet = found(&[("clusters/west/a.yaml", "a: 1"), ("clusters/f.yaml", &broken)]);
    assert!(
        fleet.clusters.is_empty() && fleet.unclear.contains_key(&"west".parse().unwrap()),
        "f.yaml may define west"
    );
    assert!(fleet.in_part && !found(&[("clusters/west/a.yaml", "a: 1")]).in_part);
    assert_eq!(
        problems(&found(&[("apps/a.yaml", "a: 1")])),
        ["clusters: there is no such folder; clusters are read from it"]
    );
}

#[test]
fn a_cluster_without_a_path_never_has_the_folder_of_all_clusters() {
    let cluster = |name: &str| {
        format!("apiVersion: flotilla.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {name}}}\n")
    };
    let no_path = |folder: &str| {
        format!(
            "names no path, there is no folder clusters/east, and other clusters are defined in {folder} too: set spec.path \
             to the folder that cluster east runs"
        )
    };
    let in_all = no_path("clusters");
    let cases: &[(&str, &[&str], &str)] = &[
        ("clusters/east.yaml", &["clusters/east/a.yaml"], "clusters/east"),
        ("clusters/meta/east.yaml", &["clusters/east/a.yaml"], "clusters/east"),
        ("clusters/east/cluster.yaml", &[], "clusters/east"),
        ("clusters/meta/east.yaml", &[], "clusters/meta"),
        ("clusters/east.yaml", &["clusters/west/a.yaml"], &in_all),
        ("clusters/east.yaml", &[], &in_all),
    ];
    for (file, others, expected) in cases {
        let text = cluster("east");
        let others = others.iter().map(|path| (*path, "a: 1"));
        let files: Vec<(&str, &str)> = others.chain([(*file, text.as_str())]).collect();
        let fleet = found(&files);
        let east = "east".parse().unwrap();
        let root = fleet.clusters.get(&east).map(|cluster| cluster.root.path.to_string());
        let problem = fleet.unclear.get(&east).map(|problems| problems[0].message.clone());
        assert_eq!(root.or(problem).as_deref(), Some(*expected), "{file}");
    }
    // Two that are defined in one folder, or one below it.
    let (east, west) = (cluster("east"), cluster("west"));
    for other in ["clusters/meta/west.yaml", "clusters/meta/deeper/west.yaml"] {
        let fleet = found(&[("clusters/meta/east.yaml", &east), (other, &west)]);
        let problem = &fleet.unclear[&"east".parse().unwrap()][0];
        assert_eq!(
            (problem.message.as_str(), problem.field.as_str()),
            (no_path("clusters/meta").as_str(), "spec.path")
        );
    }
    let empty = format!("{CLUSTER}  path: ''\n");
    assert_eq!(
        problems(&found(&[("clusters/east.yaml", &empty)])),
        ["east: clusters/east.yaml:5:9: spec.path: must name a folder of the fleet repo"]
    );
}

#[test]
fn each_field_of_a_cluster_is_read_and_documented() {
    let document = include_str!("../../../docs/kinds.md");
    let section = document.split("\n## ").find(|section| section.starts_with("Cluster\n")).unwrap();
    let documented: Vec<&str> =
        section.lines().filter_map(|line| line.strip_prefix("| `spec.")?.split('`').next()).collect();
    assert_eq!(documented, CLUSTER_FIELDS);
    for field in CLUSTER_FIELDS {
        let object = format!(
            "apiVersion: flotilla.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: east}}\nspec: {{{field}: [1]}}\n"
        );
        let fleet = found(&[("clusters/a.yaml", &object)]);
        let unclear = problems(&fleet).join("\n");
        assert!(unclear.contains(&format!("spec.{field}: must ")), "{field}: {unclear}");
    }
}

fn unit(name: &str, path: &str, more: &str) -> String {
    format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: {name}, namespace: \
         flux-system}}\nspec:\n  path: {path}\n  prune: true\n  interval: 1m\n  sourceRef: {{kind: GitRepository, name: \
         flux-system}}\n{more}"
    )
}

fn config_map(name: &str, value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: d}}\ndata: {{v: {value}}}\n"
    )
}

fn rendered(files: &[(&str, String)]) -> ClusterRender {
    let files = MemoryFiles::new(files.iter().map(|(p, c)| (*p, c.as_str())));
    let fleet = discover(&files, &clusters()).unwrap();
    let cluster = fleet.clusters.values().next().unwrap();
    let tree = Artifact::new(Arc::new(files), "main", "test");
    let (clusters, cache, sources) = (clusters(), RenderCache::new(), NothingFetched("is not fetched yet"));
    render_cluster(&Inputs::new(&tree, &clusters, &cache, &sources), cluster).unwrap()
}

fn shown(render: &ClusterRender) -> Vec<String> {
    let show = |(id, unit): (&UnitId, &Arc<flotilla_render::RenderedUnit>)| {
        let problems: Vec<_> = unit.problems.iter().map(ToString::to_string).collect();
        let what = unit.unit.as_ref().map_or("held".to_owned(), |u| u.content.objects.len().to_string());
        format!("{}: {what} {}", if id.name.is_empty() { "root" } else { &id.name }, problems.join("; "))
            .trim()
            .to_owned()
    };
    render.units.iter().map(show).collect()
}

#[test]
fn a_broken_thing_stays_one() {
    let held = |files: &[(&str, String)], expected: &[&str]| assert_eq!(shown(&rendered(files)), expected);
    let a = ("clusters/x/a.yaml", unit("a", "apps/a", ""));
    let b = ("clusters/x/b.yaml", unit("b", "apps/b", ""));
    held(
        &[
            a.clone(),
            b.clone(),
            ("apps/a/m.yaml", config_map("m", "one")),
            ("apps/b/m.yaml", config_map("m", "two")),
        ],
        &[
            "root: 0",
            "a: 1 apps/b/m.yaml:1: kustomization/flux-system/b declares ConfigMap d/m too, with other content, and is applied \
             without it",
            "b: 0 apps/b/m.yaml:1: ConfigMap d/m belongs to kustomization/flux-system/a, which declares it with different \
             content; this unit is applied without it: keep it in one of them",
        ],
    );
    held(
        &[
            a.clone(),
            b.clone(),
            ("apps/a/m.yaml", config_map("m", "one")),
            ("apps/b/m.yaml", config_map("m", "one")),
        ],
        &["root: 0", "a: 1", "b: 1"],
    );
    let (c, d) = (
        unit("c", "apps/a", "  dependsOn: [{name: d}]\n"),
        unit("d", "apps/a", "  dependsOn: [{name: c}]\n"),
    );
    let cycle = rendered(&[
        a.clone(),
        ("clusters/x/c.yaml", c),
        ("clusters/x/d.yaml", d),
        ("apps/a/m.yaml", config_map("m", "1")),
    ]);
    assert_eq!(
        shown(&cycle)[2],
        "c: held clusters/x/c.yaml:1: spec.dependsOn: dependencies form a cycle: kustomization/flux-system/c → \
         kustomization/flux-system/d → kustomization/flux-system/c"
    );
    held(
        &[
            a,
            (
                "apps/a/k.yaml",
                "apiVersion: flotilla.dev/v1alpha1\nkind: Cluster\nmetadata: {name: east}\n".to_owned(),
            ),
        ],
        &[
            "root: 0",
            "a: held apps/a/k.yaml:1: a Cluster belongs below clusters/, where the fleet is defined",
        ],
    );
}

#[test]
fn units_nest_and_a_unit_may_name_itself() {
    let own = unit("flux-system", "clusters/x", "  suspend: true\n");
    let render = rendered(&[
        ("clusters/x/flux-system.yaml", own),
        ("clusters/x/a.yaml", unit("a", "apps/a", "")),
        ("apps/a/b.yaml", unit("b", "apps/b", "")),
        ("apps/b/m.yaml", config_map("m", "1")),
    ]);
    assert_eq!(shown(&render), ["root: 0", "a: 0", "b: 1"]);
    let root = render.units[&UnitId::root()].unit.as_ref().unwrap();
    assert!(root.manifest.spec.suspend, "what speaks of the root's path is the root's policy");
    let b = &render.units[&UnitId::kustomization("flux-system", "b")];
    assert_eq!(b.parent, Some(UnitId::kustomization("flux-system", "a")));
}

#[test]
fn groups_select_clusters_and_what_cannot_be_read_leaves_them_unclear() {
    let group = |name: &str, spec: &str| {
        format!(
            "apiVersion: flotilla.dev/v1alpha1\nkind: ClusterGroup\nmetadata: {{name: {name}}}\nspec: {spec}\n"
        )
    };
    let east = format!("{CLUSTER}  labels: {{env: prod}}\n");
    let groups = |more: &str| {
        let all = [
            group("prod", "{selector: {matchLabels: {env: prod}}, path: shared}"),
            group("all", "{selector: {}}"),
            group("other", "{selector: {matchExpressions: [{key: env, operator: DoesNotExist}]}}"),
            more.to_owned(),
        ];
        let fleet = found(&[
            ("clusters/east/cluster.yaml", &east),
            ("clusters/west/a.yaml", "a: 1"),
            ("clusters/groups.yaml", &all.join("---\n")),
        ]);
        let of = |name: &str| fleet.clusters[&name.parse().unwrap()].policy.groups.clone();
        let names = |name: &str| of(name).of.into_iter().collect::<Vec<_>>().join(" ");
        (names("east"), names("west"), of("west").unclear, problems(&fleet))
    };
    let (east, west, unclear, problems) = groups("");
    assert_eq!((east.as_str(), west.as_str(), unclear), ("all prod", "all other", None));
    assert_eq!(problems, Vec::<String>::new());
    for (more, expected) in [
        (
            group("Bad", "{selector: {}}"),
            "clusters/groups.yaml:16:1: metadata.name: 'Bad' is not a valid name for a group",
        ),
        (group("none", "{}"), "clusters/groups.yaml:16:1: spec.selector: says which clusters"),
        (
            group("bad", "{selector: {a: b}}"),
            "clusters/groups.yaml:19:18: spec.selector.a: is not a field of a selector",
        ),
        (
            group("all", "{selector: {}}"),
            "clusters/groups.yaml:16: metadata.name: the group 'all' is defined twice",
        ),
    ] {
        let (east, _, unclear, problems) = groups(&more);
        assert_eq!(east, "all prod");
        assert!(unclear.as_ref().is_some_and(|why| why.starts_with(expected)), "{unclear:?}");
        assert!(problems.iter().any(|problem| problem.starts_with(expected)), "{problems:?}");
    }
}

/// What stands nearer to a cluster counts, and what nobody can tell keeps what it runs.
#[test]
fn groups_give_paths_and_variables() {
    let group = |name: &str, spec: &str| {
        format!(
            "apiVersion: flotilla.dev/v1alpha1\nkind: ClusterGroup\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"
        )
    };
    let all = "selector: {}, ";
    let edge = "selector: {matchLabels: {tier: edge}}, ";
    for (what, own, groups, expected) in [
        ("a group's path", "", vec![group("g", &format!("{edge}path: edge"))], "edge []"),
        ("the cluster's own", "path: own, ", vec![group("g", &format!("{edge}path: edge"))], "own []"),
        (
            "the higher priority",
            "",
            vec![
                group("a", &format!("{all}path: base, variables: {{x: base, y: base}}")),
                group("b", &format!("{edge}path: edge, variables: {{x: edge}}, priority: 10")),
            ],
            "edge [x=edge y=base]",
        ),
        (
            "the cluster's own variable",
            "path: own, variables: {x: own}, ",
            vec![
                group("a", &format!("{all}variables: {{x: one}}")),
                group("b", &format!("{edge}variables: {{x: two}}")),
            ],
            "own [x=own]",
        ),
        (
            "two that say the same",
            "path: own, ",
            vec![
                group("a", &format!("{all}variables: {{x: one}}")),
                group("b", &format!("{edge}variables: {{x: one}}")),
            ],
            "own [x=one]",
        ),
        (
            "two of one priority",
            "path: own, ",
            vec![
                group("a", &format!("{all}variables: {{x: one}}")),
                group("b", &format!("{edge}variables: {{x: two}}")),
            ],
            "the groups 'a' and 'b' of priority 0 say different things of the variable x",
        ),
        (
            "two paths of one priority",
            "",
            vec![group("a", &format!("{all}path: one")), group("b", &format!("{edge}path: two"))],
            "the groups 'a' and 'b' of priority 0 say different things of the path",
        ),
        (
            "a field that there is not",
            "path: own, ",
            vec![group("a", &format!("{all}variable: {{x: one}}"))],
            "'variable' is not a field here; known are selector, path, variables, priority",
        ),
        (
            "a field that there is not, of a group that the cluster is not in",
            "path: own, ",
            vec![group("a", "selector: {matchLabels: {tier: core}}, variable: {x: one}")],
            "own []",
        ),
        (
            "a selector that cannot be read",
            "path: own, ",
            vec![group("a", "selector: {x: y}, path: p")],
            "spec.selector.x",
        ),
        (
            "a value",
            "path: own, ",
            vec![group("a", &format!("{all}variables: {{x: 1}}"))],
            "must be a string; quote it",
        ),
        (
            "a name",
            "path: own, ",
            vec![group("a", &format!("{all}variables: {{x-y: z}}"))],
            "'x-y' cannot name a variable",
        ),
        (
            "a priority",
            "path: own, ",
            vec![group("a", &format!("{all}priority: high, path: p"))],
            "must be a whole number",
        ),
        ("a path", "path: own, ", vec![group("a", &format!("{all}path: ../x"))], "spec.path"),
        (
            "what does not parse",
            "path: own, ",
            vec!["kind: ClusterGroup # flotilla.dev\na: [\n".to_owned()],
            "groups.yaml",
        ),
    ] {
        let cluster = format!(
            "{}\nspec: {{{own}labels: {{tier: edge}}}}\n",
            CLUSTER.trim_end().trim_end_matches("spec:").trim_end()
        );
        let fleet =
            found(&[("clusters/all.yaml", &cluster), ("clusters/groups.yaml", &groups.join("---\n"))]);
        let name = "east".parse().unwrap();
        match fleet.clusters.get(&name) {
            Some(cluster) => {
                let variables = &cluster.root.variables;
                let variables: Vec<String> =
                    variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
                assert_eq!(format!("{} [{}]", cluster.root.path, variables.join(" ")), expected, "{what}");
            }
            None => {
                let said: Vec<String> = fleet.unclear[&name].iter().map(ToString::to_string).collect();
                assert!(said.iter().any(|problem| problem.contains(expected)), "{what}: {said:?}");
            }
        }
    }
}

#[test]
fn a_label_that_no_cluster_has_is_named() {
    for (selector, expected) in [
        ("matchLabels: {tir: edge}", "no cluster has the label 'tir'; the group selects no cluster"),
        ("matchLabels: {tier: core}", "selects no cluster"),
        (
            "matchExpressions: [{key: tir, operator: NotIn, values: [edge]}]",
            "no cluster has the label 'tir'; the group selects clusters all the same",
        ),
        ("matchLabels: {tier: edge}", ""),
    ] {
        let group = format!(
            "apiVersion: flotilla.dev/v1alpha1\nkind: ClusterGroup\nmetadata: {{name: g}}\nspec: {{selector: {{{selector}}}}}\n"
        );
        let east = format!("{CLUSTER}  labels: {{tier: edge}}\n");
        let fleet = found(&[("clusters/east/c.yaml", &east), ("clusters/g.yaml", &group)]);
        let said = problems(&fleet).join("; ");
        assert!(
            if expected.is_empty() { said.is_empty() } else { said.ends_with(expected) },
            "{selector}: {said}"
        );
        assert!(fleet.problems.iter().all(|problem| problem.notice), "{selector}");
        assert_eq!(
            fleet.groups["g"].clusters.len(),
            usize::from(expected.is_empty() || expected.contains("same"))
        );
    }
}

const POLICY: &str = "apiVersion: flotilla.dev/v1alpha1\nkind: FleetPolicy\nmetadata: {name: fleet}\nspec:\n";

fn labelled(name: &str, env: &str) -> String {
    CLUSTER.replace("east", name) + &format!("  path: clusters/{name}\n  labels: {{env: {env}}}\n")
}

#[test]
fn a_fleet_policy_says_what_a_change_may_take() {
    let policy = format!(
        "{POLICY}  maxUnits: 5\n  maxUnitsShare: 10%\n  maxObjectsShare: 0%\n  maxClusterObjects: 3\n  protect:\n  - \
         {{group: acme.dev, kind: Database}}\n  - {{kind: Namespace, max: 2}}\n  exempt: {{matchLabels: {{env: dev}}}}\n"
    );
    let (east, west) = (labelled("east", "dev"), labelled("west", "prod"));
    let fleet = found(&[
        ("clusters/policy.yaml", &policy),
        ("clusters/east.yaml", &east),
        ("clusters/west.yaml", &west),
    ]);
    assert_eq!(problems(&fleet), [] as [&str; 0]);
    let defaults = Policy::default();
    let mut expected = Policy {
        units: Limit { max: 5, share: 10 },
        objects: Limit { share: 0, ..defaults.objects },
        cluster: Limit { max: 3, ..defaults.cluster },
        exempt: ["east".parse().unwrap()].into(),
        ..defaults.clone()
    };
    expected.protected.insert(KindName::new("acme.dev", "Database"), 0);
    expected.protected.insert(KindName::new("", "Namespace"), 2);
    assert_eq!(fleet.policy.over(&defaults), Some(expected));
    assert_eq!(found(&[("clusters/east.yaml", &east)]).policy.over(&defaults), Some(defaults));
}

#[test]
fn a_fleet_policy_that_is_wrong_is_said_by_line_and_not_taken() {
    const KNOWN: &str = "maxUnits, maxUnitsShare, maxObjects, maxObjectsShare, maxClusterObjects, maxClusterShare, protect, \
                         exempt";
    for (spec, expected) in [
        ("  maxUnits: many\n", "5:13: spec.maxUnits: must be a number, 0 or more".to_owned()),
        ("  maxUnits: -1\n", "5:13: spec.maxUnits: must be a number, 0 or more".to_owned()),
        (
            "  maxUnitsShare: 20\n",
            "5:18: spec.maxUnitsShare: must be a share from 0% to 100%, such as 25%".to_owned(),
        ),
        (
            "  maxUnitsShare: 120%\n",
            "5:18: spec.maxUnitsShare: must be a share from 0% to 100%, such as 25%".to_owned(),
        ),
        ("  maxUnit: 5\n", format!("5:12: spec.maxUnit: is not a field of a FleetPolicy; known are {KNOWN}")),
        (
            "  protect:\n  - {kind: namespace}\n",
            "6:12: spec.protect[0].kind: 'namespace' names no kind: expected KIND, or KIND.GROUP".to_owned(),
        ),
        ("  protect:\n  - {group: apps}\n", "6:5: spec.protect[0].kind: is missing".to_owned()),
        (
            "  protect: [{kind: Secret}, {kind: Secret, max: 4}]\n",
            "5:29: spec.protect[1]: Secret is listed twice; keep one of them".to_owned(),
        ),
        (
            "  exempt: {}\n",
            "5:11: spec.exempt: would exempt every cluster; select some by their labels".to_owned(),
        ),
        ("  exempt: {labels: {a: b}}\n", "5:11: spec.exempt.labels: is not a field of a selector".to_owned()),
    ] {
        let text = format!("{POLICY}{spec}");
        let fleet = found(&[("clusters/policy.yaml", &text), ("clusters/east/a.yaml", "a: 1")]);
        assert_eq!(problems(&fleet), [format!("clusters/policy.yaml:{expected}")], "{spec}");
        assert_eq!(fleet.policy, PolicyRead::Unclear, "{spec}");
        assert_eq!(fleet.clusters.len(), 1, "clusters go on");
    }
    let misspelt = POLICY.replace("spec:", "spce: {maxUnits: 5}");
    let broken = format!("{POLICY}  maxUnits: [\n");
    let good = format!("{POLICY}  maxUnits: 5\n");
    for files in [
        &[("clusters/policy.yaml", misspelt.as_str())][..],
        &[("clusters/policy.yaml", &broken)],
        &[("clusters/a.yaml", &good), ("clusters/b.yaml", &good)],
        &[("clusters/policy.yaml", &good.replace("FleetPolicy", "FleetPolcy"))],
    ] {
        let fleet = found(files);
        assert_eq!(
            (fleet.policy.clone(), problems(&fleet).len()),
            (PolicyRead::Unclear, 1),
            "{files:?}: {:?}",
            problems(&fleet)
        );
    }
}
