//! What a render means for a cluster: which units are present, which are held, which go. Pure.
//!
//! Nothing is removed because something is missing: a unit is removed only if its parent rendered completely, is not
//! suspended, and no longer defines it. Everything else that is not present is held. A unit that was suspended when it
//! left Git, or whose parent was, is told to the agent as such, and not touched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flotilla_core::capability::PLACE;
use flotilla_core::desired::{Hold, HoldCode, KnownUnit, Removal};
use flotilla_core::{Authority, Capabilities, Digest, UnitEntry, UnitId, UnitManifest, UnitSpec};
use flotilla_proto::convert::cut;
use flotilla_render::{ClusterRender, Fate, Past, fate};

use super::Bodies;
use super::choice::Taken;

/// What people suspended by hand in one cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suspended {
    pub whole: bool,
    pub units: BTreeSet<UnitId>,
}

impl Suspended {
    pub fn covers(&self, unit: &UnitId) -> bool {
        self.whole || self.units.contains(unit)
    }
}

/// The units of a cluster's desired state, and the bodies of all objects in it.
pub type Projection = (BTreeMap<UnitId, UnitEntry>, Bodies);

/// A render whose units are from one snapshot or several.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    pub render: &'a ClusterRender,
    /// The units that are not of the newest snapshot.
    pub taken: &'a BTreeMap<UnitId, Taken>,
    /// The renders of the others.
    pub older: &'a BTreeMap<Digest, Result<ClusterRender, String>>,
}

impl<'a> Source<'a> {
    /// The render that decides what becomes of a unit.
    fn of(self, id: &UnitId) -> Result<&'a ClusterRender, &'a str> {
        match self.taken.get(id) {
            None => Ok(self.render),
            Some(Taken::Unknown(why)) => Err(why),
            Some(Taken::At(snapshot)) => match self.older.get(snapshot) {
                Some(render) => render.as_ref().map_err(String::as_str),
                None => Err("the snapshot that it is to be taken from is lost"),
            },
        }
    }
}

/// Projects a cluster's render. `known` are the units that the cluster has, or may have; `place` is where its root is.
pub fn project(
    source: Source<'_>,
    known: &BTreeMap<UnitId, KnownUnit>,
    suspended: &Suspended,
    place: Digest,
) -> Projection {
    let render = source.render;
    let mut units = BTreeMap::new();
    let mut bodies = Vec::new();
    for (id, rendered) in &render.units {
        let entry = match &rendered.unit {
            None => {
                let authority = rendered.authority.clone();
                UnitEntry::Hold(Hold { authority, ..Hold::from(cut(rendered.hold_reason())) })
            }
            Some(unit) => {
                bodies.push(unit.content.clone());
                let is_root = *id == UnitId::root();
                let suspend = suspended.covers(id) || unit.manifest.spec.suspend;
                UnitEntry::Present(if is_root || suspend != unit.manifest.spec.suspend {
                    let place = is_root.then_some(place);
                    let spec = UnitSpec { suspend, place, ..unit.manifest.spec.clone() };
                    Arc::new(UnitManifest::new(id.clone(), spec, unit.manifest.objects.clone()))
                } else {
                    unit.manifest.clone()
                })
            }
        };
        units.insert(id.clone(), entry);
    }
    let past = |id: &UnitId| {
        let unit = known.get(id)?;
        Some(Past { parent: unit.parent.as_ref(), suspended: unit.removal.suspended })
    };
    for (id, unit) in known {
        if !render.units.contains_key(id) {
            let of = match source.of(id) {
                Ok(of) => of,
                Err(why) => {
                    let authority = authority_above(render, known, id);
                    let hold = Hold { authority, ..Hold::from(cut(why.to_owned())) };
                    units.insert(id.clone(), UnitEntry::Hold(hold));
                    continue;
                }
            };
            let entry = match fate(of, &past, &|id| suspended.covers(id), id) {
                Fate::Goes { suspended } => UnitEntry::Removed(Removal { suspended, ..unit.removal }),
                Fate::Stays(code, text) => {
                    let authority = authority_above(of, known, id);
                    UnitEntry::Hold(Hold { code, authority, ..Hold::from(text) })
                }
            };
            units.insert(id.clone(), entry);
        }
    }
    (units, Bodies::of(bodies))
}

/// Holds what the cluster's agent must not be sent, as it would pass over a part of it that forbids something.
/// `root_moved`: so does a root that is not where it was.
pub fn withhold(units: &mut BTreeMap<UnitId, UnitEntry>, agent: &Capabilities, root_moved: bool) {
    for (id, entry) in units {
        let of_root = (root_moved && *id == UnitId::root()).then_some(PLACE);
        let lacking: Vec<&str> = agent.lacks(entry.requires().chain(of_root)).into_iter().collect();
        if lacking.is_empty() {
            continue;
        }
        let text = format!(
            "the cluster's agent does not know '{}', which this needs: upgrade the agent to {} or newer",
            lacking.join("', '"),
            env!("CARGO_PKG_VERSION")
        );
        let authority = match entry {
            UnitEntry::Present(unit) => unit.spec.authority.clone(),
            UnitEntry::Hold(_) | UnitEntry::Removed(_) => Authority::Fleet,
        };
        *entry = UnitEntry::Hold(Hold { code: HoldCode::AgentTooOld, authority, ..Hold::from(text) });
    }
}

/// How far a unit that nothing defines any more may reach: at most as far as the first unit above it that is defined.
fn authority_above(render: &ClusterRender, known: &BTreeMap<UnitId, KnownUnit>, id: &UnitId) -> Authority {
    let mut at = id;
    for _ in 0..known.len() {
        let Some(parent) = known.get(at).and_then(|unit| unit.parent.as_ref()) else { break };
        if let Some(rendered) = render.units.get(parent) {
            return rendered.authority.clone();
        }
        at = parent;
    }
    Authority::Fleet
}

/// What has to be known of units when the cluster's root was moved: what the new root does not define waits for an approval.
pub fn moved(known: &mut BTreeMap<UnitId, KnownUnit>, render: &ClusterRender) -> Vec<KnownUnit> {
    let mut changed = Vec::new();
    let renders = |id: &UnitId| render.units.get(id).is_some_and(|rendered| rendered.unit.is_some());
    for (id, unit) in known.iter_mut().filter(|(id, unit)| !unit.removal.moved && !renders(id)) {
        tracing::debug!(unit = %id, "is not defined at the cluster's new root");
        unit.removal.moved = true;
        changed.push(unit.clone());
    }
    changed
}

/// The units of a projection as the hub will know them. Suspended are those that Git suspends: the store has those that
/// people suspend.
pub fn known_of<'a>(
    render: &'a ClusterRender,
    units: &'a BTreeMap<UnitId, UnitEntry>,
) -> impl Iterator<Item = KnownUnit> + 'a {
    known_units(units).map(|mut known| {
        if let Some(unit) = render.units.get(&known.id).and_then(|rendered| rendered.unit.as_ref()) {
            known.removal.suspended = unit.manifest.spec.suspend;
        }
        known
    })
}

/// The units of a state as the hub will know them: what a later state may have to remove.
pub fn known_units(units: &BTreeMap<UnitId, UnitEntry>) -> impl Iterator<Item = KnownUnit> {
    units.iter().filter_map(|(id, entry)| match entry {
        UnitEntry::Present(unit) => {
            let (parent, removal) = (unit.spec.parent.clone(), Removal::of(&unit.spec));
            Some(KnownUnit { id: id.clone(), parent, removal, render: unit.spec.render })
        }
        UnitEntry::Hold(_) | UnitEntry::Removed(_) => None,
    })
}

#[cfg(test)]
mod tests {
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
        let known = known(&[
            ("a/gone", "root"),
            ("a/below", "a/gone"),
            ("a/orphan", ""),
            ("flux-system/app", "root"),
        ]);
        let good =
            render(&[("clusters/x/app.yaml", child("app", "apps", "")), ("apps/a.yaml", config_map("a"))]);
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
            (
                "kustomize.toolkit.fluxcd.io/",
                "kustomize.toolkit.fluxcd.oi/",
                "did you mean kustomize.toolkit",
            ),
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
            revision: String::new(),
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
}
