//! The root: the Kustomization by which the cluster applies it, its source, and what is left out of that.

use super::Maker;
use super::units::kustomization;
use super::variables::{Scope, post_build};

/// Rules of files that are left out.
const RULES: [&str; 6] = [
    "*.tmp.yaml\n",
    "/apps/*/drafts/\n",
    "/*\n!/apps/\n!/clusters\n!/charts\n*.tmp.yaml\n",
    "# none\n\n",
    "**/deep\n!**/deep/er\n",
    "drafts\n!/apps/unit-5/drafts\n\\#x\n",
];

/// Perhaps the Kustomization by which the cluster applies its root; says what the root's texts may use.
pub(super) fn root(maker: &mut Maker) -> Scope {
    if maker.rng.chance(20) {
        let ignore = maker.maybe(60, &RULES).lines().map(|line| format!("    {line}\n")).collect::<String>();
        let ignore = if ignore.trim().is_empty() { ignore } else { format!("  ignore: |\n{ignore}") };
        let version = *maker.rng.pick(&["v1", "v1", "v1beta2"]);
        maker.add("clusters/prod/source.yaml", &format!(
            "apiVersion: source.toolkit.fluxcd.io/{version}\nkind: GitRepository\nmetadata: {{name: flux-system, namespace: \
             flux-system}}\nspec:\n  interval: 1m\n  url: https://git.example.com/fleet\n  ref: {{branch: main}}\n{ignore}"
        ));
    }
    if !maker.rng.chance(45) {
        return Scope::Nothing;
    }
    let (mut more, mut scope) = (String::new(), Scope::Nothing);
    match maker.rng.below(4) {
        0 => more += "  postBuild: {substitute: {ROOT: 'from-root'}}\n",
        1 => {
            let (fields, known) = post_build(maker);
            // Its texts are names and Flux objects.
            if known != Scope::Secret {
                more += &format!("  postBuild:\n{fields}");
                scope = known;
            }
        }
        _ => {}
    }
    more += &maker.maybe(30, &["  commonMetadata: {labels: {fleet: 'yes'}, annotations: {by: root}}\n"]);
    more += &maker.maybe(
        15,
        &[
            "  patches:\n  - target: {kind: Kustomization}\n    patch: |\n      - {op: add, path: /spec/timeout, value: 3m}\n",
            "  patches:\n  - target: {kind: HelmRelease}\n    patch: |\n      apiVersion: helm.toolkit.fluxcd.io/v2\n      kind: \
             HelmRelease\n      metadata: {name: any}\n      spec: {values: {patched: true}}\n",
        ],
    );
    let own = kustomization("flux-system", "v1", "./clusters/prod", &more);
    let file = *maker.rng.pick(&["clusters/prod/sync.yaml", "clusters/prod/flux-system/gotk-sync.yaml"]);
    maker.add(file, &own);
    if file.contains("flux-system") && maker.rng.chance(60) {
        let patch = maker.maybe(
            50,
            &["patches:\n- target: {kind: Kustomization, name: flux-system}\n  patch: |\n    - {op: add, path: /spec/commonMetadata, \
               value: {labels: {bootstrapped: 'yes'}}}\n"],
        );
        maker.file(
            "clusters/prod/flux-system/kustomization.yaml",
            format!("resources: [gotk-sync.yaml]\n{patch}"),
        );
    }
    scope
}

/// Perhaps files that say what is left out.
pub(super) fn ignored(maker: &mut Maker) {
    if maker.rng.chance(25) {
        let text = *maker.rng.pick(&RULES);
        maker.file(".sourceignore", text);
    }
    if maker.rng.chance(10) {
        let folders: Vec<String> = (1..6).map(|n| format!("apps/unit-{n}/")).collect();
        let has_files = |folder: &&String| maker.tree.files.keys().any(|path| path.starts_with(*folder));
        if let Some(folder) = folders.iter().find(has_files).cloned() {
            let text = *maker.rng.pick(&["*.tmp.yaml\n", "deep/\n", "/own\n", "*.yml\n!more.yml\n"]);
            maker.file(format!("{folder}.sourceignore"), text);
        }
    }
}
