//! The text that kyaml writes: order, styles and comments as they are in the tree.

use crate::collections::Entry;
use crate::emit::Emitter;
use crate::node::{Comments, Node, Style, Value};
use crate::scalar::{self, Kind, Scalar};
use crate::style::{self, Place, is_simple_key};

/// The text as kyaml writes it, with a line break at the end: keys in their order, styles and comments kept where
/// the content allows, two spaces for mappings, none for sequences in mappings, lines never folded.
pub fn write(node: &Node) -> String {
    write_documents(std::slice::from_ref(node))
}

/// As [`write()`], documents separated by `---`.
pub fn write_documents(nodes: &[Node]) -> String {
    written(nodes, Layout::Kyaml)
}

/// As [`write_documents`], laid out as go-yaml v3 does it by itself: four spaces for everything but what stands behind a `-`.
pub fn write_documents_wide(nodes: &[Node]) -> String {
    written(nodes, Layout::Wide)
}

#[derive(Clone, Copy, PartialEq)]
enum Layout {
    Kyaml,
    Wide,
}

fn written(nodes: &[Node], layout: Layout) -> String {
    let emitter = Emitter::new(usize::MAX, style::Writer::Kyaml);
    let emitter = if layout == Layout::Wide { emitter.wide() } else { emitter };
    let mut writer = Writer { emitter, layout };
    for (i, node) in nodes.iter().enumerate() {
        if i > 0 {
            writer.emitter.raw("---");
            writer.emitter.finish_document();
        }
        let comments = Writer::comments(node);
        if node.is_scalar() {
            writer.emitter.head_comment(&comments.head, 0);
        } else if !comments.head.is_empty() {
            writer.emitter.head_comment(&comments.head, 0);
            writer.emitter.blank_line();
        }
        writer.node(node, None, Within::Root);
        writer.emitter.finish_document();
        if !comments.foot.is_empty() {
            writer.emitter.blank_line();
            writer.emitter.head_comment(&comments.foot, 0);
        }
    }
    writer.emitter.out
}

struct Writer {
    emitter: Emitter,
    layout: Layout,
}

/// What a node stands in.
#[derive(Clone, Copy, PartialEq)]
enum Within {
    Root,
    Seq,
    Map,
    Flow,
}

impl Writer {
    fn comments(node: &Node) -> std::borrow::Cow<'_, Comments> {
        node.comments().map_or_else(Default::default, std::borrow::Cow::Borrowed)
    }

    /// Writes a node and the comment beside it; `indent` is that of the collection around it.
    fn node(&mut self, node: &Node, indent: Option<usize>, within: Within) {
        let comments = Self::comments(node);
        if let Some(tag) = node.tag() {
            self.emitter.raw(&tag_text(tag));
        }
        let deeper = indent.map_or(0, |indent| self.deeper(indent, within));
        let scalar_indent = self.deeper(indent.unwrap_or(0), within);
        match &node.value {
            Value::Scalar(scalar) => {
                let place = if within == Within::Flow { Place::Flow } else { Place::Value };
                self.scalar(node, scalar, place, scalar_indent, &comments.line);
            }
            value if is_flow(node, within) => {
                match value {
                    Value::Seq(seq) => self.flow_seq(seq, scalar_indent),
                    Value::Map(map) => self.flow_map(map.iter(), scalar_indent),
                    Value::Scalar(_) => {}
                }
                self.emitter.line_comment(&comments.line, deeper);
            }
            Value::Seq(seq) => {
                self.emitter.line_comment(&comments.line, deeper);
                let inner = match (within, indent) {
                    (Within::Map, Some(indent))
                        if self.layout == Layout::Kyaml && !self.emitter.at_indention() =>
                    {
                        indent
                    }
                    _ => deeper,
                };
                for item in seq.iter() {
                    let comments = Self::comments(item);
                    self.emitter.head_comment(&comments.head, inner);
                    self.emitter.indent(inner);
                    self.emitter.block_indicator('-');
                    self.node(item, Some(inner), Within::Seq);
                    self.emitter.foot_comment(&comments.foot, inner);
                }
            }
            Value::Map(map) => {
                self.emitter.line_comment(&comments.line, deeper);
                for entry in map {
                    self.entry(entry, deeper);
                }
            }
        }
    }

    /// Where what stands within a collection at `indent` begins.
    fn deeper(&self, indent: usize, within: Within) -> usize {
        const STEP: usize = 4;
        if self.layout == Layout::Wide && within != Within::Seq {
            (indent + STEP) / STEP * STEP
        } else {
            indent + 2
        }
    }

    fn entry(&mut self, entry: &Entry, indent: usize) {
        let (key, value) = (Self::comments(&entry.key), Self::comments(&entry.value));
        self.emitter.head_comment(&key.head, indent);
        self.emitter.indent(indent);
        if simple_key(&entry.key) {
            self.key(&entry.key, Place::SimpleKey, indent + 2);
            self.emitter.indicator(":", false, false);
        } else {
            self.emitter.block_indicator('?');
            self.node(&entry.key, Some(indent), Within::Map);
            self.emitter.indent(indent);
            self.emitter.block_indicator(':');
        }
        let block = !entry.value.is_scalar() && !is_flow(&entry.value, Within::Map);
        if !key.line.is_empty() && (block || value.line.is_empty()) && simple_key(&entry.key) {
            self.beside_key(entry, &key.line, indent, block);
        } else {
            self.node(&entry.value, Some(indent), Within::Map);
        }
        self.emitter.foot_comment(&value.foot, indent);
        self.emitter.foot_comment(&key.foot, indent);
    }

    /// A value whose key has a comment beside it: there for a block collection, which begins on the next line, else
    /// after the value.
    fn beside_key(&mut self, entry: &Entry, comment: &str, indent: usize, block: bool) {
        if block && entry.value.tag().is_none() {
            self.emitter.line_comment(comment, indent);
            self.node(&entry.value, Some(indent), Within::Map);
        } else {
            let mut value = entry.value.clone();
            let mut comments = Self::comments(&value).into_owned();
            comments.line = comment.into();
            value.set_comments(comments);
            self.node(&value, Some(indent), Within::Map);
        }
    }

    fn key(&mut self, key: &Node, place: Place, indent: usize) {
        if let Some(tag) = key.tag() {
            self.emitter.raw(&tag_text(tag));
        }
        match &key.value {
            Value::Scalar(scalar) => self.scalar(key, scalar, place, indent, ""),
            Value::Seq(seq) => self.flow_seq(seq, indent),
            Value::Map(map) => self.flow_map(map.iter(), indent),
        }
    }

    fn scalar(&mut self, node: &Node, scalar: &Scalar, place: Place, indent: usize, comment: &str) {
        let text = scalar.text();
        let is_string = scalar.kind() == Kind::String;
        let style = match node.style {
            Style::Plain | Style::Flow if !is_string || node.tag().is_some() => Style::Plain,
            Style::Plain | Style::Flow if text.contains('\n') => Style::Literal,
            Style::Plain | Style::Flow
                if scalar::resolve(text) != Kind::String || (text == "<<" && place != Place::Value) =>
            {
                Style::DoubleQuoted
            }
            Style::Plain | Style::Flow => Style::Plain,
            quoted if is_string || node.tag().is_some() => quoted,
            _ => Style::Plain,
        };
        // Nothing at all is null only where nothing else could be meant.
        let nothing = !is_string && text.is_empty() && (place != Place::Value || node.tag().is_some());
        self.emitter.scalar(if nothing { "null" } else { text }, style, place, indent, comment);
    }

    fn flow_seq(&mut self, items: &[Node], indent: usize) {
        self.emitter.indicator("[", true, true);
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.emitter.indicator(",", false, false);
            }
            self.node(item, Some(indent), Within::Flow);
        }
        self.emitter.indicator("]", false, false);
    }

    fn flow_map<'a>(&mut self, entries: impl Iterator<Item = &'a Entry>, indent: usize) {
        self.emitter.indicator("{", true, true);
        for (i, entry) in entries.enumerate() {
            if i > 0 {
                self.emitter.indicator(",", false, false);
            }
            if simple_key(&entry.key) {
                self.key(&entry.key, Place::FlowKey, indent);
                self.emitter.indicator(":", false, false);
            } else {
                self.emitter.indicator("?", true, false);
                self.node(&entry.key, Some(indent), Within::Flow);
                self.emitter.indicator(":", true, false);
            }
            self.node(&entry.value, Some(indent), Within::Flow);
        }
        self.emitter.indicator("}", false, false);
    }
}

/// Whether a collection is written between brackets. Comments have no place there, so a collection that has some
/// inside is written in block style.
fn is_flow(node: &Node, within: Within) -> bool {
    let empty = match &node.value {
        Value::Scalar(_) => return false,
        Value::Seq(seq) => seq.is_empty(),
        Value::Map(map) => map.is_empty(),
    };
    let commented = || match &node.value {
        Value::Scalar(_) => false,
        Value::Seq(seq) => seq.iter().any(|n| n.any(&|n| n.comments().is_some())),
        Value::Map(map) => map
            .iter()
            .any(|e| e.key.any(&|n| n.comments().is_some()) || e.value.any(&|n| n.comments().is_some())),
    };
    empty || within == Within::Flow || (node.style == Style::Flow && !commented())
}

/// Whether a key can do without `?`.
fn simple_key(key: &Node) -> bool {
    match &key.value {
        Value::Scalar(scalar) => is_simple_key(scalar.text(), key.tag().map_or(0, str::len)),
        Value::Seq(seq) => seq.is_empty(),
        Value::Map(map) => map.is_empty(),
    }
}

/// A tag as it is written: `!!int`, `!Ref`, `!<uri>`. What would end it, or be read otherwise, is escaped as in a URI.
fn tag_text(tag: &str) -> String {
    let (start, rest) = match (tag.strip_prefix("!!"), tag.strip_prefix('!')) {
        (Some(rest), _) => ("!!", rest),
        (None, Some(rest)) => ("!", rest),
        (None, None) => ("!<", tag),
    };
    // Within `<>` the characters of a URI stand for themselves; elsewhere they part handles and values of collections.
    let plain: &[u8] = if start == "!<" { b"-#;/?:@&=+$,_.!~*'()[]" } else { b"-#;/?:@&=+$_.~*'()" };
    let mut text = start.to_owned();
    for byte in rest.bytes() {
        match byte.is_ascii_alphanumeric() || plain.contains(&byte) {
            true => text.push(byte.into()),
            false => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text + if start == "!<" { ">" } else { "" }
}
