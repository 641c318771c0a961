//! Reads Rust source just well enough to say what code outside of tests calls by name.
//!
//! ```text
//!   source ─ blank ─► no comments, no literals ─ shipped ─► no `#[cfg(test)]` items ─ ambient ─► findings
//! ```
//!
//! Everything that goes is replaced by spaces, so that line numbers stay.

/// Modules of `std` that reach out of the program.
const AMBIENT_MODULES: [&str; 4] = ["env", "fs", "net", "process"];
/// Clocks.
const CLOCKS: [&str; 5] = ["Instant::now", "SystemTime::now", "Timestamp::now", "Zoned::now", "Utc::now"];

/// Source with comments and the content of literals blanked.
pub(super) fn blank(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let end = if rest.starts_with(b"//") {
            at + rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            at + block_comment(rest)
        } else if rest[0] == b'"' {
            at + string(rest)
        } else if let Some(length) = raw_string(bytes, at) {
            at + length
        } else if let Some(length) = char_literal(rest) {
            at + length
        } else {
            at += 1;
            continue;
        };
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    // Whole literals and comments are replaced, so no character is cut in two.
    String::from_utf8_lossy(&out).into_owned()
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at.min(rest.len())
}

fn string(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// `r"…"`, `r#"…"#` and so on, at a place that is no part of a longer word.
fn raw_string(bytes: &[u8], at: usize) -> Option<usize> {
    let before = at.checked_sub(1).map(|before| bytes[before]);
    // `b` and `c` may stand before `r`; anything else makes it the end of a name.
    if bytes[at] != b'r' || before.is_some_and(|b| is_word(b) && !matches!(b, b'b' | b'c')) {
        return None;
    }
    let rest = &bytes[at + 1..];
    let hashes = rest.iter().take_while(|&&b| b == b'#').count();
    if rest.get(hashes) != Some(&b'"') {
        return None;
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let body = &rest[hashes + 1..];
    let length =
        body.windows(close.len()).position(|window| window == close).map_or(body.len(), |p| p + close.len());
    Some(1 + hashes + 1 + length)
}

/// `'x'`, `'\n'`, `'\u{1f}'`; not a lifetime.
fn char_literal(rest: &[u8]) -> Option<usize> {
    if rest[0] != b'\'' {
        return None;
    }
    if rest.get(1) == Some(&b'\\') {
        return rest.iter().skip(3).position(|&b| b == b'\'').map(|p| p + 4);
    }
    let text = std::str::from_utf8(&rest[1..rest.len().min(6)])
        .unwrap_or_else(|error| std::str::from_utf8(&rest[1..1 + error.valid_up_to()]).unwrap_or_default());
    let length = text.chars().next()?.len_utf8();
    (rest.get(1 + length) == Some(&b'\'')).then_some(length + 2)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Blanked source without the items under `#[cfg(test)]`, and the names of the modules among these that stand in
/// files of their own.
pub(super) fn shipped(blanked: &str) -> (String, Vec<String>) {
    const ATTRIBUTE: &str = "#[cfg(test)]";
    let mut out = blanked.to_owned();
    let mut modules = Vec::new();
    while let Some(start) = out.find(ATTRIBUTE) {
        let item = &out[start + ATTRIBUTE.len()..];
        let length = item_length(item);
        if let Some(module) = item[..length].trim().strip_suffix(';').and_then(module_name) {
            modules.push(module.to_owned());
        }
        let end = start + ATTRIBUTE.len() + length;
        let blanks: String = out[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(start..end, &blanks);
    }
    (out, modules)
}

/// The length of the item that a text starts with: to its `;`, or to the brace that closes its body.
fn item_length(item: &str) -> usize {
    let (mut braces, mut others) = (0, 0);
    for (at, c) in item.char_indices() {
        match c {
            '{' => braces += 1,
            '}' => {
                braces -= 1;
                if braces <= 0 && others == 0 {
                    return at + 1;
                }
            }
            '(' | '[' => others += 1,
            ')' | ']' => others -= 1,
            ';' if braces == 0 && others == 0 => return at + 1,
            _ => {}
        }
    }
    item.len()
}

/// `mod name` or `pub mod name`, to the name.
fn module_name(item: &str) -> Option<&str> {
    let mut words = item.split_whitespace().rev();
    let name = words.next()?;
    (words.next() == Some("mod")).then_some(name)
}

/// Each place where code reaches for files, environment, network, processes or the clock: line and name.
pub(super) fn ambient(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for module in AMBIENT_MODULES {
        let path = format!("std::{module}");
        found.extend(word_starts(code, &path).map(|at| (line_of(code, at), path.clone())));
    }
    for clock in CLOCKS {
        found.extend(word_starts(code, clock).map(|at| (line_of(code, at), clock.to_owned())));
    }
    for (at, group) in code.match_indices("std::{") {
        let names = group_names(&code[at + group.len()..]);
        let ambient = names.into_iter().filter(|(_, name)| AMBIENT_MODULES.contains(name));
        let start = at + group.len();
        found.extend(ambient.map(|(offset, name)| (line_of(code, start + offset), format!("std::{name}"))));
    }
    found.sort();
    found
}

/// Where `path` stands as whole words and not as a macro (`std::env!` is read at compile time).
fn word_starts<'a>(code: &'a str, path: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(path).map(|(at, _)| at).filter(move |&at| {
        let before = at.checked_sub(1).map(|before| code.as_bytes()[before]);
        let after = code.as_bytes().get(at + path.len()).copied();
        !before.is_some_and(is_word) && !after.is_some_and(|b| is_word(b) || b == b'!')
    })
}

/// The first words of a `{…}` group's members, with their offsets; the text starts behind the brace.
fn group_names(text: &str) -> Vec<(usize, &str)> {
    let mut names = Vec::new();
    let (mut depth, mut fresh) = (0, true);
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            c if fresh && !c.is_whitespace() => {
                let length = text[at..].bytes().take_while(|&b| is_word(b)).count();
                names.push((at, &text[at..at + length]));
                fresh = false;
            }
            _ => {}
        }
    }
    names
}

/// Whether a blanked source holds a test: an attribute whose last word is `test`.
pub(super) fn has_test(blanked: &str) -> bool {
    blanked.match_indices("#[").any(|(at, open)| {
        let inner = &blanked[at + open.len()..];
        let path = inner.split(['(', ']']).next().unwrap_or_default();
        path.trim().rsplit("::").next() == Some("test")
    })
}

/// The line, from 1, of a place in a text.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().filter(|&&b| b == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(source: &str) -> Vec<(usize, String)> {
        ambient(&shipped(&blank(source)).0)
    }

    #[test]
    fn comments_and_literals_are_blanked_and_lines_stay() {
        // Each piece with whether it stays.
        for pieces in [
            &[("a ", true), ("// std::fs", false), ("\nb", true)][..],
            &[("a ", true), ("/* x /* y */ z", false), ("\n", true), (" */", false), (" b", true)],
            &[("f(", true), (r#""std::fs \" x""#, false), (") + 1", true)],
            &[("f(", true), (r##"r#"a "quoted" b"#"##, false), (") + 1", true)],
            &[("f(", true), ("'\"'", false), (", ", true), (r"'\''", false), (") + g::<'a>(x)", true)],
            &[("f(", true), ("'é'", false), (", ", true), (r"'\u{1f}'", false), (")", true)],
            &[("for_r!", true), ("\"x\"", false)],
            &[("a = ", true), ("\"never closed", false)],
        ] {
            let source: String = pieces.iter().map(|(text, _)| *text).collect();
            let expected: String = pieces
                .iter()
                .map(|&(text, stays)| if stays { text.to_owned() } else { " ".repeat(text.len()) })
                .collect();
            assert_eq!(blank(&source), expected, "{source}");
        }
    }

    #[test]
    fn what_reaches_out_is_found_by_line() {
        for (source, expected) in [
            ("use std::fs;", &[(1, "std::fs")][..]),
            ("fn f() {\n  std::env::var(\"X\");\n}", &[(2, "std::env")]),
            ("use std::{\n  collections::{BTreeMap, fs},\n  net::IpAddr,\n};", &[(3, "std::net")]),
            ("let now = SystemTime::now();", &[(1, "SystemTime::now")]),
            ("let now = jiff::Timestamp::now();", &[(1, "Timestamp::now")]),
            ("let built = std::env!(\"X\"); use std::fsx; mystd::fs();", &[]),
            ("// std::fs\nlet s = \"std::fs\";", &[]),
        ] {
            let expected: Vec<_> = expected.iter().map(|&(line, name)| (line, name.to_owned())).collect();
            assert_eq!(names(source), expected, "{source}");
        }
    }

    #[test]
    fn tests_may_reach_out_and_what_follows_them_may_not() {
        let source = "
            #[cfg(test)]
            use std::fs;
            #[cfg(test)]
            fn f(x: [u8; 3]) { std::env::args(); }
            #[cfg(test)]
            mod tests {
                fn f() { let s = \"}\"; std::fs::read(s); }
            }
            fn g() { std::net::lookup(); }";
        assert_eq!(names(source), [(10, "std::net".to_owned())]);
    }

    #[test]
    fn test_modules_in_files_of_their_own_are_named() {
        let (_, modules) =
            shipped(&blank("mod a;\n#[cfg(test)]\nmod tests;\n#[cfg(test)]\npub(crate) mod cases;\n"));
        assert_eq!(modules, ["tests", "cases"]);
    }

    #[test]
    fn a_test_is_told_by_its_attribute() {
        for (source, expected) in [
            ("#[test]\nfn a() {}", true),
            ("#[tokio::test(flavor = \"multi_thread\")]\nasync fn a() {}", true),
            ("#[cfg(test)]\nmod a {}", false),
            ("// #[test]\nfn a() {}", false),
        ] {
            assert_eq!(has_test(&blank(source)), expected, "{source}");
        }
    }
}
