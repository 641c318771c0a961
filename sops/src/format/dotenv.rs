//! Files of `NAME=value` lines.

use crate::tree::{Comment, File, Item, Value, float_text};

pub(super) fn read(text: &str) -> Result<File, String> {
    let lines = text.split('\n').enumerate().filter(|(_, line)| !line.is_empty());
    let items = lines.map(|(index, line)| match (line.strip_prefix('#'), line.split_once('=')) {
        (Some(text), _) => Ok(Item::Comment(Comment { text: text.to_owned(), inline: false })),
        (None, Some((name, value))) => {
            Ok(Item::Entry(name.to_owned(), Value::Text(value.replace("\\n", "\n"))))
        }
        (None, None) => Err(format!("line {}: has no '='", index + 1)),
    });
    Ok(File(vec![items.collect::<Result<_, _>>()?]))
}

pub(super) fn write(file: &File) -> Result<String, String> {
    let mut text = String::new();
    for item in file.0.iter().take(1).flatten() {
        match item {
            Item::Comment(comment) => text.push_str(&format!("#{}\n", comment.text)),
            Item::Entry(name, value) => {
                text.push_str(&format!("{name}={}\n", plain(name, value)?.replace('\n', "\\n")))
            }
        }
    }
    Ok(text)
}

/// A value as text, for formats that have nothing else.
pub(super) fn plain(name: &str, value: &Value) -> Result<String, String> {
    Ok(match value {
        Value::Null | Value::Comment(_) => String::new(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) => float_text(*value),
        Value::Text(text) | Value::Time(text) => text.clone(),
        Value::Bytes(_) => return Err(format!("'{name}' holds bytes that are not text")),
        Value::Map(_) | Value::List(_) => return Err(format!("'{name}' is not a single value")),
    })
}
