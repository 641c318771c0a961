//! A release's values as helm-controller puts them together: mappings laid over each other, and single values put at a
//! path.
//!
//! Sources of behaviour: `chartutil.ChartValuesFromReferences` of Flux for the order, `strvals` of Helm for paths and
//! values. What Flux does is not what it says: before a value is put at its path, the inline values are laid over all that
//! came before, *and not copied*. So a value put into a mapping of the inline values stays there, and goes over whatever
//! comes later, while one at the top goes below the inline values in the end. Repositories rely on it, so [`Values`] shares
//! mappings and lists as Go does.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Map, Number, Value};

/// A path or value that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    #[error("the path has a part without a name")]
    NoName,
    #[error("'{0}' has no value")]
    NoValue(String),
    #[error("'{0}' is not an index; write it as [0]")]
    Index(String),
    #[error("the index {0} is larger than {MAX_INDEX}")]
    IndexTooLarge(usize),
    #[error("the path goes deeper than {MAX_DEPTH} levels")]
    TooDeep,
    #[error("a list in braces does not end with '}}'")]
    OpenList,
    #[error("'{0}' is {1} in the values before, and cannot have fields or items")]
    NotThat(String, &'static str),
    #[error("the lists that the paths make have more than {MAX_ITEMS} items together")]
    TooMany,
}

/// As Helm: a typo must not make a list that fills the memory.
const MAX_INDEX: usize = 65_536;
const MAX_DEPTH: usize = 30;
/// Of all lists of one release that indices make longer.
const MAX_ITEMS: usize = 1_000_000;

/// Lays `over` over `values`: mappings merge by key, everything else is replaced.
pub fn merge(values: &mut Map<String, Value>, over: Map<String, Value>) {
    for (key, value) in over {
        match (values.get_mut(&key), value) {
            (Some(Value::Object(under)), Value::Object(over)) => merge(under, over),
            (_, value) => drop(values.insert(key, value)),
        }
    }
}

/// The values of one release while they are put together.
pub struct Values {
    result: Fields,
    inline: Fields,
    /// How many items indices may still add to lists.
    items: usize,
}

/// A value whose mappings and lists may stand in several places.
#[derive(Clone)]
enum Shared {
    Scalar(Value),
    List(Items),
    Map(Fields),
}

type Fields = Rc<RefCell<BTreeMap<String, Shared>>>;
type Items = Rc<RefCell<Vec<Shared>>>;

impl Values {
    /// Begins with the inline values of a release.
    pub fn new(inline: Map<String, Value>) -> Self {
        Self { result: Fields::default(), inline: shared_map(inline), items: MAX_ITEMS }
    }

    /// Lays a mapping over what is there.
    pub fn lay(&mut self, over: Map<String, Value>) {
        self.result = laid(&self.result, &shared_map(over));
    }

    /// Puts what `valuesFrom` gives for a `targetPath`. In quotes a text stays a string; without them `true`, `12`, `null`
    /// and `{a,b}` mean what they mean to `helm --set`, and a `,` begins another path. `literal` takes the text as it is.
    ///
    /// # Errors
    /// Where helm refuses the path or the value, or would silently do nothing.
    pub fn set(&mut self, path: &str, text: &str, literal: bool) -> Result<(), SetError> {
        self.result = laid(&self.result, &self.inline);
        let is_quoted = |quote: char| text.starts_with(quote) && text.ends_with(quote);
        let (text, typed) = if literal {
            let is_special = |c| matches!(c, '\\' | ',' | '[' | ']' | '{' | '}');
            (
                text.chars()
                    .flat_map(|c| is_special(c).then_some('\\').into_iter().chain([c]))
                    .collect::<String>(),
                false,
            )
        } else if is_quoted('\'') || is_quoted('"') {
            (text.trim_matches(['\'', '"']).to_owned(), false)
        } else {
            (text.to_owned(), true)
        };
        let line = path.chars().chain(['=']).chain(text.chars()).collect();
        let mut parser = Parser { line, at: 0, typed, items: &mut self.items };
        let root = self.result.clone();
        while parser.at < parser.line.len() {
            if parser.key(&root, 0)? == Next::End {
                break;
            }
        }
        Ok(())
    }

    /// All of them, the inline values over the rest.
    pub fn finish(self) -> Map<String, Value> {
        plain_map(&laid(&self.result, &self.inline))
    }
}

fn shared_map(map: Map<String, Value>) -> Fields {
    Rc::new(RefCell::new(map.into_iter().map(|(key, value)| (key, shared(value))).collect()))
}

fn shared(value: Value) -> Shared {
    match value {
        Value::Object(map) => Shared::Map(shared_map(map)),
        Value::Array(items) => Shared::List(Rc::new(RefCell::new(items.into_iter().map(shared).collect()))),
        Value::Number(number) => Shared::Scalar(Value::Number(double(number))),
        scalar => Shared::Scalar(scalar),
    }
}

/// The largest number from which on a `f64` does not hold every whole number.
const EXACT: u64 = 1 << 53;

/// Go decodes numbers in JSON as doubles, and writes them with as few digits as tell them apart.
fn double(number: Number) -> Number {
    let is_exact = number.as_i64().is_some_and(|whole| whole.unsigned_abs() <= EXACT);
    let Some(float) = number.as_f64().filter(|_| !is_exact && !number.is_f64()) else { return number };
    // Written by Rust as by Go: zeros stand for the digits that do not matter.
    let whole = float.to_string().parse().ok().and_then(Number::from_i128);
    whole.or_else(|| Number::from_f64(float)).unwrap_or(number)
}

fn plain_map(fields: &Fields) -> Map<String, Value> {
    fields.borrow().iter().map(|(key, value)| (key.clone(), plain(value))).collect()
}

fn plain(value: &Shared) -> Value {
    match value {
        Shared::Scalar(value) => value.clone(),
        Shared::List(items) => items.borrow().iter().map(plain).collect(),
        Shared::Map(fields) => Value::Object(plain_map(fields)),
    }
}

/// A new mapping; what only one of the two has is shared with it.
fn laid(under: &Fields, over: &Fields) -> Fields {
    let mut out = under.borrow().clone();
    for (key, value) in over.borrow().iter() {
        let value = match (out.get(key), value) {
            (Some(Shared::Map(under)), Shared::Map(over)) => Shared::Map(laid(under, over)),
            (_, value) => value.clone(),
        };
        out.insert(key.clone(), value);
    }
    Rc::new(RefCell::new(out))
}

fn what(value: &Shared) -> &'static str {
    match value {
        Shared::Scalar(Value::Null) => "null",
        Shared::Scalar(_) => "a single value",
        Shared::List(_) => "a list",
        Shared::Map(_) => "a mapping",
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Another path may follow.
    Path,
    /// The line ended where a value could have begun; helm stops there, and drops an item that it was making.
    End,
}

struct Parser<'a> {
    line: Vec<char>,
    at: usize,
    typed: bool,
    items: &'a mut usize,
}

impl Parser<'_> {
    fn next(&mut self) -> Option<char> {
        let next = self.line.get(self.at).copied();
        self.at += usize::from(next.is_some());
        next
    }

    /// Up to one of `stops`, which is taken too; a `\` makes any character plain.
    fn until(&mut self, stops: &[char]) -> (String, Option<char>) {
        let mut text = String::new();
        while let Some(next) = self.next() {
            match next {
                stop if stops.contains(&stop) => return (text, Some(stop)),
                '\\' => text.extend(self.next()),
                plain => text.push(plain),
            }
        }
        (text, None)
    }

    /// A path and its value, put into `fields`.
    fn key(&mut self, fields: &Fields, depth: usize) -> Result<Next, SetError> {
        if depth > MAX_DEPTH {
            return Err(SetError::TooDeep);
        }
        let (key, stop) = self.until(&['=', '[', ',', '.']);
        match stop {
            None if key.is_empty() => Ok(Next::End),
            None | Some(',') => Err(SetError::NoValue(key)),
            _ if key.is_empty() => Err(SetError::NoName),
            Some('=') => {
                let (value, next) = self.value()?;
                fields.borrow_mut().insert(key, value);
                Ok(next)
            }
            Some('[') => {
                let index = self.index()?;
                let list = match fields.borrow().get(&key) {
                    None => Items::default(),
                    Some(Shared::List(list)) => list.clone(),
                    Some(other) => return Err(SetError::NotThat(key, what(other))),
                };
                let (list, next) = self.item(list, index, depth, &key)?;
                fields.borrow_mut().insert(key, Shared::List(list));
                Ok(next)
            }
            Some(_) => {
                let inner = match fields.borrow().get(&key) {
                    None => Fields::default(),
                    Some(Shared::Map(inner)) => inner.clone(),
                    Some(other) => return Err(SetError::NotThat(key, what(other))),
                };
                let next = self.key(&inner, depth + 1)?;
                if inner.borrow().is_empty() {
                    return Err(SetError::NoName);
                }
                fields.borrow_mut().insert(key, Shared::Map(inner));
                Ok(next)
            }
        }
    }

    fn index(&mut self) -> Result<usize, SetError> {
        let (text, end) = self.until(&[']']);
        let index = text.parse().ok().filter(|_| end.is_some());
        let index: usize = index.ok_or(SetError::Index(text))?;
        if index > MAX_INDEX { Err(SetError::IndexTooLarge(index)) } else { Ok(index) }
    }

    /// What follows an index: a value, another index, or a field of the item. Gives the list, which is another one where
    /// it had to grow.
    fn item(
        &mut self,
        list: Items,
        index: usize,
        depth: usize,
        key: &str,
    ) -> Result<(Items, Next), SetError> {
        if depth > MAX_DEPTH {
            return Err(SetError::TooDeep);
        }
        let (text, stop) = self.until(&['[', '.', '=']);
        if !text.is_empty() {
            return Err(SetError::Index(text));
        }
        let existing = list.borrow().get(index).cloned();
        match stop {
            Some('=') => {
                let (value, _) = self.value()?;
                Ok((self.with_item(list, index, value)?, Next::Path))
            }
            Some('[') => {
                let next = self.index()?;
                let inner = match existing {
                    None | Some(Shared::Scalar(Value::Null)) => Items::default(),
                    Some(Shared::List(inner)) => inner,
                    Some(other) => return Err(SetError::NotThat(format!("{key}[{index}]"), what(&other))),
                };
                let (inner, next) = self.item(inner, next, depth + 1, &format!("{key}[{index}]"))?;
                Ok((self.with_item(list, index, Shared::List(inner))?, next))
            }
            Some(_) => {
                let inner = match existing {
                    Some(Shared::Map(inner)) => inner,
                    Some(_) => {
                        let inner = Fields::default();
                        list.borrow_mut()[index] = Shared::Map(inner.clone());
                        inner
                    }
                    None => Fields::default(),
                };
                match self.key(&inner, depth + 1)? {
                    Next::End => Ok((list, Next::End)),
                    Next::Path => Ok((self.with_item(list, index, Shared::Map(inner))?, Next::Path)),
                }
            }
            None => Err(SetError::NoValue(format!("{key}[{index}]"))),
        }
    }

    /// The list itself with another item, or a longer one.
    fn with_item(&mut self, list: Items, index: usize, value: Shared) -> Result<Items, SetError> {
        let length = list.borrow().len();
        if index < length {
            list.borrow_mut()[index] = value;
            return Ok(list);
        }
        *self.items = self.items.checked_sub(index + 1).ok_or(SetError::TooMany)?;
        let mut longer = list.borrow().clone();
        longer.resize(index + 1, Shared::Scalar(Value::Null));
        longer[index] = value;
        Ok(Rc::new(RefCell::new(longer)))
    }

    /// A value, or a list in braces, and the `,` behind it.
    fn value(&mut self) -> Result<(Shared, Next), SetError> {
        match self.line.get(self.at) {
            None => return Ok((Shared::Scalar("".into()), Next::End)),
            Some('{') => {}
            Some(_) => {
                let (text, _) = self.until(&[',']);
                return Ok((self.typed(text), Next::Path));
            }
        }
        self.at += 1;
        let mut list = Vec::new();
        loop {
            let (text, stop) = self.until(&[',', '}']);
            match stop {
                None => return Err(SetError::OpenList),
                Some('}') => {
                    list.push(self.typed(text));
                    self.at += usize::from(self.line.get(self.at) == Some(&','));
                    return Ok((Shared::List(Rc::new(RefCell::new(list))), Next::Path));
                }
                Some(_) => list.push(self.typed(text)),
            }
        }
    }

    fn typed(&self, text: String) -> Shared {
        if !self.typed {
            return Shared::Scalar(Value::String(text));
        }
        Shared::Scalar(match text.to_ascii_lowercase().as_str() {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "null" => Value::Null,
            "0" => Value::from(0),
            number if !number.starts_with('0') => {
                number.parse::<i64>().map_or(Value::String(text), Value::from)
            }
            _ => Value::String(text),
        })
    }
}

#[cfg(test)]
#[path = "values_tests.rs"]
mod tests;
