//! What people are told about wrong input: file, line, field, and the words that they know from kustomize.

use flotilla_kustomize::files::{MemoryFiles, TreePath};
use flotilla_kustomize::{Answer, Answers, BuildError, Options, Origin, Request, build, build_with};

const CM: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n";

fn run(files: &[(&str, &str)]) -> Result<flotilla_kustomize::Output, BuildError> {
    build(&MemoryFiles::new(files.iter().copied()), &TreePath::from_root("app").unwrap(), &Options::default())
}

/// A name, the files, and how the message begins.
type Case = (&'static str, &'static [(&'static str, &'static str)], &'static str);

#[test]
fn errors_say_where_and_what() {
    const APP: &str = "app/kustomization.yaml";
    let cases: &[Case] = &[
        (
            "unknown field",
            &[(APP, "resources: []\nressources: []\n")],
            "app/kustomization.yaml:2: ressources: invalid Kustomization: json: unknown field \"ressources\"",
        ),
        (
            "wrong type",
            &[(APP, "commonLabels:\n  a: 1\n")],
            "app/kustomization.yaml:2: commonLabels.a: invalid Kustomization: json: cannot unmarshal number into a field of type string; put quotes around 1",
        ),
        (
            "missing file",
            &[(APP, "resources:\n- a.yaml\n")],
            "app/kustomization.yaml:2: resources[0]: accumulating resources: accumulating resources from 'a.yaml': app/a.yaml: no such file or directory",
        ),
        (
            "out of the folder",
            &[(APP, "resources: [../a.yaml]\n"), ("a.yaml", CM)],
            "app/kustomization.yaml:1: resources[0]: accumulating resources: accumulating resources from '../a.yaml': security; file 'a.yaml' is not in or below 'app'; move it there, or build with the load restrictor off",
        ),
        (
            "out of the tree",
            &[(APP, "resources: [../../a.yaml]\n")],
            "app/kustomization.yaml:1: resources[0]: accumulating resources: '../../a.yaml' leads out of the root of the source",
        ),
        (
            "cycle",
            &[(APP, "resources: [../b]\n"), ("b/kustomization.yaml", "resources: [../app]\n")],
            "b/kustomization.yaml:1: resources[0]: accumulating resources: accumulating resources: cycle detected: candidate root 'app' contains visited root 'app'",
        ),
        (
            "conflict",
            &[(APP, "resources: [a.yaml, b.yaml]\n"), ("app/a.yaml", CM), ("app/b.yaml", CM)],
            "app/b.yaml:1: resources[1]: accumulating resources: accumulating resources from 'b.yaml': may not add resource with an already registered id: ConfigMap.v1.[noGrp]/a.[noNs]",
        ),
        (
            "patch for nothing",
            &[
                (APP, "resources: [a.yaml]\npatches:\n- path: p.yaml\n"),
                ("app/a.yaml", CM),
                ("app/p.yaml", "kind: Secret\napiVersion: v1\nmetadata: {name: a}\n"),
            ],
            "app/p.yaml:1: patches[0]: no resource matches strategic merge patch \"Secret.v1.[noGrp]/a.[noNs]\": no matches for Id Secret.v1.[noGrp]/a.[noNs]; failed to find unique target for patch Secret.v1.[noGrp]/a.[noNs]",
        ),
        (
            "JSON patch that does not fit",
            &[
                (APP, "resources: [a.yaml]\npatches:\n- path: p.yaml\n  target: {kind: ConfigMap}\n"),
                ("app/a.yaml", CM),
                ("app/p.yaml", "- op: remove\n  path: /data/x\n"),
            ],
            "app/p.yaml:1: patches[0]: remove operation does not apply: doc is missing path: \"/data/x\": missing value",
        ),
        (
            "bad regex",
            &[
                (
                    APP,
                    "resources: [a.yaml]\npatches:\n- patch: '[{op: remove, path: /data}]'\n  target: {kind: '('}\n",
                ),
                ("app/a.yaml", CM),
            ],
            "app/kustomization.yaml:3: patches[0].target.kind: error parsing regexp: ",
        ),
        (
            "bad YAML",
            &[(APP, "resources: [a.yaml]\n"), ("app/a.yaml", "kind: A\nkind: B\n")],
            "app/a.yaml:2: resources[0]: accumulating resources: accumulating resources from 'a.yaml': MalformedYAMLError: yaml: line 2: mapping key \"kind\" already defined at line 1 in File: app/a.yaml",
        ),
        (
            "no name",
            &[(APP, "resources: [a.yaml]\n"), ("app/a.yaml", "\n\nkind: A\napiVersion: v1\n")],
            "app/a.yaml:3: metadata.name: accumulating resources: accumulating resources from 'a.yaml': missing metadata.name in object A.v1.[noGrp]",
        ),
        (
            "literal",
            &[(APP, "configMapGenerator:\n- name: x\n  literals:\n  - ab\n")],
            "app/kustomization.yaml:4: configMapGenerator[0].literals[0]: invalid literal source ab, expected key=value",
        ),
        (
            "program",
            &[
                (APP, "transformers: [t.yaml]\n"),
                ("app/t.yaml", "apiVersion: x/v1\nkind: T\nmetadata: {name: t}\n"),
            ],
            "app/t.yaml:1: external plugins disabled; unable to load external plugin 'T'",
        ),
        (
            "Helm",
            &[(APP, "helmCharts:\n- name: web\n")],
            "app/kustomization.yaml:2: helmCharts[0]: trouble configuring builtin HelmChartInflationGenerator for chart 'web': must specify --enable-helm",
        ),
        (
            "source of a replacement",
            &[
                (
                    APP,
                    "resources: [a.yaml]\nreplacements:\n- source: {kind: Secret}\n  targets:\n  - select: {kind: ConfigMap}\n",
                ),
                ("app/a.yaml", CM),
            ],
            "app/kustomization.yaml:3: replacements: nothing selected by Secret.[noVer].[noGrp]/[noName].[noNs]",
        ),
    ];
    let mut wrong = Vec::new();
    for (name, files, expected) in cases {
        match run(files) {
            Ok(_) => wrong.push(format!("{name}: built")),
            Err(error) if error.to_string().starts_with(expected) => {}
            Err(error) => wrong.push(format!("{name}:\n  got      {error}\n  expected {expected}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_remote_is_asked_for_all_at_once_and_built_from_the_answers() {
    let urls = ["https://github.com/x/y//base?ref=v1", "https://example.com/a.yaml"];
    let kustomization = format!("namePrefix: p-\nresources:\n- {}\n- {}\n", urls[0], urls[1]);
    let tree = MemoryFiles::new([("app/kustomization.yaml", kustomization)]);
    let root = TreePath::from_root("app").unwrap();
    let Err(BuildError::Needs(needs)) = build(&tree, &root, &Options::default()) else {
        panic!("nothing was asked for");
    };
    assert_eq!(needs, urls.map(|u| Request::Remote(u.into())));
    let remote = MemoryFiles::new([
        ("base/kustomization.yaml", "resources: [b.yaml]\n".to_owned()),
        ("base/b.yaml", CM.replace("name: a", "name: b")),
    ]);
    let base =
        Answer::Tree { files: std::sync::Arc::new(remote), root: TreePath::from_root("base").unwrap() };
    let answers = Answers::from([(needs[0].clone(), base), (needs[1].clone(), Answer::Text(CM.into()))]);
    let output = build_with(&tree, &root, &Options::default(), &answers).unwrap();
    let text = output.to_yaml().unwrap();
    assert!(text.contains("name: p-a\n") && text.contains("name: p-b\n"), "{text}");
}

#[test]
fn values_know_the_file_and_line_that_set_them() {
    let output = run(&[
        ("app/kustomization.yaml", "resources: [a.yaml]\npatches:\n- path: p.yaml\n"),
        (
            "app/a.yaml",
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  x: '1'\n  y: '2'\n",
        ),
        ("app/p.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  y: '3'\n"),
    ])
    .unwrap();
    let document = &output.documents[0];
    let origin = |path: &[&str]| output.origin_of(document.node.at(path).unwrap());
    let at = |file: &str, line| Origin { file: Some(TreePath::from_root(file).unwrap()), line };
    assert_eq!(document.origin, at("app/a.yaml", 2));
    assert_eq!(origin(&["data", "x"]), at("app/a.yaml", 7));
    assert_eq!(origin(&["data", "y"]), at("app/p.yaml", 6));
}
