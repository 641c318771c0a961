//! Building trees from the parser's events: keys and values, anchors, merge keys, duplicates, limits.

mod attach;

use std::collections::HashMap;

use granit_parser::{ScalarStyle, Span, StructureStyle, Tag};
use smol_str::SmolStr;

use crate::collections::{Entry, Map, Seq};
use crate::comments::{self, Pending};
use crate::json::misfit;
use crate::node::{Node, Pos, Style, Value};
use crate::parse::{Options, ParseError, pos};
use crate::scalar::{Kind, Scalar, Schema};
use crate::text::OLD_BREAKS;

/// Mappings with more entries than this look up keys by hash.
const HASHED_FROM: usize = 16;

/// The documents under construction.
pub(crate) struct Builder {
    options: Options,
    /// Whether the text has characters that end a line for go-yaml only.
    has_old_breaks: bool,
    documents: Vec<Node>,
    frames: Vec<Frame>,
    root: Option<Node>,
    anchors: HashMap<usize, Built>,
    nodes: usize,
    alias_nodes: usize,
    pending: Vec<Pending>,
    /// The lines on which the last scalar, alias or flow collection began and ended.
    last_lines: (usize, usize),
}

/// A collection that has not ended.
struct Frame {
    /// The collection without its content.
    node: Node,
    anchor: usize,
    /// The column of its items or keys, from 1.
    column: u32,
    nodes: usize,
    /// Levels of collections inside.
    height: usize,
    content: Content,
}

enum Content {
    Seq(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        key: Option<Node>,
        /// Where the keys stand in `entries`, once there are many.
        index: HashMap<SmolStr, usize>,
        merge: Option<(Pos, Node)>,
        is_merge_key: bool,
    },
}

/// A node with what it costs to have it again.
#[derive(Clone)]
struct Built {
    node: Node,
    nodes: usize,
    height: usize,
}

impl Builder {
    pub(crate) fn new(options: Options, has_old_breaks: bool) -> Self {
        Self {
            options,
            has_old_breaks,
            documents: Vec::new(),
            frames: Vec::new(),
            root: None,
            anchors: HashMap::new(),
            nodes: 0,
            alias_nodes: 0,
            pending: Vec::new(),
            last_lines: (0, 0),
        }
    }

    pub(crate) fn finish(self) -> Vec<Node> {
        self.documents
    }

    /// Whether the innermost collection is one between brackets.
    pub(crate) fn is_in_flow(&self) -> bool {
        self.frames.last().is_some_and(|frame| frame.node.style == Style::Flow)
    }

    /// Refuses characters that end a line for Kubernetes' tools, where that would change what is meant.
    fn check_breaks(&self, text: &str, at: Pos) -> Result<(), ParseError> {
        match text.chars().find(|c| OLD_BREAKS.contains(c)) {
            Some(c) if self.has_old_breaks => {
                let code = u32::from(c);
                Err(fail(
                    at,
                    format!(
                        "U+{code:04X} ends a line for Kubernetes' tools; write it as \"\\u{code:04x}\" in double quotes"
                    ),
                ))
            }
            _ => Ok(()),
        }
    }

    /// The column of the innermost collection's items or keys, from 1.
    pub(crate) fn column(&self) -> usize {
        self.frames.last().map_or(1, |frame| frame.column as usize)
    }

    pub(crate) fn start_document(&mut self) -> Result<(), ParseError> {
        self.anchors.clear();
        self.root = None;
        self.last_lines = (0, 0);
        Ok(())
    }

    pub(crate) fn end_document(&mut self) -> Result<(), ParseError> {
        let pending = std::mem::take(&mut self.pending);
        if let Some(mut root) = self.root.take() {
            let empty = root.text() == Some("") && root.is_null() && root.tag().is_none();
            if !empty {
                comments::add_foot(&mut root, &comments::text(&pending));
                self.documents.push(root);
            }
        }
        Ok(())
    }

    pub(crate) fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        span: &Span,
    ) -> Result<(), ParseError> {
        let at = pos(&span.start, &self.options);
        let style = match style {
            ScalarStyle::SingleQuoted => Style::SingleQuoted,
            ScalarStyle::DoubleQuoted => Style::DoubleQuoted,
            ScalarStyle::Literal => Style::Literal,
            ScalarStyle::Folded => Style::Folded,
            _ => Style::Plain,
        };
        if !matches!(style, Style::SingleQuoted | Style::DoubleQuoted) {
            self.check_breaks(text, at)?;
        }
        let schema = self.options.schema;
        let tag = tag.map(short_tag);
        let is_bare = tag.as_deref() == Some("!");
        let tag = tag.filter(|_| !is_bare);
        let style = if is_bare && style == Style::Plain && schema == Schema::Kubernetes {
            Style::DoubleQuoted
        } else {
            style
        };
        let scalar = match tag.as_deref() {
            None if style == Style::Plain => Scalar::plain(text),
            None => Scalar::string(text),
            Some(tag) => {
                let scalar = Scalar::tagged(text, tagged_kind(tag, text));
                if schema == Schema::Kubernetes && !scalar.fits(schema) {
                    return Err(fail(at, misfit(text, tag)));
                }
                scalar
            }
        };
        let mut node = Node::from(scalar).at_pos(at).with_style(style);
        node.set_tag(tag);
        self.before_node(&mut node, true, span.start.line());
        self.last_lines = (span.start.line(), last_line(span));
        self.complete(Built { node, nodes: 1, height: 0 }, anchor)
    }

    pub(crate) fn start(
        &mut self,
        is_map: bool,
        style: StructureStyle,
        anchor: usize,
        tag: Option<&Tag>,
        span: &Span,
    ) -> Result<(), ParseError> {
        let at = pos(&span.start, &self.options);
        if self.frames.len() >= self.options.limits.depth {
            return Err(fail(at, format!("nested deeper than {} levels", self.options.limits.depth)));
        }
        let flow = style == StructureStyle::Flow;
        let mut node = if is_map { Node::map() } else { Node::seq() };
        node = node.at_pos(at).with_style(if flow { Style::Flow } else { Style::Plain });
        node.set_tag(tag.map(short_tag).filter(|tag| tag != "!"));
        self.before_node(&mut node, flow, span.start.line());
        let content = if is_map {
            let (entries, index) = (Vec::new(), HashMap::new());
            Content::Map { entries, key: None, index, merge: None, is_merge_key: false }
        } else {
            Content::Seq(Vec::new())
        };
        self.frames.push(Frame { node, anchor, column: at.column, nodes: 1, height: 0, content });
        Ok(())
    }

    pub(crate) fn end(&mut self, span: &Span) -> Result<(), ParseError> {
        self.close_comments();
        let Some(frame) = self.frames.pop() else { return Ok(()) };
        let mut node = frame.node;
        if node.style == Style::Flow {
            self.last_lines = (span.start.line(), last_line(span));
        }
        node.value = match frame.content {
            Content::Seq(items) => Value::Seq(Seq::from(items)),
            Content::Map { entries, merge, .. } => {
                let own = Map::from(entries);
                Value::Map(match merge {
                    None => own,
                    Some((at, from)) => self.merge(own, at, &from)?,
                })
            }
        };
        self.complete(Built { node, nodes: frame.nodes, height: frame.height + 1 }, frame.anchor)
    }

    pub(crate) fn alias(&mut self, id: usize, name: &str, span: &Span) -> Result<(), ParseError> {
        let at = pos(&span.start, &self.options);
        let Some(built) = self.anchors.get(&id) else {
            return Err(fail(at, format!("anchor '{}' value contains itself", name.trim_start_matches('*'))));
        };
        let mut built = built.clone();
        self.spend(built.nodes, at)?;
        if self.frames.len() + built.height > self.options.limits.depth {
            return Err(fail(at, format!("nested deeper than {} levels", self.options.limits.depth)));
        }
        let tag = built.node.tag().map(SmolStr::from);
        built.node.set_comments(Default::default());
        built.node.set_tag(tag);
        built.node.pos = at;
        self.before_node(&mut built.node, true, span.start.line());
        self.last_lines = (span.start.line(), last_line(span));
        let in_maps = self.options.drop_aliased_fields
            && self.frames.iter().all(|f| matches!(f.content, Content::Map { .. }));
        if let Some(Frame { content: Content::Map { key: key @ Some(_), .. }, .. }) = self.frames.last_mut()
            && in_maps
        {
            *key = None;
            return Ok(());
        }
        self.complete(built, 0)
    }

    /// Counts nodes that aliases add.
    fn spend(&mut self, nodes: usize, at: Pos) -> Result<(), ParseError> {
        spend(&mut self.alias_nodes, nodes, &self.options, at)
    }

    /// Puts a node that is complete where it belongs.
    fn complete(&mut self, built: Built, anchor: usize) -> Result<(), ParseError> {
        if anchor != 0 {
            self.anchors.insert(anchor, built.clone());
        }
        let Built { node, nodes, height } = built;
        let at = node.pos;
        self.nodes += nodes.min(1);
        let limit = self.options.limits.nodes;
        if self.nodes + self.alias_nodes > limit {
            return Err(fail(at, format!("the text has more than the {limit} nodes that are read")));
        }
        let Some(frame) = self.frames.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        frame.nodes += nodes;
        frame.height = frame.height.max(height);
        match &mut frame.content {
            Content::Seq(items) => items.push(node),
            Content::Map { entries, key: slot @ None, index, merge, is_merge_key } => {
                *is_merge_key = is_merge(&node);
                if *is_merge_key {
                    if let (Some((first, _)), false) = (merge, self.options.last_key_wins) {
                        return Err(duplicate(at, "<<", first.line));
                    }
                } else if let Some(text) = node.text() {
                    frame.column = frame.column.min(at.column);
                    if !self.options.last_key_wins
                        && let Some(first) = find(entries, index, text)
                    {
                        return Err(duplicate(at, text, entries[first].key.pos.line));
                    }
                }
                *slot = Some(node);
            }
            Content::Map { entries, key, index, merge, is_merge_key } => {
                let Some(key) = key.take() else { return Ok(()) };
                if self.options.drop_quoted_merge_keys && !*is_merge_key && key.text() == Some("<<") {
                    return Ok(());
                }
                let first = key.text().filter(|_| self.options.last_key_wins);
                let first = first.and_then(|text| find(entries, index, text));
                match (*is_merge_key, first) {
                    // go-yaml v2 sets what a merge key brings where it stands; own keys that stand above it lose.
                    (true, _) if self.options.last_key_wins => {
                        let sources = merged(&node, key.pos)?;
                        let count = sources.iter().map(|map| map.len()).sum();
                        spend(&mut self.alias_nodes, count, &self.options, key.pos)?;
                        for entry in sources.into_iter().flatten() {
                            match entry.key.text().and_then(|key| find(entries, index, key)) {
                                Some(place) => entries[place] = entry.clone(),
                                None => push(entries, index, entry.clone()),
                            }
                        }
                    }
                    (true, _) => *merge = Some((key.pos, node)),
                    (false, Some(first)) => entries[first] = Entry { key, value: node },
                    (false, None) => push(entries, index, Entry { key, value: node }),
                }
            }
        }
        Ok(())
    }

    /// Adds to a mapping what its merge key brings: own keys win, then earlier mappings of a list.
    fn merge(&mut self, own: Map, at: Pos, from: &Node) -> Result<Map, ParseError> {
        let sources = merged(from, at)?;
        self.spend(sources.iter().map(|map| map.len()).sum(), at)?;
        let own_count = own.len();
        let mut index = HashMap::new();
        let mut entries = Vec::with_capacity(own_count);
        for entry in own.iter() {
            push(&mut entries, &mut index, entry.clone());
        }
        for entry in sources.into_iter().flatten() {
            match entry.key.text().and_then(|key| find(&entries, &index, key)) {
                Some(place) if place >= own_count => entries[place] = entry.clone(),
                Some(_) => {}
                None => push(&mut entries, &mut index, entry.clone()),
            }
        }
        Ok(entries.into())
    }
}

/// The mappings of a merge key, those last that win over the others.
fn merged(from: &Node, at: Pos) -> Result<Vec<&Map>, ParseError> {
    match &from.value {
        Value::Map(map) => Ok(vec![map]),
        Value::Seq(items) => {
            items.iter().rev().map(|item| item.as_map().ok_or_else(|| bad_merge(item.pos))).collect()
        }
        Value::Scalar(_) => Err(bad_merge(at)),
    }
}

fn spend(spent: &mut usize, nodes: usize, options: &Options, at: Pos) -> Result<(), ParseError> {
    *spent += nodes;
    let limit = options.limits.alias_nodes;
    if *spent > limit {
        return Err(fail(at, format!("aliases add more than {limit} nodes; write less by alias")));
    }
    Ok(())
}

fn last_line(span: &Span) -> usize {
    // A block scalar ends at the start of the line after it.
    if span.end.col() == 0 && span.end.line() > span.start.line() {
        span.end.line() - 1
    } else {
        span.end.line()
    }
}

fn find(entries: &[Entry], index: &HashMap<SmolStr, usize>, key: &str) -> Option<usize> {
    if entries.len() > HASHED_FROM {
        index.get(key).copied()
    } else {
        entries.iter().position(|entry| entry.key.text() == Some(key))
    }
}

fn push(entries: &mut Vec<Entry>, index: &mut HashMap<SmolStr, usize>, entry: Entry) {
    entries.push(entry);
    match entries.len() {
        0..=HASHED_FROM => {}
        count if count == HASHED_FROM + 1 => {
            let keys = entries.iter().enumerate();
            index.extend(keys.filter_map(|(i, e)| Some((SmolStr::from(e.key.text()?), i))));
        }
        count => {
            if let Some(key) = entries[count - 1].key.text() {
                index.insert(key.into(), count - 1);
            }
        }
    }
}

fn is_merge(key: &Node) -> bool {
    key.text() == Some("<<") && key.style == Style::Plain && matches!(key.tag(), None | Some("!!merge"))
}

/// A tag in its short form.
fn short_tag(tag: &Tag) -> SmolStr {
    match tag.suffix_in_namespace("tag:yaml.org,2002:") {
        Some(name) => format!("!!{name}").into(),
        None => format!("{}{}", tag.handle(), tag.suffix()).into(),
    }
}

/// What a tag makes of a scalar. A tag that is not YAML's own makes a string of it.
fn tagged_kind(tag: &str, text: &str) -> Kind {
    match tag {
        "!!null" => Kind::Null,
        "!!bool" => Kind::Bool,
        "!!int" => Kind::Int,
        "!!float" => Kind::Float,
        "!!timestamp" => Kind::Timestamp,
        "!!merge" => Scalar::plain(text).kind(),
        _ => Kind::String,
    }
}

fn fail(pos: Pos, message: String) -> ParseError {
    ParseError { pos, message }
}

fn duplicate(at: Pos, key: &str, first_line: u32) -> ParseError {
    fail(at, format!("mapping key {key:?} already defined at line {first_line}"))
}

fn bad_merge(at: Pos) -> ParseError {
    fail(at, "map merge requires map or sequence of maps as the value".into())
}
