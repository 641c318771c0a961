//! The data of ConfigMaps and Secrets.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// What is under a key: a text, or why it is none.
pub(crate) type Data = BTreeMap<String, Result<String, &'static str>>;

const NOT_UTF8: &str = "is not UTF-8 text";
const NOT_BASE64: &str = "is not base64";
const NOT_STRING: &str = "is not a string";

/// A value of a Secret.
pub(crate) fn text(value: Vec<u8>) -> Result<String, &'static str> {
    String::from_utf8(value).map_err(|_| NOT_UTF8)
}

/// What a ConfigMap or Secret holds, by key. Of a Secret, `stringData` goes over `data`.
pub(crate) fn data(object: &Value) -> Data {
    let is_secret = object["kind"] == "Secret";
    let entries = |field: &str| object[field].as_object().into_iter().flatten().collect::<Vec<_>>();
    let decoded = |packed: &str| {
        text(STANDARD.decode(packed.replace(char::is_whitespace, "")).map_err(|_| NOT_BASE64)?)
    };
    let mut data = Data::new();
    for (key, value) in entries("data") {
        let value = value.as_str().ok_or(NOT_STRING);
        let value = value.and_then(|text| if is_secret { decoded(text) } else { Ok(text.to_owned()) });
        data.insert(key.clone(), value);
    }
    if is_secret {
        for (key, value) in entries("stringData") {
            data.insert(key.clone(), value.as_str().map(str::to_owned).ok_or(NOT_STRING));
        }
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn texts_are_read_and_what_is_none_is_told() {
        for (object, expected) in [
            (json!({"kind": "ConfigMap", "data": {"a": "1"}}), vec![("a", Ok("1"))]),
            (json!({"kind": "ConfigMap", "data": {"a": 1}}), vec![("a", Err(NOT_STRING))]),
            (json!({"kind": "ConfigMap"}), vec![]),
            (
                json!({"kind": "Secret", "data": {"a": "MQ==", "b": "/w==", "c": "!"}}),
                vec![("a", Ok("1")), ("b", Err(NOT_UTF8)), ("c", Err(NOT_BASE64))],
            ),
            (
                json!({"kind": "Secret", "data": {"a": "MQ=="}, "stringData": {"a": "2"}}),
                vec![("a", Ok("2"))],
            ),
        ] {
            let expected: Data = expected
                .into_iter()
                .map(|(key, value): (&str, Result<&str, _>)| (key.to_owned(), value.map(str::to_owned)))
                .collect();
            assert_eq!(data(&object), expected, "{object}");
        }
    }
}
