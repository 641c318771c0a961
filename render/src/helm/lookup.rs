//! `lookup` in templates. The hub has no cluster to look into, and helm answers with nothing where it has none: a
//! chart would take that for "not installed yet" and draw a new password. So each call is made to fail by name, in the
//! branch that is really taken.

use std::borrow::Cow;

use super::said::is_place;

/// What stands in for `lookup`: a function that takes one argument and gets four.
const INSTEAD: &str = "fail";
/// What helm says of it.
const SAID: &str = "wrong number of args for fail";

/// A template in which every call of `lookup` fails.
pub(super) fn without_lookup(template: &str) -> Cow<'_, str> {
    if !template.contains("lookup") {
        return Cow::Borrowed(template);
    }
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(start) = rest.find("{{") {
        out.push_str(&rest[..start + 2]);
        rest = action(&rest[start + 2..], &mut out);
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Copies an action up to its `}}` and gives what follows.
fn action<'a>(mut rest: &'a str, out: &mut String) -> &'a str {
    let mut last = ' ';
    while let Some(next) = rest.chars().next() {
        let length = match next {
            '}' if rest.starts_with("}}") => return rest,
            '"' => quoted(rest, '"', true),
            '`' => quoted(rest, '`', false),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            c if is_word(c) => {
                let word = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                if &rest[..word] == "lookup" && !matches!(last, '.' | '$') {
                    out.push_str(INSTEAD);
                    (last, rest) = ('p', &rest[word..]);
                    continue;
                }
                word
            }
            c => c.len_utf8(),
        };
        out.push_str(&rest[..length]);
        last = next;
        rest = &rest[length..];
    }
    rest
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of a string with its quotes.
fn quoted(text: &str, quote: char, escapes: bool) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == quote && !escaped {
            return at + 1;
        }
        escaped = escapes && c == '\\' && !escaped;
    }
    text.len()
}

/// Helm's error in words that name the reason, if it is one of ours.
pub(super) fn explained(error: &str) -> Option<String> {
    // Helm 3: `template: CHART/templates/x.yaml:3:8: executing "…" at <fail …>: …`; Helm 4 has it on lines of its own.
    let before = &error[..error.find(SAID)?];
    let place = before.split("executing").next().and_then(|before| before.split_whitespace().last());
    let place = place.map(|place| place.trim_end_matches(':')).filter(|place| is_place(place));
    let place = place.unwrap_or("a template");
    Some(format!(
        "{place} calls lookup, and the hub has no cluster to look into; give the chart the values that make it do \
         without"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_replaced_and_nothing_else_is() {
        for (template, expected) in [
            ("a: 1\n", "a: 1\n"),
            ("lookup: {{ .Values.x }}", "lookup: {{ .Values.x }}"),
            (r#"{{ lookup "v1" "Secret" "a" "b" }}"#, r#"{{ fail "v1" "Secret" "a" "b" }}"#),
            (r#"{{- $x := (lookup "v1" "S" $n "b") -}}"#, r#"{{- $x := (fail "v1" "S" $n "b") -}}"#),
            ("{{ .Values.lookup }}{{ $lookup }}", "{{ .Values.lookup }}{{ $lookup }}"),
            (r#"{{ "lookup }} x" | quote }} lookup"#, r#"{{ "lookup }} x" | quote }} lookup"#),
            (r#"{{ "\"lookup" }}{{ `lookup \` }}"#, r#"{{ "\"lookup" }}{{ `lookup \` }}"#),
            ("{{/* lookup }} */}}lookup", "{{/* lookup }} */}}lookup"),
            ("{{ lookups }}{{ my_lookup }}", "{{ lookups }}{{ my_lookup }}"),
            ("{{ lookup", "{{ fail"),
            ("{{ if true }}\n{{ lookup \"a\"", "{{ if true }}\n{{ fail \"a\""),
        ] {
            assert_eq!(without_lookup(template), expected);
        }
    }

    #[test]
    fn the_error_names_the_template() {
        let of_helm_4 = "own/templates/a.yaml:17:3\n  executing \"own/templates/a.yaml\" at <fail>:\n    wrong number of \
                         args for fail: want 1 got 4";
        assert!(explained(of_helm_4).unwrap().starts_with("own/templates/a.yaml:17:3 calls lookup"));
        let said = "template: web/templates/secret.yaml:4:14: executing \"web/templates/secret.yaml\" at <fail \"v1\" \
                    \"Secret\" .Release.Namespace \"x\">: wrong number of args for fail: want 1 got 4";
        let explained = explained(said).unwrap();
        assert!(explained.starts_with("web/templates/secret.yaml:4:14 calls lookup"), "{explained}");
        assert_eq!(
            super::explained("template: x:1:1: executing \"x\" at <fail \"no\">: error calling fail: no"),
            None
        );
    }
}
