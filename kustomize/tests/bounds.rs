//! What a repository of a stranger may cost: every build ends, within a small stack, with an error that says where.

use std::sync::Arc;

use flotilla_kustomize::files::{ContentId, Entry, Files, Kind, MemoryFiles, ReadError, TreePath};
use flotilla_kustomize::ignore::Ignored;
use flotilla_kustomize::{Answers, BuildError, FluxOverlay, Limits, Options, Output, build, build_flux};

/// Small, and debug builds take several times what they take released.
const STACK: usize = 512 << 10;

fn with_small_stack<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::Builder::new().stack_size(STACK).spawn(run).unwrap().join().unwrap()
}

fn built(files: &[(String, String)], root: &str) -> Result<Output, String> {
    let (files, root) = (MemoryFiles::new(files.to_vec()), TreePath::from_root(root).unwrap());
    with_small_stack(move || {
        let plain = build(&files, &root, &Options::default());
        let flux = build_flux(&files, &root, &FluxOverlay::default(), &Answers::new());
        assert_eq!(plain.is_ok(), flux.is_ok());
        plain.map_err(|error| match error {
            BuildError::Failed(error) => error.to_string(),
            needs @ BuildError::Needs(_) => needs.to_string(),
        })
    })
}

type Tree = Vec<(String, String)>;

const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {k: v}\n";

fn file(path: impl Into<String>, content: impl Into<String>) -> (String, String) {
    (path.into(), content.into())
}

/// Folders of which each names the next one, the last one a folder with an object.
fn chain(folders: usize, field: &str, kind: &str) -> Vec<(String, String)> {
    let end = [file("end/kustomization.yaml", "resources: [m.yaml]\n"), file("end/m.yaml", MAP)];
    let folder = |n: usize| {
        let next = if n + 1 < folders { format!("{field}: [../f{}]\n", n + 1) } else { String::new() };
        let is_last = n + 1 == folders;
        let resources = if n == 0 && field == "components" || is_last && field != "components" {
            "resources: [../end]\n"
        } else {
            ""
        };
        let kind = if n == 0 { "" } else { kind };
        file(format!("f{n}/kustomization.yaml"), format!("{kind}{next}{resources}namePrefix: a-\n"))
    };
    (0..folders).map(folder).chain(end).collect()
}

const COMPONENT: &str = "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n";

#[test]
fn chains_of_folders_end() {
    for (field, kind) in [("resources", ""), ("components", COMPONENT)] {
        let fits = built(&chain(49, field, kind), "f0").map(|output| output.documents.len());
        assert_eq!(fits, Ok(1));
        for folders in [51, 60, 600, 5000] {
            let error = built(&chain(folders, field, kind), "f0").unwrap_err();
            assert!(
                error.starts_with("f49/kustomization.yaml:")
                    && error.contains("it names 'f50', which is too many"),
                "{field}: {error}"
            );
            assert!(error.len() < 20_000, "{}", error.len());
        }
    }
}

/// A mapping in a mapping, and so on, with a list at each other level.
fn nested(levels: usize, inner: &str) -> String {
    let open: String = (0..levels).map(|n| if n % 2 == 0 { "{a: " } else { "[" }).collect();
    let close: String = (0..levels).rev().map(|n| if n % 2 == 0 { "}" } else { "]" }).collect();
    format!("{open}{inner}{close}")
}

fn spec(content: &str) -> String {
    format!("apiVersion: example.org/v1\nkind: Deep\nmetadata: {{name: d}}\nspec: {content}\n")
}

/// What is as deep as texts may be goes through all that changes, compares and writes it.
#[test]
fn deep_values_are_built_within_a_small_stack() {
    let kustomization = "resources: [d.yaml]\nnamePrefix: a-\ncommonLabels: {x: z}\npatches:\n- path: merge.yaml\n\
                         - path: json.yaml\n  target: {kind: Deep}\nbuildMetadata: [originAnnotations]\n\
                         replacements:\n- source: {kind: Deep, fieldPath: spec.a}\n  targets:\n  - select: {kind: Deep}\n    \
                         fieldPaths: [spec.b]\n    options: {create: true}\n";
    let files = [
        file("kustomization.yaml", kustomization),
        file("d.yaml", spec(&nested(96, "1"))),
        file("merge.yaml", spec(&nested(96, "2")).replace("name: d", "name: d, annotations: {a: b}")),
        file("json.yaml", format!("- op: add\n  path: /more\n  value: {}\n", nested(96, "3"))),
    ];
    let text = with_small_stack({
        let files = MemoryFiles::new(files.to_vec());
        move || build(&files, &TreePath::root(), &Options::default()).unwrap().to_yaml().unwrap()
    });
    assert!(text.contains("more:"));
    let deeper = file("d.yaml", spec(&nested(100, "1")));
    let error = built(&[files[0].clone(), deeper], "").unwrap_err();
    assert!(error.contains("d.yaml:4") && error.contains("nested deeper than 100 levels"), "{error}");
}

fn objects(count: usize) -> String {
    let one = |n: usize| {
        format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m{n}}}\ndata: {{k: v}}\n")
    };
    (0..count).map(one).collect()
}

/// Of each kind of input that multiplies: what the build says. Each of these took minutes or all memory, or would.
#[test]
fn what_multiplies_is_refused() {
    let kustomization = |text: &str| file("kustomization.yaml", format!("resources: [m.yaml]\n{text}"));
    let map = file("m.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {k: vv}\n");
    let limits = Limits { kustomizations: 500, objects: 1000, steps: 3_000_000 };
    let steps = "takes more than 3000000 steps";
    let mut cases: Vec<(&str, Tree, &str)> = Vec::new();

    // Two folders that each name the same two, and so on: a folder more doubles it.
    let level = |n: usize| {
        let next = if n < 30 { format!("[../a{0}, ../b{0}]", n + 1) } else { "[../end]".to_owned() };
        let one = move |name: &str| {
            file(format!("{name}{n}/kustomization.yaml"), format!("resources: {next}\nnamePrefix: {name}-\n"))
        };
        ["a", "b"].map(one)
    };
    let mut diamond: Vec<_> = (0..=30).flat_map(level).collect();
    diamond.extend([
        file("kustomization.yaml", "resources: [a0, b0]\n"),
        file("end/kustomization.yaml", "resources: [m.yaml]\n"),
        file("end/m.yaml", MAP),
    ]);
    cases.push(("diamond", diamond, "more than 500 kustomizations are built"));

    let copies = "- {op: copy, from: /data, path: /data/k}\n".repeat(120);
    cases.push((
        "copies into itself",
        vec![
            kustomization("patches:\n- path: p.yaml\n  target: {kind: ConfigMap}\n"),
            map.clone(),
            file("p.yaml", copies),
        ],
        "nested deeper than 100 levels",
    ));
    let wide: String = (0..60).map(|n| format!("- {{op: copy, from: /data, path: /data{n}}}\n- {{op: move, from: /data{n}, path: /data/x{n}}}\n")).collect();
    cases.push((
        "copies beside itself",
        vec![
            kustomization("patches:\n- path: p.yaml\n  target: {kind: ConfigMap}\n"),
            map.clone(),
            file("p.yaml", wide),
        ],
        steps,
    ));

    let doubling = "- source: {kind: ConfigMap, fieldPath: data.k}\n  targets:\n  - select: {kind: ConfigMap}\n    fieldPaths: \
                    [data.k]\n    options: {delimiter: '/', index: 9999}\n".repeat(60);
    cases.push((
        "replacements of text",
        vec![kustomization(&format!("replacements:\n{doubling}")), map.clone()],
        steps,
    ));
    let whole: String = (0..60).map(|n| format!("- source: {{kind: ConfigMap, fieldPath: data}}\n  targets:\n  - select: {{kind: ConfigMap}}\n    \
                    fieldPaths: [data.x{n}]\n    options: {{create: true}}\n")).collect();
    cases.push((
        "replacements of values",
        vec![kustomization(&format!("replacements:\n{whole}")), map.clone()],
        steps,
    ));
    let path = vec!["a"; 10_000];
    let deep = format!(
        "replacements:\n- source: {{kind: ConfigMap}}\n  targets:\n  - select: {{kind: ConfigMap}}\n    fieldPaths: [{}]\n    \
                        options: {{create: true}}\n",
        path.join(".")
    );
    cases.push((
        "path of a replacement",
        vec![kustomization(&deep), map.clone()],
        "leads through 10000 fields, more than 50",
    ));
    let spec = format!("commonLabels:\n- {{path: {}, create: true}}\n", path.join("/"));
    cases.push((
        "path of a field spec",
        vec![
            kustomization("configurations: [c.yaml]\ncommonLabels: {a: b}\n"),
            map.clone(),
            file("c.yaml", spec),
        ],
        "leads through 10000 fields, more than 50",
    ));
    let values = "apiVersion: builtin\nkind: ValueAddTransformer\nmetadata: {name: t}\nvalue: x\ntargets: [{fieldPath: PATH}]\n";
    cases.push((
        "path of an added value",
        vec![
            kustomization("transformers: [t.yaml]\n"),
            map.clone(),
            file("t.yaml", values.replace("PATH", &path.join("/"))),
        ],
        "leads through 10000 fields, more than 50",
    ));

    let vars = "vars:\n- name: V\n  objref: {kind: ConfigMap, name: m, apiVersion: v1}\n  fieldref: {fieldpath: data.k}\n\
                configurations: [c.yaml]\n";
    let long = |k: String, w: String| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m}}\ndata: {{k: '{k}', w: '{w}'}}\n")
    };
    cases.push((
        "vars",
        vec![
            kustomization(vars),
            file("m.yaml", long("x".repeat(100_000), "$(V)".repeat(100_000))),
            file("c.yaml", "varReference: [{path: data/w, kind: ConfigMap}]\n"),
        ],
        steps,
    ));

    // Types that name themselves twice: each level of the walk doubles.
    let crd = "t.K:\n  Schema:\n    properties:\n      kind: {}\n      apiVersion: {}\n      metadata: {}\n      a: {$ref: t.K}\n      b: {$ref: t.K}\n";
    cases.push((
        "types of crds",
        vec![kustomization("crds: [crd.yaml]\n"), map.clone(), file("crd.yaml", crd)],
        steps,
    ));

    let patch = |n: usize| {
        format!(
            "- patch: '[{{\"op\": \"add\", \"path\": \"/data/p{n}\", \"value\": \"x\"}}]'\n  target: {{kind: ConfigMap}}\n"
        )
    };
    let patches: String = (0..2_000).map(patch).collect();
    cases.push((
        "patches upon objects",
        vec![kustomization(&format!("patches:\n{patches}")), file("m.yaml", objects(900))],
        steps,
    ));
    let labels: String = (0..2_000).map(|n| format!("  l{n}: v\n")).collect();
    cases.push((
        "labels upon objects",
        vec![kustomization(&format!("commonLabels:\n{labels}")), file("m.yaml", objects(900))],
        steps,
    ));
    cases.push(("objects", vec![kustomization(""), file("m.yaml", objects(1001))], "more than 1000 objects"));

    let read: String = (0..500).map(|n| format!("- {{name: g{n}, files: [big]}}\n")).collect();
    cases.push((
        "generators of one file",
        vec![
            kustomization(&format!("configMapGenerator:\n{read}")),
            map.clone(),
            file("big", "x".repeat(1 << 20)),
        ],
        steps,
    ));
    let env = |n: usize| format!("{{name: e{n}}}");
    let envs = (0..2_000).map(env).collect::<Vec<_>>().join(", ");
    let pod = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {{containers: [{{name: c, env: [{envs}]}}]}}\n"
    );
    cases.push((
        "lists that are merged",
        vec![
            file("kustomization.yaml", "resources: [p.yaml]\npatches:\n- path: p.yaml\n"),
            file("p.yaml", pod),
        ],
        steps,
    ));

    for (name, files, says) in cases {
        let files = MemoryFiles::new(files);
        let options = Options { limits, ..Options::default() };
        let result = with_small_stack(move || build(&files, &TreePath::root(), &options).map(|_| ()));
        let error = result.map_err(|error| error.to_string()).expect_err(name);
        assert!(error.contains(says), "{name}: {error}");
    }
}

/// A folder that is in itself twice, as Git trees can have it: three objects, and 2^64 paths.
struct Endless;

impl Files for Endless {
    fn entry(&self, path: &TreePath) -> Result<Option<Entry>, ReadError> {
        let is_folder = path.is_root() || matches!(path.name(), "a" | "b");
        Ok(is_folder.then_some(Entry { kind: Kind::Folder, id: ContentId([1; 32]) }))
    }

    fn read(&self, path: &TreePath) -> Result<Arc<[u8]>, ReadError> {
        Err(ReadError { path: path.clone(), reason: "no such file".into() })
    }

    fn list(&self, _: &TreePath) -> Result<Vec<(String, Entry)>, ReadError> {
        let folder = Entry { kind: Kind::Folder, id: ContentId([1; 32]) };
        Ok([("a".to_owned(), folder), ("b".to_owned(), folder)].into())
    }
}

#[test]
fn a_tree_that_never_ends_is_left() {
    let error = with_small_stack(|| {
        build_flux(&Endless, &TreePath::root(), &FluxOverlay::default(), &Answers::new())
            .unwrap_err()
            .to_string()
    });
    assert!(error.contains("folder"), "{error}");
    let ignored =
        with_small_stack(|| Ignored::new(Arc::new(Endless), None).map(|_| ()).unwrap_err().to_string());
    assert!(ignored.contains("100000 are the most"), "{ignored}");
}
