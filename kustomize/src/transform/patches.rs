//! Patches: finding what they are for, and applying them.

use std::borrow::Cow;

use flotilla_yaml::{Node, Options, Pos};

use crate::decode::Text;
use crate::documents;
use crate::error::{Fail, Res, fail};
use crate::jsonpatch::JsonPatch;
use crate::load::{Context, Loaded, Loader};
use crate::merge::strategic_merge;
use crate::node_ops::{map_under, put_string, text};
use crate::notes;
use crate::parts::{Patch, Selector};
use crate::resmap::{self, ResMap};
use crate::resource::Resource;
use crate::schema::Schema;
use crate::selector::Matcher;
use crate::work::Work;

/// An entry of `patches` with its text read.
pub(crate) struct LoadedPatch<'a> {
    entry: &'a Patch,
    kind: Kind,
    /// The patch as kustomize names it in messages.
    name: String,
}

enum Kind {
    Merge(Vec<Resource>),
    Json(JsonPatch),
}

/// Reads the documents of a patch that was written in the kustomization file.
pub(crate) fn inline(cx: &mut Context, text: &Text) -> Res<Vec<Node>> {
    let parsed = documents::parse(cx, &text.text, text.pos.source);
    let mut documents = parsed.map_err(|e| Fail { pos: text.inside(e.pos), ..e })?;
    documents.iter_mut().for_each(|d| restamp(d, text));
    Ok(documents)
}

/// Gives a node and all in it their positions in the file that the text was read from.
pub(crate) fn restamp(node: &mut Node, text: &Text) {
    node.pos = text.inside(node.pos);
    if let Some(seq) = node.as_seq_mut() {
        seq.iter_mut().for_each(|n| restamp(n, text));
    } else if let Some(map) = node.as_map_mut() {
        for entry in map.entries_mut() {
            entry.key.pos = text.inside(entry.key.pos);
            restamp(&mut entry.value, text);
        }
    }
}

/// Reads an entry of `patches`.
pub(crate) fn load<'a>(cx: &mut Context, loader: &Loader, entry: &'a Patch) -> Res<LoadedPatch<'a>> {
    load_unplaced(cx, loader, entry).map_err(|e| e.at(entry.pos))
}

fn load_unplaced<'a>(cx: &mut Context, loader: &Loader, entry: &'a Patch) -> Res<LoadedPatch<'a>> {
    let (path, patch) = (&entry.path.text, entry.patch.text.trim());
    let (source, name) = match (path.is_empty(), patch.is_empty()) {
        (true, true) => {
            return fail!("must specify one of patch and path in the entry of patches")
                .map_err(|e: Fail| e.hint("patch is for its text, path for its file"));
        }
        (false, false) => return fail!("patch and path can't be set at the same time"),
        (true, false) => (Source::Inline(entry.patch.trim_end()), format!("[patch: {patch:?}]")),
        (false, true) => {
            let words = format!("failed to get the patch file from path({path})");
            let loaded = loader.load(cx, &entry.path).map_err(|e| e.field("path").context(words))?;
            (Source::File(loaded), format!("[path: {path:?}]"))
        }
    };
    let mut read = || -> Res<Kind> {
        if source.is_list()? {
            return source.operations(cx).map(Kind::Json);
        }
        match source.documents(cx) {
            Ok(documents) if !documents.first().is_some_and(Node::is_seq) => {
                let mut patches = resmap::resources(cx, documents)?;
                for patch in &mut patches {
                    patch.allow_name_change = entry.allow_name_change;
                    patch.allow_kind_change = entry.allow_kind_change;
                }
                Ok(Kind::Merge(patches))
            }
            Ok(_) => source.operations(cx).map(Kind::Json),
            // What cannot be read as an object may still be a list of operations, below a directive for one.
            Err(error) => source.operations(cx).map(Kind::Json).map_err(|_| error),
        }
    };
    let kind = read().map_err(|e| {
        let why = e.message.clone();
        Fail { message: format!("unable to parse SM or JSON patch from {name}: {why}"), ..e }
    })?;
    Ok(LoadedPatch { entry, kind, name })
}

/// Where the text of a patch stands.
enum Source {
    /// In the kustomization file.
    Inline(Text),
    File(Loaded),
}

impl Source {
    fn text(&self) -> Res<Cow<'_, str>> {
        match self {
            Self::Inline(text) => Ok(Cow::Borrowed(&text.text)),
            Self::File(file) => file.text(),
        }
    }

    /// Whether the text can be nothing but a list.
    fn is_list(&self) -> Res<bool> {
        let text = self.text()?;
        let text = text.trim_start();
        Ok(text.starts_with('[') || text.starts_with("- "))
    }

    /// The documents of a text of objects.
    fn documents(&self, cx: &mut Context) -> Res<Vec<Node>> {
        match self {
            Self::Inline(text) => inline(cx, text),
            Self::File(file) => file.documents(cx),
        }
    }

    /// A JSON patch: the first document of the text, though it be empty; of equal keys the last one counts. One that begins with a bracket has to be JSON;
    /// YAML's way to write a list in brackets is refused.
    fn operations(&self, cx: &mut Context) -> Res<JsonPatch> {
        let text = self.text()?;
        if text.trim_start().starts_with('[')
            && let Err(error) = serde_json::from_str::<serde_json::Value>(&text)
        {
            let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            let pos = Pos { line: number(error.line()), column: number(error.column()), ..Pos::default() };
            let pos = match self {
                Self::Inline(text) => text.inside(pos),
                Self::File(file) => Pos { source: file.source, ..pos },
            };
            return fail!("a patch that begins with [ has to be JSON: {error}").map_err(|e: Fail| {
                e.at(pos).hint("put quotes around keys and texts, or write the operations as - op: add")
            });
        }
        let source = match self {
            Self::Inline(text) => text.pos.source,
            Self::File(file) => file.source,
        };
        let options = Options { skip_comments: true, last_key_wins: true, source, ..Options::default() };
        let mut document = documents::first(cx, &text, &options).map_err(|e| match self {
            Self::Inline(text) => Fail { pos: text.inside(e.pos), ..e },
            Self::File(file) => file.malformed(e),
        })?;
        if let Self::Inline(text) = self {
            restamp(&mut document, text);
        }
        JsonPatch::read(&document)
    }
}

/// The places of the resources that a patch is for.
fn selected(cx: &Context, map: &ResMap, target: &Selector) -> Res<Vec<usize>> {
    cx.work.spend_for(map.0.len(), MATCH)?;
    // A pattern is held against names of any length.
    cx.work.spend(map.name_bytes() / 8)?;
    Matcher::new(target).and_then(|matcher| matcher.select(map)).map_err(|e| crate::decode::nest(e, "target"))
}

impl LoadedPatch<'_> {
    pub(crate) fn apply(self, cx: &mut Context, map: &mut ResMap) -> Res<()> {
        let Self { entry, kind, name } = self;
        let schema = &cx.schema_for_merging();
        let placed = |e: Fail| e.at(entry.pos);
        match (kind, &entry.target) {
            (Kind::Json(patch), _) if patch.is_empty() => Ok(()),
            (Kind::Json(_), None) => {
                fail!("must specify a target for JSON patch {name}").map_err(|e: Fail| {
                    placed(e).field("target").hint("say what it is for, as by target.kind and target.name")
                })
            }
            (Kind::Json(patch), Some(target)) => {
                for index in selected(cx, map, target).map_err(placed)? {
                    let resource = &mut map.0[index];
                    resource.store_previous();
                    json(resource, &patch, &cx.work).map_err(placed)?;
                }
                Ok(())
            }
            (Kind::Merge(patches), _) if patches.is_empty() => Ok(()),
            (Kind::Merge(patches), Some(target)) => {
                let [patch] = &patches[..] else {
                    return fail!(
                        "Multiple Strategic-Merge Patches in one `patches` entry is not allowed to set `patches.target` field: {name}"
                    )
                    .map_err(placed);
                };
                let selected = selected(cx, map, target).map_err(placed)?;
                merge_into(cx, schema, map, &selected, patch).map_err(placed)
            }
            (Kind::Merge(patches), None) => {
                for patch in &patches {
                    let id = patch.original_id();
                    let words = format!("no resource matches strategic merge patch \"{id}\"");
                    cx.work.spend(map.0.len()).map_err(placed)?;
                    let index = map.patch_target(&id).map_err(|e| e.at(patch.pos).context(words))?;
                    merge_one(schema, &mut map.0[index], patch, &cx.work).map_err(placed)?;
                }
                Ok(())
            }
        }
    }
}

/// An entry of `patchesStrategicMerge`: the path of a file, or the patch itself.
pub(crate) fn load_legacy(cx: &mut Context, loader: &Loader, entry: &Text) -> Res<Vec<Resource>> {
    if let Ok(patches) = inline(cx, entry).and_then(|d| resmap::resources(cx, d)) {
        return Ok(patches);
    }
    let file = loader.load(cx, entry)?;
    resmap::from_file(cx, &file)
}

/// Applies the patches of `patchesStrategicMerge`.
pub(crate) fn apply_legacy(cx: &mut Context, map: &mut ResMap, patches: &[Resource]) -> Res<()> {
    let schema = &cx.schema_for_merging();
    for patch in patches {
        cx.work.spend(map.0.len())?;
        let index = map.patch_target(&patch.original_id()).map_err(|e| e.at(patch.pos))?;
        merge_into(cx, schema, map, &[index], patch).map_err(|e| e.at(patch.pos))?;
    }
    Ok(())
}

/// Applies an entry of `patchesJson6902`.
pub(crate) fn apply_json6902(cx: &mut Context, loader: &Loader, map: &mut ResMap, entry: &Patch) -> Res<()> {
    let mut apply = || -> Res<()> {
        let target: &Selector = match &entry.target {
            Some(target) if !target.name.is_empty() => target,
            _ => return fail!("must specify the target name").map_err(|e: Fail| e.field("target.name")),
        };
        let (path, patch) = (&entry.path.text, entry.patch.text.as_str());
        let source = match (path.is_empty(), patch.is_empty()) {
            (true, true) => return fail!("empty file path and empty jsonOp"),
            (false, false) => return fail!("must specify a file path or jsonOp, not both"),
            (true, false) => Source::Inline(entry.patch.clone()),
            (false, true) => Source::File(loader.load(cx, &entry.path)?),
        };
        let patch = source.operations(cx)?;
        if patch.is_empty() {
            return fail!("patch appears to be empty; file={path}, JsonOp={patch}", patch = entry.patch.text);
        }
        for index in selected(cx, map, target)? {
            json(&mut map.0[index], &patch, &cx.work)?;
        }
        Ok(())
    };
    apply().map_err(|e| e.at(entry.pos))
}

/// Steps to hold a resource against a selector, or to add it to a map anew.
pub(crate) const MATCH: usize = 8;

fn json(resource: &mut Resource, patch: &JsonPatch, work: &Work) -> Res<()> {
    let shown = resource.shown();
    apply_json(resource, patch, work).map_err(|e| e.context(shown))
}

fn apply_json(resource: &mut Resource, patch: &JsonPatch, work: &Work) -> Res<()> {
    let pos = resource.pos;
    if patch.meets_all_annotations() {
        notes::show(resource)?;
        patch.apply(&mut resource.node, work)?;
        notes::hide(resource);
    } else {
        patch.apply(&mut resource.node, work)?;
    }
    if resource.is_empty() && !notes::has(resource) {
        return fail!("missing Resource metadata")
            .map_err(|e: Fail| e.hint("the patch takes away all of the object"));
    }
    resource.links.clear();
    if notes::has(resource) {
        if let Some(object) = resource.node.as_map_mut() {
            // Where kustomize notes what it remembers, there is something, whatever the patch took away.
            object.get_or_insert_with("metadata", || Node::map().at_pos(pos));
        }
        if let Some(annotations) =
            resource.node.at_mut(&["metadata", "annotations"]).filter(|n| n.is_scalar())
        {
            *annotations = Node::map().at_pos(pos);
        }
        resource.ensure_annotations();
    }
    resource.rewrite_annotations();
    Ok(())
}

/// Lays a patch over the selected resources. Those that it deletes are dropped.
fn merge_into(
    cx: &Context,
    schema: &Schema,
    map: &mut ResMap,
    selected: &[usize],
    patch: &Resource,
) -> Res<()> {
    // All of them are added to the map anew.
    cx.work.spend_for(map.0.len(), MATCH)?;
    for index in selected {
        let resource = &mut map.0[*index];
        let mut copy = patch.clone();
        normalise_metadata(&mut copy)?;
        // The patch may name another version of the resource's kind, or leave it out.
        let api_version = resource.gvk().api_version();
        if let Some(node) = copy.node.as_map_mut() {
            let pos = resource.node.get("apiVersion").map_or(patch.pos, |n| n.pos);
            put_string(node, "apiVersion", &api_version, pos);
        }
        merge_one(schema, resource, &copy, &cx.work)?;
        // An object that has none gets none from the patch, but the field.
        if let Some(node) = resource.node.as_map_mut().filter(|m| !m.is_empty() && api_version.is_empty()) {
            node.insert("apiVersion", Node::null().at_pos(patch.pos));
        }
    }
    map.drop_empty();
    let all = std::mem::take(&mut map.0);
    map.append_all(all)
}

/// Labels and annotations of a patch are strings, and there are none rather than empty ones.
fn normalise_metadata(patch: &mut Resource) -> Res<()> {
    for field in ["labels", "annotations"] {
        let Some(node) = patch.node.at(&["metadata", field]) else { continue };
        let (pairs, pos) = (node.as_map().cloned(), node.pos);
        let metadata = map_under(&mut patch.node, "metadata")?;
        match pairs.filter(|map| !map.is_empty()) {
            None => {
                metadata.remove(field);
            }
            Some(mut map) => {
                for entry in map.entries_mut() {
                    let text = entry.value.text().unwrap_or_default().to_owned();
                    entry.value = Node::string(text).at_pos(entry.value.pos);
                }
                metadata.insert(field, Node::from(map).at_pos(pos));
            }
        }
    }
    Ok(())
}

/// Lays a patch over one resource. Name, kind and namespace stay unless the patch may change them; the resource
/// is empty afterwards if the patch deletes it.
fn merge_one(schema: &Schema, resource: &mut Resource, patch: &Resource, work: &Work) -> Res<()> {
    let part = |path: &[&str]| resource.node.at(path).cloned();
    let (kind, name, api_version) = (part(&["kind"]), part(&["metadata", "name"]), part(&["apiVersion"]));
    let namespace = part(&["metadata", "namespace"]);
    if patch.allow_name_change || patch.allow_kind_change {
        resource.store_previous();
    }
    resource.allow_name_change |= patch.allow_name_change;
    resource.allow_kind_change |= patch.allow_kind_change;
    let is_directed = notes::is_directed(&patch.node);
    if is_directed {
        notes::show(resource)?;
    }
    let node = std::mem::replace(&mut resource.node, Node::null());
    let Some(merged) = strategic_merge(schema, node, patch.node.clone(), work)? else {
        return Ok(());
    };
    resource.node = merged;
    if is_directed {
        notes::read_back(resource);
    }
    if resource.is_empty() {
        return Ok(());
    }
    // What only says which object a patch is for, the patch does not set.
    for (path, old) in
        [(&["kind"][..], &kind), (&["apiVersion"], &api_version), (&["metadata", "name"], &name)]
    {
        if let (Some(old), Some(new)) =
            (old, resource.node.at_mut(path).filter(|new| Some(&**new) == old.as_ref()))
        {
            new.pos = old.pos;
        }
    }
    resource.settle_links();
    if let Some(kind) = kind.filter(|_| !patch.allow_kind_change) {
        resource.set_kind(text(&kind), kind.pos);
    }
    if let Some(name) = name.filter(|_| !patch.allow_name_change) {
        resource.set_name(text(&name), name.pos)?;
    }
    let (namespace, pos) = namespace.as_ref().map_or(("", resource.pos), |n| (text(n), n.pos));
    resource.set_namespace(namespace, pos)
}
