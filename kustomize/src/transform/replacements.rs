//! Replacements: a value of one resource copied into fields of others.

use flotilla_yaml::{Kind, Node, Scalar, Style, Typing, Value};

use crate::decode::{Unknown, list, nest};
use crate::error::{Fail, Res, fail};
use crate::load::{Context, Loader};
use crate::node_ops::{is_list_index, split_field_path, text};
use crate::notes;
use crate::parts::{FieldOptions, Replacement, ReplacementField, Target};
use crate::resmap::ResMap;
use crate::resource::Resource;
use crate::selector::Matcher;
use crate::transform::patches::MATCH;
use crate::transform::replacement_path::{Make, Step, at, at_mut, locate, lookup, places, visit};
use crate::work::{Work, check_path};

/// The replacements of a kustomization, those in files read.
pub(crate) fn load(cx: &mut Context, loader: &Loader, fields: &[ReplacementField]) -> Res<Vec<Replacement>> {
    let mut result = Vec::with_capacity(fields.len());
    for (n, field) in fields.iter().enumerate() {
        let inline = field.replacement.source.is_some()
            || field.replacement.targets.as_ref().is_some_and(|t| !t.is_empty());
        if field.path.text.is_empty() {
            let name = format!("replacements[{n}]");
            result.push(Replacement { field: name, ..field.replacement.clone() });
            continue;
        }
        let named = |e: Fail| e.at(field.path.pos).field(format!("replacements[{n}].path"));
        if inline {
            return fail!("cannot specify both path and inline replacement").map_err(named);
        }
        let document = loader.load(cx, &field.path).map_err(named)?.document(cx)?;
        let read = |node: &Node| ReplacementField::read(node, Unknown::Ignore).map(|f| f.replacement);
        match &document.value {
            Value::Seq(_) => {
                let of_file = list(&document, read)?.into_iter().enumerate();
                result.extend(of_file.map(|(n, r)| Replacement { field: format!("[{n}]"), ..r }));
            }
            Value::Map(_) => result.push(read(&document)?),
            Value::Scalar(_) => {
                return fail!("unsupported replacement type encountered within replacement path")
                    .map_err(named);
            }
        }
    }
    Ok(result)
}

/// Carries the replacements out, one after the other.
pub(crate) fn apply(map: &mut ResMap, replacements: &[Replacement], work: &Work) -> Res<()> {
    for replacement in replacements {
        let apply = if meets_all_annotations(replacement) { apply_with_notes } else { apply_one };
        apply(map, replacement, work).map_err(|e| nest(e, &replacement.field).at(replacement.pos))?;
    }
    Ok(())
}

fn meets_all_annotations(replacement: &Replacement) -> bool {
    let targets = replacement.targets.iter().flatten().flat_map(|t| &t.field_paths);
    let source = replacement.source.iter().map(|s| &s.field_path);
    targets.chain(source).filter(|path| !path.is_empty()).any(|path| {
        let parts = split_field_path(path);
        notes::is_around(parts.iter().map(String::as_str))
    })
}

fn apply_with_notes(map: &mut ResMap, replacement: &Replacement, work: &Work) -> Res<()> {
    map.0.iter_mut().try_for_each(notes::show)?;
    apply_one(map, replacement, work)?;
    map.0.iter_mut().for_each(notes::read_back);
    Ok(())
}

fn apply_one(map: &mut ResMap, replacement: &Replacement, work: &Work) -> Res<()> {
    let has_source = replacement.source.is_some() || replacement.source_value.is_some();
    let Some(targets) = replacement.targets.as_ref().filter(|_| has_source) else {
        return fail!("replacements must specify a source and at least one target");
    };
    work.spend_for(map.0.len(), MATCH)?;
    let (mut value, live) = source_value(map, replacement)?;
    let name_bytes = map.name_bytes();
    for (t, target) in targets.iter().enumerate() {
        work.spend_for(map.0.len(), MATCH * (target.reject.len() + 1))?;
        work.spend_for(target.reject.len() + 1, name_bytes / 8)?;
        let Some(select) = &target.select else { return fail!("target must specify resources to select") };
        let matcher = Matcher::new(select)?;
        let rejects = target.reject.iter().map(|s| Ok((s, Matcher::new(s)?))).collect::<Res<Vec<_>>>()?;
        for (n, resource) in map.0.iter_mut().enumerate() {
            if !matcher.matches_labels(resource)? {
                continue;
            }
            let ids: Vec<_> = resource.all_ids().collect();
            let mut rejected = false;
            for (selector, matcher) in &rejects {
                let by_labels =
                    !selector.annotation_selector.is_empty() || !selector.label_selector.is_empty();
                rejected |= (by_labels && matcher.matches_labels(resource)?)
                    || (!selector.id().is_empty() && ids.iter().any(|id| matcher.matches_id(id)));
            }
            if !rejected && ids.iter().any(|id| matcher.matches_id(id)) {
                let own = live.as_ref().filter(|(source, _)| *source == n).map(|(_, steps)| steps.as_slice());
                copy_to(resource, &mut value, own, target, work)
                    .map_err(|e| nest(e, &format!("targets[{t}]")))?;
                resource.settle_links();
            }
        }
    }
    Ok(())
}

/// A resource and the way to a node in it.
type Place = (usize, Vec<Step>);

/// The value, and where it stands if it is taken whole.
fn source_value(map: &ResMap, replacement: &Replacement) -> Res<(Node, Option<Place>)> {
    let Some(source) = &replacement.source else {
        let value = replacement.source_value.as_ref().expect("one of them is there");
        return Ok((Node::plain(value.text().unwrap_or_default()).at_pos(value.pos), None));
    };
    if replacement.source_value.is_some() {
        return fail!("value and resource selectors are mutually exclusive");
    }
    let mut shown = source.id.to_string();
    if !source.field_path.is_empty() {
        shown.push_str(&format!(":{}", source.field_path));
    }
    if let Some(o) = source.options.as_ref().filter(|o| !o.delimiter.is_empty() || o.create) {
        shown.push_str(&format!(":{}({}), create={}", o.delimiter, o.index, o.create));
    }
    let selected = |r: &Resource| r.all_ids().any(|id| id.is_selected_by(&source.id));
    let mut matches = map.0.iter().enumerate().filter(|(_, r)| selected(r));
    let (Some((n, resource)), more) = (matches.next(), matches.next()) else {
        return fail!("nothing selected by {shown}").map_err(|e: Fail| {
            let hint = "kind, name and namespace are those that an object was read with or has by now";
            e.field("source").hint(hint)
        });
    };
    if more.is_some() {
        return fail!("multiple matches for selector {shown}")
            .map_err(|e: Fail| e.field("source").hint("say more: group, version, name or namespace"));
    }
    let path = if source.field_path.is_empty() { "metadata.name" } else { &source.field_path };
    let parts = split_field_path(path);
    let steps =
        locate(&resource.node, &parts).map_err(|e| e.context("error looking up replacement source"))?;
    let found = steps.as_ref().and_then(|steps| at(&resource.node, steps));
    let empty = |n: &Node| match &n.value {
        Value::Scalar(s) => s.kind() == Kind::Null,
        Value::Seq(s) => s.is_empty(),
        Value::Map(m) => m.is_empty(),
    };
    let Some(found) = found.filter(|n| !empty(n)) else {
        return fail!("fieldPath `{path}` is missing for replacement source {}", source.id)
            .map_err(|e: Fail| e.hint("its value is empty, or not there: a fieldPath is like spec.ports.0.port or spec.ports.[name=web].port"));
    };
    match source.options.as_ref().filter(|o| !o.delimiter.is_empty()) {
        None => Ok((found.clone(), steps.map(|steps| (n, steps)))),
        Some(options) => Ok((refine(found, options)?, None)),
    }
}

/// One part of the source's text.
fn refine(node: &Node, options: &FieldOptions) -> Res<Node> {
    let Some(whole) = node.text() else {
        return fail!("delimiter option can only be used with scalar nodes");
    };
    let part =
        usize::try_from(options.index).ok().and_then(|n| whole.split(options.delimiter.as_str()).nth(n));
    let Some(part) = part else {
        let count = whole.split(options.delimiter.as_str()).count();
        return fail!("options.index {} is out of bounds for value {whole}", options.index).map_err(
            |e: Fail| {
                e.hint(format!(
                    "options.delimiter {:?} makes {count} of it, counted from 0",
                    options.delimiter
                ))
            },
        );
    };
    let mut refined = node.clone();
    set_same_kind(&mut refined, part);
    Ok(refined)
}

/// Sets a scalar's text; a string stays one, anything else means what it looks like, then and after the next text.
fn set_same_kind(node: &mut Node, text: &str) {
    let is_string = node.typing == Typing::Apparent && node.as_str().is_some() || node.style != Style::Plain;
    let scalar = if is_string { Scalar::string(text) } else { Scalar::plain(text) };
    if !is_string && node.typing != Typing::Open {
        let is_text = scalar.kind() == Kind::String;
        node.typing = if is_text { Typing::NotString } else { Typing::Apparent };
    }
    node.value = Value::Scalar(scalar);
}

/// Where the resource is the source too, `own` leads to the value in it: once it has been set, the new one counts.
fn copy_to(
    resource: &mut Resource,
    value: &mut Node,
    own: Option<&[Step]>,
    target: &Target,
    work: &Work,
) -> Res<()> {
    let default = ["metadata.name".to_owned()];
    let paths = if target.field_paths.is_empty() { &default[..] } else { &target.field_paths };
    let options = target.options.as_ref();
    for (p, path) in paths.iter().enumerate() {
        let named = |e: Fail| {
            let hint = "the fields up to there have to be in the object; options.create makes the last ones";
            Fail { field: Some(format!("fieldPaths[{p}]")), ..e }.hint(hint)
        };
        let create = options.is_some_and(|o| o.create);
        let make = if create { Make::like(value) } else { Make::Nothing };
        let parts = split_field_path(path);
        check_path(&parts).map_err(named)?;
        if parts.iter().any(|part| is_list_index(part)) {
            // A pattern is held against the text of each item.
            work.spend_value(&resource.node, 0).map_err(named)?;
        }
        if set_in_text(&mut resource.node, value, &parts, make, work)? {
            continue;
        }
        let what = if create { "find or create" } else { "find" };
        let words = format!("unable to {what} field \"{path}\" in replacement target");
        let failure = |e: Fail| named(e.context(&words));
        // The path is walked without setting first, so that an error of the setter keeps its own words.
        let mut failed = None;
        let mut put = |node: &mut Node, value: &Node| {
            if let Err(e) = set(node, value, options, parts.len(), work) {
                failed.get_or_insert(e);
            }
        };
        let count = match own {
            None => visit(&mut resource.node, &parts, make, &mut |node| {
                put(node, value);
                Ok(())
            })
            .map_err(failure)?,
            Some(steps) => {
                // What is made, and what the fields before it got, counts at once where the source holds it.
                let places = places(&mut resource.node, &parts, make).map_err(failure)?;
                for place in &places {
                    work.spend(place.len())?;
                    refresh(value, resource, steps);
                    // What stood in a value that was put in before is gone.
                    if let Some(node) = at_mut(&mut resource.node, place) {
                        put(node, value);
                    }
                }
                refresh(value, resource, steps);
                places.len()
            }
        };
        if let Some(fail) = failed {
            return Err(named(fail));
        }
        if count == 0 {
            return fail!("{words}").map_err(named);
        }
    }
    Ok(())
}

/// Takes the value that the source has by now.
fn refresh(value: &mut Node, resource: &Resource, steps: &[Step]) {
    if let Some(changed) = at(&resource.node, steps) {
        value.clone_from(changed);
    }
}

/// Sets a node that is so many collections deep in its object.
fn set(node: &mut Node, value: &Node, options: Option<&FieldOptions>, depth: usize, work: &Work) -> Res<()> {
    work.spend_value(value, depth)?;
    let mut value = value.clone();
    if let Some(options) = options.filter(|o| !o.delimiter.is_empty()) {
        let Some(old) = node.text() else {
            return fail!("delimiter option can only be used with scalar nodes");
        };
        work.spend_bytes(old.len())?;
        let mut parts: Vec<&str> = old.split(options.delimiter.as_str()).collect();
        let new = text(&value).to_owned();
        match usize::try_from(options.index) {
            Err(_) => parts.insert(0, &new),
            Ok(index) if index >= parts.len() => parts.push(&new),
            Ok(index) => parts[index] = &new,
        }
        let joined = parts.join(&options.delimiter);
        if node.is_scalar() {
            set_same_kind(node, &joined);
            return Ok(());
        }
        set_same_kind(&mut value, &joined);
    }
    if node.is_scalar() && value.is_scalar() {
        set_same_kind(node, value.text().unwrap_or_default());
        node.pos = value.pos;
    } else if node.is_scalar() {
        // kyaml copies the text alone, and a collection has none.
        set_same_kind(node, "");
        node.pos = value.pos;
    } else {
        unlink(&mut value);
        *node = value;
    }
    Ok(())
}

/// A copy shares no value with what it was copied from.
fn unlink(node: &mut Node) {
    if !node.any(&|n| n.link().is_some()) {
        return;
    }
    node.set_link(None);
    if let Some(seq) = node.as_seq_mut() {
        seq.iter_mut().for_each(unlink);
    } else if let Some(map) = node.as_map_mut() {
        map.values_mut().for_each(unlink);
    }
}

/// Sets a field inside a text that is itself YAML or JSON. Says whether there was one.
fn set_in_text(object: &mut Node, value: &Node, parts: &[String], make: Make, work: &Work) -> Res<bool> {
    for split in 1..parts.len() {
        let Ok(Some(found)) = lookup(object, &parts[..split]) else { continue };
        let Some(whole) = found.text().map(str::to_owned) else { continue };
        // It is read, and written again, at a node for each two bytes in the worst case.
        work.spend(whole.len())?;
        work.spend_value(value, parts.len())?;
        let Some(mut inner) = flotilla_yaml::parse(&whole).ok().and_then(|d| d.into_iter().next()) else {
            continue;
        };
        let mut put = |node: &mut Node| {
            if node.is_scalar() && value.is_scalar() {
                set_same_kind(node, value.text().unwrap_or_default());
            } else {
                *node = value.clone();
            }
            Ok(())
        };
        if !matches!(visit(&mut inner, &parts[split..], make, &mut put), Ok(count) if count > 0) {
            return Ok(false);
        }
        let Some(written) = write_inner(&inner, &whole) else { return Ok(false) };
        let mut done = false;
        let set = visit(object, &parts[..split], Make::Nothing, &mut |node| {
            if !done {
                set_same_kind(node, &written);
                done = true;
            }
            Ok(())
        });
        return Ok(set.is_ok() && done);
    }
    Ok(false)
}

/// The text again in the form it had: JSON pretty or in one line, or YAML.
fn write_inner(inner: &Node, original: &str) -> Option<String> {
    if !original.trim_start().starts_with(['{', '[']) {
        return Some(flotilla_yaml::write(inner).trim().to_owned());
    }
    let json = inner.to_json_as(flotilla_yaml::Schema::Kustomize).ok()?;
    if original.contains('\n') && original.contains("  ") {
        serde_json::to_string_pretty(&json).ok()
    } else {
        serde_json::to_string(&json).ok()
    }
}
