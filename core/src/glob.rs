//! Patterns as Go's `path.Match` has them, within one part of a path: `*` for anything, `?` for one character but `/`, `[a-z]` and `[^a-z]`, `\` before a
//! character that is meant as such.

use crate::work::{Spent, Work};

/// A pattern; one that is not well formed matches nothing.
pub struct Pattern(Option<Vec<Term>>);

enum Term {
    Star,
    Any,
    One(char),
    Class { negated: bool, ranges: Vec<(char, char)> },
}

impl Pattern {
    pub fn new(text: &str) -> Self {
        Self(terms(text))
    }

    pub fn is_well_formed(&self) -> bool {
        self.0.is_some()
    }

    /// Whether it matches all of `text`.
    pub fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        self.matches_within(&text, &mut Work::new(u64::MAX)).unwrap_or_default()
    }

    /// As [`matches`](Self::matches), within a number of comparisons: with stars they are as many as the text is long, times
    /// the pattern.
    ///
    /// # Errors
    /// Where they do not suffice.
    pub fn matches_within(&self, text: &[char], work: &mut Work) -> Result<bool, Spent> {
        let Some(terms) = &self.0 else { return Ok(false) };
        let (mut term, mut at) = (0, 0);
        // Where the last star stands, and how far it reaches.
        let mut star: Option<(usize, usize)> = None;
        while at < text.len() {
            work.spend(terms.get(term).map_or(1, Term::weight))?;
            match terms.get(term) {
                Some(Term::Star) => {
                    star = Some((term, at));
                    term += 1;
                }
                Some(one) if one.accepts(text[at]) => {
                    term += 1;
                    at += 1;
                }
                _ => match star {
                    Some((place, reach)) => {
                        star = Some((place, reach + 1));
                        (term, at) = (place + 1, reach + 1);
                    }
                    None => return Ok(false),
                },
            }
        }
        Ok(terms[term..].iter().all(|term| matches!(term, Term::Star)))
    }
}

impl Term {
    /// The comparisons that [`accepts`](Self::accepts) makes at most.
    fn weight(&self) -> usize {
        if let Self::Class { ranges, .. } = self { ranges.len() } else { 1 }
    }

    fn accepts(&self, c: char) -> bool {
        match self {
            Self::Star => false,
            Self::Any => c != '/',
            Self::One(one) => c == *one,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated
            }
        }
    }
}

fn terms(text: &str) -> Option<Vec<Term>> {
    let mut chars = text.chars().peekable();
    let mut terms = Vec::new();
    while let Some(c) = chars.next() {
        terms.push(match c {
            '*' => Term::Star,
            '?' => Term::Any,
            '\\' => Term::One(chars.next()?),
            '[' => {
                let negated = chars.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                while ranges.is_empty() || chars.peek() != Some(&']') {
                    let low = class_character(&mut chars)?;
                    let high =
                        if chars.next_if_eq(&'-').is_some() { class_character(&mut chars)? } else { low };
                    ranges.push((low, high));
                }
                chars.next();
                Term::Class { negated, ranges }
            }
            c => Term::One(c),
        });
    }
    Some(terms)
}

fn class_character(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match chars.next()? {
        '-' | ']' => None,
        '\\' => chars.next(),
        c => Some(c),
    }
}
