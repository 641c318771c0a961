//! Replacements and vars: values copied from one object's field into others.

use super::kustomization::Maker;
use super::objects::Object;
use super::patches::selecting;
use super::rng::Rng;
use super::value::{Value, map, plain, texts};

/// The list for `replacements`, a file's or the kustomization's.
pub(super) fn list(maker: &mut Maker) -> Value {
    let count = maker.rng.between(1, 2);
    let objects = maker.objects.clone();
    (0..count).map(|_| replacement(maker.rng, &objects)).collect::<Vec<_>>().into()
}

fn replacement(rng: &mut Rng, objects: &[Object]) -> Value {
    let from = rng.pick(objects);
    let mut source = map([("kind", from.kind), ("name", from.name.as_str())]);
    if let Some(namespace) = from.namespace {
        source.set("namespace", namespace);
    }
    if rng.chance(15) {
        let (group, version) = from.group_version();
        source.set("group", group);
        source.set("version", version);
    }
    let (all, scalars) = (from.places(), from.scalars());
    let mut whole = false;
    if rng.chance(60) && !scalars.is_empty() {
        // Mostly a scalar: whole mappings and lists fit in few places.
        whole = rng.chance(10);
        let place = rng.pick(if whole { &all } else { &scalars });
        source.set("fieldPath", place.field_path(rng.chance(60)));
        whole = !place.value.is_scalar();
    } else if rng.chance(20) {
        source.set("fieldPath", "metadata.name");
    }
    if !whole && rng.chance(15) {
        let options = map([("delimiter", rng.word(&[":", "-", "/"]).into()), ("index", plain("0"))]);
        source.set("options", options);
    }
    let count = rng.between(1, 2);
    let targets: Vec<Value> = (0..count).map(|_| target(rng, objects, whole)).collect();
    map([("source", source), ("targets", targets.into())])
}

fn target(rng: &mut Rng, objects: &[Object], whole: bool) -> Value {
    let to = rng.pick(objects);
    let broad = rng.chance(20);
    let mut select =
        if broad { selecting(rng, to) } else { map([("kind", to.kind), ("name", to.name.as_str())]) };
    if let Some(namespace) = to.namespace.filter(|_| rng.chance(50)) {
        select.set("namespace", namespace);
    }
    let mut target = map([("select", select)]);
    if rng.chance(12) {
        target.set("reject", vec![map([("name", rng.pick(objects).name.as_str())])]);
    }
    let mut options = Value::Map(Vec::new());
    let scalars = to.scalars();
    let mut paths = Vec::new();
    if !broad && rng.chance(60) && !scalars.is_empty() {
        paths.push(rng.pick(&scalars).field_path(rng.chance(70)));
        if !whole && rng.chance(25) {
            options.set("delimiter", rng.word(&[":", "/", "-", ","]));
            options.set("index", plain(rng.word(&["0", "0", "1", "-1", "5"])));
        }
    } else {
        paths.push(rng.word(&CREATED).to_owned());
        options.set("create", true);
    }
    let pods = to.value.at(&["spec", "template", "spec", "containers"]).is_some();
    if !broad && pods && !to.touched && rng.chance(40) {
        let wide = [
            "spec.template.spec.containers.*.image",
            "spec.template.spec.containers.[name=main].env.[name=A].value",
            "metadata.labels.a",
        ];
        paths.push(rng.word(&wide).to_owned());
        if rng.chance(80) {
            options.set("create", true);
        }
    }
    target.set("fieldPaths", texts(paths));
    if !options.as_map().is_empty() {
        target.set("options", options);
    }
    target
}

/// Paths that are made where they are not.
const CREATED: [&str; 6] = [
    "metadata.labels.rep",
    "metadata.annotations.[x.y/z]",
    "metadata.annotations.rep\\.dot",
    "spec.made.deep",
    "spec.list.[name=new].v",
    "metadata.annotations.a",
];

/// The list for `vars`; their places are in commands, arguments and variables of pods.
pub(super) fn vars(maker: &mut Maker) -> Value {
    let mut vars = Vec::new();
    for name in ["VAR", "V"] {
        if maker.rng.chance(30) || maker.vars.contains(&name) {
            continue;
        }
        maker.vars.push(name);
        let objects = maker.objects.clone();
        let object = maker.rng.pick(&objects);
        let mut reference =
            map([("apiVersion", object.api_version), ("kind", object.kind), ("name", object.name.as_str())]);
        if let Some(namespace) = object.namespace {
            reference.set("namespace", namespace);
        }
        let mut var = map([("name", name.into()), ("objref", reference)]);
        let mut scalars = object.scalars();
        scalars.retain(|place| place.field_spec().is_some());
        if maker.rng.chance(50) && !scalars.is_empty() {
            let place = maker.rng.pick(&scalars);
            var.set("fieldref", map([("fieldPath", place.field_path(false))]));
        }
        vars.push(var);
    }
    vars.into()
}
