//! The entries of a kustomization file's lists: patches, images, generators and the like. Plugins' configurations hold
//! the same ones.

mod generator;
mod patch;
mod reference;

use std::collections::BTreeMap;

use flotilla_yaml::{Node, Pos};

use crate::decode::{Text, Unknown, boolean, fields, int, list, nest, string, strings, text_map};
use crate::error::Res;
use crate::fieldspec::FieldSpec;
use crate::gvk::Gvk;
pub(crate) use generator::{GeneratorArgs, GeneratorOptions, HelmChart};
pub(crate) use patch::Patch;
pub use patch::Selector;
pub(crate) use reference::{FieldOptions, Replacement, ReplacementField, Target, Var};

/// Reads the fields of an object one by one; an error says which field it was.
pub(crate) fn each(
    node: &Node,
    known: &[&'static str],
    unknown: Unknown,
    mut read: impl FnMut(&'static str, &Node) -> Res<()>,
) -> Res<()> {
    for (name, value) in fields(node, known, unknown)? {
        read(name, value).map_err(|e| nest(e, name).at(value.pos))?;
    }
    Ok(())
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Label {
    pub(crate) pairs: BTreeMap<String, Text>,
    pub(crate) include_selectors: bool,
    pub(crate) include_templates: bool,
    /// Newer than 5.8: without it, what `includeTemplates` says holds for claim templates too.
    pub(crate) include_volume_claim_templates: Option<bool>,
    pub(crate) fields: Vec<FieldSpec>,
}

/// What to make of an image.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Image {
    pub name: String,
    pub new_name: String,
    pub tag_suffix: String,
    pub new_tag: String,
    pub digest: String,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Replica {
    pub(crate) name: String,
    pub(crate) count: i64,
    pub(crate) pos: Pos,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct SortOptions {
    pub(crate) order: String,
    /// `orderFirst` and `orderLast`.
    pub(crate) legacy: Option<(Vec<String>, Vec<String>)>,
    pub(crate) pos: Pos,
}

impl Label {
    pub(crate) fn read(node: &Node, u: Unknown) -> Res<Self> {
        let mut label = Self::default();
        let known =
            ["pairs", "includeSelectors", "includeTemplates", "includeVolumeClaimTemplates", "fields"];
        each(node, &known, u, |name, n| {
            match name {
                "pairs" => label.pairs = text_map(n, u)?,
                "includeSelectors" => label.include_selectors = boolean(n)?,
                "includeTemplates" => label.include_templates = boolean(n)?,
                "includeVolumeClaimTemplates" => label.include_volume_claim_templates = Some(boolean(n)?),
                _ => label.fields = list(n, |n| FieldSpec::read(n, u))?,
            }
            Ok(())
        })?;
        Ok(label)
    }
}

impl Image {
    pub(crate) fn read(node: &Node, u: Unknown) -> Res<Self> {
        let mut image = Self::default();
        each(node, &["name", "newName", "tagSuffix", "newTag", "digest"], u, |name, n| {
            let value = string(n, u)?;
            *match name {
                "name" => &mut image.name,
                "newName" => &mut image.new_name,
                "tagSuffix" => &mut image.tag_suffix,
                "newTag" => &mut image.new_tag,
                _ => &mut image.digest,
            } = value;
            Ok(())
        })?;
        Ok(image)
    }

    /// Where the text stands that the image becomes: the tag or digest, else the name.
    pub(crate) fn place(node: &Node) -> Pos {
        let said = ["newTag", "digest", "tagSuffix", "newName"].iter().find_map(|name| node.get(name));
        said.unwrap_or(node).pos
    }
}

impl Replica {
    pub(crate) fn read(node: &Node, u: Unknown) -> Res<Self> {
        let mut replica = Self { pos: node.pos, ..Self::default() };
        each(node, &["name", "count"], u, |name, n| {
            match name {
                "name" => replica.name = string(n, u)?,
                _ => (replica.count, replica.pos) = (int(n)?, n.pos),
            }
            Ok(())
        })?;
        Ok(replica)
    }
}

impl SortOptions {
    pub(crate) fn read(node: &Node, u: Unknown) -> Res<Self> {
        let mut s = Self { pos: node.pos, ..Self::default() };
        each(node, &["order", "legacySortOptions"], u, |name, n| {
            match name {
                "order" => s.order = string(n, u)?,
                _ => {
                    let (mut first, mut last) = (Vec::new(), Vec::new());
                    each(n, &["orderFirst", "orderLast"], u, |name, n| {
                        *(if name == "orderFirst" { &mut first } else { &mut last }) = strings(n, u)?;
                        Ok(())
                    })?;
                    s.legacy = Some((first, last));
                }
            }
            Ok(())
        })?;
        Ok(s)
    }
}

impl FieldSpec {
    /// `{path, group, version, kind, create}`
    pub(crate) fn read(node: &Node, u: Unknown) -> Res<Self> {
        let (mut gvk, mut path, mut create) = (Gvk::default(), String::new(), false);
        each(node, &["group", "version", "kind", "path", "create"], u, |name, n| {
            match name {
                "group" => gvk.group = string(n, u.embedded())?.into(),
                "version" => gvk.version = string(n, u.embedded())?.into(),
                "kind" => gvk.kind = string(n, u.embedded())?.into(),
                "path" => path = string(n, u)?,
                _ => create = boolean(n)?,
            }
            Ok(())
        })?;
        let spec = FieldSpec::new(gvk, &path, create);
        spec.check().map_err(|e| e.at(node.pos).field("path"))?;
        Ok(spec)
    }
}
