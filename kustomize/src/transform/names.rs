//! Name prefixes and suffixes.

use crate::decode::Text;
use crate::error::Res;
use crate::fieldspec::{Create, FieldSpec};
use crate::gvk::ResId;
use crate::node_ops::{set_text, wrong_kind};
use crate::resmap::ResMap;

/// Which end of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Prefix,
    Suffix,
}

/// Kinds whose names others than kustomize have given.
fn is_fixed(id: &ResId) -> bool {
    matches!(id.gvk.kind.as_str(), "CustomResourceDefinition" | "Namespace")
        || (id.gvk.kind == "APIService" && id.gvk.group == "apiregistration.k8s.io")
}

/// Adds a prefix or suffix to the fields that the specs name.
pub(crate) fn affix(map: &mut ResMap, end: End, affix: &Text, specs: &[FieldSpec]) -> Res<()> {
    let text = &affix.text;
    for resource in &mut map.0 {
        let id = resource.original_id();
        if is_fixed(&id) {
            continue;
        }
        for spec in specs {
            if !id.gvk.is_selected(&spec.gvk) {
                continue;
            }
            if spec.path == "metadata/name" && !text.is_empty() {
                let list = if end == End::Prefix { &mut resource.prefixes } else { &mut resource.suffixes };
                list.push(text.clone());
                resource.store_previous();
            }
            spec.apply(&mut resource.node, Create::Scalar(affix.pos), &mut |node| {
                let Some(old) = node.text() else { return Err(wrong_kind("ScalarNode", node)) };
                let new = if end == End::Prefix { format!("{text}{old}") } else { format!("{old}{text}") };
                set_text(node, &new, affix.pos);
                Ok(())
            })?;
        }
        resource.settle_links();
    }
    Ok(())
}
