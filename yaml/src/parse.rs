//! From text to trees.

use crate::node::{Node, Pos};

/// What a reader accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one text. 50 MB by default.
    pub bytes: usize,
    /// Collections inside each other, aliases expanded. 200 by default; more than 250 is not possible.
    pub depth: usize,
    /// Nodes of one text, keys included, aliases expanded. 10 million by default.
    pub nodes: usize,
    /// Nodes of one text that aliases and merge keys add. 100,000 by default.
    pub alias_nodes: usize,
}

/// How to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    pub limits: Limits,
    /// The caller's number for the text, put into every [`Pos`].
    pub source: u32,
    /// Leaves out comments, which spares time and memory where nobody will write the text again.
    pub skip_comments: bool,
}

/// Why a text could not be read, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {}, column {}: {message}", pos.line, pos.column)]
pub struct ParseError {
    pub pos: Pos,
    pub message: String,
}

/// Reads all documents of a text. Documents without content (`---` alone, comments alone) are left out.
///
/// Aliases and merge keys (`<<`) are expanded, as kustomize does on load. A key that stands twice in a mapping
/// is an error. Never panics; takes time and memory linear in the text and [`Limits::alias_nodes`].
pub fn parse(text: &str) -> Result<Vec<Node>, ParseError> {
    parse_with(text, &Options::default())
}

/// As [`parse`], with options.
pub fn parse_with(text: &str, options: &Options) -> Result<Vec<Node>, ParseError> {
    let _ = (text, options);
    unimplemented!("follows")
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 50_000_000, depth: 200, nodes: 10_000_000, alias_nodes: 100_000 }
    }
}
