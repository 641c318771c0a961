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
    /// Where a variable is not set and has no default.
    pub fn expand<'v>(&self, value: &dyn Fn(&str) -> Option<&'v str>) -> Result<String, Error> {
        let mut out = String::new();
        for part in &self.parts {
            expand(part, value, &mut out)?;
        }
        Ok(out)
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

fn expand<'v>(part: &Part, value: &dyn Fn(&str) -> Option<&'v str>, out: &mut String) -> Result<(), Error> {
    match part {
        Part::Text(text) => out.push_str(text),
        Part::Expression(Expression { variable, function, arguments }) => {
            let mut texts = Vec::with_capacity(arguments.len());
            for argument in arguments {
                let mut text = String::new();
                expand(argument, value, &mut text)?;
                texts.push(text);
            }
            let found = value(variable);
            if found.is_none() && !functions::has_default(function) {
                return Err(Error::NotSet(variable.clone()));
            }
            let result = functions::apply(function, found.unwrap_or_default(), &texts);
            out.push_str(&result.ok_or_else(|| Error::TooLong(variable.clone(), function.clone()))?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
