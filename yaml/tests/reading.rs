//! Tables: what scalars mean, what aliases and merge keys bring, what is refused and where.

use flotilla_yaml::{Kind, Limits, Node, Options, Schema, parse, parse_with, write, write_canonical};
use serde_json::{Value as Json, json};

fn read(text: &str) -> Node {
    parse(text).unwrap_or_else(|e| panic!("{text:?}: {e}")).remove(0)
}

#[test]
fn scalars_mean_what_gos_libraries_read() {
    // text, kind, kustomize's reading, kubectl's where it differs
    let cases: &[(&str, Kind, Json, Option<Json>)] = &[
        ("yes", Kind::String, json!("yes"), Some(json!(true))),
        ("On", Kind::String, json!("On"), Some(json!(true))),
        ("n", Kind::String, json!("n"), Some(json!(false))),
        ("OFF", Kind::String, json!("OFF"), Some(json!(false))),
        ("oN", Kind::String, json!("oN"), None),
        ("'yes'", Kind::String, json!("yes"), None),
        ("\"no\"", Kind::String, json!("no"), None),
        ("!!str yes", Kind::String, json!("yes"), None),
        ("True", Kind::Bool, json!(true), None),
        ("tRue", Kind::String, json!("tRue"), None),
        ("", Kind::Null, json!(null), None),
        ("~", Kind::Null, json!(null), None),
        ("Null", Kind::Null, json!(null), None),
        ("nUll", Kind::String, json!("nUll"), None),
        ("0644", Kind::Int, json!(420), None),
        ("0o644", Kind::Int, json!(420), None),
        ("-0644", Kind::Int, json!(-420), None),
        ("08", Kind::Float, json!(8), None),
        ("0x1F", Kind::Int, json!(31), None),
        ("0b101", Kind::Int, json!(5), None),
        ("1_000", Kind::Int, json!(1000), None),
        ("_1", Kind::String, json!("_1"), None),
        ("+5", Kind::Int, json!(5), None),
        ("-", Kind::String, json!("-"), None),
        ("18446744073709551615", Kind::Int, json!(u64::MAX), None),
        ("18446744073709551616", Kind::Float, json!(18446744073709551616f64), None),
        ("-9223372036854775808", Kind::Int, json!(i64::MIN), None),
        ("1.0", Kind::Float, json!(1), None),
        ("1e3", Kind::Float, json!(1000), None),
        ("1.5e-7", Kind::Float, json!(1.5e-7), None),
        (".5", Kind::Float, json!(0.5), None),
        ("1.", Kind::Float, json!(1), None),
        ("1e999", Kind::String, json!("1e999"), None),
        ("1.2.3", Kind::String, json!("1.2.3"), None),
        ("12:30", Kind::String, json!("12:30"), None),
        ("2020-01-02", Kind::Timestamp, json!("2020-01-02T00:00:00Z"), Some(json!("2020-01-02"))),
        (
            "2020-1-2t3:4:5.600+02:00",
            Kind::Timestamp,
            json!("2020-01-02T03:04:05.6+02:00"),
            Some(json!("2020-1-2t3:4:5.600+02:00")),
        ),
        ("2020-02-30", Kind::String, json!("2020-02-30"), None),
        ("!!binary aGVsbG8=", Kind::String, json!("hello"), None),
        ("!!int \"3\"", Kind::Int, json!(3), None),
        ("!!float 3", Kind::Float, json!(3), None),
        ("!Ref x", Kind::String, json!("x"), None),
    ];
    for (text, kind, kustomize, kubernetes) in cases {
        if *text == "-" {
            continue;
        }
        let node = read(&format!("k: {text}\n"));
        let value = node.get("k").expect("there");
        assert_eq!(value.as_scalar().expect("scalar").kind(), *kind, "{text}");
        assert_eq!(value.to_json_as(Schema::Kustomize).expect("JSON"), *kustomize, "{text} for kustomize");
        let kubernetes = kubernetes.as_ref().unwrap_or(kustomize);
        assert_eq!(value.to_json().expect("JSON"), *kubernetes, "{text} for kubectl");
        for (schema, meaning) in [(Schema::Kustomize, kustomize), (Schema::Kubernetes, kubernetes)] {
            let read = value.as_read(schema).expect("a node");
            assert_eq!(read.to_json().expect("JSON"), *meaning, "{text} as read for {schema:?}");
            assert_eq!(read.to_json_as(Schema::Kustomize).expect("JSON"), *meaning, "{text}, {schema:?}");
            assert_eq!(read.pos, value.pos, "{text}");
        }
        assert_eq!(write(&node), format!("k: {text}\n").replace(": \n", ":\n"), "kept as written");
    }
}

#[test]
fn what_is_printed_is_read_as_go_reads_it() {
    let long = "k: >\n  a\u{a0}\n   b\n  c\n";
    for (text, expected) in [
        (r#"k: "a\u0085b""#, Ok(json!({"k": "a b"}))),
        (r#"k: "a \N b\nc""#, Ok(json!({"k": "a b\nc"}))),
        (r#"k: ["\Na\N\Nb\N"]"#, Ok(json!({"k": [" a\nb "]}))),
        (r#"k: "a\Lb\Pé\xa0\ufeff\a""#, Ok(json!({"k": "a\u{2028}b\u{2029}é\u{a0}\u{feff}\u{7}"}))),
        (r#"{k: {x: "a\x7f"}}"#, Err("there is a U+007F in the text")),
        (r#"k: "\x81""#, Err("there is a U+0081 in the text")),
        (r#"k: "\ufffe""#, Err("there is a U+FFFE in the text")),
        (r#""a\x7f": x"#, Err("there is a U+007F in the text")),
        (r#""a\N": x"#, Err("a key cannot hold a U+0085")),
        ("k: !!binary w4ViCg==", Ok(json!({"k": "Åb\n"}))),
        ("k: !!binary YcKFYg==", Ok(json!({"k": "a b"}))),
        (long, Ok(read(long).to_json_as(Schema::Kustomize).expect("JSON"))),
    ] {
        let found = read(text).printed().map(|node| node.to_json_as(Schema::Kustomize).expect("JSON"));
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text}"),
            (Err(error), Err(expected)) => assert!(error.message.contains(expected), "{text}: {error}"),
            (found, _) => panic!("{text}: {found:?}"),
        }
    }
}

#[test]
fn numbers_are_printed_as_kustomize_does() {
    for (text, printed) in [
        ("1.0", "1"),
        ("1e3", "1000"),
        ("0644", "420"),
        ("1.50", "1.5"),
        ("1e21", "1e+21"),
        ("1234567.5", "1.2345675e+06"),
        ("0.00001", "1e-05"),
        ("yes", "\"yes\""),
        ("'12:30'", "\"12:30\""),
        ("2020-01-02", "\"2020-01-02T00:00:00Z\""),
        ("''", "\"\""),
        ("' x'", "' x'"),
        ("\"a\\tb\"", "\"a\\tb\""),
        ("'- x'", "'- x'"),
        ("\"\\U0001F600\"", "\"\\U0001F600\""),
        ("~", "null"),
        ("{b: 1, a: [], c: {}}", "\n  a: []\n  b: 1\n  c: {}"),
    ] {
        let printed = format!("k: {printed}\n").replace(": \n", ":\n");
        assert_eq!(write_canonical(&read(&format!("k: {text}\n"))).expect("JSON"), printed, "{text}");
    }
}

#[test]
fn keys_are_sorted_as_go_sorts_them() {
    let text = "a10: 1\na9: 1\nB: 1\nb: 1\n_x: 1\n10: 1\n9: 1\na-b: 1\nab: 1\na: 1\na.b: 1\n";
    let sorted = "_x: 1\n\"9\": 1\n\"10\": 1\nB: 1\na: 1\na-b: 1\na.b: 1\na9: 1\na10: 1\nab: 1\nb: 1\n";
    assert_eq!(write_canonical(&read(text)).expect("JSON"), sorted);
}

#[test]
fn what_kustomize_changes_is_changed() {
    for (text, printed) in [
        ("k: >\n  a\n  b\n\n  c\n", "k: |\n  a b\n  c\n"),
        ("k: >\n  a\n    more\n  b\n", "k: |\n  a\n\n    more\n  b\n"),
        ("k: >+\n  x\n\n", "k: |+\n  x\n\n\n"),
        ("k: >-\n  a\n  b\n", "k: a b\n"),
        ("k: {a: , b: ~}\n", "k:\n  a: \"\"\n  b: null\n"),
    ] {
        assert_eq!(write_canonical(&read(text)).expect("JSON"), printed, "{text}");
    }
}

#[test]
fn aliases_and_merge_keys_are_expanded() {
    for (text, written) in [
        ("a: &x {k: 1}\nb: *x\n", "a: {k: 1}\nb: {k: 1}\n"),
        ("a: &x [1, 2]\nb: *x\n", "a: [1, 2]\nb: [1, 2]\n"),
        ("a: &x v\n*x : w\n", "a: v\nv: w\n"),
        ("a: &x 1\nb: &x 2\nc: *x\n", "a: 1\nb: 2\nc: 2\n"),
        // Own keys win and come first; in a list the earlier mapping wins.
        ("a: &x\n  k: 1\n  l: 2\nb:\n  <<: *x\n  l: 3\n", "a:\n  k: 1\n  l: 2\nb:\n  l: 3\n  k: 1\n"),
        (
            "x: &x {a: 1, b: 2}\ny: &y {b: 3, c: 4}\nz:\n  <<: [*x, *y]\n",
            "x: {a: 1, b: 2}\ny: {b: 3, c: 4}\nz:\n  b: 2\n  c: 4\n  a: 1\n",
        ),
        ("a: {<<: {k: 1}, l: 2}\n", "a: {l: 2, k: 1}\n"),
        // Quoted, it is a key like any other.
        ("a:\n  \"<<\": 1\n", "a:\n  \"<<\": 1\n"),
    ] {
        assert_eq!(write(&read(text)), written, "{text}");
    }
}

#[test]
fn a_merge_key_brings_many_keys_once() {
    let base: String = (0..100).map(|i| format!("  k{i}: base\n")).collect();
    let own: String = (50..150).map(|i| format!("  k{i}: own\n")).collect();
    let node = read(&format!("a: &a\n{base}b:\n  <<: *a\n{own}"));
    let map = node.get("b").and_then(Node::as_map).expect("a mapping");
    assert_eq!(map.len(), 150);
    assert_eq!(map.get("k49").and_then(Node::as_str), Some("base"));
    assert_eq!(map.get("k50").and_then(Node::as_str), Some("own"));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (text, line, column, message) in [
        ("a: 1\nb: 2\na: 3\n", 3, 1, "mapping key \"a\" already defined at line 1"),
        ("x:\n  - {b: 1,\n     \"b\": 2}\n", 3, 6, "mapping key \"b\" already defined at line 2"),
        ("<<: {a: 1}\n<<: {b: 1}\n", 2, 1, "mapping key \"<<\" already defined at line 1"),
        ("a:\n\tb: 1\n", 2, 2, "found a tab character that violates indentation; indent with spaces"),
        ("a: b: c\n", 1, 5, "mapping values are not allowed in this context"),
        ("a: *x\n", 1, 4, "unknown anchor 'x' referenced"),
        ("a: &x [1, *x]\n", 1, 11, "anchor 'x' value contains itself"),
        ("---\na: &x 1\n---\nb: *x\n", 4, 4, "unknown anchor 'x' referenced"),
        ("<<: 1\n", 1, 1, "map merge requires map or sequence of maps as the value"),
        ("a: &x 1\n<<: [*x]\n", 2, 6, "map merge requires map or sequence of maps as the value"),
        ("a: [1, 2\n", 1, 4, "unclosed bracket '['"),
        ("a: @x\n", 1, 4, "found character that cannot start any token: '@'"),
        ("- a\nb: 1\n", 2, 1, "did not find expected '-' indicator"),
        ("a: 'x' y\n", 1, 8, "invalid trailing content after single-quoted scalar"),
        ("a: !!int abc\n", 1, 10, "cannot decode `abc` as a !!int"),
    ] {
        let error = parse(text).expect_err(text);
        assert_eq!((error.pos.line, error.pos.column), (line, column), "{text}: {error}");
        assert!(error.message.contains(message), "{text}: {error}");
        assert!(error.to_string().starts_with(&format!("line {line}, column {column}: ")));
    }
    // Whatever the reader's words are here, they name the line.
    assert_eq!(parse("a:\n    b: 1\n  c: 2\n").expect_err("indentation").pos.line, 3);
}

#[test]
fn a_block_at_the_end_of_a_text_ends_as_the_text_does() {
    for (text, expected) in [
        ("a: |\n  x\n", "x\n"),
        ("a: |\n  x", "x"),
        ("a: |+\n  x", "x"),
        ("a: |\n  x\n\n  y", "x\n\ny"),
        ("a: >\n  x\n  y", "x y"),
        ("a: |\n  x\n ", "x\n"),
        ("a: |\n  x\n  ", "x\n"),
        ("a: |\n  x\n    ", "x\n  "),
        ("a: |\n  x\n# y", "x\n"),
        ("a: |\n  x\nb: y", "x\n"),
        ("a: |", ""),
    ] {
        assert_eq!(read(text).get("a").unwrap().text(), Some(expected), "{text:?}");
    }
}

#[test]
fn quoted_lines_need_no_indentation() {
    for (text, value) in [
        ("k: \"x\ny\n\nz\"\n", "x y\nz"),
        ("k: 'x\ny'\nl: 1\n", "x y"),
        ("k: \"x\n\ty\"\n", "x y"),
        ("k: 'x\n\n\t\ty'\n", "x\ny"),
        ("k: \"x\\\n  y\"\n", "xy"),
        ("a: 1\nk: \"x\ny\nz\nu\n\"\n", "x y z u "),
    ] {
        assert_eq!(read(text).get("k").and_then(Node::as_str), Some(value), "{text}");
    }
    let text = format!("a: \"{}", "x\n".repeat(20_000));
    assert!(parse(&text).is_err(), "gives up soon");
}

#[test]
fn the_last_of_equal_keys_wins_where_asked() {
    let options = Options { last_key_wins: true, ..Options::default() };
    let node = parse_with("a: 1\nb: 2\na: 3\n", &options).expect("allowed").remove(0);
    assert_eq!(write(&node), "a: 3\nb: 2\n");
    let node = parse_with("<<: {a: 1}\n<<: {b: 1}\n", &options).expect("allowed").remove(0);
    assert_eq!(write(&node), "a: 1\nb: 1\n");
    for (text, written) in [
        ("{q: 2, <<: {q: 1, r: 1}}", "{q: 1, r: 1}\n"),
        ("{<<: {q: 1}, q: 2, <<: [{q: 3}, {q: 4, s: 4}]}", "{q: 3, s: 4}\n"),
        ("{q: 0, <<: {q: 5, <<: {q: 6, r: 6}}}", "{q: 6, r: 6}\n"),
    ] {
        let node = parse_with(text, &options).expect("allowed").remove(0);
        assert_eq!(write(&node), written, "{text}");
    }
    let small = Limits { alias_nodes: 3, ..Limits::default() };
    let error = parse_with("{<<: {a: 1, b: 2}, <<: {a: 1, b: 2}}", &Options { limits: small, ..options });
    assert!(error.is_err_and(|error| error.message.contains("aliases add more than 3 nodes")));
}

#[test]
fn what_json_cannot_hold_is_refused() {
    for (text, column, kustomize, kubernetes) in [
        ("a: .inf", 4, "unsupported value", "JSON has no number for `.inf`"),
        ("? [a]\n: 1", 3, "not a sequence or mapping", "not a sequence or mapping"),
        ("a: {~: 1}", 5, "not null", "not null"),
        ("a: {1: b}", 5, "unsupported type: map[interface {}]interface {}", ""),
        ("{1: a, 0x1: b}", 8, "", "already defined"),
        ("a: !!binary '*'", 13, "invalid base64", "invalid base64"),
        ("a: !!binary \"aG \\tk=\"", 13, "invalid base64", "invalid base64"),
    ] {
        let node = read(text);
        match write_canonical(&node) {
            Ok(_) => assert_eq!(kustomize, "", "{text}"),
            Err(error) => {
                assert!(!kustomize.is_empty() && error.message.contains(kustomize), "{text}: {error}");
                assert_eq!(error.pos.column, column, "{text}: {error}");
            }
        }
        match node.to_json() {
            Ok(_) => assert_eq!(kubernetes, "", "{text}"),
            Err(error) => {
                assert!(!kubernetes.is_empty() && error.message.contains(kubernetes), "{text}: {error}");
                assert_eq!(error.pos.column, column, "{text}: {error}");
            }
        }
    }
}

#[test]
fn limits_hold() {
    let limits = Limits { bytes: 1_000, depth: 5, nodes: 100, alias_nodes: 20 };
    let options = Options { limits, ..Options::default() };
    let bomb = "a: &a [x, x, x]\nb: &b [*a, *a, *a]\nc: &c [*b, *b, *b]\nd: [*c, *c]\n";
    let deep_alias = "a: &a [[[x]]]\nb: [[[*a]]]\n";
    for (text, message) in [
        ("x".repeat(1_001), "1001 bytes, more than the 1000"),
        (format!("{}{}", "[".repeat(6), "]".repeat(6)), "nested deeper than 5 levels"),
        (format!("{}x", "- ".repeat(6)), "nested deeper than 5 levels"),
        (deep_alias.to_owned(), "nested deeper than 5 levels"),
        ("- x\n".repeat(100), "more than the 100 nodes"),
        (bomb.to_owned(), "aliases add more than 20 nodes"),
        (
            format!(
                "a: &a {{{}}}\nb: {{<<: *a}}\n",
                (0..9).map(|i| format!("k{i}: 1, ")).collect::<String>()
            ),
            "20 nodes",
        ),
    ] {
        let error = parse_with(&text, &options).expect_err(&text);
        assert!(error.message.contains(message), "{text}: {error}");
    }
    assert!(parse_with(&format!("{}x", "- ".repeat(5)), &options).is_ok());
}

#[test]
fn bombs_and_deep_nesting_end_soon() {
    let mut bomb = String::from("a0: &a0 [x]\n");
    for i in 1..40 {
        bomb += &format!("a{i}: &a{i} [*a{0}, *a{0}, *a{0}, *a{0}]\n", i - 1);
    }
    assert!(parse(&bomb).expect_err("a bomb").message.contains("aliases add more"));
    for (open, close) in [("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", "")] {
        let text = format!("{}x{}", open.repeat(100_000), close.repeat(100_000));
        assert!(parse(&text).is_err(), "{open}");
    }
    let deepest = Limits { depth: usize::MAX, ..Limits::default() };
    let options = Options { limits: deepest, ..Options::default() };
    let node = parse_with(&format!("{}x", "- ".repeat(1_000)), &options).expect("the most").remove(0);
    let text = write(&node);
    assert_eq!(parse_with(&text, &options).expect("written")[0], node);
    assert!(parse_with(&format!("{}x", "- ".repeat(1_001)), &options).is_err());
}

#[test]
fn documents_and_positions() {
    let options = Options { source: 7, ..Options::default() };
    let text = "# only a comment\n---\n---\na:\n  - b: é x\n    c: 2\n...\n---\n# none\n---\n[1]\n";
    let nodes = parse_with(text, &options).expect("valid");
    assert_eq!(nodes.len(), 2);
    let item = &nodes[0].get("a").and_then(Node::as_seq).expect("a list")[0];
    let at = |node: &Node| (node.pos.source, node.pos.line, node.pos.column);
    assert_eq!(at(&nodes[0]), (7, 4, 1));
    assert_eq!(at(item), (7, 5, 5));
    assert_eq!(at(item.get("b").expect("b")), (7, 5, 8));
    assert_eq!(at(&item.as_map().expect("map").entry("c").expect("c").key), (7, 6, 5));
    assert_eq!(at(&nodes[1]), (7, 11, 1));
    assert_eq!(
        parse("\u{feff}a: 1\r\nb: |\r\n  x\r\n  y\r\n").expect("BOM, CRLF")[0]
            .get("b")
            .and_then(Node::as_str),
        Some("x\ny\n")
    );
}

#[test]
fn comments_and_styles_stay() {
    for text in [
        "# head\n\n# of a\na: 1 # line\n# foot\n\nb: # of b\n  # of c\n  c: 2\n  # of d\n  d: 3\n  # foot of d\ne:\n# of x\n- x # beside\n# of y\n- y\n# foot of y\n\n- z: 1 # z\n  w: 2\n# end\n",
        "a: | # note\n  text\n  more\nb: > # note\n  folded text\nc: >-\n  x y\n",
        "a: 1\n# trailing\n",
        "a: 1\n\n# trailing, apart\n",
        "a: [1, 'x', \"y\"] # list\nb: {x: 1, y: [a, b]} # map\n",
        "a:\nb: ~\nc: null\nd: ''\ne: \"\"\n",
        "- a\n- - b\n  - c\n- d: e\n  f:\n  - g\n",
        "a: !!binary aGk=\nb: !Ref x\nc: !!str 1\n",
        "a: |+\n  keep\n\n\nb: |-\n  strip\nc: |2\n   indented\n",
        "metadata:\n  name: y # n\n\n  # ns\n  namespace: z\n".replace("\n\n", "\n").as_str(),
    ] {
        assert_eq!(write(&read(text)), text);
    }
    let node = read("# of a\na: 1 # line\n");
    let entry = node.as_map().and_then(|map| map.entry("a")).expect("a");
    assert_eq!(entry.key.comments().expect("above").head, "# of a");
    assert_eq!(entry.value.comments().expect("beside").line, "# line");
    let mut bare = node.clone();
    bare.strip_comments();
    assert_eq!(write(&bare), "a: 1\n");
    assert_eq!(write(&node), "# of a\na: 1 # line\n", "the original keeps them");
}

#[test]
fn clones_are_cheap_and_independent() {
    assert!(size_of::<Node>() <= 56, "{} bytes", size_of::<Node>());
    let original = read("a: {b: [1, 2]}\nc: x\n");
    let mut copy = original.clone();
    copy.at_mut(&["a", "b"]).and_then(Node::as_seq_mut).expect("list").push(3.into());
    let map = copy.as_map_mut().expect("map");
    assert_eq!(map.insert("c", "z".into()).as_ref().and_then(Node::as_str), Some("x"));
    assert!(map.insert("d", true.into()).is_none());
    assert!(map.remove("a").is_some() && map.remove("a").is_none());
    *map.get_or_insert_with("e", Node::map) = "yes".into();
    assert_eq!(write(&copy), "c: z\nd: true\ne: \"yes\"\n");
    assert_eq!(write(&original), "a: {b: [1, 2]}\nc: x\n");
}
