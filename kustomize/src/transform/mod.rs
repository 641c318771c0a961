//! The transformers: each changes the resources of one kustomization, in the order that `target` gives them.

pub(crate) mod images;
pub(crate) mod names;
pub(crate) mod namespace;
pub(crate) mod patches;
pub(crate) mod replacement_path;
pub(crate) mod replacements;
pub(crate) mod sort;
pub(crate) mod value_add;

use std::collections::BTreeMap;

use flotilla_yaml::{Node, Scalar};

use crate::error::{Fail, Res, fail};
use crate::fieldspec::{Create, FieldSpec};
use crate::node_ops::{is_quoted, put_string, wrong_kind};
use crate::parts::Replica;
use crate::resmap::ResMap;

/// Sets labels or annotations at all the places that the specs name.
pub(crate) fn set_pairs(map: &mut ResMap, pairs: &BTreeMap<String, String>, specs: &[FieldSpec]) -> Res<()> {
    if pairs.is_empty() {
        return Ok(());
    }
    for resource in &mut map.0 {
        for spec in specs {
            spec.apply(&mut resource.node, Create::Map, &mut |node| {
                if !node.is_map() {
                    return Err(wrong_kind("MappingNode", node));
                }
                let map = node.as_map_mut().expect("checked above");
                for (key, value) in pairs {
                    put_string(map, key, value);
                }
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// Sets the number of replicas of the workloads with the given name, as it is or once was.
pub(crate) fn set_replicas(map: &mut ResMap, replica: &Replica, specs: &[FieldSpec]) -> Res<()> {
    let mut found = false;
    for spec in specs {
        let named = map.indexes_by_any_id(&|id| id.name == replica.name && id.gvk.is_selected(&spec.gvk));
        for index in named {
            found = true;
            spec.apply(&mut map.0[index].node, Create::Scalar, &mut |node| {
                if !node.is_scalar() {
                    return Err(wrong_kind("ScalarNode", node));
                }
                let count = Scalar::int(replica.count);
                let style = node.style;
                let scalar = if is_quoted(node) { Scalar::string(count.text()) } else { count };
                *node = Node::from(scalar).at_pos(replica.pos).with_style(style);
                Ok(())
            })?;
        }
    }
    if found {
        return Ok(());
    }
    let kinds: Vec<String> = specs.iter().map(|s| s.gvk.to_string()).collect();
    fail!(
        "resource with name {} does not match a config with the following GVK [{}]",
        replica.name,
        kinds.join(" ")
    )
    .map_err(|e: Fail| e.at(replica.pos))
}
