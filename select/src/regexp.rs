//! A regular expression of Go's `regexp`, read by its rules and run by the `regex` crate.

use crate::syntax::{self, Node};

/// A regular expression of bounded size.
#[derive(Debug, Clone)]
pub struct Regexp(regex::Regex);

/// What is wrong with a pattern, in the words of Go's `regexp/syntax`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {what}: `{part}`")]
pub struct RegexpError {
    pub(crate) what: &'static str,
    /// The part of the pattern.
    pub(crate) part: String,
}

/// Bytes of a compiled pattern.
const LARGEST: usize = 1 << 20;

impl Regexp {
    /// Reads a pattern as `regexp.Compile` does.
    ///
    /// # Errors
    /// Where Go refuses it, or where it comes to more than a megabyte.
    pub fn new(pattern: &str) -> Result<Self, RegexpError> {
        let mut text = String::new();
        write(&syntax::parse(pattern)?, &mut text);
        let built = regex::RegexBuilder::new(&text).size_limit(LARGEST).build();
        built.map(Self).map_err(|_| RegexpError { what: "expression too large", part: pattern.to_owned() })
    }

    /// As [`new`](Self::new), for a pattern that has to match the whole of a text.
    ///
    /// # Errors
    /// As there.
    pub fn anchored(pattern: &str) -> Result<Self, RegexpError> {
        // Put around the pattern as text, like kustomize and Flux do: `a)|(b` is one there too.
        Self::new(&format!("^(?:{pattern})$"))
    }

    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

/// The pattern in the syntax of the `regex` crate. Each part carries its own flags.
fn write(node: &Node, out: &mut String) {
    let mut list = |parts: &[Node], between: &str| {
        for (n, part) in parts.iter().enumerate() {
            out.push_str(if n > 0 { between } else { "" });
            write(part, out);
        }
    };
    match node {
        Node::Concat(parts) => list(parts, ""),
        Node::Alternate(parts) => {
            out.push_str("(?:");
            let mut first = true;
            for part in parts {
                out.push_str(if first { "" } else { "|" });
                first = false;
                write(part, out);
            }
            out.push(')');
        }
        Node::Class { items, fold } => {
            out.push_str(if *fold { "(?i:" } else { "(?:" });
            out.push_str(items);
            out.push(')');
        }
        Node::Any { newline } => out.push_str(if *newline { "(?s:.)" } else { "[^\\n]" }),
        Node::Begin { line } => out.push_str(if *line { "(?m:^)" } else { "\\A" }),
        Node::End { line } => out.push_str(if *line { "(?m:$)" } else { "\\z" }),
        Node::WordBoundary { negated } => out.push_str(if *negated { "(?-u:\\B)" } else { "(?-u:\\b)" }),
        Node::Repeat { what, least, most, lazy } => {
            out.push_str("(?:");
            write(what, out);
            let most = most.map_or_else(String::new, |most| most.to_string());
            out.push_str(&format!("){{{least},{most}}}{}", if *lazy { "?" } else { "" }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_to_go() {
        for (pattern, matches, others) in [
            ("a.c", &["abc", "aéc"][..], &["ac", "a\nc", "xabc"][..]),
            ("[a&&b]", &["a", "&", "b"], &["c"]),
            ("[[a]", &["a", "["], &["b"]),
            ("[a[b]]", &["a]", "[]", "b]"], &["a", "b"]),
            ("[+--a]", &["+", ",", "-", "a"], &["b"]),
            ("[]a]", &["]", "a"], &["b"]),
            ("[^]a]", &["b", "\n"], &["]", "a"]),
            ("[a-]", &["a", "-"], &["b"]),
            ("[a-c-e]", &["b", "-", "e"], &["d"]),
            ("[~~a]", &["~", "a"], &["b"]),
            ("a{", &["a{"], &["a"]),
            ("a{1, 2}", &["a{1, 2}"], &["a", "aa"]),
            ("a{,2}", &["a{,2}"], &["a"]),
            ("a{01}", &["a{01}"], &["a"]),
            ("a{2,}", &["aa", "aaa"], &["a"]),
            ("a{0}b", &["b"], &["ab"]),
            ("\\141\\0", &["a\0"], &["141"]),
            ("\\x41\\x{42}", &["AB"], &["41"]),
            ("\\Qa.b\\E.", &["a.bc"], &["acbc"]),
            ("a\\-\\_\\/\\ ", &["a-_/ "], &["a"]),
            ("\\d+\\w\\s", &["1a ", "12_\t"], &["١a "]),
            ("[\\d\\-x]", &["1", "-", "x"], &["y"]),
            ("[^\\D5]", &["4"], &["5", "a"]),
            ("[[:alpha:]_]", &["a", "_"], &["1"]),
            ("[[:^alpha:]]", &["1"], &["a"]),
            ("[:alpha:]", &["a", ":"], &["b"]),
            ("(?i)ab", &["AB"], &["b"]),
            ("(?i)k", &["K", "\u{212a}"], &["x"]),
            ("(?i:a)b", &["Ab"], &["AB"]),
            ("((?i)a)b", &["Ab"], &["AB"]),
            ("(?i)[^a]", &["b"], &["A"]),
            ("(?s)a.b", &["a\nb"], &["ab"]),
            ("(?-s:a.)b", &["axb"], &["a\nb"]),
            ("(?P<n>a)(?<m>b)", &["ab"], &["a"]),
            ("a|", &["a", ""], &["b"]),
            ("()", &[""], &["a"]),
            ("(|a)+", &["", "aa"], &["b"]),
            ("^*a", &["a"], &["b"]),
            ("a(?i)*", &["", "aaa"], &["A"]),
            ("\\Aa\\z", &["a"], &["a\n"]),
            ("a\\b.*", &["a b"], &["ab"]),
            ("a\\Bb", &["ab"], &["a b"]),
            ("\\p{Greek}\\pL", &["λa"], &["a1", "λ1"]),
            ("\\P{greek}\\p{^L_u}", &["aa"], &["λa", "aA"]),
            ("[\\pN\\P{Latin}]", &["1", "λ"], &["a"]),
            ("[^\\p{Upper-Case letter}-]", &["a"], &["A", "-"]),
            ("(?i)\\p{Lu}", &["A", "a", "ß"], &["1"]),
            ("(?i)\\P{Lu}", &["1"], &["A", "a"]),
            ("\\p{Cn}", &["\u{378}", "\u{1f8b2}"], &["a", "\u{e000}"]),
            ("\\p{Assigned}", &["a", "\u{e000}"], &["\u{378}", "\u{1f8b2}"]),
            ("\\p{ascii}\\p{Any}", &["a\n"], &["éa"]),
            ("\\p{Cs}|\\P{any}", &[], &["a", ""]),
            ("a)|(?:b", &["a", "b", "ab"], &["ca"]),
            ("[\\x{D800}-\\x{E000}]", &["\u{e000}"], &["a"]),
            ("\\x{D800}", &[], &["a", ""]),
        ] {
            let regexp = Regexp::anchored(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
            for text in matches {
                assert!(regexp.is_match(text), "{pattern} matches {text:?}");
            }
            for text in others {
                assert!(!regexp.is_match(text), "{pattern} does not match {text:?}");
            }
        }
    }

    #[test]
    fn what_go_refuses_is_refused_in_its_words() {
        for (pattern, says) in [
            ("a**", "invalid nested repetition operator: `**`"),
            ("a*+", "invalid nested repetition operator: `*+`"),
            ("a*??", "invalid nested repetition operator: `*??`"),
            ("a{2}{3}", "invalid nested repetition operator: `{2}{3}`"),
            ("*a", "missing argument to repetition operator: `*`"),
            ("(?:*)", "missing argument to repetition operator: `*`"),
            ("a|{2}", "missing argument to repetition operator: `{2}`"),
            ("a{1001}", "invalid repeat count: `{1001}`"),
            ("a{3,2}", "invalid repeat count: `{3,2}`"),
            ("(a{100}){11}", "invalid repeat count: `{11}`"),
            ("(?x) a", "invalid or unsupported Perl syntax: `(?x`"),
            ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
            ("(?<=a)", "invalid named capture: `(?<=a)`"),
            ("(?P<a-b>c)", "invalid named capture: `(?P<a-b>`"),
            ("(?i-)a", "invalid or unsupported Perl syntax: `(?i-)`"),
            ("\\1", "invalid escape sequence: `\\1`"),
            ("\\8", "invalid escape sequence: `\\8`"),
            ("\\Z", "invalid escape sequence: `\\Z`"),
            ("\\C", "invalid escape sequence: `\\C`"),
            ("\\xg", "invalid escape sequence: `\\xg`"),
            ("\\x{110000}", "invalid escape sequence: `\\x{110000`"),
            ("[b-a]", "invalid character class range: `b-a`"),
            ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
            ("[a", "missing closing ]: `[a`"),
            ("a\\", "trailing backslash at end of expression: ``"),
            ("(a", "missing closing ): `(a`"),
            ("a)", "unexpected ): `a)`"),
            ("\\p", "invalid character class range: `\\p`"),
            ("\\pé", "invalid character class range: `\\pé`"),
            ("\\p{}", "invalid character class range: `\\p{}`"),
            ("[\\p{Greek]", "invalid character class range: `\\p{Greek]`"),
            ("\\p{Grek}", "invalid character class range: `\\p{Grek}`"),
            ("\\p{sc=Greek}", "invalid character class range: `\\p{sc=Greek}`"),
            ("\\p{Linear_B}", "invalid character class range: `\\p{Linear_B}`"),
            ("\\p{^^L}a", "invalid character class range: `\\p{^^L}`"),
        ] {
            let error = Regexp::new(pattern).map(|_| ()).unwrap_err();
            assert_eq!(error.to_string(), format!("error parsing regexp: {says}"), "{pattern}");
        }
        // Without an end, the quote takes what stands around the pattern as well.
        let error = Regexp::anchored("\\Qa").map(|_| ()).unwrap_err();
        assert_eq!(error.to_string(), "error parsing regexp: missing closing ): `^(?:\\Qa)$`");
        assert!(Regexp::new(&"(".repeat(100_000)).is_err());
        assert!(Regexp::new(&format!("{}a{}", "(".repeat(2_000), ")".repeat(2_000))).is_err());
        assert!(Regexp::new("((((a{0,9}){0,9}){0,9}){0,9}){0,9}").is_err());
    }
}
