//! Reading typed fields out of YAML: each value knows the path of its field and its place, so that what is wrong
//! with it can be said as `file:line:column: spec.path: …`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use flotilla_core::report::Problem;
use flotilla_core::selector::Selector;
use flotilla_kustomize::files::TreePath;
use flotilla_yaml::{JsonError, Node, Pos};

use crate::duration;

/// What is wrong with a field.
#[derive(Debug, Clone)]
pub(crate) struct Wrong {
    pub(crate) pos: Pos,
    pub(crate) field: String,
    pub(crate) message: String,
}

impl From<JsonError> for Wrong {
    fn from(JsonError { pos, message }: JsonError) -> Self {
        Self { pos, field: String::new(), message }
    }
}

/// Where nodes stand: the files of a build, as they are shown.
#[derive(Clone, Copy)]
pub(crate) struct Places<'a> {
    pub(crate) sources: &'a [TreePath],
    /// Put before each path: the source, where it is not the fleet repo.
    pub(crate) prefix: &'a str,
}

impl Places<'_> {
    /// The file as it is shown; "" where none is known.
    pub(crate) fn file(&self, path: Option<&TreePath>) -> String {
        path.map(|path| format!("{}{path}", self.prefix)).unwrap_or_default()
    }

    /// A problem at the place of a field, or at `fallback` (file and line) where its own is not known.
    pub(crate) fn problem(&self, wrong: Wrong, fallback: &(String, u32)) -> Problem {
        let Wrong { pos, field, message } = wrong;
        let file = (pos.source as usize).checked_sub(1).and_then(|n| self.sources.get(n));
        match file {
            Some(file) if pos.line > 0 => {
                let at = Problem::error(self.file(Some(file)), pos.line, message).field(field);
                Problem { column: pos.column, ..at }
            }
            _ => Problem::error(fallback.0.clone(), fallback.1, message).field(field),
        }
    }
}

/// A value with the path that leads to it.
#[derive(Debug, Clone)]
pub(crate) struct Field<'a> {
    pub(crate) node: &'a Node,
    pub(crate) path: String,
    pos: Pos,
}

impl<'a> Field<'a> {
    pub(crate) fn new(node: &'a Node, path: impl Into<String>) -> Self {
        Self { node, path: path.into(), pos: node.pos }
    }

    pub(crate) fn wrong(&self, message: impl Display) -> Wrong {
        Wrong { pos: self.pos, field: self.path.clone(), message: message.to_string() }
    }

    fn under(&self, node: &'a Node, path: String) -> Self {
        let pos = if node.pos.line > 0 { node.pos } else { self.pos };
        Field { node, path, pos }
    }

    /// `result`, its error as one of this field.
    pub(crate) fn so<T>(&self, result: Result<T, impl Display>) -> Result<T, Wrong> {
        result.map_err(|error| self.wrong(error))
    }

    pub(crate) fn str(&self) -> Result<&'a str, Wrong> {
        self.node.as_str().ok_or_else(|| self.wrong("must be a string"))
    }

    /// A string that is not empty.
    pub(crate) fn text(&self) -> Result<String, Wrong> {
        match self.str()? {
            "" => Err(self.wrong("must not be empty")),
            text => Ok(text.to_owned()),
        }
    }

    pub(crate) fn bool(&self) -> Result<bool, Wrong> {
        self.node.as_bool().ok_or_else(|| self.wrong("must be true or false"))
    }

    /// A Go duration of at least a second, in seconds.
    pub(crate) fn seconds(&self) -> Result<u32, Wrong> {
        match self.so(duration::seconds(self.str()?))? {
            0 => Err(self.wrong("must be at least 1s")),
            seconds => Ok(seconds),
        }
    }

    pub(crate) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T, Wrong> {
        let text = self.str()?;
        choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
            self.wrong(format!("'{text}' is none of {}", names.join(", ")))
        })
    }

    pub(crate) fn items(&self) -> Result<Vec<Field<'a>>, Wrong> {
        let seq = self.node.as_seq().ok_or_else(|| self.wrong("must be a list"))?;
        Ok(seq.iter().enumerate().map(|(n, item)| self.under(item, format!("{}[{n}]", self.path))).collect())
    }

    pub(crate) fn strings(&self) -> Result<Vec<String>, Wrong> {
        self.items()?.iter().map(|item| item.str().map(str::to_owned)).collect()
    }

    /// A list of at most so many.
    pub(crate) fn list(&self, most: usize) -> Result<Vec<Field<'a>>, Wrong> {
        let items = self.items()?;
        if items.len() > most {
            return Err(self.wrong(format!("has {} entries, more than {most}", items.len())));
        }
        Ok(items)
    }

    /// A word for people: not empty, at most so many bytes, nothing that cannot be seen.
    pub(crate) fn name(&self, most: usize) -> Result<String, Wrong> {
        let text = self.text()?;
        if text.len() > most || text.trim() != text || text.chars().any(char::is_control) {
            return Err(self.wrong(format!("must have at most {most} bytes, and no blanks around it")));
        }
        Ok(text)
    }

    pub(crate) fn parsed<T: FromStr<Err: Display>>(&self) -> Result<T, Wrong> {
        self.so(self.str()?.parse())
    }

    /// How clusters are selected by their labels.
    pub(crate) fn selector(&self) -> Result<Selector, Wrong> {
        Selector::read(self.node).map_err(|(within, message)| {
            let field = format!("{}.{within}", self.path).trim_end_matches('.').to_owned();
            Wrong { field, ..self.wrong(message) }
        })
    }

    /// `25%`
    pub(crate) fn share(&self) -> Result<u8, Wrong> {
        let digits = self.node.as_str().and_then(|text| text.strip_suffix('%'));
        let share = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        let share = share.and_then(|digits| digits.parse().ok()).filter(|share| *share <= 100);
        share.ok_or_else(|| self.wrong("must be a share from 0% to 100%, such as 25%"))
    }

    /// The fields of a mapping. One that is null counts as absent, as for the API server.
    pub(crate) fn entries(&self) -> Result<Vec<(&'a str, Field<'a>)>, Wrong> {
        let map = self.node.as_map().ok_or_else(|| self.wrong("must be a mapping"))?;
        let entries = map.iter().filter(|entry| !entry.value.is_null()).map(|entry| {
            let key = entry.key.text().unwrap_or_default();
            let at = if entry.value.pos.line > 0 { entry.value.pos } else { entry.key.pos };
            let pos = if at.line > 0 { at } else { self.pos };
            (key, Field { node: &entry.value, path: format!("{}.{key}", self.path), pos })
        });
        Ok(entries.collect())
    }

    /// A mapping of strings.
    pub(crate) fn pairs(&self) -> Result<BTreeMap<String, String>, Wrong> {
        let entry = |(key, value): (&str, Field<'_>)| match value.node.as_str() {
            Some(text) => Ok((key.to_owned(), text.to_owned())),
            None => Err(value.wrong("must be a string; quote it")),
        };
        self.entries()?.into_iter().map(entry).collect()
    }

    /// A mapping that has no other fields than `known`.
    pub(crate) fn object(&self, known: &[&str]) -> Result<Object<'a>, Wrong> {
        let fields = self.entries()?;
        if let Some((key, field)) = fields.iter().find(|(key, _)| !known.contains(key)) {
            return Err(field.wrong(format!("'{key}' is not a field here; known are {}", known.join(", "))));
        }
        Ok(Object { field: self.clone(), fields })
    }
}

/// A mapping whose fields are known.
pub(crate) struct Object<'a> {
    pub(crate) field: Field<'a>,
    fields: Vec<(&'a str, Field<'a>)>,
}

impl<'a> Object<'a> {
    /// A mapping that is not there.
    pub(crate) fn empty(path: &str) -> Self {
        static NOTHING: std::sync::OnceLock<Node> = std::sync::OnceLock::new();
        Self { field: Field::new(NOTHING.get_or_init(Node::map), path), fields: Vec::new() }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Field<'a>> {
        self.fields.iter().find(|(key, _)| *key == name).map(|(_, field)| field)
    }

    pub(crate) fn need(&self, name: &str) -> Result<&Field<'a>, Wrong> {
        self.get(name).ok_or_else(|| Wrong {
            field: format!("{}.{name}", self.field.path),
            ..self.field.wrong("is missing")
        })
    }

    /// A string that is not empty, if the field is there.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, Wrong> {
        match self.get(name) {
            Some(field) if field.str()?.is_empty() => Ok(None),
            Some(field) => field.text().map(Some),
            None => Ok(None),
        }
    }

    pub(crate) fn bool(&self, name: &str) -> Result<bool, Wrong> {
        self.get(name).map_or(Ok(false), Field::bool)
    }

    /// A duration, if the field is there.
    pub(crate) fn seconds(&self, name: &str) -> Result<Option<u32>, Wrong> {
        self.get(name).map(Field::seconds).transpose()
    }

    /// A whole number within bounds, if the field is there.
    pub(crate) fn number(&self, name: &str, bounds: RangeInclusive<u32>) -> Result<Option<u32>, Wrong> {
        let Some(field) = self.get(name) else { return Ok(None) };
        let number = field.node.as_u64().and_then(|number| u32::try_from(number).ok());
        let number = number.filter(|number| bounds.contains(number));
        let (least, most) = (bounds.start(), bounds.end());
        number.map(Some).ok_or_else(|| field.wrong(format!("must be a number from {least} to {most}")))
    }

    /// One of these words, or the default where the field is not there.
    pub(crate) fn choice<T: Copy + Default>(&self, name: &str, choices: &[(&str, T)]) -> Result<T, Wrong> {
        self.get(name).map_or_else(|| Ok(T::default()), |field| field.choice(choices))
    }

    /// `{name: …}`
    pub(crate) fn name_of(&self, name: &str) -> Result<Option<String>, Wrong> {
        self.get(name).map(|field| field.object(&["name"])?.need("name")?.text()).transpose()
    }
}

/// Nothing beside what each object of ours has: a misspelt `spec` would be an object that says nothing.
pub(crate) fn top(document: &Node) -> Result<(), Wrong> {
    let known = ["apiVersion", "kind", "metadata", "spec"];
    for (key, field) in Field::new(document, "").entries()? {
        if !known.contains(&key) {
            let wrong = field.wrong(format!("is not a field here; known are {}", known.join(", ")));
            return Err(Wrong { field: key.to_owned(), ..wrong });
        }
    }
    Ok(())
}

/// Refuses fields without a value. Where a condition stands, what was forgotten must not be one that is not there.
pub(crate) fn no_nulls(field: &Field<'_>) -> Result<(), Wrong> {
    if let Some(map) = field.node.as_map() {
        if let Some(empty) = map.iter().find(|entry| entry.value.is_null()) {
            let path = format!("{}.{}", field.path, empty.key.text().unwrap_or_default());
            return Err(field
                .under(&empty.key, path)
                .wrong("is empty: say what is meant, or leave the field out"));
        }
        return field.entries()?.iter().try_for_each(|(_, field)| no_nulls(field));
    }
    match field.node.as_seq() {
        Some(_) => field.items()?.iter().try_for_each(no_nulls),
        None if field.node.is_null() => Err(field.wrong("is empty: say what is meant, or leave it out")),
        None => Ok(()),
    }
}
