//! Texts as Go's YAML libraries take them: how bytes become one, and which characters may stand in it.

use std::borrow::Cow;

use crate::node::Pos;
use crate::parse::ParseError;

const BOM: char = '\u{feff}';

/// The text of a YAML file: UTF-8, or UTF-16 where a byte order mark says so. The mark is left out.
///
/// # Errors
/// Where the bytes are not of that encoding, with the line.
pub fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, ParseError> {
    let text = match bytes {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => {
            return Err(wrong(
                1,
                "the bytes are UTF-32 text, which nothing of Kubernetes reads; save it as UTF-8",
            ));
        }
        [0xff, 0xfe, rest @ ..] => Cow::Owned(utf16(rest, u16::from_le_bytes)?),
        [0xfe, 0xff, rest @ ..] => Cow::Owned(utf16(rest, u16::from_be_bytes)?),
        bytes => Cow::Borrowed(str::from_utf8(bytes).map_err(|e| {
            let line = bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
            wrong(line, "the bytes are not UTF-8 text")
        })?),
    };
    Ok(match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.strip_prefix(BOM).unwrap_or(text)),
        owned => owned,
    })
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, ParseError> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let mut text = String::with_capacity(bytes.len());
    for c in char::decode_utf16(pairs.iter().map(|pair| unit(*pair))) {
        let line = text.matches('\n').count() + 1;
        text.push(c.map_err(|_| wrong(line, "the bytes are not UTF-16 text, though they begin like it"))?);
    }
    if rest.is_empty() {
        return Ok(text);
    }
    let line = text.matches('\n').count() + 1;
    Err(wrong(line, "the bytes are not UTF-16 text, though they begin like it: half a character is left"))
}

fn wrong(line: usize, message: &str) -> ParseError {
    let line = u32::try_from(line).unwrap_or(u32::MAX);
    ParseError { pos: Pos { line, column: 0, ..Pos::default() }, message: message.to_owned() }
}

/// Whether Go's YAML readers refuse the character.
pub(crate) fn is_forbidden(c: char) -> bool {
    matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{7f}'..='\u{84}' | '\u{86}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}')
}

/// The place of the first character that Go's YAML readers refuse, in bytes.
pub(crate) fn first_forbidden(text: &str) -> Option<usize> {
    // What begins one in UTF-8; nearly no text has any of these bytes.
    let suspect = |b: u8| matches!(b, 0..=8 | 0xb | 0xc | 0xe..=0x1f | 0x7f | 0xc2 | 0xef);
    if !text.bytes().any(suspect) {
        return None;
    }
    text.char_indices().find(|(_, c)| is_forbidden(*c)).map(|(at, _)| at)
}

/// Why the character at a place is refused, and what to do.
pub(crate) fn forbidden(text: &str, at: usize) -> String {
    match text[at..].chars().next() {
        // Every other byte of a text of ASCII characters in UTF-16, and three of four in UTF-32.
        None | Some('\0') => "control characters are not allowed, and U+0000 is one; save the file as UTF-8 if it is UTF-16 or UTF-32 \
                              without a mark at its beginning, else take the character out"
            .to_owned(),
        Some(c) => format!(
            "control characters are not allowed, and U+{:04X} is one; take it out, or write it as an escape in double quotes",
            u32::from(c)
        ),
    }
}

/// Line breaks of YAML 1.1 that are none of YAML 1.2.
pub(crate) const OLD_BREAKS: [char; 3] = [NEXT_LINE, '\u{2028}', '\u{2029}'];
/// The one that is folded like `\n`.
pub(crate) const NEXT_LINE: char = '\u{85}';
/// Those that stay where they are folded.
pub(crate) const SEPARATORS: [char; 2] = ['\u{2028}', '\u{2029}'];

/// A text with the breaks by next line (U+0085) folded, as between quotes: one is a space, of several all but one stay.
/// That becomes of a text that Go writes as JSON and a YAML library reads.
pub fn fold_next_lines(text: Cow<'_, str>) -> Cow<'_, str> {
    if !text.contains(NEXT_LINE) {
        return text;
    }
    let (mut folded, mut rest) = (String::with_capacity(text.len()), &*text);
    while let Some(at) = rest.find(NEXT_LINE) {
        folded.push_str(rest[..at].trim_end_matches(' '));
        let after = rest[at..].trim_start_matches([' ', NEXT_LINE]);
        match rest[at..rest.len() - after.len()].matches(NEXT_LINE).count() {
            1 => folded.push(' '),
            more => folded.push_str(&"\n".repeat(more - 1)),
        }
        rest = after;
    }
    folded.push_str(rest);
    folded.into()
}
