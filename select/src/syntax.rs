//! Go's syntax of regular expressions. Source: `regexp/syntax` of Go 1.26, with the flags that `regexp.Compile` sets.

use crate::class;
use crate::regexp::RegexpError;

/// A pattern that was read.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    Concat(Vec<Node>),
    Alternate(Vec<Node>),
    /// One character, as a class in the syntax of the `regex` crate.
    Class {
        items: String,
        fold: bool,
    },
    Any {
        newline: bool,
    },
    Begin {
        line: bool,
    },
    End {
        line: bool,
    },
    WordBoundary {
        negated: bool,
    },
    Repeat {
        what: Box<Node>,
        least: u32,
        most: Option<u32>,
        lazy: bool,
    },
}

/// Groups inside each other. Go reads 1,000; nobody writes them.
const DEEPEST: usize = 100;

/// How often something may be repeated, repetitions around it counted in.
const MOST_REPEATS: u32 = 1_000;

#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    fold: bool,
    lines: bool,
    dot_newline: bool,
    lazy: bool,
}

/// A group that has not ended.
struct Frame {
    alternatives: Vec<Node>,
    parts: Vec<Node>,
    /// The flags outside of it.
    outer: Flags,
}

impl Frame {
    fn new(outer: Flags) -> Self {
        Self { alternatives: Vec::new(), parts: Vec::new(), outer }
    }

    fn end_alternative(&mut self) {
        self.alternatives.push(Node::Concat(std::mem::take(&mut self.parts)));
    }

    fn finish(mut self) -> Node {
        self.end_alternative();
        Node::Alternate(self.alternatives)
    }
}

struct Parser<'a> {
    whole: &'a str,
    rest: &'a str,
    flags: Flags,
    frame: Frame,
    outer: Vec<Frame>,
    /// Where the repetition begins that has just been read.
    repeated: Option<&'a str>,
}

type Parsed<T> = Result<T, RegexpError>;

fn fail<T>(what: &'static str, part: &str) -> Parsed<T> {
    Err(RegexpError { what, part: part.to_owned() })
}

/// What of `from` stands before `to`, which is its end.
fn before<'a>(from: &'a str, to: &str) -> &'a str {
    &from[..from.len() - to.len()]
}

pub(crate) fn parse(pattern: &str) -> Parsed<Node> {
    let flags = Flags::default();
    let frame = Frame::new(flags);
    let mut parser =
        Parser { whole: pattern, rest: pattern, flags, frame, outer: Vec::new(), repeated: None };
    while let Some(first) = parser.rest.chars().next() {
        let repeated = parser.step(first)?;
        parser.repeated = repeated;
    }
    if !parser.outer.is_empty() {
        return fail("missing closing )", pattern);
    }
    Ok(parser.frame.finish())
}

impl<'a> Parser<'a> {
    /// Reads one part; if it is a repetition, where that begins.
    fn step(&mut self, first: char) -> Parsed<Option<&'a str>> {
        let start = self.rest;
        self.rest = &start[first.len_utf8()..];
        match first {
            '(' if self.rest.starts_with('?') => self.perl_group(start)?,
            '(' => self.open()?,
            ')' => {
                let Some(outer) = self.outer.pop() else { return fail("unexpected )", self.whole) };
                let group = std::mem::replace(&mut self.frame, outer);
                self.flags = group.outer;
                self.frame.parts.push(group.finish());
            }
            '|' => self.frame.end_alternative(),
            '^' => self.frame.parts.push(Node::Begin { line: self.flags.lines }),
            '$' => self.frame.parts.push(Node::End { line: self.flags.lines }),
            '.' => self.frame.parts.push(Node::Any { newline: self.flags.dot_newline }),
            '[' => self.class(start)?,
            '*' => return self.repeat(start, 0, None),
            '+' => return self.repeat(start, 1, None),
            '?' => return self.repeat(start, 0, Some(1)),
            '{' => {
                let Some((least, most, rest)) = repetition(self.rest) else {
                    self.literal('{');
                    return Ok(None);
                };
                self.rest = rest;
                let too_many = |n: u32| n > MOST_REPEATS;
                if too_many(least) || most.is_some_and(|most| too_many(most) || least > most) {
                    return fail("invalid repeat count", before(start, rest));
                }
                let result = self.repeat(start, least, most)?;
                let counted =
                    self.frame.parts.last().filter(|_| least > 1 || most.is_some_and(|most| most > 1));
                if counted.is_some_and(|node| !is_few(node, MOST_REPEATS)) {
                    return fail("invalid repeat count", before(start, self.rest));
                }
                return Ok(result);
            }
            '\\' => self.escaped(start)?,
            c => self.literal(c),
        }
        Ok(None)
    }

    fn literal(&mut self, c: char) {
        self.code(u32::from(c));
    }

    fn code(&mut self, code: u32) {
        let items = class::whole(&class::range(code, code), false);
        self.frame.parts.push(Node::Class { items, fold: self.flags.fold });
    }

    fn open(&mut self) -> Parsed<()> {
        if self.outer.len() >= DEEPEST {
            return fail("expression nests too deeply", self.whole);
        }
        self.outer.push(std::mem::replace(&mut self.frame, Frame::new(self.flags)));
        Ok(())
    }

    /// `(?flags)`, `(?flags:`, `(?P<name>`, `(?<name>`.
    fn perl_group(&mut self, start: &'a str) -> Parsed<()> {
        let named = if start.len() > 4 && start.starts_with("(?P<") {
            Some(4)
        } else {
            (start.len() > 3 && start.starts_with("(?<")).then_some(3)
        };
        if let Some(from) = named {
            let Some(end) = start.find('>') else { return fail("invalid named capture", start) };
            let name = start.get(from..end).unwrap_or_default();
            if name.is_empty() || !name.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric()) {
                return fail("invalid named capture", &start[..=end]);
            }
            self.rest = &start[end + 1..];
            return self.open();
        }
        self.rest = &start[2..];
        let (mut flags, mut set, mut seen) = (self.flags, true, false);
        while let Some(c) = self.rest.chars().next() {
            self.rest = &self.rest[c.len_utf8()..];
            match c {
                'i' => flags.fold = set,
                'm' => flags.lines = set,
                's' => flags.dot_newline = set,
                'U' => flags.lazy = set,
                '-' if set => {
                    (set, seen) = (false, false);
                    continue;
                }
                ':' | ')' if set || seen => {
                    if c == ':' {
                        self.open()?;
                    }
                    self.flags = flags;
                    return Ok(());
                }
                _ => break,
            }
            seen = true;
        }
        fail("invalid or unsupported Perl syntax", before(start, self.rest))
    }

    /// Repeats what was read last. `start` is where the operator stands, `self.rest` what comes after it.
    fn repeat(&mut self, start: &'a str, least: u32, most: Option<u32>) -> Parsed<Option<&'a str>> {
        let greedy = self.rest.strip_prefix('?');
        let lazy = self.flags.lazy != greedy.is_some();
        self.rest = greedy.unwrap_or(self.rest);
        if let Some(first) = self.repeated {
            return fail("invalid nested repetition operator", before(first, self.rest));
        }
        let Some(what) = self.frame.parts.pop() else {
            return fail("missing argument to repetition operator", before(start, self.rest));
        };
        self.frame.parts.push(Node::Repeat { what: Box::new(what), least, most, lazy });
        Ok(Some(start))
    }

    /// After a backslash, outside of a class.
    fn escaped(&mut self, start: &'a str) -> Parsed<()> {
        let Some(c) = self.rest.chars().next() else {
            return fail("trailing backslash at end of expression", "");
        };
        let after = &self.rest[c.len_utf8()..];
        let node = match c {
            'A' => Node::Begin { line: false },
            'z' => Node::End { line: false },
            'b' | 'B' => Node::WordBoundary { negated: c == 'B' },
            'C' => return fail("invalid escape sequence", "\\C"),
            'Q' => {
                let (text, rest) = after.split_once("\\E").unwrap_or((after, ""));
                text.chars().for_each(|c| self.literal(c));
                self.rest = rest;
                return Ok(());
            }
            'p' | 'P' => {
                let (items, rest) = unicode(start)?;
                self.rest = rest;
                self.frame.parts.push(Node::Class { items, fold: self.flags.fold });
                return Ok(());
            }
            c => match class::perl(c) {
                Some(items) => Node::Class { items: items.to_owned(), fold: self.flags.fold },
                None => {
                    let (code, rest) = escape(start)?;
                    self.rest = rest;
                    self.code(code);
                    return Ok(());
                }
            },
        };
        self.rest = after;
        self.frame.parts.push(node);
        Ok(())
    }

    /// After `[`.
    fn class(&mut self, start: &'a str) -> Parsed<()> {
        let mut rest = self.rest;
        let negated = rest.starts_with('^');
        rest = rest.strip_prefix('^').unwrap_or(rest);
        let (mut items, mut first) = (String::new(), true);
        while first || !rest.starts_with(']') {
            first = false;
            if let Some(name) = rest.strip_prefix("[:")
                && let Some((name, after)) = name.split_once(":]")
            {
                let Some(class) = class::posix(name) else {
                    return fail("invalid character class range", before(rest, after));
                };
                items.push_str(&class);
                rest = after;
                continue;
            }
            if let Some(escaped) = rest.strip_prefix('\\') {
                let c = escaped.chars().next();
                if matches!(c, Some('p' | 'P')) {
                    let class;
                    (class, rest) = unicode(rest)?;
                    items.push_str(&class);
                    continue;
                }
                if let Some(class) = c.and_then(class::perl) {
                    items.push_str(class);
                    rest = &escaped[1..];
                    continue;
                }
            }
            let from = rest;
            let low;
            (low, rest) = class_char(rest, start)?;
            let mut high = low;
            if let Some(after) = rest.strip_prefix('-')
                && !after.is_empty()
                && !after.starts_with(']')
            {
                (high, rest) = class_char(after, start)?;
                if high < low {
                    return fail("invalid character class range", before(from, rest));
                }
            }
            items.push_str(&class::range(low, high));
        }
        self.rest = &rest[1..];
        let items = class::whole(&items, negated);
        self.frame.parts.push(Node::Class { items, fold: self.flags.fold });
        Ok(())
    }
}

fn class_char<'a>(text: &'a str, class: &str) -> Parsed<(u32, &'a str)> {
    match text.chars().next() {
        None => fail("missing closing ]", class),
        Some('\\') => escape(text),
        Some(c) => Ok((u32::from(c), &text[c.len_utf8()..])),
    }
}

/// The code point of an escape, and what follows it. `start` begins with the backslash.
fn escape(start: &str) -> Parsed<(u32, &str)> {
    let Some(c) = start[1..].chars().next() else {
        return fail("trailing backslash at end of expression", "");
    };
    let after = &start[1 + c.len_utf8()..];
    let octal =
        |text: &str| text.bytes().next().filter(|b| (b'0'..b'8').contains(b)).map(|b| u32::from(b - b'0'));
    let code = match c {
        'a' => 7,
        'f' => 12,
        'n' => 10,
        'r' => 13,
        't' => 9,
        'v' => 11,
        '0'..='7' if c == '0' || octal(after).is_some() => {
            let (mut code, mut rest) = (u32::from(c) - u32::from('0'), after);
            for _ in 0..2 {
                let Some(digit) = octal(rest) else { break };
                (code, rest) = (code * 8 + digit, &rest[1..]);
            }
            return Ok((code, rest));
        }
        'x' => return hexadecimal(start, after),
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => u32::from(c),
        _ => return fail("invalid escape sequence", before(start, after)),
    };
    Ok((code, after))
}

fn hexadecimal<'a>(start: &'a str, after: &'a str) -> Parsed<(u32, &'a str)> {
    let mut rest = after;
    let next = |rest: &mut &'a str| {
        let c = rest.chars().next()?;
        *rest = &rest[c.len_utf8()..];
        Some(c)
    };
    let bad = |rest: &str| fail("invalid escape sequence", before(start, rest));
    let braced = rest.starts_with('{');
    if !braced {
        let (high, low) = (next(&mut rest), next(&mut rest));
        let digit = |c: Option<char>| c.and_then(|c| c.to_digit(16));
        return match (digit(high), digit(low)) {
            (Some(high), Some(low)) => Ok((high * 16 + low, rest)),
            _ if high.is_some_and(|c| !c.is_ascii_hexdigit()) && low.is_none() => bad(rest),
            _ => bad(rest),
        };
    }
    next(&mut rest);
    let (mut code, mut digits) = (0_u32, 0);
    loop {
        match next(&mut rest) {
            Some('}') if digits > 0 => return Ok((code, rest)),
            Some(c) if c.is_ascii_hexdigit() => {
                code = code * 16 + c.to_digit(16).unwrap_or_default();
                digits += 1;
                if code > u32::from(char::MAX) {
                    return bad(rest);
                }
            }
            _ => return bad(rest),
        }
    }
}

/// `\p{Greek}`, `\pL`, `\P{^Lu}`: the class, and what follows it. `start` begins with the backslash.
fn unicode(start: &str) -> Parsed<(String, &str)> {
    let negated = start[1..].starts_with('P');
    let name = &start[2..];
    let Some(first) = name.chars().next() else {
        return fail("invalid character class range", start);
    };
    let (name, rest) = match name.strip_prefix('{') {
        Some(name) => match name.split_once('}') {
            Some(parts) => parts,
            None => return fail("invalid character class range", start),
        },
        None => name.split_at(first.len_utf8()),
    };
    let (not, bare) = match name.strip_prefix('^') {
        Some(name) => (true, name),
        None => (false, name),
    };
    match class::unicode(bare, negated != not) {
        Some(class) => Ok((class, rest)),
        None => fail("invalid character class range", before(start, rest)),
    }
}

/// `2}`, `2,}`, `2,3}`: the counts, and what follows. Counts too large for anything are as large as can be.
fn repetition(text: &str) -> Option<(u32, Option<u32>, &str)> {
    let (least, rest) = count(text)?;
    if let Some(rest) = rest.strip_prefix('}') {
        return Some((least, Some(least), rest));
    }
    let rest = rest.strip_prefix(',')?;
    if let Some(rest) = rest.strip_prefix('}') {
        return Some((least, None, rest));
    }
    let (most, rest) = count(rest)?;
    Some((least, Some(most), rest.strip_prefix('}')?))
}

fn count(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let digits = &text[..end];
    if digits.is_empty() || (digits.len() > 1 && digits.starts_with('0')) {
        return None;
    }
    Some((digits.parse().unwrap_or(u32::MAX), &text[end..]))
}

/// Whether counted repetitions inside each other come to no more than `most`.
fn is_few(node: &Node, most: u32) -> bool {
    match node {
        Node::Concat(parts) | Node::Alternate(parts) => parts.iter().all(|part| is_few(part, most)),
        // `*`, `+` and `?` don't count.
        Node::Repeat { what, least, most: None, .. } if *least < 2 => is_few(what, most),
        Node::Repeat { what, least: 0, most: Some(1), .. } => is_few(what, most),
        Node::Repeat { what, least, most: limit, .. } => match limit.unwrap_or(*least) {
            0 => true,
            times => times <= most && is_few(what, most / times),
        },
        _ => true,
    }
}
