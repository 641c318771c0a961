//! Sequences and mappings: shared when cloned, copied when changed.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use smol_str::SmolStr;

use crate::node::Node;

/// An ordered list of nodes: a `Vec<Node>` that clones for the price of a reference count. The first change of a
/// shared one copies it (one level only).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Seq(Arc<Vec<Node>>);

/// An ordered list of keys and values, cloned and copied like [`Seq`]. What the parser gives has no key twice.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Map(Arc<Vec<Entry>>);

/// One `key: value` of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Nearly always a string scalar. Anything else is kept, and refused where Kubernetes' tools refuse it.
    pub key: Node,
    pub value: Node,
}

impl Map {
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Arc::new(Vec::with_capacity(capacity)))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entries in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Entry> {
        self.0.iter()
    }

    /// The keys in order; keys that are collections are left out.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|e| e.key.text())
    }

    pub fn values(&self) -> impl Iterator<Item = &Node> {
        self.0.iter().map(|e| &e.value)
    }

    /// The entries to change, reorder, add to or remove from. Copies them if they are shared.
    pub fn entries_mut(&mut self) -> &mut Vec<Entry> {
        Arc::make_mut(&mut self.0)
    }

    /// The values to change. Copies the entries if they are shared.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        self.entries_mut().iter_mut().map(|e| &mut e.value)
    }

    /// Where the key stands.
    pub fn index_of(&self, key: &str) -> Option<usize> {
        self.0.iter().position(|e| e.key.text() == Some(key))
    }

    pub fn contains_key(&self, key: &str) -> bool {
        self.index_of(key).is_some()
    }

    /// The whole entry of a key, for its position and comments.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.0.iter().find(|e| e.key.text() == Some(key))
    }

    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|e| &e.value)
    }

    /// As [`get`](Self::get). Nothing is copied if the key is not there.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        let index = self.index_of(key)?;
        Some(&mut self.entries_mut()[index].value)
    }

    /// The value of the key, put at the end by `default` if it is not there.
    pub fn get_or_insert_with(&mut self, key: &str, default: impl FnOnce() -> Node) -> &mut Node {
        let index = self.index_of(key);
        let entries = self.entries_mut();
        let index = index.unwrap_or_else(|| {
            entries.push(Entry { key: Node::string(key), value: default() });
            entries.len() - 1
        });
        &mut entries[index].value
    }

    /// Sets the value of a key: in its place if the key is there (the key keeps its comments; the old value is
    /// given back), else at the end.
    pub fn insert(&mut self, key: impl AsRef<str> + Into<SmolStr>, value: Node) -> Option<Node> {
        match self.get_mut(key.as_ref()) {
            Some(old) => Some(std::mem::replace(old, value)),
            None => {
                self.entries_mut().push(Entry { key: Node::string(key), value });
                None
            }
        }
    }

    /// Adds an entry at the end without looking for the key.
    pub fn push(&mut self, key: Node, value: Node) {
        self.entries_mut().push(Entry { key, value });
    }

    /// Takes a key out; the others keep their order.
    pub fn remove(&mut self, key: &str) -> Option<Node> {
        let index = self.index_of(key)?;
        Some(self.entries_mut().remove(index).value)
    }

    /// Keeps the entries for which the test holds.
    pub fn retain(&mut self, keep: impl FnMut(&Entry) -> bool) {
        self.entries_mut().retain(keep);
    }
}

impl<'a> IntoIterator for &'a Map {
    type Item = &'a Entry;
    type IntoIter = std::slice::Iter<'a, Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl FromIterator<Entry> for Map {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        Self(Arc::new(entries.into_iter().collect()))
    }
}

impl Deref for Seq {
    type Target = Vec<Node>;

    fn deref(&self) -> &Vec<Node> {
        &self.0
    }
}

impl DerefMut for Seq {
    fn deref_mut(&mut self) -> &mut Vec<Node> {
        Arc::make_mut(&mut self.0)
    }
}

impl FromIterator<Node> for Seq {
    fn from_iter<I: IntoIterator<Item = Node>>(items: I) -> Self {
        Self(Arc::new(items.into_iter().collect()))
    }
}

impl From<Vec<Node>> for Seq {
    fn from(items: Vec<Node>) -> Self {
        Self(Arc::new(items))
    }
}

impl From<Vec<Entry>> for Map {
    fn from(entries: Vec<Entry>) -> Self {
        Self(Arc::new(entries))
    }
}
