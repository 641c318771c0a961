//! Metadata in formats without nesting: `age__list_0__map_enc` for the field `enc` of the first of `age`.

use std::collections::BTreeMap;

use crate::error::SopsError;
use crate::tree::{Item, Value};

const MAP: &str = "__map_";
const LIST: &str = "__list_";
/// Parts of one name.
const DEPTH: usize = 16;

#[derive(Default)]
struct Place {
    value: Option<Value>,
    fields: BTreeMap<String, Place>,
    items: BTreeMap<usize, Place>,
}

pub(crate) fn unflatten(items: Vec<Item>) -> Result<Vec<Item>, SopsError> {
    let mut root = Place::default();
    for item in items {
        let Item::Entry(name, value) = item else { continue };
        let mut at = &mut root;
        for (depth, part) in parts(&name).enumerate() {
            if depth >= DEPTH {
                return Err(SopsError::field(&name, "is nested too deep"));
            }
            at = match part {
                Part::Field(field) => at.fields.entry(field.to_owned()).or_default(),
                Part::Item(index) => {
                    let index = index
                        .parse()
                        .map_err(|_| SopsError::field(&name, "has an index that is not a number"))?;
                    at.items.entry(index).or_default()
                }
            };
        }
        if at.value.replace(value).is_some() {
            return Err(SopsError::field(name, "stands twice"));
        }
    }
    match nested("", root)? {
        Value::Map(items) => Ok(items),
        _ => Err(SopsError::NotEncrypted),
    }
}

enum Part<'a> {
    Field(&'a str),
    Item(&'a str),
}

fn parts(name: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = Some((MAP, name));
    std::iter::from_fn(move || {
        let (kind, text) = rest.take()?;
        let next = [MAP, LIST].into_iter().filter_map(|mark| Some((text.find(mark)?, mark))).min();
        let part = match next {
            Some((at, mark)) => {
                rest = Some((mark, &text[at + mark.len()..]));
                &text[..at]
            }
            None => text,
        };
        Some(if kind == MAP { Part::Field(part) } else { Part::Item(part) })
    })
}

fn nested(name: &str, place: Place) -> Result<Value, SopsError> {
    let Place { value, fields, items } = place;
    match (value, fields.is_empty(), items.is_empty()) {
        (Some(value), true, true) => Ok(value),
        (None, _, true) => {
            let fields = fields.into_iter().map(|(name, place)| {
                let value = nested(&name, place)?;
                Ok(Item::Entry(name, value))
            });
            Ok(Value::Map(fields.collect::<Result<_, _>>()?))
        }
        (None, true, false) => {
            if items.keys().copied().ne(0..items.len()) {
                return Err(SopsError::field(name, "is a list of which items are missing"));
            }
            Ok(Value::List(items.into_values().map(|place| nested(name, place)).collect::<Result<_, _>>()?))
        }
        _ => Err(SopsError::field(name, "is a value, a mapping and a list at once")),
    }
}

/// The metadata as single values, by their names.
pub(crate) fn flatten(items: &[Item]) -> Vec<Item> {
    let mut flat = Vec::new();
    for item in items {
        if let Item::Entry(name, value) = item {
            put(name.clone(), value, &mut flat);
        }
    }
    flat
}

fn put(name: String, value: &Value, flat: &mut Vec<Item>) {
    match value {
        Value::Map(items) => {
            for item in items {
                if let Item::Entry(field, value) = item {
                    put(format!("{name}{MAP}{field}"), value, flat);
                }
            }
        }
        Value::List(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(index, item)| put(format!("{name}{LIST}{index}"), item, flat));
        }
        single => flat.push(Item::Entry(name, single.clone())),
    }
}
