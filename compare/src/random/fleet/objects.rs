//! Objects in the folders of units, with expressions in their texts.

use super::Maker;
use super::folders::namespace_of;
use super::variables::{Scope, expression};
use crate::random::objects::{KINDS, Object};
use crate::random::rng::Rng;
use crate::random::value::{Style, documents};

pub(super) fn config_map(name: &str, namespace: &str, data: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {namespace}}}\ndata:\n{data}"
    )
}

/// Some objects in a file.
pub(super) fn objects(maker: &mut Maker, file: &str, scope: Scope) {
    let mut data = String::new();
    for number in 0..maker.rng.between(1, 5) {
        let (first, second) = (expression(maker, scope), expression(maker, scope));
        data += &match maker.rng.below(8) {
            0 => format!("  k{number}: {first}\n"),
            1 => format!("  k{number}: \"{first} and {second}\"\n"),
            2 => format!("  k{number}: '{first}'\n"),
            3 => format!("  k{number}: |\n    line {first}\n    {second}\n"),
            4 => format!("  k{number}: >-\n    line {first}\n    {second}\n\n    end\n"),
            5 => format!("  'k{number}.${{KEY:-key}}': {first}\n"),
            6 => format!("  k{number}: '{{\"a\": \"{first}\", \"b\": [1, {second}]}}'\n"),
            _ => format!("  k{number}: plain text {first} end # {second}\n"),
        };
    }
    let is_patched = file.ends_with("/objects.yaml") && !file.contains("/own/");
    let name = if is_patched { "settings".to_owned() } else { maker.name("map-") };
    let namespace = namespace_of(file.rsplit_once('/').map_or("", |(folder, _)| folder));
    let more = maker.maybe(
        45,
        &[
            ", annotations: {kustomize.toolkit.fluxcd.io/substitute: disabled}",
            ", labels: {kustomize.toolkit.fluxcd.io/substitute: disabled, app: web}",
            ", labels: {kustomize.toolkit.fluxcd.io/substitute: enabled, app: '${APP:-web}'}",
            ", annotations: {kustomize.toolkit.fluxcd.io/substitute: '${OFF:-disabled}'}",
            ", labels: {app: web}",
            ", annotations: {config.kubernetes.io/local-config: 'false', n: '1.0'}",
        ],
    );
    maker.add(file, &format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {namespace}{more}}}\ndata:\n{data}"
    ));
    if maker.rng.chance(55) {
        workload(maker, file, &namespace, scope);
    }
    if maker.rng.chance(30) {
        let (name, value) = (maker.name("secret-"), expression(maker, scope));
        let field = *maker
            .rng
            .pick(&["stringData: {v: 'VALUE', n: '1'}", "data: {v: VkFMVUU=}\nstringData: {w: \"VALUE\"}"]);
        let field = field.replace("VALUE", value);
        maker.add(
            file,
            &format!(
                "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\n{field}\n"
            ),
        );
    }
    // Names that depend on variables, which sometimes name two objects the same.
    if scope != Scope::Secret && maker.rng.chance(20) {
        let name = maker.name("named-");
        maker.add(file, &config_map(&format!("\"${{WHICH:-a}}-{name}\""), "\"${NS:-shop}\"", "  a: b\n"));
        if maker.rng.chance(8) {
            let other = *maker.rng.pick(&["a", "${WHICH:=a}", "b"]);
            maker.add(file, &config_map(&format!("\"{other}-{name}\""), "shop", "  a: b\n"));
        }
    }
    if maker.rng.chance(35) {
        let (kind, version) = *maker.rng.pick(&KINDS);
        let name = maker.name("any-");
        let object = Object::of(&mut maker.rng, kind, version, name);
        let mut style = Style::Mixed(Box::new(Rng::new(maker.rng.number())));
        let text = documents(&[object.value], &mut style);
        let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
        // A folder with a kustomization names its files.
        if !folder.ends_with("/er") && !maker.tree.files.contains_key(&format!("{folder}/kustomization.yaml"))
        {
            maker.file(format!("{folder}/{}.yaml", maker.serial), text);
        }
    }
}

/// A Deployment.
fn workload(maker: &mut Maker, file: &str, namespace: &str, scope: Scope) {
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
        "nginx:${TAG:-4}",
    ]);
    let replicas = *maker.rng.pick(&["1", "${REPLICAS:=2}", "3"]);
    let argument = expression(maker, scope);
    maker.add(file, &format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{app: web}}}}\n\
         spec:\n  replicas: {replicas}\n  selector: {{matchLabels: {{app: web}}}}\n  template:\n    metadata: {{labels: {{app: \
         web}}}}\n    spec:\n      initContainers: [{{name: i, image: 'busybox:1'}}, {{name: j, image: nginx}}]\n      \
         containers:\n      - name: main\n        image: {image}\n        args: ['--host=${{HOST:=x}}', '$(POD)', '{argument}']\n"
    ));
}
