//! What Flux's own kustomize-controller left in a cluster, against what we render of the same repository: the same
//! objects in the same units, each with the fields that Flux applied and with their values.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flotilla_core::template::{Found, ObjectTemplate, ValuesKind};
use flotilla_core::{Object, UnitId};
use serde_json::{Value, json};

use crate::flux_repos::files;
use crate::world::*;
use flotilla_leftout::shared;

const OWNER: &str = "kustomize.toolkit.fluxcd.io";

/// What a template takes from the cluster, as the repository itself defines it.
fn found(template: &ObjectTemplate) -> Found {
    let secret = [("db_password".to_owned(), "s3cr3t/with+chars".to_owned())];
    template
        .needs()
        .map(|reference| {
            let known = reference.kind == ValuesKind::Secret && reference.name == "cluster-secrets";
            assert!(
                known || reference.name == "not-there" || reference.name == "cluster-vars",
                "{reference}"
            );
            let vars = [
                ("cluster_name", "prod-1"),
                ("region", "eu-west-1"),
                ("replicas", "2"),
                ("domain", "example.org"),
            ];
            let values: Option<BTreeMap<String, String>> = match reference.name.as_str() {
                "cluster-secrets" => Some(secret.clone().into()),
                "cluster-vars" => Some(vars.map(|(k, v)| (k.to_owned(), v.to_owned())).into()),
                _ => None,
            };
            (reference.clone(), values)
        })
        .collect()
}

/// All objects with their units, completed as the agent would.
fn ours() -> Option<BTreeMap<String, (UnitId, Value)>> {
    let files = files(&shared("flux-live")?.join("repo"));
    let render = World::new(&[]).render_in("prod", &files);
    let mut objects = BTreeMap::new();
    for (id, rendered) in &render.units {
        let unit = rendered.unit.as_ref().unwrap_or_else(|| panic!("{id}: {:?}", rendered.problems));
        for object in &unit.content.objects {
            let done: Object = match ObjectTemplate::of(object) {
                Some(template) => {
                    let template = template.unwrap();
                    template.complete(&found(&template)).unwrap()
                }
                None => object.clone(),
            };
            objects.insert(done.id().to_string(), (id.clone(), done.value()));
        }
    }
    Some(objects)
}

fn live() -> Option<BTreeMap<String, Value>> {
    let text = std::fs::read_to_string(shared("flux-live")?.join("live.yaml")).unwrap();
    let documents = flotilla_yaml::parse(&text).unwrap();
    let objects = documents.iter().filter(|document| !document.is_null()).map(|document| {
        // As the program that wrote it reads it: `y` is a text.
        let mut value = document.to_json_as(flotilla_yaml::Schema::Kustomize).unwrap();
        // What the API server added, which no repository may bring.
        if let Some(metadata) = value["metadata"].as_object_mut() {
            metadata.retain(|field, _| field != "uid" && field != "resourceVersion");
        }
        (Object::new(&value).unwrap().id().to_string(), value)
    });
    Some(objects.collect())
}

fn is_of_flux(value: &Value) -> bool {
    value["apiVersion"].as_str().is_some_and(|version| version.contains(".fluxcd.io/"))
}

#[test]
fn the_same_objects_in_the_same_units() {
    let (Some(ours), Some(live)) = (ours(), live()) else { return };
    let expected: BTreeMap<&String, String> = live
        .iter()
        .filter(|(_, value)| !is_of_flux(value))
        .map(|(id, value)| {
            let label = |name: &str| value["metadata"]["labels"][format!("{OWNER}/{name}")].as_str().unwrap();
            let (namespace, name) = (label("namespace"), label("name"));
            let unit = UnitId::kustomization(namespace, name);
            let root = unit == UnitId::kustomization("flux-system", "flux-system");
            (id, if root { UnitId::root().to_string() } else { unit.to_string() })
        })
        .collect();
    let got: BTreeMap<&String, String> = ours.iter().map(|(id, (unit, _))| (id, unit.to_string())).collect();
    assert_eq!(got, expected);
}

#[test]
fn the_same_fields_with_the_same_values() {
    let (Some(ours), Some(live)) = (ours(), live()) else { return };
    let mut differences = Vec::new();
    for (id, (_, ours)) in &ours {
        let live = &live[id];
        let ours = as_stored(ours);
        values(&ours, live, id.clone(), &mut differences);
        let entries = live["metadata"]["managedFields"].as_array().unwrap();
        let applied = entries
            .iter()
            .find(|entry| entry["manager"] == "kustomize-controller" && entry["operation"] == "Apply");
        fields(&applied.unwrap()["fieldsV1"], &ours, live, id.clone(), &mut differences);
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// `stringData` as it is kept.
fn as_stored(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(Value::Object(texts)) = object.as_object_mut().unwrap().remove("stringData") {
        for (key, text) in texts {
            object["data"][key] = json!(STANDARD.encode(text.as_str().unwrap()));
        }
    }
    object
}

/// Every value that we have is the cluster's.
fn values(ours: &Value, live: &Value, path: String, differences: &mut Vec<String>) {
    match (ours, live) {
        (Value::Object(map), Value::Object(_)) => {
            map.iter()
                .for_each(|(key, value)| values(value, &live[key], format!("{path} {key}"), differences));
        }
        (Value::Array(items), Value::Array(found)) if items.len() == found.len() => {
            let pairs = items.iter().zip(found).enumerate();
            pairs.for_each(|(n, (ours, live))| values(ours, live, format!("{path}[{n}]"), differences));
        }
        // A quantity that was written as a number.
        (Value::Number(number), Value::String(text)) if number.to_string() == *text => {}
        // PyYAML writes such a text bare.
        (Value::String(text), Value::Number(_)) if text == "1e3" => {}
        // What is the same as nothing is not kept.
        (Value::Bool(false), Value::Null) => {}
        (ours, live) if ours == live => {}
        (ours, live) => differences.push(format!("{path}: ours {ours}, live {live}")),
    }
}

/// Every field that Flux applied is ours, but for what it fills in itself before it applies: its owner labels, empty
/// mappings, the protocol and target of a port.
fn fields(set: &Value, ours: &Value, live: &Value, path: String, differences: &mut Vec<String>) {
    for (key, below) in set.as_object().into_iter().flatten() {
        let (kind, name) = key.split_once(':').unwrap_or((key, ""));
        let place = format!("{path} {name}");
        let nothing = json!({});
        let (found, there) = match kind {
            "f" => {
                let there = &live[name];
                let filled = match name {
                    "protocol" => *there == "TCP",
                    "targetPort" => *there == live["port"],
                    name => name == "stringData" || name.starts_with(OWNER),
                };
                if filled {
                    continue;
                }
                let is_empty = there.is_null() || there.as_object().is_some_and(|map| map.is_empty());
                let only_owner = |map: &serde_json::Map<String, Value>| {
                    map.keys().all(|key| key.starts_with("f:") && key[2..].starts_with(OWNER) || key == ".")
                };
                let is_owners = name == "labels" && below.as_object().is_some_and(only_owner);
                // Applied as an empty mapping, and filled by the API server.
                let hollow = *below == json!({});
                let filled_later = hollow && ["strategy", "updateStrategy", "spec"].contains(&name);
                let may_be_absent = is_empty || is_owners || filled_later;
                (ours.get(name).or(may_be_absent.then_some(&nothing)), there)
            }
            "k" => {
                let keys: Value = serde_json::from_str(name).unwrap();
                let item = |list: &'_ Value| {
                    // A key that is not written has its default.
                    let is_it = |item: &Value| {
                        keys.as_object().unwrap().iter().all(|(k, v)| item.get(k).is_none_or(|own| own == v))
                    };
                    list.as_array().and_then(|items| items.iter().position(is_it))
                };
                (item(ours).map(|n| &ours[n]), item(live).map_or(&nothing, |n| &live[n]))
            }
            "v" => {
                let value: Value = serde_json::from_str(name).unwrap();
                (ours.as_array().and_then(|items| items.iter().find(|item| **item == value)), &nothing)
            }
            _ => continue,
        };
        match found {
            Some(found) => fields(below, found, there, place, differences),
            None => differences.push(format!("{place}: Flux applies it, we don't")),
        }
    }
}
