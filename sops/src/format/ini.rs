//! INI files: sections of `name = value` lines.

use super::dotenv::plain;
use crate::tree::{Comment, File, Item, Value};

/// The section of what stands before the first.
const DEFAULT: &str = "DEFAULT";

pub(super) fn read(text: &str) -> Result<File, String> {
    let mut sections: Vec<(String, Vec<Item>)> = vec![(DEFAULT.to_owned(), Vec::new())];
    let mut comment: Option<String> = None;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        let bad = |what: &str| format!("line {}: {what}", index + 1);
        if line.is_empty() {
            comment = None;
        } else if let Some(text) = line.strip_prefix([';', '#']) {
            let text = text.trim();
            comment = Some(comment.map_or_else(|| text.to_owned(), |before| format!("{before}\n{text}")));
        } else if let Some(name) = line.strip_prefix('[') {
            let name = name.strip_suffix(']').ok_or_else(|| bad("the name of a section has no ']'"))?;
            sections.push((name.trim().to_owned(), comment.take().map(above).into_iter().collect()));
        } else {
            let (name, value) = line.split_once(['=', ':']).ok_or_else(|| bad("has no '='"))?;
            let items =
                sections.last_mut().map(|(_, items)| items).ok_or_else(|| bad("stands in no section"))?;
            items.push(Item::Entry(name.trim().to_owned(), Value::Text(unquoted(value.trim()).to_owned())));
            items.extend(comment.take().map(above));
        }
    }
    Ok(File(vec![sections.into_iter().map(|(name, items)| Item::Entry(name, Value::Map(items))).collect()]))
}

fn above(text: String) -> Item {
    Item::Comment(Comment { text, inline: false })
}

fn unquoted(value: &str) -> &str {
    let within = |quote: &str| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    ["\"\"\"", "\"", "'", "`"].into_iter().find_map(within).unwrap_or(value)
}

pub(super) fn write(file: &File) -> Result<String, String> {
    let mut text = String::new();
    for item in file.0.iter().take(1).flatten() {
        let Item::Entry(section, value) = item else { continue };
        let Value::Map(items) = value else { return Err(format!("'{section}' is not a section")) };
        if section == DEFAULT && items.is_empty() {
            continue;
        }
        let mut items = items.as_slice();
        if !text.is_empty() {
            text.push('\n');
        }
        if let [Item::Comment(comment), rest @ ..] = items {
            put_comment(comment, &mut text);
            items = rest;
        }
        text.push_str(&format!("[{section}]\n"));
        let width =
            items.iter().map(|item| if let Item::Entry(name, _) = item { name.chars().count() } else { 0 });
        let width = width.max().unwrap_or_default();
        for (index, item) in items.iter().enumerate() {
            let Item::Entry(name, value) = item else { continue };
            if let Some(Item::Comment(comment)) = items.get(index + 1) {
                put_comment(comment, &mut text);
            }
            text.push_str(&format!("{name:width$} = {}\n", quoted(&plain(name, value)?)));
        }
    }
    Ok(text)
}

fn put_comment(comment: &Comment, text: &mut String) {
    comment.text.lines().for_each(|line| text.push_str(&format!("; {line}\n")));
}

fn quoted(value: &str) -> String {
    match value {
        value if value.contains(['\n', '`']) => format!("\"\"\"{value}\"\"\""),
        value if value.contains(['#', ';']) || value.trim() != value => format!("`{value}`"),
        value => value.to_owned(),
    }
}
