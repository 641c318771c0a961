//! Small cases through our renderer and Flux's own packages: whatever each says, both say the same. Each case is a unit or a
//! release of one fleet, so that Flux is asked only some times.

use std::collections::BTreeMap;

use flotilla_compare::fleet;
use flotilla_compare::flux::{Flux, flux_or_skip};
use flotilla_compare::tree::{Content, Tree};

/// Files by path.
type Files = BTreeMap<String, String>;

/// Whether Flux takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Takes,
    Refuses,
}
use Verdict::{Refuses, Takes};

fn kustomization(name: &str, path: &str, more: &str) -> String {
    format!(
        "---\napiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: {name}, namespace: \
         flux-system}}\nspec:\n  interval: 10m\n  prune: true\n  path: {path}\n  sourceRef: {{kind: GitRepository, name: \
         flux-system}}\n{more}"
    )
}

/// A ConfigMap in a namespace that no other case has.
fn config_map(case: usize, name: &str, more: &str) -> String {
    format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: n{case}}}\n{more}")
}

/// Compares a fleet; the cases are told by the names of their units and releases.
fn compare(files: &Files, cases: &[(String, Verdict)]) {
    let Some(program) = flux_or_skip() else { return };
    let mut flux = Flux::start(&program).expect("it starts");
    let mut files = files.clone();
    files.insert("charts/demo/Chart.yaml".into(), "apiVersion: v2\nname: demo\nversion: 1.0.0\n".into());
    files.insert("charts/demo/templates/x.yaml".into(), String::new());
    let files = files.into_iter().map(|(path, text)| (path, Content::Bytes(text.into_bytes()))).collect();
    let tree = Tree { files, root: "clusters/prod".to_owned() };
    let (theirs, compared) = fleet::compare(&mut flux, &tree).unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(compared, fleet::Compared::default());
    let mut others = Vec::new();
    for (name, expected) in cases {
        let refused = match (theirs.units.get(name), theirs.releases.get(name)) {
            (Some(unit), _) => unit.as_ref().err(),
            (None, Some(release)) => release.as_ref().err(),
            (None, None) => panic!("{name} is not there"),
        };
        let found = if refused.is_some() { Refuses } else { Takes };
        others.extend((found != *expected).then(|| format!("{name}: {found:?}: {refused:?}")));
    }
    assert!(others.is_empty(), "Flux does otherwise:\n{}", others.join("\n"));
}

/// Texts of a ConfigMap's data, with and without substitution.
#[test]
fn texts_of_objects() {
    let texts = [
        (r#""a\u0085b""#, Takes),
        (r#""a \N b\nc""#, Takes),
        (r#""\Na\N\Nb\N""#, Takes),
        (r#""a\u2028b\nc\u2029""#, Takes),
        (r#""a\ab\eb\0""#, Takes),
        (r#""\uFEFFa\u00a0\U0001F600\r\nb\t""#, Takes),
        (r#""a\x7fb""#, Refuses),
        (r#""a\u0081""#, Refuses),
        (r#""a\ufffe""#, Refuses),
        ("'it''s\n\n    folded'", Takes),
        (">\n    a\n     b\n\n    c\n\n", Takes),
        ("|+\n    a\n\n", Takes),
        ("!!binary YQ==", Takes),
        ("12345678901234567", Takes),
        ("0o17", Takes),
        ("1e3", Takes),
        (".inf", Refuses),
        ("{1: a}", Refuses),
        ("[a, {b: ~}]", Takes),
    ];
    let (mut files, mut cases) = (Files::new(), Vec::new());
    for (number, (text, expected)) in texts.iter().enumerate() {
        for (kind, more) in [("plain", ""), ("substituted", "  postBuild: {substitute: {A: x}}\n")] {
            let name = format!("{kind}-{number}");
            let units = files.entry("clusters/prod/units.yaml".into()).or_default();
            units.push_str(&kustomization(&name, &format!("apps/{name}"), more));
            let case = cases.len();
            files.insert(
                format!("apps/{name}/a.yaml"),
                config_map(case, "a", &format!("data:\n  k: {text}\n")),
            );
            cases.push((format!("flux-system/{name}"), *expected));
        }
    }
    compare(&files, &cases);
}

/// Forms of substitution, and what becomes of names, metadata and lists.
#[test]
fn objects_and_fields() {
    let substitute = "  postBuild: {substitute: {A: x, E: '', N: '5', Q: 'a: b'}}\n";
    let metadata = "  commonMetadata: {labels: {team: x}, annotations: {n: y}}\n";
    let labelled = |labels: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a, namespace: NS, labels: {labels}, annotations: {{q: w}}}}\n"
        )
    };
    let data = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: NS}\ndata: {k: '${A:=d}', j: '$${B}'}\n";
    let two = |first: &str, second: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {first}, namespace: NS}}\n---\napiVersion: v1\nkind: \
             ConfigMap\nmetadata: {{name: {second}, namespace: NS}}\n"
        )
    };
    let list = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: NS}}\n";
    let stray = format!(
        "{data}---\napiVersion: kustomize.config.k8s.io/v1alpha1\nkind: KUSTOMIZATION\nmetadata: {{name: a}}\n"
    );
    let cases: Vec<(&str, String, Verdict)> = vec![
        (substitute, two("'${A}-m'", "x-m"), Refuses),
        (substitute, two("x-m", "'${NONE:=x}-m'"), Refuses),
        (substitute, two("'${A}-m'", "'${A}-n'"), Takes),
        (substitute, two("'a${N}'", "'b${N}'"), Takes),
        (substitute, two("${Q}", "b"), Refuses),
        (substitute, labelled("{kustomize.toolkit.fluxcd.io/substitute: disabled, l: '${NONE}'}"), Takes),
        (substitute, labelled("{kustomize.toolkit.fluxcd.io/substitute: Disabled, l: '${NONE}'}"), Refuses),
        (substitute, labelled("{kustomize.toolkit.fluxcd.io/substitute: '${E}disabled', l: '${A}'}"), Takes),
        ("  postBuild: {}\n", data.to_owned(), Takes),
        ("  postBuild: {substitute: {}}\n", data.to_owned(), Takes),
        ("  postBuild: {substituteStrategy: Always}\n", data.to_owned(), Takes),
        ("  postBuild: {substitute: {}}\n", data.replace("${A:=d}", "${A!x} ${ b"), Takes),
        (substitute, data.replace("A:=d", "A!x"), Refuses),
        (substitute, data.to_owned() + "n: 9223372036854775807\nm: 12345678901234567\n", Takes),
        (
            "  postBuild: {substituteFrom: [{kind: ConfigMap, name: nope, optional: true}]}\n",
            data.to_owned(),
            Takes,
        ),
        (
            "  postBuild: {substituteFrom: [{kind: Secret, name: nope, optional: true}]}\n",
            data.to_owned(),
            Takes,
        ),
        ("  postBuild: {substituteFrom: [{kind: ConfigMap, name: nope}]}\n", data.to_owned(), Refuses),
        ("  postBuild: {substituteFrom: [{kind: Secret, name: secret}]}\n", data.to_owned(), Takes),
        ("  postBuild: {substitute: {A: \"a\\r\\nb\"}}\n", data.to_owned(), Refuses),
        (metadata, labelled("{a: b, team: y}"), Takes),
        (metadata, labelled("{a: {b: c}}"), Takes),
        (metadata, labelled("[a]"), Takes),
        (metadata, labelled("~"), Takes),
        (metadata, labelled("{a: ~, b: c}"), Takes),
        (metadata, labelled("{a: ~, b: 1}"), Takes),
        ("", list.to_owned(), Takes),
        (substitute, list.replace("name: a", "name: '${A}'"), Takes),
        ("", stray.clone(), Takes),
        (substitute, stray, Takes),
        ("", "---\n---\n# c\n---\n".to_owned() + data, Takes),
    ];
    let (mut files, mut expected) = (Files::new(), Vec::new());
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: secret, namespace: flux-system}\nstringData: {A: secret}\n";
    files.insert("clusters/prod/secret.yaml".into(), secret.into());
    for (number, (more, objects, takes)) in cases.iter().enumerate() {
        let name = format!("unit-{number}");
        let units = files.entry("clusters/prod/units.yaml".into()).or_default();
        units.push_str(&kustomization(&name, &format!("apps/{name}"), more));
        files.insert(format!("apps/{name}/a.yaml"), objects.replace("NS", &format!("n{number}")));
        expected.push((format!("flux-system/{name}"), *takes));
    }
    compare(&files, &expected);
}

/// Kustomizations of a path in every odd form, below fields of their own and of the Flux object.
#[test]
fn kustomizations_of_the_path() {
    let forms = [
        ("", Takes),
        ("# c\n", Takes),
        ("{}\n", Takes),
        ("resources:\n- a.yaml\n---\nresources: []\n", Takes),
        ("resources: []\nnamePrefix: a-\n", Takes),
        ("Resources: [a.yaml]\nnameprefix: lower-\n", Takes),
        ("resources: [a.yaml]\nressources: [x.yaml]\nx: {y: z}\n", Takes),
        ("resources: [a.yaml]\nresources: [b.yaml]\n", Takes),
        ("bases: [../base]\nresources: [a.yaml]\n", Takes),
        ("resources: [a.yaml]\nnamespace: 5\n", Takes),
        ("resources: [a.yaml]\nnamespace: null\n", Takes),
        ("resources: [a.yaml]\nmetadata: {name: x, annotations: {a: b}}\n", Takes),
        ("resources: [a.yaml]\nbuildMetadata: [originAnnotations, nope]\n", Takes),
        ("resources: [a.yaml]\nbuildMetadata: originAnnotations\n", Refuses),
        ("resources: [a.yaml]\ncommonLabels: [a]\n", Refuses),
        ("resources: [a.yaml, '']\n", Refuses),
        ("resources: a.yaml\n", Refuses),
        ("- a\n", Refuses),
    ];
    let overlays = ["", "  targetNamespace: t\n  namePrefix: p-\n  images: [{name: nginx, newTag: '2'}]\n"];
    let (mut files, mut expected) = (Files::new(), Vec::new());
    for (number, (text, takes)) in forms.iter().enumerate() {
        for (kind, more) in overlays.iter().enumerate() {
            let name = format!("unit-{number}-{kind}");
            let case = expected.len();
            let units = files.entry("clusters/prod/units.yaml".into()).or_default();
            let more = more.replace("targetNamespace: t", &format!("targetNamespace: t{case}"));
            units.push_str(&kustomization(&name, &format!("apps/{name}/app"), &more));
            files.insert(format!("apps/{name}/app/kustomization.yaml"), (*text).to_owned());
            for map in ["a", "b"] {
                files.insert(format!("apps/{name}/app/{map}.yaml"), config_map(case, map, ""));
            }
            files.insert(format!("apps/{name}/base/kustomization.yaml"), "resources: [c.yaml]\n".into());
            files.insert(format!("apps/{name}/base/c.yaml"), config_map(case, "c", ""));
            expected.push((format!("flux-system/{name}"), *takes));
        }
    }
    compare(&files, &expected);
}

/// Files of values and values at paths.
#[test]
fn values_of_releases() {
    let texts = [
        ("a: 1\na: 2\n", Takes),
        ("'a': 1\nb: {c: 1}\nb: {d: 2}\n", Takes),
        ("{\"a\":1}{\"b\":2}", Takes),
        ("{a: 1} x", Takes),
        ("a: 1\n---\nb: [", Takes),
        ("a: 017\nb: 0o17\nc: 1_000\nd: 0x1F\ne: 0b11\n", Takes),
        ("a: yes\nb: 'yes'\ny: on\n", Takes),
        ("a: 2001-12-14t21:59:43.10-05:00\nb: 12:30:45\n", Takes),
        ("<<: {a: 1}\nb: 2\n", Takes),
        ("a: 123456789012345678901234567890\nb: 1e21\nc: 0.000001\nd: -0\n", Takes),
        ("a: .inf\n", Refuses),
        ("~: x\n", Refuses),
        ("[1]", Refuses),
        ("text", Refuses),
        ("null", Takes),
        ("\u{feff}a: 1\r\nb: 2\r\n", Takes),
        ("%YAML 1.1\n---\na: yes\n", Takes),
    ];
    let paths = [
        ("a", "{x,1,true}", Takes),
        ("a.b", "null", Takes),
        ("l[1].x", "5", Takes),
        ("l[4]", "v", Takes),
        ("l", "{}", Takes),
        ("m.k", "'12'", Takes),
        ("m.new.deep", "a\\,b", Takes),
        ("n.x", "v", Refuses),
        ("s.x", "v", Refuses),
        ("l[x]", "v", Refuses),
        ("l[-1]", "v", Refuses),
        ("a", "a,b", Refuses),
        ("a", "b,c=d", Takes),
        ("a\\.b.c", "9223372036854775808", Takes),
        ("z[0][1]", "{x", Refuses),
    ];
    let (mut text, mut expected) = (String::new(), Vec::new());
    let mut add = |value: &str, path: Option<&str>, takes: Verdict| {
        let name = format!("release-{}", expected.len());
        let data = serde_json::json!({ "values.yaml": value });
        let target = path.map_or(String::new(), |path| format!(", targetPath: {}", serde_json::json!(path)));
        text += &format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: shop}}\ndata: {data}\n---\napiVersion: \
             helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  interval: \
             10m\n  chart:\n    spec:\n      chart: ./charts/demo\n      sourceRef: {{kind: GitRepository, name: flux-system, \
             namespace: flux-system}}\n  valuesFrom:\n  - {{kind: ConfigMap, name: {name}{target}}}\n  - {{kind: ConfigMap, \
             name: last}}\n  values: {{n: null, l: [1, {{x: 1}}], m: {{k: 1}}, s: t}}\n"
        );
        expected.push((format!("shop/{name}"), takes));
    };
    texts.iter().for_each(|(text, takes)| add(text, None, *takes));
    paths.iter().for_each(|(path, text, takes)| add(text, Some(path), *takes));
    text += "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: last, namespace: shop}\ndata: {values.yaml: 'm: {k: 2, z: null}'}\n";
    compare(&Files::from([("clusters/prod/releases.yaml".into(), text)]), &expected);
}
