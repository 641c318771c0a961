//! YAML files, comments kept where SOPS keeps them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flotilla_yaml::{Comments, Kind, Map, Node, Options, Schema, Seq, Value as Yaml};

use crate::error::SopsError;
use crate::tree::{Comment, File, Item, Value};

pub(super) fn read(text: &str) -> Result<File, SopsError> {
    let options = Options { schema: Schema::Kustomize, ..Options::default() };
    let nodes = flotilla_yaml::parse_with(text, &options).map_err(|error| syntax(error.to_string()))?;
    read_nodes(&nodes)
}

fn syntax(message: String) -> SopsError {
    SopsError::Syntax { format: "YAML", message }
}

pub(crate) fn read_nodes(nodes: &[Node]) -> Result<File, SopsError> {
    let documents = nodes.iter().map(|node| match &node.value {
        Yaml::Map(map) => {
            let mut items = Vec::new();
            items_of(node, map, true, &mut items)?;
            Ok(items)
        }
        Yaml::Scalar(scalar) if scalar.kind() == Kind::Null => Ok(Vec::new()),
        _ => Err(syntax("a document is not a mapping".to_owned())),
    });
    Ok(File(documents.collect::<Result<_, _>>()?))
}

fn lines(text: &str, inline: bool) -> impl Iterator<Item = Comment> + '_ {
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.map(move |line| Comment { text: line.strip_prefix('#').unwrap_or(line).to_owned(), inline })
}

/// `own`: the mapping's comments become its first and last items, as where nobody else takes them.
fn items_of(node: &Node, map: &Map, own: bool, items: &mut Vec<Item>) -> Result<(), SopsError> {
    let comments = |node: &Node| node.comments().cloned().unwrap_or_default();
    let above = |text: &str, items: &mut Vec<Item>| items.extend(lines(text, false).map(Item::Comment));
    let Comments { head, line, foot } = if own { comments(node) } else { Comments::default() };
    above(&head, items);
    above(&line, items);
    for entry in map {
        let (key, value) = (comments(&entry.key), comments(&entry.value));
        above(&key.head, items);
        above(&key.line, items);
        let is_scalar = entry.value.is_scalar();
        if is_scalar {
            above(&value.head, items);
            items.extend(lines(&value.line, true).map(Item::Comment));
        }
        let text = entry.key.as_str().ok_or_else(|| {
            let at = entry.key.pos;
            syntax(format!("line {}, column {}: a key is not text", at.line, at.column))
        })?;
        items.push(Item::Entry(text.to_owned(), value_of(&entry.value, !is_scalar)?));
        if is_scalar {
            above(&value.foot, items);
        }
        above(&key.foot, items);
    }
    above(&foot, items);
    Ok(())
}

fn value_of(node: &Node, own: bool) -> Result<Value, SopsError> {
    let comments = |node: &Node| node.comments().cloned().unwrap_or_default();
    Ok(match &node.value {
        Yaml::Map(map) => {
            let mut items = Vec::new();
            items_of(node, map, own, &mut items)?;
            Value::Map(items)
        }
        Yaml::Seq(seq) => {
            let mut items = Vec::new();
            let put = |text: &str, inline: bool, items: &mut Vec<Value>| {
                items.extend(lines(text, inline).map(Value::Comment));
            };
            let Comments { head, line, foot } = if own { comments(node) } else { Comments::default() };
            put(&head, false, &mut items);
            put(&line, false, &mut items);
            for item in seq.iter() {
                let around = comments(item);
                put(&around.head, false, &mut items);
                put(&around.line, true, &mut items);
                items.push(value_of(item, false)?);
                put(&around.foot, false, &mut items);
            }
            put(&foot, false, &mut items);
            Value::List(items)
        }
        Yaml::Scalar(scalar) => {
            let bad =
                |what: &str| syntax(format!("line {}, column {}: {what}", node.pos.line, node.pos.column));
            match scalar.kind() {
                Kind::Null => Value::Null,
                Kind::Bool => Value::Bool(scalar.as_bool().unwrap_or_default()),
                Kind::Int => {
                    Value::Int(scalar.as_i64().ok_or_else(|| bad("the number is larger than SOPS takes"))?)
                }
                Kind::Float => Value::Float(scalar.as_f64().ok_or_else(|| bad("is not a number"))?),
                Kind::Timestamp => {
                    let full =
                        node.to_json_as(Schema::Kustomize).map_err(|error| syntax(error.to_string()))?;
                    Value::Time(full.as_str().unwrap_or_else(|| scalar.text()).to_owned())
                }
                Kind::String if node.tag() == Some("!!binary") => {
                    let packed: String = scalar.text().split_whitespace().collect();
                    let bytes = STANDARD.decode(packed).map_err(|_| bad("is not valid base64"))?;
                    String::from_utf8(bytes).map_or_else(|bad| Value::Bytes(bad.into_bytes()), Value::Text)
                }
                Kind::String => Value::Text(scalar.text().to_owned()),
            }
        }
    })
}

pub(super) fn write(file: &File) -> String {
    flotilla_yaml::write_documents_wide(&nodes(file))
}

pub(crate) fn nodes(file: &File) -> Vec<Node> {
    file.0.iter().map(|items| map_node(items)).collect()
}

/// Comments that wait for the node that they belong to.
#[derive(Default)]
struct Waiting {
    head: Vec<String>,
    line: Vec<String>,
}

impl Waiting {
    fn add(&mut self, comment: &Comment) {
        if comment.inline { &mut self.line } else { &mut self.head }.push(comment.text.clone());
    }

    fn take(lines: &mut Vec<String>) -> String {
        let lines: Vec<String> = std::mem::take(lines).iter().map(|line| format!("#{line}")).collect();
        lines.join("\n")
    }

    fn take_head(&mut self, node: &mut Node) {
        if !self.head.is_empty() {
            let comments = node.comments().cloned().unwrap_or_default();
            node.set_comments(Comments { head: Self::take(&mut self.head).into(), ..comments });
        }
    }

    fn take_line(&mut self, node: &mut Node) {
        if !self.line.is_empty() {
            let comments = node.comments().cloned().unwrap_or_default();
            node.set_comments(Comments { line: Self::take(&mut self.line).into(), ..comments });
        }
    }

    /// What nothing came after.
    fn take_foot(mut self, node: &mut Node) {
        self.head.append(&mut self.line);
        if !self.head.is_empty() {
            let comments = node.comments().cloned().unwrap_or_default();
            node.set_comments(Comments { foot: Self::take(&mut self.head).into(), ..comments });
        }
    }
}

fn map_node(items: &[Item]) -> Node {
    let mut map = Map::default();
    let mut waiting = Waiting::default();
    for item in items {
        match item {
            Item::Comment(comment) => waiting.add(comment),
            Item::Entry(key, value) => {
                let (mut key, mut value) = (Node::string(key), node(value));
                waiting.take_head(&mut key);
                waiting.take_line(&mut value);
                map.push(key, value);
            }
        }
    }
    match map.entries_mut().last_mut() {
        Some(last) => {
            waiting.take_foot(&mut last.key);
            map.into()
        }
        None => {
            let mut empty = Node::map();
            waiting.take_foot(&mut empty);
            empty
        }
    }
}

fn node(value: &Value) -> Node {
    match value {
        Value::Null | Value::Comment(_) => Node::null(),
        Value::Bool(value) => (*value).into(),
        Value::Int(value) => (*value).into(),
        Value::Float(value) if value.is_nan() => Node::plain(".nan"),
        Value::Float(value) if value.is_infinite() => {
            Node::plain(if *value > 0.0 { ".inf" } else { "-.inf" })
        }
        Value::Float(value) => Node::from_json(&(*value).into()),
        Value::Text(text) => Node::string(text),
        Value::Bytes(bytes) => {
            let mut node = Node::string(STANDARD.encode(bytes));
            node.set_tag(Some("!!binary".into()));
            node
        }
        Value::Time(text) => Node::plain(text),
        Value::Map(items) => map_node(items),
        Value::List(items) => {
            let mut nodes: Vec<Node> = Vec::new();
            let mut waiting = Waiting::default();
            for item in items {
                if let Value::Comment(comment) = item {
                    waiting.add(comment);
                } else {
                    let mut item = node(item);
                    waiting.take_head(&mut item);
                    waiting.take_line(&mut item);
                    nodes.push(item);
                }
            }
            nodes.last_mut().into_iter().for_each(|last| std::mem::take(&mut waiting).take_foot(last));
            nodes.into_iter().collect::<Seq>().into()
        }
    }
}
