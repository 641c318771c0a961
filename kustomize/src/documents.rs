//! The documents of a text, as kustomize finds them.
//!
//! It cuts a text of resources at the lines that begin with `---`, and reads the first document of each part: what else
//! is in a part (after `...`, after a JSON object) is left out there and here, with a notice here. Texts of one document,
//! as kustomization files, are not cut; the first document counts.

use std::borrow::Cow;

use flotilla_yaml::{Node, Options, ParseError, Pos, Schema};

use crate::error::{Fail, Res, fail};
use crate::load::Context;

/// Reads a text of resources, with positions in a numbered file. Empty documents are left out.
pub(crate) fn parse(cx: &mut Context, text: &str, source: u32) -> Res<Vec<Node>> {
    let text = if text.contains("\r\n") { Cow::Owned(text.replace("\r\n", "\n")) } else { text.into() };
    let mut documents = Vec::new();
    for (part, lines_above) in parts(&text, source)? {
        documents.extend(resource(cx, part, source, lines_above)?);
    }
    Ok(documents)
}

/// Reads the first document of a text of resources, which is not cut.
pub(crate) fn first_resource(cx: &mut Context, text: &str, source: u32) -> Res<Vec<Node>> {
    Ok(resource(cx, text, source, 0)?.into_iter().collect())
}

fn resource(cx: &mut Context, part: &str, source: u32, lines_above: u32) -> Res<Option<Node>> {
    // Of comments, those count that hold a schema.
    let has_schemas =
        part.split('#').skip(1).any(|rest| rest.trim_start_matches([' ', '\t']).starts_with('{'));
    let options = Options {
        source,
        lines_above,
        skip_comments: !has_schemas,
        drop_quoted_merge_keys: true,
        schema: Schema::Kustomize,
        ..Default::default()
    };
    let document = first(cx, part.strip_prefix('\u{feff}').unwrap_or(part), &options)?;
    Ok((!document.is_null()).then_some(document))
}

/// The parts of a text between lines of dashes, and how many lines are above each.
fn parts(text: &str, source: u32) -> Res<Vec<(&str, u32)>> {
    let (mut parts, mut start, mut lines_above) = (Vec::new(), 0, 0);
    while let Some(at) = text[start..].find("\n---").map(|at| start + at) {
        let rest = &text[at + 4..];
        let Some(end) = rest.find('\n') else { break };
        let part = &text[start..=at];
        parts.push((part, lines_above));
        lines_above =
            u32::try_from(part.matches('\n').count()).unwrap_or(u32::MAX).saturating_add(lines_above);
        let beside = rest[..end].trim();
        if !beside.is_empty() && !beside.starts_with('#') {
            let pos = Pos { source, line: lines_above.saturating_add(1), column: 1 };
            return fail!("invalid document separator: ---{}", rest[..end].trim_end())
                .map_err(|e: Fail| e.at(pos).hint("the document begins on the line after ---"));
        }
        lines_above = lines_above.saturating_add(1);
        start = at + 4 + end + 1;
    }
    parts.push((&text[start..], lines_above));
    Ok(parts)
}

/// Reads the first document of a text; null where there is none.
pub(crate) fn first(cx: &mut Context, text: &str, options: &Options) -> Res<Node> {
    let mut options = *options;
    let (left, at_file) = (cx.work.nodes_left(), Pos { source: options.source, ..Pos::default() });
    let is_short = left < options.limits.nodes;
    options.limits.nodes = options.limits.nodes.min(left);
    let first = flotilla_yaml::parse_first(text, &options).map_err(|e| {
        if is_short && e.message.ends_with("nodes that are read") {
            return cx.work.spent().at(at_file);
        }
        explained(e, options.source)
    })?;
    cx.work.spend_read(std::slice::from_ref(&first.document)).map_err(|e| e.at(at_file))?;
    if let Some(rest) = first.rest {
        let place = cx.place(Pos { source: options.source, ..rest });
        let notice = format!(
            "{place}what follows the end of the first document is left out, as kustomize does; a line with --- begins \
             another document"
        );
        // A patch that is no object is read once more as operations.
        if cx.notices.last() != Some(&notice) {
            cx.notices.push(notice);
        }
    }
    Ok(first.document)
}

fn explained(error: ParseError, source: u32) -> Fail {
    let pos = Pos { source, ..error.pos };
    // The hint goes last, behind the words that kustomize puts around the message.
    let (message, hint) = error.message.split_once("; ").unwrap_or((&error.message, ""));
    let hint = match hint {
        "" if message.starts_with("mapping key") => "keep one of them",
        "" if message.starts_with("nested deeper") => "nothing that Kubernetes reads is nested so deep",
        "" => "up to here the text can be read as YAML",
        hint => hint,
    };
    Fail::new(format!("line {}: {message}", error.pos.line)).at(pos).hint(hint)
}
