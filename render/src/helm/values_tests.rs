use serde_json::json;

use super::*;

fn map(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

/// What is before a value is put at its path.
fn before() -> Map<String, Value> {
    map(json!({"m": {"k": 1, "j": {}}, "s": "text", "z": null, "l": [{"a": 1}, 2]}))
}

/// What a value at a path adds to what was there.
fn set(path: &str, text: &str, literal: bool) -> Result<Value, SetError> {
    let mut values = Values::new(Map::new());
    values.lay(before());
    values.set(path, text, literal)?;
    let mut after = values.finish();
    let before = before();
    after.retain(|key, value| before.get(key) != Some(value));
    Ok(Value::Object(after))
}

#[test]
fn mappings_merge_and_the_rest_is_replaced() {
    for (under, over, expected) in [
        (json!({}), json!({"a": 1}), json!({"a": 1})),
        (json!({"a": {"b": 1, "c": 2}}), json!({"a": {"c": 3}}), json!({"a": {"b": 1, "c": 3}})),
        (json!({"a": [1, 2]}), json!({"a": [3]}), json!({"a": [3]})),
        (json!({"a": {"b": 1}}), json!({"a": "x"}), json!({"a": "x"})),
        (json!({"a": "x"}), json!({"a": {"b": 1}}), json!({"a": {"b": 1}})),
        // Helm takes a default away where it meets null, so null has to stay.
        (json!({"a": {"b": 1}}), json!({"a": {"b": null}}), json!({"a": {"b": null}})),
    ] {
        let mut values = map(under.clone());
        merge(&mut values, map(over.clone()));
        assert_eq!(Value::Object(values), expected);
        let mut values = Values::new(Map::new());
        values.lay(map(under.clone()));
        values.lay(map(over.clone()));
        assert_eq!(Value::Object(values.finish()), expected);
        let mut values = Values::new(map(over));
        values.lay(map(under));
        assert_eq!(Value::Object(values.finish()), expected);
    }
}

/// The values are those that Flux's own library gives.
#[test]
fn paths_and_values_are_those_of_helm_set() {
    for (path, text, expected) in [
        ("a", "x", json!({"a": "x"})),
        ("a.b.c", "x", json!({"a": {"b": {"c": "x"}}})),
        ("a", "true", json!({"a": true})),
        ("a", "False", json!({"a": false})),
        ("a", "NULL", json!({"a": null})),
        ("m.k", "null", json!({"m": {"k": null, "j": {}}})),
        ("a", "12", json!({"a": 12})),
        ("a", "+5", json!({"a": 5})),
        ("a", "-0", json!({"a": 0})),
        ("a", "  5", json!({"a": "  5"})),
        ("a", "5\n", json!({"a": "5\n"})),
        ("a", "0", json!({"a": 0})),
        ("a", "012", json!({"a": "012"})),
        ("a", "1.5", json!({"a": "1.5"})),
        ("a", "9223372036854775808", json!({"a": "9223372036854775808"})),
        ("a", "", json!({"a": ""})),
        ("a", "'12'", json!({"a": "12"})),
        ("a", "\"true\"", json!({"a": "true"})),
        ("a", "\"'x'\"", json!({"a": "x"})),
        ("a", "\"it's\"", json!({"a": "it's"})),
        ("a", "\"x'", json!({"a": "\"x'"})),
        ("a", "'", json!({"a": ""})),
        ("a", "{x,1,true}", json!({"a": ["x", 1, true]})),
        ("a", "{}", json!({"a": [""]})),
        ("a", "{\"a\": 1}", json!({"a": ["\"a\": 1"]})),
        ("a", r"x\,y", json!({"a": "x,y"})),
        ("a", r"x\", json!({"a": "x"})),
        ("a", "x,b=2", json!({"a": "x", "b": 2})),
        ("a", "x,b={1,2},c=3", json!({"a": "x", "b": [1, 2], "c": 3})),
        ("a", "b=c", json!({"a": "b=c"})),
        ("a", "x]", json!({"a": "x]"})),
        ("a=b", "x", json!({"a": "b=x"})),
        ("a]", "x", json!({"a]": "x"})),
        ("a{", "x", json!({"a{": "x"})),
        ("a b", "x", json!({"a b": "x"})),
        (r"a\.b.c", "x", json!({"a.b": {"c": "x"}})),
        (r"nodeSelector.kubernetes\.io/role", "x", json!({"nodeSelector": {"kubernetes.io/role": "x"}})),
        ("a[0]", "x", json!({"a": ["x"]})),
        ("a[+1]", "x", json!({"a": [null, "x"]})),
        ("a[0].b", "x", json!({"a": [{"b": "x"}]})),
        ("a[0].b.c[1]", "x", json!({"a": [{"b": {"c": [null, "x"]}}]})),
        ("a[0][1]", "x", json!({"a": [[null, "x"]]})),
        ("a[0].b", "", json!({"a": []})),
        ("a.b", "", json!({"a": {"b": ""}})),
        ("l[0].q", "v", json!({"l": [{"a": 1, "q": "v"}, 2]})),
        ("l[1].b", "", json!({"l": [{"a": 1}, {"b": ""}]})),
        ("l[3]", "v", json!({"l": [{"a": 1}, 2, null, "v"]})),
        ("l", "x", json!({"l": "x"})),
        ("m", "x", json!({"m": "x"})),
    ] {
        assert_eq!(set(path, text, false), Ok(expected), "{path}={text}");
    }
}

#[test]
fn a_literal_is_taken_as_it_is() {
    for (path, text, expected) in [
        ("l[1]", "{1,2},b=3", json!({"l": [{"a": 1}, "{1,2},b=3"]})),
        ("a", r"x\", json!({"a": r"x\"})),
        ("a", "'12'", json!({"a": "'12'"})),
        ("a", "null", json!({"a": "null"})),
        ("a", "[x]: {y}\n", json!({"a": "[x]: {y}\n"})),
        (r"a\.b.c", "x", json!({"a.b": {"c": "x"}})),
    ] {
        assert_eq!(set(path, text, true), Ok(expected), "{path}={text}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let deep = vec!["a"; MAX_DEPTH + 2].join(".");
    let nested = format!("a{}", "[0]".repeat(MAX_DEPTH + 2));
    let many = (0..20).map(|n| format!("1,a{n}[60000]=")).collect::<String>();
    for (path, text, expected) in [
        ("", "x", SetError::NoName),
        (".a", "x", SetError::NoName),
        ("a.", "x", SetError::NoName),
        ("a[x]", "1", SetError::Index("x".into())),
        ("a[-1]", "1", SetError::Index("-1".into())),
        ("a[ 1]", "1", SetError::Index(" 1".into())),
        ("a[1", "1", SetError::Index("1=1".into())),
        ("a[99999999]", "1", SetError::IndexTooLarge(99_999_999)),
        ("a", "{x", SetError::OpenList),
        ("a", "{x}y", SetError::NoValue("y".into())),
        ("a", "{{x}}", SetError::NoValue("}".into())),
        ("a", "x,b", SetError::NoValue("b".into())),
        ("a", "x,,y=1", SetError::NoValue(String::new())),
        ("a,b", "x", SetError::NoValue("a".into())),
        ("s.b", "x", SetError::NotThat("s".into(), "a single value")),
        ("z.b", "x", SetError::NotThat("z".into(), "null")),
        ("l.a", "x", SetError::NotThat("l".into(), "a list")),
        ("m[0]", "x", SetError::NotThat("m".into(), "a mapping")),
        ("z[0]", "x", SetError::NotThat("z".into(), "null")),
        ("l[0][1]", "x", SetError::NotThat("l[0]".into(), "a mapping")),
        (&deep, "x", SetError::TooDeep),
        (&nested, "x", SetError::TooDeep),
        ("a", &many, SetError::TooMany),
    ] {
        assert_eq!(set(path, text, false), Err(expected), "{path}={text}");
    }
}

/// Flux lays the inline values below each value that it puts at a path, and shares them.
#[test]
fn the_order_is_that_of_flux() {
    enum From {
        File(Value),
        At(&'static str, &'static str),
    }
    use From::{At, File};
    let one = || File(json!({"a": {"x": 1, "y": 1}, "l": [1, 2]}));
    let two = || File(json!({"a": {"y": 2, "z": null}, "l": [3], "n": null}));
    for (inline, from, expected) in [
        (json!({"flat": "inline"}), vec![At("flat", "v")], json!({"flat": "inline"})),
        (json!({"a": {"b": "inline", "c": 1}}), vec![At("a.b", "v")], json!({"a": {"b": "v", "c": 1}})),
        (
            json!({"a": {"c": 1}}),
            vec![At("a.x", "v"), one()],
            json!({"a": {"c": 1, "x": "v", "y": 1}, "l": [1, 2]}),
        ),
        (
            json!({"a": {"y": "inline"}, "l": [9]}),
            vec![At("a.y", "v"), two()],
            json!({"a": {"y": "v", "z": null}, "l": [9], "n": null}),
        ),
        // What only the files have is theirs: it does not stay over a later file.
        (
            json!({}),
            vec![one(), At("a.y", "v"), two()],
            json!({"a": {"x": 1, "y": 2, "z": null}, "l": [3], "n": null}),
        ),
        (
            json!({"a": {"w": 9}}),
            vec![one(), two()],
            json!({"a": {"w": 9, "x": 1, "y": 2, "z": null}, "l": [3], "n": null}),
        ),
        // A mapping of the inline values below one that a file has too is shared all the same.
        (
            json!({"a": {"deep": {"p": "inline"}}}),
            vec![one(), At("a.deep.p", "v"), At("a.deep.q", "w")],
            json!({"a": {"deep": {"p": "v", "q": "w"}, "x": 1, "y": 1}, "l": [1, 2]}),
        ),
        // And so are lists, until they grow.
        (json!({"l": [7, 8]}), vec![At("l[0]", "v")], json!({"l": ["v", 8]})),
        (json!({"l": [7, 8]}), vec![At("l[2]", "v")], json!({"l": [7, 8]})),
    ] {
        let mut values = Values::new(map(inline));
        for from in from {
            match from {
                File(file) => values.lay(map(file)),
                At(path, text) => values.set(path, text, false).unwrap(),
            }
        }
        assert_eq!(Value::Object(values.finish()), expected);
    }
}

#[test]
fn numbers_of_files_are_doubles_and_those_at_a_path_are_not() {
    let number = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
    for (written, double) in [
        ("5", "5"),
        ("-9007199254740992", "-9007199254740992"),
        ("9007199254740993", "9007199254740992"),
        ("-9007199254740993", "-9007199254740992"),
        ("12345678901234567", "12345678901234568"),
        ("18446744073709551615", "18446744073709552000.0"),
        ("1e22", "1e22"),
        ("1.5", "1.5"),
    ] {
        let mut values = Values::new(map(json!({"inline": [number(written)]})));
        values.lay(map(json!({"laid": {"x": number(written)}})));
        let expected = json!({"inline": [number(double)], "laid": {"x": number(double)}});
        assert_eq!(Value::Object(values.finish()), expected, "{written}");
    }
    assert_eq!(set("p", "9007199254740993", false), Ok(json!({"p": 9007199254740993_i64})));
}
