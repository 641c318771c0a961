//! Whether what a chart renders to may differ from run to run with all else the same: whether its templates could draw
//! passwords and keys, or look at the clock. Any text may be a template (`tpl` takes values and files), so all of it is
//! searched for the words, wherever they stand.

use serde_json::Value;

/// Functions of helm's and sprig's that give something new each time. All that begin with `rand` and `gen` count too.
const WORDS: [&str; 9] =
    ["ago", "bcrypt", "dateInZone", "encryptAES", "htmlDate", "htpasswd", "now", "shuffle", "uuidv4"];

/// Whether a text has such a word.
pub(super) fn in_text(text: &[u8]) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    text.split(|byte| !is_word(byte)).any(draws)
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
        ] {
            assert_eq!(in_text(text.as_bytes()), expected, "{text}");
            assert_eq!(in_value(&json!({"a": ["x", {"b": format!("\n{text}")}]})), expected, "{text}");
        }
    }
}
