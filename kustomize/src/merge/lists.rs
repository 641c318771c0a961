//! Lists with merge keys: finding the items that belong together, in the order that kyaml gives them.

use std::collections::HashSet;

use flotilla_yaml::{Map, Node, Pos, Scalar, Seq, Value};

use super::{DIRECTIVE, Directive, Merger, is_none_or_null, take_directive};
use crate::error::Res;
use crate::node_ops::{set_text, text};
use crate::schema::{Field, TypeId};

impl Merger<'_> {
    pub(super) fn walk_associative(
        &self,
        dest: Option<Node>,
        mut patch: Option<Node>,
        keys: &[String],
        of: Option<TypeId>,
    ) -> Res<Option<Node>> {
        if is_none_or_null(dest.as_ref()) {
            // A directive for a list that is not there stays an item of it.
            let Some(patch) = patch else { return Ok(None) };
            return self.merge_lists(patch.clone(), Some(patch), keys, of, true);
        }
        let dest = dest.expect("checked above");
        if let Some(patch) = &mut patch {
            if patch.is_null() {
                return Ok(None);
            }
            match take_directive(patch)? {
                Directive::Delete => return Ok(None),
                Directive::Replace => {
                    return self.merge_lists(patch.clone(), Some(patch.clone()), keys, of, true);
                }
                Directive::Merge => {}
            }
        }
        self.merge_lists(dest, patch, keys, of, false)
    }

    /// Merges two lists by keys. With `same`, both are one list that is only to be brought into its normal form.
    pub(super) fn merge_lists(
        &self,
        mut dest: Node,
        patch: Option<Node>,
        keys: &[String],
        of: Option<TypeId>,
        same: bool,
    ) -> Res<Option<Node>> {
        let scalars = [String::new()];
        let keys = if keys.is_empty() { &scalars[..] } else { keys };
        let mut patch_items: Vec<Node> =
            patch.as_ref().and_then(Node::as_seq).map(|s| s.to_vec()).unwrap_or_default();
        let mut dest_items: Vec<Node> = dest.as_seq().map(|s| s.to_vec()).unwrap_or_default();

        let mut wanted: Vec<Vec<String>> = Vec::new();
        let mut seen = HashSet::new();
        for item in patch_items.iter().chain(&dest_items) {
            let values = key_values(item, keys);
            if seen.insert(values.clone()) {
                wanted.push(values);
            }
        }
        // Each is looked for among all.
        let all = wanted.len() + patch_items.len() + dest_items.len();
        self.work.spend_for(wanted.len(), all.saturating_mul(keys.len()))?;
        if keys.len() > 1 {
            fill_in(&mut wanted);
        }
        let mut added: Vec<Node> = Vec::new();
        let mut last_keys: Vec<&str> = Vec::new();
        for values in &wanted {
            let (names, values) = valid_keys(&wanted, values, keys);
            last_keys.clone_from(&names);
            let (find_names, find_values) = valid_keys(std::slice::from_ref(&values), &values, &names);
            let at = position(&dest_items, &find_names, &find_values);
            let patch_at = position(&patch_items, &find_names, &find_values);
            let of_patch = patch_at.map(|n| patch_items[n].clone());
            let replaces = !same
                && of_patch
                    .as_ref()
                    .is_some_and(|p| p.get(DIRECTIVE).and_then(Node::text) == Some("replace"));
            let keys_at: Vec<Option<Pos>> =
                names.iter().map(|name| Some(dest_items[at?].get(name)?.pos)).collect();
            let merged = match (at, of_patch) {
                (_, Some(patch)) if same => self.normal_item(patch, of)?,
                (at, patch) => {
                    self.walk(at.map(|n| dest_items[n].clone()), patch, Some(Field { keys: None, of }))?
                }
            };
            // The item may be found once more, and is merged then: its directive is carried out, and what took an item's
            // place has lost its nulls.
            if let Some(n) = patch_at.filter(|_| !same) {
                match &merged {
                    Some(merged) if replaces => patch_items[n] = merged.clone(),
                    _ => drop(patch_items[n].as_map_mut().and_then(|item| item.remove(DIRECTIVE))),
                }
            }
            let Some(mut item) = merged.filter(|n| !n.is_null() && n.as_map().is_none_or(|m| !m.is_empty()))
            else {
                if same && let Some(left) = at.and_then(|n| dest_items[n].as_map_mut()) {
                    // Its directive is carried out. It stays an item where it lacks one of the keys.
                    left.remove(DIRECTIVE);
                }
                set_element(&mut dest_items, None, &names, &values);
                if same {
                    patch_items.clone_from(&dest_items);
                }
                continue;
            };
            if let Some(map) = item.as_map_mut() {
                for ((name, value), pos) in names.iter().zip(&values).zip(keys_at) {
                    // A key only says which item is meant.
                    if let (Some(pos), Some(key)) = (pos, map.get_mut(name)) {
                        key.pos = pos;
                    }
                    if !name.is_empty() && !value.is_empty() && !map.contains_key(name) {
                        map.push(Node::string(*name), Node::from(Scalar::plain(value.as_str())));
                    }
                }
            }
            if item.is_scalar() && keys[0].is_empty() && !values[0].is_empty() {
                // Set anew by its text, it has no type of its own.
                let pos = item.pos;
                set_text(&mut item, &values[0], pos);
            }
            if let Some(n) = at
                && !replaces
                && n < dest_items.len()
            {
                dest_items[n] = item.clone();
            }
            set_element(&mut added, Some(item), &names, &values);
        }
        if wanted.is_empty() {
            return Ok(Some(dest));
        }
        append_list(&mut added, dest_items, &last_keys);
        dest.value = Value::Seq(Seq::from(added));
        Ok(Some(dest))
    }

    fn normal_item(&self, item: Node, of: Option<TypeId>) -> Res<Option<Node>> {
        if item.is_map() { self.add(item, of) } else { Ok(Some(item)) }
    }
}

/// An item's values of the merge keys, "" where it has none; its own text for the empty key.
pub(super) fn key_values(item: &Node, keys: &[String]) -> Vec<String> {
    let value = |key: &String| {
        let node = if key.is_empty() { Some(item) } else { item.get(key) };
        node.map(text).unwrap_or_default().to_owned()
    };
    if keys.is_empty() { vec![text(item).to_owned()] } else { keys.iter().map(value).collect() }
}

/// Where one item lacks a key that another one with the same other keys has, it is taken for the same.
fn fill_in(wanted: &mut [Vec<String>]) {
    for i in 0..wanted.len() {
        // As kyaml does, the item as it was is held against all others: the last one that agrees counts.
        let a = &wanted[i].clone();
        for j in 0..wanted.len() {
            let b = &wanted[j];
            let agree = a.iter().zip(b).all(|(a, b)| a == b || a.is_empty() || b.is_empty());
            let common = a.iter().zip(b).any(|(a, b)| a == b);
            if agree && common {
                let both: Vec<String> =
                    a.iter().zip(b).map(|(a, b)| if a.is_empty() { b.clone() } else { a.clone() }).collect();
                wanted[i].clone_from(&both);
                wanted[j] = both;
            }
        }
    }
}

/// The keys that any of the items uses, with one item's values of them.
fn valid_keys<'k, K: AsRef<str>>(
    all: &[Vec<String>],
    values: &[String],
    keys: &'k [K],
) -> (Vec<&'k str>, Vec<String>) {
    let used = |n: usize| all.iter().any(|v| v.get(n).is_some_and(|v| !v.is_empty()));
    let any = (0..keys.len()).any(used);
    let kept = (0..keys.len()).filter(|n| !any || used(*n));
    kept.map(|n| (keys[n].as_ref(), values.get(n).cloned().unwrap_or_default())).unzip()
}

/// A scalar's text as it stands there, `null` for a null that is written out; keys are compared by it.
fn written(node: &Node) -> &str {
    node.text().unwrap_or_default()
}

/// The first item that has all the values.
fn position(items: &[Node], keys: &[&str], values: &[String]) -> Option<usize> {
    items.iter().position(|item| {
        keys.iter().zip(values).all(|(key, value)| match *key {
            "" => item.is_scalar() && item.text() == Some(value),
            key => item.as_map().and_then(|m| m.get(key)).is_some_and(|n| written(n) == value),
        })
    })
}

/// Puts an element in the place of those that have the values, or at the end; without one, removes them.
fn set_element(items: &mut Vec<Node>, element: Option<Node>, keys: &[&str], values: &[String]) {
    let for_maps = element.as_ref().is_some_and(Node::is_map) || keys.first().is_some_and(|k| !k.is_empty());
    let mut found = false;
    let old = std::mem::take(items);
    for item in old {
        if item.is_null() || item.as_map().is_some_and(Map::is_empty) {
            continue;
        }
        if !item.is_map() && for_maps {
            items.push(item);
            continue;
        }
        let mut matched = false;
        let mut all = true;
        for (n, key) in keys.iter().enumerate() {
            if let Some(value) = values.get(n) {
                matched = match *key {
                    "" => written(&item) == value,
                    key => item.get(key).is_some_and(|v| value.is_empty() || written(v) == value),
                };
            }
            all &= matched;
        }
        if !all {
            if !values.is_empty() {
                items.push(item);
            }
            continue;
        }
        found = true;
        if let Some(element) = &element {
            items.push(element.clone());
        }
    }
    if let Some(element) = element
        && !found
        && !element.is_null()
    {
        items.push(element);
    }
}

/// Adds the resource's items behind the patched ones; one that is there already keeps the patched one's place.
fn append_list(items: &mut Vec<Node>, more: Vec<Node>, keys: &[&str]) {
    for element in more {
        if keys.first().is_none_or(|k| k.is_empty()) {
            let value = [text(&element).to_owned()];
            set_element(items, Some(element), &[""], &value);
            continue;
        }
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            match element.get(key) {
                Some(value) => values.push(written(value).to_owned()),
                None => items.push(element.clone()),
            }
        }
        if keys.len() > 1 {
            set_element(items, None, keys, &values);
        }
        set_element(items, Some(element), keys, &values);
    }
}
