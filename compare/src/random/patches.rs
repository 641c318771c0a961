//! Patches of both kinds for an object that is there, and selectors that find it.

use super::objects::{Object, body};
use super::paths::{Place, Step};
use super::rng::Rng;
use super::value::{Value, map, plain, texts};
use super::words::scalar;

/// Keys by which lists are merged: a patch's element without them is refused.
const MERGE_KEYS: [&str; 8] =
    ["name", "containerPort", "port", "mountPath", "ip", "topologyKey", "whenUnsatisfiable", "maxSkew"];

/// A strategic merge patch: parts of the object itself changed, or parts of another of its kind.
pub(super) fn strategic(rng: &mut Rng, object: &Object) -> Value {
    let mut patch = object.head();
    if rng.chance(3) {
        patch.set("$patch", rng.word(&["delete", "replace"]));
    }
    let other;
    let source = if rng.chance(60) {
        &object.value
    } else {
        other = body(rng, object.kind);
        &other
    };
    for (key, value) in source.as_map() {
        match key.as_str() {
            "apiVersion" | "kind" => {}
            "metadata" => {
                for (key, value) in value.as_map() {
                    if matches!(key.as_str(), "labels" | "annotations") && rng.chance(40) {
                        let changed = changed(rng, value, 1);
                        set_metadata(&mut patch, key, changed);
                    }
                }
            }
            _ => patch.set(key, changed(rng, value, 1)),
        }
    }
    if rng.chance(15) {
        let value = if rng.chance(25) { plain("null") } else { "patched".into() };
        set_metadata(
            &mut patch,
            rng.word(&["labels", "annotations"]),
            map([(rng.word(&["a", "new"]), value)]),
        );
    }
    patch
}

fn set_metadata(patch: &mut Value, key: &str, value: Value) {
    let Value::Map(entries) = patch else { return };
    if let Some((_, metadata)) = entries.iter_mut().find(|(key, _)| key == "metadata") {
        metadata.set(key, value);
    }
}

fn changed(rng: &mut Rng, value: &Value, depth: usize) -> Value {
    match value {
        Value::Map(entries) => changed_map(rng, entries, depth),
        Value::List(list) => changed_list(rng, list, depth),
        Value::Anchor(_, value) => changed(rng, value, depth),
        Value::Alias(_) => map([("x", "y")]),
        Value::Text(_) if rng.chance(40) => rng.word(&["patched", "2", "yes", "x/y:9"]).into(),
        Value::Plain(_) if rng.chance(40) => plain(rng.word(&["7", "2", "0"])),
        scalar => scalar.clone(),
    }
}

fn changed_map(rng: &mut Rng, entries: &[(String, Value)], depth: usize) -> Value {
    let mut result = Value::Map(Vec::new());
    for (key, value) in entries.iter().filter(|(key, _)| key != "<<") {
        let structural = matches!(key.as_str(), "template" | "spec" | "containers");
        if MERGE_KEYS.contains(&key.as_str()) {
            result.set(key, value.clone());
        } else if structural || rng.chance(60) {
            let value =
                if !structural && rng.chance(6) { plain("null") } else { changed(rng, value, depth + 1) };
            result.set(key, value);
        }
    }
    if depth > 1 && rng.chance(8) {
        result.set(rng.word(&["added", "zone", "a"]), rng.word(&["new", "1"]));
    }
    if depth > 1 && rng.chance(3) {
        result.set("$patch", rng.word(&["delete", "replace", "merge"]));
    }
    result
}

fn changed_list(rng: &mut Rng, list: &[Value], depth: usize) -> Value {
    let mut result: Vec<Value> = Vec::new();
    for value in list {
        if rng.chance(70) {
            result.push(changed(rng, value, depth + 1));
        }
    }
    let named = list.first().and_then(|first| first.get("name")).is_some();
    if named && rng.chance(15) {
        let mut more = changed(rng, &list[0], depth + 1);
        more.set("name", "more");
        result.insert(rng.below(result.len() + 1), more);
    } else if !named && rng.chance(15) && list.iter().all(Value::is_scalar) {
        result.push("more".into());
    }
    if named && rng.chance(6) {
        let gone =
            map([("name", list[0].get("name").cloned().unwrap_or(plain("x"))), ("$patch", "delete".into())]);
        result.retain(|value| value.get("name") != gone.get("name"));
        result.push(gone);
    } else if list.iter().all(|value| !value.is_scalar()) && rng.chance(3) {
        result.push(map([("$patch", rng.word(&["delete", "replace"]))]));
    }
    if rng.chance(10) {
        result.reverse();
    }
    Value::List(result)
}

/// Fields whose values are strings.
const STRINGS: [&str; 7] =
    ["labels", "annotations", "matchLabels", "selector", "data", "stringData", "parameters"];

/// The operations of a JSON patch that applies to the object, if nothing on the way has changed it much.
pub(super) fn operations(rng: &mut Rng, object: &Object) -> Value {
    let all = object.places();
    let mut operations = Vec::new();
    for _ in 0..rng.between(1, 3) {
        let (operation, last) = operation(rng, object.kind, &all);
        operations.push(operation);
        if last {
            break;
        }
    }
    Value::List(operations)
}

/// An operation, and whether those after it may not find their places any more.
fn operation(rng: &mut Rng, kind: &str, all: &[Place]) -> (Value, bool) {
    let op = |op: &str, path: String, value: Value| {
        map([("op", op.into()), ("path", path.into()), ("value", value)])
    };
    let value = |rng: &mut Rng| match rng.below(6) {
        0 => map([("a", plain("1"))]),
        1 => texts(["x", "y"]),
        _ => scalar(rng),
    };
    // Where kustomize wants strings: annotations, labels, selectors, data.
    let of_strings = |place: &Place| {
        let key = |step: &Step| matches!(step, Step::Key(key) if STRINGS.contains(&key.as_str()));
        place.steps.iter().any(key)
    };
    let scalars: Vec<&Place> = all.iter().filter(|place| place.value.is_scalar()).collect();
    let any = |rng: &mut Rng, places: &[&Place]| (!places.is_empty()).then(|| rng.pick(places).pointer());
    let lists: Vec<&Place> = all.iter().filter(|place| matches!(place.value, Value::List(_))).collect();
    let maps: Vec<&Place> = all.iter().filter(|place| matches!(place.value, Value::Map(_))).collect();
    match rng.below(10) {
        0..=2 => {
            if let Some(path) = any(rng, &scalars) {
                let text = rng.word(&["replaced", "3", "on", "x:y"]).into();
                return (op("replace", path, text), false);
            }
        }
        3 => {
            if let Some(path) = any(rng, &all.iter().collect::<Vec<_>>()) {
                return (map([("op", "remove".to_owned()), ("path", path)]), true);
            }
        }
        4..=5 => {
            if let Some(place) = (!lists.is_empty()).then(|| *rng.pick(&lists)) {
                let path = place.pointer();
                let end = rng.word(&["-", "-", "0"]);
                let named = [("name", "added"), ("image", "nginx")];
                let value = if place.holds_maps() { map(named) } else { "added".into() };
                return (op("add", format!("{path}/{end}"), value), end == "0");
            }
        }
        6..=7 => {
            if let Some(place) = (!maps.is_empty()).then(|| *rng.pick(&maps)) {
                let path = place.pointer();
                let key = rng.word(&["j", "a", "x~1y", "k"]);
                let value = if of_strings(place) && rng.chance(95) { "j".into() } else { value(rng) };
                return (op("add", format!("{path}/{key}"), value), true);
            }
        }
        8 => {
            if let Some(from) = any(rng, &scalars) {
                let how = rng.word(&["copy", "move"]);
                let to = rng.word(&["/copied", "/metadata/copied"]);
                return (map([("op", how), ("from", &from), ("path", to)]), how == "move");
            }
        }
        _ => return (op("test", "/kind".into(), kind.into()), false),
    }
    (op("add", "/added".into(), value(rng)), false)
}

/// A selector that finds the object, and perhaps others.
pub(super) fn selecting(rng: &mut Rng, object: &Object) -> Value {
    let mut selector = Value::Map(Vec::new());
    let (group, version) = object.group_version();
    if rng.chance(75) {
        let kind = object.kind;
        selector.set("kind", if rng.chance(12) { format!("{}.*", &kind[..3]) } else { kind.to_owned() });
    }
    if rng.chance(60) || selector.as_map().is_empty() {
        let name = &object.name;
        selector.set(
            "name",
            match rng.below(10) {
                0 => ".*".to_owned(),
                1 => format!("{name}|web"),
                2 => format!("^{name}$"),
                _ => name.clone(),
            },
        );
    }
    if rng.chance(10) {
        selector.set("group", group);
    }
    if rng.chance(10) {
        selector.set("version", version);
    }
    if let Some(namespace) = object.namespace.filter(|_| rng.chance(30)) {
        selector.set("namespace", namespace);
    }
    if rng.chance(8) {
        selector.set("labelSelector", rng.word(&["app", "a=1", "a in (1,on)", "!a", "a!=1,b"]));
    }
    if rng.chance(4) {
        selector.set("annotationSelector", rng.word(&["a=1", "!note"]));
    }
    selector
}
