//! What a build needs from outside: asked for all at once, and built from the answers.

use flotilla_kustomize::files::{MemoryFiles, TreePath};
use flotilla_kustomize::{Answer, Answers, BuildError, Options, Request, build, build_with};

const CM: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n";

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
fn a_chart_in_a_generator_file_is_a_request() {
    let generator = "apiVersion: builtin\nkind: HelmChartInflationGenerator\nmetadata: {name: g}\nname: web\n\
                     version: '1'\nchartHome: vendor\nvaluesInline: {a: b}\n";
    let tree = MemoryFiles::new([
        ("kustomization.yaml", "generators: [g.yaml]\nnamePrefix: p-\n"),
        ("g.yaml", generator),
    ]);
    let root = TreePath::root();
    let without = build(&tree, &root, &Options::default()).unwrap_err().to_string();
    assert!(
        without.starts_with("g.yaml:1:1: trouble configuring builtin HelmChartInflationGenerator"),
        "{without}"
    );
    let options = Options { helm: true, ..Options::default() };
    let Err(BuildError::Needs(needs)) = build(&tree, &root, &options) else {
        panic!("nothing was asked for")
    };
    let [Request::Helm(chart)] = &needs[..] else { panic!("{needs:?}") };
    assert_eq!((&*chart.name, &*chart.version, &*chart.chart_home), ("web", "1", "vendor"));
    assert_eq!(chart.values_inline.as_deref(), Some("a: b\n"));
    let answers = Answers::from([(needs[0].clone(), Answer::Text(CM.into()))]);
    let text = build_with(&tree, &root, &options, &answers).unwrap().to_yaml().unwrap();
    assert!(text.contains("name: p-a\n"), "{text}");
}
