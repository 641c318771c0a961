//! The folders that Kustomizations name.

use super::objects::{config_map, objects};
use super::variables::Scope;
use super::{Maker, releases, units};
use crate::random;

/// The namespace of the objects in a folder.
pub(super) fn namespace_of(folder: &str) -> String {
    format!("ns-{}", folder.replace(['/', '.'], "-"))
}

/// Writes a folder, and gives the path to name.
pub(super) fn folder(maker: &mut Maker, folder: &str, scope: Scope, depth: usize) -> String {
    match maker.rng.below(12) {
        0..=3 => scanned(maker, folder, scope),
        4..=6 => kustomized(maker, folder, scope),
        7 => overlaid(maker, folder, scope),
        8 => nothing(maker, folder),
        9 | 10 if depth < 2 => {
            scanned(maker, folder, scope);
            let file = format!("{folder}/more-units.yaml");
            units::unit(maker, &file, scope, depth + 1);
            if maker.rng.chance(30) {
                units::unit(maker, &file, scope, depth + 1);
            }
        }
        // Two of them would clash.
        _ if maker.has_random_tree => scanned(maker, folder, scope),
        _ => {
            maker.has_random_tree = true;
            let seed = maker.rng.number() % 1_000_000;
            let tree = random::tree(seed);
            for (path, content) in tree.files {
                maker.tree.files.insert(format!("{folder}/{path}"), content);
            }
            return format!("{folder}/{}", tree.root);
        }
    }
    folder.to_owned()
}

/// A folder with nothing to apply, in one of many forms.
fn nothing(maker: &mut Maker, folder: &str) {
    maker.file(format!("{folder}/README.md"), "nothing to apply\n");
    let forms = [
        "",
        "# nothing yet\n",
        "resources:\n",
        "resources: []\nnamePrefix: x-\n",
        "kind: Kustomization\napiVersion: kustomize.config.k8s.io/v1beta1\n",
        "{}\n",
    ];
    if maker.rng.chance(60) {
        let text = *maker.rng.pick(&forms);
        let name = *maker.rng.pick(&["kustomization.yaml", "kustomization.yml", "Kustomization"]);
        maker.file(format!("{folder}/{name}"), text);
    }
}

/// A folder without a kustomization of its own.
fn scanned(maker: &mut Maker, folder: &str, scope: Scope) {
    objects(maker, &format!("{folder}/objects.yaml"), scope);
    if maker.rng.chance(30) {
        objects(maker, &format!("{folder}/deep/er/more.yml"), scope);
    }
    if maker.rng.chance(20) {
        let name = maker.name("draft-");
        maker.file(format!("{folder}/drafts/draft.yaml"), config_map(&name, "shop", "  a: b\n"));
        let name = maker.name("temporary-");
        maker.file(format!("{folder}/x.tmp.yaml"), config_map(&name, "shop", "  a: b\n"));
    }
    if maker.rng.chance(15) {
        maker.file(format!("{folder}/.github/w.yaml"), "on: push\n");
        maker.file(format!("{folder}/.sops.yaml"), "creation_rules: []\n");
        maker.file(format!("{folder}/notes.txt"), "not YAML: [\n");
        maker.file(format!("{folder}/image.png.yaml.bak"), "not YAML: [\n");
        maker.file(format!("{folder}/empty.yaml"), "---\n# nothing\n---\n");
    }
    if maker.rng.chance(10) {
        maker.file(
            format!("{folder}/configuration.yaml"),
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nmetadata: {name: stray}\n",
        );
    }
    if maker.rng.chance(15) {
        kustomized(maker, &format!("{folder}/own"), scope);
    }
    if scope != Scope::Secret && maker.rng.chance(12) {
        releases::release(maker, &format!("{folder}/release.yaml"), scope);
    }
}

/// A base, and an overlay with all that overlays do.
fn overlaid(maker: &mut Maker, folder: &str, scope: Scope) {
    let base = format!("{folder}-base");
    kustomized(maker, &base, scope);
    if !maker.tree.files.contains_key(&format!("{base}/objects.yaml")) {
        return nothing(maker, folder);
    }
    let (name, namespace) = (base.rsplit('/').next().unwrap_or_default().to_owned(), namespace_of(&base));
    let mut text = format!("resources: [../{name}]\n");
    text += &maker.maybe(30, &[&format!("namespace: overlay-{name}\n")]);
    text += &maker.maybe(30, &["namePrefix: o-\n", "nameSuffix: -o\n"]);
    text += &maker.maybe(
        40,
        &[
            "labels: [{pairs: {layer: top}, includeTemplates: true}]\n",
            "commonLabels: {layer: top}\n",
            "commonAnnotations: \
           {layer: '${LAYER:-top}'}\n",
        ],
    );
    text += &maker.maybe(30, &["images: [{name: nginx, newTag: overlay}]\n"]);
    text +=
        &maker.maybe(20, &["replicas: []\n", "buildMetadata: [originAnnotations, transformerAnnotations]\n"]);
    text += &maker.maybe(
        40,
        &[
            "patches:\n- target: {kind: ConfigMap, name: settings}\n  patch: |\n    - {op: add, path: /data/overlay, value: 'yes'}\n",
            &format!(
                "patches:\n- patch: |\n    apiVersion: v1\n    kind: ConfigMap\n    metadata: {{name: settings, namespace: \
                 {namespace}}}\n    data: {{k0: overlaid}}\n"
            ),
        ],
    );
    let generator = format!(
        "configMapGenerator:\n- {{name: of-{name}, namespace: shop, literals: ['a=${{A_VALUE:-1}}'], options: {{annotations: {{x: \
         'y'}}}}}}\ngeneratorOptions: {{disableNameSuffixHash: true}}\n"
    );
    text += &maker.maybe(30, &[&generator]);
    maker.file(format!("{folder}/kustomization.yaml"), text);
}

/// A folder with a kustomization, which may hold what kustomize alone would refuse.
fn kustomized(maker: &mut Maker, folder: &str, scope: Scope) {
    let mut text = String::new();
    let is_own_path = !folder.ends_with("/own") && !folder.ends_with("-base");
    if maker.rng.chance(20) {
        text += &format!("namespace: {}\n", maker.name("shop-"));
    }
    if maker.rng.chance(85) {
        objects(maker, &format!("{folder}/objects.yaml"), scope);
        text += "resources: [objects.yaml]\n";
    } else if maker.rng.chance(50) {
        text += "resources:\n";
    }
    text += &maker.maybe(
        30,
        &[
            "images: [{name: nginx, newTag: '1.5'}]\n",
            "images: [{name: nginx, newName: own/nginx, newTag: '1.5'}]\n",
            "images: [{name: docker.io/library/nginx, newName: own/nginx}]\n",
            "images: [{name: nginx, digest: 'sha256:aaa0c4b4a4c0eb97a1aabb8e29f18e917d05abfe1b7a7c07857230879ce7d3d3'}]\n",
            "images: [{name: nginx, newTag: 1.5}, {name: nginx, tagSuffix: -x}]\n",
        ],
    );
    text += &maker.maybe(15, &["buildMetadata: [originAnnotations]\n", "buildMetadata: [managedByLabel]\n"]);
    text += &maker.maybe(
        15,
        &[
            "commonAnnotations: {from: file}\n",
            "labels: [{pairs: {from: file}}]\n",
            "commonLabels: {from: '${FROM:-file}'}\n",
        ],
    );
    if is_own_path {
        text += &maker.maybe(10, &["ressources: [x.yaml]\n", "myNote: hello\n", "x-anchor: {a: 1}\n"]);
        text += &maker.maybe(
            10,
            &[
                "namePrefix: 12\n",
                "commonLabels: {a: yes, b: 1.50, c: 0x10}\n",
                "nameSuffix: true\n",
                "nameprefix: low-\n",
            ],
        );
    }
    if maker.rng.chance(30) {
        let name = maker.name("generated-");
        text += &match maker.rng.below(3) {
            0 => format!(
                "configMapGenerator:\n- {{name: {name}, literals: [a=b, 'host=${{DOMAIN:=none}}']}}\n"
            ),
            1 => {
                maker.file(format!("{folder}/data.env"), "A=1\n# no\nB=${ENV:=x} y\n");
                format!(
                    "configMapGenerator: [{{name: {name}, envs: [data.env], files: [data.env, 'k=data.env']}}]\n"
                )
            }
            _ => format!("secretGenerator:\n- {{name: {name}, literals: ['p=${{ENV:=x}}'], type: Opaque}}\n"),
        };
    }
    maker.file(format!("{folder}/kustomization.yaml"), text);
}
