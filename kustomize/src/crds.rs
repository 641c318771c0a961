//! Field specs from `crds`: OpenAPI definitions whose properties are marked as names, labels, or references.

use flotilla_yaml::{Map, Node};

use crate::config::{BackReference, Config};
use crate::error::{Fail, Res};
use crate::fieldspec::{FieldSpec, merge};
use crate::gvk::Gvk;
use crate::work::Work;

/// Nesting beyond which a definition that refers to itself is not followed.
const DEPTH: usize = 20;

/// Reads a file of `crds`: a mapping of type names to `{Schema: …}`.
pub(crate) fn read(document: &Node, work: &Work) -> Res<Config> {
    let mut config = Config::default();
    if document.is_null() {
        return Ok(config);
    }
    let Some(types) = document.as_map() else {
        return Err(Fail::new("unable to parse open API definition: a mapping of type names is needed")
            .at(document.pos));
    };
    for entry in types {
        if !entry.value.is_null() && entry.value.as_map().is_none() {
            return Err(Fail::new("unable to parse open API definition: the definition of a type has to be a mapping")
                .at(entry.value.pos)
                .hint("crds takes OpenAPI definitions by the names of types; a CustomResourceDefinition belongs in resources"));
        }
        let name = entry.key.text().unwrap_or_default();
        let Some(properties) = properties(types, name) else { continue };
        if ["kind", "apiVersion", "metadata"].iter().all(|p| properties.contains_key(p)) {
            let kind = name.rsplit('.').next().unwrap_or_default();
            let gvk = Gvk { kind: kind.into(), ..Gvk::default() };
            collect(&mut config, &gvk, types, name, &mut Vec::new(), work)?;
        }
    }
    Ok(config.sorted())
}

fn properties<'a>(types: &'a Map, name: &str) -> Option<&'a Map> {
    let definition = types.get(name)?;
    let schema = definition.get("Schema").or_else(|| definition.get("schema"))?;
    schema.get("properties")?.as_map()
}

fn collect(
    config: &mut Config,
    gvk: &Gvk,
    types: &Map,
    name: &str,
    path: &mut Vec<String>,
    work: &Work,
) -> Res<()> {
    let Some(properties) = properties(types, name) else { return Ok(()) };
    // A type that refers to itself several times is followed along each way.
    work.spend_for(properties.len(), config.specs() + DEPTH)?;
    for entry in properties {
        let property = &entry.value;
        let extension = |name: &str| property.get(name).and_then(Node::text);
        path.push(entry.key.text().unwrap_or_default().to_owned());
        let spec = |more: Option<&str>| {
            let full: Vec<&str> = path.iter().map(String::as_str).chain(more).collect();
            [FieldSpec::new(gvk.clone(), &full.join("/"), false)]
        };
        if extension("x-kubernetes-annotation").is_some() {
            merge(&mut config.common_annotations, &spec(None))?;
        }
        if extension("x-kubernetes-label-selector").is_some() {
            merge(&mut config.common_labels, &spec(None))?;
        }
        if extension("x-kubernetes-identity").is_some() {
            merge(&mut config.name_prefix, &spec(None))?;
        }
        let reference =
            (extension("x-kubernetes-object-ref-api-version"), extension("x-kubernetes-object-ref-kind"));
        if let (Some(version), Some(kind)) = reference {
            let key = extension("x-kubernetes-object-ref-name-key").unwrap_or("name");
            let target = Gvk { version: version.into(), kind: kind.into(), ..Gvk::default() };
            let referrers = spec(Some(key)).to_vec();
            match config.name_reference.iter_mut().find(|r| r.gvk == target) {
                Some(known) => merge(&mut known.referrers, &referrers)?,
                None => config.name_reference.push(BackReference { gvk: target, referrers }),
            }
        }
        if let Some(reference) = extension("$ref")
            && path.len() < DEPTH
        {
            collect(config, gvk, types, reference, path, work)?;
        }
        path.pop();
    }
    Ok(())
}
