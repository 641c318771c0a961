//! Small trees whose texts are mean: every style of scalars with every shape of text, tags, comments anywhere, line ends and
//! byte order marks, keys of every type, lists inside of lists, JSON, patterns and selectors.
//!
//! They are made as text, since it is the text that is mean: many are refused, and both builds have to.

mod charts;

use std::collections::BTreeMap;

use super::rng::Rng;
use crate::tree::{Content, Tree};

/// The tree of a seed.
pub(super) fn tree(seed: u64) -> Tree {
    let mut rng = Rng::new(seed);
    let mut files = BTreeMap::new();
    let first = *rng.pick(&HEADS);
    let mut objects = vec![object(&mut rng, "a", first)];
    for name in &NAMES[1..rng.between(1, 3)] {
        let head = *rng.pick(&HEADS);
        objects.push(if rng.chance(10) { list(&mut rng, name) } else { object(&mut rng, name, head) });
    }
    let json = rng.chance(6);
    let (name, text) =
        if json { ("r.json", as_json(&mut rng)) } else { ("r.yaml", documents(&mut rng, objects)) };
    files.insert(name.to_owned(), file(&mut rng, text));
    let mut kustomization = format!("resources: [{name}]\n");
    for n in 0..rng.between(0, 2) {
        kustomization += &change(&mut rng, n, first, &mut files);
    }
    let kustomization = if rng.chance(6) { kustomization.replace('\n', "\r\n") } else { kustomization };
    let below = if rng.chance(15) { "base" } else { "app" };
    files.insert("kustomization.yaml".to_owned(), Content::Bytes(kustomization.into_bytes()));
    let mut tree: BTreeMap<String, Content> =
        files.into_iter().map(|(path, content)| (format!("{below}/{path}"), content)).collect();
    if below == "app" {
        return Tree { files: tree, root: "app".to_owned() };
    }
    let mut over = "resources: [../base]\n".to_owned();
    let mut more = BTreeMap::new();
    over += &change(&mut rng, 7, first, &mut more);
    tree.extend(more.into_iter().map(|(path, content)| (format!("over/{path}"), content)));
    tree.insert("over/kustomization.yaml".to_owned(), Content::Bytes(over.into_bytes()));
    Tree { files: tree, root: "over".to_owned() }
}

const NAMES: [&str; 3] = ["a", "aa", "b.c"];

/// Version, kind and the field with the content.
type Head = (&'static str, &'static str, &'static str);

const HEADS: [Head; 4] = [
    ("v1", "ConfigMap", "data"),
    ("v1", "X", "spec"),
    ("example.com/v1", "Custom", "spec"),
    ("v1", "Secret", "stringData"),
];

/// A file's bytes: line ends, marks and encodings are chosen here.
fn file(rng: &mut Rng, text: String) -> Content {
    let text = match rng.below(40) {
        0..=2 => text.replace('\n', "\r\n"),
        3 => format!("\u{feff}{text}"),
        4 => text.trim_end().to_owned(),
        5 => format!("{text}\n\n"),
        6 => {
            let units = text.encode_utf16().flat_map(u16::to_le_bytes);
            return Content::Bytes([0xff, 0xfe].into_iter().chain(units).collect());
        }
        _ => text,
    };
    Content::Bytes(text.into_bytes())
}

fn documents(rng: &mut Rng, objects: Vec<String>) -> String {
    let mut text = String::new();
    for (n, object) in objects.into_iter().enumerate() {
        if n == 0 && rng.chance(15) {
            text += "---\n";
        } else if n > 0 {
            text += rng.word(&[
                "---\n",
                "---\n",
                "---\n",
                "--- # c\n",
                "---  \n",
                "...\n",
                "...\n---\n",
                "---\n---\n",
                "---\n\u{feff}",
                "---\n# c\n",
            ]);
        }
        text += &object;
    }
    if rng.chance(5) {
        text += rng.word(&["---\n", "---", "...\n", "# end\n", "\t\n", "--- x\n"]);
    }
    text
}

/// Objects as JSON, one after the other.
fn as_json(rng: &mut Rng) -> String {
    let mut text = String::new();
    for name in &NAMES[..rng.between(1, 2)] {
        let value = serde_json::json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "annotations": {"k": shape(rng)}},
            "data": {"a": shape(rng), rng.word(&["b", "1", "y", "<<", "e\u{2028}"]): rng.word(&["1", "x\u{85}y", "\u{1f600}"])},
            "n": [1, 1.5, 1e30, 9007199254740993_u64, null, true],
        });
        text += &if rng.chance(50) { format!("{value}\n") } else { format!("{value:#}\n") };
    }
    text
}

fn object(rng: &mut Rng, name: &str, (version, kind, field): Head) -> String {
    let mut text = format!("apiVersion: {version}\nkind: {kind}\nmetadata:\n  name: {name}\n");
    for field in ["labels", "annotations"] {
        if rng.chance(35) {
            text += &format!("  {field}:{}", block_map(rng, 4, 0));
        }
    }
    comment(rng, 0, &mut text);
    let body = match rng.below(10) {
        0..=4 => block_map(rng, 2, 0),
        5..=8 => block_map(rng, 2, 3),
        _ => format!(" {}\n", flow(rng, 3)),
    };
    text + &format!("{field}:{body}")
}

/// A list of objects, perhaps with another one inside.
fn list(rng: &mut Rng, name: &str) -> String {
    let kind = rng.word(&["List", "ConfigMapList", "XList"]);
    let mut text = format!("apiVersion: v1\nkind: {kind}\nitems:\n");
    for n in 0..rng.between(0, 2) {
        text += &format!(
            "- apiVersion: v1\n  kind: ConfigMap\n  metadata: {{name: {name}{n}}}\n  data:{}",
            block_map(rng, 4, 2)
        );
    }
    if rng.chance(30) {
        text += &format!(
            "- apiVersion: v1\n  kind: ConfigMapList\n  items: [{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}x}}, data: {}}}, null]\n",
            flow(rng, 1)
        );
    }
    text
}

/// Entries of a mapping on lines of their own, after `key:`.
fn block_map(rng: &mut Rng, indent: usize, depth: usize) -> String {
    let mut text = "\n".to_owned();
    for n in 0..rng.between(1, 4) {
        comment(rng, indent, &mut text);
        text += &" ".repeat(indent);
        text += &key(rng, n);
        text.push(':');
        text += &value(rng, indent, depth);
    }
    text
}

fn comment(rng: &mut Rng, indent: usize, text: &mut String) {
    if rng.chance(4) {
        let indent = rng.word(&["", " ", "   ", "\t"]).len() + if rng.chance(70) { indent } else { 0 };
        *text += &format!("{}# {}\n", " ".repeat(indent), rng.word(&["c", "{\"type\": \"x\"}", "é", "a: b"]));
    } else if rng.chance(2) {
        *text += rng.word(&["\n", "  \n", "\n\n"]);
    }
}

/// A key; those that go by number are never there twice.
fn key(rng: &mut Rng, n: usize) -> String {
    match rng.below(200) {
        0 => rng
            .word(&["1", "1.5", "true", "null", "~", "y", "no", "2020-01-02", "0x1F", "'1'", "\"y\""])
            .to_owned(),
        1 => rng
            .word(&[
                "'<<'",
                "\"a b\"",
                "'it''s'",
                "\"\\u00e9\"",
                "\"x\\u2028y\"",
                "! k",
                "!!str 2",
                "\"a\\nb\"",
            ])
            .to_owned(),
        2 => format!("{}{n}", rng.word(&["a-", "a_", "a.", "a/b", "é", "😀", "A", "0", "10", "k:", "'#'"])),
        3 => format!("k{}", "x".repeat(130)),
        _ => format!("k{n}"),
    }
}

/// A value with the space before it and the line's end after it.
fn value(rng: &mut Rng, indent: usize, depth: usize) -> String {
    if depth == 0 && rng.chance(90) {
        return text(rng, indent);
    }
    match rng.below(if depth > 0 { 14 } else { 11 }) {
        0..=2 => block_scalar(rng, indent),
        3..=9 => {
            let text = scalar(rng, indent + 2);
            let tag = if rng.chance(3) { tag(rng) } else { "" };
            let end = rng.word(&["\n", "\n", "\n", "\n", "\n", " \n", " # c\n", "\t# c\n", "  # {}\n"]);
            format!(" {tag}{text}{end}")
        }
        10 => format!(" {}\n", flow(rng, depth.min(2))),
        11 | 12 => block_map(rng, indent + 2, depth - 1),
        _ => {
            let (deeper, mut text) = (indent + 2 * rng.below(2), "\n".to_owned());
            for _ in 0..rng.between(1, 3) {
                comment(rng, deeper, &mut text);
                text += &format!("{}-{}", " ".repeat(deeper), value(rng, deeper, 0));
            }
            text
        }
    }
}

/// A value that is a string whoever reads it.
fn text(rng: &mut Rng, indent: usize) -> String {
    let text = match rng.below(10) {
        0..=4 => return block_scalar(rng, indent),
        5 => rng.word(&["x", "x y", "é", "a.b/c", "it's"]).to_owned(),
        6 => format!("'{}'", one_line(rng).replace('\'', "''")),
        7 => broken(rng, indent + 2),
        _ => {
            let text = shape(rng);
            double_quoted(rng, &text)
        }
    };
    let end = rng.word(&["\n", "\n", "\n", " \n", " # c\n", "\t# c\n", "  # {}\n"]);
    format!(" {text}{end}")
}

/// A text of one line that can stand between single quotes.
fn one_line(rng: &mut Rng) -> String {
    shape(rng).replace(['\n', '\r', '\u{7f}', '\u{85}', '\u{feff}'], " ")
}

/// A text in double quotes on several lines.
fn broken(rng: &mut Rng, indent: usize) -> String {
    let between = rng.word(&["\n", "\n\n", "\\\n", "\t\n", "\n\\ ", " \u{2028} ", "\u{85}"]);
    let indent = " ".repeat(rng.below(indent + 2));
    format!("\"one{}two\"", between.replace('\n', &format!("\n{indent}")))
}

fn tag(rng: &mut Rng) -> &'static str {
    rng.word(&[
        "!!str ",
        "!!str ",
        "!!int ",
        "!!float ",
        "!!bool ",
        "!!null ",
        "!!binary ",
        "!!timestamp ",
        "!x ",
        "! ",
    ])
}

const WORDS: [&str; 14] = [
    "one",
    "two words",
    "a: b",
    "# no",
    "it's",
    "\"q\"",
    "é",
    "😀",
    "- x",
    "\ttab",
    "in\tside",
    "x ",
    "{",
    "a \u{a0}",
];

/// A literal or folded block of random lines.
fn block_scalar(rng: &mut Rng, indent: usize) -> String {
    let header = rng.word(&["|", "|", "|-", "|+", ">", ">", ">", ">-", ">+"]);
    let mut lines = Vec::new();
    for _ in 0..rng.between(0, 2) {
        lines.push(String::new());
    }
    for _ in 0..rng.between(1, 5) {
        let deeper = rng.word(&["", "", "", " ", "  ", "   "]);
        lines.push(match rng.below(6) {
            0 => String::new(),
            1 => format!("{deeper}{} {}", rng.word(&WORDS), rng.word(&WORDS)),
            _ => format!("{deeper}{}", rng.word(&WORDS)),
        });
    }
    for _ in 0..rng.below(3) {
        lines.push(String::new());
    }
    if rng.chance(4) {
        lines.push("long words ".repeat(12).trim_end().to_owned());
    }
    // The first line says how deep all are, unless a number does.
    let first = lines.iter().find(|line| !line.is_empty()).cloned().unwrap_or_default();
    let number = if first.starts_with([' ', '\t']) || rng.chance(5) { "2" } else { "" };
    let comment = if rng.chance(4) { " # c" } else { "" };
    let tag = if rng.chance(4) { rng.word(&["!!str ", "!x ", "! "]) } else { "" };
    let mut text = format!(" {tag}{}{number}{}{comment}\n", &header[..1], &header[1..]);
    for line in lines {
        if line.is_empty() {
            text.push('\n');
        } else {
            text += &format!("{}{line}\n", " ".repeat(indent + 2));
        }
    }
    text
}

/// A text of any shape.
fn shape(rng: &mut Rng) -> String {
    match rng.below(8) {
        0 => rng
            .word(&[
                "",
                " ",
                "1",
                "yes",
                "null",
                "2020-01-02",
                "0644",
                "1e3",
                "~",
                "12:30",
                "<<",
                "=",
                "1_000",
            ])
            .to_owned(),
        1 => rng
            .word(&[
                "a\u{85}b",
                "a \u{85} b",
                "a\u{2028}b",
                "a \u{2029}b",
                "\u{feff}a",
                "a\u{feff}",
                "a\u{a0}",
                "a\u{7f}",
                "\u{fffd}",
                "\u{10ffff}",
                "a\u{2028}",
            ])
            .to_owned(),
        2 => rng
            .word(&[
                "a\nb",
                "a\n",
                "\na",
                "a\n\n",
                " a\nb",
                "a\n b\nc\n",
                "a \nb",
                "a\tb\n",
                "\n",
                "\t",
                "a\r\nb",
                "a\u{2028}b\n",
            ])
            .to_owned(),
        3 => "a long text of words ".repeat(rng.between(4, 9)),
        _ => format!("{}{}{}", rng.word(&WORDS), rng.word(&["", " ", "\n", "\n\n"]), rng.word(&WORDS)),
    }
}

fn double_quoted(rng: &mut Rng, text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out += "\\\"",
            '\\' => out += "\\\\",
            '\n' => out += "\\n",
            '\r' => out += "\\r",
            '\t' if rng.chance(50) => out += "\\t",
            c if c.is_control() || "\u{2028}\u{2029}\u{feff}".contains(c) => {
                out += &format!("\\u{:04x}", u32::from(c))
            }
            c => out.push(c),
        }
    }
    out + "\""
}

/// A scalar that may go on on the next line.
fn scalar(rng: &mut Rng, indent: usize) -> String {
    const PLAIN: [&str; 44] = [
        "",
        "x",
        "x y",
        "~",
        "null",
        "Null",
        "true",
        "False",
        "yes",
        "NO",
        "on",
        "y",
        "n",
        "0",
        "-0",
        "+5",
        "0644",
        "08",
        "0o17",
        "0x1F",
        "0b11",
        "1_000",
        "1.",
        ".5",
        "1.50",
        "1e3",
        "1E+3",
        "1e400",
        ".inf",
        "-.INF",
        ".nan",
        "2020-01-02",
        "2020-1-2",
        "2020-01-02T03:04:05Z",
        "2020-01-02 03:04:05.60",
        "12:30",
        "9007199254740993",
        "9223372036854775808",
        "18446744073709551616",
        "1000000",
        "1234567.5",
        "=",
        "<<",
        "é",
    ];
    match rng.below(10) {
        0..=3 => rng.word(&PLAIN).to_owned(),
        4 => format!(
            "one{}two",
            rng.word(&["\n", "\n\n", " \n "]).replace('\n', &format!("\n{}", " ".repeat(indent)))
        ),
        5 | 6 => format!("'{}'", one_line(rng).replace('\'', "''")),
        7 => broken(rng, indent),
        _ => {
            let text = shape(rng);
            double_quoted(rng, &text)
        }
    }
}

/// A value between brackets.
fn flow(rng: &mut Rng, depth: usize) -> String {
    let item = |rng: &mut Rng| match rng.below(8) {
        0 if depth > 0 => flow(rng, depth - 1),
        1 => String::new(),
        2 => format!("{}1", tag(rng)),
        3 => {
            let text = shape(rng);
            double_quoted(rng, &text)
        }
        _ => rng
            .word(&["x", "1", "1.0", "true", "null", "'q'", "\"d\"", "yes", "2020-01-02", "1e3", "10000000"])
            .to_owned(),
    };
    let gap = rng.word(&["", "", "", " ", "\n  ", "\n\t", "\t"]);
    let end = rng.word(&["", "", "", ",", " "]);
    if rng.chance(40) {
        let items: Vec<String> =
            (0..rng.below(4)).map(|_| item(rng)).filter(|item| !item.is_empty()).collect();
        let end = if items.is_empty() { "" } else { end };
        return format!("[{gap}{}{end}{gap}]", items.join(rng.word(&[", ", ",", " , "])));
    }
    let items: Vec<String> = (0..rng.below(4))
        .map(|n| {
            format!(
                "{}: {}",
                rng.word(&["f", "\"g\"", "'h'", "i"]).replace(['f', 'g', 'h', 'i'], &format!("f{n}")),
                item(rng)
            )
        })
        .collect();
    let end = if items.is_empty() { "" } else { end };
    format!("{{{gap}{}{end}{gap}}}", items.join(", "))
}

/// A field of the kustomization that changes what was read.
fn change(rng: &mut Rng, n: usize, first: Head, files: &mut BTreeMap<String, Content>) -> String {
    let serial = format!("p{n}.yaml");
    match rng.below(10) {
        0 | 1 => {
            let patch = if rng.chance(95) { object(rng, "a", first) } else { "# nothing\n".to_owned() };
            files.insert(serial.clone(), file(rng, patch));
            if rng.chance(15) {
                format!("patchesStrategicMerge: [{serial}]\n")
            } else {
                format!("patches: [{{path: {serial}}}]\n")
            }
        }
        2 | 3 => {
            let target = target(rng);
            let path = rng.word(&[
                "/data/z",
                "/metadata/annotations",
                "/spec/k0",
                "/metadata/labels/k1",
                "data/z",
                "/metadata/name",
                "",
            ]);
            let value = rng.word(&[
                "\"x\"",
                "1",
                "{}",
                "null",
                "9007199254740993",
                "[1, 1.5]",
                "\"\"",
                "{\"k\": \"a\\nb\"}",
                "\"b\"",
            ]);
            let op = rng.word(&["add", "add", "add", "replace", "remove", "test"]);
            let json = format!("[{{\"op\": \"{op}\", \"path\": \"{path}\", \"value\": {value}}}]");
            let yaml = format!("- op: {op}\n  path: {path}\n  value:{}", value_of_patch(rng));
            let patch = if rng.chance(60) { json } else { yaml };
            files.insert(serial.clone(), file(rng, patch));
            format!("patches: [{{path: {serial}, target: {target}}}]\n")
        }
        4 => format!("commonAnnotations:{}", block_map(rng, 2, 0)),
        5 => format!("labels:\n- includeSelectors: true\n  pairs:{}", block_map(rng, 4, 0)),
        6 => {
            let from =
                rng.word(&["spec.k0", "spec.k1", "metadata.annotations.k0", "metadata.name", "spec.k2.0"]);
            let to = rng.word(&[
                "spec.k1",
                "data.z",
                "metadata.annotations.z",
                "metadata.name",
                "spec.k0.[k0=x*]",
            ]);
            let (kind, from) = (first.1, from.replace("spec", first.2));
            format!(
                "replacements: [{{source: {{kind: {kind}, name: a, fieldPath: {from}}}, targets: [{{select: {}, fieldPaths: [\"{to}\"], options: {{create: true}}}}]}}]\n",
                target(rng)
            )
        }
        7 => {
            let text = shape(rng);
            files.insert("f.txt".to_owned(), file(rng, text));
            let text = format!("k={}", rng.word(&["1", "a b", "'q'", "x\n y\n", "\u{85}"]));
            let literal = double_quoted(rng, &text);
            let kind = rng.word(&["configMapGenerator", "secretGenerator"]);
            format!("{kind}: [{{name: g, files: [f.txt], literals: [{literal}]}}]\n")
        }
        8 => charts::field(rng, &serial, files),
        _ => {
            let config = format!(
                "apiVersion: builtin\nkind: AnnotationsTransformer\nmetadata: {{name: t}}\nannotations:{}fieldSpecs: [{{path: metadata/annotations, create: true}}]\n",
                block_map(rng, 2, 0)
            );
            files.insert(serial.clone(), file(rng, config));
            format!("transformers: [{serial}]\n")
        }
    }
}

fn value_of_patch(rng: &mut Rng) -> String {
    value(rng, 2, 1)
}

/// A selector made of parts of patterns.
fn target(rng: &mut Rng) -> String {
    const PARTS: [&str; 44] = [
        "a",
        "a",
        "aa",
        "b",
        ".",
        ".*",
        "a*",
        "a+",
        "a?",
        "[a-c]",
        "[^b]",
        "[[a]",
        "[a[b]]",
        "[a&&b]",
        "[a--b]",
        "a{2}",
        "a{1,}",
        "a{",
        "a{,2}",
        "a{1, 2}",
        "\\141",
        "\\x61",
        "\\Qa\\E",
        "\\.",
        "\\w",
        "\\d",
        "\\b",
        "\\B",
        "\\-",
        "(a)",
        "(?:a|b)",
        "(?i)A",
        "(?i:A)",
        "(?P<n>a)",
        "(?x)a",
        "a**",
        "^",
        "$",
        "|",
        "[[:alpha:]]",
        "[:a]",
        "\\z",
        "(",
        "]",
    ];
    const LABELS: [&str; 22] = [
        "k0",
        "k0=x",
        "k0!=x",
        "!k0",
        "k0 in (x,y)",
        "k0 notin (x)",
        "k0>1",
        "k0<5",
        "k0=",
        "k0='x'",
        "k0==x",
        "k0=x,k1",
        "k0,",
        ",k0",
        "k0 in x",
        "k0 in ()",
        "k0 in (,x)",
        "a/b=c",
        "-k",
        "k0=a b",
        "k0=1",
        "k0 = x",
    ];
    let mut fields = Vec::new();
    if rng.chance(75) {
        let pattern: String = (0..rng.between(1, 3)).map(|_| rng.word(&PARTS)).collect();
        fields.push(format!("name: '{pattern}'"));
    }
    if rng.chance(40) || fields.is_empty() {
        fields.push(format!("kind: {}", rng.word(&["X", "ConfigMap", "'Con.*'", "'X|Secret'", "Custom"])));
    }
    if rng.chance(25) {
        fields.push(format!(
            "{}: \"{}\"",
            rng.word(&["labelSelector", "annotationSelector"]),
            rng.word(&LABELS)
        ));
    }
    format!("{{{}}}", fields.join(", "))
}
