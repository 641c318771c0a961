//! What people are told about wrong input: file, line, column, field, the words that they know from kustomize, and what
//! to do.

use flotilla_kustomize::files::{Entry, Files, Kind, MemoryFiles, ReadError, TreePath};
use flotilla_kustomize::{BuildError, Options, build};

const CM: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n";
const APP: &str = "app/kustomization.yaml";

/// A tree in which one path is a symlink.
struct WithLink(MemoryFiles, &'static str);

impl Files for WithLink {
    fn entry(&self, path: &TreePath) -> Result<Option<Entry>, ReadError> {
        let entry = self.0.entry(path)?;
        let is_link = path.as_str() == self.1;
        Ok(entry.map(|e| if is_link { Entry { kind: Kind::Symlink, ..e } } else { e }))
    }

    fn read(&self, path: &TreePath) -> Result<std::sync::Arc<[u8]>, ReadError> {
        self.0.read(path)
    }

    fn list(&self, folder: &TreePath) -> Result<Vec<(String, Entry)>, ReadError> {
        self.0.list(folder)
    }
}

/// A name, the files, and what is said.
type Case = (&'static str, &'static [(&'static str, &'static str)], &'static str);

const CASES: &[Case] = &[
    (
        "unknown field",
        &[(APP, "resources: []\nressources: []\n")],
        "app/kustomization.yaml:2:1: ressources: invalid Kustomization: json: unknown field \"ressources\"; is 'resources' meant?",
    ),
    (
        "unknown field in a list",
        &[(APP, "patches:\n- pathh: x\n")],
        "app/kustomization.yaml:2:3: patches[0].pathh: invalid Kustomization: json: unknown field \"pathh\"; is 'path' meant?",
    ),
    (
        "wrong type",
        &[(APP, "commonLabels:\n  a: 1\n")],
        "app/kustomization.yaml:2:6: commonLabels.a: invalid Kustomization: json: cannot unmarshal number into a field of type string; put quotes around 1",
    ),
    (
        "key that is a mapping, under a patch",
        &[
            (
                APP,
                "resources: [a.yaml]\npatches:\n- target: {kind: ConfigMap}\n  patch: '{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {x: y}}'\n",
            ),
            (
                "app/a.yaml",
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  k: {{ .Values.x }}\n",
            ),
        ],
        "app/a.yaml:5:7: patches[0]: wrong node kind: expected ScalarNode for a key; put quotes around the key",
    ),
    (
        "missing file",
        &[(APP, "resources:\n- a.yaml\n")],
        "app/kustomization.yaml:2:3: resources[0]: accumulating resources: accumulating resources from 'a.yaml': app/a.yaml: no such file or directory; correct the path, or add it",
    ),
    (
        "missing patch",
        &[(APP, "resources: [a.yaml]\npatches:\n- path: p.yaml\n"), ("app/a.yaml", CM)],
        "app/kustomization.yaml:3:9: patches[0].path: failed to get the patch file from path(p.yaml): app/p.yaml: no such file or directory; correct the path, or add it",
    ),
    (
        "missing component",
        &[(APP, "components:\n- ../c\n")],
        "app/kustomization.yaml:2:3: components[0]: accumulating components: accumulateDirectory: \"must build at directory: not a valid directory: 'c' doesn't exist (c: no such file or directory)\"; correct the path, or add it",
    ),
    (
        "folder without a kustomization",
        &[(APP, "resources:\n- ../b\n"), ("b/x.yaml", CM)],
        "app/kustomization.yaml:2:3: resources[0]: accumulating resources: unable to find one of 'kustomization.yaml', 'kustomization.yml' or 'Kustomization' in directory 'b'; a folder is named for its kustomization; name files one by one",
    ),
    (
        "two kustomizations",
        &[(APP, "resources:\n- ../b\n"), ("b/kustomization.yaml", ""), ("b/Kustomization", "")],
        "app/kustomization.yaml:2:3: resources[0]: accumulating resources: Found multiple kustomization files under: b; keep one of kustomization.yaml, Kustomization",
    ),
    (
        "out of the folder",
        &[(APP, "resources: [../a.yaml]\n"), ("a.yaml", CM)],
        "app/kustomization.yaml:1:13: resources[0]: accumulating resources: accumulating resources from '../a.yaml': security; file 'a.yaml' is not in or below 'app'; move it there, or build with the load restrictor off",
    ),
    (
        "out of the tree",
        &[(APP, "resources: [../../a.yaml]\n")],
        "app/kustomization.yaml:1:13: resources[0]: accumulating resources: '../../a.yaml' leads out of the root of the source; only what is in the same source can be named, by a relative path",
    ),
    (
        "symlink",
        &[(APP, "resources:\n- link.yaml\n"), ("app/link.yaml", CM)],
        "app/kustomization.yaml:2:3: resources[0]: accumulating resources: 'app/link.yaml' is a symlink; symlinks are not followed; put the file itself there, or name the one that it leads to",
    ),
    (
        "symlink of a generator",
        &[(APP, "configMapGenerator:\n- name: x\n  files:\n  - link.yaml\n"), ("app/link.yaml", CM)],
        "app/kustomization.yaml:4:5: configMapGenerator[0].files[0]: loading KV pairs: 'app/link.yaml' is a symlink; symlinks are not followed; put the file itself there, or name the one that it leads to",
    ),
    (
        "cycle",
        &[(APP, "resources: [../b]\n"), ("b/kustomization.yaml", "resources:\n- ../app\n")],
        "b/kustomization.yaml:2:3: resources[0]: accumulating resources: accumulating resources: cycle detected: candidate root 'app' contains visited root 'app'; take this entry out, or the one that led here",
    ),
    (
        "conflict of identities",
        &[(APP, "resources: [a.yaml, b.yaml]\n"), ("app/a.yaml", CM), ("app/b.yaml", CM)],
        "app/b.yaml:1:1: resources[1]: accumulating resources: accumulating resources from 'b.yaml': may not add resource with an already registered id: ConfigMap.v1.[noGrp]/a.[noNs]; leave one of them out, or give it another name or namespace; the other one is at app/a.yaml:1",
    ),
    (
        "conflict with a generated one",
        &[(APP, "resources: [a.yaml]\nconfigMapGenerator:\n- name: a\n"), ("app/a.yaml", CM)],
        "app/kustomization.yaml:3:3: configMapGenerator[0].behavior: id ConfigMap.v1.[noGrp]/a.[noNs] exists; can not use behavior: 'unspecified', behavior must be merge or replace; set behavior, or give it another name; the other one is at app/a.yaml:1",
    ),
    (
        "merge with nothing",
        &[(APP, "configMapGenerator:\n- name: a\n  behavior: merge\n")],
        "app/kustomization.yaml:2:3: configMapGenerator[0]: id ConfigMap.v1.[noGrp]/a.[noNs] does not exist; cannot merge or replace; leave behavior out, or name what a base generates, namespace included",
    ),
    (
        "patch for nothing",
        &[
            (APP, "resources: [a.yaml]\npatches:\n- path: p.yaml\n"),
            ("app/a.yaml", CM),
            ("app/p.yaml", "kind: Secret\napiVersion: v1\nmetadata: {name: a}\n"),
        ],
        "app/p.yaml:1:1: patches[0]: no resource matches strategic merge patch \"Secret.v1.[noGrp]/a.[noNs]\": no matches for Id Secret.v1.[noGrp]/a.[noNs]; failed to find unique target for patch Secret.v1.[noGrp]/a.[noNs]; like it are: ConfigMap.v1.[noGrp]/a.[noNs]",
    ),
    (
        "inline patch for nothing",
        &[
            (
                APP,
                "resources: [a.yaml]\npatches:\n- patch: |\n    kind: ConfigMap\n    apiVersion: v1\n    metadata: {name: b}\n",
            ),
            ("app/a.yaml", CM),
        ],
        "app/kustomization.yaml:4:5: patches[0]: no resource matches strategic merge patch \"ConfigMap.v1.[noGrp]/b.[noNs]\": no matches for Id ConfigMap.v1.[noGrp]/b.[noNs]; failed to find unique target for patch ConfigMap.v1.[noGrp]/b.[noNs]; like it are: ConfigMap.v1.[noGrp]/a.[noNs]",
    ),
    (
        "patch for several",
        &[
            (APP, "resources: [../one, ../two]\npatches:\n- path: p.yaml\n"),
            ("one/kustomization.yaml", "resources: [a.yaml]\nnamePrefix: one-\n"),
            ("one/a.yaml", CM),
            ("two/kustomization.yaml", "resources: [a.yaml]\nnamePrefix: two-\n"),
            ("two/a.yaml", CM),
            ("app/p.yaml", CM),
        ],
        "app/p.yaml:1:1: patches[0]: no resource matches strategic merge patch \"ConfigMap.v1.[noGrp]/a.[noNs]\": multiple matches for Id ConfigMap.v1.[noGrp]/a.[noNs]; failed to find unique target for patch ConfigMap.v1.[noGrp]/a.[noNs]; ConfigMap.v1.[noGrp]/one-a.[noNs] and ConfigMap.v1.[noGrp]/two-a.[noNs] match: give the patch a target, or a namespace",
    ),
    (
        "JSON patch without a target",
        &[
            (APP, "resources: [a.yaml]\npatches:\n- patch: '[{\"op\": \"remove\", \"path\": \"/data\"}]'\n"),
            ("app/a.yaml", CM),
        ],
        "app/kustomization.yaml:3:3: patches[0].target: must specify a target for JSON patch [patch: \"[{\\\"op\\\": \\\"remove\\\", \\\"path\\\": \\\"/data\\\"}]\"]; say what it is for, as by target.kind and target.name",
    ),
    (
        "JSON patch that does not fit",
        &[
            (APP, "resources: [a.yaml]\npatches:\n- path: p.yaml\n  target: {kind: ConfigMap}\n"),
            ("app/a.yaml", CM),
            ("app/p.yaml", "- op: test\n  path: /kind\n  value: ConfigMap\n- op: remove\n  path: /data/x\n"),
        ],
        "app/p.yaml:4:3: patches[0]: ConfigMap a: remove operation does not apply: doc is missing path: \"/data/x\": missing value; the object is meant as it is when the patch comes: after those above, and the bases",
    ),
    (
        "neither patch nor path",
        &[(APP, "resources: [a.yaml]\npatches:\n- target: {kind: ConfigMap}\n"), ("app/a.yaml", CM)],
        "app/kustomization.yaml:3:3: patches[0]: must specify one of patch and path in the entry of patches; patch is for its text, path for its file",
    ),
    (
        "patch of another shape",
        &[
            (APP, "resources: [a.yaml]\npatches:\n- path: p.yaml\n"),
            ("app/a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {x: y}\n"),
            ("app/p.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n- x\n"),
        ],
        "app/p.yaml:5:3: patches[0]: wrong node kind: expected MappingNode but got SequenceNode: node contents:\n- x; patch and object have to be of the same form here",
    ),
    (
        "bad regex",
        &[
            (
                APP,
                "resources: [a.yaml]\npatches:\n- patch: '[{\"op\": \"remove\", \"path\": \"/data\"}]'\n  target:\n    kind: '('\n",
            ),
            ("app/a.yaml", CM),
        ],
        "app/kustomization.yaml:3:3: patches[0].target.kind: error parsing regexp: missing closing ): `^(?:()$`; a backslash takes the meaning from a character, as in `\\(`",
    ),
    (
        "bad label selector",
        &[
            (
                APP,
                "resources: [a.yaml]\npatches:\n- patch: '[{\"op\": \"remove\", \"path\": \"/data\"}]'\n  target: {labelSelector: 'a in b'}\n",
            ),
            ("app/a.yaml", CM),
        ],
        "app/kustomization.yaml:3:3: patches[0].target.labelSelector: unable to parse requirement: found 'b' expected: '('; write it as in `a=b,c!=d,e in (f,g),!h`, without quotes",
    ),
    (
        "ambiguous reference",
        &[
            (
                APP,
                "resources: [role.yaml]\nconfigMapGenerator:\n- {name: a, namespace: one, literals: [x=1]}\n- {name: a, namespace: two, literals: [x=2]}\n",
            ),
            (
                "app/role.yaml",
                "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: r}\nrules:\n- apiGroups: ['']\n  resources: [configmaps]\n  resourceNames:\n  - a\n  verbs: [get]\n",
            ),
        ],
        "app/role.yaml:8:5: rules.resourceNames: updating name reference in 'rules/resourceNames' field of 'ClusterRole.v1.rbac.authorization.k8s.io/r.[noNs]': considering field 'rules/resourceNames' of object ClusterRole.v1.rbac.authorization.k8s.io/r.[noNs]: found multiple possible referrals: ConfigMap.v1.[noGrp]/a-hmg6f82fh6.one, ConfigMap.v1.[noGrp]/a-d5gm26dhhd.two; give them different names, or put what names one of them into the same base",
    ),
    (
        "ambiguous source of a replacement",
        &[
            (
                APP,
                "resources: [a.yaml, b.yaml]\nreplacements:\n- source: {kind: ConfigMap}\n  targets:\n  - select: {kind: ConfigMap}\n",
            ),
            ("app/a.yaml", CM),
            ("app/b.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n"),
        ],
        "app/kustomization.yaml:3:3: replacements[0].source: multiple matches for selector ConfigMap.[noVer].[noGrp]/[noName].[noNs]; say more: group, version, name or namespace",
    ),
    (
        "no source of a replacement",
        &[
            (
                APP,
                "resources: [a.yaml]\nreplacements:\n- source: {kind: Secret}\n  targets:\n  - select: {kind: ConfigMap}\n",
            ),
            ("app/a.yaml", CM),
        ],
        "app/kustomization.yaml:3:3: replacements[0].source: nothing selected by Secret.[noVer].[noGrp]/[noName].[noNs]; kind, name and namespace are those that an object was read with or has by now",
    ),
    (
        "no target of a replacement",
        &[
            (
                APP,
                "resources: [a.yaml]\nreplacements:\n- source: {kind: ConfigMap}\n  targets:\n  - select: {kind: ConfigMap}\n    fieldPaths:\n    - data.x\n",
            ),
            ("app/a.yaml", CM),
        ],
        "app/kustomization.yaml:3:3: replacements[0].targets[0].fieldPaths[0]: unable to find field \"data.x\" in replacement target; the fields up to there have to be in the object; options.create makes the last ones",
    ),
    (
        "alias bomb",
        &[
            (APP, "resources: [a.yaml]\n"),
            (
                "app/a.yaml",
                "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                 d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\n\
                 g: [*f,*f,*f,*f,*f,*f,*f,*f,*f,*f]\n",
            ),
        ],
        "app/a.yaml:5:29: resources[0]: accumulating resources: accumulating resources from 'a.yaml': MalformedYAMLError: yaml: line 5: aliases add more than 100000 nodes in File: a.yaml; write less by alias",
    ),
    (
        "deep nesting",
        &[
            (APP, "resources: [a.yaml]\n"),
            (
                "app/a.yaml",
                "a: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\n",
            ),
        ],
        "app/a.yaml:1:105: resources[0]: accumulating resources: accumulating resources from 'a.yaml': MalformedYAMLError: yaml: line 1: nested deeper than 100 levels in File: a.yaml; nothing that Kubernetes reads is nested so deep",
    ),
    (
        "key that stands twice",
        &[(APP, "resources: [a.yaml]\n"), ("app/a.yaml", "kind: A\nkind: B\n")],
        "app/a.yaml:2:1: resources[0]: accumulating resources: accumulating resources from 'a.yaml': MalformedYAMLError: yaml: line 2: mapping key \"kind\" already defined at line 1 in File: a.yaml; keep one of them",
    ),
    (
        "no YAML",
        &[(APP, "resources: [a.yaml]\n"), ("app/a.yaml", "kind: A\n  b: c\n")],
        "app/a.yaml:2:4: resources[0]: accumulating resources: accumulating resources from 'a.yaml': MalformedYAMLError: yaml: line 2: mapping values are not allowed in this context in File: a.yaml; quote the text if it is a value with ': ' in it",
    ),
    (
        "no name",
        &[(APP, "resources: [a.yaml]\n"), ("app/a.yaml", "\n\nkind: A\napiVersion: v1\n")],
        "app/a.yaml:3:1: metadata.name: accumulating resources: accumulating resources from 'a.yaml': missing metadata.name in object A.v1.[noGrp]; every object has apiVersion, kind and metadata.name; a file without them is not a resource",
    ),
    (
        "literal",
        &[(APP, "configMapGenerator:\n- name: x\n  literals:\n  - ab\n")],
        "app/kustomization.yaml:4:5: configMapGenerator[0].literals[0]: invalid literal source ab, expected key=value; a file is named by files, lines of key=value by envs",
    ),
    (
        "key of a generator that stands twice",
        &[(APP, "configMapGenerator:\n- name: x\n  literals:\n  - a=b\n  - a=c\n")],
        "app/kustomization.yaml:5:5: configMapGenerator[0]: configmap x illegally repeats the key `a`; keep one of them",
    ),
    (
        "program",
        &[
            (APP, "transformers: [t.yaml]\n"),
            ("app/t.yaml", "apiVersion: x/v1\nkind: T\nmetadata: {name: t}\n"),
        ],
        "app/t.yaml:1:1: apiVersion: external plugins disabled; unable to load external plugin 'T'; only the built-in ones (apiVersion: builtin) run here, programs and containers do not",
    ),
    (
        "container",
        &[
            (APP, "generators:\n- g.yaml\n"),
            (
                "app/g.yaml",
                "apiVersion: x/v1\nkind: G\nmetadata:\n  name: g\n  annotations:\n    config.kubernetes.io/function: |\n      container: {image: x}\n",
            ),
        ],
        "app/g.yaml:1:1: apiVersion: external plugins disabled; unable to load external plugin 'G'; only the built-in ones (apiVersion: builtin) run here, programs and containers do not",
    ),
    (
        "no such transformer",
        &[
            (APP, "transformers: [t.yaml]\n"),
            ("app/t.yaml", "apiVersion: builtin\nkind: LabelsTransformer\nmetadata: {name: t}\n"),
        ],
        "app/t.yaml:1:1: kind: unable to load builtin LabelsTransformer.builtin.[noGrp]; there is no such transformer; is it spelled right?",
    ),
    (
        "Helm",
        &[(APP, "helmCharts:\n- name: web\n")],
        "app/kustomization.yaml:2:3: helmCharts[0]: trouble configuring builtin HelmChartInflationGenerator for chart 'web': must specify --enable-helm; charts of kustomizations are rendered only where that is switched on; a HelmRelease always is",
    ),
    (
        "var without an object",
        &[
            (
                APP,
                "resources: [a.yaml]\nvars:\n- name: V\n  objref: {apiVersion: v1, kind: Secret, name: s}\n",
            ),
            ("app/a.yaml", CM),
        ],
        "app/kustomization.yaml:3:3: vars: var 'V' cannot be mapped to a field in the set of known resources; objref is the apiVersion, kind and name that an object has where the var stands",
    ),
];

#[test]
fn errors_say_where_what_and_what_to_do() {
    let mut wrong = Vec::new();
    for (name, files, expected) in CASES {
        let tree = WithLink(MemoryFiles::new(files.iter().copied()), "app/link.yaml");
        match build(&tree, &TreePath::from_root("app").unwrap(), &Options::default()) {
            Ok(_) => wrong.push(format!("{name}: built")),
            Err(BuildError::Needs(needs)) => wrong.push(format!("{name}: needs {needs:?}")),
            Err(BuildError::Failed(error)) => {
                let complete = error.file.is_some() && error.line > 0 && error.column > 0;
                if !complete || error.field.is_none() || error.hint.is_none() {
                    wrong.push(format!("{name}: lacks something: {error:?}"));
                }
                if error.to_string() != *expected {
                    wrong.push(format!("{name}:\n  got      {error}\n  expected {expected}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
