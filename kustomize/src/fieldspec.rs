//! Field specs: which fields of which kinds a transformer changes, and the walk to those fields.
//!
//! A path is `/`-separated; lists on the way are entered without being named. `name[]` says that the field is a
//! list and is never created.

use flotilla_yaml::{Map, Node, Pos, Scalar, Seq, Value};

use crate::error::{Fail, Res, fail};
use crate::gvk::{Gvk, ResId};
use crate::node_ops::{split_path, text_at};
use crate::work::check_path;

/// One entry of a transformer's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FieldSpec {
    pub(crate) gvk: Gvk,
    pub(crate) path: String,
    pub(crate) create: bool,
    parts: Vec<String>,
}

/// What a missing field is created as, where the spec allows it, and the place that made it so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Create {
    No,
    Scalar(Pos),
    Map(Pos),
}

impl FieldSpec {
    pub(crate) fn new(gvk: Gvk, path: &str, create: bool) -> Self {
        Self { gvk, path: path.to_owned(), create, parts: split_path(path, '/') }
    }

    /// For all kinds.
    pub(crate) fn any(path: &str, create: bool) -> Self {
        Self::new(Gvk::default(), path, create)
    }

    /// Whether its path is of a length that can be walked.
    pub(crate) fn check(&self) -> Res<()> {
        check_path(&self.parts)
    }

    fn covers(&self, other: &FieldSpec) -> bool {
        self.gvk.is_selected(&other.gvk) && self.path == other.path
    }

    /// Calls `set` on each field of the object that the spec leads to.
    pub(crate) fn apply(
        &self,
        object: &mut Node,
        create: Create,
        set: &mut dyn FnMut(&mut Node) -> Res<()>,
    ) -> Res<()> {
        if !self.gvk.selects(text_at(object, &["apiVersion"]), text_at(object, &["kind"])) {
            return Ok(());
        }
        self.apply_to_any(object, create, set)
    }

    /// As [`apply`](Self::apply), whatever the object's kind.
    pub(crate) fn apply_to_any(
        &self,
        object: &mut Node,
        create: Create,
        set: &mut dyn FnMut(&mut Node) -> Res<()>,
    ) -> Res<()> {
        let create = if self.create { create } else { Create::No };
        if !reaches(object, &self.parts, create) {
            return Ok(());
        }
        walk(object, &self.parts, create, set).map_err(|e| {
            let id = ResId {
                gvk: Gvk::new(text_at(object, &["apiVersion"]), text_at(object, &["kind"])),
                name: text_at(object, &["metadata", "name"]).into(),
                namespace: text_at(object, &["metadata", "namespace"]).into(),
                cluster: false,
            };
            e.at(object.pos)
                .field(self.path.replace('/', "."))
                .context(format!("considering field '{}' of object {id}", self.path))
        })
    }
}

/// Adds specs that are not there yet.
pub(crate) fn merge(specs: &mut Vec<FieldSpec>, more: &[FieldSpec]) -> Res<()> {
    for spec in more {
        match specs.iter().find(|s| s.covers(spec)) {
            Some(known) if known.create != spec.create => {
                return fail!(
                    "conflicting fieldspecs: {} with create: {} and {}",
                    spec.path,
                    known.create,
                    spec.create
                );
            }
            Some(_) => {}
            None => specs.push(spec.clone()),
        }
    }
    Ok(())
}

fn name_of(part: &str) -> (&str, bool) {
    let (name, is_seq) = part.strip_suffix("[]").map_or((part, false), |name| (name, true));
    (name.trim(), is_seq)
}

/// Why a part of a path is no field's name. kustomize takes it for an item of a list, and lists are entered unnamed.
fn no_name(part: &str) -> Option<&'static str> {
    let is_item = match part.bytes().next()? {
        b'0'..=b'9' | b'+' | b'-' => part == "-" || part.parse::<i64>().is_ok(),
        b'[' => part.ends_with(']'),
        b'*' if part == "*" => {
            return Some("is not a field name (wildcard is not supported in PathGetter)");
        }
        _ => false,
    };
    is_item.then_some(
        "is an item of a list, where a mapping is (wrong node kind: expected SequenceNode but got MappingNode)",
    )
}

/// Whether the walk would change or refuse anything, found out without copying what is shared.
fn reaches(node: &Node, parts: &[String], create: Create) -> bool {
    let Some((part, rest)) = parts.split_first() else { return true };
    if node.is_null() {
        return false;
    }
    match &node.value {
        Value::Seq(seq) => seq.iter().any(|n| reaches(n, parts, create)),
        Value::Scalar(_) => true,
        Value::Map(map) => {
            let (name, is_seq) = name_of(part);
            if no_name(name).is_some() {
                return true;
            }
            match map.get(name) {
                Some(child) if child.is_null() => rest.is_empty() || is_seq || create != Create::No,
                Some(child) => reaches(child, rest, create),
                None => name.is_empty() || (create != Create::No && !is_seq),
            }
        }
    }
}

fn walk(
    node: &mut Node,
    parts: &[String],
    create: Create,
    set: &mut dyn FnMut(&mut Node) -> Res<()>,
) -> Res<()> {
    let Some((part, rest)) = parts.split_first() else { return set(node) };
    if node.is_null() {
        return Ok(());
    }
    let pos = node.pos;
    match &mut node.value {
        Value::Scalar(_) => Err(Fail::new("expected sequence or mapping node").at(pos)),
        Value::Seq(seq) => {
            if seq.iter().any(|n| reaches(n, parts, create)) {
                for item in seq.iter_mut() {
                    walk(item, parts, create, set)?;
                }
            }
            Ok(())
        }
        Value::Map(map) => {
            let (name, is_seq) = name_of(part);
            if name.is_empty() {
                return fail!("cannot set or create an empty field name");
            }
            if let Some(why) = no_name(name) {
                return fail!("fieldName: {name}: {why}").map_err(|e: Fail| e.at(pos));
            }
            let kind = match create {
                _ if is_seq => Create::No,
                Create::No => Create::No,
                kind if rest.is_empty() => kind,
                Create::Scalar(pos) | Create::Map(pos) => Create::Map(pos),
            };
            if !map.contains_key(name) {
                if kind == Create::No {
                    return Ok(());
                }
                map.push(Node::string(name), empty(kind));
            }
            let child = map.get_mut(name).expect("found or made above");
            if child.is_null() {
                match kind {
                    Create::No if is_seq => child.value = Value::Seq(Seq::default()),
                    Create::No => {}
                    kind => child.value = empty(kind).value,
                }
            }
            walk(child, rest, create, set)
        }
    }
}

fn empty(kind: Create) -> Node {
    match kind {
        Create::Map(pos) => Node::from(Map::default()).at_pos(pos),
        Create::Scalar(pos) => Node::from(Scalar::string("")).at_pos(pos),
        Create::No => Node::null(),
    }
}
