//! `${variable}` with the string functions of bash, as Flux substitutes them after a build.
//!
//! ```text
//!   ${v} ${#v} ${v^} ${v^^} ${v,} ${v,,}      value, length, case
//!   ${v:pos} ${v:pos:len}                     a part
//!   ${v#p} ${v##p} ${v%p} ${v%%p}             without what a pattern matches, shortest or longest
//!   ${v/a/b} ${v//a/b} ${v/#a/b} ${v/%a/b}    replaced: first, all, at the start, at the end
//!   ${v:-d} ${v:=d} ${v=d} ${v:+d} ${v:?d}    a default, where the value is empty: all five do the same
//!   $$                                        a dollar sign
//! ```
//!
//! Source of behaviour: `github.com/fluxcd/pkg/envsubst` 1.8, what it does where bash would do something else
//! included. Strict: a variable that is not set is an error unless its expression has a default.

mod functions;
mod parse;

use std::collections::BTreeSet;

use crate::work::{Spent, Work};
use functions::Refused;

/// What one text may cost, in bytes written and characters compared: expressions inside each other multiply. It also bounds
/// the memory, as all that is written at a time has been paid for.
pub const WORK: u64 = 16 << 20;
/// Bytes of a text in the end. The API server takes 3 MiB.
pub const LONGEST: usize = 4 << 20;

/// Expressions in one text, those inside others included.
pub const EXPRESSIONS: usize = 100_000;

/// A text with expressions in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Expression(Expression),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Expression {
    variable: String,
    /// As written: `:-`, `//`, `^^`; "" for the value itself.
    function: String,
    arguments: Vec<Part>,
}

/// Why a text cannot be substituted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("bad substitution: '{0}'; a '$' that is meant as such before '{{' is written '$$'")]
    Syntax(String),
    #[error("variable not set: '{0}'; set it, or give a default by ${{{0}:=value}}")]
    NotSet(String),
    #[error("'{0}' nests deeper than {depth} expressions", depth = parse::DEPTH)]
    TooDeep(String),
    #[error("the value of '{0}' is too long for the patterns of '{1}'")]
    TooLong(String, String),
    #[error(
        "'{0}' makes more of its values than is allowed: a text may write and compare {WORK} characters, and have {LONGEST} \
         in the end"
    )]
    TooMuch(String),
    #[error("a text of {0} bytes is not substituted in; {LONGEST} are the most")]
    TextTooLong(usize),
    #[error("a text holds more than {EXPRESSIONS} expressions")]
    TooMany,
}

/// Whether `name` can be the name of a variable that is offered.
pub fn is_variable_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

impl Template {
    /// Reads a text.
    ///
    /// # Errors
    /// Where an expression is not closed, or of no form that is known.
    pub fn parse(text: &str) -> Result<Self, Error> {
        parse::parse(text).map(|parts| Self { parts })
    }

    /// Every variable that it refers to.
    pub fn variables(&self) -> BTreeSet<&str> {
        let mut names = BTreeSet::new();
        collect(&self.parts, &mut names);
        names
    }

    /// Puts values in.
    ///
    /// # Errors
    /// Where a variable is not set and has no default, or the text costs more than [`WORK`].
    pub fn expand<'v>(&self, value: &dyn Fn(&str) -> Option<&'v str>) -> Result<String, Error> {
        self.expand_within(value, &mut Work::new(WORK))
    }

    /// As [`expand`](Self::expand), for several texts that may cost `shared` together, and [`WORK`] each.
    ///
    /// # Errors
    /// See [`expand`](Self::expand).
    pub fn expand_within<'v>(
        &self,
        value: &dyn Fn(&str) -> Option<&'v str>,
        shared: &mut Work,
    ) -> Result<String, Error> {
        let mut work = shared.at_most(WORK);
        let before = work;
        let result = self.expand_with(value, &mut work);
        shared.pay(before, work);
        result
    }

    fn expand_with<'v>(
        &self,
        value: &dyn Fn(&str) -> Option<&'v str>,
        work: &mut Work,
    ) -> Result<String, Error> {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                // As long as it is written: there is nothing to pay for.
                Part::Text(text) => out.push_str(text),
                Part::Expression(expression) => {
                    expand(part, value, &mut out, work)?;
                    if out.len() > LONGEST {
                        return Err(Error::TooMuch(expression.variable.clone()));
                    }
                }
            }
        }
        Ok(out)
    }
}

impl Part {
    /// The variable of an expression.
    fn shown(&self) -> &str {
        match self {
            Self::Text(_) => "the text",
            Self::Expression(expression) => &expression.variable,
        }
    }
}

fn collect<'a>(parts: &'a [Part], names: &mut BTreeSet<&'a str>) {
    for part in parts {
        if let Part::Expression(expression) = part {
            names.insert(&expression.variable);
            collect(&expression.arguments, names);
        }
    }
}

/// Nests as deep as expressions do, which the parser bounds.
fn expand<'v>(
    part: &Part,
    value: &dyn Fn(&str) -> Option<&'v str>,
    out: &mut String,
    work: &mut Work,
) -> Result<(), Error> {
    let too_much = |Spent| Error::TooMuch(part.shown().to_owned());
    match part {
        Part::Text(text) => {
            work.spend(text.len()).map_err(too_much)?;
            out.push_str(text);
        }
        Part::Expression(Expression { variable, function, arguments }) => {
            let mut texts = Vec::with_capacity(arguments.len());
            for argument in arguments {
                let mut text = String::new();
                expand(argument, value, &mut text, work)?;
                texts.push(text);
            }
            let found = value(variable);
            if found.is_none() && !functions::has_default(function) {
                return Err(Error::NotSet(variable.clone()));
            }
            let result = functions::apply(function, found.unwrap_or_default(), &texts, work);
            let result = result.map_err(|refused| match refused {
                Refused::TooLong => Error::TooLong(variable.clone(), function.clone()),
                Refused::TooMuch => Error::TooMuch(variable.clone()),
            })?;
            work.spend(result.len()).map_err(too_much)?;
            out.push_str(&result);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
