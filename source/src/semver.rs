//! Versions and ranges as Masterminds' semver 3 means them, on which Flux and Helm stand. What sets them apart: `1.2` is
//! `1.2.x`, a space or comma is "and", `||` is "or", and pre-releases count only where the same alternative names one.

use std::cmp::Ordering;
use std::str::FromStr;

use semver::{BuildMetadata, Prerelease, Version};

/// A range: alternatives, of which each is a list of conditions that all have to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range(Vec<Vec<Condition>>);

/// A text that is not a range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a range of versions; write it like '1.2.x', '>=1.2.0 <2.0.0', '~1.2' or '^1.2.3-0'")]
pub struct RangeError(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Tilde,
    Caret,
}

const OPERATORS: [(&str, Operator); 12] = [
    ("!=", Operator::NotEqual),
    (">=", Operator::GreaterOrEqual),
    ("=>", Operator::GreaterOrEqual),
    ("<=", Operator::LessOrEqual),
    ("=<", Operator::LessOrEqual),
    ("~>", Operator::Tilde),
    ("~", Operator::Tilde),
    ("^", Operator::Caret),
    (">", Operator::Greater),
    ("<", Operator::Less),
    ("=", Operator::Equal),
    ("", Operator::Equal),
];

/// How much of the version a condition names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Named {
    Nothing,
    Major,
    Minor,
    Patch,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Condition {
    operator: Operator,
    version: Version,
    named: Named,
}

impl FromStr for Range {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let wrong = || RangeError(text.to_owned());
        text.split("||").map(|part| alternative(part).ok_or_else(wrong)).collect::<Result<_, _>>().map(Self)
    }
}

impl Range {
    pub fn matches(&self, version: &Version) -> bool {
        self.0.iter().any(|conditions| {
            let pre = conditions.iter().any(|condition| !condition.version.pre.is_empty());
            (pre || version.pre.is_empty()) && conditions.iter().all(|condition| condition.holds(version))
        })
    }

    /// The highest of the names that are versions in the range; of equal ones, the first.
    pub fn newest<'a>(
        &self,
        names: impl IntoIterator<Item = &'a str>,
        parse: fn(&str) -> Option<Version>,
    ) -> Option<&'a str> {
        let mut best: Option<(Version, &str)> = None;
        for name in names {
            let Some(version) = parse(name).filter(|version| self.matches(version)) else { continue };
            if best.as_ref().is_none_or(|(known, _)| version.cmp_precedence(known) == Ordering::Greater) {
                best = Some((version, name));
            }
        }
        best.map(|(_, name)| name)
    }
}

fn alternative(text: &str) -> Option<Vec<Condition>> {
    let text = text.trim();
    if text.is_empty() {
        return Some(vec![condition("")?]);
    }
    let mut words: Vec<String> = Vec::new();
    for word in text.split([' ', '\t', ',']).filter(|word| !word.is_empty()) {
        // `>= 1.2` is one condition in two words.
        match words.last_mut() {
            Some(last) if OPERATORS.iter().any(|(sign, _)| !sign.is_empty() && sign == last) => {
                last.push_str(word)
            }
            _ => words.push(word.to_owned()),
        }
    }
    let mut conditions = Vec::new();
    let mut rest = &words[..];
    while let Some((first, after)) = rest.split_first() {
        match after {
            [dash, last, more @ ..] if dash == "-" => {
                conditions.push(condition(&format!(">={first}"))?);
                conditions.push(condition(&format!("<={last}"))?);
                rest = more;
            }
            _ => {
                conditions.push(condition(first)?);
                rest = after;
            }
        }
    }
    Some(conditions)
}

fn condition(text: &str) -> Option<Condition> {
    let (sign, operator) = OPERATORS.into_iter().find(|(sign, _)| text.starts_with(sign))?;
    let text = &text[sign.len()..];
    if text.is_empty() {
        // An empty range takes everything; a lone operator is nothing.
        return sign.is_empty().then(|| Condition {
            operator,
            version: Version::new(0, 0, 0),
            named: Named::Nothing,
        });
    }
    let (numbers, pre, build) = split(text)?;
    let mut parts = numbers.split('.');
    let mut named = Named::Nothing;
    let mut read = [0; 3];
    for (slot, step) in read.iter_mut().zip([Named::Major, Named::Minor, Named::Patch]) {
        match parts.next() {
            None | Some("x" | "X" | "*") => break,
            Some(part) => *slot = number(part)?,
        }
        named = step;
    }
    // What follows a wildcard does not count, but has to be a number or wildcard as well.
    if !parts.all(|part| matches!(part, "x" | "X" | "*") || number(part).is_some())
        || numbers.split('.').count() > 3
    {
        return None;
    }
    let [major, minor, patch] = read;
    Some(Condition { operator, version: Version { major, minor, patch, pre, build }, named })
}

impl Condition {
    fn holds(&self, v: &Version) -> bool {
        let (c, order) = (&self.version, v.cmp_precedence(&self.version));
        match self.operator {
            Operator::Equal if self.named == Named::Patch => order == Ordering::Equal,
            Operator::Equal | Operator::Tilde => self.tilde(v, order),
            Operator::NotEqual => match self.named {
                Named::Patch => order != Ordering::Equal,
                Named::Nothing => false,
                Named::Major => c.major != v.major,
                Named::Minor => (c.major, c.minor) != (v.major, v.minor) || c.pre != v.pre,
            },
            Operator::Greater => match self.named {
                // `>11` means from 12 on.
                Named::Major => v.major > c.major,
                Named::Minor => (v.major, v.minor) > (c.major, c.minor),
                Named::Patch | Named::Nothing => order == Ordering::Greater,
            },
            Operator::GreaterOrEqual => order != Ordering::Less,
            Operator::Less => order == Ordering::Less,
            Operator::LessOrEqual => match self.named {
                Named::Patch => order != Ordering::Greater,
                Named::Nothing => true,
                Named::Major => v.major <= c.major,
                Named::Minor => (v.major, v.minor) <= (c.major, c.minor),
            },
            Operator::Caret => self.caret(v, order),
        }
    }

    fn tilde(&self, v: &Version, order: Ordering) -> bool {
        let c = &self.version;
        if order == Ordering::Less {
            return false;
        }
        let everything = self.named == Named::Nothing
            || (self.named == Named::Patch && (c.major, c.minor, c.patch) == (0, 0, 0));
        everything || (v.major == c.major && (self.named == Named::Major || v.minor == c.minor))
    }

    /// Up to the next change of the first number that is not zero.
    fn caret(&self, v: &Version, order: Ordering) -> bool {
        let c = &self.version;
        if order == Ordering::Less {
            return false;
        }
        match self.named {
            Named::Nothing => true,
            Named::Major => v.major == c.major,
            _ if c.major > 0 => v.major == c.major,
            Named::Minor => (v.major, v.minor) == (0, c.minor),
            Named::Patch if c.minor > 0 => (v.major, v.minor) == (0, c.minor),
            Named::Patch => (v.major, v.minor, v.patch) == (0, 0, c.patch),
        }
    }
}

/// A version with all its parts; a leading `v` is allowed.
pub fn strict(text: &str) -> Option<Version> {
    Version::parse(text.strip_prefix('v').unwrap_or(text)).ok()
}

/// A version of which parts may be missing: `1.2` is `1.2.0`.
pub fn loose(text: &str) -> Option<Version> {
    let (numbers, pre, build) = split(text)?;
    let mut parts = numbers.split('.');
    let mut next = || parts.next().map_or(Some(0), number);
    let (major, minor, patch) = (next()?, next()?, next()?);
    (numbers.split('.').count() <= 3).then_some(Version { major, minor, patch, pre, build })
}

fn split(text: &str) -> Option<(&str, Prerelease, BuildMetadata)> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let (text, build) = text.split_once('+').unwrap_or((text, ""));
    let (numbers, pre) = text.split_once('-').unwrap_or((text, ""));
    Some((numbers, Prerelease::new(pre).ok()?, BuildMetadata::new(build).ok()?))
}

fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Versions that a range takes, and versions that it does not.
    #[test]
    fn ranges_take_what_masterminds_takes() {
        for (range, takes, leaves) in [
            ("", &["0.0.0", "1.2.3"][..], &["1.0.0-rc.1"][..]),
            ("*", &["0.0.0", "9.9.9"], &["1.0.0-rc.1"]),
            ("*-0", &["9.9.9", "1.0.0-rc.1", "0.0.0-0"], &[]),
            ("1", &["1.0.0", "1.9.9"], &["2.0.0", "0.9.9", "1.1.0-rc.1"]),
            ("1.2", &["1.2.0", "1.2.9"], &["1.3.0", "1.1.9"]),
            ("1.2.x", &["1.2.0", "1.2.9"], &["1.3.0"]),
            ("1.x.5", &["1.0.0", "1.7.3"], &["2.0.5"]),
            ("v1.2.3", &["1.2.3", "1.2.3+b"], &["1.2.4"]),
            ("=1.2.3", &["1.2.3"], &["1.2.4", "1.2.3-rc.1"]),
            ("!=1.2.3", &["1.2.4"], &["1.2.3", "1.2.4-rc.1"]),
            ("!=1.2.x", &["1.3.0", "2.2.0"], &["1.2.0"]),
            ("!=1", &["2.0.0"], &["1.2.0"]),
            (">1.2.3", &["1.2.4", "2.0.0"], &["1.2.3"]),
            (">11", &["12.0.0"], &["11.1.0"]),
            (">11.1", &["11.2.0", "12.0.0"], &["11.1.9"]),
            (">=1.2", &["1.2.0", "3.0.0"], &["1.1.9"]),
            (">= 1.2.0, < 2", &["1.2.0", "1.9.9"], &["2.0.0"]),
            (">=1.2.0 <2.0.0", &["1.2.0"], &["2.0.0", "1.5.0-rc.1"]),
            (">=1.2.0-0 <2.0.0", &["1.2.0", "1.5.0-rc.1", "2.0.0-rc.1"], &["2.0.0"]),
            ("<1", &["0.9.9"], &["1.0.0"]),
            ("<=1.2", &["1.2.9", "1.0.0"], &["1.3.0"]),
            ("<=11", &["11.9.9"], &["12.0.0"]),
            ("1.2 - 1.4.5", &["1.2.0", "1.4.5"], &["1.4.6", "1.1.9"]),
            ("~1", &["1.0.0", "1.9.0"], &["2.0.0"]),
            ("~1.2", &["1.2.0", "1.2.9"], &["1.3.0"]),
            ("~1.2.3", &["1.2.3", "1.2.9"], &["1.2.2", "1.3.0"]),
            ("~>2.0.0", &["2.0.5"], &["2.1.0"]),
            ("~0.0.0", &["0.0.0", "7.0.0"], &[]),
            ("~1.2.3-beta.2", &["1.2.3-beta.2", "1.2.4"], &["1.2.3-beta.1"]),
            ("^1.2.3", &["1.2.3", "1.9.0"], &["2.0.0", "1.2.2"]),
            ("^1", &["1.9.0"], &["2.0.0"]),
            ("^0.2.3", &["0.2.3", "0.2.9"], &["0.3.0"]),
            ("^0.2", &["0.2.9"], &["0.3.0"]),
            ("^0.0.3", &["0.0.3"], &["0.0.4"]),
            ("^0.0", &["0.0.9"], &["0.1.0"]),
            ("^0", &["0.9.0"], &["1.0.0"]),
            ("<1.0.0 || >=2.0.0", &["0.5.0", "2.1.0"], &["1.5.0"]),
            ("1.2.x || 2.0.0-0", &["1.2.3", "2.0.0-0"], &["1.2.3-rc.1"]),
        ] {
            let parsed: Range = range.parse().unwrap_or_else(|error| panic!("{error}"));
            for version in takes {
                assert!(parsed.matches(&strict(version).unwrap()), "{range} takes {version}");
            }
            for version in leaves {
                assert!(!parsed.matches(&strict(version).unwrap()), "{range} leaves {version}");
            }
        }
    }

    #[test]
    fn texts_that_are_no_range() {
        for text in ["latest", "1.2.3.4", ">", ">=1 foo", "1.a", "^^1", "1 -", "- 1", "-1.0"] {
            assert!(text.parse::<Range>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_newest_of_some_names() {
        let names = ["v1.0.0", "1.2", "v1.10.0", "1.9.0", "v2.0.0-rc.1", "latest", "1.10.0"];
        for (range, strictly, loosely) in [
            ("1.x", Some("v1.10.0"), Some("v1.10.0")),
            ("1.2", None, Some("1.2")),
            (">=1.0.0-0", Some("v2.0.0-rc.1"), Some("v2.0.0-rc.1")),
            ("3.x", None, None),
        ] {
            let range: Range = range.parse().unwrap();
            assert_eq!(range.newest(names, strict), strictly, "{range:?}");
            assert_eq!(range.newest(names, loose), loosely, "{range:?}");
        }
    }
}
