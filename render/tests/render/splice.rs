//! A cluster that is rendered in part, as only some of its units read what a commit changed, is what a whole render makes of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use flotilla_core::{Digest, UnitId};
use flotilla_kustomize::files::TreePath;
use flotilla_render::helm::Renders;
use flotilla_render::{
    Budget, ClusterDefinition, ClusterRender, Content, Footprint, Held, Inputs, Recorder, RenderCache,
    render_cluster, splice,
};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{TestError, TestRunner};

use crate::world::{FLEET, Fetched, tree};

/// Folders that units are built from.
const APPS: usize = 5;

/// What stands in a folder.
#[derive(Debug, Clone, PartialEq)]
enum Thing {
    /// Of few names, so that several units declare one.
    Map(u8, u8),
    /// What variables are taken from: name, and value; of a Secret, or not applied as it is.
    Variables(u8, u8, Kind),
    /// What values of releases are taken from.
    Values(u8, Kind),
    Namespace(u8, u8),
    Definition(u8),
    /// A unit of its own, of one of the folders.
    Child(u8, u8),
    Source(u8),
    /// So large that few of them fit into the cluster.
    Large(u8),
    /// Takes what only the cluster may know.
    Uses(u8),
    /// A base that folders share.
    Base,
    Broken,
    /// One object twice.
    Twice(u8),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Plain,
    Secret,
    Merged,
}

/// How a unit of the root is defined.
#[derive(Debug, Clone, PartialEq)]
struct Policy {
    path: u8,
    more: String,
}

#[derive(Debug, Clone)]
enum Edit {
    Folder(usize, Vec<Thing>),
    /// Another number in what stands there.
    Touch(usize, u8),
    Base(u8),
    Root(usize, Policy),
    Ignore(bool),
}

#[derive(Debug, Clone)]
struct Case {
    units: Vec<Policy>,
    folders: Vec<Vec<Thing>>,
    release: bool,
    team: Vec<Thing>,
    bytes: u64,
    edits: Vec<Edit>,
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![8 => Just(Kind::Plain), 1 => Just(Kind::Secret), 1 => Just(Kind::Merged)]
}

fn thing() -> impl Strategy<Value = Thing> {
    prop_oneof![
        16 => (0..60_u8, 0..3_u8).prop_map(|(name, value)| Thing::Map(name, value)),
        8 => (0..1_u8, 0..3_u8, kind()).prop_map(|(name, value, kind)| Thing::Variables(name, value, kind)),
        2 => (0..3_u8, kind()).prop_map(|(value, kind)| Thing::Values(value, kind)),
        2 => (0..1_u8, 0..2_u8).prop_map(|(name, value)| Thing::Namespace(name, value)),
        1 => (0..2_u8).prop_map(Thing::Definition),
        2 => (0..2_u8, 0..APPS as u8).prop_map(|(name, path)| Thing::Child(name, path)),
        1 => (0..2_u8).prop_map(Thing::Source),
        1 => (0..2_u8).prop_map(Thing::Large),
        8 => (0..9_u8).prop_map(Thing::Uses),
        1 => Just(Thing::Base),
        1 => Just(Thing::Broken),
        1 => (0..2_u8).prop_map(Thing::Twice),
    ]
}

fn things() -> impl Strategy<Value = Vec<Thing>> {
    prop::collection::vec(thing(), 0..5)
}

fn policy() -> impl Strategy<Value = Policy> {
    let from = |kind: &str, optional: bool, name: u8| {
        format!(
            "  postBuild: {{substitute: {{own: '1'}}, substituteFrom: [{{kind: {kind}, name: vars{name}, optional: {optional}}}]}}\n"
        )
    };
    let variables = prop_oneof![
        4 => Just(String::new()),
        2 => Just("  postBuild: {substitute: {v: own}}\n".to_owned()),
        4 => (0..1_u8, any::<bool>()).prop_map(move |(name, optional)| from("ConfigMap", optional, name)),
        1 => (0..2_u8).prop_map(move |name| from("Secret", true, name)),
    ];
    let more = prop_oneof![
        8 => Just(""),
        1 => Just("  wait: true\n"),
        1 => Just("  suspend: true\n"),
        1 => Just("  serviceAccountName: deployer\n"),
        1 => Just("  decryption: {provider: sops}\n"),
        1 => Just("  targetNamespace: d\n"),
    ];
    (0..APPS as u8, variables, more)
        .prop_map(|(path, variables, more)| Policy { path, more: variables + more })
}

fn case() -> impl Strategy<Value = Case> {
    let edit = prop_oneof![
        4 => (0..APPS, things()).prop_map(|(app, things)| Edit::Folder(app, things)),
        16 => (0..APPS, any::<u8>()).prop_map(|(app, value)| Edit::Touch(app, value)),
        1 => (0..3_u8).prop_map(Edit::Base),
        1 => (0..4_usize, policy()).prop_map(|(unit, policy)| Edit::Root(unit, policy)),
        1 => any::<bool>().prop_map(Edit::Ignore),
    ];
    (
        prop::collection::vec(policy(), 1..5),
        prop::collection::vec(things(), APPS),
        any::<bool>(),
        things(),
        prop_oneof![4 => Just(1 << 20), 1 => select(vec![4_000, 5_000])],
        prop::collection::vec(edit, 1..10),
    )
        .prop_map(|(units, folders, release, team, bytes, edits)| Case {
            units,
            folders,
            release,
            team,
            bytes,
            edits,
        })
}

fn kustomization(name: &str, path: &str, source: &str, more: &str) -> String {
    format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: {name}, namespace: \
         flux-system}}\nspec:\n  prune: true\n  interval: 1m\n  path: {path}\n  sourceRef: {source}\n{more}"
    )
}

impl Thing {
    fn text(&self) -> String {
        let data = |kind: &str, name: String, more: &str, text: &str| {
            format!("apiVersion: v1\nkind: {kind}\nmetadata: {{name: {name}{more}}}\n{text}\n")
        };
        let of = |kind: Kind, name: String, text: String| {
            let (word, more) = match kind {
                Kind::Plain => ("ConfigMap", ""),
                Kind::Secret => ("Secret", ""),
                Kind::Merged => ("ConfigMap", ", annotations: {kustomize.toolkit.fluxcd.io/ssa: Merge}"),
            };
            let field = if kind == Kind::Secret { "stringData" } else { "data" };
            data(word, name, &format!(", namespace: flux-system{more}"), &format!("{field}: {{{text}}}"))
        };
        match self {
            Self::Map(name, value) => {
                data("ConfigMap", format!("m{name}"), ", namespace: d", &format!("data: {{x: v{value}}}"))
            }
            Self::Variables(name, value, kind) => of(*kind, format!("vars{name}"), format!("v: w{value}")),
            Self::Values(value, kind) => {
                of(*kind, "values".to_owned(), format!("values.yaml: 'size: {value}'"))
            }
            Self::Namespace(name, value) => {
                data("Namespace", format!("n{name}"), &format!(", labels: {{a: l{value}}}"), "")
            }
            Self::Definition(value) => format!(
                "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: \
                 as.example.com}}\nspec: {{group: example.com, names: {{kind: A, plural: as}}, scope: Namespaced, \
                 versions: [{{name: v{value}, served: true, storage: true}}]}}\n"
            ),
            Self::Child(name, path) => {
                kustomization(&format!("child{name}"), &format!("apps/a{path}"), FLEET, "")
            }
            Self::Source(name) => format!(
                "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {{name: s{name}, namespace: \
                 flux-system}}\nspec: {{interval: 1m, url: 'https://example.org/s'}}\n"
            ),
            Self::Large(name) => data(
                "ConfigMap",
                format!("large{name}"),
                ", namespace: d",
                &format!("data: {{x: {}}}", "x".repeat(900)),
            ),
            Self::Uses(name) => {
                data("ConfigMap", format!("uses{name}"), ", namespace: d", "data: {x: '${v:=nothing}'}")
            }
            Self::Base => String::new(),
            Self::Broken => "a: [\n".to_owned(),
            Self::Twice(value) => {
                let one = |value: u8| Self::Map(99, value).text();
                format!("{}---\n{}", one(0), one(*value))
            }
        }
    }

    fn touched(&mut self, by: u8) {
        match self {
            Self::Map(_, value)
            | Self::Variables(_, value, _)
            | Self::Values(value, _)
            | Self::Namespace(_, value)
            | Self::Definition(value)
            | Self::Twice(value) => *value = by % 3,
            Self::Child(_, path) => *path = by % APPS as u8,
            Self::Source(name) | Self::Large(name) | Self::Uses(name) => *name = by % 2,
            Self::Base | Self::Broken => {}
        }
    }
}

/// A folder's kustomization and what it names.
fn folder(files: &mut BTreeMap<String, String>, path: &str, things: &[Thing]) {
    let mut list = String::from("resources:\n");
    for (n, thing) in things.iter().enumerate() {
        match thing {
            Thing::Base => list.push_str("  - ../../base\n"),
            thing => {
                writeln!(list, "  - t{n}.yaml").unwrap();
                files.insert(format!("{path}/t{n}.yaml"), thing.text());
            }
        }
    }
    let list = if things.is_empty() { "resources: []\n".to_owned() } else { list };
    files.insert(format!("{path}/kustomization.yaml"), list);
}

impl Case {
    fn files(&self, base: u8, ignores: bool) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        for (n, things) in self.folders.iter().enumerate() {
            folder(&mut files, &format!("apps/a{n}"), things);
        }
        files.insert("base/kustomization.yaml".into(), "resources: [base.yaml]\n".into());
        files.insert("base/base.yaml".into(), Thing::Map(50, base).text());
        if ignores {
            files.insert(".sourceignore".into(), "/apps/a0/t0.yaml\n".into());
        }
        for (n, Policy { path, more }) in self.units.iter().enumerate() {
            let text = kustomization(&format!("u{n}"), &format!("apps/a{path}"), FLEET, more);
            files.insert(format!("clusters/x/u{n}.yaml"), text);
        }
        let team = kustomization("team", ".", "{kind: GitRepository, name: team}", "");
        files.insert("clusters/x/team.yaml".into(), team + "  serviceAccountName: team\n");
        files.insert(
            "clusters/x/source.yaml".into(),
            "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {name: team, namespace: \
             flux-system}\nspec: {interval: 1m, url: 'https://example.org/team'}\n"
                .into(),
        );
        if self.release {
            files.insert(
                "clusters/x/release.yaml".into(),
                "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata:\n  name: web\n  namespace: flux-system\n  \
                 annotations: {flotilla.dev/absent: 'ConfigMap/values, Secret/values'}\nspec:\n  \
                 interval: 1m\n  chart: {spec: {chart: web, sourceRef: {kind: GitRepository, name: team}}}\n  targetNamespace: \
                 n0\n  install: {createNamespace: true}\n  valuesFrom: [{kind: ConfigMap, name: values, optional: true}, {kind: \
                 Secret, name: values, optional: true}]\n"
                    .into(),
            );
        }
        files
    }
}

/// Helm that answers each question at once with what names it.
struct AtOnce;

impl Renders for AtOnce {
    fn get(&self, key: Digest) -> Option<Result<Arc<str>, String>> {
        let text = Thing::Map(77, 0).text().replace("x: v0", &format!("x: '{key}'"));
        Some(Ok(format!("---\n# Source: web/templates/a.yaml\n{text}").into()))
    }
}

/// How often a cluster was rendered in part, and as a whole though only units read what changed.
#[derive(Default)]
struct Count {
    in_part: usize,
    whole: usize,
}

fn check(case: &Case, count: &mut Count) -> Result<(), TestCaseError> {
    let mut case = case.clone();
    let mut team = BTreeMap::new();
    folder(&mut team, ".", &case.team);
    team.insert("web/Chart.yaml".into(), "apiVersion: v2\nname: web\nversion: 1.0.0\n".into());
    let named = |files: &BTreeMap<String, String>, origin: &str| {
        let files: Vec<(&str, String)> =
            files.iter().map(|(path, text)| (path.trim_start_matches("./"), text.clone())).collect();
        tree(&files, origin)
    };
    let fetched = Fetched { trees: [("team", named(&team, "team"))].into(), ..Fetched::default() };
    let (cache, clusters) = (RenderCache::new(), TreePath::from_root("clusters").unwrap());
    let cluster = ClusterDefinition::of_folder("x".parse().unwrap(), clusters.join("x").unwrap());
    let mut last: BTreeMap<UnitId, Arc<Content>> = BTreeMap::new();
    let mut before: Option<(ClusterRender, Footprint)> = None;
    let (mut base, mut ignores) = (0, false);
    for edit in [Edit::Base(0)].into_iter().chain(std::mem::take(&mut case.edits)) {
        match edit {
            Edit::Folder(app, things) => case.folders[app] = things,
            Edit::Touch(app, value) => case.folders[app].iter_mut().for_each(|thing| thing.touched(value)),
            Edit::Base(value) => base = value,
            Edit::Root(unit, policy) if unit < case.units.len() => case.units[unit] = policy,
            Edit::Root(..) => drop(case.units.pop()),
            Edit::Ignore(is_there) => ignores = is_there,
        }
        let fleet = named(&case.files(base, ignores), "fleet");
        let last_good = |id: &UnitId| last.get(id).cloned();
        let recorder = Recorder::default();
        let inputs = Inputs {
            renders: &AtOnce,
            kube_version: Some("v1.36.3"),
            last_good: &last_good,
            budget: Budget { cluster_bytes: case.bytes, ..Budget::default() },
            ..Inputs::new(&fleet, &clusters, &cache, &fetched)
        };
        let whole = || {
            (
                render_cluster(&Inputs { recorder: Some(&recorder), ..inputs }, &cluster).unwrap(),
                recorder.taken(),
            )
        };
        let now = match &before {
            None => whole(),
            Some((render, read)) => {
                let changed = read.changed_in(&fleet, &cache, &Held::default()).unwrap();
                let changed = changed.expect("nothing reads all of the repository");
                let spliced = splice(&inputs, render, read, &changed).unwrap();
                let (expected, footprint) = whole();
                match spliced {
                    Some((render, read)) => {
                        prop_assert_eq!(&render, &expected);
                        prop_assert_eq!(digests(&render), digests(&expected));
                        prop_assert!(read.is_like(&footprint), "{:?} is not {:?}", read, footprint);
                        count.in_part += usize::from(!changed.is_empty());
                        (render, read)
                    }
                    None => {
                        count.whole += usize::from(!changed.is_empty());
                        (expected, footprint)
                    }
                }
            }
        };
        for (id, unit) in &now.0.units {
            if let Some(made) = unit.unit.as_ref().filter(|_| !unit.suspended || !last.contains_key(id)) {
                last.insert(id.clone(), made.content.clone());
            }
        }
        last.retain(|id, _| now.0.units.contains_key(id));
        before = Some(now);
    }
    Ok(())
}

/// What the agent would be sent.
fn digests(render: &ClusterRender) -> Vec<Option<Digest>> {
    render.units.values().map(|unit| Some(unit.unit.as_ref()?.manifest.digest())).collect()
}

#[test]
fn what_is_rendered_in_part_is_what_a_whole_render_makes() {
    let config = ProptestConfig { cases: 256, max_shrink_iters: 2_000, ..ProptestConfig::default() };
    let cases = config.cases as usize;
    let count = std::cell::RefCell::new(Count::default());
    let tried = TestRunner::new(config).run(&case(), |case| check(&case, &mut count.borrow_mut()));
    if let Err(TestError::Fail(why, case)) = tried {
        panic!("{why}\n{case:#?}");
    }
    let Count { in_part, whole } = count.into_inner();
    assert!(in_part > cases / 8 && whole > cases / 8, "{in_part} in part, {whole} as a whole");
}
