//! Label selectors: `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1`. Source: apimachinery's `labels.Parse`, which kustomize and
//! Flux use for annotations too.

/// A selector: all of its requirements have to hold. An empty one holds for everything.
#[derive(Debug, Clone, Default)]
pub struct Labels(Vec<Requirement>);

/// What is wrong with a selector, in the words of apimachinery.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(String);

#[derive(Debug, Clone)]
struct Requirement {
    key: String,
    op: Op,
}

#[derive(Debug, Clone, PartialEq)]
enum Op {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Missing,
    Greater(i64),
    Less(i64),
}

type Res<T> = Result<T, SelectorError>;

fn fail<T>(message: String) -> Res<T> {
    Err(SelectorError(message))
}

impl Labels {
    /// Reads a selector.
    ///
    /// # Errors
    /// Where apimachinery refuses it: wrong syntax, keys and values that no label can have.
    pub fn parse(text: &str) -> Res<Self> {
        let mut parser = Parser { tokens: scan(text), at: 0 };
        let mut requirements = Vec::new();
        loop {
            match parser.peek() {
                Token::End => return Ok(Self(requirements)),
                Token::Word(_) | Token::Sign("!") => {}
                other => {
                    return fail(format!(
                        "found '{}', expected: !, identifier, or 'end of string'",
                        other.text()
                    ));
                }
            }
            let requirement = parser
                .requirement()
                .map_err(|e| SelectorError(format!("unable to parse requirement: {}", e.0)))?;
            requirements.push(requirement);
            match parser.next() {
                Token::End => return Ok(Self(requirements)),
                Token::Sign(",") => match parser.peek() {
                    Token::Word(_) | Token::Sign("!") => {}
                    other => {
                        return fail(format!("found '{}', expected: identifier after ','", other.text()));
                    }
                },
                other => return fail(format!("found '{}', expected: ',' or 'end of string'", other.text())),
            }
        }
    }

    /// Whether it holds for what `get` has for a key.
    pub fn matches<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|requirement| {
            let value = get(&requirement.key);
            let has = |list: &Vec<String>| value.is_some_and(|v| list.iter().any(|one| one == v));
            let number = || value.and_then(|v| v.parse::<i64>().ok());
            match &requirement.op {
                Op::In(list) => has(list),
                Op::NotIn(list) => !has(list),
                Op::Exists => value.is_some(),
                Op::Missing => value.is_none(),
                Op::Greater(least) => number().is_some_and(|n| n > *least),
                Op::Less(most) => number().is_some_and(|n| n < *most),
            }
        })
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    /// A key, a value, `in` or `notin`.
    Word(String),
    Sign(&'static str),
    /// Signs that mean nothing.
    Wrong(String),
    End,
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Self::Word(text) => text,
            Self::Wrong(text) => text,
            Self::Sign(sign) => sign,
            Self::End => "",
        }
    }
}

fn scan(text: &str) -> Vec<Token> {
    const SIGNS: [&str; 9] = ["==", "!=", "=", "!", "(", ")", ",", ">", "<"];
    let special = |c: char| "=!(),><".contains(c);
    let space = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
    let mut tokens = Vec::new();
    let mut rest = text.trim_start_matches(space);
    while let Some(first) = rest.chars().next().filter(|c| *c != '\0') {
        let length = if special(first) {
            match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
                Some(sign) => {
                    tokens.push(Token::Sign(sign));
                    sign.len()
                }
                None => {
                    tokens.push(Token::Wrong(first.to_string()));
                    first.len_utf8()
                }
            }
        } else {
            let length = rest.find(|c: char| special(c) || space(c) || c == '\0').unwrap_or(rest.len());
            tokens.push(Token::Word(rest[..length].to_owned()));
            length
        };
        rest = rest[length..].trim_start_matches(space);
    }
    tokens.push(Token::End);
    tokens
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Token {
        self.tokens.get(self.at).cloned().unwrap_or(Token::End)
    }

    fn next(&mut self) -> Token {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn requirement(&mut self) -> Res<Requirement> {
        let mut token = self.next();
        let missing = token == Token::Sign("!");
        if missing {
            token = self.next();
        }
        let Token::Word(key) = token else {
            return fail(format!("found '{}', expected: identifier", token.text()));
        };
        check_key(&key)?;
        if matches!(self.peek(), Token::End | Token::Sign(",")) {
            return Ok(Requirement { key, op: if missing { Op::Missing } else { Op::Exists } });
        }
        if missing {
            // What follows is refused where the next requirement is looked for.
            return Ok(Requirement { key, op: Op::Missing });
        }
        let op = match self.next() {
            Token::Sign("=" | "==") => Op::In(vec![self.value(&key)?]),
            Token::Sign("!=") => Op::NotIn(vec![self.value(&key)?]),
            Token::Sign(">") => Op::Greater(self.number(&key)?),
            Token::Sign("<") => Op::Less(self.number(&key)?),
            Token::Word(word) if word == "in" => Op::In(self.values(&key)?),
            Token::Word(word) if word == "notin" => Op::NotIn(self.values(&key)?),
            other => {
                return fail(format!("found '{}', expected: '=', '!=', '==', 'in', notin'", other.text()));
            }
        };
        Ok(Requirement { key, op })
    }

    fn value(&mut self, key: &str) -> Res<String> {
        let value = match self.peek() {
            Token::End | Token::Sign(",") => String::new(),
            Token::Word(word) => {
                self.at += 1;
                word
            }
            other => return fail(format!("found '{}', expected: identifier", other.text())),
        };
        check_value(key, &value)?;
        Ok(value)
    }

    fn number(&mut self, key: &str) -> Res<i64> {
        let value = self.value(key)?;
        value
            .parse()
            .map_err(|_| SelectorError("for 'Gt', 'Lt' operators, the value must be an integer".into()))
    }

    /// `(a, b)`. Nothing between commas is an empty value.
    fn values(&mut self, key: &str) -> Res<Vec<String>> {
        let open = self.next();
        if open != Token::Sign("(") {
            return fail(format!("found '{}' expected: '('", open.text()));
        }
        let (mut values, mut wanted) = (Vec::new(), String::new());
        let mut filled = false;
        loop {
            match self.next() {
                Token::Word(_) if filled => {
                    let found = self.tokens[self.at - 1].text().to_owned();
                    return fail(format!("found '{found}', expected: ',' or ')'"));
                }
                Token::Word(word) => (wanted, filled) = (word, true),
                sign @ Token::Sign("," | ")") => {
                    check_value(key, &wanted)?;
                    values.push(std::mem::take(&mut wanted));
                    filled = false;
                    if sign == Token::Sign(")") {
                        return Ok(values);
                    }
                }
                other => return fail(format!("found '{}', expected: ',', or identifier", other.text())),
            }
        }
    }
}

/// A name of at most 63 characters as labels and their values are.
fn is_name(text: &str) -> bool {
    let end = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && end(text.bytes().next())
        && end(text.bytes().last())
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c))
}

fn is_subdomain(text: &str) -> bool {
    let is_label = |label: &str| {
        let end = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        end(label.bytes().next())
            && end(label.bytes().last())
            && label.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

fn check_key(key: &str) -> Res<()> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    if prefix.is_none_or(is_subdomain) && is_name(name) {
        return Ok(());
    }
    fail(format!(
        "invalid label key \"{key}\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and \
         end with an alphanumeric character, at most 63, with an optional DNS subdomain prefix and '/' (e.g. \
         'example.com/MyName')"
    ))
}

fn check_value(key: &str, value: &str) -> Res<()> {
    if value.is_empty() || is_name(value) {
        return Ok(());
    }
    fail(format!(
        "invalid label value: {value:?}: at key: {key:?}: a valid label must be an empty string or consist of at most 63 \
         alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_match_as_in_kubernetes() {
        let get = |key: &str| {
            [("app", "web"), ("tier", "3"), ("a.b/c", "")].into_iter().find(|l| l.0 == key).map(|l| l.1)
        };
        for (selector, expected) in [
            ("", true),
            (" \t", true),
            ("app=web", true),
            ("app == web , tier=3", true),
            ("app!=web", false),
            ("other!=x", true),
            ("app in (api, web)", true),
            ("app in(web)", true),
            ("app notin (api,web)", false),
            ("app notin ()", true),
            ("a.b/c in ()", true),
            ("a.b/c=", true),
            ("a.b/c=,app=web", true),
            ("a.b/c in (x,)", true),
            ("app,!other", true),
            ("!app", false),
            ("! app", false),
            ("tier>2,tier<4", true),
            ("tier > 3", false),
            ("app>1", false),
            ("other in (a)", false),
            ("in in (in)", false),
            ("in notin (notin)", true),
        ] {
            assert_eq!(Labels::parse(selector).unwrap().matches(get), expected, "{selector}");
        }
    }

    #[test]
    fn what_kubernetes_refuses_is_refused() {
        for (selector, says) in [
            ("=x", "found '=', expected: !, identifier"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
            ("a in b", "found 'b' expected: '('"),
            ("a in (b", "found '', expected: ',', or identifier"),
            ("a in (b c)", "found 'c', expected: ',' or ')'"),
            ("a=b,", "found '', expected: identifier after ','"),
            ("a==>b", "found '>', expected: identifier"),
            ("!a=b", "found '=', expected: ',' or 'end of string'"),
            ("tier>x", "the value must be an integer"),
            ("app=\"web\"", "invalid label value: \"\\\"web\\\"\": at key: \"app\""),
            ("app in ('web')", "invalid label value"),
            ("app=-web", "invalid label value"),
            ("-app=web", "invalid label key"),
            ("a/b/c", "invalid label key"),
            ("A/b", "invalid label key"),
            ("a=b;c=d", "invalid label value: \"b;c\""),
        ] {
            let error = Labels::parse(selector).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(says), "{selector}: {error}");
        }
        assert!(Labels::parse(&"x".repeat(64)).is_err());
    }
}
