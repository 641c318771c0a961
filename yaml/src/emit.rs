//! Laying out text: indentation, and scalars in a style that their content allows.
//!
//! Both writers stand on this. The choices (which style a text can take, where a line is folded, which characters
//! are escaped) are those of libyaml's emitter as go-yaml v2 and v3 have it, except where its text would not
//! read back as the same value.

use crate::node::Style;
use crate::style::{Place, Writer, analyze, choose, escape, escape_always, is_break};
use crate::text::OLD_BREAKS;

/// Text under construction, and where its end stands.
pub(crate) struct Emitter {
    pub(crate) out: String,
    column: usize,
    /// Lines are folded at spaces beyond this column.
    width: usize,
    /// By how much collections are indented, as the hints of block scalars say it.
    step: &'static str,
    writer: Writer,
    /// The end is white space, or the start of a line.
    whitespace: bool,
    /// The line holds nothing but indentation and the indicators of the collections that begin on it.
    indention: bool,
    /// A comment below a node has just ended at this indentation: what follows at the same one is set apart by an
    /// empty line, else it would read as a comment above that.
    foot_indent: Option<usize>,
}

impl Emitter {
    /// `width` is the column beyond which lines are folded.
    pub(crate) fn new(width: usize, writer: Writer) -> Self {
        Self {
            out: String::new(),
            column: 0,
            width,
            step: "2",
            writer,
            whitespace: true,
            indention: true,
            foot_indent: None,
        }
    }

    /// The same for collections that are indented by four.
    pub(crate) fn wide(self) -> Self {
        Self { step: "4", ..self }
    }

    pub(crate) fn writer(&self) -> Writer {
        self.writer
    }

    /// Whether a sequence that starts here as a mapping's value is on a line of its own.
    pub(crate) fn at_indention(&self) -> bool {
        self.column != 0 && self.indention
    }

    fn put(&mut self, c: char) {
        self.out.push(c);
        self.column += 1;
    }

    fn put_str(&mut self, text: &str) {
        self.out.push_str(text);
        self.column += text.chars().count();
    }

    fn line_break(&mut self) {
        self.out.push('\n');
        self.column = 0;
        self.indention = true;
    }

    /// Goes to `indent` on a line of its own, which may be the present one.
    pub(crate) fn indent(&mut self, indent: usize) {
        if !self.indention || self.column > indent || (self.column == indent && !self.whitespace) {
            self.line_break();
        }
        if self.foot_indent.take() == Some(indent) {
            self.line_break();
        }
        while self.column < indent {
            self.put(' ');
        }
        self.whitespace = true;
    }

    /// Ends the last line.
    pub(crate) fn finish_document(&mut self) {
        if self.column != 0 {
            self.line_break();
        }
        self.whitespace = true;
        self.foot_indent = None;
    }

    /// An empty line after one that has ended.
    pub(crate) fn blank_line(&mut self) {
        self.line_break();
    }

    /// `-`, `?`, `:` of a block collection, after which the line still counts as indentation.
    pub(crate) fn block_indicator(&mut self, indicator: char) {
        self.space();
        self.put(indicator);
        self.whitespace = false;
    }

    /// Any other indicator; `spaced` ones are separated from what stands before them.
    pub(crate) fn indicator(&mut self, indicator: &str, spaced: bool, opens: bool) {
        if spaced {
            self.space();
        }
        self.put_str(indicator);
        self.whitespace = opens;
        self.indention = false;
    }

    /// Text that stands for itself: a tag, `---`.
    pub(crate) fn raw(&mut self, text: &str) {
        self.indicator(text, true, false);
    }

    fn space(&mut self) {
        if !self.whitespace {
            self.put(' ');
        }
    }

    /// Comment lines at an indentation, above what follows.
    pub(crate) fn head_comment(&mut self, text: &str, indent: usize) {
        if !text.is_empty() {
            self.indent(indent);
            self.comment(text, indent);
        }
    }

    /// A comment at the end of a line.
    pub(crate) fn line_comment(&mut self, text: &str, indent: usize) {
        if !text.is_empty() {
            self.space();
            self.comment(text, indent);
        }
    }

    /// Comment lines below what was written.
    pub(crate) fn foot_comment(&mut self, text: &str, indent: usize) {
        if !text.is_empty() {
            self.indent(indent);
            self.comment(text, indent);
            self.foot_indent = Some(indent);
        }
    }

    fn comment(&mut self, text: &str, indent: usize) {
        for (i, line) in text.lines().enumerate() {
            if line.is_empty() {
                self.line_break();
                continue;
            }
            if i > 0 {
                while self.column < indent {
                    self.put(' ');
                }
            }
            if !line.starts_with('#') {
                self.put_str("# ");
            }
            self.put_str(line);
            self.line_break();
        }
        self.whitespace = true;
    }

    /// Writes a scalar in the wanted style or one that its text allows. `indent` is where its further lines stand;
    /// `comment` goes beside it.
    pub(crate) fn scalar(&mut self, text: &str, style: Style, place: Place, indent: usize, comment: &str) {
        let analysis = analyze(text, self.writer);
        let style = choose(text, style, place, &analysis);
        let folds = matches!(place, Place::Value | Place::Flow);
        match style {
            Style::Plain | Style::Flow => {
                if !text.is_empty() {
                    self.space();
                    self.folded_at_width(text, folds, indent);
                    self.whitespace = false;
                    self.indention = false;
                }
            }
            Style::SingleQuoted => self.single_quoted(text, folds, indent),
            Style::DoubleQuoted => self.double_quoted(text, folds, indent),
            Style::Literal => return self.literal(text, indent, comment),
            Style::Folded => return self.folded(text, indent, comment),
        }
        self.line_comment(comment, indent);
    }

    /// Text of one line, folded at single spaces beyond the width.
    fn folded_at_width(&mut self, text: &str, folds: bool, indent: usize) {
        if !folds || self.column + text.len() <= self.width {
            return self.put_str(text);
        }
        let mut previous = ' ';
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let single = c == ' ' && previous != ' ' && chars.peek().is_some_and(|next| *next != ' ');
            if single && self.column > self.width {
                self.indention = false;
                self.indent(indent);
            } else {
                self.put(c);
            }
            previous = c;
        }
    }

    fn single_quoted(&mut self, text: &str, folds: bool, indent: usize) {
        self.indicator("'", true, false);
        let mut in_run = false;
        for (i, line) in text.split('\n').enumerate() {
            if i > 0 {
                if !in_run {
                    // A single break reads as a space, so the first of a run is written twice.
                    self.line_break();
                }
                self.line_break();
            }
            let mut after_break = i > 0;
            for (content, old_break) in old_lines(line) {
                if !content.is_empty() {
                    if after_break {
                        self.indent(indent);
                    }
                    if content.contains('\'') {
                        self.folded_at_width(&content.replace('\'', "''"), folds, indent);
                    } else {
                        self.folded_at_width(content, folds, indent);
                    }
                    self.indention = false;
                }
                after_break |= self.old_break(old_break);
            }
            in_run = i > 0 && line.is_empty();
        }
        self.indicator("'", false, false);
    }

    /// Writes a character that is a line break to YAML 1.1 only, if there is one: it stands for itself, and the next line
    /// begins after it.
    fn old_break(&mut self, c: Option<char>) -> bool {
        if let Some(c) = c {
            self.out.push(c);
            self.column = 0;
            self.indention = true;
            self.whitespace = true;
        }
        c.is_some()
    }

    fn double_quoted(&mut self, text: &str, folds: bool, indent: usize) {
        self.indicator("\"", true, false);
        if text.starts_with('\u{feff}') {
            // libyaml takes every character for the mark that the text begins with.
            text.chars().for_each(|c| self.put_str(&escape_always(c)));
            return self.indicator("\"", false, false);
        }
        let mut after_space = false;
        let mut chars = text.chars().enumerate().peekable();
        while let Some((i, c)) = chars.next() {
            let next = chars.peek().map(|(_, next)| *next);
            if c == ' ' {
                if let Some(next) = next
                    && folds
                    && !after_space
                    && i > 0
                    && self.column > self.width
                {
                    self.indention = false;
                    self.indent(indent);
                    if next == ' ' {
                        self.put('\\');
                    }
                } else {
                    self.put(' ');
                }
                after_space = true;
                continue;
            }
            after_space = false;
            match escape(c) {
                Some(escape) => self.put_str(&escape),
                None => self.put(c),
            }
        }
        self.indicator("\"", false, false);
    }

    /// The header of a block scalar: indicator, indentation hint, chomping.
    fn block_header(&mut self, indicator: &str, text: &str, indent: usize, comment: &str) {
        let hint = if text.starts_with(|c| c == ' ' || is_break(c)) { self.step } else { "" };
        let chomp = match text.strip_suffix(is_break) {
            None => "-",
            Some(rest) if rest.is_empty() || rest.ends_with(is_break) => "+",
            Some(_) => "",
        };
        self.indicator(indicator, true, false);
        self.put_str(hint);
        self.put_str(chomp);
        if comment.is_empty() {
            self.line_break();
        } else {
            self.line_comment(comment, indent);
        }
        self.whitespace = true;
    }

    fn literal(&mut self, text: &str, indent: usize, comment: &str) {
        self.block_header("|", text, indent, comment);
        self.block_lines(text.split('\n'), indent);
    }

    fn folded(&mut self, text: &str, indent: usize, comment: &str) {
        self.block_header(">", text, indent, comment);
        let lines: Vec<&str> = text.split('\n').collect();
        let mut written: Vec<&str> = Vec::with_capacity(lines.len() * 2);
        // A break between two lines that begin with text reads as a space, so one more is needed there.
        let mut last_text = " ";
        for line in &lines {
            let plain = |line: &str| !line.starts_with([' ', '\t']);
            if !line.is_empty() {
                if plain(last_text) && plain(line) {
                    written.push("");
                }
                last_text = line;
            }
            written.push(line);
        }
        self.block_lines(written.into_iter(), indent);
    }

    /// Lines of a block scalar; the last one is without a break.
    fn block_lines<'a>(&mut self, lines: impl Iterator<Item = &'a str>, indent: usize) {
        for (i, line) in lines.enumerate() {
            if i > 0 {
                self.line_break();
            }
            if !line.is_empty() {
                for (content, old_break) in old_lines(line) {
                    if !content.is_empty() {
                        while self.column < indent {
                            self.put(' ');
                        }
                        self.put_str(content);
                        self.indention = false;
                        self.whitespace = false;
                    }
                    self.old_break(old_break);
                }
            }
        }
        if self.column == 0 {
            self.whitespace = true;
        }
    }
}

/// What a line is to YAML 1.1: several, each with the character that ends it.
fn old_lines(line: &str) -> impl Iterator<Item = (&str, Option<char>)> {
    line.split_inclusive(OLD_BREAKS).map(|part| {
        let end = part.chars().next_back().filter(|c| OLD_BREAKS.contains(c));
        (&part[..part.len() - end.map_or(0, char::len_utf8)], end)
    })
}
