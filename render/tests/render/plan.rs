//! Plans: what another commit would do to clusters.

use std::sync::Arc;

use flotilla_core::change::{Policy, Severity};
use flotilla_kustomize::files::MemoryFiles;
use flotilla_kustomize::files::TreePath;
use flotilla_render::plan::stages::whens;
use flotilla_render::plan::{
    ClusterChange, Differ, FleetPlan, Misfits, ObjectChange, PlanBuilder, Side, UnitChange, fit,
    guard_policy, plan,
};
use flotilla_render::{
    Artifact, ClusterRender, Fleet, Inputs, NothingFetched, RenderCache, discover, render_cluster,
};

use crate::world::{FLEET, config_map, git, unit};

pub(crate) const UNFETCHED: &str = "is not fetched here";

pub(crate) type Tree<'a> = &'a [(&'a str, String)];

/// The fleets of two trees, compared as a whole.
pub(crate) fn fleet(from: Tree<'_>, to: Tree<'_>) -> FleetPlan {
    let (from, to) = (World::new(from), World::new(to));
    let (differ, mut builder) = (Differ::new([7; 32]), PlanBuilder::default());
    let mut names: Vec<_> = [&from, &to].iter().flat_map(|world| world.names()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let (old, new) = (from.render(&name), to.render(&name));
        let check = |render: &Option<ClusterRender>| {
            render.as_ref().map(|render| fit::check(render, "1.30".parse().unwrap())).unwrap_or_default()
        };
        let misfits = Misfits { before: check(&old), after: check(&new) };
        let (before, after) = (from.side(&name, &old), to.side(&name, &new));
        let planned = plan(before, after, &differ, UNFETCHED);
        let (old, new) = (&from.fleet.pipelines, &to.fleet.pipelines);
        let whens = whens(&name, (before, old), (after, new), &planned.plan);
        builder.add(name, planned, misfits, whens);
    }
    let policy = guard_policy(&from.fleet.policy, &to.fleet.policy, &Policy::default());
    builder.finish(&policy, &to.fleet.pipelines)
}

pub(crate) struct World {
    tree: Artifact,
    pub(crate) fleet: Fleet,
    cache: RenderCache,
}

impl World {
    pub(crate) fn new(files: Tree<'_>) -> Self {
        let files = MemoryFiles::new(files.iter().map(|(path, content)| (*path, content.as_str())));
        let fleet = discover(&files, &clusters()).unwrap();
        Self { tree: Artifact::new(Arc::new(files), "main", "fleet"), fleet, cache: RenderCache::new() }
    }

    fn names(&self) -> Vec<flotilla_core::ClusterName> {
        self.fleet.clusters.keys().chain(self.fleet.unclear.keys()).cloned().collect()
    }

    pub(crate) fn render(&self, name: &flotilla_core::ClusterName) -> Option<ClusterRender> {
        let definition = self.fleet.clusters.get(name)?;
        let (clusters, sources) = (clusters(), NothingFetched(UNFETCHED));
        Some(render_cluster(&Inputs::new(&self.tree, &clusters, &self.cache, &sources), definition).unwrap())
    }

    pub(crate) fn side<'a>(
        &'a self,
        name: &flotilla_core::ClusterName,
        render: &'a Option<ClusterRender>,
    ) -> Side<'a> {
        match (self.fleet.clusters.get(name), render, self.fleet.unclear.get(name)) {
            (Some(definition), Some(render), _) => Side::Defined { root: &definition.root.path, render },
            (_, _, Some(problems)) => Side::Unclear(problems),
            _ => Side::Absent,
        }
    }
}

fn clusters() -> TreePath {
    TreePath::from_root("clusters").unwrap()
}

pub(crate) fn app(name: &str, path: &str, more: &str) -> String {
    unit(name, FLEET, &format!("  path: {path}\n{more}"))
}

pub(crate) fn map(name: &str, value: &str) -> String {
    format!("{}data: {{k: {value}}}\n", config_map(name))
}

/// What a plan says, a line for each thing.
fn shown(plan: &FleetPlan) -> Vec<String> {
    let mut out = Vec::new();
    for group in &plan.groups {
        let names: Vec<&str> = group.clusters.iter().map(|name| name.as_str()).collect();
        let names = names.join(",");
        if group.plan.cluster != ClusterChange::Stays {
            out.push(format!("{names}: {:?}", group.plan.cluster));
        }
        for (id, unit) in &group.plan.units {
            out.push(
                format!("{names}: {:?} {id} {}", unit.change, fields(&unit.fields)).trim_end().to_owned(),
            );
        }
        for (id, source) in &group.plan.sources {
            out.push(
                format!("{names}: {:?} {id} {}", source.change, fields(&source.fields)).trim_end().to_owned(),
            );
        }
        for object in &group.plan.objects {
            let text = format!(
                "{names}: {:?} {} {}{}",
                object.change,
                object.object,
                fields(&object.fields),
                object.note
            );
            out.push(text.trim_end().to_owned());
        }
    }
    for (reason, (units, _)) in &plan.unknown {
        out.push(format!("unknown {units}: {reason}"));
    }
    out
}

fn fields(fields: &flotilla_render::plan::Fields) -> String {
    let side = |side: &Option<String>| side.clone().unwrap_or_else(|| "-".to_owned());
    let one = |field: &flotilla_render::plan::FieldPlan| {
        format!("{} {}→{} ", field.path, side(&field.from), side(&field.to))
    };
    fields.fields.iter().map(one).collect()
}

#[test]
fn a_change_says_what_it_does() {
    let base = || {
        vec![
            ("clusters/x/app.yaml", app("app", "apps", "")),
            ("clusters/x/own.yaml", map("own", "1")),
            ("apps/a.yaml", map("a", "one")),
            ("apps/b.yaml", map("b", "one")),
        ]
    };
    let with = |path: &'static str, content: Option<String>| {
        let mut files = base();
        files.retain(|(known, _)| *known != path);
        files.extend(content.map(|content| (path, content)));
        files
    };
    let secret = |value: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: s, namespace: d}}\nstringData: {{k: {value}}}\n"
        )
    };
    let other = app("other", "other", "");
    let app_id = "kustomization/flux-system/app";
    for (what, to, expected) in [
        ("nothing", base(), vec![]),
        ("a comment", with("apps/a.yaml", Some(format!("# more\n{}", map("a", "one")))), vec![]),
        (
            "a field",
            with("apps/a.yaml", Some(map("a", "two"))),
            vec!["x: Changed ConfigMap d/a /data/k one→two".to_owned()],
        ),
        (
            "another object",
            with("apps/c.yaml", Some(secret("hunter2"))),
            vec!["x: Added Secret d/s".to_owned()],
        ),
        ("an object less", with("apps/b.yaml", None), vec!["x: Pruned ConfigMap d/b".to_owned()]),
        (
            "its author keeps it",
            with("clusters/x/app.yaml", Some(app("app", "apps", "").replace("prune: true", "prune: false"))),
            vec![format!("x: Changed {app_id} /prune true→-")],
        ),
        (
            "a unit less",
            with("clusters/x/app.yaml", None),
            vec![
                format!("x: Removed {app_id}"),
                "x: Pruned ConfigMap d/a".to_owned(),
                "x: Pruned ConfigMap d/b".to_owned(),
            ],
        ),
        (
            "suspended",
            with("clusters/x/app.yaml", Some(app("app", "apps", "  suspend: true\n"))),
            vec![format!("x: Changed {app_id} /suspend -→true")],
        ),
        (
            "an object that does not parse holds its unit, and nothing of it goes",
            with("apps/a.yaml", Some("a: [\n".to_owned())),
            vec![format!("x: Held {app_id}")],
        ),
        (
            "a root that does not parse removes no unit",
            with("clusters/x/app.yaml", Some("a: [\n".to_owned())),
            vec![format!("x: Held {app_id}"), "x: Held root".to_owned()],
        ),
        (
            "what is held may have what another unit lost",
            [
                with("apps/b.yaml", None),
                vec![("clusters/x/o.yaml", other.clone()), ("other/x.yaml", "a: [\n".to_owned())],
            ]
            .concat(),
            vec![
                "x: Held kustomization/flux-system/other".to_owned(),
                "x: Kept ConfigMap d/b while kustomization/flux-system/other is held".to_owned(),
            ],
        ),
        (
            "a move between units",
            [
                with("apps/b.yaml", None),
                vec![("clusters/x/o.yaml", other.clone()), ("other/b.yaml", map("b", "one"))],
            ]
            .concat(),
            vec!["x: Added kustomization/flux-system/other".to_owned(), "x: Moved ConfigMap d/b".to_owned()],
        ),
        (
            "another cluster",
            [base(), vec![("clusters/y/m.yaml", map("m", "1"))]].concat(),
            vec!["y: Added".to_owned(), "y: Added root".to_owned(), "y: Added ConfigMap d/m".to_owned()],
        ),
    ] {
        let mut lines = shown(&fleet(&base(), &to));
        lines.sort();
        let mut expected = expected;
        expected.sort();
        assert_eq!(lines, expected, "{what}");
    }
}

#[test]
fn a_cluster_that_leaves_or_moves_loses_nothing_by_itself() {
    let cluster = |path: &str| {
        format!(
            "apiVersion: flotilla.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: x}}\nspec: {{path: {path}}}\n"
        )
    };
    let base =
        [("clusters/x.yaml", cluster("one")), ("one/a.yaml", map("a", "1")), ("two/b.yaml", map("b", "1"))];
    let with = |content: &str| {
        let mut files = base.to_vec();
        files[0].1 = content.to_owned();
        files
    };
    let moved = shown(&fleet(&base, &with(&cluster("two"))));
    assert!(moved[0].starts_with("x: RootMoved"), "{moved:?}");
    assert!(moved.contains(&"x: Added ConfigMap d/b".to_owned()), "{moved:?}");
    assert_eq!(shown(&fleet(&base, &with("# flotilla.dev nothing\n"))), ["x: Unassigned"]);
    let unclear = shown(&fleet(&base, &with(&cluster("two").replace("spec: {", "spec: {pth: x, "))));
    assert!(
        unclear.len() == 1 && unclear[0].starts_with("x: Unclear(") && unclear[0].contains("spec.pth"),
        "{unclear:?}"
    );
}

/// A source that is not here: what is known is that its definition changed, never that anything goes.
#[test]
fn what_is_not_known_is_said() {
    let tree = |branch: &str, path: &str| {
        vec![
            ("clusters/x/s.yaml", git("team", &format!("  ref: {{branch: {branch}}}\n"))),
            (
                "clusters/x/u.yaml",
                unit("team", "{kind: GitRepository, name: team}", &format!("  path: {path}\n")),
            ),
        ]
    };
    let same = shown(&fleet(&tree("a", "p"), &tree("a", "p")));
    assert!(same.len() == 1 && same[0].starts_with("unknown 1: "), "{same:?}");
    let branch = shown(&fleet(&tree("a", "p"), &tree("b", "p")));
    assert_eq!(branch[0], "x: Changed GitRepository/flux-system/team /spec/ref/branch a→b");
    let path = shown(&fleet(&tree("a", "p"), &tree("a", "q")));
    assert_eq!(path, ["x: Unknown kustomization/flux-system/team /spec/path p→q"]);
    // A unit that only is not known here is no problem, and hides no deletion.
    let own = ("clusters/x/m.yaml", map("m", "1"));
    let with = |more: &[(&'static str, String)]| [tree("a", "p"), more.to_vec()].concat();
    assert_eq!(
        shown(&fleet(&with(std::slice::from_ref(&own)), &with(&[])))[0],
        "x: Pruned ConfigMap d/m unless it moves to kustomization/flux-system/team, which is not known here"
    );
    let new = fleet(std::slice::from_ref(&own), &with(std::slice::from_ref(&own)));
    let unit = &new.groups[0].plan.units[&"flux-system/team".parse().unwrap()];
    assert_eq!(unit.change, UnitChange::Added);
    assert!(unit.reason.starts_with("what it brings is not known here: "), "{}", unit.reason);
}

/// Each of them has an object of its own beside what changes.
#[test]
fn clusters_with_one_diff_are_one_group() {
    let paths: Vec<String> = (0..30).map(|n| format!("clusters/c{n:02}/a.yaml")).collect();
    let tree = |value: &str, special: &str| {
        let mut files = vec![("apps/a.yaml", map("a", value)), ("clusters/c99/s.yaml", map("s", special))];
        for (n, path) in paths.iter().enumerate() {
            files.push((path, format!("{}---\n{}", app("app", "apps", ""), map("own", &format!("v{n}")))));
        }
        files
    };
    let plan = fleet(&tree("one", "a"), &tree("two", "b"));
    let sizes: Vec<usize> = plan.groups.iter().map(|group| group.clusters.len()).collect();
    assert_eq!((plan.clusters, sizes), (31, vec![30, 1]));
}

#[test]
fn the_guard_stands_in_the_plan() {
    let tree = |with: bool| {
        let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: d}\n".to_owned();
        let mut files: Vec<(&str, String)> =
            vec![("clusters/a/m.yaml", map("m", "1")), ("clusters/b/m.yaml", map("m", "1"))];
        if with {
            files.extend([("clusters/a/n.yaml", namespace.clone()), ("clusters/b/n.yaml", namespace)]);
        }
        files
    };
    let plan = fleet(&tree(true), &tree(false));
    let stop = plan.guard.first().expect("a finding");
    assert_eq!((stop.severity, stop.count, stop.clusters.len()), (Severity::Stop, 2, 2), "{stop}");
    assert_eq!(plan.groups[0].plan.count(ObjectChange::Pruned), 1);
    // What needs the namespace does not fit any more.
    let new: Vec<String> =
        plan.misfits.iter().filter(|((_, was), _)| !was).map(|((fit, _), _)| fit.to_string()).collect();
    assert_eq!(new, ["no Namespace 'd' is in the cluster's output"]);
    assert!(fleet(&tree(false), &tree(true)).guard.is_empty());
}

#[test]
fn what_does_not_fit_a_cluster_is_named() {
    let manifests = |text: &str| vec![("clusters/x/a.yaml", text.to_owned())];
    let crd = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: ws.example.org}\nspec: \
               {group: example.org, scope: Cluster, names: {kind: W, plural: ws}, versions: []}\n---\n";
    let custom = "apiVersion: example.org/v1\nkind: W\nmetadata: {name: w}\n";
    let hpa = "apiVersion: autoscaling/v2beta2\nkind: HorizontalPodAutoscaler\nmetadata: {name: h, namespace: default}\n";
    for (text, expected) in [
        (hpa.to_owned(), "RemovedApi"),
        (hpa.replace("v2beta2", "v2"), ""),
        (custom.to_owned(), "UnknownKind"),
        (format!("{crd}{custom}"), ""),
        (map("m", "1"), "NoNamespace"),
        (map("m", "1").replace("namespace: d", "namespace: kube-system"), ""),
        (format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: d}}\n---\n{}", map("m", "1")), ""),
        ("apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: g, namespace: default}\n".to_owned(), "UnknownKind"),
        // What is not known may define it.
        (format!("{custom}---\n{}", unit("team", "{kind: GitRepository, name: team}", "")), ""),
    ] {
        let plan = fleet(&[], &manifests(&text));
        let codes: Vec<&str> = plan.misfits.keys().map(|(misfit, _)| misfit.code()).collect();
        assert_eq!(codes.join(","), expected, "{text}");
    }
    let unit = fleet(&manifests(hpa), &manifests(hpa));
    assert!(unit.misfits.keys().all(|(_, was)| *was) && unit.groups.is_empty());
}
