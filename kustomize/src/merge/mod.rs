//! Strategic merge patches, with kustomize's rules.
//!
//! A patch is laid over a resource: mappings are merged by key, `null` removes, lists are replaced unless the
//! schema names merge keys for them. `$patch: delete` and `$patch: replace` direct otherwise. The rules follow what
//! kyaml does in corners too (blank nulls vanish, patched items come first), because output depends on them.

mod lists;

use std::collections::HashSet;

use flotilla_yaml::{Entry, Kind, Map, Node, Scalar, Style, Typing, Value};

use crate::error::{Fail, Res};
use crate::node_ops::{is_bare_ambiguous, is_quoted, quote_ambiguous, text, wrong_kind};
use crate::schema::{Field, Schema, TypeId};
use crate::work::Work;
use lists::key_values;

const DIRECTIVE: &str = "$patch";

/// What a patch says about the mapping or list that it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Directive {
    Merge,
    Replace,
    Delete,
}

/// The patched resource; `None` if the patch deletes it.
///
/// `$patch: replace` for a whole resource changes nothing, as in kustomize.
pub(crate) fn strategic_merge(
    schema: &Schema,
    resource: Node,
    patch: Node,
    work: &Work,
) -> Res<Option<Node>> {
    work.spend_value(&patch, 0)?;
    work.spend_value(&resource, 0)?;
    if patch.get(DIRECTIVE).and_then(Node::text) == Some("replace") {
        return Ok(Some(resource));
    }
    let has_comments = |node: &Node| node.any(&|n| n.comments().is_some());
    let comments = has_comments(&patch) || has_comments(&resource);
    Merger { schema, comments, work }.walk(Some(resource), Some(patch), None)
}

struct Merger<'a> {
    schema: &'a Schema,
    /// Whether there are comments to look at, which may hold schemas.
    comments: bool,
    work: &'a Work,
}

/// The schema in a comment beside or above a field: `# {"items": …, "x-kubernetes-patch-merge-key": "name"}`.
fn comment_schema(entry: &Entry) -> Option<Node> {
    let of = |node: &Node| {
        let comments = node.comments()?;
        let text = [&comments.line, &comments.head].into_iter().find(|text| !text.is_empty())?;
        let schema = serde_json::from_str(text.trim_start_matches('#')).ok()?;
        Some(Node::from_json(&schema)).filter(|n| n.as_map().is_some_and(|m| !m.is_empty()))
    };
    of(&entry.value).or_else(|| of(&entry.key))
}

fn is_empty_map(node: &Node) -> bool {
    node.as_map().is_some_and(Map::is_empty)
}

fn is_none_or_null(node: Option<&Node>) -> bool {
    node.is_none_or(Node::is_null)
}

impl Merger<'_> {
    fn walk(&self, dest: Option<Node>, patch: Option<Node>, field: Option<Field>) -> Res<Option<Node>> {
        let decides = [dest.as_ref(), patch.as_ref()].into_iter().flatten().find(|n| !n.is_null());
        match decides.map(|n| &n.value) {
            None | Some(Value::Map(_)) => {
                self.demand("MappingNode", &[&dest, &patch], Node::is_map)?;
                let of = field.and_then(|f| f.of).or_else(|| self.kind_of(&[&dest, &patch]));
                self.walk_map(dest, patch, of)
            }
            Some(Value::Seq(_)) => {
                self.demand("SequenceNode", &[&dest, &patch], Node::is_seq)?;
                match field {
                    Some(Field { keys: Some(keys), of }) => self.walk_associative(dest, patch, &keys, of),
                    _ => Ok(patch.or(dest)),
                }
            }
            Some(Value::Scalar(_)) => {
                self.demand("ScalarNode", &[&dest, &patch], Node::is_scalar)?;
                Ok(patch.or(dest))
            }
        }
    }

    fn demand(&self, kind: &str, nodes: &[&Option<Node>], test: fn(&Node) -> bool) -> Res<()> {
        match nodes.iter().filter_map(|n| n.as_ref()).find(|n| !n.is_null() && !test(n)) {
            // The patch is named as the place where it can be, since it is the patch that does not fit.
            Some(node) => Err(wrong_kind(kind, node)
                .at(nodes.last().and_then(|n| n.as_ref()).map_or(node.pos, |n| n.pos))
                .hint("patch and object have to be of the same form here")),
            None => Ok(()),
        }
    }

    /// The type of an object that says its kind itself.
    fn kind_of(&self, nodes: &[&Option<Node>]) -> Option<TypeId> {
        nodes.iter().filter_map(|n| n.as_ref()).find_map(|node| {
            let api_version = node.get("apiVersion").map(text).filter(|t| !t.is_empty())?;
            let kind = node.get("kind").map(text).filter(|t| !t.is_empty())?;
            self.schema.kind(api_version, kind)
        })
    }

    fn walk_map(&self, dest: Option<Node>, patch: Option<Node>, of: Option<TypeId>) -> Res<Option<Node>> {
        if is_none_or_null(dest.as_ref()) {
            return match (dest, patch) {
                // A null that was written out stays; a blank one goes.
                (Some(dest), None) if !dest.text().unwrap_or_default().is_empty() => Ok(Some(dest)),
                (_, None) => Ok(None),
                (_, Some(patch)) => self.add(patch, of),
            };
        }
        let dest = dest.expect("checked above");
        let Some(mut patch) = patch else {
            return if self.is_normal(&dest, of) { Ok(Some(dest)) } else { self.merge_maps(dest, None, of) };
        };
        if patch.is_null() {
            return Ok(None);
        }
        match take_directive(&mut patch)? {
            Directive::Delete => Ok(None),
            Directive::Replace => self.add(patch, of),
            Directive::Merge => self.merge_maps(dest, Some(patch), of),
        }
    }

    /// The patch itself where there is nothing to patch: without its directives and nulls.
    fn add(&self, mut patch: Node, of: Option<TypeId>) -> Res<Option<Node>> {
        if patch.is_null() {
            return Ok(None);
        }
        if take_directive(&mut patch)? == Directive::Delete {
            return Ok(None);
        }
        let Some(map) = patch.as_map() else { return Ok(Some(patch)) };
        let mut result = Map::with_capacity(map.len());
        for entry in map {
            let (schema, field) = self.in_field(of, [Some(entry), None]);
            let inner = self.with(&schema);
            let value = match &entry.value.value {
                Value::Map(_) => {
                    let of = field.and_then(|f| f.of);
                    let of = of.or_else(|| inner.kind_of(&[&Some(entry.value.clone())]));
                    inner.add(entry.value.clone(), of)?
                }
                Value::Seq(_) => inner.add_list(entry.value.clone(), field)?,
                Value::Scalar(_) => Some(entry.value.clone()),
            };
            if let Some(value) = value.filter(|v| !v.is_null()) {
                result.push(entry.key.clone(), value);
            }
        }
        patch.value = Value::Map(result);
        Ok(Some(patch))
    }

    /// As [`add`](Self::add), for a list inside of what is added.
    fn add_list(&self, mut list: Node, field: Option<Field>) -> Res<Option<Node>> {
        let Some(Field { keys: Some(keys), of }) = field else { return Ok(Some(list)) };
        match take_directive(&mut list)? {
            Directive::Delete => Ok(None),
            _ => self.merge_lists(list.clone(), Some(list), &keys, of, true),
        }
    }

    fn merge_maps(&self, mut dest: Node, patch: Option<Node>, of: Option<TypeId>) -> Res<Option<Node>> {
        if let Some(patch) = patch.as_ref().filter(|_| is_empty_map(&dest)) {
            dest.style = patch.style;
        }
        let mut patch_map = match patch.map(|p| p.value) {
            Some(Value::Map(map)) => map,
            _ => Map::default(),
        };
        let map = dest.as_map_mut().expect("a mapping by now");
        let entries = std::mem::take(map.entries_mut());
        if let Some(odd) = entries.iter().chain(patch_map.iter()).find(|entry| !entry.key.is_scalar()) {
            let message = "wrong node kind: expected ScalarNode for a key";
            return Err(Fail::new(message).at(odd.key.pos).hint("put quotes around the key"));
        }
        let mut result = Map::with_capacity(entries.len() + patch_map.len());
        for mut entry in entries {
            let at =
                patch_map.iter().position(|e| e.key.text().is_some() && e.key.text() == entry.key.text());
            let patch = at.map(|n| patch_map.entries_mut().remove(n));
            if patch.is_none() && (entry.value.typing == Typing::Open || is_bare_ambiguous(&entry.value)) {
                quote_ambiguous(&mut entry.value);
                result.push(entry.key, entry.value);
                continue;
            }
            let written_null = patch.is_none() && entry.value.is_null() && entry.value.text() != Some("");
            let (quoted, link) = (is_quoted(&entry.value), entry.value.link().cloned());
            let tagged = entry.value.tag().is_some();
            let style = entry.value.style;
            let was_empty = match &entry.value.value {
                Value::Map(map) => map.is_empty(),
                Value::Seq(seq) => seq.is_empty(),
                Value::Scalar(_) => false,
            };
            let (schema, field) = self.in_field(of, [Some(&entry), patch.as_ref()]);
            let merged = self.with(&schema).walk(Some(entry.value), patch.map(|p| p.value), field)?;
            if let Some(mut value) = merged.filter(|v| written_null || !v.is_null()) {
                // A value takes over the style of the one that it replaces, and is a string by quotes.
                value.style = match (value.is_scalar(), style) {
                    (true, Style::Flow) => Style::Plain,
                    (false, _) if was_empty => value.style,
                    (false, style) if style != Style::Flow => Style::Plain,
                    (_, style) => style,
                };
                settle_tag(&mut value, tagged);
                if quoted
                    && value.tag().is_none()
                    && value.as_scalar().is_some_and(|s| s.kind() != Kind::String)
                {
                    value.value = Value::Scalar(Scalar::string(value.text().unwrap_or_default()));
                    value.typing = Typing::NotString;
                }
                if link.is_some() {
                    value.set_link(link);
                }
                if value.typing == Typing::Open {
                    quote_ambiguous(&mut value);
                }
                result.push(entry.key, value);
            }
        }
        for entry in &patch_map {
            let (schema, field) = self.in_field(of, [None, Some(entry)]);
            let added = self.with(&schema).walk(None, Some(entry.value.clone()), field)?;
            if let Some(mut value) = added.filter(|v| !v.is_null()) {
                if is_bare_ambiguous(&value) {
                    quote_ambiguous(&mut value);
                }
                result.push(entry.key.clone(), value);
            }
        }
        *map = result;
        Ok(Some(dest))
    }

    fn field(&self, of: Option<TypeId>, name: Option<&str>) -> Option<Field> {
        self.schema.field(of?, name?)
    }

    /// What a comment, or else the type, says about a field of the resource, the patch or both; with a schema of its
    /// own if it is a comment.
    fn in_field(&self, of: Option<TypeId>, entries: [Option<&Entry>; 2]) -> (Option<Schema>, Option<Field>) {
        let mut entries = entries.into_iter().flatten();
        if self.comments
            && let Some(comment) = entries.clone().find_map(comment_schema)
        {
            let (schema, field) = self.schema.with_comment(&comment);
            return (Some(schema), Some(field));
        }
        (None, self.field(of, entries.next().and_then(|e| e.key.text())))
    }

    fn with<'b>(&'b self, schema: &'b Option<Schema>) -> Merger<'b> {
        let schema = schema.as_ref().unwrap_or(self.schema);
        Merger { schema, comments: self.comments, work: self.work }
    }

    /// Whether merging nothing into a node would leave it as it is.
    fn is_normal(&self, node: &Node, of: Option<TypeId>) -> bool {
        let Some(map) = node.as_map().filter(|_| !self.comments) else { return !self.comments };
        let of = of.or_else(|| {
            let (api_version, kind) = (map.get("apiVersion")?, map.get("kind")?);
            self.schema.kind(text(api_version), text(kind))
        });
        map.iter().all(|entry| match &entry.value.value {
            Value::Scalar(s) => {
                let is_clear = match s.kind() {
                    Kind::String => !is_bare_ambiguous(&entry.value),
                    _ => entry.value.typing != Typing::Open,
                };
                is_clear && (s.kind() != Kind::Null || !s.text().is_empty())
            }
            Value::Map(_) => {
                self.is_normal(&entry.value, self.field(of, entry.key.text()).and_then(|f| f.of))
            }
            Value::Seq(seq) => match self.field(of, entry.key.text()) {
                Some(Field { keys: Some(keys), of }) => {
                    let mut seen = HashSet::new();
                    seq.iter().all(|item| {
                        let values = key_values(item, &keys);
                        let complete = values.iter().all(|v| !v.is_empty());
                        let filled = item.as_map().is_none_or(|m| !m.is_empty());
                        let clear = is_clear_item(item);
                        complete && filled && clear && seen.insert(values) && self.is_normal(item, of)
                    })
                }
                _ => true,
            },
        })
    }
}

/// That a tag is written is part of the style that a value takes over: its own, whatever that is, or none if it goes
/// without saying.
fn settle_tag(value: &mut Node, written: bool) {
    let Some(scalar) = value.as_scalar() else { return };
    let kind = scalar.kind();
    let own = match kind {
        Kind::Null => "!!null",
        Kind::Bool => "!!bool",
        Kind::Int => "!!int",
        Kind::Float => "!!float",
        Kind::Timestamp => "!!timestamp",
        Kind::String => "!!str",
    };
    let goes_without =
        value.tag() == Some(own) && (kind == Kind::String || Scalar::plain(scalar.text()).kind() == kind);
    match (written, value.tag()) {
        (true, None) => value.set_tag(Some(own.into())),
        (false, Some(_)) if goes_without => value.set_tag(None),
        _ => {}
    }
}

/// Whether an item of a list that is merged by its scalars stays what it is when it is set anew by its text.
fn is_clear_item(item: &Node) -> bool {
    is_quoted(item) || item.as_str().is_none_or(|text| Scalar::plain(text).kind() == Kind::String)
}

/// Reads a `$patch` directive and takes it out.
fn take_directive(patch: &mut Node) -> Res<Directive> {
    let pos = patch.pos;
    let found = match &mut patch.value {
        Value::Map(map) => map.contains_key(DIRECTIVE).then(|| map.remove(DIRECTIVE)).flatten(),
        Value::Seq(seq) => {
            // The first item with a directive decides; with more in it, the directive is the item's own.
            let first = seq.iter().find_map(|n| n.as_map().filter(|m| m.contains_key(DIRECTIVE)));
            let found = first.filter(|m| m.len() == 1).and_then(|m| m.get(DIRECTIVE)).cloned();
            if let Some(found) = &found {
                let same = |n: &Node| n.get(DIRECTIVE).is_some_and(|d| text(d) == text(found));
                let kept = seq.iter().filter(|n| !same(n) && !n.is_null() && !is_empty_map(n));
                *seq = kept.cloned().collect();
            }
            found
        }
        Value::Scalar(_) => None,
    };
    match found.as_ref().map(text) {
        None | Some("merge") => Ok(Directive::Merge),
        Some("replace") => Ok(Directive::Replace),
        Some("delete") => Ok(Directive::Delete),
        Some(other) => Err(Fail::new(format!("unknown patch strategy '{other}'")).at(pos).field(DIRECTIVE)),
    }
}
