//! Small trees whose texts are mean: every style of scalars with every shape of text, tags, comments anywhere, line ends and
//! byte order marks, keys of every type, lists inside of lists, JSON, patterns and selectors.
//!
//! They are made as text, since it is the text that is mean: many are refused, and both builds have to.

mod changes;
mod charts;
mod scalars;

use std::collections::BTreeMap;

use changes::change;
use scalars::{block_scalar, double_quoted, scalar, shape, tag, text};

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
