//! Kustomizations, and the fields that change what they build.

use super::Maker;
use super::folders;
use super::variables::{Scope, expression, post_build};

pub(super) fn kustomization(name: &str, version: &str, path: &str, more: &str) -> String {
    format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/{version}\nkind: Kustomization\nmetadata: {{name: {name}, namespace: \
         flux-system}}\nspec:\n  interval: 10m\n  prune: true\n  path: {path}\n  sourceRef: {{kind: GitRepository, name: \
         flux-system}}\n{more}"
    )
}

/// A unit in a file, with its folder. `scope` is what the file's texts may use.
pub(super) fn unit(maker: &mut Maker, file: &str, scope: Scope, depth: usize) {
    let name = maker.name("unit-");
    let folder = format!("apps/{name}");
    let (more, inner) = overlay(maker, &folder, scope);
    let path = folders::folder(maker, &folder, inner, depth);
    let mut form = *maker.rng.pick(&[
        "./PATH",
        "PATH",
        "/PATH",
        "./PATH/",
        "../PATH",
        "./x/../PATH",
        "PATH//",
        "../../../PATH/.",
    ]);
    if scope == Scope::Known && maker.rng.chance(20) {
        form = "./${NO_FOLDER:-PATH}";
    }
    let version = *maker.rng.pick(&["v1", "v1", "v1", "v1beta2", "v1beta1"]);
    let older = if version == "v1" {
        String::new()
    } else {
        let namespace = folders::namespace_of(&folder);
        let patch = format!(
            "  patchesStrategicMerge:\n  - {{apiVersion: v1, kind: ConfigMap, metadata: {{name: settings, namespace: \
             {namespace}}}, data: {{old: 'x'}}}}\n"
        );
        maker.maybe(
            60,
            &[
                "  validation: client\n",
                &patch,
                "  patchesJson6902:\n  - target: {version: v1, kind: ConfigMap, name: settings}\n    patch: [{op: add, path: \
                 /data/json, value: 'x'}, {op: test, path: /kind, value: ConfigMap}]\n",
            ],
        )
    };
    let text = kustomization(&name, version, &form.replace("PATH", &path), &(more + &older));
    maker.add(file, &text);
}

/// Fields of a Kustomization that change what is built, and what the texts of its folder may use. `outer` is what its own may:
/// what only the cluster knows has no place in Flux objects.
fn overlay(maker: &mut Maker, folder: &str, outer: Scope) -> (String, Scope) {
    let mut text = String::new();
    if maker.rng.chance(25) {
        text += &format!("  targetNamespace: {}\n", maker.name("target-"));
    }
    text += &maker.maybe(20, &["  namePrefix: p-\n", "  namePrefix: ''\n"]);
    text += &maker.maybe(15, &["  nameSuffix: -s\n"]);
    text += &maker.maybe(
        30,
        &[
            "  commonMetadata: {labels: {team: x}}\n",
            "  commonMetadata: {annotations: {note: '1', a/b: ''}, labels: {app: over}}\n",
        ],
    );
    text += &maker.maybe(
        40,
        &[
            "  images: [{name: nginx, newTag: '9'}]\n",
            "  images: [{name: nginx, newName: other/nginx}]\n",
            "  images: [{name: nginx, digest: 'sha256:24a0c4b4a4c0eb97a1aabb8e29f18e917d05abfe1b7a7c07857230879ce7d3d3'}]\n",
            "  images: [{name: docker.io/library/nginx, newTag: '8'}, {name: redis, newTag: '7'}]\n",
            "  images: [{name: nginx}]\n",
            "  images: [{name: nginx, newName: own/nginx}, {name: own/nginx, newTag: '4'}]\n",
            "  images: [{name: 'registry:5000/nginx', newName: 'registry:6000/nginx'}, {name: nginx, newTag: '1'}, {name: \
             nginx, newTag: '2'}]\n",
            "  images: [{name: 'ngin.', newTag: '6'}, {name: index.docker.io/library/nginx, newTag: '5'}]\n",
        ],
    );
    let namespace = folders::namespace_of(folder);
    let patched = if outer == Scope::Secret { "yes" } else { "${PATCHED:-yes}" };
    let by_target = format!(
        "  patches:\n  - target: {{kind: ConfigMap, name: settings}}\n    patch: |\n      apiVersion: v1\n      kind: ConfigMap\n      \
         metadata: {{name: any}}\n      data: {{patched: '{patched}'}}\n"
    );
    let merge = format!(
        "  patches:\n  - patch: |\n      apiVersion: v1\n      kind: ConfigMap\n      metadata: {{name: settings, namespace: \
         {namespace}}}\n      data: {{patched: 'yes', k0: null}}\n"
    );
    text += &maker.maybe(
        35,
        &[
            &merge,
            &by_target,
            "  patches:\n  - target: {kind: Deployment}\n    patch: |\n      - {op: replace, path: /spec/replicas, value: 7}\n",
            "  patches:\n  - target: {kind: ConfigMap, name: 'set.*'}\n    patch: |\n      - {op: add, path: \
             /metadata/annotations, value: {p: q}}\n",
            "  patches:\n  - target: {labelSelector: 'app=web'}\n    patch: |\n      apiVersion: apps/v1\n      kind: Deployment\n      \
             metadata: {name: any, labels: {patched: 'on'}}\n",
            "  patches:\n  - target: {group: apps, version: v1}\n    patch: '[{\"op\":\"add\",\"path\":\"/metadata/labels/json\",\"value\":\"1\"}]'\n  \
             - target: {kind: Secret|ConfigMap, namespace: 'ns-.*'}\n    patch: |\n      $patch: delete\n      apiVersion: v1\n      \
             kind: Secret\n      metadata: {name: any}\n",
        ],
    );
    text += &maker.maybe(
        15,
        &[
            "  buildMetadata: [originAnnotations]\n",
            "  buildMetadata: [transformerAnnotations, originAnnotations]\n",
            "  buildMetadata: []\n",
        ],
    );
    text +=
        &maker.maybe(10, &["  wait: true\n  timeout: 2m\n", "  force: true\n", "  deletionPolicy: Orphan\n"]);
    if maker.rng.chance(20) {
        text += &components(maker, folder);
    }
    let mut scope = Scope::Nothing;
    if maker.rng.chance(65) {
        let (fields, known) = post_build(maker);
        text += &format!("  postBuild:\n{fields}");
        scope = known;
    }
    (text, scope)
}

/// Components, one of which is missing. They are named relative to the path, which is one or two folders deep.
fn components(maker: &mut Maker, folder: &str) -> String {
    let name = format!("{}-component", folder.rsplit('/').next().unwrap_or_default());
    let value = expression(maker, Scope::Nothing);
    let fields = *maker.rng.pick(&[
        "commonLabels: {component: 'true'}\n",
        "namePrefix: c-\nconfigMapGenerator: [{name: NAME, literals: [\"v=VALUE\"], options: {disableNameSuffixHash: \
         true}}]\n",
        "images: [{name: nginx, newTag: '0.1'}]\npatches: [{target: {kind: Deployment}, patch: '[{op: add, path: \
         /spec/paused, value: true}]'}]\n",
    ]);
    maker.file(
        format!("apps/{name}/kustomization.yaml"),
        format!(
            "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n{}",
            fields.replace("VALUE", value).replace("NAME", &name)
        ),
    );
    format!("  components: [../{name}, ../../apps/nowhere]\n  ignoreMissingComponents: true\n")
}
