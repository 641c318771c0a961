//! The data of ConfigMaps and Secrets.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// What a ConfigMap or Secret holds, by key, as text; what is no text is left out, as nothing that reads it here can
/// use it. Of a Secret, `stringData` goes over `data`.
pub(crate) fn data(object: &Value) -> BTreeMap<String, String> {
    let is_secret = object["kind"] == "Secret";
    let entries = |field: &str| object[field].as_object().into_iter().flatten().collect::<Vec<_>>();
    let plain = |text: &str| Some(text.to_owned());
    let decoded =
        |text: &str| String::from_utf8(STANDARD.decode(text.replace(char::is_whitespace, "")).ok()?).ok();
    let mut data = BTreeMap::new();
    for (key, value) in entries("data") {
        let text = value.as_str().and_then(|text| if is_secret { decoded(text) } else { plain(text) });
        data.extend(text.map(|text| (key.clone(), text)));
    }
    if is_secret {
        for (key, value) in entries("stringData") {
            data.extend(value.as_str().map(|text| (key.clone(), text.to_owned())));
        }
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn texts_are_read_and_nothing_else() {
        for (object, expected) in [
            (json!({"kind": "ConfigMap", "data": {"a": "1"}}), vec![("a", "1")]),
            (json!({"kind": "ConfigMap"}), vec![]),
            (json!({"kind": "Secret", "data": {"a": "MQ==", "b": "/w==", "c": "!"}}), vec![("a", "1")]),
            (json!({"kind": "Secret", "data": {"a": "MQ=="}, "stringData": {"a": "2"}}), vec![("a", "2")]),
        ] {
            let expected: BTreeMap<String, String> =
                expected.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            assert_eq!(data(&object), expected, "{object}");
        }
    }
}
