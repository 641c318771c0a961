//! Reading typed values out of a tree, the way Go's JSON decoder reads them: field names without regard to case,
//! unknown ones refused where the reader is strict, null as absent; with the position of what is wrong.

use std::collections::BTreeMap;

use flotilla_yaml::{Kind, Node, Pos, Scalar, Style};

use crate::error::{Fail, Res};

/// A text and where it stands.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Text {
    pub(crate) text: String,
    pub(crate) pos: Pos,
    /// Whether it was written as a literal block, line by line as it is.
    block: bool,
}

impl Text {
    pub(crate) fn new(text: impl Into<String>, pos: Pos) -> Self {
        Self { text: text.into(), pos, block: false }
    }

    /// The text without white space at its end.
    pub(crate) fn trim_end(&self) -> Self {
        Self { text: self.text.trim_end().to_owned(), ..self.clone() }
    }

    /// Where something stands that was read from the text: to the line in a block, at its beginning otherwise.
    pub(crate) fn inside(&self, pos: Pos) -> Pos {
        if !self.block || pos.line == 0 {
            return self.pos;
        }
        let (line, column) = (self.pos.line + pos.line - 1, (self.pos.column + pos.column).saturating_sub(1));
        Pos { source: self.pos.source, line, column }
    }
}

/// What becomes of unknown fields, and of scalars where a string belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// Both are an error, as in a kustomization.
    Refuse,
    /// Fields are passed over and scalars count by their text (a float by its shortest of 32 bits), as in the configuration
    /// of a plugin.
    Ignore,
    /// Fields are passed over and scalars become the text that Go gives to their value, as where Flux's generator reads a
    /// kustomization (`sigs.k8s.io/yaml`) to write it anew.
    Convert,
    /// Fields are passed over, and a scalar where a string belongs is an error: below a field of an embedded struct of Go,
    /// whose types that generator does not find.
    Embedded,
}

impl Unknown {
    /// The same below a field that stands in an embedded struct.
    pub(crate) fn embedded(self) -> Self {
        if self == Self::Convert { Self::Embedded } else { self }
    }
}

/// The known fields of an object with their values, in the order of the text; nulls are left out.
pub(crate) fn fields<'a>(
    node: &'a Node,
    known: &[&'static str],
    unknown: Unknown,
) -> Res<Vec<(&'static str, &'a Node)>> {
    if node.is_null() {
        return Ok(Vec::new());
    }
    let Some(map) = node.as_map() else {
        return Err(mismatch(node, "object"));
    };
    let mut result = Vec::with_capacity(map.len());
    for entry in map {
        let key = entry.key.text().unwrap_or_default();
        let exact = known.iter().find(|k| **k == key);
        let Some(name) = exact.or_else(|| known.iter().find(|k| k.eq_ignore_ascii_case(key))) else {
            if unknown == Unknown::Refuse {
                if !entry.key.is_scalar() {
                    let fail = Fail::new("a list or mapping as the name of a field").at(entry.key.pos);
                    return Err(fail.hint("braces that are part of a text need quotes around it"));
                }
                let fail = Fail::new(format!("json: unknown field \"{key}\"")).at(entry.key.pos).field(key);
                return Err(match known.iter().find(|name| is_near(key, name)) {
                    Some(name) => fail.hint(format!("is '{name}' meant?")),
                    None => fail.hint(format!("known here are {}", known.join(", "))),
                });
            }
            continue;
        };
        if !entry.value.is_null() {
            result.push((*name, &entry.value));
        }
    }
    Ok(result)
}

/// Whether a name is another one but for a letter or two.
pub(crate) fn is_near(a: &str, b: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let change = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = change.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()] <= 2 && b.len() > 3
}

pub(crate) fn kind_of(node: &Node) -> &'static str {
    match node.as_scalar().map(|s| s.kind()) {
        None if node.is_map() => "object",
        None => "array",
        Some(Kind::Null) => "null",
        Some(Kind::Bool) => "bool",
        Some(Kind::Int | Kind::Float) => "number",
        Some(Kind::String | Kind::Timestamp) => "string",
    }
}

fn mismatch(node: &Node, wanted: &str) -> Fail {
    let fail = Fail::new(format!("json: cannot unmarshal {} into a field of type {wanted}", kind_of(node)));
    let hint = match wanted {
        "array" => "write a list, an item a line: `- item`",
        "object" => "write fields with their values: `field: value`",
        "string" if !node.is_scalar() => "write a text",
        _ => return fail.at(node.pos),
    };
    fail.at(node.pos).hint(hint)
}

/// YAML 1.1's other booleans, which the kustomization file's reader knows and the resources' does not.
fn is_old_bool(node: &Node) -> bool {
    let text = node.text().unwrap_or_default();
    if node.style != Style::Plain || node.tag().is_some() || text.len() > 3 {
        return false;
    }
    ["y", "n", "yes", "no", "on", "off"].iter().any(|word| {
        let lower = *word == text;
        let upper = word.to_ascii_uppercase() == text;
        let title = text.len() > 1 && text.starts_with(|c: char| c.is_ascii_uppercase());
        lower || upper || (title && word.eq_ignore_ascii_case(text) && text[1..] == word[1..])
    })
}

/// A string. In a kustomization file nothing else will do; in a plugin's configuration a number or boolean is
/// taken by its text.
pub(crate) fn string(node: &Node, unknown: Unknown) -> Res<String> {
    let Some(scalar) = node.as_scalar() else { return Err(mismatch(node, "string")) };
    // What the generators and transformers are given goes through JSON.
    let text = &*flotilla_yaml::fold_next_lines(scalar.text().into());
    let not_string = |fail: Fail| fail.hint(format!("put quotes around {text}"));
    match scalar.kind() {
        Kind::Null => Ok(String::new()),
        Kind::Float if unknown == Unknown::Ignore => Ok(scalar.short_float().unwrap_or_default()),
        _ if unknown == Unknown::Ignore => Ok(text.to_owned()),
        _ if unknown == Unknown::Convert => Ok(converted(node, text)),
        Kind::String | Kind::Timestamp if is_old_bool(node) => {
            let message = "json: cannot unmarshal bool into a field of type string";
            Err(not_string(Fail::new(message).at(node.pos)))
        }
        Kind::String if node.tag() == Some("!!binary") => {
            let decoded = node.to_json().map_err(|e| Fail::new(e.message).at(e.pos))?;
            Ok(decoded.as_str().unwrap_or_default().to_owned())
        }
        Kind::String | Kind::Timestamp => Ok(text.to_owned()),
        Kind::Bool | Kind::Int | Kind::Float => Err(not_string(mismatch(node, "string"))),
    }
}

/// A scalar's value as text: `yes` is `true`, `0x10` is `16`, `1.50` is `1.5`.
fn converted(node: &Node, text: &str) -> String {
    if let Ok(value) = boolean(node) {
        return value.to_string();
    }
    match (node.as_scalar().map(|scalar| scalar.kind()), node.to_json()) {
        (Some(Kind::Int), Ok(number)) => number.to_string(),
        (Some(Kind::Float), _) => {
            node.as_scalar().and_then(Scalar::short_float).unwrap_or_else(|| text.to_owned())
        }
        _ => text.to_owned(),
    }
}

pub(crate) fn text(node: &Node, unknown: Unknown) -> Res<Text> {
    let block = node.style == Style::Literal;
    Ok(Text { text: string(node, unknown)?, pos: node.pos, block })
}

pub(crate) fn boolean(node: &Node) -> Res<bool> {
    if let Some(value) = node.as_bool() {
        return Ok(value);
    }
    if is_old_bool(node) {
        return Ok(matches!(
            node.text().unwrap_or_default().to_ascii_lowercase().as_str(),
            "y" | "yes" | "on"
        ));
    }
    Err(mismatch(node, "bool"))
}

pub(crate) fn int(node: &Node) -> Res<i64> {
    // A float without fraction is an integer in JSON, through which kustomize reads it.
    let whole = |value: f64| (value.fract() == 0.0 && value.abs() < i64::MAX as f64).then_some(value as i64);
    let is_float = node.as_scalar().is_some_and(|s| s.kind() == Kind::Float);
    match if is_float { node.as_f64().and_then(whole) } else { node.as_i64() } {
        Some(value) => Ok(value),
        None => Err(mismatch(node, "int")),
    }
}

/// A list, each item read by `item`; an error in one says which.
pub(crate) fn list<T>(node: &Node, mut item: impl FnMut(&Node) -> Res<T>) -> Res<Vec<T>> {
    if node.is_null() {
        return Ok(Vec::new());
    }
    let Some(seq) = node.as_seq() else {
        return Err(mismatch(node, "array"));
    };
    let indexed = seq.iter().enumerate();
    indexed.map(|(n, node)| item(node).map_err(|e| nest(e, &format!("[{n}]")))).collect()
}

pub(crate) fn texts(node: &Node, unknown: Unknown) -> Res<Vec<Text>> {
    list(node, |n| text(n, unknown))
}

pub(crate) fn strings(node: &Node, unknown: Unknown) -> Res<Vec<String>> {
    list(node, |n| string(n, unknown))
}

/// A mapping of strings; order does not matter to anybody, so it is by key.
pub(crate) fn text_map(node: &Node, unknown: Unknown) -> Res<BTreeMap<String, Text>> {
    if node.is_null() {
        return Ok(BTreeMap::new());
    }
    let Some(map) = node.as_map() else {
        return Err(mismatch(node, "map of strings"));
    };
    let read = |e: &flotilla_yaml::Entry| {
        let key = e.key.text().unwrap_or_default();
        let value = text(&e.value, unknown).map_err(|f| nest(f, key))?;
        Ok((key.to_owned(), value))
    };
    map.iter().map(read).collect()
}

/// Puts the name of an outer field in front of the error's.
pub(crate) fn nest(mut fail: Fail, outer: &str) -> Fail {
    fail.field = Some(match fail.field {
        None => outer.to_owned(),
        Some(inner) if inner.starts_with('[') => format!("{outer}{inner}"),
        Some(inner) => format!("{outer}.{inner}"),
    });
    fail
}
