//! The tree: nodes with their style, position, comments and tag.

use std::sync::Arc;

use smol_str::SmolStr;

use crate::collections::{Map, Seq};
use crate::scalar::{Kind, Scalar};

/// One value of a document with all that was written around it.
///
/// Two nodes are equal if their values are (texts and kinds of scalars; keys in the same order); style, position,
/// comments and tag don't count.
#[derive(Debug, Clone)]
pub struct Node {
    pub value: Value,
    pub style: Style,
    pub typing: Typing,
    pub pos: Pos,
    extra: Option<Arc<Extra>>,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Scalar(Scalar),
    Seq(Seq),
    Map(Map),
}

/// What the type of a scalar is, for callers that set texts and types apart. Like a link, this is not written, and does
/// not count where nodes are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Typing {
    /// What it looks like.
    #[default]
    Apparent,
    /// None: somebody made it without one. It means what it looks like until one is set.
    Open,
    /// Not a string, though its text or its quotes make it look like one.
    NotString,
}

/// How a node was written, and is to be written where its content allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Style {
    /// Nothing special: an unquoted scalar, a collection in block style.
    #[default]
    Plain,
    /// `'text'`
    SingleQuoted,
    /// `"text"`
    DoubleQuoted,
    /// `|` and the lines.
    Literal,
    /// `>` and the folded lines.
    Folded,
    /// `[a, b]`, `{a: b}`
    Flow,
}

/// Where a node stands: line and column count from 1, in characters; 0 means that no text holds it.
/// A block scalar stands where its first line of text does; what an alias brought stands at its anchor, but for the
/// alias's own node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Pos {
    /// The caller's number for the file, as given in [`Options::source`](crate::Options); 0 where none was.
    pub source: u32,
    pub line: u32,
    pub column: u32,
}

/// Comments of a node, each with its `#`, lines separated by `\n`; empty where there are none.
///
/// As in kyaml, the comments above and beside `key: value` belong to the key if they stand above it, and to the
/// value if they stand on its line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Comments {
    /// Lines above the node.
    pub head: SmolStr,
    /// On the node's own line, after it.
    pub line: SmolStr,
    /// Lines below the node that belong to it rather than to what follows.
    pub foot: SmolStr,
}

/// A mark on nodes that the caller takes for one value in several places. It is not written, and does not count where
/// nodes are compared; it goes where the node is copied to.
#[derive(Debug, Clone, Default)]
pub struct Link(Arc<()>);

impl PartialEq for Link {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// What few nodes have.
#[derive(Debug, Clone, Default)]
struct Extra {
    comments: Comments,
    tag: Option<SmolStr>,
    link: Option<Link>,
}

impl Node {
    /// A synthetic node in the plain style, without comments.
    pub fn new(value: Value) -> Self {
        Self { value, style: Style::Plain, typing: Typing::Apparent, pos: Pos::default(), extra: None }
    }

    /// `null`
    pub fn null() -> Self {
        Scalar::null().into()
    }

    /// A string. Written plain where it reads back as a string under both [schemas](crate::Schema), as a literal
    /// block if it has several lines, otherwise in double quotes.
    pub fn string(text: impl Into<SmolStr>) -> Self {
        let scalar = Scalar::string(text);
        let style = scalar.natural_style();
        Self { style, ..scalar.into() }
    }

    /// What a plain scalar of this text means: `3` is a number, `true` a boolean, and so on.
    pub fn plain(text: impl Into<SmolStr>) -> Self {
        Scalar::plain(text).into()
    }

    /// A mapping without entries.
    pub fn map() -> Self {
        Self::new(Value::Map(Map::default()))
    }

    /// A sequence without items.
    pub fn seq() -> Self {
        Self::new(Value::Seq(Seq::default()))
    }

    /// The node with this position.
    pub fn at_pos(mut self, pos: Pos) -> Self {
        self.pos = pos;
        self
    }

    /// The node with this style.
    pub fn with_style(mut self, style: Style) -> Self {
        self.style = style;
        self
    }

    pub fn as_scalar(&self) -> Option<&Scalar> {
        if let Value::Scalar(scalar) = &self.value { Some(scalar) } else { None }
    }

    pub fn as_seq(&self) -> Option<&Seq> {
        if let Value::Seq(seq) = &self.value { Some(seq) } else { None }
    }

    pub fn as_seq_mut(&mut self) -> Option<&mut Seq> {
        if let Value::Seq(seq) = &mut self.value { Some(seq) } else { None }
    }

    pub fn as_map(&self) -> Option<&Map> {
        if let Value::Map(map) = &self.value { Some(map) } else { None }
    }

    pub fn as_map_mut(&mut self) -> Option<&mut Map> {
        if let Value::Map(map) = &mut self.value { Some(map) } else { None }
    }

    /// The text of any scalar, as written: `"3"` and `3` both give `3`.
    pub fn text(&self) -> Option<&str> {
        self.as_scalar().map(Scalar::text)
    }

    /// The text of a scalar that is a string.
    pub fn as_str(&self) -> Option<&str> {
        self.as_scalar().filter(|s| s.kind() == Kind::String).map(Scalar::text)
    }

    pub fn as_bool(&self) -> Option<bool> {
        self.as_scalar()?.as_bool()
    }

    pub fn as_i64(&self) -> Option<i64> {
        self.as_scalar()?.as_i64()
    }

    pub fn as_u64(&self) -> Option<u64> {
        self.as_scalar()?.as_u64()
    }

    /// Any number, integers included.
    pub fn as_f64(&self) -> Option<f64> {
        self.as_scalar()?.as_f64()
    }

    pub fn is_null(&self) -> bool {
        self.as_scalar().is_some_and(|s| s.kind() == Kind::Null)
    }

    pub fn is_scalar(&self) -> bool {
        matches!(self.value, Value::Scalar(_))
    }

    pub fn is_seq(&self) -> bool {
        matches!(self.value, Value::Seq(_))
    }

    pub fn is_map(&self) -> bool {
        matches!(self.value, Value::Map(_))
    }

    /// The value of a mapping's key; `None` if there is no such key or this is no mapping.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.as_map()?.get(key)
    }

    /// As [`get`](Self::get). Nothing is copied if the key is not there.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.as_map_mut()?.get_mut(key)
    }

    /// The node at the end of a path of mapping keys.
    pub fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    /// As [`at`](Self::at). Nothing is copied if the path is not there.
    pub fn at_mut(&mut self, path: &[&str]) -> Option<&mut Node> {
        self.at(path)?;
        path.iter().try_fold(self, |node, key| node.get_mut(key))
    }

    /// The comments, if there are any.
    pub fn comments(&self) -> Option<&Comments> {
        self.extra.as_ref().map(|e| &e.comments).filter(|c| **c != Comments::default())
    }

    /// Replaces the comments.
    pub fn set_comments(&mut self, comments: Comments) {
        self.change_extra(|extra| extra.comments = comments);
    }

    /// The tag that was written and is not merely what the value means anyway, in its short form: `!!binary`,
    /// `!!str`, `!Ref`.
    pub fn tag(&self) -> Option<&str> {
        self.extra.as_ref()?.tag.as_deref()
    }

    /// Replaces the tag.
    pub fn set_tag(&mut self, tag: Option<SmolStr>) {
        if tag.is_some() || self.extra.is_some() {
            self.change_extra(|extra| extra.tag = tag);
        }
    }

    /// The mark that ties the node to others.
    pub fn link(&self) -> Option<&Link> {
        self.extra.as_ref()?.link.as_ref()
    }

    /// Replaces the mark.
    pub fn set_link(&mut self, link: Option<Link>) {
        if link.is_some() || self.extra.is_some() {
            self.change_extra(|extra| extra.link = link);
        }
    }

    /// Removes all comments of the node and of everything in it.
    pub fn strip_comments(&mut self) {
        if self.comments().is_some() {
            self.set_comments(Comments::default());
        }
        let has_comments = |node: &Node| node.any(&|n| n.comments().is_some());
        match &mut self.value {
            Value::Scalar(_) => {}
            Value::Seq(seq) => {
                if seq.iter().any(has_comments) {
                    seq.iter_mut().for_each(Node::strip_comments);
                }
            }
            Value::Map(map) => {
                if map.iter().any(|e| has_comments(&e.key) || has_comments(&e.value)) {
                    for entry in map.entries_mut() {
                        entry.key.strip_comments();
                        entry.value.strip_comments();
                    }
                }
            }
        }
    }

    /// Whether the test holds for the node or anything in it, keys included.
    pub fn any(&self, test: &dyn Fn(&Node) -> bool) -> bool {
        test(self)
            || match &self.value {
                Value::Scalar(_) => false,
                Value::Seq(seq) => seq.iter().any(|n| n.any(test)),
                Value::Map(map) => map.iter().any(|e| e.key.any(test) || e.value.any(test)),
            }
    }

    fn change_extra(&mut self, change: impl FnOnce(&mut Extra)) {
        let mut extra = self.extra.as_deref().cloned().unwrap_or_default();
        change(&mut extra);
        let empty = extra.tag.is_none() && extra.link.is_none() && extra.comments == Comments::default();
        self.extra = (!empty).then(|| Arc::new(extra));
    }
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl From<Scalar> for Node {
    fn from(scalar: Scalar) -> Self {
        Self::new(Value::Scalar(scalar))
    }
}

impl From<Map> for Node {
    fn from(map: Map) -> Self {
        Self::new(Value::Map(map))
    }
}

impl From<Seq> for Node {
    fn from(seq: Seq) -> Self {
        Self::new(Value::Seq(seq))
    }
}

impl From<&str> for Node {
    fn from(text: &str) -> Self {
        Self::string(text)
    }
}

impl From<String> for Node {
    fn from(text: String) -> Self {
        Self::string(text)
    }
}

impl From<bool> for Node {
    fn from(value: bool) -> Self {
        Scalar::bool(value).into()
    }
}

impl From<i64> for Node {
    fn from(value: i64) -> Self {
        Scalar::int(value).into()
    }
}
