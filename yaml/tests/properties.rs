//! What is written reads back equal, in both writers; reading anything never panics, and gives no more than in
//! proportion to what is read.

use flotilla_yaml::{
    Entry, Limits, Map, Node, Options, Schema, Seq, Style, Value, parse, parse_with, write, write_canonical,
    write_documents,
};
use proptest::prelude::*;

/// Texts that are hard on writers: indicators, words with a meaning, breaks and blanks in all places.
fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        8 => "[a-z]{1,6}",
        4 => proptest::sample::select(vec![
            " ", "  ", "\n", "\n\n", "\t", "\r", ": ", ":", " #", "#", "- ", "-", "? ", "'", "\"", "\\", "---",
            "...", "<<", "[", "]", "{", "}", ",", "&a", "*a", "!t", "|", ">", "%", "@", "`", "~", "yes", "null",
            "true", "0644", "1e3", "12:30", ".inf", "2020-01-01", "1_0", "é", "\u{85}", "\u{a0}", "\u{2028}",
            "\u{feff}", "😀", "\u{7f}", "\u{0}", "\u{1b}", "$(x)", "=",
        ]).prop_map(str::to_owned),
        1 => proptest::char::any().prop_map(String::from),
    ];
    prop_oneof![
        6 => proptest::collection::vec(part, 0..6).prop_map(|parts| parts.concat()),
        1 => "[a-z' \n]{60,200}",
    ]
}

fn style() -> impl Strategy<Value = Style> {
    proptest::sample::select(vec![
        Style::Plain,
        Style::Plain,
        Style::SingleQuoted,
        Style::DoubleQuoted,
        Style::Literal,
        Style::Folded,
        Style::Flow,
    ])
}

fn scalar() -> impl Strategy<Value = Node> {
    prop_oneof![
        6 => (text(), style()).prop_map(|(text, style)| Node::string(text).with_style(style)),
        2 => text().prop_map(Node::string),
        1 => any::<i64>().prop_map(Node::from),
        1 => any::<bool>().prop_map(Node::from),
        1 => Just(Node::null()),
        1 => proptest::sample::select(vec!["", "~", "1.50", "0644", "0x1F", "1e3", "+7", "2020-01-01", "TRUE"])
            .prop_map(Node::plain),
    ]
}

fn node() -> impl Strategy<Value = Node> {
    scalar().prop_recursive(4, 40, 5, |inner| {
        let map = proptest::collection::vec(((text(), style()), inner.clone()), 0..5).prop_map(|entries| {
            let mut map = Map::default();
            for ((key, style), value) in entries {
                if !map.contains_key(&key) {
                    map.entries_mut().push(Entry { key: Node::string(key).with_style(style), value });
                }
            }
            Node::from(map)
        });
        let seq = proptest::collection::vec(inner, 0..5).prop_map(|items| Node::from(Seq::from(items)));
        (prop_oneof![map, seq], prop_oneof![3 => Just(Style::Plain), 1 => Just(Style::Flow)])
            .prop_map(|(node, style)| node.with_style(style))
    })
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        (-1e9..1e9f64).prop_filter("integers lose their point", |f| f.fract() != 0.0).prop_map(Into::into),
        text().prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            proptest::collection::btree_map(text(), inner, 0..5)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Texts that look like YAML, right or wrong.
fn almost_yaml() -> impl Strategy<Value = String> {
    let part = proptest::sample::select(vec![
        "a",
        "b: ",
        "c:\n",
        "- ",
        "  ",
        "\n",
        "\n  ",
        "\n    ",
        "? ",
        ": ",
        "[",
        "]",
        "{",
        "}",
        ", ",
        "# x\n",
        " # y\n",
        "&a ",
        "*a",
        "<<: ",
        "!!str ",
        "!x ",
        "|\n",
        ">-\n",
        "'",
        "\"",
        "\\",
        "---\n",
        "...\n",
        "%YAML 1.1\n",
        "\t",
        "\r\n",
        "\u{feff}",
        "~",
        "1",
        "é",
        "|2-\n",
        "!!binary ",
        "!!int ",
    ]);
    proptest::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
}

/// Nodes, keys among them, and bytes of text below and with a node.
fn size(node: &Node) -> (usize, usize) {
    let add = |a: (usize, usize), b: (usize, usize)| (a.0 + b.0, a.1 + b.1);
    match &node.value {
        Value::Scalar(scalar) => (1, scalar.text().len()),
        Value::Seq(seq) => seq.iter().map(size).fold((1, 0), add),
        Value::Map(map) => map.iter().flat_map(|e| [size(&e.key), size(&e.value)]).fold((1, 0), add),
    }
}

/// Folded scalars whose text kustomize changes are compared by what it makes of them.
fn without_folded(node: &Node) -> bool {
    !node.any(&|n| n.style == Style::Folded)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn written_text_reads_back_equal(node in node()) {
        let text = write(&node);
        let read = parse(&text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
        let empty = node.is_null() && node.text() == Some("");
        prop_assert_eq!(read.first(), (!empty).then_some(&node), "{}", text);
        prop_assert!(read.len() < 2, "{}", text);
        if let Some(read) = read.first() {
            prop_assert_eq!(write(read), text, "writing again gives another text");
        }
    }

    #[test]
    fn documents_read_back_equal(nodes in proptest::collection::vec(node(), 0..4)) {
        let nodes: Vec<Node> = nodes.into_iter().filter(|n| !n.is_null()).collect();
        let text = write_documents(&nodes);
        let read = parse(&text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
        prop_assert_eq!(read, nodes, "{}", text);
    }

    #[test]
    fn canonical_text_has_the_same_meaning_under_both_schemas(node in node().prop_filter("", without_folded)) {
        let Ok(meaning) = node.to_json_as(Schema::Kustomize) else { return Ok(()) };
        let text = write_canonical(&node).expect("it has a meaning in JSON");
        let read = parse(&text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
        prop_assert_eq!(read[0].to_json_as(Schema::Kustomize).expect("written"), meaning.clone(), "{}", text);
        prop_assert_eq!(read[0].to_json().expect("written"), meaning, "{}", text);
        prop_assert_eq!(write_canonical(&read[0]).expect("written"), text);
    }

    #[test]
    fn what_was_read_means_the_same_to_every_reader(node in node()) {
        for schema in [Schema::Kubernetes, Schema::Kustomize] {
            let Ok(meaning) = node.to_json_as(schema) else { continue };
            let read = node.as_read(schema).expect("it has a meaning in JSON");
            prop_assert_eq!(read.to_json().expect("as read"), meaning.clone());
            prop_assert_eq!(read.to_json_as(Schema::Kustomize).expect("as read"), meaning);
        }
    }

    #[test]
    fn json_comes_back(value in json()) {
        let node = Node::from_json(&value);
        prop_assert_eq!(node.to_json().expect("from JSON"), value.clone());
        prop_assert_eq!(node.to_json_as(Schema::Kustomize).expect("from JSON"), value.clone());
        let read = parse(&write(&node)).expect("written");
        prop_assert_eq!(read[0].to_json().expect("from JSON"), value);
    }

    #[test]
    fn reading_never_panics(text in prop_oneof![almost_yaml(), any::<String>()]) {
        if let Ok(nodes) = parse(&text) {
            for node in &nodes {
                let _ = node.to_json();
                let _ = write_canonical(node);
            }
            let written = write_documents(&nodes);
            let read = parse(&written).map_err(|e| TestCaseError::fail(format!("{e}\n{written}")))?;
            prop_assert_eq!(&read, &nodes, "{}", written);
            prop_assert_eq!(write_documents(&read), written.clone(), "{}", written);
        }
    }

    #[test]
    fn what_is_read_is_in_proportion_to_the_text(part in almost_yaml(), times in 1..40usize) {
        let text = part.repeat(times);
        const BY_ALIAS: usize = 50;
        let limits = Limits { alias_nodes: BY_ALIAS, ..Limits::default() };
        let Ok(nodes) = parse_with(&text, &Options { limits, ..Options::default() }) else { return Ok(()) };
        let (count, bytes) = nodes.iter().map(size).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        // A byte begins two nodes at most: `?` a mapping and its key, which is nothing. Two bytes of an escape are three
        // of text at most.
        prop_assert!(count <= 2 * text.len() + BY_ALIAS, "{count} nodes from {} bytes", text.len());
        prop_assert!(bytes <= 2 * text.len() * (1 + BY_ALIAS), "{bytes} bytes from {}", text.len());
        if !text.contains('*') {
            prop_assert!(bytes <= 2 * text.len(), "{bytes} bytes from {} without aliases", text.len());
        }
    }

    #[test]
    fn comments_make_no_difference(text in almost_yaml()) {
        let bare = Options { skip_comments: true, ..Options::default() };
        prop_assert_eq!(parse_with(&text, &bare).ok(), parse(&text).ok());
    }
}
