//! Which node a comment belongs to, found out while the tree is built.

use granit_parser::{Placement, Span};

use super::{Builder, Content};
use crate::comments::{self, Pending};
use crate::node::Node;
use crate::parse::{ParseError, pos};

impl Builder {
    pub(crate) fn comment(
        &mut self,
        text: &str,
        placement: Placement,
        span: &Span,
    ) -> Result<(), ParseError> {
        let at = pos(&span.start, &self.options);
        self.check_breaks(text, at)?;
        if self.options.skip_comments {
            return Ok(());
        }
        let line = span.start.line();
        let comment = Pending::new(text, line, at.column);
        let beside = placement == Placement::Right;
        // A block scalar's comment comes after it, but stands on its first line, above where its text begins.
        let beside_last = beside && (line < self.last_lines.0 || line == self.last_lines.1);
        match self.frames.last_mut().map(|frame| &mut frame.content) {
            Some(Content::Map { key: Some(key), .. }) if beside && key.pos.line == at.line => {
                comments::add_line(key, &comment.text)
            }
            Some(Content::Map { key: None, entries, .. }) if beside_last => {
                if let Some(entry) = entries.last_mut() {
                    comments::add_line(&mut entry.value, &comment.text);
                }
            }
            Some(Content::Seq(items)) if beside_last => {
                if let Some(item) = items.last_mut() {
                    comments::add_line(item, &comment.text);
                }
            }
            None if beside_last => {
                if let Some(root) = &mut self.root {
                    comments::add_line(root, &comment.text);
                }
            }
            _ => self.pending.push(comment),
        }
        Ok(())
    }

    /// Hands the comments above a node to it, and those further above to the node before. `whole` says that the
    /// node is no block collection, whose first key or item would take the comments.
    pub(super) fn before_node(&mut self, node: &mut Node, whole: bool, line: usize) {
        if self.pending.is_empty() {
            return;
        }
        let Some(frame) = self.frames.last_mut() else {
            let above = comments::split_above(&mut self.pending, if whole { 0 } else { line });
            comments::add_head(node, &comments::text(&above));
            return;
        };
        let before = match &mut frame.content {
            Content::Seq(items) => items.last_mut(),
            Content::Map { key: Some(key), .. } => {
                if whole {
                    comments::add_head(key, &comments::text(&std::mem::take(&mut self.pending)));
                }
                return;
            }
            Content::Map { entries, .. } => entries.last_mut().map(|entry| &mut entry.key),
        };
        if let Some(before) = before {
            let above = comments::split_above(&mut self.pending, line);
            comments::add_foot(before, &comments::text(&above));
        }
        comments::add_head(node, &comments::text(&std::mem::take(&mut self.pending)));
    }

    /// Hands the comments below the last entry of the innermost collection to it, if they are indented like it.
    pub(super) fn close_comments(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let parent = self.frames.len().checked_sub(2).map(|at| self.frames[at].column);
        let Some(frame) = self.frames.last_mut() else { return };
        let column = if parent == Some(frame.column) { frame.column + 1 } else { frame.column };
        let first_line = self.last_lines.1 + 1;
        let last = match &mut frame.content {
            Content::Seq(items) => items.last_mut(),
            Content::Map { entries, .. } => entries.last_mut().map(|entry| &mut entry.key),
        };
        let Some(last) = last else { return };
        let inside = match parent {
            Some(_) => self.pending.iter().take_while(|comment| comment.column >= column).count(),
            None => comments::block_from(&self.pending, first_line),
        };
        let below: Vec<Pending> = self.pending.drain(..inside).collect();
        comments::add_foot(last, &comments::text(&below));
    }
}
