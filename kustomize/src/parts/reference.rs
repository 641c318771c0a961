//! Entries of `replacements` and `vars`: where a value comes from, and where it goes.

use flotilla_yaml::{Node, Pos};

use super::{Selector, each};
use crate::decode::{Text, Unknown, boolean, int, list, string, strings, text};
use crate::error::Res;
use crate::gvk::{Gvk, ResId};

#[derive(Debug, Clone, Default)]
pub(crate) struct ReplacementField {
    pub(crate) path: Text,
    pub(crate) replacement: Replacement,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Replacement {
    pub(crate) pos: Pos,
    /// The entry, as errors name it.
    pub(crate) field: String,
    pub(crate) source: Option<Source>,
    pub(crate) source_value: Option<Node>,
    pub(crate) targets: Option<Vec<Target>>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Source {
    pub(crate) id: ResId,
    pub(crate) field_path: String,
    pub(crate) options: Option<FieldOptions>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Target {
    pub(crate) select: Option<Selector>,
    pub(crate) reject: Vec<Selector>,
    pub(crate) field_paths: Vec<String>,
    pub(crate) options: Option<FieldOptions>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct FieldOptions {
    pub(crate) delimiter: String,
    pub(crate) index: i64,
    pub(crate) create: bool,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Var {
    pub(crate) name: String,
    pub(crate) object: ResId,
    pub(crate) field_path: String,
    pub(crate) pos: Pos,
}

impl ReplacementField {
    pub(crate) fn read(node: &Node, u: Unknown) -> Res<Self> {
        let mut r = Self::default();
        r.replacement.pos = node.pos;
        let (own, u) = (u, u.embedded());
        each(node, &["path", "source", "sourceValue", "targets"], u, |name, n| {
            match name {
                "path" => r.path = text(n, own)?,
                "source" => r.replacement.source = Some(Source::read(n, u)?),
                "sourceValue" => {
                    string(n, Unknown::Ignore)?;
                    r.replacement.source_value = Some(n.clone());
                }
                _ => r.replacement.targets = Some(list(n, |n| Target::read(n, u))?),
            }
            Ok(())
        })?;
        if own != Unknown::Ignore {
            // A kustomization is handed on without what is empty.
            r.replacement.targets = r.replacement.targets.filter(|targets| !targets.is_empty());
        }
        Ok(r)
    }
}

impl Source {
    pub(crate) fn read(node: &Node, u: Unknown) -> Res<Self> {
        let mut s = Self::default();
        let known = ["group", "version", "kind", "name", "namespace", "fieldPath", "options"];
        each(node, &known, u, |name, n| {
            match name {
                "group" => s.id.gvk.group = string(n, u)?.into(),
                "version" => s.id.gvk.version = string(n, u)?.into(),
                "kind" => s.id.gvk.kind = string(n, u)?.into(),
                "name" => s.id.name = string(n, u)?.into(),
                "namespace" => s.id.namespace = string(n, u)?.into(),
                "fieldPath" => s.field_path = string(n, u)?,
                _ => s.options = Some(FieldOptions::read(n, u)?),
            }
            Ok(())
        })?;
        Ok(s)
    }
}

impl Target {
    pub(crate) fn read(node: &Node, u: Unknown) -> Res<Self> {
        let mut t = Self::default();
        each(node, &["select", "reject", "fieldPaths", "options"], u, |name, n| {
            match name {
                "select" => t.select = Some(Selector::read(n, u)?),
                "reject" => t.reject = list(n, |n| Selector::read(n, u))?,
                "fieldPaths" => t.field_paths = strings(n, u)?,
                _ => t.options = Some(FieldOptions::read(n, u)?),
            }
            Ok(())
        })?;
        Ok(t)
    }
}

impl FieldOptions {
    pub(crate) fn read(node: &Node, u: Unknown) -> Res<Self> {
        let mut o = Self::default();
        each(node, &["delimiter", "index", "encoding", "create"], u, |name, n| {
            match name {
                "delimiter" => o.delimiter = string(n, u)?,
                "index" => o.index = int(n)?,
                "create" => o.create = boolean(n)?,
                _ => {
                    string(n, u)?;
                }
            }
            Ok(())
        })?;
        Ok(o)
    }
}

impl Var {
    pub(crate) fn read(node: &Node, u: Unknown) -> Res<Self> {
        let mut var = Self { pos: node.pos, field_path: "metadata.name".into(), ..Self::default() };
        each(node, &["name", "objref", "fieldref"], u, |name, n| {
            match name {
                "name" => var.name = string(n, u)?,
                "objref" => {
                    let known = ["apiVersion", "group", "version", "kind", "name", "namespace"];
                    let (id, mut api_version) = (&mut var.object, String::new());
                    each(n, &known, u, |name, n| {
                        let value = string(n, u)?;
                        match name {
                            "apiVersion" => api_version = value,
                            "group" => id.gvk.group = value.into(),
                            "version" => id.gvk.version = value.into(),
                            "kind" => id.gvk.kind = value.into(),
                            "name" => id.name = value.into(),
                            _ => id.namespace = value.into(),
                        }
                        Ok(())
                    })?;
                    if !api_version.is_empty() {
                        let kind = id.gvk.kind.clone();
                        let group = id.gvk.group.clone();
                        id.gvk = Gvk::new(&api_version, &kind);
                        if id.gvk.group.is_empty() {
                            id.gvk.group = group;
                        }
                    }
                }
                _ => each(n, &["fieldPath"], u, |_, n| {
                    let path = string(n, u)?;
                    if !path.is_empty() {
                        var.field_path = path;
                    }
                    Ok(())
                })?,
            }
            Ok(())
        })?;
        Ok(var)
    }
}
