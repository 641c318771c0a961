//! What the expressions do with a value.

use crate::glob;
use crate::work::{Spent, Work};

/// The longest value that patterns are tried on: each of its beginnings is compared.
const PATTERN_LIMIT: usize = 16 << 10;

/// Whether an expression stands for something where its variable is not set.
pub(super) fn has_default(function: &str) -> bool {
    matches!(function, "=" | ":=" | ":-" | ":+" | ":?")
}

/// Why a function gives nothing.
pub(super) enum Refused {
    /// The value is too long for patterns.
    TooLong,
    TooMuch,
}

impl From<Spent> for Refused {
    fn from(_: Spent) -> Self {
        Self::TooMuch
    }
}

/// Applies a function. What it writes and compares is taken from `work` before it is done.
pub(super) fn apply(
    function: &str,
    value: &str,
    arguments: &[String],
    work: &mut Work,
) -> Result<String, Refused> {
    let first = arguments.first().map_or("", String::as_str);
    let second = arguments.get(1).map_or("", String::as_str);
    work.spend(value.len())?;
    Ok(match function {
        "#" if arguments.is_empty() => value.len().to_string(),
        "^^" => value.chars().map(upper).collect(),
        ",," => value.chars().map(lower).collect(),
        "^" => first_character(value, upper),
        "," => first_character(value, lower),
        ":" => part(value, first, arguments.get(1).map(String::as_str)),
        "/" => replace(value, first, second, 1, work)?,
        "//" => replace(value, first, second, usize::MAX, work)?,
        "/#" if arguments.len() == 2 => match value.strip_prefix(first) {
            Some(rest) => format!("{second}{rest}"),
            None => value.to_owned(),
        },
        "/%" if arguments.len() == 2 => match value.strip_suffix(first) {
            Some(rest) => format!("{rest}{second}"),
            None => value.to_owned(),
        },
        "#" | "##" | "%" | "%%" => {
            if value.len() > PATTERN_LIMIT {
                return Err(Refused::TooLong);
            }
            let longest = function.len() == 2;
            if function.starts_with('#') {
                without_prefix(value, first, longest, work)?
            } else {
                reversed(&without_prefix(&reversed(value), &reversed(first), longest, work)?)
            }
        }
        _ if value.is_empty() => arguments.concat(),
        _ => value.to_owned(),
    })
}

/// The one character that is this one's upper case, as Go's simple mapping has it.
fn upper(c: char) -> char {
    single(c.to_uppercase(), c)
}

fn lower(c: char) -> char {
    single(c.to_lowercase(), c)
}

fn single(mut mapped: impl Iterator<Item = char>, c: char) -> char {
    match (mapped.next(), mapped.next()) {
        (Some(one), None) => one,
        _ => c,
    }
}

fn first_character(value: &str, map: fn(char) -> char) -> String {
    let mut rest = value.chars();
    rest.next().map_or(String::new(), |c| format!("{}{}", map(c), rest.as_str()))
}

/// Offsets count bytes; one that is no number leaves the value whole.
fn part(value: &str, position: &str, length: Option<&str>) -> String {
    let Ok(position) = position.parse::<i64>() else { return value.to_owned() };
    let size = value.len() as i64;
    let start = if position < 0 { (size + position).max(0) } else { position };
    let end = match length.map(str::parse::<i64>) {
        None => size,
        Some(Err(_)) => return value.to_owned(),
        Some(Ok(length)) if length < 0 => size + length,
        Some(Ok(length)) => start.saturating_add(length).min(size),
    };
    if start >= end {
        return String::new();
    }
    String::from_utf8_lossy(&value.as_bytes()[start as usize..end as usize]).into_owned()
}

fn replace(value: &str, pattern: &str, with: &str, count: usize, work: &mut Work) -> Result<String, Spent> {
    let places = value.matches(pattern).take(count).count();
    work.spend(places.saturating_mul(with.len()))?;
    Ok(value.replacen(pattern, with, places))
}

fn without_prefix(value: &str, pattern: &str, longest: bool, work: &mut Work) -> Result<String, Spent> {
    let characters: Vec<char> = value.chars().collect();
    let pattern = glob::Pattern::new(pattern);
    let mut lengths = 1..=characters.len();
    while let Some(length) = if longest { lengths.next_back() } else { lengths.next() } {
        if pattern.matches_within(&characters[..length], work)? {
            return Ok(characters[length..].iter().collect());
        }
    }
    Ok(value.to_owned())
}

fn reversed(text: &str) -> String {
    text.chars().rev().collect()
}
