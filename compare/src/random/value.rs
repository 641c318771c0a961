//! YAML as the generator makes it: values, and their text in one of YAML's many styles.

use super::rng::Rng;

/// A YAML value. Order is kept.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Written as it stands: numbers, `null`, `yes`, `0644`.
    Plain(String),
    /// A string: quoted where it has to be.
    Text(String),
    /// A string that holds YAML documents.
    Inline(Vec<Value>),
    List(Vec<Value>),
    Map(Vec<(String, Value)>),
    /// A value that is written `&name …`.
    Anchor(&'static str, Box<Value>),
    /// `*name`
    Alias(&'static str),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Plain(value.to_string())
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::Plain(value.to_string())
    }
}

impl From<Vec<Value>> for Value {
    fn from(list: Vec<Value>) -> Self {
        Self::List(list)
    }
}

/// A mapping of the given entries.
pub fn map<K: Into<String>, V: Into<Value>>(entries: impl IntoIterator<Item = (K, V)>) -> Value {
    Value::Map(entries.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
}

/// A mapping of entries that are values of several kinds.
pub fn object<const N: usize>(entries: [(&str, Value); N]) -> Value {
    map(entries)
}

/// A value that is written as it stands.
pub fn plain(text: &str) -> Value {
    Value::Plain(text.to_owned())
}

/// A list of strings.
pub fn texts<T: Into<String>>(list: impl IntoIterator<Item = T>) -> Value {
    Value::List(list.into_iter().map(|text| Value::Text(text.into())).collect())
}

impl Value {
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Self::Map(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The value below some keys.
    pub fn at(&self, keys: &[&str]) -> Option<&Value> {
        keys.iter().try_fold(self, |value, key| value.get(key))
    }

    /// Sets an entry of a mapping; anything else stays as it is.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        let Self::Map(entries) = self else { return };
        let value = value.into();
        match entries.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => entries.push((key.to_owned(), value)),
        }
    }

    pub fn as_map(&self) -> &[(String, Value)] {
        match self {
            Self::Map(entries) => entries,
            _ => &[],
        }
    }

    pub fn as_list(&self) -> &[Value] {
        match self {
            Self::List(list) => list,
            _ => &[],
        }
    }

    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// As JSON. A plain value that JSON does not have becomes a string.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Plain(text) => serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into()),
            Self::Text(text) => text.as_str().into(),
            Self::Inline(all) => documents(all, &mut Style::Plain).into(),
            Self::List(list) => list.iter().map(Self::to_json).collect(),
            Self::Map(entries) => entries
                .iter()
                .map(|(key, value)| (key.clone(), value.to_json()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
            Self::Anchor(_, value) => value.to_json(),
            Self::Alias(name) => (*name).into(),
        }
    }

    pub fn is_scalar(&self) -> bool {
        matches!(self, Self::Plain(_) | Self::Text(_) | Self::Inline(_))
    }
}

/// How text is written.
#[derive(Debug, Clone)]
pub enum Style {
    /// Block style, quotes where needed.
    Plain,
    /// Block and flow, all kinds of quotes, comments.
    Mixed(Box<Rng>),
}

impl Style {
    fn chance(&mut self, percent: u64) -> bool {
        match self {
            Self::Plain => false,
            Self::Mixed(rng) => rng.chance(percent),
        }
    }
}

/// Documents as a file's text.
pub fn documents(documents: &[Value], style: &mut Style) -> String {
    let mut out = String::new();
    for (n, document) in documents.iter().enumerate() {
        if n > 0 || style.chance(10) {
            out.push_str("---\n");
        }
        if style.chance(5) {
            out.push_str("# a comment\n");
        }
        let before = out.len();
        node(document, 0, style, &mut out);
        let written = out.split_off(before);
        out.push_str(written.trim_start_matches(['\n', ' ']));
    }
    out
}

/// Whether a text reads back as this string when it is not quoted.
fn is_plain_string(text: &str) -> bool {
    const OTHERS: [&str; 14] =
        ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf", "infinity", "e", "~"];
    let first = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '/');
    let rest = text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./$()=+".contains(c));
    first && rest && !OTHERS.contains(&text.to_ascii_lowercase().as_str())
}

fn double_quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c => out.push(c),
        }
    }
    out + "\""
}

/// A string on one line.
fn quoted(text: &str, style: &mut Style) -> String {
    if is_plain_string(text) && !style.chance(20) {
        return text.to_owned();
    }
    let single = !text.contains(['\n', '\t', '\'']) && style.chance(50);
    if single { format!("'{text}'") } else { double_quoted(text) }
}

/// Whether a text can stand as a literal block and read back as it is.
fn fits_block(text: &str) -> bool {
    let first = text.lines().next().unwrap_or_default();
    text.contains('\n')
        && !first.starts_with([' ', '\t'])
        && !first.is_empty()
        && !text.contains('\t')
        && !text.ends_with("\n\n")
        && text.lines().all(|line| !line.ends_with(' '))
}

/// Writes a value after `key:` or `-`, with the space before it and the line's end after it.
fn node(value: &Value, indent: usize, style: &mut Style, out: &mut String) {
    match value {
        Value::Map(entries) if !entries.is_empty() && !style.chance(6) => {
            out.push('\n');
            for (key, value) in entries {
                entry(key, value, indent, style, out);
            }
        }
        Value::List(list) if !list.is_empty() && !style.chance(8) => {
            out.push('\n');
            for value in list {
                item(value, indent, style, out);
            }
        }
        Value::Text(text) if fits_block(text) && !style.chance(15) => block(text, indent, out),
        Value::Inline(all) => {
            let text = documents(all, &mut Style::Plain);
            if fits_block(&text) {
                block(&text, indent, out)
            } else {
                line(&double_quoted(&text), style, out)
            }
        }
        Value::Anchor(name, value) => {
            out.push_str(&format!(" &{name}"));
            node(value, indent, style, out);
        }
        value => {
            let text = flow(value, style);
            line(&text, style, out);
        }
    }
}

fn line(text: &str, style: &mut Style, out: &mut String) {
    out.push(' ');
    out.push_str(text);
    if style.chance(3) {
        out.push_str(" # why");
    }
    out.push('\n');
}

fn block(text: &str, indent: usize, out: &mut String) {
    out.push_str(if text.ends_with('\n') { " |\n" } else { " |-\n" });
    for line in text.lines() {
        if !line.is_empty() {
            out.push_str(&" ".repeat(indent + 2));
        }
        out.push_str(line);
        out.push('\n');
    }
}

fn entry(key: &str, value: &Value, indent: usize, style: &mut Style, out: &mut String) {
    if style.chance(1) {
        out.push_str(&format!("{}# about {}\n", " ".repeat(indent), key.replace('\n', " ")));
    }
    out.push_str(&" ".repeat(indent));
    out.push_str(&if key == "<<" { key.to_owned() } else { quoted(key, style) });
    out.push(':');
    // A list may stand as deep as the key that it belongs to.
    let deeper = if matches!(value, Value::List(_)) && !style.chance(30) { indent } else { indent + 2 };
    node(value, deeper, style, out);
}

fn item(value: &Value, indent: usize, style: &mut Style, out: &mut String) {
    out.push_str(&" ".repeat(indent));
    out.push('-');
    let before = out.len();
    node(value, indent + 2, style, out);
    // A mapping begins on the line of its dash.
    let written = out.split_off(before);
    match written.strip_prefix('\n') {
        Some(rest) if !rest.trim_start().starts_with('#') => {
            out.push(' ');
            out.push_str(rest.trim_start_matches(' '));
        }
        _ => out.push_str(&written),
    }
}

/// A value on one line.
fn flow(value: &Value, style: &mut Style) -> String {
    match value {
        Value::Plain(text) => text.clone(),
        Value::Text(text) => quoted(text, style),
        Value::Inline(all) => double_quoted(&documents(all, &mut Style::Plain)),
        Value::List(list) => {
            let items: Vec<String> = list.iter().map(|value| flow(value, style)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Map(entries) => {
            let one = |(key, value): &(String, Value), style: &mut Style| {
                let key = if key == "<<" { key.clone() } else { quoted(key, style) };
                format!("{key}: {}", flow(value, style))
            };
            let entries: Vec<String> = entries.iter().map(|entry| one(entry, style)).collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Anchor(name, value) => format!("&{name} {}", flow(value, style)),
        Value::Alias(name) => format!("*{name} "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `documents` writes reads back as the same values, in any style.
    #[test]
    fn what_is_written_reads_back() {
        let texts =
            ["", "a", "yes", " x", "a: b", "it's", "l1\nl2\n", "l1\nl2", "\ttab", "x\n\n", "#", "é\"\\"];
        let value = map([
            ("texts", self::texts(texts)),
            (
                "nested",
                map([("empty", Value::Map(vec![])), ("list", Value::List(vec![map([("a", plain("1"))])]))]),
            ),
            ("a b", Value::List(vec![Value::List(vec![plain("null")]), plain("0644")])),
            ("inline", Value::Inline(vec![map([("kind", "A")]), map([("kind", "B")])])),
        ]);
        let expected = |text: &str| {
            let nodes = flotilla_yaml::parse(text).unwrap_or_else(|error| panic!("{error:?}\n{text}"));
            nodes.iter().map(|node| node.to_json().unwrap()).collect::<Vec<_>>()
        };
        let all = [value.clone(), value];
        let plainly = expected(&documents(&all, &mut Style::Plain));
        assert_eq!(plainly[0]["texts"], serde_json::json!(texts));
        assert_eq!(plainly[0]["inline"], "kind: A\n---\nkind: B\n");
        for seed in 0..200 {
            let text = documents(&all, &mut Style::Mixed(Box::new(Rng::new(seed))));
            assert_eq!(expected(&text), plainly, "seed {seed}\n{text}");
        }
    }
}
