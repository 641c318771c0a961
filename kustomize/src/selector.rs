//! Selecting resources: anchored regexes on names and kinds, label expressions on labels and annotations.

use flotilla_yaml::SmolStr;
use regex::Regex;

use crate::error::{Fail, Res, fail};
use crate::gvk::{Gvk, ResId};
use crate::parts::Selector;
use crate::resmap::ResMap;
use crate::resource::Resource;

/// A selector ready for use.
pub(crate) struct Matcher {
    group: Pattern,
    version: Pattern,
    kind: Pattern,
    name: Pattern,
    namespace: Pattern,
    labels: Expression,
    annotations: Expression,
}

/// An anchored regex; without special characters a plain text, which is nearly always so.
enum Pattern {
    Any,
    Text(String),
    Regex(Box<Regex>),
}

impl Pattern {
    fn new(text: &str) -> Res<Self> {
        if text.is_empty() {
            return Ok(Self::Any);
        }
        if text.chars().all(|c| c.is_ascii_alphanumeric() || "-_/:".contains(c)) {
            return Ok(Self::Text(text.to_owned()));
        }
        Ok(Self::Regex(Box::new(regex(&format!("^(?:{text})$"))?)))
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Text(pattern) => pattern == text,
            Self::Regex(regex) => regex.is_match(text),
        }
    }
}

/// A regex of bounded size; a bad one is an error in Go's words.
pub(crate) fn regex(pattern: &str) -> Res<Regex> {
    let built = regex::RegexBuilder::new(pattern).size_limit(1 << 20).build();
    built.map_err(|e| {
        // The parser draws the pattern with a mark below it; its last line says what is wrong.
        let why = e.to_string();
        let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
        Fail::new(format!("error parsing regexp: {why}: `{pattern}`"))
            .hint("a backslash takes the meaning from a character, as in `\\(`")
    })
}

impl Matcher {
    pub(crate) fn new(s: &Selector) -> Res<Self> {
        let part = |name: &str, text: &str| Pattern::new(text).map_err(|e| e.field(name));
        let expression = |name: &str, text: &str| {
            Expression::parse(text).map_err(|e| e.field(name).hint("write it as in `a=b,c!=d,e in (f,g),!h`"))
        };
        Ok(Self {
            group: part("group", &s.group)?,
            version: part("version", &s.version)?,
            kind: part("kind", &s.kind)?,
            name: part("name", &s.name)?,
            namespace: part("namespace", &s.namespace)?,
            labels: expression("labelSelector", &s.label_selector)?,
            annotations: expression("annotationSelector", &s.annotation_selector)?,
        })
    }

    pub(crate) fn matches_gvk(&self, gvk: &Gvk) -> bool {
        self.group.matches(&gvk.group) && self.version.matches(&gvk.version) && self.kind.matches(&gvk.kind)
    }

    /// Kind, name and namespace as they are written in one identity.
    pub(crate) fn matches_id(&self, id: &ResId) -> bool {
        self.matches_gvk(&id.gvk) && self.name.matches(&id.name) && self.namespace.matches(&id.namespace)
    }

    pub(crate) fn matches_labels(&self, resource: &Resource) -> bool {
        self.labels.matches(|| resource.labels()) && self.annotations.matches(|| resource.annotations())
    }

    /// As patch targets are found: names and namespaces as they are now or were at first.
    pub(crate) fn matches(&self, resource: &Resource) -> bool {
        if !self.kind.matches(resource.kind()) {
            return false;
        }
        let (now, first) = (resource.id(), resource.original_id());
        (self.namespace.matches(first.effective_namespace())
            || self.namespace.matches(now.effective_namespace()))
            && (self.name.matches(&first.name) || self.name.matches(&now.name))
            && self.matches_gvk(&now.gvk)
            && self.matches_labels(resource)
    }

    /// The places of the resources that match.
    pub(crate) fn select(&self, map: &ResMap) -> Vec<usize> {
        map.0.iter().enumerate().filter(|(_, r)| self.matches(r)).map(|(n, _)| n).collect()
    }
}

/// Kubernetes' label selector expressions: `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1`.
#[derive(Debug, Default)]
struct Expression(Vec<Requirement>);

#[derive(Debug)]
struct Requirement {
    key: String,
    op: Op,
}

#[derive(Debug, PartialEq)]
enum Op {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Missing,
    Greater(i64),
    Less(i64),
}

impl Expression {
    fn parse(text: &str) -> Res<Self> {
        let mut requirements = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let (requirement, after) = Requirement::parse(rest)
                .map_err(|e| e.context(format!("unable to parse requirement of selector \"{text}\"")))?;
            requirements.push(requirement);
            rest = after.trim_start();
            match rest.strip_prefix(',') {
                Some(after) if !after.trim().is_empty() => rest = after.trim_start(),
                None if rest.is_empty() => {}
                _ => {
                    return fail!(
                        "unable to parse requirement of selector \"{text}\": found '{rest}', expected: ',' or 'end of string'"
                    );
                }
            }
        }
        Ok(Self(requirements))
    }

    fn matches(&self, labels: impl FnOnce() -> Vec<(SmolStr, SmolStr)>) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let labels = labels();
        self.0.iter().all(|requirement| {
            let value = labels.iter().find(|(k, _)| *k == requirement.key).map(|(_, v)| v.as_str());
            let number = value.and_then(|v| v.parse::<i64>().ok());
            match &requirement.op {
                Op::In(values) => value.is_some_and(|v| values.iter().any(|x| x == v)),
                Op::NotIn(values) => value.is_none_or(|v| values.iter().all(|x| x != v)),
                Op::Exists => value.is_some(),
                Op::Missing => value.is_none(),
                Op::Greater(n) => number.is_some_and(|v| v > *n),
                Op::Less(n) => number.is_some_and(|v| v < *n),
            }
        })
    }
}

impl Requirement {
    fn parse(text: &str) -> Res<(Self, &str)> {
        let is_word = |c: char| !c.is_whitespace() && !"=!,()<>".contains(c);
        let word = |text: &'_ str| -> usize { text.find(|c| !is_word(c)).unwrap_or(text.len()) };
        let (missing, text) = match text.strip_prefix('!') {
            Some(rest) => (true, rest.trim_start()),
            None => (false, text),
        };
        let end = word(text);
        if end == 0 {
            return fail!("found '{text}', expected: identifier");
        }
        let (key, rest) = (text[..end].to_owned(), text[end..].trim_start());
        if missing {
            return Ok((Self { key, op: Op::Missing }, rest));
        }
        for (sign, not) in [("==", false), ("=", false), ("!=", true)] {
            if let Some(rest) = rest.strip_prefix(sign) {
                let rest = rest.trim_start();
                let end = word(rest);
                let values = vec![rest[..end].to_owned()];
                let op = if not { Op::NotIn(values) } else { Op::In(values) };
                return Ok((Self { key, op }, &rest[end..]));
            }
        }
        for (sign, greater) in [(">", true), ("<", false)] {
            if let Some(rest) = rest.strip_prefix(sign) {
                let rest = rest.trim_start();
                let end = word(rest);
                let Ok(number) = rest[..end].parse() else {
                    return fail!("for 'Gt', 'Lt' operators, the value must be an integer");
                };
                let op = if greater { Op::Greater(number) } else { Op::Less(number) };
                return Ok((Self { key, op }, &rest[end..]));
            }
        }
        for (name, not) in [("in", false), ("notin", true)] {
            let Some(after) =
                rest.strip_prefix(name).filter(|r| r.starts_with(|c: char| c == '(' || c.is_whitespace()))
            else {
                continue;
            };
            let Some((inner, rest)) = after.trim_start().strip_prefix('(').and_then(|r| r.split_once(')'))
            else {
                return fail!("found '{after}', expected: '('");
            };
            let values = inner.split(',').map(|v| v.trim().to_owned()).collect();
            let op = if not { Op::NotIn(values) } else { Op::In(values) };
            return Ok((Self { key, op }, rest));
        }
        Ok((Self { key, op: Op::Exists }, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_expressions_match_as_in_kubernetes() {
        let labels = || vec![("app".into(), "web".into()), ("tier".into(), "3".into())];
        for (expression, expected) in [
            ("", true),
            ("app=web", true),
            ("app == web , tier=3", true),
            ("app!=web", false),
            ("other!=x", true),
            ("app in (api, web)", true),
            ("app notin (api,web)", false),
            ("app,!other", true),
            ("!app", false),
            ("tier>2,tier<4", true),
            ("other in (a)", false),
        ] {
            assert_eq!(Expression::parse(expression).unwrap().matches(labels), expected, "{expression}");
        }
        for bad in ["=x", "a=b c", "a in b", "a=b,", "tier>x"] {
            assert!(Expression::parse(bad).is_err(), "{bad}");
        }
    }
}
