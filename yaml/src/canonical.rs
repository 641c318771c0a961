//! The text that `kustomize build` prints: `sigs.k8s.io/yaml`'s `JSONToYAML` of an object's JSON.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::collections::Entry;
use crate::emit::Emitter;
use crate::json::{self, JsonError};
use crate::node::{Node, Style, Value};
use crate::scalar::{self, Kind, Number, Scalar, Schema};
use crate::style::{Place, Writer, is_simple_key};
use crate::text::{NEXT_LINE, first_forbidden, fold_next_lines};

/// Where go-yaml v2 folds lines.
const WIDTH: usize = 80;

/// The text as `kustomize build` prints an object: the JSON meaning under
/// [`Schema::Kustomize`](crate::Schema::Kustomize), keys sorted, comments gone, strings quoted only where they
/// must be, long lines folded at 80 columns. A key `<<` is in quotes, but for one with the tag `!!merge`.
///
/// # Errors
/// Where the node has no JSON meaning; see [`Node::to_json_as`].
pub fn write_canonical(node: &Node) -> Result<String, JsonError> {
    write_canonical_documents(std::slice::from_ref(node))
}

/// As [`write_canonical`], documents separated by `---`: the output of `kustomize build`.
pub fn write_canonical_documents(nodes: &[Node]) -> Result<String, JsonError> {
    write_documents(nodes, Writer::Canonical)
}

/// What `kustomize build` prints, to the letter: as [`write_canonical_documents`], but that characters which are line
/// breaks to YAML 1.1 only are treated as such, so that readers of YAML 1.2 may read another text, and that control
/// characters are refused.
///
/// # Errors
/// As [`write_canonical`], and for control characters from U+007F on.
pub fn print_documents(nodes: &[Node]) -> Result<String, JsonError> {
    write_documents(nodes, Writer::Print)
}

impl Node {
    /// The node as who reads the output of kustomize has it (see [`print_documents`]): a next line (U+0085) is folded.
    ///
    /// # Errors
    /// For control characters from U+007F on, and a next line in a key.
    pub fn printed(self) -> Result<Self, JsonError> {
        let is_odd =
            |node: &Node| node.text().is_some_and(has_odd_characters) || node.tag() == Some("!!binary");
        if self.any(&is_odd) { printed(self, false) } else { Ok(self) }
    }
}

/// Whether a text may hold a next line or a control character from U+007F on: by what those begin with in UTF-8.
fn has_odd_characters(text: &str) -> bool {
    text.bytes().any(|byte| matches!(byte, 0x7f | 0xc2 | 0xef))
}

/// `flow` says that the node stands between brackets.
fn printed(mut node: Node, flow: bool) -> Result<Node, JsonError> {
    let inner_flow = flow || node.style == Style::Flow;
    if let Some(scalar) = node.as_scalar().filter(|scalar| scalar.kind() == Kind::String) {
        let printed = printed_text(&node, json::string_text(&node, scalar, Schema::Kustomize, flow)?)?;
        let other = (*printed != *scalar.text()).then(|| Node::string(&*printed).at_pos(node.pos));
        return Ok(other.unwrap_or(node));
    }
    match &mut node.value {
        Value::Scalar(_) => {}
        Value::Seq(seq) => {
            *seq = seq.iter().cloned().map(|item| printed(item, inner_flow)).collect::<Result<_, _>>()?;
        }
        Value::Map(map) => {
            map.iter().try_for_each(|entry| {
                printed_text(&entry.key, entry.key.text().unwrap_or_default().into())?;
                printed_key(&entry.key)
            })?;
            for value in map.values_mut() {
                *value = printed(std::mem::replace(value, Node::null()), inner_flow)?;
            }
        }
    }
    Ok(node)
}

fn write_documents(nodes: &[Node], writer: Writer) -> Result<String, JsonError> {
    let mut emitter = Emitter::new(WIDTH, writer);
    for (i, node) in nodes.iter().enumerate() {
        if i > 0 {
            emitter.raw("---");
            emitter.finish_document();
        }
        value(&mut emitter, node, None, Within::Root, false)?;
        emitter.finish_document();
    }
    Ok(emitter.out)
}

/// What a node stands in.
#[derive(Clone, Copy, PartialEq)]
enum Within {
    Root,
    Seq,
    Map,
}

/// `indent` is that of the collection around the node; `flow` says that the source has it between brackets.
fn value(
    emitter: &mut Emitter,
    node: &Node,
    indent: Option<usize>,
    within: Within,
    flow: bool,
) -> Result<(), JsonError> {
    let inner_flow = flow || node.style == Style::Flow;
    let deeper = indent.map_or(0, |i| i + 2);
    match &node.value {
        Value::Scalar(_) if json::becomes_empty_string(node, flow) => emitter.raw("\"\""),
        Value::Scalar(scalar) => {
            let (text, style) = scalar_text(emitter.writer(), node, scalar, flow)?;
            emitter.scalar(&text, style, Place::Value, indent.map_or(2, |i| i + 2), "");
        }
        Value::Seq(seq) if seq.is_empty() => emitter.raw("[]"),
        Value::Map(map) if map.is_empty() => emitter.raw("{}"),
        Value::Seq(seq) => {
            let inner = match (within, indent) {
                (Within::Map, Some(indent)) if !emitter.at_indention() => indent,
                _ => deeper,
            };
            for item in seq.iter() {
                emitter.indent(inner);
                emitter.block_indicator('-');
                value(emitter, item, Some(inner), Within::Seq, inner_flow)?;
            }
        }
        Value::Map(map) => {
            for (key, entry) in sorted(emitter.writer(), map.iter(), within == Within::Root, inner_flow)? {
                emitter.indent(deeper);
                let style = match (&*key, entry.key.tag()) {
                    ("<<", Some("!!merge")) => Style::Plain,
                    ("<<", _) => Style::DoubleQuoted,
                    _ => string_style(&key),
                };
                if !is_simple_key(&key, 0) {
                    emitter.block_indicator('?');
                    emitter.scalar(&key, style, Place::Value, deeper + 2, "");
                    emitter.indent(deeper);
                    emitter.block_indicator(':');
                } else {
                    emitter.scalar(&key, style, Place::SimpleKey, deeper + 2, "");
                    emitter.indicator(":", false, false);
                }
                value(emitter, &entry.value, Some(deeper), Within::Map, inner_flow)?;
            }
        }
    }
    Ok(())
}

fn sorted<'a>(
    writer: Writer,
    entries: impl Iterator<Item = &'a Entry>,
    root: bool,
    flow: bool,
) -> Result<Vec<(Cow<'a, str>, &'a Entry)>, JsonError> {
    let mut keyed = entries
        .map(|entry| {
            let key = json::key_text(&entry.key, Schema::Kustomize, root, flow)?;
            let read = through_json(writer, &entry.key, key)?;
            if writer == Writer::Print {
                printed_key(&entry.key)?;
            }
            Ok((read, entry))
        })
        .collect::<Result<Vec<_>, JsonError>>()?;
    keyed.sort_by(|a, b| compare_keys(&a.0, &b.0));
    match keyed.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        None => Ok(keyed),
        Some(pair) => Err(JsonError {
            pos: pair[1].1.key.pos,
            message: format!(
                "mapping key {:?} already defined at line {}",
                pair[1].0, pair[0].1.key.pos.line
            ),
        }),
    }
}

fn scalar_text<'a>(
    writer: Writer,
    node: &Node,
    scalar: &'a Scalar,
    flow: bool,
) -> Result<(Cow<'a, str>, Style), JsonError> {
    json::check_tag(node, scalar, Schema::Kustomize)?;
    let text = match scalar.kind() {
        Kind::Null => "null".into(),
        Kind::Bool => if scalar.as_bool() == Some(true) { "true" } else { "false" }.into(),
        Kind::Int | Kind::Float => match scalar.number() {
            Some(Number::Int(value)) => value.to_string().into(),
            Some(Number::Uint(value)) => value.to_string().into(),
            Some(Number::Float(value)) if value.is_finite() => scalar::format_float(value).into(),
            _ => {
                return Err(JsonError {
                    pos: node.pos,
                    message: format!(
                        "json: unsupported value: `{}`; quote it if a string is meant",
                        scalar.text()
                    ),
                });
            }
        },
        Kind::String | Kind::Timestamp => {
            let text = through_json(writer, node, json::string_text(node, scalar, Schema::Kustomize, flow)?)?;
            let style = string_style(&text);
            return Ok((text, style));
        }
    };
    Ok((text, Style::Plain))
}

fn through_json<'a>(writer: Writer, node: &Node, text: Cow<'a, str>) -> Result<Cow<'a, str>, JsonError> {
    if writer == Writer::Print { printed_text(node, text) } else { Ok(text) }
}

fn printed_key(key: &Node) -> Result<(), JsonError> {
    if key.text().is_some_and(|key| key.contains(NEXT_LINE)) {
        let message = "a key cannot hold a U+0085, which ends a line".to_owned();
        return Err(JsonError { pos: key.pos, message });
    }
    Ok(())
}

/// A text as it is read from JSON by a YAML library, on which kustomize's output goes through it: some characters are
/// refused, and next line (U+0085) is a line break, which is folded between quotes.
fn printed_text<'a>(node: &Node, text: Cow<'a, str>) -> Result<Cow<'a, str>, JsonError> {
    if let Some(at) = first_forbidden(&text)
        && let Some(c) = text[at..].chars().next().filter(|c| u32::from(*c) >= 0x7f)
    {
        let code = u32::from(c);
        return Err(JsonError {
            pos: node.pos,
            message: format!("control characters are not allowed: there is a U+{code:04X} in the text"),
        });
    }
    Ok(fold_next_lines(text))
}

fn string_style(text: &str) -> Style {
    if text.contains('\n') {
        Style::Literal
    } else if scalar::plain_is_string(text) {
        Style::Plain
    } else {
        Style::DoubleQuoted
    }
}

/// go-yaml's order of keys: letters after everything else, numbers inside keys by their value.
fn compare_keys(a: &str, b: &str) -> Ordering {
    // Keys nearly always differ at two ASCII letters, or one is the other's beginning.
    let same = a.bytes().zip(b.bytes()).take_while(|(x, y)| x == y).count();
    match (a.as_bytes().get(same), b.as_bytes().get(same)) {
        (None, None) => return Ordering::Equal,
        (None, Some(_)) => return Ordering::Less,
        (Some(_), None) => return Ordering::Greater,
        (Some(x), Some(y)) if x.is_ascii_alphabetic() && y.is_ascii_alphabetic() => return x.cmp(y),
        _ => {}
    }
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let Some(at) = a.iter().zip(&b).position(|(x, y)| x != y) else { return a.len().cmp(&b.len()) };
    match (a[at].is_alphabetic(), b[at].is_alphabetic()) {
        (true, true) => return a[at].cmp(&b[at]),
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    // Zeros after a digit other than zero are part of a number, not in front of one.
    let in_number = a[..at].iter().rev().take_while(|c| c.is_ascii_digit()).any(|c| *c != '0');
    // By value, however many digits there are: go-yaml's own numbers overflow from 19 digits on, and its order is then
    // another one in each run.
    let number = |chars: &[char]| {
        let digits: String = chars[at..].iter().take_while(|c| c.is_ascii_digit()).collect();
        let value = if in_number { &*digits } else { digits.trim_start_matches('0') };
        (value.len(), value.to_owned(), digits.len())
    };
    number(&a).cmp(&number(&b)).then_with(|| a[at].cmp(&b[at]))
}
