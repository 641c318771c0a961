//! What tells kustomize about fields that it does not know: `configurations`, `crds` and `openapi`.

use super::kustomization::Maker;
use super::value::{Value, map, object, plain, texts};

/// A file of `configurations`: field specs for the custom kind and for others.
pub(super) fn configuration(maker: &mut Maker) -> Value {
    let rng = &mut *maker.rng;
    let spec = |path: &str, kind: &str, create: bool| {
        let mut spec = map([("path", path)]);
        if !kind.is_empty() {
            spec.set("kind", kind);
        }
        if create {
            spec.set("create", true);
        }
        spec
    };
    let mut configuration = Value::Map(Vec::new());
    let mut add = |rng: &mut super::rng::Rng, field: &str, specs: Vec<Value>| {
        if rng.chance(35) {
            configuration.set(field, specs);
        }
    };
    let kind = "Custom";
    // The same in each file: specs that differ in nothing else are refused.
    let create = true;
    add(rng, "commonLabels", vec![spec("spec/selector/matchLabels", kind, true)]);
    add(rng, "labels", vec![spec("spec/made/labels", kind, create)]);
    add(rng, "templateLabels", vec![spec("spec/template/labels", kind, create)]);
    add(rng, "commonAnnotations", vec![spec("spec/nested/annotations", kind, true)]);
    add(rng, "images", vec![spec("spec/containers[]/image", kind, true)]);
    add(rng, "replicas", vec![spec("spec/replicas", kind, create)]);
    add(rng, "namespace", vec![spec("spec/namespace", kind, create)]);
    add(rng, "namePrefix", vec![spec("spec/s", kind, false), spec("metadata/name", "", false)]);
    add(rng, "nameSuffix", vec![spec("spec/made/name", kind, create)]);
    add(rng, "varReference", vec![spec("data", "ConfigMap", false), spec("spec/s", kind, false)]);
    let referrers = vec![spec("spec/configRef/name", kind, false), spec("spec/nested/x", kind, false)];
    let reference = |of: &str, version: &str| {
        object([("kind", of.into()), ("version", version.into()), ("fieldSpecs", referrers.clone().into())])
    };
    add(rng, "nameReference", vec![reference("ConfigMap", "v1"), reference("Secret", "v1")]);
    configuration
}

/// A file of `crds`: the custom kind's definition with its markers.
pub(super) fn definitions(maker: &mut Maker) -> Value {
    let rng = &mut *maker.rng;
    let string = || map([("type", "string")]);
    let mut reference = map([("type", "object")]);
    reference.set("x-kubernetes-object-ref-api-version", "v1");
    reference.set("x-kubernetes-object-ref-kind", rng.word(&["ConfigMap", "Secret", "Service"]));
    if rng.chance(30) {
        reference.set("x-kubernetes-object-ref-name-key", "name");
    }
    let mut marked = |name: &str| {
        let mut property = map([("type", "object")]);
        if rng.chance(60) {
            property.set(name, "");
        }
        property
    };
    let (labels, annotations) = (marked("x-kubernetes-label-selector"), marked("x-kubernetes-annotation"));
    let mut identity = string();
    if rng.chance(30) {
        identity.set("x-kubernetes-identity", "");
    }
    let spec = map([
        ("configRef", reference),
        ("s", identity),
        ("selector", labels),
        ("notes", annotations),
        ("url", string()),
    ]);
    let top = map([
        ("apiVersion", string()),
        ("kind", string()),
        ("metadata", map([("$ref", "k8s.io/apimachinery/pkg/apis/meta/v1.ObjectMeta")])),
        ("spec", map([("$ref", "github.com/example/v1.CustomSpec")])),
    ]);
    let definition = |properties: Value, needs: &[&str]| {
        let needs = texts(needs.iter().copied());
        map([("Schema", map([("properties", properties)])), ("Dependencies", needs)])
    };
    map([
        ("github.com/example/v1.Custom", definition(top, &["github.com/example/v1.CustomSpec"])),
        ("github.com/example/v1.CustomSpec", definition(spec, &[])),
    ])
}

/// A schema for `openapi`: how the lists of the custom kind merge.
pub(super) fn schema(maker: &mut Maker) -> Value {
    let rng = &mut *maker.rng;
    let element = map([("type", "object")]);
    let list = |key: &str| {
        let mut list = map([("type", "array".into()), ("items", element.clone())]);
        list.set("x-kubernetes-patch-strategy", "merge");
        list.set("x-kubernetes-patch-merge-key", key);
        list
    };
    let mut spec = map([("containers", list("name"))]);
    if rng.chance(70) {
        spec.set("list", list("name"));
    }
    let mut gvk = map([("group", "example.com"), ("kind", "Custom")]);
    gvk.set("version", "v1");
    let properties = map([
        ("apiVersion", map([("type", "string")])),
        ("kind", map([("type", "string")])),
        ("spec", map([("type", "object".into()), ("properties", spec)])),
    ]);
    let definition = map([
        ("type", "object".into()),
        ("properties", properties),
        ("x-kubernetes-group-version-kind", vec![gvk].into()),
    ]);
    map([
        ("swagger", "2.0".into()),
        ("definitions", map([("v1.Custom", definition)])),
        ("paths", plain("{}")),
    ])
}
