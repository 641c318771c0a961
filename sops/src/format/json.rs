//! JSON files: keys in their order, written with tabs as `sops` writes them.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::tree::{File, Item, Value};

pub(super) fn read(text: &str) -> Result<File, String> {
    match serde_json::from_str(text).map_err(|error| error.to_string())? {
        Value::Map(items) => Ok(File(vec![items])),
        _ => Err("it is not an object".to_owned()),
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Ordered)
    }
}

/// Takes what JSON has, keys in their order.
struct Ordered;

impl<'de> Visitor<'de> for Ordered {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        // As Go, which has the others as floats.
        #[expect(clippy::cast_precision_loss, reason = "it is what SOPS does")]
        Ok(i64::try_from(value).map_or(Value::Float(value as f64), Value::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut items: Vec<Item> = Vec::new();
        let mut keys = std::collections::HashSet::new();
        while let Some((key, value)) = map.next_entry::<String, Value>()? {
            if !keys.insert(key.clone()) {
                return Err(A::Error::custom("a key stands twice in an object"));
            }
            items.push(Item::Entry(key, value));
        }
        Ok(Value::Map(items))
    }
}

pub(super) fn write(file: &File) -> Result<String, String> {
    let mut text = String::new();
    let [document] = file.0.as_slice() else { return Err("it has several documents".to_owned()) };
    map(document, 0, &mut text)?;
    text.push('\n');
    Ok(text)
}

fn map(items: &[Item], depth: usize, text: &mut String) -> Result<(), String> {
    let entries = items.iter().filter_map(|item| match item {
        Item::Entry(key, value) => Some((key, value)),
        Item::Comment(_) => None,
    });
    collection(['{', '}'], entries, depth, text, |(key, one), text| {
        string(key, text);
        text.push_str(": ");
        value(one, depth + 1, text)
    })
}

fn value(of: &Value, depth: usize, text: &mut String) -> Result<(), String> {
    match of {
        Value::Null | Value::Comment(_) => text.push_str("null"),
        Value::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
        Value::Int(value) => text.push_str(&value.to_string()),
        Value::Float(value) => text.push_str(&number(*value)?),
        Value::Text(value) | Value::Time(value) => string(value, text),
        Value::Bytes(_) => return Err("a value holds bytes that are not text".to_owned()),
        Value::Map(items) => map(items, depth, text)?,
        Value::List(items) => {
            let items = items.iter().filter(|item| !matches!(item, Value::Comment(_)));
            collection(['[', ']'], items, depth, text, |item, text| value(item, depth + 1, text))?;
        }
    }
    Ok(())
}

fn collection<T>(
    [open, close]: [char; 2],
    items: impl Iterator<Item = T>,
    depth: usize,
    text: &mut String,
    mut put: impl FnMut(T, &mut String) -> Result<(), String>,
) -> Result<(), String> {
    text.push(open);
    let mut is_empty = true;
    for item in items {
        if !is_empty {
            text.push(',');
        }
        is_empty = false;
        text.push('\n');
        text.extend(std::iter::repeat_n('\t', depth + 1));
        put(item, text)?;
    }
    if !is_empty {
        text.push('\n');
        text.extend(std::iter::repeat_n('\t', depth));
    }
    text.push(close);
    Ok(())
}

/// With the escapes that Go's encoder makes.
fn string(value: &str, text: &mut String) {
    text.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                text.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => text.push(c),
        }
    }
    text.push('"');
}

/// As Go's encoder: an exponent for what is very small or large.
fn number(value: f64) -> Result<String, String> {
    if !value.is_finite() {
        return Err("JSON has no infinite number, and none that is not a number".to_owned());
    }
    let size = value.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{value:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let sign = if exponent.starts_with('-') { "" } else { "+" };
        return Ok(format!("{mantissa}e{sign}{exponent}"));
    }
    Ok(value.to_string())
}
