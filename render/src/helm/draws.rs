//! Whether what a chart renders to may differ from run to run with all else the same: whether its templates could draw
//! passwords and keys, or look at the clock. Any text may be a template (`tpl` takes values and files), so all of it is
//! searched for the words, wherever they stand, and however YAML, JSON or a template would let them be spelled. A word that
//! templates put together from parts is not found: what such a chart draws is one for the same unit of several clusters
//! ([`super::TemplateRequest::question`]).

use std::borrow::Cow;

use flotilla_yaml::decode;
use serde_json::Value;

/// Functions of helm's and sprig's that give something new each time. All that begin with `rand` and `gen` count too.
const WORDS: [&str; 11] = [
    "ago",
    "bcrypt",
    "dateInZone",
    "date_in_zone",
    "encryptAES",
    "htmlDate",
    "htmlDateInZone",
    "htpasswd",
    "now",
    "shuffle",
    "uuidv4",
];
/// A text in a text in a text has its escapes escaped so often.
const NESTED: usize = 3;

/// Whether a text has such a word.
pub(super) fn in_text(text: &[u8]) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let has_word = |text: &[u8]| text.split(|byte| !is_word(byte)).any(draws);
    // What is no text after all has no words either.
    let mut text = match text {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            decode(text).map_or(Cow::Borrowed(text), |text| Cow::Owned(text.into_owned().into_bytes()))
        }
        _ => Cow::Borrowed(text),
    };
    for _ in 0..NESTED {
        if has_word(&text) {
            return true;
        }
        if !text.contains(&b'\\') {
            return false;
        }
        text = Cow::Owned(unescaped(&text));
    }
    has_word(&text)
}

/// A text with the escapes of letters in quoted texts taken back, and lines put together that a backslash parts.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'\\' {
            plain.push(*first);
            continue;
        }
        let (digits, base) = match rest {
            [b'x', ..] => (2, 16),
            [b'u', ..] => (4, 16),
            [b'U', ..] => (8, 16),
            [b'0'..=b'3', ..] => (3, 8),
            [b'\r' | b'\n', ..] => {
                rest = rest.trim_ascii_start();
                // Another backslash keeps the white space behind it.
                continue;
            }
            _ => (0, 16),
        };
        let start = usize::from(base == 16 && digits > 0);
        let number = rest.get(start..start + digits).and_then(|digits| std::str::from_utf8(digits).ok());
        match number.and_then(|number| u32::from_str_radix(number, base).ok()) {
            Some(code) if digits > 0 => {
                // No word has other letters.
                plain.push(u8::try_from(code).ok().filter(u8::is_ascii).unwrap_or(b' '));
                rest = &rest[start + digits..];
            }
            // What is escaped stands for itself, or for white space; a backslash may escape once more.
            _ => {
                if let [next, after @ ..] = rest {
                    plain.push(*next);
                    rest = after;
                }
            }
        }
    }
    plain
}

/// Whether a text in a value, or a key, has such a word.
pub(super) fn in_value(value: &Value) -> bool {
    match value {
        Value::String(text) => in_text(text.as_bytes()),
        Value::Array(items) => items.iter().any(in_value),
        Value::Object(map) => map.iter().any(|(key, value)| in_text(key.as_bytes()) || in_value(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn draws(word: &[u8]) -> bool {
    // `generate` and `general` are in every chart's comments.
    let is_of =
        |start: &[u8]| word.strip_prefix(start).and_then(<[u8]>::first).is_some_and(u8::is_ascii_uppercase);
    is_of(b"rand") || is_of(b"gen") || WORDS.iter().any(|known| known.as_bytes() == word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn templates_that_draw_are_told_from_others() {
        for (text, expected) in [
            ("a: {{ randAlphaNum 10 | quote }}", true),
            ("{{ $ca := genCA \"x\" 365 }}", true),
            ("{{genSignedCert .a .b .c .d .e}}", true),
            ("{{ uuidv4 }}", true),
            ("{{ now | date \"2006\" }}", true),
            ("{{- htpasswd .Values.user .Values.password -}}", true),
            ("{{ randInt 1 5 }}", true),
            ("a: {{ .Values.random | quote }} # generates known brands at random", false),
            ("{{ .Values.a | sha256sum }}", false),
            (r#"x: "{{ r\u0061ndAlphaNum 5 }}""#, true),
            (r#"x: "{{ \x72\x61\x6e\x64Int 1 5 }}""#, true),
            (r#"x: "{{ \U00000067enCA }}""#, true),
            (r#"{{ tpl "{{ \162andAlpha 5 }}" . }}"#, true),
            (r#"x: "{{ tpl \"{{ r\\x61ndAlpha 5 }}\" . }}""#, true),
            ("x: \"{{ ra\\\n     ndAlphaNum 5 }}\"", true),
            ("x: \"{{ ra\\\r\n  ndAlphaNum 5 }}\"", true),
            (r#"x: "\u00e9 \d+ \\ \x \u12 {{ .Values.rand }}" \"#, false),
            ("{{ date_in_zone \"2006\" .x \"UTC\" }}", true),
        ] {
            assert_eq!(in_text(text.as_bytes()), expected, "{text}");
            assert_eq!(in_value(&json!({"a": ["x", {"b": format!("\n{text}")}]})), expected, "{text}");
            for (mark, bytes) in
                [([0xff, 0xfe], u16::to_le_bytes as fn(u16) -> [u8; 2]), ([0xfe, 0xff], u16::to_be_bytes)]
            {
                let wide: Vec<u8> = mark.into_iter().chain(text.encode_utf16().flat_map(bytes)).collect();
                assert_eq!(in_text(&wide), expected, "{text}");
            }
        }
        assert!(!in_text(b"\xff\xfe{{ randInt 1 5 }}\x00"));
    }
}
