//! JSON in and out.

use std::borrow::Cow;

use base64::Engine as _;
use serde_json::Value as Json;

use crate::collections::{Map, Seq};
use crate::node::{Node, Pos, Style, Value};
use crate::scalar::{self, Kind, Number, Scalar, Schema};
use crate::style::{Writer, analyze};
use crate::timestamp;

/// Why a node has no JSON meaning, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {}, column {}: {message}", pos.line, pos.column)]
pub struct JsonError {
    pub pos: Pos,
    pub message: String,
}

impl Node {
    /// The node with its folded scalars as kyaml has them once it wrote and read them (see [`Schema::Kustomize`]), as
    /// literal ones.
    #[must_use]
    pub fn refolded(self) -> Self {
        self.refolded_in(false)
    }

    fn refolded_in(mut self, flow: bool) -> Self {
        let inner = flow || self.style == Style::Flow;
        if self.any(&|n| n.style == Style::Folded) {
            match &mut self.value {
                Value::Scalar(scalar) => {
                    if scalar.kind() == Kind::String && !flow {
                        *scalar = Scalar::string(refolded(scalar.text()));
                    }
                    self.style = Style::Literal;
                }
                Value::Seq(seq) => {
                    *seq = std::mem::take(seq).iter().cloned().map(|node| node.refolded_in(inner)).collect();
                }
                Value::Map(map) => {
                    for value in map.values_mut() {
                        *value = std::mem::replace(value, Node::null()).refolded_in(inner);
                    }
                }
            }
        }
        self
    }

    /// The node with its numbers as JSON decoders of Go hold them and go-yaml writes them: floats of 64 bits, so that
    /// integers beyond 2^53 are rounded, and large ones have an exponent.
    #[must_use]
    pub fn through_json_numbers(mut self) -> Self {
        let is_rounded = |node: &Node| node.as_scalar().is_some_and(|scalar| scalar.rounded().is_some());
        if !self.any(&is_rounded) {
            return self;
        }
        match &mut self.value {
            Value::Scalar(scalar) => {
                if let Some(rounded) = scalar.rounded() {
                    *scalar = rounded;
                }
            }
            Value::Seq(seq) => {
                *seq = std::mem::take(seq).iter().cloned().map(Node::through_json_numbers).collect();
            }
            Value::Map(map) => {
                for value in map.values_mut() {
                    *value = std::mem::replace(value, Node::null()).through_json_numbers();
                }
            }
        }
        self
    }

    /// The JSON that kubectl and other users of `sigs.k8s.io/yaml` would send: [`Schema::Kubernetes`].
    ///
    /// # Errors
    /// See [`to_json_as`](Self::to_json_as).
    pub fn to_json(&self) -> Result<Json, JsonError> {
        self.to_json_as(Schema::Kubernetes)
    }

    /// The JSON meaning under a schema. Keys that are numbers or booleans become strings where the schema's tools
    /// do so. Floats without fraction become integers, as in Go. The bytes of a `!!binary` become a string.
    ///
    /// # Errors
    /// A number that JSON cannot hold (`.inf`, `.nan`), a key that is null or a collection (any key but a
    /// string inside an object for [`Schema::Kustomize`]), two keys that become the same string.
    pub fn to_json_as(&self, schema: Schema) -> Result<Json, JsonError> {
        to_json(self, schema, Twice::Refused, true, false)
    }

    /// As [`to_json`](Self::to_json), for what was read with [`Options::last_key_wins`](crate::Options::last_key_wins): the last of
    /// keys that become the same string wins.
    ///
    /// # Errors
    /// As [`to_json_as`](Self::to_json_as), but for such keys.
    pub fn to_json_last_key(&self) -> Result<Json, JsonError> {
        to_json(self, Schema::Kubernetes, Twice::LastWins, true, false)
    }

    /// The node as a schema reads it, so that it means the same to every reader: what another one would take for
    /// something else is written anew, all else keeps its style and place.
    ///
    /// # Errors
    /// See [`to_json_as`](Self::to_json_as).
    pub fn as_read(&self, schema: Schema) -> Result<Node, JsonError> {
        as_read(self, schema, true, false)
    }

    /// The node for a JSON value, keys in its order, without positions.
    pub fn from_json(value: &Json) -> Node {
        match value {
            Json::Null => Node::null(),
            Json::Bool(value) => (*value).into(),
            Json::Number(number) => match number.as_f64() {
                Some(float) if number.is_f64() => Node::plain(scalar::format_float(float)),
                _ => Node::plain(number.to_string()),
            },
            Json::String(text) => Node::string(text),
            Json::Array(items) => items.iter().map(Node::from_json).collect::<Seq>().into(),
            Json::Object(entries) => {
                let mut map = Map::with_capacity(entries.len());
                for (key, value) in entries {
                    map.push(Node::string(key), Node::from_json(value));
                }
                map.into()
            }
        }
    }
}

/// What becomes of keys that are one as texts (`1` and `0x1`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Twice {
    Refused,
    LastWins,
}

/// `flow` says that the node stands between brackets.
fn to_json(node: &Node, schema: Schema, twice: Twice, root: bool, flow: bool) -> Result<Json, JsonError> {
    let inner_flow = flow || node.style == Style::Flow;
    Ok(match &node.value {
        Value::Scalar(_) if schema == Schema::Kustomize && becomes_empty_string(node, flow) => "".into(),
        Value::Scalar(scalar) => scalar_to_json(node, scalar, schema, flow)?,
        Value::Seq(seq) => Json::Array(
            seq.iter()
                .map(|item| to_json(item, schema, twice, false, inner_flow))
                .collect::<Result<_, _>>()?,
        ),
        Value::Map(map) => {
            let mut object = serde_json::Map::new();
            for entry in map {
                let key = key_text(&entry.key, schema, root, inner_flow)?.into_owned();
                if twice == Twice::Refused && object.contains_key(&key) {
                    return Err(fail(&entry.key, format!("mapping key {key:?} already defined")));
                }
                object.insert(key, to_json(&entry.value, schema, twice, false, inner_flow)?);
            }
            Json::Object(object)
        }
    })
}

/// As [`to_json`], with the keys that become one refused by that.
fn as_read(node: &Node, schema: Schema, root: bool, flow: bool) -> Result<Node, JsonError> {
    let inner_flow = flow || node.style == Style::Flow;
    let value: Value = match &node.value {
        Value::Scalar(scalar) => {
            let json = to_json(node, schema, Twice::Refused, root, flow)?;
            let stays = node.tag().is_none()
                && node.style != Style::Folded
                && !becomes_empty_string(node, flow)
                && match (&json, scalar.kind()) {
                    (Json::String(text), Kind::String) => {
                        text == scalar.text() && kubernetes_bool(node, scalar).is_none()
                    }
                    (json, kind) => !json.is_string() && kind != Kind::String,
                };
            return Ok(if stays { node.clone() } else { at(node.pos, Node::from_json(&json)) });
        }
        Value::Seq(seq) => Value::Seq(
            seq.iter().map(|item| as_read(item, schema, false, inner_flow)).collect::<Result<Seq, _>>()?,
        ),
        Value::Map(map) => {
            let mut read = Map::with_capacity(map.len());
            for entry in map {
                let key = at(entry.key.pos, Node::string(key_text(&entry.key, schema, root, inner_flow)?));
                read.push(key, as_read(&entry.value, schema, false, inner_flow)?);
            }
            Value::Map(read)
        }
    };
    let mut read = at(node.pos, Node::new(value));
    read.style = node.style;
    Ok(read)
}

fn at(pos: Pos, mut node: Node) -> Node {
    node.pos = pos;
    node
}

/// Whether kustomize makes an empty string of a missing value (see [`Schema::Kustomize`]).
pub(crate) fn becomes_empty_string(node: &Node, flow: bool) -> bool {
    flow && node.is_null() && node.text() == Some("") && node.tag().is_none()
}

fn scalar_to_json(node: &Node, scalar: &Scalar, schema: Schema, flow: bool) -> Result<Json, JsonError> {
    if schema == Schema::Kubernetes
        && let Some(value) = kubernetes_bool(node, scalar)
    {
        return Ok(Json::Bool(value));
    }
    check_tag(node, scalar, schema)?;
    Ok(match scalar.kind() {
        Kind::Null => Json::Null,
        Kind::Bool => Json::Bool(scalar.as_bool() == Some(true)),
        Kind::Int | Kind::Float => number_to_json(node, scalar)?,
        Kind::String | Kind::Timestamp => Json::String(string_text(node, scalar, schema, flow)?.into_owned()),
    })
}

/// Refuses a value that its tag does not fit.
pub(crate) fn check_tag(node: &Node, scalar: &Scalar, schema: Schema) -> Result<(), JsonError> {
    match node.tag() {
        Some(tag) if !scalar.fits(schema) => Err(fail(node, misfit(scalar.text(), tag))),
        _ => Ok(()),
    }
}

/// What is said of a value that its tag does not fit.
pub(crate) fn misfit(text: &str, tag: &str) -> String {
    format!("cannot decode `{text}` as a {tag}; take the tag away, or correct the value")
}

/// The boolean that only the Kubernetes schema sees: `yes` and the like, unquoted and without a tag.
fn kubernetes_bool(node: &Node, scalar: &Scalar) -> Option<bool> {
    let plain = scalar.kind() == Kind::String && node.style == Style::Plain && node.tag().is_none();
    plain.then(|| scalar::old_bool(scalar.text()))?
}

fn number_to_json(node: &Node, scalar: &Scalar) -> Result<Json, JsonError> {
    let number = match scalar.number() {
        Some(Number::Float(float)) => scalar::integral(float).unwrap_or(Number::Float(float)),
        Some(integer) => integer,
        None => return Err(fail(node, format!("`{}` is not a number", scalar.text()))),
    };
    match number {
        Number::Int(value) => Ok(value.into()),
        Number::Uint(value) => Ok(value.into()),
        Number::Float(value) => serde_json::Number::from_f64(value).map(Json::Number).ok_or_else(|| {
            fail(node, format!("JSON has no number for `{}`; quote it if a string is meant", scalar.text()))
        }),
    }
}

/// What the text of a string or timestamp means. `flow` says that it stands between brackets, where nothing is folded.
pub(crate) fn string_text<'a>(
    node: &Node,
    scalar: &'a Scalar,
    schema: Schema,
    flow: bool,
) -> Result<Cow<'a, str>, JsonError> {
    if node.tag() == Some("!!binary") {
        // As Go's decoder: line breaks stand for nothing, other white space is wrong.
        let encoded = scalar.text().replace(['\r', '\n'], "");
        return base64::engine::general_purpose::STANDARD
            .decode(encoded)
            .map(|bytes| lossy(&bytes).into())
            .map_err(|_| fail(node, "!!binary value contains invalid base64 data".into()));
    }
    match (scalar.kind(), schema) {
        (Kind::Timestamp, Schema::Kustomize) if !is_quoted(scalar, flow) => {
            Ok(timestamp::parse(scalar.text()).map_or_else(|| scalar.text().into(), Cow::Owned))
        }
        (Kind::String, Schema::Kustomize) if node.style == Style::Folded && !flow => {
            Ok(refolded(scalar.text()).into())
        }
        _ => Ok(scalar.text().into()),
    }
}

/// As Go reads bytes as text: each one that is no UTF-8 becomes a U+FFFD of its own.
fn lossy(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text
}

/// Whether kyaml puts a date in quotes, which makes a text of it: between brackets, where a colon needs them.
fn is_quoted(date: &Scalar, flow: bool) -> bool {
    flow && date.text().contains(':')
}

/// What becomes of a folded scalar that kyaml writes and reads again (see [`Schema::Kustomize`]): it doubles the
/// first of each run of line breaks, unless the text begins with white space or the line before does.
fn refolded(text: &str) -> String {
    let doubles = !text.trim_start_matches('\n').starts_with([' ', '\t']);
    if !text.contains('\n') || !analyze(text, Writer::Kyaml).block {
        return text.into();
    }
    let lines: Vec<&str> = text.split('\n').collect();
    let indented = |line: &str| line.starts_with([' ', '\t']);
    let mut at = lines.iter().take(lines.len() - 1).take_while(|line| line.is_empty()).count();
    let mut result = "\n".repeat(at);
    while at < lines.len() {
        let line = lines[at];
        result.push_str(line);
        let next = (at + 1..lines.len()).find(|i| !lines[*i].is_empty());
        // Breaks as they are in the text, and as kyaml writes them.
        let breaks = next.unwrap_or(lines.len() - 1) - at;
        let written = if doubles && !indented(line) { breaks + 1 } else { breaks };
        let read = match next.map(|next| lines[next]) {
            None if breaks < 2 => breaks,
            None => written,
            Some(following) if indented(line) || indented(following) => written,
            Some(_) => written - 1,
        };
        if next.is_some() && read == 0 {
            result.push(' ');
        }
        result.push_str(&"\n".repeat(read));
        at = next.unwrap_or(lines.len());
    }
    result
}

/// The string that a key becomes. `flow` says that it stands between brackets.
pub(crate) fn key_text(
    key: &Node,
    schema: Schema,
    root: bool,
    flow: bool,
) -> Result<Cow<'_, str>, JsonError> {
    let Some(scalar) = key.as_scalar() else {
        return Err(fail(key, "a mapping key must be a string, not a sequence or mapping".into()));
    };
    match (schema, scalar.kind()) {
        (_, Kind::String) if schema == Schema::Kustomize || kubernetes_bool(key, scalar).is_none() => {
            string_text(key, scalar, schema, flow)
        }
        (_, Kind::Null) => Err(fail(key, "a mapping key must be a string, not null; quote it".into())),
        (Schema::Kustomize, _) if root => Ok(scalar.text().into()),
        (Schema::Kustomize, Kind::Timestamp) if is_quoted(scalar, flow) => Ok(scalar.text().into()),
        (Schema::Kustomize, _) => Err(fail(
            key,
            format!(
                "the key `{0}` is not a string; quote it: \"{0}\" (json: unsupported type: map[interface \
                 {{}}]interface {{}})",
                scalar.text()
            ),
        )),
        (Schema::Kubernetes, Kind::Float) => {
            Ok(scalar::format_float_key(scalar.as_f64().unwrap_or(f64::NAN)).into())
        }
        (Schema::Kubernetes, Kind::Int) => Ok(number_to_json(key, scalar)?.to_string().into()),
        (Schema::Kubernetes, Kind::Bool) => Ok((scalar.as_bool() == Some(true)).to_string().into()),
        (Schema::Kubernetes, _) => Ok(match kubernetes_bool(key, scalar) {
            Some(value) => value.to_string().into(),
            None => scalar.text().into(),
        }),
    }
}

fn fail(node: &Node, message: String) -> JsonError {
    JsonError { pos: node.pos, message }
}
