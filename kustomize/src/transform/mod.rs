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

use flotilla_yaml::{Link, Node, Scalar, Typing};

use crate::decode::Text;
use crate::error::{Fail, Res, fail};
use crate::fieldspec::{Create, FieldSpec};
use crate::node_ops::{is_quoted, set_string, style_of_new, wrong_kind};
use crate::parts::Replica;
use crate::resmap::ResMap;
use crate::resource::Resource;

/// Sets labels or annotations at all the places that the specs name.
pub(crate) fn set_pairs(map: &mut ResMap, pairs: &BTreeMap<String, Text>, specs: &[FieldSpec]) -> Res<()> {
    // What one run creates in one resource is one value in several places.
    let created = |(key, value): (&String, &Text)| {
        let mut node = Node::string(&value.text).at_pos(value.pos);
        node.style = style_of_new(&value.text);
        node.set_link(Some(Link::default()));
        (Node::string(key), node)
    };
    let created: Vec<(Node, Node)> = pairs.iter().map(created).collect();
    for resource in &mut map.0 {
        let mut shared = Vec::new();
        // One pair after the other, as what is made for one may lead a spec to a place for the next.
        for (key, value) in &created {
            let mut count = 0;
            for spec in specs {
                spec.apply(&mut resource.node, Create::Map(value.pos), &mut |node| {
                    if node.is_null() {
                        return Ok(());
                    }
                    if !node.is_map() {
                        return Err(wrong_kind("MappingNode", node));
                    }
                    let map = node.as_map_mut().expect("checked above");
                    match map.get_mut(key.text().unwrap_or_default()) {
                        Some(node) => set_string(node, value.text().unwrap_or_default(), value.pos),
                        None => {
                            map.push(key.clone(), value.clone());
                            count += 1;
                        }
                    }
                    Ok(())
                })?;
            }
            shared.extend((count > 1).then(|| value.clone()));
        }
        resource.settle_links();
        resource.links.append(&mut shared);
    }
    Ok(())
}

/// Sets the number of replicas of the workloads with the given name, as it is or once was.
pub(crate) fn set_replicas(map: &mut ResMap, replica: &Replica, specs: &[FieldSpec]) -> Res<()> {
    let mut found = false;
    let was_named =
        |r: &Resource| r.name() == replica.name || r.previous.iter().any(|p| p.name == replica.name);
    let named: Vec<usize> =
        (0..map.0.len()).filter(|n| was_named(&map.0[*n]) && !map.0[*n].is_empty()).collect();
    for spec in specs {
        for index in &named {
            let resource = &mut map.0[*index];
            if !resource.all_ids().any(|id| id.name == replica.name && id.gvk.is_selected(&spec.gvk)) {
                continue;
            }
            found = true;
            spec.apply(&mut resource.node, Create::Scalar(replica.pos), &mut |node| {
                if !node.is_scalar() {
                    return Err(wrong_kind("ScalarNode", node));
                }
                let count = Scalar::int(replica.count);
                let style = node.style;
                // A tag says what it is, whatever the quotes.
                let quoted = is_quoted(node) && node.tag().is_none();
                let scalar = if quoted { Scalar::string(count.text()) } else { count };
                *node = Node::from(scalar).at_pos(replica.pos).with_style(style);
                node.typing = if quoted { Typing::NotString } else { Typing::Apparent };
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
