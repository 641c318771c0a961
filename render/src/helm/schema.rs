//! `values.schema.json` of a chart. Helm fetches what a schema refers to, over the network or from the machine's own
//! files; here it must not reach out of the chart, so what stands outside is not asked: values that only it would
//! refuse are taken.

use serde_json::Value;

/// The keywords that name another schema.
const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];
/// The dialects that every validator has built in: <https://json-schema.org/specification-links>.
const DIALECTS: [&str; 5] = [
    "json-schema.org/draft-04/schema",
    "json-schema.org/draft-06/schema",
    "json-schema.org/draft-07/schema",
    "json-schema.org/draft/2019-09/schema",
    "json-schema.org/draft/2020-12/schema",
];

/// A schema that refers to nothing but itself, written anew, so that nobody reads another one in the same bytes.
///
/// # Errors
/// Where it is not JSON: what helm would read in it nobody could tell.
pub(super) fn within(content: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let mut schema: Value = serde_json::from_slice(content)?;
    cut(&mut schema);
    serde_json::to_vec(&schema)
}

/// Takes out what leads outside.
fn cut(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(cut),
        Value::Object(fields) => {
            fields.retain(|name, value| !leads_outside(name, value));
            // The texts of an `enum` are data. Anything else of that name is a schema.
            let is_data = |name: &str, value: &Value| name == "enum" && value.is_array();
            fields.iter_mut().filter(|(name, value)| !is_data(name, value)).for_each(|(_, value)| cut(value));
        }
        _ => {}
    }
}

fn leads_outside(name: &str, value: &Value) -> bool {
    let Value::String(target) = value else { return false };
    if REFERENCES.contains(&name) {
        return !target.starts_with('#');
    }
    let dialect = target.trim_end_matches('#');
    let dialect = dialect.strip_prefix("https://").or_else(|| dialect.strip_prefix("http://"));
    name == "$schema" && !dialect.is_some_and(|dialect| DIALECTS.contains(&dialect))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_outside_is_cut_and_all_else_stays() {
        for (schema, expected) in [
            (r##"{"$ref": "http://inside.example.com/x.json"}"##, "{}"),
            (r##"{"$ref": "file:///etc/passwd", "type": "object"}"##, r##"{"type":"object"}"##),
            (
                r##"{"properties": {"a": {"allOf": [{"$ref": "x.json#/a"}]}}}"##,
                r##"{"properties":{"a":{"allOf":[{}]}}}"##,
            ),
            (r##"{"properties": {"enum": {"$dynamicRef": "//x/y"}}}"##, r##"{"properties":{"enum":{}}}"##),
            (r##"{"const": {"$ref": "x"}}"##, r##"{"const":{}}"##),
            (r##"{"$schema": "https://inside.example.com/meta", "$ref": "#/a"}"##, r##"{"$ref":"#/a"}"##),
            (r##"{"$schema": "json-schema.org/draft-07/schema"}"##, "{}"),
        ] {
            let cut = within(schema.as_bytes()).unwrap();
            assert_eq!(std::str::from_utf8(&cut).unwrap(), expected, "{schema}");
        }
        for same in [
            r##"{"$schema":"http://json-schema.org/draft-07/schema#","maximum":1e+40}"##,
            r##"{"$defs":{"a":true},"$ref":"#/$defs/a","$schema":"https://json-schema.org/draft/2020-12/schema"}"##,
            r##"{"enum":[{"$ref":"data"}],"properties":{"$ref":{"type":"string"}}}"##,
        ] {
            assert_eq!(String::from_utf8(within(same.as_bytes()).unwrap()).unwrap(), same);
        }
        let twice = br##"{"$ref": "http://x", "$ref": "#/a"}"##;
        assert_eq!(within(twice).unwrap(), br##"{"$ref":"#/a"}"##, "nobody reads the first one");
    }

    #[test]
    fn what_cannot_be_looked_through_is_refused() {
        let deep = format!("{}{{\"$ref\":\"http://x\"}}{}", "[".repeat(1000), "]".repeat(1000));
        for wrong in [&b"{"[..], b"\xef\xbb\xbf{}", b"{} {\"$ref\": \"http://x\"}", deep.as_bytes()] {
            assert!(within(wrong).is_err());
        }
    }
}
