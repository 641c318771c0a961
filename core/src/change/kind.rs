//! Kinds of objects by name, as people write them: `Namespace`, `StatefulSet.apps`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::object::ObjectId;

/// A kind in its group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KindName {
    /// Empty for the core group.
    pub group: String,
    pub kind: String,
}

impl KindName {
    pub fn new(group: impl Into<String>, kind: impl Into<String>) -> Self {
        Self { group: group.into(), kind: kind.into() }
    }

    pub fn of(object: &ObjectId) -> Self {
        Self::new(&object.group, &object.kind)
    }
}

/// `KIND`, or `KIND.GROUP`.
impl fmt::Display for KindName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        if self.group.is_empty() { Ok(()) } else { write!(f, ".{}", self.group) }
    }
}

/// A text that names no kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' names no kind: expected KIND, or KIND.GROUP")]
pub struct InvalidKind(String);

impl FromStr for KindName {
    type Err = InvalidKind;

    fn from_str(text: &str) -> Result<Self, InvalidKind> {
        let (kind, group) = text.split_once('.').unwrap_or((text, ""));
        let is_kind = kind.starts_with(|c: char| c.is_ascii_uppercase())
            && kind.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let is_group =
            group.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b));
        let is_whole = !text.ends_with('.') && text.len() <= 320;
        if is_kind && is_group && is_whole {
            Ok(Self::new(group, kind))
        } else {
            Err(InvalidKind(text.to_owned()))
        }
    }
}

impl Serialize for KindName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KindName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
