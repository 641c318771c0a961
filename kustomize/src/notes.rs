//! What kustomize remembers about an object, it keeps in annotations of that object. Here it stands in [`Resource`];
//! it is put into the object, and read back, around what copies, replaces or tests all annotations at once:
//!
//! ```text
//! - source: {kind: ConfigMap, fieldPath: metadata.annotations}    the target gets kustomize's notes too
//! - {op: copy, from: /metadata/annotations, path: /data}
//! annotations: {$patch: replace}                                  and here they are lost, so references are
//! ```

use flotilla_yaml::{Map, Node, Value};

use crate::error::Res;
use crate::node_ops::{map_under, put_string, text};
use crate::resource::{Behavior, Previous, Resource};

const KINDS: &str = "internal.config.kubernetes.io/previousKinds";
const NAMES: &str = "internal.config.kubernetes.io/previousNames";
const NAMESPACES: &str = "internal.config.kubernetes.io/previousNamespaces";
const PREFIXES: &str = "internal.config.kubernetes.io/prefixes";
const SUFFIXES: &str = "internal.config.kubernetes.io/suffixes";
const NAME_CHANGE: &str = "internal.config.kubernetes.io/allowNameChange";
const KIND_CHANGE: &str = "internal.config.kubernetes.io/allowKindChange";
const BEHAVIOR: &str = "internal.config.kubernetes.io/generatorBehavior";
const NEEDS_HASH: &str = "internal.config.kubernetes.io/needsHashSuffix";
const ALL: [&str; 9] =
    [KINDS, NAMES, NAMESPACES, PREFIXES, SUFFIXES, NAME_CHANGE, KIND_CHANGE, BEHAVIOR, NEEDS_HASH];

/// Whether a path names all annotations of an object, or what they are in.
pub(crate) fn is_around<'a>(path: impl IntoIterator<Item = &'a str>) -> bool {
    let mut path = path.into_iter();
    ["metadata", "annotations"].into_iter().all(|key| path.next().is_none_or(|part| part == key))
        && path.next().is_none()
}

/// Whether a patch says by a directive what becomes of all annotations.
pub(crate) fn is_directed(patch: &Node) -> bool {
    [&["metadata"][..], &["metadata", "annotations"]]
        .iter()
        .any(|path| patch.at(path).and_then(|n| n.get("$patch")).is_some())
}

/// Whether there are notes, and so annotations that hold them.
pub(crate) fn has(resource: &Resource) -> bool {
    !resource.previous.is_empty() || resource.needs_hash || resource.behavior.is_some()
}

/// Whether a manifest has notes in its annotations, which kustomize takes for its own.
pub(crate) fn are_written(resource: &Resource) -> bool {
    let annotations = resource.node.at(&["metadata", "annotations"]).and_then(Node::as_map);
    annotations.is_some_and(|map| map.keys().any(|key| ALL.contains(&key)))
}

/// Puts the notes into the object's annotations.
pub(crate) fn show(resource: &mut Resource) -> Res<()> {
    let notes = notes(resource);
    if notes.is_empty() {
        return Ok(());
    }
    let pos = resource.pos;
    let metadata = map_under(&mut resource.node, "metadata")?;
    let annotations = metadata.get_or_insert_with("annotations", || Node::map().at_pos(pos));
    if annotations.is_null() {
        annotations.value = Value::Map(Map::default());
    }
    if let Some(annotations) = annotations.as_map_mut() {
        notes.iter().for_each(|(key, value)| put_string(annotations, key, value, pos));
    }
    Ok(())
}

/// Takes the notes out of the object's annotations again, and what they say by now into the resource.
pub(crate) fn read_back(resource: &mut Resource) {
    let note = |key: &str| resource.annotation(key).unwrap_or_default().to_owned();
    let list = |key: &str| -> Vec<String> {
        Some(note(key))
            .filter(|t| !t.is_empty())
            .map_or(Vec::new(), |t| t.split(',').map(str::to_owned).collect())
    };
    let (kinds, names, namespaces) = (list(KINDS), list(NAMES), list(NAMESPACES));
    let ids = names.iter().zip(&kinds).zip(&namespaces);
    let previous = ids.map(|((name, kind), namespace)| Previous {
        kind: kind.into(),
        name: name.into(),
        namespace: namespace.into(),
    });
    let behavior = resource.annotation(BEHAVIOR).map(Behavior::read);
    let is_on = |key: &str| note(key) == "enabled";
    let switches = [is_on(NAME_CHANGE), is_on(KIND_CHANGE), is_on(NEEDS_HASH)];
    (resource.previous, resource.prefixes, resource.suffixes) =
        (previous.collect(), list(PREFIXES), list(SUFFIXES));
    [resource.allow_name_change, resource.allow_kind_change, resource.needs_hash] = switches;
    resource.behavior = behavior;
    hide(resource);
}

/// Takes the notes out of the object's annotations again, whatever they say by now.
pub(crate) fn hide(resource: &mut Resource) {
    if let Some(annotations) = resource.node.at_mut(&["metadata", "annotations"]).and_then(Node::as_map_mut) {
        annotations.retain(|entry| !ALL.contains(&text(&entry.key)));
    }
}

fn notes(resource: &Resource) -> Vec<(&'static str, String)> {
    let ids = |part: fn(&Previous) -> &str| resource.previous.iter().map(part).collect::<Vec<_>>().join(",");
    let switch = |on: bool| if on { "enabled".to_owned() } else { String::new() };
    let all = [
        (KINDS, ids(|p| &p.kind)),
        (NAMES, ids(|p| &p.name)),
        (NAMESPACES, ids(|p| &p.namespace)),
        (PREFIXES, resource.prefixes.join(",")),
        (SUFFIXES, resource.suffixes.join(",")),
        (NAME_CHANGE, switch(resource.allow_name_change)),
        (KIND_CHANGE, switch(resource.allow_kind_change)),
        (BEHAVIOR, resource.behavior.map_or("", Behavior::as_str).to_owned()),
        (NEEDS_HASH, switch(resource.needs_hash)),
    ];
    all.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}
