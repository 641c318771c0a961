//! Which style a text can be written in, and which characters are escaped.

use crate::node::Style;
use crate::text::OLD_BREAKS;

/// Where a scalar stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Value,
    /// A key that is written without `?`.
    SimpleKey,
    Flow,
    FlowKey,
}

/// For whom a text is written, and as what writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writer {
    /// go-yaml v3: tabs rule out plain and single-quoted scalars.
    Kyaml,
    /// go-yaml v2: tabs rule out blocks too.
    Canonical,
    /// go-yaml v2 to the letter: characters that are line breaks to YAML 1.1 only are written as they are, with
    /// indentation after them. YAML 1.2 reads that as other text.
    Print,
}

/// What styles a text can be written in.
pub(crate) struct Analysis {
    multiline: bool,
    pub(crate) plain: bool,
    flow_plain: bool,
    pub(crate) single_quoted: bool,
    pub(crate) block: bool,
}

/// The wanted style, or the nearest one that the text allows in its place.
pub(crate) fn choose(text: &str, wanted: Style, place: Place, analysis: &Analysis) -> Style {
    let flow = matches!(place, Place::Flow | Place::FlowKey);
    let key = matches!(place, Place::SimpleKey | Place::FlowKey);
    let mut style = wanted;
    if key && analysis.multiline {
        style = Style::DoubleQuoted;
    }
    if matches!(style, Style::Plain | Style::Flow) {
        let allowed = if flow { analysis.flow_plain } else { analysis.plain };
        if !allowed || (text.is_empty() && (flow || key)) {
            style = Style::SingleQuoted;
        }
    }
    if style == Style::SingleQuoted && !analysis.single_quoted {
        style = Style::DoubleQuoted;
    }
    if matches!(style, Style::Literal | Style::Folded) && (!analysis.block || flow || key) {
        style = Style::DoubleQuoted;
    }
    style
}

pub(crate) fn analyze(text: &str, writer: Writer) -> Analysis {
    if text.is_empty() {
        return Analysis {
            multiline: false,
            plain: true,
            flow_plain: false,
            single_quoted: true,
            block: false,
        };
    }
    if writer == Writer::Print && text.contains(OLD_BREAKS) {
        return analyze_old_breaks(text);
    }
    let bytes = text.as_bytes();
    let marker = text.starts_with("---") || text.starts_with("...");
    let (mut flow_indicators, mut block_indicators) = (marker, marker);
    let (mut breaks, mut break_space, mut space_break, mut tabs, mut special) =
        (false, false, false, false, false);
    for (i, &byte) in bytes.iter().enumerate() {
        let before = i.checked_sub(1).map(|at| bytes[at]);
        let blank_follows = bytes.get(i + 1).is_none_or(|b| matches!(b, b' ' | b'\t'));
        match byte {
            b'#' | b',' | b'[' | b']' | b'{' | b'}' | b'&' | b'*' | b'!' | b'|' | b'>' | b'\'' | b'"'
            | b'%' | b'@' | b'`'
                if i == 0 =>
            {
                (flow_indicators, block_indicators) = (true, true);
            }
            b'-' if i == 0 => {
                flow_indicators |= blank_follows;
                block_indicators |= blank_follows;
            }
            b'?' if i == 0 => {
                flow_indicators = true;
                block_indicators |= blank_follows;
            }
            b',' | b'?' | b'[' | b']' | b'{' | b'}' => flow_indicators = true,
            b':' => {
                flow_indicators = true;
                block_indicators |= blank_follows;
            }
            b'#' if matches!(before, Some(b' ' | b'\t' | b'\n')) => {
                (flow_indicators, block_indicators) = (true, true);
            }
            b'\n' => {
                breaks = true;
                space_break |= before == Some(b' ');
            }
            b' ' => break_space |= before == Some(b'\n'),
            b'\t' => tabs = true,
            0..0x20 | 0x7f => special = true,
            _ => {}
        }
    }
    if !text.is_ascii() {
        // Where others read the text, line breaks of YAML 1.1 only are escaped, which means the same to everybody.
        special |= text.chars().any(|c| !is_printable(c) || OLD_BREAKS.contains(&c));
    }
    if writer != Writer::Kyaml && tabs {
        special = true;
    }
    let ends_bare = |s: &str| s.starts_with([' ', '\n']) || s.ends_with([' ', '\n']);
    let plain = !ends_bare(text) && !break_space && !space_break && !special && !tabs && !breaks;
    Analysis {
        multiline: breaks,
        plain: plain && !block_indicators,
        flow_plain: plain && !flow_indicators,
        single_quoted: !break_space && !space_break && !special && !tabs,
        block: !text.ends_with(' ') && !space_break && !special,
    }
}

/// As [`analyze`], for a text with characters that are line breaks to YAML 1.1 only: as if they were `\n`, but that next
/// line (U+0085) is not written as it is.
fn analyze_old_breaks(text: &str) -> Analysis {
    let special = text.contains('\u{85}');
    let analysis = analyze(&text.replace(OLD_BREAKS, "\n"), Writer::Canonical);
    let (single_quoted, block) = (analysis.single_quoted && !special, analysis.block && !special);
    Analysis { single_quoted, block, ..analysis }
}

/// Whether libyaml writes the character as it is.
fn is_printable(c: char) -> bool {
    matches!(c, '\n' | '\t' | ' '..='~' | '\u{a0}'..='\u{fffd}') && c != '\u{feff}'
}

/// Whether libyaml takes the character for a line break.
pub(crate) fn is_break(c: char) -> bool {
    matches!(c, '\n' | '\r') || OLD_BREAKS.contains(&c)
}

/// How a character stands in double quotes, if not for itself.
pub(crate) fn escape(c: char) -> Option<String> {
    (!is_printable(c) || is_break(c) || matches!(c, '"' | '\\' | '\t')).then(|| escape_always(c))
}

/// The escape of a character.
pub(crate) fn escape_always(c: char) -> String {
    let short = match c {
        '\0' => '0',
        '\u{7}' => 'a',
        '\u{8}' => 'b',
        '\t' => 't',
        '\n' => 'n',
        '\u{b}' => 'v',
        '\u{c}' => 'f',
        '\r' => 'r',
        '\u{1b}' => 'e',
        '"' => '"',
        '\\' => '\\',
        '\u{85}' => 'N',
        '\u{2028}' => 'L',
        '\u{2029}' => 'P',
        '\u{a0}' => '_',
        c => {
            let code = u32::from(c);
            return match code {
                0..=0xff => format!("\\x{code:02X}"),
                0x100..=0xffff => format!("\\u{code:04X}"),
                _ => format!("\\U{code:08X}"),
            };
        }
    };
    ['\\', short].iter().collect()
}

/// Whether a key of this text can do without `?`: one line, at most 128 bytes with its tag.
pub(crate) fn is_simple_key(text: &str, tag: usize) -> bool {
    text.len() + tag <= 128 && !text.contains(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'])
}
