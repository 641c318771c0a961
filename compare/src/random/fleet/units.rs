//! Kustomizations, and the folders that they name.

use super::Maker;
use crate::random;

/// Variables with values that a text may be broken by.
const VARIABLES: [(&str, &str); 9] = [
    ("DOMAIN", "'apps.example.com'"),
    ("ENV", "prod"),
    ("NUM", "'3'"),
    ("BOOL", "'true'"),
    ("EMPTY", "''"),
    ("MULTI", "\"one\\ntwo\\n\""),
    ("QUOTED", "'say \"hi\"'"),
    ("YAMLISH", "'a: b'"),
    ("ZERO", "'007'"),
];

const EXPRESSIONS: [&str; 26] = [
    "${DOMAIN}",
    "${ENV}",
    "${NUM}",
    "${BOOL}",
    "${EMPTY}",
    "${MULTI}",
    "${QUOTED}",
    "${YAMLISH}",
    "${ZERO}",
    "${ENV:=dev}",
    "${MISSING:=given}",
    "${MISSING:-y z}",
    "${EMPTY:=used}",
    "${EMPTY:-}",
    "$${ESCAPED}",
    "${DOMAIN/example/other}",
    "${DOMAIN//p/P}",
    "${DOMAIN^^}",
    "${DOMAIN,,}",
    "${#DOMAIN}",
    "${DOMAIN:0:4}",
    "${DOMAIN:5}",
    "${DOMAIN%%.*}",
    "${DOMAIN##*.}",
    "$(not)",
    "$",
];

/// The ConfigMap and the Secret with variables, and one that is optional.
pub(super) fn variables(maker: &mut Maker) {
    let mut data = [String::new(), String::new()];
    for (name, value) in VARIABLES {
        data[usize::from(maker.rng.chance(4))] += &format!("  {name}: {value}\n");
    }
    let [map, secret] = data;
    let object = |kind: &str, name: &str, field: &str, data: &str| {
        format!(
            "apiVersion: v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: flux-system}}\n{field}:\n{data}  LAST: x\n"
        )
    };
    maker.add("clusters/prod/variables.yaml", &object("ConfigMap", "variables", "data", &map));
    maker.add("clusters/prod/variables.yaml", &object("Secret", "secrets", "stringData", &secret));
}

/// Perhaps the Kustomization by which the cluster applies its root.
pub(super) fn root(maker: &mut Maker) {
    if !maker.rng.chance(40) {
        return;
    }
    let post_build =
        if maker.rng.chance(50) { "  postBuild: {substitute: {ROOT: 'from-root'}}\n" } else { "" };
    let metadata = if maker.rng.chance(30) { "  commonMetadata: {labels: {fleet: 'yes'}}\n" } else { "" };
    let own = kustomization("flux-system", "v1", "./clusters/prod", &format!("{post_build}{metadata}"));
    maker.add("clusters/prod/sync.yaml", &own);
}

fn kustomization(name: &str, version: &str, path: &str, more: &str) -> String {
    format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/{version}\nkind: Kustomization\nmetadata: {{name: {name}, namespace: \
         flux-system}}\nspec:\n  interval: 10m\n  prune: true\n  path: {path}\n  sourceRef: {{kind: GitRepository, name: \
         flux-system}}\n{more}"
    )
}

/// A unit in a file, with its folder.
pub(super) fn unit(maker: &mut Maker, file: &str, depth: usize) {
    let name = maker.name("unit-");
    let folder = format!("apps/{name}");
    let path = content(maker, &folder, depth);
    let form = *maker.rng.pick(&["./PATH", "PATH", "/PATH", "./PATH/", "../PATH", "./x/../PATH"]);
    let version = *maker.rng.pick(&["v1", "v1", "v1", "v1beta2", "v1beta1"]);
    let mut more = overlay(maker, &folder);
    if version != "v1" && maker.rng.chance(60) {
        more += *maker.rng.pick(&[
            "  validation: client\n",
            "  patchesStrategicMerge:\n  - {apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {old: 'x'}}\n",
            "  patchesJson6902:\n  - target: {version: v1, kind: ConfigMap, name: settings}\n    patch: [{op: add, path: \
             /data/json, value: 'x'}]\n",
        ]);
    }
    let text = kustomization(&name, version, &form.replace("PATH", &path), &more);
    maker.add(file, &text);
}

/// Fields of a Kustomization that change what is built.
fn overlay(maker: &mut Maker, folder: &str) -> String {
    let mut text = String::new();
    if maker.rng.chance(30) {
        text += &format!("  targetNamespace: {}\n", maker.name("target-"));
    }
    let mut maybe = |percent: u64, lines: &[&str]| {
        if maker.rng.chance(percent) {
            text += lines[maker.rng.below(lines.len())];
        }
    };
    maybe(20, &["  namePrefix: p-\n", "  namePrefix: ''\n"]);
    maybe(15, &["  nameSuffix: -s\n"]);
    maybe(
        30,
        &[
            "  commonMetadata: {labels: {team: x}}\n",
            "  commonMetadata: {annotations: {note: '1', a/b: ''}, labels: {app: over}}\n",
        ],
    );
    maybe(
        40,
        &[
            "  images: [{name: nginx, newTag: '9'}]\n",
            "  images: [{name: nginx, newName: other/nginx}]\n",
            "  images: [{name: nginx, digest: 'sha256:24a0c4b4a4c0eb97a1aabb8e29f18e917d05abfe1b7a7c07857230879ce7d3d3'}]\n",
            "  images: [{name: docker.io/library/nginx, newTag: '8'}, {name: redis, newTag: '7'}]\n",
            "  images: [{name: nginx}]\n",
        ],
    );
    maybe(
        35,
        &[
            "  patches:\n  - patch: |\n      apiVersion: v1\n      kind: ConfigMap\n      metadata: {name: settings}\n      data: \
         {patched: 'yes'}\n",
            "  patches:\n  - target: {kind: Deployment}\n    patch: |\n      - {op: replace, path: /spec/replicas, value: 7}\n",
            "  patches:\n  - target: {kind: ConfigMap, name: 'set.*'}\n    patch: |\n      - {op: add, path: \
         /metadata/annotations, value: {p: q}}\n",
            "  patches:\n  - target: {labelSelector: 'app=web'}\n    patch: |\n      apiVersion: apps/v1\n      kind: Deployment\n      \
         metadata: {name: any, labels: {patched: 'on'}}\n",
        ],
    );
    maybe(
        15,
        &[
            "  buildMetadata: [originAnnotations]\n",
            "  buildMetadata: [transformerAnnotations, originAnnotations]\n",
        ],
    );
    if maker.rng.chance(20) {
        let component = format!("{folder}-component");
        maker.file(
            format!("{component}/kustomization.yaml"),
            "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\ncommonLabels: {component: 'true'}\n",
        );
        let name = component.rsplit('/').next().unwrap_or_default().to_owned();
        // Relative to the path, which is one or two folders deep.
        text += &format!("  components: [../{name}, ../../apps/nowhere]\n  ignoreMissingComponents: true\n");
    }
    if maker.rng.chance(60) {
        text += "  postBuild:\n";
        if maker.rng.chance(70) {
            text += "    substitute: {ENV: 'inline', 'MISSING_TOO': 'here', TEXT: \"a\\nb\"}\n";
        }
        if maker.rng.chance(70) {
            // What a Secret or the cluster alone has is completed by the agent, which is not compared here.
            text += "    substituteFrom:\n    - {kind: ConfigMap, name: variables}\n";
        }
        if maker.rng.chance(20) {
            text += "    substituteStrategy: Always\n";
        }
    }
    text
}

/// Writes a folder, and gives the path to name.
fn content(maker: &mut Maker, folder: &str, depth: usize) -> String {
    match maker.rng.below(10) {
        0..=3 => {
            scanned(maker, folder);
            folder.to_owned()
        }
        4..=6 => {
            kustomized(maker, folder);
            folder.to_owned()
        }
        7 => {
            maker.file(format!("{folder}/README.md"), "nothing to apply\n");
            folder.to_owned()
        }
        8 if depth < 2 => {
            scanned(maker, folder);
            let file = format!("{folder}/more-units.yaml");
            unit(maker, &file, depth + 1);
            folder.to_owned()
        }
        // Two of them would clash.
        _ if maker.has_random_tree => {
            scanned(maker, folder);
            folder.to_owned()
        }
        _ => {
            maker.has_random_tree = true;
            let seed = maker.rng.number() % 1_000_000;
            let tree = random::tree(seed);
            for (path, content) in tree.files {
                maker.tree.files.insert(format!("{folder}/{path}"), content);
            }
            format!("{folder}/{}", tree.root)
        }
    }
}

/// A folder without a kustomization of its own.
fn scanned(maker: &mut Maker, folder: &str) {
    objects(maker, &format!("{folder}/objects.yaml"));
    if maker.rng.chance(30) {
        objects(maker, &format!("{folder}/deep/er/more.yml"));
    }
    if maker.rng.chance(20) {
        let name = maker.name("draft-");
        maker.file(format!("{folder}/drafts/draft.yaml"), config_map(&name, "  a: b\n"));
        let name = maker.name("temporary-");
        maker.file(format!("{folder}/x.tmp.yaml"), config_map(&name, "  a: b\n"));
    }
    if maker.rng.chance(15) {
        maker.file(format!("{folder}/.github/w.yaml"), "on: push\n");
        maker.file(format!("{folder}/.sops.yaml"), "creation_rules: []\n");
        maker.file(format!("{folder}/notes.txt"), "not YAML: [\n");
    }
    if maker.rng.chance(15) {
        kustomized(maker, &format!("{folder}/own"));
    }
}

/// A folder with a kustomization, which may hold what kustomize alone would refuse.
fn kustomized(maker: &mut Maker, folder: &str) {
    let mut text = String::new();
    let is_own_path = !folder.ends_with("/own");
    if maker.rng.chance(20) {
        text += &format!("namespace: {}\n", maker.name("shop-"));
    }
    if maker.rng.chance(85) {
        objects(maker, &format!("{folder}/objects.yaml"));
        text += "resources: [objects.yaml]\n";
    } else if maker.rng.chance(50) {
        text += "resources:\n";
    }
    let mut maybe = |percent: u64, lines: &[&str]| {
        if maker.rng.chance(percent) {
            text += lines[maker.rng.below(lines.len())];
        }
    };
    maybe(
        30,
        &[
            "images: [{name: nginx, newTag: '1.5'}]\n",
            "images: [{name: nginx, newName: own/nginx, newTag: '1.5'}]\n",
            "images: [{name: docker.io/library/nginx, newName: own/nginx}]\n",
            "images: [{name: nginx, digest: 'sha256:aaa0c4b4a4c0eb97a1aabb8e29f18e917d05abfe1b7a7c07857230879ce7d3d3'}]\n",
        ],
    );
    maybe(15, &["buildMetadata: [originAnnotations]\n", "buildMetadata: [managedByLabel]\n"]);
    maybe(15, &["commonAnnotations: {from: file}\n", "labels: [{pairs: {from: file}}]\n"]);
    if is_own_path {
        maybe(10, &["ressources: [x.yaml]\n", "myNote: hello\n", "x-anchor: {a: 1}\n"]);
        maybe(10, &["namePrefix: 12\n", "commonLabels: {a: yes, b: 1.50, c: 0x10}\n", "nameSuffix: true\n"]);
    }
    if maker.rng.chance(30) {
        let name = maker.name("generated-");
        text +=
            &format!("configMapGenerator:\n- {{name: {name}, literals: [a=b, 'host=${{DOMAIN:=none}}']}}\n");
    }
    maker.file(format!("{folder}/kustomization.yaml"), text);
}

fn config_map(name: &str, data: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: shop}}\ndata:\n{data}")
}

/// Some objects in a file.
fn objects(maker: &mut Maker, file: &str) {
    let mut data = String::new();
    for number in 0..maker.rng.between(1, 5) {
        let (first, second) = (*maker.rng.pick(&EXPRESSIONS), *maker.rng.pick(&EXPRESSIONS));
        data += &match maker.rng.below(5) {
            0 => format!("  k{number}: {first}\n"),
            1 => format!("  k{number}: \"{first} and {second}\"\n"),
            2 => format!("  k{number}: '{first}'\n"),
            3 => format!("  k{number}: |\n    line {first}\n    {second}\n"),
            _ => format!("  k{number}: plain text {first} end\n"),
        };
    }
    let is_patched = file.ends_with("/objects.yaml") && !file.contains("/own/");
    let name = if is_patched { "settings".to_owned() } else { maker.name("map-") };
    let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder).replace(['/', '.'], "-");
    let namespace = format!("ns-{folder}");
    let annotation = match maker.rng.below(8) {
        0 => ", annotations: {kustomize.toolkit.fluxcd.io/substitute: disabled}",
        1 => ", labels: {kustomize.toolkit.fluxcd.io/substitute: disabled, app: web}",
        2 => ", labels: {app: web}",
        _ => "",
    };
    maker.add(file, &format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {namespace}{annotation}}}\ndata:\n{data}"
    ));
    if maker.rng.chance(60) {
        let name = maker.name("web-");
        let image = *maker.rng.pick(&[
            "nginx",
            "nginx:1.0",
            "docker.io/library/nginx:1.0",
            "docker.io/nginx:1",
            "redis@sha256:abc",
            "nginx:1.0@sha256:abc",
            "registry:5000/nginx:2",
            "own/nginx:3",
        ]);
        let replicas = *maker.rng.pick(&["1", "${NUM:=2}", "3"]);
        maker.add(file, &format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{app: web}}}}\n\
             spec:\n  replicas: {replicas}\n  selector: {{matchLabels: {{app: web}}}}\n  template:\n    metadata: {{labels: {{app: \
             web}}}}\n    spec:\n      initContainers: [{{name: i, image: 'busybox:1'}}]\n      containers:\n      - name: main\n        \
             image: {image}\n        args: ['--host=${{DOMAIN:-x}}', '$(POD)']\n"
        ));
    }
}
