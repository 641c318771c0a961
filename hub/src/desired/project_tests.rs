use super::*;
use flotilla_core::report::Problem;
use flotilla_kustomize::files::{MemoryFiles, TreePath};
use flotilla_render::{
    Artifact, ClusterDefinition, Inputs, NothingFetched, RenderCache, RenderedUnit, render_cluster,
};

const HEAD: &str = "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\n";

fn child(name: &str, path: &str, more: &str) -> String {
    format!(
        "{HEAD}metadata: {{name: {name}, namespace: flux-system}}\nspec:\n  path: {path}\n  prune: true\n  \
             interval: 1m\n  sourceRef: {{kind: GitRepository, name: flux-system}}\n{more}"
    )
}

fn config_map(name: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: default}}\n")
}

fn render(files: &[(&str, String)]) -> ClusterRender {
    let files = Arc::new(MemoryFiles::new(files.iter().map(|(p, c)| (*p, c.as_bytes()))));
    let clusters = TreePath::from_root("clusters").unwrap();
    let root = TreePath::from_root("clusters/x").unwrap();
    let cluster = ClusterDefinition::of_folder("x".parse().unwrap(), root);
    let (fleet, cache, sources) =
        (Artifact::new(files, "main", "test"), RenderCache::new(), NothingFetched("no"));
    render_cluster(&Inputs::new(&fleet, &clusters, &cache, &sources), &cluster).unwrap()
}

fn projected(
    render: &ClusterRender,
    known: &BTreeMap<UnitId, KnownUnit>,
    suspended: &Suspended,
    place: Digest,
) -> Projection {
    let (taken, older) = (BTreeMap::new(), BTreeMap::new());
    project(Source { render, taken: &taken, older: &older }, known, suspended, place)
}

fn place() -> Digest {
    Digest::of(b"fleet main clusters/x")
}

fn known(units: &[(&str, &str)]) -> BTreeMap<UnitId, KnownUnit> {
    let units = units.iter().map(|(id, parent)| {
        let (id, parent) = (id.parse::<UnitId>().unwrap(), parent.parse().ok());
        let removal = Removal { prune: true, ..Removal::default() };
        (id.clone(), KnownUnit { id, parent, removal, render: None })
    });
    units.collect()
}

fn shown(projection: &Projection) -> Vec<String> {
    let show = |(id, entry): (&UnitId, &UnitEntry)| match entry {
        UnitEntry::Present(unit) if unit.spec.suspend => format!("{id} suspended"),
        UnitEntry::Present(unit) => format!("{id} present {}", unit.objects.len()),
        UnitEntry::Hold(hold) => format!("{id} hold {hold}"),
        UnitEntry::Removed(removal) if removal.suspended => format!("{id} left suspended"),
        UnitEntry::Removed(removal) => format!("{id} removed {}", removal.deletes()),
    };
    projection.0.iter().map(show).collect()
}

#[test]
fn only_a_parent_that_rendered_without_a_unit_removes_it() {
    let known =
        known(&[("a/gone", "root"), ("a/below", "a/gone"), ("a/orphan", ""), ("flux-system/app", "root")]);
    let good = render(&[("clusters/x/app.yaml", child("app", "apps", "")), ("apps/a.yaml", config_map("a"))]);
    assert_eq!(
        shown(&projected(&good, &known, &Suspended::default(), place())),
        [
            "root present 0",
            "kustomization/a/below removed true",
            "kustomization/a/gone removed true",
            "kustomization/a/orphan hold nothing says which unit defined it",
            "kustomization/flux-system/app present 1",
        ]
    );
    let broken = render(&[("clusters/x/app.yaml", "a: [".to_owned())]);
    let entries = projected(&broken, &known, &Suspended::default(), place()).0;
    assert!(entries.values().all(|entry| matches!(entry, UnitEntry::Hold(_))), "{entries:?}");
    let by_hand = Suspended { whole: true, ..Suspended::default() };
    let entries = projected(&good, &known, &by_hand, place()).0;
    assert!(!entries.values().any(|entry| matches!(entry, UnitEntry::Removed(_))), "{entries:?}");
}

/// What becomes of a unit below `a/up`, which is below the root, when both leave Git: by who was suspended, in Git
/// or by hand.
#[test]
fn what_was_suspended_when_it_left_is_not_touched() {
    let good = render(&[("clusters/x/own.yaml", config_map("own"))]);
    for (kind, in_git, by_hand, whole, up, down) in [
        ("kustomization", "", "", false, "removed true", "removed true"),
        ("kustomization", "down", "", false, "removed true", "left suspended"),
        ("kustomization", "", "down", false, "removed true", "left suspended"),
        ("kustomization", "up", "", false, "left suspended", "left suspended"),
        ("kustomization", "", "up", false, "left suspended", "left suspended"),
        ("helmrelease", "down", "", false, "removed true", "left suspended"),
        ("helmrelease", "", "down", false, "removed true", "left suspended"),
        ("helmrelease", "up", "", false, "left suspended", "left suspended"),
        ("kustomization", "", "root", false, "hold", "hold"),
        ("helmrelease", "", "", true, "hold", "hold"),
    ] {
        let (id_up, id_down) = ("kustomization/a/up".to_owned(), format!("{kind}/a/down"));
        let mut known = known(&[(&id_up, "root"), (&id_down, &id_up)]);
        let full = |name: &str| match name {
            "up" => id_up.parse::<UnitId>().unwrap(),
            "down" => id_down.parse().unwrap(),
            _ => UnitId::root(),
        };
        if !in_git.is_empty() {
            known.get_mut(&full(in_git)).unwrap().removal.suspended = true;
        }
        let units = if by_hand.is_empty() { BTreeSet::new() } else { [full(by_hand)].into() };
        let shown = shown(&projected(&good, &known, &Suspended { whole, units }, place()));
        for (id, expected) in [(&id_up, up), (&id_down, down)] {
            let line = shown.iter().find(|line| line.starts_with(id.as_str())).unwrap();
            let (line, what) = (line.as_str(), format!("{id} {expected}"));
            assert!(line.starts_with(&what), "{kind} {in_git} {by_hand} {whole}: {line}");
        }
    }
}

/// Whatever is wrong with the document that defines a unit, the unit is not removed, and somebody says what it is.
#[test]
fn a_definition_with_a_wrong_letter_removes_nothing() {
    let known = known(&[("flux-system/app", "root"), ("helmrelease/flux-system/rel", "root")]);
    let app = child("app", "apps", "");
    let release = "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {name: rel, namespace: flux-system}\n\
                       spec:\n  interval: 1m\n  chart: {spec: {chart: c, sourceRef: {kind: HelmRepository, name: r}}}\n";
    for (from, to, said) in [
        ("kind: Kustomization\nmeta", "kind: Kustomizaton\nmeta", "did you mean Kustomization?"),
        ("kind: Kustomization\nmeta", "kind: kustomization\nmeta", "did you mean Kustomization?"),
        ("kind: Kustomization\nmeta", "kind: HelmRelease\nmeta", "did you mean HelmRelease of helm"),
        ("kustomize.toolkit.fluxcd.io/", "kustomize.toolkit.fluxcd.oi/", "did you mean kustomize.toolkit"),
        ("toolkit.fluxcd.io/v1\nkind: K", "toolkit.fluxcd.io\nkind: K", "lacks its version"),
        ("kind: Kustomization\nmeta", "Kind: Kustomization\nmeta", "kind"),
        ("kind: Kustomization\nmeta", "kind: ''\nmeta", "kind"),
        ("kind: Kustomization\nmeta", "meta", "kind"),
        ("{name: app,", "{nam: app,", "name"),
        ("kind: HelmRelease", "kind: HelmReleas", "did you mean HelmRelease?"),
        ("kind: HelmRelease", "kind: Helmrelease", "did you mean HelmRelease?"),
        ("helm.toolkit.fluxcd.io/v2", "helm.toolkit.fluxcd.io", "lacks its version"),
    ] {
        let files = [
            ("clusters/x/app.yaml", app.replace(from, to)),
            ("clusters/x/rel.yaml", release.replace(from, to)),
            ("clusters/x/own.yaml", config_map("own")),
            ("apps/a.yaml", config_map("a")),
        ];
        assert!(files[0].1 != app || files[1].1 != release, "{from}");
        let render = render(&files);
        let shown = shown(&projected(&render, &known, &Suspended::default(), place()));
        assert!(!shown.iter().any(|line| line.contains("removed")), "{to}: {shown:?}");
        let problems = render.units.values().flat_map(|unit| &unit.problems).map(ToString::to_string);
        let problems: Vec<String> = problems.collect();
        assert!(problems.iter().any(|problem| problem.contains(said)), "{to}: {problems:?}");
    }
}

#[test]
fn the_root_says_where_it_is_and_moves_only_to_an_agent_that_asks_for_what_it_leaves() {
    let render =
        render(&[("clusters/x/app.yaml", child("app", "apps", "")), ("apps/a.yaml", config_map("a"))]);
    let at = |place| projected(&render, &BTreeMap::new(), &Suspended::default(), place).0;
    let place_of = |units: &BTreeMap<UnitId, UnitEntry>, id: &UnitId| match &units[id] {
        UnitEntry::Present(unit) => unit.spec.place,
        other => panic!("{other:?}"),
    };
    let (units, app) = (at(place()), "flux-system/app".parse().unwrap());
    assert_eq!((place_of(&units, &UnitId::root()), place_of(&units, &app)), (Some(place()), None));
    let other = at(Digest::of(b"fleet main clusters/y"));
    assert_eq!(units[&app], other[&app], "the others are the same");
    for (agent, moved, held) in [
        (Capabilities::ours(), true, false),
        (Capabilities::default(), true, true),
        (Capabilities::default(), false, false),
    ] {
        let mut units = units.clone();
        withhold(&mut units, &agent, moved);
        let root = &units[&UnitId::root()];
        assert_eq!(matches!(root, UnitEntry::Hold(hold) if hold.code == HoldCode::AgentTooOld), held);
    }
}

#[test]
fn what_git_suspends_is_known_apart_from_what_people_suspend() {
    let files = [
        ("clusters/x/a.yaml", child("a", "apps/a", "  suspend: true\n")),
        ("clusters/x/b.yaml", child("b", "apps/a", "")),
        ("apps/a/a.yaml", config_map("a")),
    ];
    let render = render(&files);
    let by_hand = Suspended { whole: true, ..Suspended::default() };
    let units = projected(&render, &BTreeMap::new(), &by_hand, place()).0;
    let known = known_of(&render, &units).map(|unit| (unit.id.name.clone(), unit.removal.suspended));
    let known: Vec<(String, bool)> = known.collect();
    assert_eq!(known, [("".into(), false), ("a".into(), true), ("b".into(), false)]);
}

#[test]
fn a_broken_unit_is_held_with_its_reason_and_the_others_go_on() {
    let files = [
        ("clusters/x/a.yaml", child("a", "apps/a", "")),
        ("clusters/x/b.yaml", child("b", "apps/nowhere", "")),
        ("clusters/x/c.yaml", child("c", "apps/c", "  dependsOn: [{name: nobody}]\n")),
        ("apps/a/a.yaml", config_map("a")),
        ("apps/c/c.yaml", config_map("c")),
    ];
    assert_eq!(
        shown(&projected(&render(&files), &BTreeMap::new(), &Suspended::default(), place())),
        [
            "root present 0",
            "kustomization/flux-system/a present 1",
            "kustomization/flux-system/b hold apps/nowhere: there is no such folder in the source",
            "kustomization/flux-system/c hold clusters/x/c.yaml:1: spec.dependsOn: kustomization/flux-system/nobody is not \
                 defined in this cluster",
        ]
    );
}

#[test]
fn a_hold_says_how_far_the_unit_reaches() {
    let tenant = child("team", "./", "  serviceAccountName: sa\n")
        .replace("namespace: flux-system", "namespace: team-a")
        .replace("kind: GitRepository, name: flux-system", "kind: GitRepository, name: nowhere");
    let files = [("clusters/x/team.yaml", tenant), ("clusters/x/b.yaml", child("b", "apps/nowhere", ""))];
    let known =
        known(&[("team-a/below", "team-a/team"), ("team-a/deeper", "team-a/below"), ("a/orphan", "")]);
    let entries = projected(&render(&files), &known, &Suspended::default(), place()).0;
    let reach = |id: &str| match &entries[&id.parse().unwrap()] {
        UnitEntry::Hold(hold) => hold.authority.to_string(),
        other => format!("{other:?}"),
    };
    for (id, expected) in [
        ("team-a/team", "the namespace team-a"),
        ("team-a/below", "the namespace team-a"),
        ("team-a/deeper", "the namespace team-a"),
        ("flux-system/b", "everything"),
        ("a/orphan", "everything"),
    ] {
        assert_eq!(reach(id), expected, "{id}");
    }
}

#[test]
fn suspension_by_hand_changes_the_unit_and_nothing_else() {
    let files = [("clusters/x/a.yaml", child("a", "apps/a", "")), ("apps/a/a.yaml", config_map("a"))];
    let by_hand = Suspended { units: ["flux-system/a".parse().unwrap()].into(), ..Suspended::default() };
    let projection = projected(&render(&files), &BTreeMap::new(), &by_hand, place());
    assert_eq!(shown(&projection), ["root present 0", "kustomization/flux-system/a suspended"]);
    assert_eq!(projection.1.objects().count(), 1);
}

#[test]
fn a_hold_without_an_error_still_says_something() {
    let root = render(&[("clusters/x/own.yaml", config_map("own"))]);
    let definition = root.units[&UnitId::root()].definition.clone();
    let rendered = RenderedUnit {
        parent: None,
        definition,
        unit: None,
        problems: vec![Problem::error("", 0, "just a notice").as_notice()],
        revision: None,
        suspended: false,
        authority: flotilla_core::Authority::Fleet,
    };
    assert_eq!(rendered.hold_reason(), "it does not render");
}

use proptest::prelude::*;

/// What a commit does to each of three child units: there, gone, or not to be rendered.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Child {
    There,
    Gone,
    Broken,
}

proptest! {
    /// Whatever is known and whatever breaks: a unit goes only if the root renders without it, every unit that
    /// the cluster has is named, and a broken root takes nothing away.
    #[test]
    fn nothing_goes_for_any_other_reason(
        children in prop::collection::vec(prop_oneof![Just(Child::There), Just(Child::Gone), Just(Child::Broken)], 3),
        root_broken in any::<bool>(),
        root_suspended in any::<bool>(),
        have in prop::collection::vec(any::<bool>(), 3),
    ) {
        let mut files = vec![("clusters/x/own.yaml".to_owned(), config_map("own"))];
        for (n, state) in children.iter().enumerate() {
            let path = if *state == Child::Broken { "nowhere" } else { "apps" };
            if *state != Child::Gone {
                files.push((format!("clusters/x/u{n}.yaml"), child(&format!("u{n}"), path, "")));
            }
        }
        files.push(("apps/a.yaml".to_owned(), config_map("a")));
        if root_broken {
            files.push(("clusters/x/z.yaml".to_owned(), "a: [".to_owned()));
        }
        let named: Vec<(&str, String)> = files.iter().map(|(p, c)| (p.as_str(), c.clone())).collect();
        let ids: Vec<String> = (0..3).map(|n| format!("flux-system/u{n}")).collect();
        let units: Vec<(&str, &str)> =
            ids.iter().zip(&have).filter(|(_, have)| **have).map(|(id, _)| (id.as_str(), "root")).collect();
        let known = known(&units);
        let by_hand = Suspended {
            units: if root_suspended { [UnitId::root()].into() } else { BTreeSet::new() },
            whole: false,
        };
        let entries = projected(&render(&named), &known, &by_hand, place()).0;
        for (n, state) in children.iter().enumerate() {
            let id: UnitId = ids[n].parse().unwrap();
            let entry = entries.get(&id);
            let may_go = *state == Child::Gone && have[n] && !root_broken && !root_suspended;
            prop_assert_eq!(matches!(entry, Some(UnitEntry::Removed(_))), may_go, "{:?}", entry);
            prop_assert!(!have[n] || entry.is_some(), "a unit that the cluster has is not named");
            let there = *state == Child::There && !root_broken;
            prop_assert_eq!(matches!(entry, Some(UnitEntry::Present(_))), there);
        }
    }
}
