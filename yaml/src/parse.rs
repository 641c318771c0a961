//! From text to trees: what may be read, and the walk over the parser's events.

use std::borrow::Cow;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span};

use crate::build::Builder;
use crate::node::{Node, Pos};
use crate::scalar::Schema;
use crate::text;

/// Collections deeper than this are never read, so that walking a tree cannot overflow a stack.
const MAX_DEPTH: usize = 1_000;

/// Texts with quoted scalars that YAML forbids and go-yaml reads are read anew for each line to mend, until so many
/// bytes are spent.
const REREAD_BYTES: usize = 20_000_000;

/// What a reader accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one text. 50 MB by default.
    pub bytes: usize,
    /// Collections inside each other, aliases expanded. 100 by default, which JSON readers take too; 1,000 is the most.
    pub depth: usize,
    /// Nodes of one text, keys included, aliases expanded. 2 million by default: some 200 bytes of memory each.
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
    /// Whose readers the text is for, which tells what its tags do. To [`Schema::Kubernetes`] `!` puts quotes around a value,
    /// and a value that its tag does not fit (`!!int x`) is an error. [`Schema::Kustomize`] passes over `!`, and refuses such
    /// a value only where it is used: where the tree is written or made JSON.
    pub schema: Schema,
    /// Leaves out comments, which spares time and memory where nobody will write the text again.
    pub skip_comments: bool,
    /// Reads as go-yaml v2 does: the last of several equal keys wins, in the place of the first, and what a merge key brings
    /// wins over keys that stand above it. So kustomize and Flux read their own files, and helm its values.
    pub last_key_wins: bool,
    /// Leaves out fields whose value is an alias, but for those inside of lists. kustomize loses them where it merges
    /// Helm's values.
    pub drop_aliased_fields: bool,
    /// Leaves out fields whose key is a quoted `<<`, as kustomize does in resources.
    pub drop_quoted_merge_keys: bool,
    /// How many lines stand above the text in its file; every [`Pos`] counts them in.
    pub lines_above: u32,
}

/// The first document of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct First {
    /// Null where the text has no document, or an empty one.
    pub document: Node,
    /// Where something follows that is left out: another document, or what is none.
    pub rest: Option<Pos>,
}

/// Why a text could not be read, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {}, column {}: {message}", pos.line, pos.column)]
pub struct ParseError {
    pub pos: Pos,
    pub message: String,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 50_000_000, depth: 100, nodes: 2_000_000, alias_nodes: 100_000 }
    }
}

/// Reads all documents of a text. Documents without content (`---` alone, comments alone) are left out.
///
/// Aliases and merge keys (`<<`) are expanded, as kustomize does on load. A key that stands twice in a mapping
/// is an error (but see [`Options::last_key_wins`]). Never panics; takes time and memory linear in the text and [`Limits::alias_nodes`].
pub fn parse(text: &str) -> Result<Vec<Node>, ParseError> {
    parse_with(text, &Options::default())
}

/// As [`parse`], with options.
pub fn parse_with(text: &str, options: &Options) -> Result<Vec<Node>, ParseError> {
    Ok(parse_some(text, options, false)?.0)
}

/// Reads the first document of a text, as Go's YAML libraries do where they are asked for one. What follows it is not
/// looked at.
///
/// # Errors
/// As [`parse`].
pub fn parse_first(text: &str, options: &Options) -> Result<First, ParseError> {
    let (documents, rest) = parse_some(text, options, true)?;
    Ok(First { document: documents.into_iter().next().unwrap_or_else(Node::null), rest })
}

fn parse_some(text: &str, options: &Options, first: bool) -> Result<(Vec<Node>, Option<Pos>), ParseError> {
    let mut limits = options.limits;
    limits.depth = limits.depth.min(MAX_DEPTH);
    let at_start = Pos { source: options.source, line: options.lines_above.saturating_add(1), column: 1 };
    if text.len() > limits.bytes {
        let message =
            format!("the text has {} bytes, more than the {} that are read", text.len(), limits.bytes);
        return Err(ParseError { pos: at_start, message });
    }
    let options = Options { limits, ..*options };
    if let Some(at) = text::first_forbidden(text) {
        let (above, line) = text[..at].rsplit_once('\n').unwrap_or(("", &text[..at]));
        let lines =
            if above.is_empty() && !text[..at].contains('\n') { 0 } else { above.matches('\n').count() + 1 };
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let pos = Pos {
            line: at_start.line.saturating_add(number(lines)),
            column: number(line.chars().count() + 1),
            ..at_start
        };
        return Err(ParseError { pos, message: text::forbidden(text, at) });
    }
    let mut text = Cow::Borrowed(text);
    let mut spare = REREAD_BYTES;
    loop {
        match read(&text, &options, first) {
            Ok(found) => return Ok(found),
            Err(Refused { mend: Some(mend), .. }) if spare >= text.len() => {
                spare -= text.len();
                mend.apply(text.to_mut());
            }
            Err(refused) => return Err(refused.error),
        }
    }
}

/// Why a text was refused.
struct Refused {
    error: ParseError,
    mend: Option<Mend>,
}

/// White space without a meaning that YAML forbids and go-yaml reads: it is changed, and the text is read again.
enum Mend {
    /// A line of a quoted scalar, from this byte on, is not indented (by spaces) deeper than the collection around it: at
    /// most so many spaces are missing.
    Unindented { start: usize, indent: usize },
    /// A line between brackets, from this byte on, is indented by tabs.
    Tabs { start: usize },
    /// A quoted scalar, from byte to byte, has characters that are line breaks to YAML 1.1 only.
    OldBreaks { start: usize, end: usize },
}

impl Mend {
    fn apply(&self, text: &mut String) {
        match *self {
            Self::Unindented { start, indent } => text.insert_str(start, &" ".repeat(indent)),
            Self::OldBreaks { start, end } => {
                // The others stay in the text, as breaks do that are folded, without white space around them.
                let mut mended = String::new();
                for part in text[start..end].split_inclusive(text::SEPARATORS) {
                    let after = mended.ends_with(text::SEPARATORS);
                    let part = if after { part.trim_start_matches([' ', '\t']) } else { part };
                    let content = part.trim_end_matches(text::SEPARATORS);
                    let is_cut = content.len() < part.len();
                    mended.push_str(if is_cut { content.trim_end_matches([' ', '\t']) } else { content });
                    mended.push_str(&part[content.len()..]);
                }
                text.replace_range(start..end, &mended.replace(text::NEXT_LINE, "\n"));
            }
            Self::Tabs { start } => {
                let rest = &text[start..];
                let length = rest.len() - rest.trim_start_matches([' ', '\t']).len();
                text.replace_range(start..start + length, &" ".repeat(length));
            }
        }
    }
}

impl From<ParseError> for Refused {
    fn from(error: ParseError) -> Self {
        Self { error, mend: None }
    }
}

fn read(text: &str, options: &Options, first: bool) -> Result<(Vec<Node>, Option<Pos>), Refused> {
    let has_old_breaks = text.contains(text::OLD_BREAKS);
    let has_tabs = text.contains('\t');
    let parser_options = granit_parser::options! {
        emit_comments: !options.skip_comments || has_old_breaks,
        max_buffered_comment_events: usize::MAX,
        flow_nesting_limit: options.limits.depth + 1,
        block_nesting_limit: options.limits.depth + 1,
    };
    let mut builder = Builder::new(*options, has_old_breaks);
    let mut is_over = false;
    for event in Parser::new_from_str_with_options(text, parser_options) {
        if is_over {
            match event {
                Ok((Event::DocumentStart(..), span)) => {
                    return Ok((builder.finish(), Some(pos(&span.start, options))));
                }
                Err(error) => return Ok((builder.finish(), Some(pos(error.marker(), options)))),
                Ok(_) => continue,
            }
        }
        let (event, span) = event.map_err(|error| {
            let mend = mend(&error, &builder, text);
            Refused { error: from_scan_error(&error, text, options), mend }
        })?;
        if has_old_breaks && let Some(mend) = old_breaks(&event, &span, text) {
            let message = "a quoted text has characters that end a line".into();
            return Err(Refused {
                error: ParseError { pos: pos(&span.start, options), message },
                mend: Some(mend),
            });
        }
        if has_tabs && !builder.is_in_flow() && is_indented_by_tabs(&event, &span, text) {
            let message = TAB.into();
            return Err(ParseError { pos: pos(&span.start, options), message }.into());
        }
        is_over = first && matches!(event, Event::DocumentEnd);
        step(&mut builder, event, &span, text)?;
    }
    Ok((builder.finish(), None))
}

/// What is said of a tab where only spaces indent.
const TAB: &str = "found a tab character that violates indentation; indent with spaces";

/// Whether a node begins after a tab where a line, an item or a key begins: there go-yaml refuses tabs.
fn is_indented_by_tabs(event: &Event<'_>, span: &Span, text: &str) -> bool {
    let is_node = matches!(
        event,
        Event::Scalar(..) | Event::SequenceStart(..) | Event::MappingStart(..) | Event::Alias(..)
    );
    let Some(before) = span.start.byte_offset().and_then(|at| text.get(..at)).filter(|_| is_node) else {
        return false;
    };
    let line = &before[before.rfind('\n').map_or(0, |at| at + 1)..];
    let indents = |c| matches!(c, ' ' | '\t' | '-' | '?' | ':' | '\u{feff}');
    line.contains('\t') && line.chars().all(indents) && !line.starts_with("---")
}

/// How to mend a quoted scalar in whose text something is a line break to YAML 1.1 only.
fn old_breaks(event: &Event<'_>, span: &Span, text: &str) -> Option<Mend> {
    let quoted = matches!(event, Event::Scalar(_, ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted, ..));
    let (start, end) = (span.start.byte_offset()?, span.end.byte_offset()?);
    let written = text.get(start..end).filter(|_| quoted)?;
    let blank = |c: char| c == ' ' || c == '\t';
    let parts: Vec<&str> = written.split(text::SEPARATORS).collect();
    let (last, first) = (parts.len() - 1, 0);
    let blanks = parts
        .iter()
        .enumerate()
        .any(|(n, part)| (n > first && part.starts_with(blank)) || (n < last && part.ends_with(blank)));
    (blanks || written.contains(text::NEXT_LINE)).then_some(Mend::OldBreaks { start, end })
}

fn mend(error: &ScanError, builder: &Builder, text: &str) -> Option<Mend> {
    let at = error.marker().byte_offset()?;
    // These two are said of lines inside quotes only.
    if matches!(error.kind(), ErrorKind::InvalidQuotedScalarIndent | ErrorKind::TabInIndentation) {
        let start = at.checked_sub(error.marker().col())?;
        return Some(Mend::Unindented { start, indent: builder.column() });
    }
    let start = text.get(..at)?.rfind('\n').map_or(0, |at| at + 1);
    let indentation =
        &text[start..text[start..].find(|c| !matches!(c, ' ' | '\t')).map_or(text.len(), |n| start + n)];
    if !indentation.contains('\t') {
        return None;
    }
    // The builder may not have heard yet of a bracket that stands around the line: the parser reads ahead.
    let after_opening = || text[..start].trim_end().ends_with(['[', '{']);
    let before_closing = || text[start + indentation.len()..].starts_with([']', '}']);
    (builder.is_in_flow() || after_opening() || before_closing()).then_some(Mend::Tabs { start })
}

/// Whether a block scalar runs into the end of a text that has no line break there: then it has none either, though
/// the parser adds one.
fn is_cut_short(value: &str, style: ScalarStyle, span: &Span, text: &str) -> bool {
    let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
    if !block || text.ends_with('\n') || span.end.byte_offset().is_none_or(|end| end < text.len()) {
        return false;
    }
    let Some(value) = value.strip_suffix('\n') else { return false };
    let last = text.rsplit('\n').next().unwrap_or_default();
    match last.trim_start_matches(' ') {
        "" => value.ends_with(' '),
        content => value.ends_with(content),
    }
}

fn step(builder: &mut Builder, event: Event<'_>, span: &Span, text: &str) -> Result<(), ParseError> {
    match event {
        Event::DocumentStart(..) => builder.start_document(),
        Event::DocumentEnd => builder.end_document(),
        Event::Scalar(value, style, anchor, tag) => {
            let empty_span = span.start.index() == span.end.index();
            let missing = style == ScalarStyle::Plain && empty_span && tag.is_none();
            let value = if missing { "".into() } else { value };
            let value = if is_cut_short(&value, style, span, text) {
                value[..value.len() - 1].to_owned().into()
            } else {
                value
            };
            builder.scalar(&value, style, anchor, tag.as_deref(), span)
        }
        Event::SequenceStart(style, anchor, tag) => builder.start(false, style, anchor, tag.as_deref(), span),
        Event::MappingStart(style, anchor, tag) => builder.start(true, style, anchor, tag.as_deref(), span),
        Event::SequenceEnd | Event::MappingEnd => builder.end(span),
        Event::Alias(id) => builder.alias(id, span.slice(text).unwrap_or("*"), span),
        Event::Comment(comment, placement) => builder.comment(&comment, placement, span),
        _ => Ok(()),
    }
}

/// A position from the parser's, whose columns count from 0.
pub(crate) fn pos(marker: &granit_parser::Marker, options: &Options) -> Pos {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let line = number(marker.line()).saturating_add(options.lines_above);
    Pos { source: options.source, line, column: number(marker.col().saturating_add(1)) }
}

fn from_scan_error(error: &ScanError, text: &str, options: &Options) -> ParseError {
    let depth = options.limits.depth;
    let message = match error.kind() {
        ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabNotAllowed
        | ErrorKind::TabInPlainScalar
        | ErrorKind::InvalidBlockEntryWhitespace
        | ErrorKind::InvalidMappingValueWhitespace
        | ErrorKind::TabAtBlockScalarStart => TAB.into(),
        ErrorKind::UnexpectedCharacter { character } => {
            format!("found character that cannot start any token: '{character}'; quote the text")
        }
        ErrorKind::InvalidQuotedScalarIndent => {
            "a line of a quoted text is not indented; is the quote that opened above not closed?".into()
        }
        ErrorKind::RecursionLimitExceeded => format!("nested deeper than {depth} levels"),
        ErrorKind::UnknownAnchor => {
            let from = error.marker().byte_offset().and_then(|at| text.get(at..)).unwrap_or_default();
            let name: String = from
                .trim_start_matches('*')
                .chars()
                .take_while(|c| !c.is_whitespace() && !matches!(c, ',' | ']' | '}'))
                .collect();
            format!(
                "unknown anchor '{name}' referenced; an anchor must stand above its aliases in the document"
            )
        }
        ErrorKind::SimpleKeyExpected => "could not find expected ':'".into(),
        ErrorKind::MappingValueNotAllowed | ErrorKind::InvalidColonPlacement => {
            "mapping values are not allowed in this context; quote the text if it is a value with ': ' in it"
                .into()
        }
        ErrorKind::ExpectedBlockMappingKey | ErrorKind::InvalidIndentation => {
            format!("{}; check the indentation of this line", error.info())
        }
        _ => error.info(),
    };
    ParseError { pos: pos(error.marker(), options), message }
}
