//! Entries of `patches`, and selectors of resources.

use flotilla_yaml::{Node, Pos};

use super::each;
use crate::decode::{Text, Unknown, boolean, string, text};
use crate::error::Res;
use crate::gvk::{Gvk, ResId};

#[derive(Debug, Clone, Default)]
pub(crate) struct Patch {
    pub(crate) pos: Pos,
    pub(crate) path: Text,
    pub(crate) patch: Text,
    pub(crate) target: Option<Selector>,
    pub(crate) allow_name_change: bool,
    pub(crate) allow_kind_change: bool,
}

/// Which resources something applies to. Names, namespaces, groups, versions and kinds are anchored regexes
/// in patches and replacement targets.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selector {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub name: String,
    pub namespace: String,
    pub annotation_selector: String,
    pub label_selector: String,
}

impl Patch {
    pub(crate) fn read(node: &Node, u: Unknown) -> Res<Self> {
        let mut patch = Self { pos: node.pos, ..Self::default() };
        each(node, &["path", "patch", "target", "options"], u, |name, n| {
            match name {
                "path" => patch.path = text(n, u)?,
                "patch" => patch.patch = text(n, u)?,
                "target" => patch.target = Some(Selector::read(n, u)?),
                _ => {
                    each(n, &["allowNameChange", "allowKindChange"], u, |name, n| {
                        let value = boolean(n)?;
                        if name == "allowNameChange" {
                            patch.allow_name_change = value;
                        } else {
                            patch.allow_kind_change = value;
                        }
                        Ok(())
                    })?;
                }
            }
            Ok(())
        })?;
        Ok(patch)
    }
}

impl Selector {
    pub(crate) fn read(node: &Node, u: Unknown) -> Res<Self> {
        let mut s = Self::default();
        let known = ["group", "version", "kind", "name", "namespace", "annotationSelector", "labelSelector"];
        each(node, &known, u, |name, n| {
            let is_own = name.ends_with("Selector");
            let value = string(n, if is_own { u } else { u.embedded() })?;
            *match name {
                "group" => &mut s.group,
                "version" => &mut s.version,
                "kind" => &mut s.kind,
                "name" => &mut s.name,
                "namespace" => &mut s.namespace,
                "annotationSelector" => &mut s.annotation_selector,
                _ => &mut s.label_selector,
            } = value;
            Ok(())
        })?;
        Ok(s)
    }

    /// The selector's kind, name and namespace as an id.
    pub(crate) fn id(&self) -> ResId {
        let gvk = Gvk {
            group: self.group.as_str().into(),
            version: self.version.as_str().into(),
            kind: self.kind.as_str().into(),
        };
        ResId {
            gvk,
            name: self.name.as_str().into(),
            namespace: self.namespace.as_str().into(),
            cluster: false,
        }
    }
}
