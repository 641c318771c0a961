//! The resources of a build in their order, and finding and adding by identity.

use std::collections::HashMap;

use flotilla_yaml::{Map, Node, Pos, Style, Value};

use crate::documents;
use crate::error::{Fail, Res, fail};
use crate::generate::block;
use crate::gvk::{Gvk, ResId};
use crate::load::{Context, Loaded};
use crate::node_ops::{drop_styles, place_like, text_at};
use crate::notes;
use crate::resource::{Behavior, ORIGIN_ANNOTATION, Resource};
use crate::schema::Schema;
use crate::work::Work;

/// Resources in load order; no two have the same current identity.
#[derive(Debug, Clone, Default)]
pub(crate) struct ResMap(pub(crate) Vec<Resource>);

fn duplicate(resource: &Resource, first: Pos) -> Fail {
    let id = resource.id();
    Fail::new(format!("may not add resource with an already registered id: {id}"))
        .at(resource.pos)
        .hint("leave one of them out, or give it another name or namespace")
        .see("the other one is at", first)
}

impl ResMap {
    /// What all resources come to, in steps; nothing is taken for it.
    pub(crate) fn weight(&self, work: &Work) -> Res<usize> {
        work.weight(self.0.iter().map(|resource| &resource.node))
    }

    /// Of all resources.
    pub(crate) fn name_bytes(&self) -> usize {
        self.0.iter().map(|resource| resource.name().len() + resource.namespace().len()).sum()
    }

    /// A map of resources that may contain the same identity twice, which is an error.
    pub(crate) fn of(resources: Vec<Resource>) -> Res<Self> {
        let mut map = Self::default();
        map.append_all(resources)?;
        Ok(map)
    }

    pub(crate) fn append(&mut self, resource: Resource) -> Res<()> {
        let id = resource.id();
        if let Some(first) = self.0.iter().find(|r| r.name() == id.name && r.id().same(&id)) {
            return Err(duplicate(&resource, first.pos));
        }
        self.0.push(resource);
        Ok(())
    }

    pub(crate) fn append_all(&mut self, resources: Vec<Resource>) -> Res<()> {
        if resources.len() == 1 {
            return resources.into_iter().try_for_each(|r| self.append(r));
        }
        let mut known: HashMap<_, Pos> = self.0.iter().map(|r| (r.id().key(), r.pos)).collect();
        for resource in resources {
            if let Some(first) = known.insert(resource.id().key(), resource.pos) {
                return Err(duplicate(&resource, first));
            }
            self.0.push(resource);
        }
        Ok(())
    }

    /// Adds generated resources, which may replace or be merged into what is there.
    pub(crate) fn absorb(&mut self, mut new: Resource) -> Res<()> {
        let id = new.id();
        let matches: Vec<usize> = self.indexes_by_any_id(&|other| id.same(other));
        let behavior = new.behavior.unwrap_or_default();
        match matches[..] {
            [] if matches!(behavior, Behavior::Merge | Behavior::Replace) => {
                fail!("id {id} does not exist; cannot merge or replace").map_err(|e: Fail| {
                    e.at(new.pos)
                        .hint("leave behavior out, or name what a base generates, namespace included")
                })
            }
            [] => self.append(new),
            [index] => {
                let old = &self.0[index];
                match behavior {
                    Behavior::Replace => copy_metadata(&mut new, old)?,
                    Behavior::Merge => {
                        let origin = old.annotation(ORIGIN_ANNOTATION).map(str::to_owned);
                        copy_metadata(&mut new, old)?;
                        merge_data(&mut new, old, "data");
                        merge_data(&mut new, old, "binaryData");
                        if let Some(origin) = origin {
                            new.set_annotation(ORIGIN_ANNOTATION, &origin)?;
                        }
                    }
                    _ => {
                        let behavior = behavior.as_str();
                        return Err(Fail::new(format!(
                            "id {id} exists; can not use behavior: '{behavior}', behavior must be merge or replace"
                        ))
                        .at(new.pos)
                        .field("behavior")
                        .hint("set behavior, or give it another name")
                        .see("the other one is at", old.pos));
                    }
                }
                self.0[index] = new;
                Ok(())
            }
            _ => {
                let names: Vec<String> = matches.iter().map(|n| self.0[*n].id().to_string()).collect();
                fail!("found multiple objects {} that could accept merge of {id}", names.join(", "))
                    .map_err(|e: Fail| e.at(new.pos))
            }
        }
    }

    /// The resources of which an identity, current or earlier, passes the test.
    pub(crate) fn indexes_by_any_id(&self, test: &dyn Fn(&ResId) -> bool) -> Vec<usize> {
        let passes = |r: &Resource| !r.is_empty() && r.all_ids().any(|id| test(&id));
        self.0.iter().enumerate().filter(|(_, r)| passes(r)).map(|(n, _)| n).collect()
    }

    /// The one resource that a patch names.
    pub(crate) fn patch_target(&self, id: &ResId) -> Res<usize> {
        let quick = |r: &Resource| r.name() == id.name || !r.previous.is_empty();
        let passes = |r: &Resource| quick(r) && !r.is_empty() && r.all_ids().any(|i| i.same(id));
        let mut matches = self.0.iter().enumerate().filter(|(_, r)| passes(r)).map(|(n, _)| n);
        match (matches.next(), matches.next()) {
            (Some(index), None) => Ok(index),
            (None, _) => fail!("no matches for Id {id}; failed to find unique target for patch {id}")
                .map_err(|e: Fail| e.hint(self.nearest(id))),
            (Some(a), Some(b)) => fail!(
                "multiple matches for Id {id}; failed to find unique target for patch {id}"
            )
            .map_err(|e: Fail| {
                let (a, b) = (self.0[a].id(), self.0[b].id());
                e.hint(format!("{a} and {b} match: give the patch a target, or a namespace"))
            }),
        }
    }

    /// What to say about an id that nothing has.
    fn nearest(&self, id: &ResId) -> String {
        let like = |r: &&Resource| r.name() == id.name || r.id().gvk == id.gvk;
        let found: Vec<String> = self.0.iter().filter(like).take(3).map(|r| r.id().to_string()).collect();
        if found.is_empty() {
            "apiVersion, kind, name and namespace are those that the object was read with or has by now"
                .into()
        } else {
            format!("like it are: {}", found.join(", "))
        }
    }

    /// Drops what patches have deleted.
    pub(crate) fn drop_empty(&mut self) {
        self.0.retain(|r| !r.is_empty());
    }
}

/// Gives a generated resource the labels, annotations, name and history of the one that it replaces.
fn copy_metadata(new: &mut Resource, old: &Resource) -> Res<()> {
    for field in ["labels", "annotations"] {
        let mut merged = match old.node.at(&["metadata", field]) {
            Some(node) if node.is_map() => node.clone(),
            _ => Node::map().at_pos(new.pos),
        };
        let map = merged.as_map_mut().expect("a mapping by construction");
        for entry in new.node.at(&["metadata", field]).and_then(Node::as_map).into_iter().flatten() {
            map.insert(entry.key.text().unwrap_or_default(), entry.value.clone());
        }
        // They are strings from here on, whatever they looked like, and share nothing.
        for value in map.values_mut() {
            *value = Node::string(value.text().unwrap_or_default()).at_pos(value.pos);
        }
        let empty = map.is_empty();
        let metadata = crate::node_ops::map_under(&mut new.node, "metadata")?;
        if empty {
            metadata.remove(field);
        } else {
            metadata.insert(field, merged);
        }
    }
    let pos = |field: &str| old.node.at(&["metadata", field]).map_or(old.pos, |n| n.pos);
    new.set_name(old.name(), pos("name"))?;
    new.set_namespace(old.namespace(), pos("namespace"))?;
    new.previous.clone_from(&old.previous);
    new.prefixes.clone_from(&old.prefixes);
    new.suffixes.clone_from(&old.suffixes);
    new.vars.clone_from(&old.vars);
    new.behavior = old.behavior;
    new.needs_hash &= old.needs_hash;
    new.ensure_annotations();
    Ok(())
}

fn merge_data(new: &mut Resource, old: &Resource, field: &str) {
    let (mut merged, pos) = match old.node.get(field) {
        Some(old) => (old.as_map().cloned().unwrap_or_default(), old.pos),
        None => (Map::default(), new.pos),
    };
    for entry in merged.entries_mut() {
        // Values are strings from here on, whatever they looked like.
        let text = entry.value.text().unwrap_or_default().to_owned();
        entry.value = block(text).at_pos(entry.value.pos);
    }
    for entry in new.node.get(field).and_then(Node::as_map).into_iter().flatten() {
        merged.insert(entry.key.text().unwrap_or_default(), entry.value.clone());
    }
    let Some(map) = new.node.as_map_mut() else { return };
    if merged.is_empty() {
        map.remove(field);
    } else {
        map.insert(field, Node::from(merged).at_pos(pos));
    }
}

/// The resources of a file.
pub(crate) fn from_file(cx: &mut Context, file: &Loaded) -> Res<Vec<Resource>> {
    let documents = file.documents(cx)?;
    resources(cx, documents)
}

/// The resources of a text inside a file.
pub(crate) fn from_text(cx: &mut Context, text: &str, source: u32) -> Res<Vec<Resource>> {
    let documents = documents::parse(cx, text, source)?;
    resources(cx, documents)
}

/// Checks documents and opens lists.
pub(crate) fn resources(cx: &mut Context, documents: Vec<Node>) -> Res<Vec<Resource>> {
    let mut queue: std::collections::VecDeque<Node> = documents.into();
    if queue.len() == 1 {
        let kind = text_at(&queue[0], &["kind"]);
        if matches!(kind, "List" | "ResourceList")
            && (queue[0].get("items").is_some() || queue[0].get("functionConfig").is_some())
        {
            let items = queue[0].get("items").and_then(Node::as_seq).cloned().unwrap_or_default();
            queue = items.to_vec().into();
        }
    }
    let mut result = Vec::with_capacity(queue.len());
    queue.retain(|n| !is_nothing(n));
    for node in &queue {
        check(node)?;
    }
    while let Some(mut node) = queue.pop_front() {
        let items = if text_at(&node, &["kind"]).ends_with("List") { node.get("items") } else { None };
        let Some(items) = items else {
            // Kinds of lists need no metadata, but kustomize's notes do.
            let pos = node.pos;
            if let Some(map) = node.as_map_mut().filter(|map| !map.contains_key("metadata")) {
                let nothing = Value::Map(Map::default());
                map.push(Node::string("metadata").at_pos(pos), Node::new(nothing).at_pos(pos));
            }
            let mut resource = Resource { scopes: cx.schema.cluster_scoped.clone(), ..Resource::new(node) };
            if notes::are_written(&resource) {
                notes::read_back(&mut resource);
            }
            result.push(resource);
            continue;
        };
        if items.is_null() {
            continue;
        }
        let Some(items) = items.as_seq() else {
            let kind = text_at(&node, &["kind"]);
            return fail!("expected array in {kind}/items").map_err(|e: Fail| e.at(items.pos).field("items"));
        };
        for item in items.iter().filter(|n| !is_nothing(n)) {
            cx.work.spend_value(item, 0)?;
            let item = through_json(item)?;
            check(&item)?;
            queue.push_back(item);
        }
    }
    let schema = Schema::builtin();
    let is_foreign = |r: &Resource| schema.kind(text_at(&r.node, &["apiVersion"]), r.kind()).is_none();
    if !cx.schema_is_set && result.iter().any(is_foreign) {
        cx.builtin_is_known = true;
    }
    Ok(result)
}

/// An item of a list as kustomize has it, which writes it as JSON and reads that.
fn through_json(item: &Node) -> Res<Node> {
    let mut plain = item.clone();
    drop_styles(&mut plain);
    let json =
        plain.to_json_as(flotilla_yaml::Schema::Kustomize).map_err(|e| Fail::new(e.message).at(e.pos))?;
    let mut node = Node::from_json(&json);
    place_like(&mut node, item);
    as_json_text(&mut node);
    Ok(node)
}

fn as_json_text(node: &mut Node) {
    node.style = if node.is_scalar() { node.style } else { Style::Flow };
    match &mut node.value {
        Value::Scalar(scalar) if scalar.kind() == flotilla_yaml::Kind::String => {
            node.style = Style::DoubleQuoted
        }
        Value::Scalar(_) => {}
        Value::Seq(seq) => seq.iter_mut().for_each(as_json_text),
        Value::Map(map) => map.values_mut().for_each(as_json_text),
    }
}

/// Checks an object at the end of a build: a patch or transformer may have taken away what every object has.
pub(crate) fn check_still(resource: &Resource) -> Res<()> {
    check(&resource.node).map_err(|e| {
        let hint = match resource.previous.first() {
            Some(was) => {
                format!("{}/{} was read there; something in the build took it away", was.kind, was.name)
            }
            None => "something in the build took it away, or put nothing there".to_owned(),
        };
        Fail { hint: Some(hint), ..e.at(resource.pos) }
    })
}

fn is_nothing(node: &Node) -> bool {
    node.is_null()
        || node.as_map().is_some_and(flotilla_yaml::Map::is_empty)
        || node.as_seq().is_some_and(|s| s.is_empty())
}

fn check(node: &Node) -> Res<()> {
    let failed = |message: String, field: &str| {
        let hint =
            "every object has apiVersion, kind and metadata.name; a file without them is not a resource";
        Err(Fail::new(message).at(node.pos).field(field).hint(hint))
    };
    if !node.is_map() {
        let what = if node.is_seq() { "a list" } else { "a scalar" };
        return Err(Fail::new(format!(
            "expected an object with apiVersion, kind and metadata, found {what}"
        ))
        .at(node.pos));
    }
    let (api_version, kind) = (text_at(node, &["apiVersion"]), text_at(node, &["kind"]));
    let gvk = Gvk::new(api_version, kind);
    if kind.is_empty() {
        return failed(
            format!("missing kind in object {gvk}/{}", text_at(node, &["metadata", "name"])),
            "kind",
        );
    }
    if !kind.ends_with("List") && text_at(node, &["metadata", "name"]).is_empty() {
        return failed(format!("missing metadata.name in object {gvk}"), "metadata.name");
    }
    Ok(())
}
