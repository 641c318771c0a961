//! Each render ends, whatever refers to what: to itself, in circles, or to nothing that is defined.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flotilla_core::{Digest, UnitId};
use flotilla_kustomize::files::TreePath;
use flotilla_render::helm::Renders;
use flotilla_render::{ClusterDefinition, ClusterRender, Content, Inputs, RenderCache, render_in_turns};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::world::{Fetched, tree};

/// No render of a fleet of some dozen objects takes longer, on whatever machine.
const LONGEST: Duration = Duration::from_secs(60);

const NAMES: [&str; 4] = ["a", "b", "c", "nowhere"];

/// A reference as `kind` and `name`, to what is defined or not.
fn reference(kinds: &'static [&'static str]) -> impl Strategy<Value = String> {
    let namespace = select(vec!["", ", namespace: flux-system", ", namespace: apps"]);
    let name = select(vec!["a", "b", "c", "nowhere", "flux-system"]);
    (select(kinds), name, namespace)
        .prop_map(|(kind, name, namespace)| format!("{{kind: {kind}, name: {name}{namespace}}}"))
}

fn names() -> impl Strategy<Value = Vec<String>> {
    subsequence(NAMES.map(str::to_owned).to_vec(), 0..3)
}

fn object(version: &str, kind: &str, name: &str, namespace: &str) -> String {
    format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\n")
}

/// A list of mappings, each with a name.
fn list(field: &str, names: &[String], more: &str) -> String {
    let items: Vec<String> = names.iter().map(|name| format!("{{{more}name: {name}}}")).collect();
    if items.is_empty() { String::new() } else { format!("  {field}: [{}]\n", items.join(", ")) }
}

fn kustomization() -> impl Strategy<Value = String> {
    let kinds: &[&str] = &["GitRepository", "OCIRepository", "Bucket", "ExternalArtifact"];
    let path = select(vec!["one", "two", ".", "clusters/x", "nowhere"]);
    let variables =
        (names(), select(vec!["kind: ConfigMap, ", "kind: Secret, ", "kind: ConfigMap, optional: true, "]));
    let policy = select(vec!["", "  wait: true\n", "  suspend: true\n", "  serviceAccountName: deployer\n"]);
    let id = (select(&NAMES[..3]), select(vec!["flux-system", "apps"]));
    (id, reference(kinds), path, names(), variables, policy).prop_map(
        |((name, namespace), source, path, after, (from, kind), policy)| {
            let from = list("substituteFrom", &from, kind).replace("  substituteFrom", "substituteFrom");
            let from = if from.is_empty() { from } else { format!("  postBuild:\n    {from}") };
            format!(
                "{}spec:\n  prune: true\n  interval: 1m\n  path: {path}\n  sourceRef: {source}\n{}{from}{policy}",
                object("kustomize.toolkit.fluxcd.io/v1", "Kustomization", name, namespace),
                list("dependsOn", &after, "")
            )
        },
    )
}

fn release() -> impl Strategy<Value = String> {
    let by_spec = reference(&["GitRepository", "Bucket", "HelmRepository"])
        .prop_map(|source| format!("  chart: {{spec: {{chart: web, sourceRef: {source}}}}}\n"));
    let by_ref = reference(&["OCIRepository", "HelmChart", "ExternalArtifact"])
        .prop_map(|source| format!("  chartRef: {source}\n"));
    let values =
        (names(), select(vec!["kind: ConfigMap, ", "kind: Secret, ", "kind: ConfigMap, optional: true, "]));
    let id = (select(&NAMES[..3]), select(vec!["flux-system", "apps"]));
    (id, prop_oneof![by_spec, by_ref], names(), values).prop_map(
        |((name, namespace), chart, after, (from, kind))| {
            format!(
                "{}spec:\n  interval: 1m\n{chart}{}{}",
                object("helm.toolkit.fluxcd.io/v2", "HelmRelease", name, namespace),
                list("dependsOn", &after, ""),
                list("valuesFrom", &from, kind)
            )
        },
    )
}

fn source() -> impl Strategy<Value = String> {
    let url = "spec:\n  interval: 1m\n  url: https://example.org/x\n";
    let git = names().prop_map(move |names| {
        let include: Vec<String> =
            names.iter().map(|name| format!("{{repository: {{name: {name}}}}}")).collect();
        ("GitRepository", "v1", format!("{url}  include: [{}]\n", include.join(", ")))
    });
    let oci = Just(("OCIRepository", "v1", url.replace("https:", "oci:")));
    let helm = Just(("HelmRepository", "v1", url.to_owned()));
    let bucket =
        Just(("Bucket", "v1", "spec: {interval: 1m, bucketName: b, endpoint: example.org}\n".to_owned()));
    let chart = reference(&["GitRepository", "Bucket", "HelmRepository"]).prop_map(|source| {
        // A HelmChart names sources of its own namespace.
        let source = source.replace(", namespace: flux-system", "").replace(", namespace: apps", "");
        ("HelmChart", "v1", format!("spec: {{interval: 1m, chart: web, sourceRef: {source}}}\n"))
    });
    let external = Just(("ExternalArtifact", "v1", "spec: {}\n".to_owned()));
    let of_source = prop_oneof![git, oci, helm, bucket, chart, external]
        .prop_map(|(kind, version, spec)| (format!("source.toolkit.fluxcd.io/{version}"), kind, spec));
    let inputs = prop::collection::vec(
        reference(&["GitRepository", "OCIRepository", "Bucket", "ExternalArtifact"]),
        1..3,
    );
    let generator = (inputs, select(&NAMES[..3])).prop_map(|(inputs, artifact)| {
        let inputs: Vec<String> = inputs
            .iter()
            .enumerate()
            .map(|(n, input)| input.replacen('{', &format!("{{alias: in{n}, "), 1))
            .collect();
        let spec = format!(
            "spec:\n  sources: [{}]\n  artifacts: [{{name: {artifact}, copy: [{{from: '@in0/**', to: '@artifact/'}}]}}]\n",
            inputs.join(", ")
        );
        ("source.extensions.fluxcd.io/v1beta1".to_owned(), "ArtifactGenerator", spec)
    });
    let id = (select(&NAMES[..3]), select(vec!["flux-system", "apps"]));
    (id, prop_oneof![4 => of_source, 2 => generator]).prop_map(
        |((name, namespace), (version, kind, spec))| {
            format!("{}{spec}", object(&version, kind, name, namespace))
        },
    )
}

fn config_map() -> impl Strategy<Value = String> {
    (select(&NAMES[..3]), select(vec!["flux-system", "apps"])).prop_map(|(name, namespace)| {
        format!("{}data: {{x: '1', values.yaml: 'y: 1'}}\n", object("v1", "ConfigMap", name, namespace))
    })
}

/// A `kustomization.yaml` that leads to others, to itself, or outside.
fn folder() -> impl Strategy<Value = String> {
    let base = select(vec!["../one", "../two", ".", "../nowhere", "https://example.org/base//x?ref=v1"]);
    let bases = prop::collection::vec(base, 1..3);
    (select(vec!["resources", "components", "bases"]), bases)
        .prop_map(|(field, bases)| format!("{field}: [{}]\n", bases.join(", ")))
}

type Files = Vec<(String, String)>;

/// Objects in the root, in two folders beside it, and in the repositories `a` and `b`.
fn files(place: &'static [&'static str], most: usize) -> impl Strategy<Value = Files> {
    let object = prop_oneof![4 => kustomization(), 4 => release(), 4 => source(), 1 => config_map()];
    let objects = prop::collection::vec((select(place), object), 1..most);
    let folders = prop::collection::vec((select(&["one", "two"][..]), folder()), 0..2);
    (objects, folders).prop_map(|(objects, folders)| {
        let objects =
            objects.into_iter().enumerate().map(|(n, (place, text))| (format!("{place}/{n}.yaml"), text));
        let folders = folders.into_iter().map(|(place, text)| (format!("{place}/kustomization.yaml"), text));
        let mut files: BTreeMap<String, String> = objects.chain(folders).collect();
        files.insert("web/Chart.yaml".into(), "apiVersion: v2\nname: web\nversion: 1.0.0\n".into());
        files.into_iter().collect()
    })
}

#[derive(Debug, Clone)]
struct Case {
    /// Two commits of the fleet repo.
    fleet: [Files; 2],
    /// What the repositories `a` and `b` hold; `c` is not fetched.
    trees: [Files; 2],
    /// What helm answers, in turn.
    answers: Vec<String>,
    turns: usize,
}

fn case() -> impl Strategy<Value = Case> {
    let fleet = || files(&["clusters/x", "clusters/x", "one", "two"], 12);
    let other = || files(&["one", "two", "."], 5);
    let answer = prop_oneof![3 => release(), 3 => kustomization(), 1 => source(), 1 => config_map()];
    let answers = prop::collection::vec(answer, 1..4);
    ([fleet(), fleet()], [other(), other()], answers, select(vec![16, 500]))
        .prop_map(|(fleet, trees, answers, turns)| Case { fleet, trees, answers, turns })
}

#[derive(Default)]
struct Kept(Mutex<BTreeMap<Digest, Arc<str>>>);

impl Renders for Kept {
    fn get(&self, key: Digest) -> Option<Result<Arc<str>, String>> {
        self.0.lock().unwrap().get(&key).cloned().map(Ok)
    }
}

/// Renders both commits, the second with what was last good in the first.
fn render(case: &Case) -> [ClusterRender; 2] {
    let named = |files: &Files, origin: &str| {
        let files: Vec<(&str, String)> =
            files.iter().map(|(path, text)| (path.as_str(), text.clone())).collect();
        tree(&files, origin)
    };
    let trees = [("a", named(&case.trees[0], "a")), ("b", named(&case.trees[1], "b"))];
    let (kept, cache) = (Kept::default(), RenderCache::new());
    let fetched = Fetched { trees: trees.into_iter().collect(), ..Fetched::default() };
    let clusters = TreePath::from_root("clusters").unwrap();
    let root = TreePath::from_root("clusters/x").unwrap();
    let cluster = ClusterDefinition::of_folder("x".parse().unwrap(), root);
    let mut last: BTreeMap<UnitId, Arc<Content>> = BTreeMap::new();
    let mut asked = 0;
    [0, 1].map(|n| {
        let fleet = named(&case.fleet[n], "fleet");
        let last_good = |id: &UnitId| last.get(id).cloned();
        let inputs = Inputs {
            renders: &kept,
            kube_version: Some("v1.36.3"),
            last_good: &last_good,
            ..Inputs::new(&fleet, &clusters, &cache, &fetched)
        };
        let render = render_in_turns(&inputs, &cluster, case.turns, |requests| {
            for (key, _) in requests {
                let answer = &case.answers[asked % case.answers.len()];
                asked += 1;
                let text = format!("---\n# Source: web/templates/a.yaml\n{answer}");
                kept.0.lock().unwrap().insert(key, text.into());
            }
        });
        let render = render.unwrap();
        let good = render
            .units
            .iter()
            .filter_map(|(id, unit)| Some((id.clone(), unit.unit.as_ref()?.content.clone())));
        last.extend(good.collect::<Vec<_>>());
        render
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn each_render_ends_and_says_why_a_unit_is_held(case in case()) {
        let (done, ended) = mpsc::channel();
        let shared = case.clone();
        // A render that spins cannot be ended: its thread is left behind.
        std::thread::spawn(move || done.send(Box::new(render(&shared))));
        let renders = ended.recv_timeout(LONGEST);
        prop_assert!(renders.is_ok(), "a render does not end");
        for (id, unit) in renders.unwrap().iter().flat_map(|render| &render.units) {
            let is_told = unit.unit.is_some() || unit.problems.iter().any(|problem| !problem.notice);
            prop_assert!(is_told, "{id} is held without a reason");
        }
    }
}
