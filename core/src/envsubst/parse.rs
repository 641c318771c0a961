//! From text to parts.

use super::{EXPRESSIONS, Error, Expression, LONGEST, Part};

/// How deep expressions nest.
pub(super) const DEPTH: usize = 32;

pub(super) fn parse(text: &str) -> Result<Vec<Part>, Error> {
    if text.len() > LONGEST && text.contains("${") {
        return Err(Error::TextTooLong(text.len()));
    }
    let mut scanner = Scanner { text, at: 0, expressions: 0 };
    let mut parts = Vec::new();
    while !scanner.rest().is_empty() {
        if scanner.rest().starts_with("${") {
            parts.push(Part::Expression(scanner.expression(0)?));
        } else {
            parts.push(Part::Text(scanner.text(&|_| true, Escapes::Dollar)));
        }
    }
    Ok(parts)
}

#[derive(Clone, Copy, PartialEq)]
enum Escapes {
    None,
    /// `$$`
    Dollar,
    /// `$$`, `\/` and `\\`
    All,
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// Read so far.
    expressions: usize,
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take(&mut self, prefix: &str) -> bool {
        let found = self.rest().starts_with(prefix);
        self.at += if found { prefix.len() } else { 0 };
        found
    }

    /// Takes characters while `accept` says so and no expression begins.
    fn text(&mut self, accept: &dyn Fn(char) -> bool, escapes: Escapes) -> String {
        let mut out = String::new();
        while let Some(c) = self.peek() {
            let rest = self.rest();
            let escaped = match escapes {
                Escapes::None => false,
                Escapes::Dollar => rest.starts_with("$$"),
                Escapes::All => ["$$", "\\/", "\\\\"].iter().any(|escape| rest.starts_with(escape)),
            };
            if escaped {
                out.push_str(&rest[1..2]);
                self.at += 2;
                continue;
            }
            if rest.starts_with("${") || !accept(c) {
                break;
            }
            out.push(c);
            self.at += c.len_utf8();
        }
        out
    }

    fn name(&mut self) -> String {
        let accept = |c: char| c.is_alphabetic() || is_digit(c) || c == '_';
        self.text(&accept, Escapes::None)
    }

    fn expression(&mut self, depth: usize) -> Result<Expression, Error> {
        let start = self.at;
        let shown = &self.text[start..];
        let shown: String = shown.chars().take(40).take_while(|c| *c != '\n').collect();
        self.expressions += 1;
        if self.expressions > EXPRESSIONS {
            return Err(Error::TooMany);
        }
        if depth == DEPTH {
            return Err(Error::TooDeep(shown));
        }
        self.take("${");
        let bad = || Error::Syntax(shown.clone());
        let mut expression =
            Expression { variable: String::new(), function: String::new(), arguments: vec![] };
        if self.take("#") {
            expression.function = "#".into();
            expression.variable = self.name();
            return if expression.variable.is_empty() { Err(bad()) } else { self.close(expression, bad) };
        }
        expression.variable = self.name();
        if expression.variable.is_empty() {
            return Err(bad());
        }
        let rest = self.rest();
        let functions = [":=", ":-", ":?", ":+", "=", ":", "//", "/#", "/%", "/", "##", "#", "%%", "%"];
        let casing = rest.len() - rest.trim_start_matches([',', '^']).len();
        if casing > 0 {
            expression.function = rest[..casing.min(2)].to_owned();
            self.at += expression.function.len();
            return self.close(expression, bad);
        }
        if let Some(function) = functions.iter().find(|function| rest.starts_with(**function)) {
            self.take(function);
            expression.function = (*function).to_owned();
        }
        let not_closing = |c: char| c != '}';
        match expression.function.as_str() {
            "" => {}
            ":" => {
                expression.arguments.push(self.argument(
                    &|c| c != ':' && c != '}',
                    Escapes::None,
                    depth,
                    &bad,
                )?);
                if self.rest().starts_with(':') {
                    while self.take(":") {}
                    expression.arguments.push(self.argument(&not_closing, Escapes::None, depth, &bad)?);
                }
            }
            "/" | "//" | "/#" | "/%" => {
                if self.rest().starts_with('/') {
                    expression.arguments.push(Part::Text(String::new()));
                } else {
                    expression.arguments.push(self.argument(&|c| c != '/', Escapes::All, depth, &bad)?);
                }
                if !self.take("/") {
                    return Err(bad());
                }
                while self.take("/") {}
                if !self.rest().starts_with('}') {
                    expression.arguments.push(self.argument(&not_closing, Escapes::All, depth, &bad)?);
                }
            }
            "#" | "##" | "%" | "%%" => {
                expression.arguments.push(self.argument(&not_closing, Escapes::None, depth, &bad)?);
            }
            _ => {
                while !self.rest().starts_with('}') {
                    expression.arguments.push(self.argument(&not_closing, Escapes::None, depth, &bad)?);
                }
            }
        }
        self.close(expression, bad)
    }

    /// One argument: an expression, or a text that is not empty.
    fn argument(
        &mut self,
        accept: &dyn Fn(char) -> bool,
        escapes: Escapes,
        depth: usize,
        bad: &dyn Fn() -> Error,
    ) -> Result<Part, Error> {
        if self.rest().starts_with("${") {
            return self.expression(depth + 1).map(Part::Expression);
        }
        match self.text(accept, escapes) {
            text if text.is_empty() => Err(bad()),
            text => Ok(Part::Text(text)),
        }
    }

    fn close(&mut self, expression: Expression, bad: impl Fn() -> Error) -> Result<Expression, Error> {
        if self.take("}") { Ok(expression) } else { Err(bad()) }
    }
}

/// A decimal digit of any script; of the numerics that Rust knows, the ASCII ones are what names are made of.
fn is_digit(c: char) -> bool {
    c.is_ascii_digit()
}
