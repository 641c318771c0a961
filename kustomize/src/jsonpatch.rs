//! JSON patches (RFC 6902), with the words of the library that kustomize uses.

use flotilla_yaml::{Node, Pos, Schema, Style, Typing, Value};

use crate::error::{Fail, Res, fail};
use crate::node_ops::place_like;
use crate::notes::is_around;
use crate::work::Work;

/// The operations of one patch.
#[derive(Debug, Clone)]
pub(crate) struct JsonPatch {
    ops: Vec<Op>,
}

#[derive(Debug, Clone)]
struct Op {
    kind: Kind,
    path: String,
    from: Option<String>,
    value: Option<Node>,
    pos: Pos,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Add,
    Remove,
    Replace,
    Move,
    Copy,
    Test,
}

/// What to do about another kind of operation.
const KINDS: &str = "op is add, remove, replace, move, copy or test";
/// Steps that the smallest patch costs at least.
const APPLY: usize = 30;

impl JsonPatch {
    /// Reads a list of operations; null is an empty one.
    pub(crate) fn read(document: &Node) -> Res<Self> {
        if document.is_null() {
            return Ok(Self { ops: Vec::new() });
        }
        let Some(list) = document.as_seq() else {
            let kind = if document.is_map() { "object" } else { "string" };
            return fail!("json: cannot unmarshal {kind} into Go value of type jsonpatch.Patch: a list of operations is needed")
                .map_err(|e: Fail| e.at(document.pos));
        };
        let ops = list
            .iter()
            .enumerate()
            .map(|(n, node)| Op::read(node).map_err(|e| e.at(node.pos).field(format!("[{n}]"))));
        Ok(Self { ops: ops.collect::<Res<_>>()? })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Whether an operation copies, moves or tests all annotations of an object at once.
    pub(crate) fn meets_all_annotations(&self) -> bool {
        self.ops.iter().any(|op| match op.kind {
            Kind::Move | Kind::Copy => op.from.as_deref().is_some_and(notes_at),
            Kind::Test => notes_at(&op.path),
            _ => false,
        })
    }

    /// Applies all operations, or none if one fails.
    pub(crate) fn apply(&self, document: &mut Node, work: &Work) -> Res<()> {
        // All of it is looked at in the end, and much is made anew.
        work.spend_value(document, 0)?;
        work.spend(APPLY)?;
        check_tags(document)?;
        let mut result = document.clone().refolded();
        for op in &self.ops {
            op.apply(&mut result, work).map_err(|e| e.at(op.pos).hint(op.hint()))?;
        }
        if !result.is_map() {
            let pos = self.ops.last().map_or(document.pos, |op| op.pos);
            return Err(Fail::new("a patch has to leave a mapping of the object, not a list, text or null")
                .at(pos)
                .hint("$patch: delete in a strategic merge patch takes an object away"));
        }
        normalise(&mut result, false)?;
        *document = result.through_json_numbers();
        Ok(())
    }
}

/// Refuses an object with a value that its tag does not fit, as all of it goes through JSON.
fn check_tags(object: &Node) -> Res<()> {
    let is_misfit =
        |n: &Node| n.tag().is_some() && n.as_scalar().is_some_and(|scalar| !scalar.fits(Schema::Kustomize));
    if !object.any(&is_misfit) {
        return Ok(());
    }
    object.to_json_as(Schema::Kustomize).map(drop).map_err(|e| Fail::new(e.message).at(e.pos))
}

/// Gives scalars the form and the quotes that they have after a way through JSON, as kustomize sends a patched object
/// there and back. Later patches take the quotes over. `in_brackets`: a missing value is an empty string there.
fn normalise(node: &mut Node, in_brackets: bool) -> Res<()> {
    let is_foreign = |n: &Node| n.as_scalar().is_some_and(|s| !is_json(s)) || n.tag().is_some();
    if !node.any(&|n| n.typing != Typing::Apparent || is_foreign(n) || other_style(n).is_some()) {
        return Ok(());
    }
    let is_open = node.typing == Typing::Open;
    node.typing = Typing::Apparent;
    let inner = in_brackets || node.style == Style::Flow;
    match &mut node.value {
        Value::Scalar(scalar) => {
            if in_brackets && scalar.kind() == flotilla_yaml::Kind::Null && scalar.text().is_empty() {
                *node = Node::string("").at_pos(node.pos);
            } else if is_open || !is_json(scalar) || node.tag().is_some() {
                let json = node.to_json_as(Schema::Kustomize);
                let json = json.map_err(|e| Fail::new(e.message).at(e.pos))?;
                *node = Node::from_json(&json).at_pos(node.pos);
            }
        }
        Value::Seq(seq) => seq.iter_mut().try_for_each(|n| normalise(n, inner))?,
        Value::Map(map) => map.values_mut().try_for_each(|n| normalise(n, inner))?,
    }
    if let Some(style) = other_style(node) {
        node.style = style;
    }
    Ok(())
}

/// The style of what is written otherwise: strings as bare as can be, collections in block style.
fn other_style(node: &Node) -> Option<Style> {
    let style = match &node.value {
        Value::Scalar(scalar) if scalar.kind() == flotilla_yaml::Kind::String => scalar.barest_style(),
        Value::Seq(seq) if !seq.is_empty() => Style::Plain,
        Value::Map(map) if !map.is_empty() => Style::Plain,
        _ => return None,
    };
    (style != node.style).then_some(style)
}

fn is_json(scalar: &flotilla_yaml::Scalar) -> bool {
    use flotilla_yaml::Kind as Is;
    let text = scalar.text();
    match scalar.kind() {
        Is::String => true,
        Is::Null => text == "null",
        Is::Bool => matches!(text, "true" | "false"),
        Is::Int => text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0')),
        Is::Float | Is::Timestamp => false,
    }
}

/// A value with the meaning that JSON gives it, at its positions in the patch.
fn json_value(node: &Node) -> Res<Node> {
    let json = node.to_json_last_key().map_err(|e| Fail::new(e.message).at(e.pos))?;
    let mut value = Node::from_json(&json).through_json_numbers();
    place_like(&mut value, node);
    Ok(value)
}

impl Op {
    fn read(node: &Node) -> Res<Self> {
        if !node.is_map() {
            return fail!("json: cannot unmarshal string into Go value of type jsonpatch.Operation");
        }
        let part = |name: &str| node.get(name).and_then(Node::text).map(str::to_owned);
        let kind = match part("op").as_deref() {
            Some("add") => Kind::Add,
            Some("remove") => Kind::Remove,
            Some("replace") => Kind::Replace,
            Some("move") => Kind::Move,
            Some("copy") => Kind::Copy,
            Some("test") => Kind::Test,
            Some(other) => {
                return fail!("Unexpected kind: {other}").map_err(|e: Fail| e.field("op").hint(KINDS));
            }
            None => {
                return fail!("operation missing op field: missing value").map_err(|e: Fail| e.hint(KINDS));
            }
        };
        let Some(path) = part("path") else { return fail!("operation missing path field: missing value") };
        let from = part("from");
        if matches!(kind, Kind::Move | Kind::Copy) && from.is_none() {
            return fail!("operation, missing from field: missing value");
        }
        let value = match node.get("value") {
            Some(value) => Some(json_value(value)?),
            None if matches!(kind, Kind::Add | Kind::Replace) => Some(Node::null().at_pos(node.pos)),
            None => None,
        };
        Ok(Self { kind, path, from, value, pos: node.pos })
    }

    /// What to do where it does not apply.
    fn hint(&self) -> String {
        let paths = [Some(&self.path), self.from.as_ref()].into_iter().flatten();
        match paths.filter(|path| !path.is_empty()).find(|path| !path.starts_with('/')) {
            Some(path) => format!(
                "a path begins with a slash, like /{path}: what stands before the first one is left out"
            ),
            None => "the object is meant as it is when the patch comes: after those above, and the bases"
                .to_owned(),
        }
    }

    fn apply(&self, document: &mut Node, work: &Work) -> Res<()> {
        let path = self.path.as_str();
        let depth = path.matches('/').count();
        work.spend(depth + 1)?;
        if let Some(value) = &self.value {
            work.spend_value(value, depth)?;
        }
        let value = || self.value.clone().unwrap_or_else(Node::null);
        match self.kind {
            Kind::Add => add(document, path, value(), "add"),
            Kind::Remove => remove(document, path, "remove").map(drop),
            Kind::Replace => {
                if path.is_empty() {
                    *document = value();
                    return Ok(());
                }
                let Some((parent, key)) = parent(document, path) else {
                    return fail!(
                        "replace operation does not apply: doc is missing path: {path}: missing value"
                    );
                };
                match &mut parent.value {
                    // Unlike the RFC, a key that is not there is added.
                    Value::Map(map) => {
                        map.insert(key, value());
                    }
                    _ => match child(parent, &key) {
                        Some(old) => *old = value(),
                        None => {
                            return fail!(
                                "replace operation does not apply: doc is missing key: {path}: missing value"
                            );
                        }
                    },
                }
                Ok(())
            }
            Kind::Test => {
                let found = if path.is_empty() {
                    Some(document.clone())
                } else {
                    let Some((parent, key)) = parent(document, path) else {
                        return fail!(
                            "test operation does not apply: is missing path: {path}: missing value"
                        );
                    };
                    let found = child(parent, &key).cloned();
                    if found.is_none() && parent.is_seq() {
                        return fail!(
                            "error in test for path: '{path}': Unable to access invalid index: {key}: invalid index referenced"
                        );
                    }
                    found
                };
                let same = match (&found, &self.value) {
                    (None, None) => true,
                    (Some(found), Some(value)) => same_json(found, value),
                    (None, Some(value)) => value.is_null(),
                    (Some(found), None) => found.is_null(),
                };
                if same { Ok(()) } else { fail!("testing value {path} failed: test failed") }
            }
            Kind::Move => {
                let from = self.from.as_deref().unwrap_or_default();
                let moved = remove(document, from, "move")?;
                work.spend_value(&moved, depth)?;
                add(document, path, moved, "move")
            }
            Kind::Copy => {
                let from = self.from.as_deref().unwrap_or_default();
                let copied = parent(document, from).and_then(|(parent, key)| match parent.is_map() {
                    true => Some(child(parent, &key).cloned().unwrap_or_else(Node::null)),
                    false => child(parent, &key).cloned(),
                });
                let Some(copied) = copied else {
                    return fail!(
                        "copy operation does not apply: doc is missing from path: {from}: missing value"
                    );
                };
                work.spend_value(&copied, depth)?;
                add(document, path, copied, "copy")
            }
        }
    }
}

fn notes_at(path: &str) -> bool {
    is_around(path.split('/').skip(1))
}

/// Whether two values are the same JSON; the order of keys does not count.
fn same_json(a: &Node, b: &Node) -> bool {
    match (&a.value, &b.value) {
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|e| b.get(e.key.text().unwrap_or_default()).is_some_and(|v| same_json(&e.value, v)))
        }
        (Value::Seq(a), Value::Seq(b)) => {
            a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| same_json(a, b))
        }
        _ => a == b || (a.as_f64().is_some() && a.as_f64() == b.as_f64()),
    }
}

fn unescape(part: &str) -> String {
    part.replace("~1", "/").replace("~0", "~")
}

/// The collection that a pointer's last part names something in, and that part.
fn parent<'a>(document: &'a mut Node, path: &str) -> Option<(&'a mut Node, String)> {
    let mut parts = path.split('/').skip(1).peekable();
    parts.peek()?;
    let mut node = document;
    loop {
        let part = unescape(parts.next()?);
        if parts.peek().is_none() {
            return (node.is_map() || node.is_seq()).then_some((node, part));
        }
        node = child(node, &part)?;
    }
}

fn index(key: &str, len: usize) -> Option<usize> {
    let index: i64 = key.parse().ok()?;
    let index = if index < 0 { index + len as i64 } else { index };
    usize::try_from(index).ok()
}

fn child<'a>(node: &'a mut Node, key: &str) -> Option<&'a mut Node> {
    match &mut node.value {
        Value::Map(map) => map.get_mut(key),
        Value::Seq(seq) => {
            let index = index(key, seq.len()).filter(|n| *n < seq.len())?;
            seq.get_mut(index)
        }
        Value::Scalar(_) => None,
    }
}

fn add(document: &mut Node, path: &str, value: Node, op: &str) -> Res<()> {
    if path.is_empty() && op == "add" {
        *document = value;
        return Ok(());
    }
    let Some((parent, key)) = parent(document, path) else {
        if op == "add" {
            return fail!("add operation does not apply: doc is missing path: \"{path}\": missing value");
        }
        return fail!(
            "{op} operation does not apply: doc is missing destination path: {path}: missing value"
        );
    };
    match &mut parent.value {
        Value::Map(map) => {
            map.insert(key, value);
        }
        Value::Seq(seq) if key == "-" => seq.push(value),
        Value::Seq(seq) => {
            if key.parse::<i64>().is_err() {
                return fail!(
                    "error in {op} for path: '{path}': value was not a proper array index: '{key}'"
                );
            }
            match index(&key, seq.len() + 1).filter(|n| *n <= seq.len()) {
                Some(n) => seq.insert(n, value),
                None => {
                    return fail!(
                        "error in {op} for path: '{path}': Unable to access invalid index: {key}: invalid index referenced"
                    );
                }
            }
        }
        Value::Scalar(_) => {}
    }
    Ok(())
}

fn remove(document: &mut Node, path: &str, op: &str) -> Res<Node> {
    let Some((parent, key)) = parent(document, path) else {
        let what = if op == "move" { format!("from path: {path}") } else { format!("path: \"{path}\"") };
        return fail!("{op} operation does not apply: doc is missing {what}: missing value");
    };
    let removed = match &mut parent.value {
        Value::Map(map) => map.remove(&key),
        Value::Seq(seq) => {
            let Some(n) = index(&key, seq.len()).filter(|n| *n < seq.len()) else {
                return fail!(
                    "error in {op} for path: '{path}': Unable to access invalid index: {key}: invalid index referenced"
                );
            };
            Some(seq.remove(n))
        }
        Value::Scalar(_) => None,
    };
    match removed {
        Some(node) => Ok(node),
        None => {
            fail!("error in {op} for path: '{path}': Unable to remove nonexistent key: {key}: missing value")
        }
    }
}
