//! Objects held against the schemas of Flux's CRDs, as an API server would: types, unknown and missing fields, choices,
//! patterns.

use flotilla_leftout::shared;
use serde_json::{Map, Value};

/// What an API server would say is wrong with an object.
pub(crate) fn wrong_with(object: &Value) -> Vec<String> {
    let Some(folder) = shared("flux-crds") else { return Vec::new() };
    let (group, version) = object["apiVersion"].as_str().and_then(|text| text.split_once('/')).unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        for document in flotilla_yaml::parse(&std::fs::read_to_string(&path).unwrap()).unwrap() {
            let crd = document.to_json().unwrap();
            if crd["spec"]["group"] != group || crd["spec"]["names"]["kind"] != object["kind"] {
                continue;
            }
            let versions = crd["spec"]["versions"].as_array().unwrap();
            let found = versions.iter().find(|it| it["name"] == version && it["served"] == true);
            let Some(found) = found else { return vec![format!("version {version} is not served")] };
            let mut wrong = Vec::new();
            let schema = &found["schema"]["openAPIV3Schema"]["properties"]["spec"];
            check(&object["spec"], schema, "spec", &mut wrong);
            return wrong;
        }
    }
    vec![format!("there is no CRD for {} of {group}", object["kind"])]
}

fn check(value: &Value, schema: &Value, path: &str, wrong: &mut Vec<String>) {
    let mut say = |what: String| wrong.push(format!("{path}: {what}"));
    if let Some(choices) = schema["enum"].as_array()
        && !choices.contains(value)
    {
        say(format!("{value} is none of {choices:?}"));
    }
    match (schema["type"].as_str().unwrap_or_default(), value) {
        ("object", Value::Object(fields)) => {
            for required in schema["required"].as_array().into_iter().flatten() {
                if !fields.contains_key(required.as_str().unwrap()) {
                    say(format!("{required} is missing"));
                }
            }
            let none = Map::new();
            let known = schema["properties"].as_object().unwrap_or(&none);
            let takes_any = schema["x-kubernetes-preserve-unknown-fields"] == true;
            for (name, field) in fields {
                let path = format!("{path}.{name}");
                match (known.get(name), schema.get("additionalProperties")) {
                    (Some(schema), _) | (None, Some(schema)) => check(field, schema, &path, wrong),
                    (None, None) if takes_any => {}
                    (None, None) => wrong.push(format!("{path}: is not a field")),
                }
            }
        }
        ("array", Value::Array(items)) => {
            let item = |(n, item)| check(item, &schema["items"], &format!("{path}[{n}]"), wrong);
            items.iter().enumerate().for_each(item);
        }
        ("string", Value::String(text)) => {
            if let Some(pattern) = schema["pattern"].as_str()
                && !regex::Regex::new(pattern).unwrap().is_match(text)
            {
                say(format!("'{text}' does not match {pattern}"));
            }
            let length = |name: &str| schema[name].as_u64();
            let count = text.chars().count() as u64;
            if length("minLength").is_some_and(|least| count < least)
                || length("maxLength").is_some_and(|most| count > most)
            {
                say(format!("'{text}' is too short or too long"));
            }
        }
        ("boolean", Value::Bool(_)) | ("integer" | "number", Value::Number(_)) | ("", _) => {}
        (wanted, value) => say(format!("{value} is no {wanted}")),
    }
}

#[test]
fn what_an_api_server_refuses_is_found() {
    let object = |spec: Value| serde_json::json!({"apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository", "spec": spec});
    let well = object(serde_json::json!({"url": "https://example.com/a", "interval": "1m0s"}));
    assert_eq!(wrong_with(&well), Vec::<String>::new());
    if shared("flux-crds").is_none() {
        return;
    }
    for (spec, says) in [
        (serde_json::json!({"interval": "1m0s"}), "\"url\" is missing"),
        (serde_json::json!({"url": "ftp://a", "interval": "1m0s"}), "does not match"),
        (serde_json::json!({"url": "https://a", "interval": "1m0s", "Branch": "x"}), "is not a field"),
        (serde_json::json!({"url": "https://a", "interval": 60}), "is no string"),
        (serde_json::json!({"url": "https://a", "interval": "1m0s", "provider": "me"}), "is none of"),
    ] {
        let wrong = wrong_with(&object(spec.clone()));
        assert!(wrong.iter().any(|wrong| wrong.contains(says)), "{spec}: {wrong:?}");
    }
}
