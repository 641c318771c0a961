//! Whose comment is it? As in go-yaml v3: one directly above a node is its head, one beside it is its line, one
//! below it, set apart by an empty line from what follows or indented deeper than that, is its foot.

use crate::node::{Comments, Node};

/// A comment that no node has taken yet.
pub(crate) struct Pending {
    /// With `#`.
    pub(crate) text: String,
    pub(crate) line: usize,
    /// From 1.
    pub(crate) column: u32,
}

impl Pending {
    /// `text` is what follows the `#`.
    pub(crate) fn new(text: &str, line: usize, column: u32) -> Self {
        Self { text: format!("#{}", text.trim_end()), line, column }
    }
}

/// Takes all but the lines directly above `line`.
pub(crate) fn split_above(pending: &mut Vec<Pending>, line: usize) -> Vec<Pending> {
    let mut next = line;
    let mut keep = pending.len();
    while keep > 0 && pending[keep - 1].line + 1 == next {
        keep -= 1;
        next -= 1;
    }
    pending.drain(..keep).collect()
}

/// How many of the comments stand on adjacent lines from `line` on.
pub(crate) fn block_from(pending: &[Pending], line: usize) -> usize {
    pending.iter().zip(line..).take_while(|(comment, line)| comment.line == *line).count()
}

/// The lines as one text; an empty line stays where there was at least one.
pub(crate) fn text(pending: &[Pending]) -> String {
    let mut text = String::new();
    for (i, comment) in pending.iter().enumerate() {
        if i > 0 {
            let adjacent = pending[i - 1].line + 1 >= comment.line;
            text.push_str(if adjacent { "\n" } else { "\n\n" });
        }
        text.push_str(&comment.text);
    }
    text
}

pub(crate) fn add_head(node: &mut Node, text: &str) {
    add(node, text, |comments| &mut comments.head);
}

pub(crate) fn add_line(node: &mut Node, text: &str) {
    add(node, text, |comments| &mut comments.line);
}

pub(crate) fn add_foot(node: &mut Node, text: &str) {
    add(node, text, |comments| &mut comments.foot);
}

fn add(node: &mut Node, text: &str, place: fn(&mut Comments) -> &mut smol_str::SmolStr) {
    if text.is_empty() {
        return;
    }
    let mut comments = node.comments().cloned().unwrap_or_default();
    let place = place(&mut comments);
    *place = if place.is_empty() { text.into() } else { format!("{place}\n{text}").into() };
    node.set_comments(comments);
}
