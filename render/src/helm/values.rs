//! A release's values: maps laid over each other, and single values put at a path.
//!
//! Paths are those of `helm --set`: `a.b[0].c`, with `\` before a `.`, `[`, `=` or `,` that is part of a name; values
//! are typed unless they are quoted. Sources of behaviour: Helm's `strvals`, and helm-controller for `valuesFrom`.

use serde_json::{Map, Value};

/// A path or value that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    #[error("the path '{0}' ends without a name")]
    NoName(String),
    #[error("'{0}' has no value")]
    NoValue(String),
    #[error("'{0}' is no index; write it as [0]")]
    Index(String),
    #[error("the index {0} is larger than {MAX_INDEX}")]
    IndexTooLarge(usize),
    #[error("the path goes deeper than {MAX_DEPTH} levels")]
    TooDeep,
    #[error("the list '{{{0}' does not end with '}}'")]
    OpenList(String),
}

/// As Helm: a typo must not make a list that fills the memory.
const MAX_INDEX: usize = 65_536;
const MAX_DEPTH: usize = 30;

/// Lays `over` over `values`: mappings merge by key, everything else is replaced.
pub fn merge(values: &mut Map<String, Value>, over: Map<String, Value>) {
    for (key, value) in over {
        match (values.get_mut(&key), value) {
            (Some(Value::Object(under)), Value::Object(over)) => merge(under, over),
            (_, value) => drop(values.insert(key, value)),
        }
    }
}

/// Puts what `valuesFrom` gives for a `targetPath`. A text in quotes stays a string; without them `true`, `12`, `null`
/// and `{a,b}` mean what they mean to `helm --set`, and a `,` begins another path. `literal` takes the text as it is.
pub fn set(values: &mut Map<String, Value>, path: &str, text: &str, literal: bool) -> Result<(), SetError> {
    if literal {
        let steps = steps_of_literal(path)?;
        return put(values, &steps, Value::from(text));
    }
    let unquoted = ['\'', '"']
        .into_iter()
        .find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))
        .filter(|_| text.len() > 1);
    let mut parser = Parser { rest: Vec::new(), at: 0, typed: unquoted.is_none() };
    parser.rest = format!("{path}={}", unquoted.unwrap_or(text)).chars().collect();
    while parser.at < parser.rest.len() {
        let steps = parser.path()?;
        let value = parser.value()?;
        put(values, &steps, value)?;
    }
    Ok(())
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Key(String),
    Index(usize),
}

fn index(text: &str) -> Result<Step, SetError> {
    let index: usize = text.parse().map_err(|_| SetError::Index(text.to_owned()))?;
    if index > MAX_INDEX { Err(SetError::IndexTooLarge(index)) } else { Ok(Step::Index(index)) }
}

/// Without escapes: every `.` and `[` divides.
fn steps_of_literal(path: &str) -> Result<Vec<Step>, SetError> {
    let mut steps = Vec::new();
    for part in path.split('.') {
        let (name, indices) = part.split_once('[').map_or((part, None), |(name, rest)| (name, Some(rest)));
        if name.is_empty() {
            return Err(SetError::NoName(path.to_owned()));
        }
        steps.push(Step::Key(name.to_owned()));
        for part in indices.into_iter().flat_map(|rest| rest.split('[')) {
            steps.push(index(part.strip_suffix(']').unwrap_or(part))?);
        }
    }
    Ok(steps)
}

struct Parser {
    rest: Vec<char>,
    at: usize,
    typed: bool,
}

impl Parser {
    fn next(&mut self) -> Option<char> {
        let next = self.rest.get(self.at).copied();
        self.at += usize::from(next.is_some());
        next
    }

    /// Up to one of `stops`, which is taken too; a `\` makes any character plain.
    fn until(&mut self, stops: &[char]) -> (String, Option<char>) {
        let mut text = String::new();
        while let Some(next) = self.next() {
            match next {
                '\\' => text.extend(self.next()),
                stop if stops.contains(&stop) => return (text, Some(stop)),
                plain => text.push(plain),
            }
        }
        (text, None)
    }

    /// A path and the `=` behind it.
    fn path(&mut self) -> Result<Vec<Step>, SetError> {
        let mut steps = Vec::new();
        // After an index comes the end, another index, or a `.` and a name.
        let mut wants_name = true;
        loop {
            let (name, stop) = self.until(&['=', '.', '[', ',']);
            match (wants_name, name.is_empty()) {
                (true, true) => return Err(SetError::NoName(name)),
                (false, false) => return Err(SetError::Index(name)),
                (true, false) => steps.push(Step::Key(name.clone())),
                (false, true) => {}
            }
            match stop {
                Some('=') => return Ok(steps),
                Some('.') => wants_name = true,
                Some('[') => {
                    self.index(&mut steps)?;
                    wants_name = false;
                }
                _ => return Err(SetError::NoValue(name)),
            }
        }
    }

    fn index(&mut self, steps: &mut Vec<Step>) -> Result<(), SetError> {
        let (text, end) = self.until(&[']']);
        steps.push(index(&text)?);
        if end.is_some() { Ok(()) } else { Err(SetError::Index(text)) }
    }

    /// A value, or a list in braces, and the `,` behind it.
    fn value(&mut self) -> Result<Value, SetError> {
        if self.rest.get(self.at) != Some(&'{') {
            let (text, _) = self.until(&[',']);
            return Ok(self.typed(text));
        }
        self.at += 1;
        let mut list = Vec::new();
        loop {
            let (text, stop) = self.until(&[',', '}']);
            match stop {
                None => return Err(SetError::OpenList(text)),
                Some('}') => {
                    if !(list.is_empty() && text.is_empty()) {
                        list.push(self.typed(text));
                    }
                    self.until(&[',']);
                    return Ok(Value::Array(list));
                }
                Some(_) => list.push(self.typed(text)),
            }
        }
    }

    fn typed(&self, text: String) -> Value {
        if !self.typed {
            return Value::String(text);
        }
        match text.to_ascii_lowercase().as_str() {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "null" => Value::Null,
            "0" => Value::from(0),
            number if !number.starts_with('0') => {
                number.parse::<i64>().map_or(Value::String(text), Value::from)
            }
            _ => Value::String(text),
        }
    }
}

fn put(values: &mut Map<String, Value>, steps: &[Step], value: Value) -> Result<(), SetError> {
    if steps.len() > MAX_DEPTH {
        return Err(SetError::TooDeep);
    }
    let Some((Step::Key(first), rest)) = steps.split_first() else {
        return Err(SetError::NoName(String::new()));
    };
    let mut place = values.entry(first.clone()).or_insert(Value::Null);
    for step in rest {
        place = match step {
            Step::Key(key) => {
                if !place.is_object() {
                    *place = Value::Object(Map::new());
                }
                let Value::Object(map) = place else { unreachable!("made above") };
                map.entry(key.clone()).or_insert(Value::Null)
            }
            Step::Index(index) => {
                if !place.is_array() {
                    *place = Value::Array(Vec::new());
                }
                let Value::Array(list) = place else { unreachable!("made above") };
                if list.len() <= *index {
                    list.resize(index + 1, Value::Null);
                }
                &mut list[*index]
            }
        };
    }
    *place = value;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn mappings_merge_and_the_rest_is_replaced() {
        for (under, over, expected) in [
            (json!({}), json!({"a": 1}), json!({"a": 1})),
            (json!({"a": {"b": 1, "c": 2}}), json!({"a": {"c": 3}}), json!({"a": {"b": 1, "c": 3}})),
            (json!({"a": [1, 2]}), json!({"a": [3]}), json!({"a": [3]})),
            (json!({"a": {"b": 1}}), json!({"a": "x"}), json!({"a": "x"})),
            (json!({"a": "x"}), json!({"a": {"b": 1}}), json!({"a": {"b": 1}})),
            // Helm takes a default away where it meets null, so null has to stay.
            (json!({"a": {"b": 1}}), json!({"a": {"b": null}}), json!({"a": {"b": null}})),
        ] {
            let mut values = map(under);
            merge(&mut values, map(over));
            assert_eq!(Value::Object(values), expected);
        }
    }

    #[test]
    fn paths_and_values_are_those_of_helm_set() {
        for (path, text, expected) in [
            ("a", "x", json!({"a": "x"})),
            ("a.b.c", "x", json!({"a": {"b": {"c": "x"}}})),
            ("a", "true", json!({"a": true})),
            ("a", "False", json!({"a": false})),
            ("a", "null", json!({"a": null})),
            ("a", "12", json!({"a": 12})),
            ("a", "0", json!({"a": 0})),
            ("a", "012", json!({"a": "012"})),
            ("a", "1.5", json!({"a": "1.5"})),
            ("a", "", json!({"a": ""})),
            ("a", "'12'", json!({"a": "12"})),
            ("a", "\"true\"", json!({"a": "true"})),
            ("a", "'", json!({"a": "'"})),
            ("a", "{x,1,true}", json!({"a": ["x", 1, true]})),
            ("a", "{}", json!({"a": []})),
            ("a", r"x\,y", json!({"a": "x,y"})),
            ("a", "x,b=2", json!({"a": "x", "b": 2})),
            (r"a\.b", "x", json!({"a.b": "x"})),
            ("a[1]", "x", json!({"a": [null, "x"]})),
            ("a[0].b", "x", json!({"a": [{"b": "x"}]})),
            ("a[0].b.c[1]", "x", json!({"a": [{"b": {"c": [null, "x"]}}]})),
            ("a[0][1]", "x", json!({"a": [[null, "x"]]})),
            (r"nodeSelector.kubernetes\.io/role", "x", json!({"nodeSelector": {"kubernetes.io/role": "x"}})),
            ("a", "b=c", json!({"a": "b=c"})),
        ] {
            let mut values = Map::new();
            set(&mut values, path, text, false).unwrap();
            assert_eq!(Value::Object(values), expected, "{path}={text}");
        }
    }

    #[test]
    fn a_literal_is_taken_as_it_is() {
        let mut values = map(json!({"a": {"keep": 1, "list": ["x"]}}));
        set(&mut values, "a.list[1]", "{1,2},b=3", true).unwrap();
        assert_eq!(Value::Object(values), json!({"a": {"keep": 1, "list": ["x", "{1,2},b=3"]}}));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let deep = vec!["a"; MAX_DEPTH + 1].join(".");
        for (path, text, expected) in [
            ("", "x", SetError::NoName(String::new())),
            ("a.", "x", SetError::NoName(String::new())),
            ("a[x]", "1", SetError::Index("x".into())),
            ("a[99999999]", "1", SetError::IndexTooLarge(99_999_999)),
            ("a", "{x", SetError::OpenList("x".into())),
            ("a", "x,b", SetError::NoValue("b".into())),
            (&deep, "x", SetError::TooDeep),
        ] {
            assert_eq!(set(&mut Map::new(), path, text, false), Err(expected), "{path}={text}");
        }
    }
}
