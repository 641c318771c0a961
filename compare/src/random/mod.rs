//! Random trees of bases, overlays and components, each the same for its seed everywhere and for ever.
//!
//! ```text
//!   seed ─► rng ─► objects, pods ─► base ─► (middle) ─► top          each kustomization by `kustomization`
//!                                    └── second base ──┘  └── components
//! ```
//!
//! A tree is meant to build: patches and replacements are made from the objects that they are for, and name what is
//! there. Each uses some of the fields (see `kustomization::FIELDS`) and those several times, so that fields meet in
//! combination. What one change makes of another's target is left to chance, so some trees fail.

mod configuration;
mod fields;
pub mod fleet;
mod generators;
pub mod health;
mod kustomization;
mod mean;
mod objects;
mod patches;
mod paths;
mod plugins;
mod pod;
mod replacements;
pub mod rng;
pub mod value;
mod words;

use std::collections::BTreeSet;

use crate::tree::{Content, Tree};
pub use kustomization::FIELDS;
use kustomization::{Layer, Maker};
use objects::Object;
use rng::Rng;
use value::{Value, object};

/// The tree of a seed. One in four is small, and mean by its text alone.
pub fn tree(seed: u64) -> Tree {
    if seed % 4 == 3 {
        return mean::tree(seed);
    }
    let mut rng = Rng::new(seed);
    let mut maker = Maker::new(&mut rng);
    let mut below = vec!["../base".to_owned()];
    base(&mut maker, "base", 6);
    if maker.rng.chance(20) {
        let (objects, generated) = (std::mem::take(&mut maker.objects), std::mem::take(&mut maker.generated));
        base(&mut maker, "other", 3);
        // What both bases hold would clash.
        let known = std::mem::replace(&mut maker.objects, objects);
        let clash = known.iter().any(|new| maker.objects.iter().any(|old| old.same_id(new)));
        if clash {
            maker.files.retain(|path, _| !path.starts_with("other/"));
            maker.generated = generated;
        } else {
            maker.objects.extend(known);
            maker.generated.extend(generated);
            below.push("../other".to_owned());
        }
    }
    if maker.rng.chance(50) {
        let mut resources = below;
        resources.extend(more(&mut maker, "middle"));
        let components = component(&mut maker, "first");
        maker.kustomization("middle", Layer::Middle, resources, components);
        below = vec!["../middle".to_owned()];
    }
    below.extend(more(&mut maker, "top"));
    let components = component(&mut maker, "second");
    maker.kustomization("top", Layer::Top, below, components);
    Tree { files: maker.files, root: "top".to_owned() }
}

/// A folder of objects with its kustomization.
fn base(maker: &mut Maker, folder: &str, most: usize) {
    for _ in 0..maker.rng.between(1, most) {
        let object = Object::random(maker.rng);
        if !maker.objects.iter().any(|other| other.same_id(&object)) {
            maker.objects.push(object);
        }
    }
    let documents: Vec<Value> = maker.objects.iter().map(|object| object.value.clone()).collect();
    let name = write(maker, folder, "objects", documents);
    maker.kustomization(folder, Layer::Base, vec![name], Vec::new());
}

/// One more object in an overlay.
fn more(maker: &mut Maker, folder: &str) -> Option<String> {
    if !maker.rng.chance(30) {
        return None;
    }
    let serial = maker.serial();
    let (kind, api_version) = *maker.rng.pick(&objects::KINDS);
    let object = Object::of(maker.rng, kind, api_version, format!("more-{serial}"));
    let document = object.value.clone();
    maker.objects.push(object);
    Some(write(maker, folder, "more", vec![document]))
}

/// A component, where the tree uses them.
fn component(maker: &mut Maker, folder: &str) -> Vec<String> {
    if !maker.fields.contains(&"components") || !maker.rng.chance(70) {
        return Vec::new();
    }
    let resources = more(maker, folder);
    maker.kustomization(folder, Layer::Component, resources.into_iter().collect(), Vec::new());
    vec![format!("../{folder}")]
}

/// Writes objects as documents, as one List, or as JSON.
fn write(maker: &mut Maker, folder: &str, name: &str, documents: Vec<Value>) -> String {
    let anchors = documents.iter().any(|document| format!("{document:?}").contains("Anchor("));
    match maker.rng.below(20) {
        0 if !anchors => {
            let list =
                object([("apiVersion", "v1".into()), ("kind", "List".into()), ("items", documents.into())]);
            maker.file(folder, &format!("{name}.yaml"), vec![list]);
        }
        1 if documents.len() == 1 && !anchors => {
            maker.files.insert(format!("{folder}/{name}.json"), Content::json(&documents[0]));
            return format!("{name}.json");
        }
        _ => maker.file(folder, &format!("{name}.yaml"), documents),
    }
    format!("{name}.yaml")
}

/// The fields that a tree's kustomizations use, and the kinds of the plugins among them.
pub fn used_fields(tree: &Tree) -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    for (path, content) in &tree.files {
        let Content::Documents { documents, .. } = content else { continue };
        let name = path.rsplit('/').next().unwrap_or_default();
        for document in documents {
            if name.to_ascii_lowercase().starts_with("kustomization") {
                for (field, value) in document.as_map() {
                    fields.insert(field.clone());
                    fields.extend(value.as_list().iter().filter_map(plugin_kind));
                }
            }
            fields.extend(plugin_kind(document));
        }
    }
    fields
}

fn plugin_kind(value: &Value) -> Option<String> {
    let document = match value {
        Value::Inline(documents) => documents.first()?,
        value => value,
    };
    let builtin = document.get("apiVersion").and_then(Value::as_text) == Some("builtin");
    let kind = document.get("kind").and_then(Value::as_text)?;
    builtin.then(|| kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lists of known differences hold seeds: what a seed makes must not depend on anything else.
    #[test]
    fn a_seed_makes_one_tree() {
        assert_eq!(tree(7), tree(7));
        assert_ne!(tree(7).to_text(), tree(8).to_text());
    }

    /// In some of these a patch has deleted the last object when a transformer wants one.
    #[test]
    fn a_tree_without_objects_left_is_made_too() {
        for seed in 20_000..21_500 {
            tree(seed);
        }
    }

    #[test]
    fn every_field_occurs() {
        let mut seen = BTreeSet::new();
        for seed in 0..300 {
            seen.extend(used_fields(&tree(seed)));
        }
        let missing: Vec<_> = kustomization::FIELDS.iter().filter(|field| !seen.contains(**field)).collect();
        assert!(missing.is_empty(), "{missing:?}");
        for kind in ["ConfigMapGenerator", "IAMPolicyGenerator", "PatchTransformer", "ValueAddTransformer"] {
            assert!(seen.contains(kind), "{kind}");
        }
    }
}
