//! From text to trees: what may be read, and the walk over the parser's events.

use std::borrow::Cow;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span};

use crate::build::Builder;
use crate::node::{Node, Pos};

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
    /// Leaves out comments, which spares time and memory where nobody will write the text again.
    pub skip_comments: bool,
    /// Lets the last of several equal keys win, in the place of the first, instead of refusing them. kustomize and
    /// Flux read their own files so.
    pub last_key_wins: bool,
    /// Leaves out fields whose value is an alias, but for those inside of lists. kustomize loses them where it merges
    /// Helm's values.
    pub drop_aliased_fields: bool,
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
    let mut limits = options.limits;
    limits.depth = limits.depth.min(MAX_DEPTH);
    let at_start = Pos { source: options.source, line: 1, column: 1 };
    if text.len() > limits.bytes {
        let message =
            format!("the text has {} bytes, more than the {} that are read", text.len(), limits.bytes);
        return Err(ParseError { pos: at_start, message });
    }
    let options = Options { limits, ..*options };
    let mut text = Cow::Borrowed(text);
    let mut spare = REREAD_BYTES;
    loop {
        match read(&text, &options) {
            Ok(nodes) => return Ok(nodes),
            Err(Refused { unindented: Some(line), .. }) if spare >= text.len() => {
                spare -= text.len();
                text.to_mut().insert_str(line.start, &" ".repeat(line.indent));
            }
            Err(refused) => return Err(refused.error),
        }
    }
}

/// Why a text was refused.
struct Refused {
    error: ParseError,
    unindented: Option<Unindented>,
}

/// A line of a quoted scalar that is not indented (by spaces) deeper than the collection around it. YAML forbids it, go-yaml
/// reads it, and white space there has no meaning: so it is put in, and the text is read again.
struct Unindented {
    /// Where the line starts, in bytes.
    start: usize,
    /// How many spaces it lacks at most.
    indent: usize,
}

impl From<ParseError> for Refused {
    fn from(error: ParseError) -> Self {
        Self { error, unindented: None }
    }
}

fn read(text: &str, options: &Options) -> Result<Vec<Node>, Refused> {
    let parser_options = granit_parser::options! {
        emit_comments: !options.skip_comments,
        max_buffered_comment_events: usize::MAX,
        flow_nesting_limit: options.limits.depth + 1,
        block_nesting_limit: options.limits.depth + 1,
    };
    let mut builder = Builder::new(*options);
    for event in Parser::new_from_str_with_options(text, parser_options) {
        let (event, span) = event.map_err(|error| {
            let unindented = unindented(&error, &builder);
            Refused { error: from_scan_error(&error, text, options.source, options.limits.depth), unindented }
        })?;
        step(&mut builder, event, &span, text)?;
    }
    Ok(builder.finish())
}

fn unindented(error: &ScanError, builder: &Builder) -> Option<Unindented> {
    let start = error.marker().byte_offset()?.checked_sub(error.marker().col())?;
    // Both are said of lines inside quotes only.
    let quoted = matches!(error.kind(), ErrorKind::InvalidQuotedScalarIndent | ErrorKind::TabInIndentation);
    quoted.then_some(Unindented { start, indent: builder.column() })
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
        Event::Comment(comment, placement) => {
            builder.comment(&comment, placement, span);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// A position from the parser's, whose columns count from 0.
pub(crate) fn pos(marker: &granit_parser::Marker, source: u32) -> Pos {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Pos { source, line: number(marker.line()), column: number(marker.col().saturating_add(1)) }
}

fn from_scan_error(error: &ScanError, text: &str, source: u32, depth: usize) -> ParseError {
    let message = match error.kind() {
        ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabNotAllowed
        | ErrorKind::TabInPlainScalar
        | ErrorKind::InvalidBlockEntryWhitespace
        | ErrorKind::InvalidMappingValueWhitespace
        | ErrorKind::TabAtBlockScalarStart => {
            "found a tab character that violates indentation; indent with spaces".into()
        }
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
    ParseError { pos: pos(error.marker(), source), message }
}
