//! A file's values in their order, opened or sealed one by one, with the MAC over all of them.

use ring::digest::{Context, SHA256, SHA512, digest};

use crate::cipher::{self, DataKey};
use crate::error::SopsError;
use crate::metadata::Metadata;

/// The documents of a file.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct File(pub(crate) Vec<Vec<Item>>);

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Item {
    Comment(Comment),
    Entry(String, Value),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    /// Of a binary file, whose bytes are no text.
    Bytes(Vec<u8>),
    /// As RFC 3339.
    Time(String),
    Map(Vec<Item>),
    List(Vec<Value>),
    /// In a list only.
    Comment(Comment),
}

/// Without its `#`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Comment {
    pub(crate) text: String,
    /// Beside what follows, not above it.
    pub(crate) inline: bool,
}

/// Opens all values that the file's rule covers; gives the MAC over what it comes to, in capital hexadecimal.
pub(crate) fn open(file: &mut File, metadata: &Metadata, key: &DataKey) -> Result<String, SopsError> {
    let mut at_leaf = |value: &Value, path: &[String], is_covered: bool| {
        let at = format!("{}:", path.join(":"));
        match value {
            value if !is_covered => Ok(value.clone()),
            // Older versions of SOPS left comments clear. Where one stood beside a value is lost, as in SOPS.
            Value::Comment(comment) => Ok(match cipher::open(&comment.text, key, &at) {
                Ok(Value::Text(text)) => Value::Comment(Comment { text, ..comment.clone() }),
                Ok(clear @ Value::Comment(_)) => clear,
                _ => value.clone(),
            }),
            Value::Text(text) => cipher::open(text, key, &at),
            _ => Err("is not encrypted, though the file's rules say that it should be".to_owned()),
        }
    };
    walk(file, metadata, &mut at_leaf, |_, after| after)
}

/// Seals all values that the file's rule covers; gives the MAC over what they were. What `before` had sealed of the same value at the
/// same place stays as it is. `nonce` draws random bytes.
pub(crate) fn seal(
    file: &mut File,
    metadata: &Metadata,
    key: &DataKey,
    before: &Sealed,
    nonce: &mut dyn FnMut() -> [u8; 32],
) -> Result<String, SopsError> {
    let mut at_leaf = |value: &Value, path: &[String], is_covered: bool| {
        if !is_covered {
            return Ok(value.clone());
        }
        let at = format!("{}:", path.join(":"));
        let kept = before.0.iter().find(|(place, clear, _)| *place == at && clear == value);
        let text = match kept {
            Some((_, _, text)) => text.clone(),
            None => cipher::seal(value, key, &at, nonce())?,
        };
        Ok(match value {
            Value::Comment(comment) => Value::Comment(Comment { text, ..comment.clone() }),
            _ => Value::Text(text),
        })
    };
    walk(file, metadata, &mut at_leaf, |before, _| before)
}

/// What was sealed of a file: where, what, and as what.
#[derive(Default)]
pub(crate) struct Sealed(Vec<(String, Value, String)>);

impl Sealed {
    /// As it is in an encrypted file.
    pub(crate) fn of(file: &File, metadata: &Metadata, key: &DataKey) -> Result<Self, SopsError> {
        let mut all = Vec::new();
        let mut at_leaf = |value: &Value, path: &[String], is_covered: bool| {
            let at = format!("{}:", path.join(":"));
            match value {
                Value::Text(text) if is_covered => {
                    all.push((at.clone(), cipher::open(text, key, &at)?, text.clone()))
                }
                // One that was left clear is sealed anew.
                Value::Comment(Comment { text, .. }) if is_covered => {
                    all.extend(
                        cipher::open(text, key, &at).ok().map(|clear| (at.clone(), clear, text.clone())),
                    );
                }
                _ => {}
            }
            Ok(value.clone())
        };
        walk(&mut file.clone(), metadata, &mut at_leaf, |before, _| before)?;
        Ok(Self(all))
    }
}

fn walk(
    file: &mut File,
    metadata: &Metadata,
    at_leaf: AtLeaf<'_>,
    clear: for<'v> fn(&'v Value, &'v Value) -> &'v Value,
) -> Result<String, SopsError> {
    let mut mac = Context::new(&SHA512);
    if metadata.mac_only_encrypted {
        // So that it never equals one over all values.
        mac.update(digest(&SHA256, b"sops").as_ref());
    }
    let mut walk = Walk { metadata, at_leaf, clear, mac, path: Vec::new(), comments: Vec::new() };
    for document in &mut file.0 {
        walk.map(document)?;
    }
    Ok(walk.mac.finish().as_ref().iter().map(|byte| format!("{byte:02X}")).collect())
}

type AtLeaf<'a> = &'a mut dyn FnMut(&Value, &[String], bool) -> Result<Value, String>;

struct Walk<'a> {
    metadata: &'a Metadata,
    at_leaf: AtLeaf<'a>,
    /// Which of a value before and after is under the MAC.
    clear: for<'v> fn(&'v Value, &'v Value) -> &'v Value,
    mac: Context,
    path: Vec<String>,
    /// The comments above, of each collection around.
    comments: Vec<Vec<String>>,
}

impl Walk<'_> {
    fn map(&mut self, items: &mut [Item]) -> Result<(), SopsError> {
        self.comments.push(Vec::new());
        for item in items {
            match item {
                Item::Comment(comment) => *comment = self.comment(comment)?,
                Item::Entry(key, value) => {
                    self.path.push(key.clone());
                    self.value(value)?;
                    self.path.pop();
                    self.clear_comments();
                }
            }
        }
        self.comments.pop();
        Ok(())
    }

    fn value(&mut self, value: &mut Value) -> Result<(), SopsError> {
        match value {
            Value::Null => {}
            Value::Map(items) => self.map(items)?,
            Value::List(items) => {
                self.comments.push(Vec::new());
                for item in items {
                    if let Value::Comment(comment) = item {
                        *item = Value::Comment(self.comment(comment)?);
                    } else {
                        self.value(item)?;
                        self.clear_comments();
                    }
                }
                self.comments.pop();
            }
            leaf => *leaf = self.leaf(leaf)?,
        }
        Ok(())
    }

    fn comment(&mut self, comment: &Comment) -> Result<Comment, SopsError> {
        self.comments.last_mut().into_iter().for_each(|above| above.push(comment.text.clone()));
        match self.leaf(&Value::Comment(comment.clone()))? {
            Value::Comment(comment) => Ok(comment),
            _ => Ok(comment.clone()),
        }
    }

    fn leaf(&mut self, before: &Value) -> Result<Value, SopsError> {
        let is_comment = matches!(before, Value::Comment(_));
        let is_covered = self.metadata.rule.covers(&self.path, &self.comments, is_comment);
        let after = (self.at_leaf)(before, &self.path, is_covered)
            .map_err(|message| SopsError::Value { path: self.path.join("."), message })?;
        let clear = (self.clear)(before, &after);
        if (is_covered || !self.metadata.mac_only_encrypted) && !matches!(clear, Value::Comment(_)) {
            self.mac.update(&bytes(clear));
        }
        Ok(after)
    }

    fn clear_comments(&mut self) {
        self.comments.last_mut().into_iter().for_each(Vec::clear);
    }
}

/// What of a value is under the MAC.
fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::Bool(value) => if *value { "True" } else { "False" }.into(),
        Value::Int(value) => value.to_string().into(),
        Value::Float(value) => float_text(*value).into(),
        Value::Text(text) | Value::Time(text) => text.as_str().into(),
        Value::Bytes(bytes) => bytes.clone(),
        Value::Null | Value::Map(_) | Value::List(_) | Value::Comment(_) => Vec::new(),
    }
}

/// A number without an exponent, as SOPS seals it.
pub(crate) fn float_text(value: f64) -> String {
    match value {
        value if value.is_nan() => "NaN".to_owned(),
        value if value.is_infinite() => if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned(),
        value => value.to_string(),
    }
}
