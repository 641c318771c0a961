//! Small changes to nodes, with kyaml's rules about which style and kind a scalar keeps.

use flotilla_yaml::{Entry, Kind, Map, Node, Pos, Scalar, SmolStr, Style, Typing, Value};

use crate::error::{Fail, Res, fail};

/// Whether quotes or block style make a scalar a string.
pub(crate) fn is_quoted(node: &Node) -> bool {
    matches!(node.style, Style::SingleQuoted | Style::DoubleQuoted | Style::Literal | Style::Folded)
}

/// Whether a string stands without quotes that looks like something else, perhaps to YAML 1.1 only.
pub(crate) fn is_bare_ambiguous(node: &Node) -> bool {
    node.style == Style::Plain && node.as_scalar().is_some_and(|s| s.is_old_bool() || s.is_string_by_quotes())
}

/// Sets the text of a scalar, which then has no type of its own: it stays a string where it was quoted, else it means
/// what it looks like, until something looks at it. `pos` is where it is set.
pub(crate) fn set_text(node: &mut Node, text: &str, pos: Pos) {
    let quoted = is_quoted(node);
    node.value = Value::Scalar(if quoted { Scalar::string(text) } else { Scalar::plain(text) });
    node.typing = if quoted { Typing::Apparent } else { Typing::Open };
    node.pos = pos;
}

/// Sets a scalar to a string.
pub(crate) fn set_string(node: &mut Node, text: &str, pos: Pos) {
    node.value = Value::Scalar(Scalar::string(text));
    node.typing = Typing::Apparent;
    node.pos = pos;
    if node.style == Style::Flow {
        node.style = Style::Plain;
    }
}

/// Makes a string of a scalar that has no type yet, as kustomize does where it looks at the field.
pub(crate) fn resolve_as_string(node: &mut Node) {
    if node.typing == Typing::Open {
        node.typing = Typing::Apparent;
        node.value = Value::Scalar(Scalar::string(node.text().unwrap_or_default()));
    }
}

/// As [`resolve_as_string`], if it looks like something else: what kustomize puts quotes around. Strings get quotes too
/// that look like something else.
pub(crate) fn quote_ambiguous(node: &mut Node) {
    let looks_otherwise = |s: &Scalar| s.kind() != Kind::String && !s.text().is_empty();
    let is_open = node.typing == Typing::Open && node.as_scalar().is_some_and(looks_otherwise);
    if is_open {
        resolve_as_string(node);
    }
    if (is_open && node.style == Style::Plain) || is_bare_ambiguous(node) {
        node.style = Style::DoubleQuoted;
    }
}

/// The text of a scalar; "" for null and for what is no scalar.
pub(crate) fn text(node: &Node) -> &str {
    node.as_scalar().filter(|s| s.kind() != Kind::Null).map_or("", Scalar::text)
}

/// The text at a path of keys; "" where there is none.
pub(crate) fn text_at<'a>(node: &'a Node, path: &[&str]) -> &'a str {
    node.at(path).map_or("", text)
}

/// The mapping under a key, made where it is missing or null.
pub(crate) fn map_under<'a>(node: &'a mut Node, key: &str) -> Res<&'a mut Map> {
    let pos = node.pos;
    if !node.is_map() {
        return Err(wrong_kind("MappingNode", node));
    }
    let map = node.as_map_mut().expect("checked above");
    let child = map.get_or_insert_with(key, Node::map);
    if child.is_null() {
        child.value = Value::Map(Map::default());
    }
    if !child.is_map() {
        return Err(wrong_kind("MappingNode", child).at(pos));
    }
    Ok(child.as_map_mut().expect("checked above"))
}

/// Sets a string under a key, in its place if the key is there.
pub(crate) fn put_string(map: &mut Map, key: &str, value: &str, pos: Pos) {
    match map.get_mut(key) {
        Some(node) => set_string(node, value, pos),
        None => map.push(Node::string(key), Node::string(value).at_pos(pos)),
    }
}

/// The strings of a mapping as kyaml reads labels and annotations: texts of scalars, "" for the rest.
pub(crate) fn string_map(node: Option<&Node>) -> Vec<(SmolStr, SmolStr)> {
    let Some(map) = node.and_then(Node::as_map) else { return Vec::new() };
    map.iter()
        .map(|e| (e.key.text().unwrap_or_default().into(), e.value.text().unwrap_or_default().into()))
        .collect()
}

/// A mapping of strings.
pub(crate) fn map_of_strings<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Node {
    let entries = pairs.into_iter().map(|(k, v)| Entry { key: Node::string(k), value: Node::string(v) });
    Node::from(entries.collect::<Map>())
}

/// The error of a node that is something else than the operation needs.
pub(crate) fn wrong_kind(expected: &str, node: &Node) -> Fail {
    let actual = match node.value {
        Value::Scalar(_) => "ScalarNode",
        Value::Seq(_) => "SequenceNode",
        Value::Map(_) => "MappingNode",
    };
    let contents = flotilla_yaml::write(node);
    Fail::new(format!("wrong node kind: expected {expected} but got {actual}: node contents:\n{contents}"))
        .at(node.pos)
}

/// Gives a node and all in it a position, where it has none.
pub(crate) fn stamp(node: &mut Node, pos: Pos) {
    if node.pos.source == 0 {
        node.pos = pos;
    }
    match &mut node.value {
        Value::Scalar(_) => {}
        Value::Seq(seq) => seq.iter_mut().for_each(|n| stamp(n, pos)),
        Value::Map(map) => map.values_mut().for_each(|n| stamp(n, pos)),
    }
}

/// Splits a path at `/` (or another separator); a backslash before the separator keeps it in the part.
pub(crate) fn split_path(path: &str, separator: char) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    let path = if path.len() > 1 { path.strip_prefix(separator).unwrap_or(path) } else { path };
    for part in path.split(separator) {
        match parts.last_mut() {
            Some(last) if last.ends_with('\\') => {
                last.pop();
                last.push(separator);
                last.push_str(part);
            }
            _ => parts.push(part.to_owned()),
        }
    }
    parts
}

/// As [`split_path`] at dots, with `[a.b]` one key and `[name=a.b]` one part that keeps its brackets.
pub(crate) fn split_field_path(path: &str) -> Vec<String> {
    let parts = split_path(path, '.');
    let mut result = Vec::with_capacity(parts.len());
    let mut rest = parts.into_iter();
    while let Some(part) = rest.next() {
        if !part.starts_with('[') || part.ends_with(']') {
            result.push(part);
            continue;
        }
        let mut whole = part;
        for next in rest.by_ref() {
            whole.push('.');
            whole.push_str(&next);
            if next.ends_with(']') {
                break;
            }
        }
        if whole.contains('=') {
            result.push(whole);
        } else {
            result.push(whole.trim_matches(|c| c == '[' || c == ']').to_owned());
        }
    }
    result
}

/// The `name` and `value` of a part `[name=value]`.
pub(crate) fn index_name_value(part: &str) -> Res<(&str, &str)> {
    let inner = part.strip_prefix('[').and_then(|p| p.strip_suffix(']')).unwrap_or(part);
    match inner.split_once('=') {
        Some(pair) => Ok(pair),
        None => fail!("list path element must contain fieldName=fieldValue for element to match"),
    }
}

pub(crate) fn is_list_index(part: &str) -> bool {
    part.starts_with('[') && part.ends_with(']')
}

/// Gives a node the positions of another one that has the same keys and items. What is below a key that was written otherwise
/// (`yes` for `true`) has the position of the mapping.
pub(crate) fn place_like(node: &mut Node, like: &Node) {
    node.pos = like.pos;
    match (&mut node.value, &like.value) {
        (Value::Map(map), Value::Map(entries)) => {
            for entry in map.entries_mut() {
                match entry.key.text().and_then(|key| entries.get(key)) {
                    Some(like) => place_like(&mut entry.value, like),
                    None => place_at(&mut entry.value, like.pos),
                }
            }
        }
        (Value::Seq(seq), Value::Seq(like)) => {
            seq.iter_mut().zip(like.iter()).for_each(|(node, like)| place_like(node, like));
        }
        _ => {}
    }
}

/// Gives a node and all below it one position.
fn place_at(node: &mut Node, pos: Pos) {
    node.pos = pos;
    match &mut node.value {
        Value::Map(map) => map.values_mut().for_each(|value| place_at(value, pos)),
        Value::Seq(seq) => seq.iter_mut().for_each(|item| place_at(item, pos)),
        Value::Scalar(_) => {}
    }
}

/// Takes away how values are written: they are read where they are, and not as text that was written from them. What took
/// over quotes is no string by them.
pub(crate) fn drop_styles(node: &mut Node) {
    node.style = Style::Plain;
    let is_bare = node.typing == Typing::NotString && node.tag().is_none();
    match &mut node.value {
        Value::Scalar(scalar) => {
            if is_bare {
                *scalar = Scalar::plain(scalar.text());
            }
        }
        Value::Seq(seq) => seq.iter_mut().for_each(drop_styles),
        Value::Map(map) => map.values_mut().for_each(drop_styles),
    }
}

/// The style of a value that kustomize makes, which a later patch takes over: quotes for what YAML 1.1 reads as something else
/// than a text, were it a document, and never for several lines.
pub(crate) fn style_of_new(text: &str) -> Style {
    if text.is_empty() || text.contains('\n') || text.trim_matches('\t').is_empty() {
        return Style::Plain;
    }
    let is_word = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/'));
    let read = if is_word {
        Node::plain(text)
    } else {
        match flotilla_yaml::parse_first(text, &flotilla_yaml::Options::default()) {
            Ok(first) => first.document,
            Err(_) => return Style::Plain,
        }
    };
    let is_text = read.tag().is_some()
        || read.as_scalar().is_some_and(|s| {
            matches!(s.kind(), Kind::String | Kind::Timestamp) && !(is_word && s.is_old_bool())
        });
    if is_text { Style::Plain } else { Style::DoubleQuoted }
}
