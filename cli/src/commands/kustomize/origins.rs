//! What a build says of where each value comes from.
//!
//! The text is the one that `kustomize build` prints, with a comment beside each value; it reads back as the same
//! objects. To know which value is on which line, it is read again and walked beside what it was written from.

use clap::ValueEnum;
use flotilla_kustomize::files::TreePath;
use flotilla_kustomize::{Origin, Output};
use flotilla_yaml::{JsonError, Node, Schema, Style, Value};
use serde::Serialize;

/// How origins are shown.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Form {
    /// A comment beside each value.
    Yaml,
    /// One object a line for each value.
    Json,
}

/// Comments stand in one column, unless a line is longer than this.
const WIDEST: usize = 70;

/// A value in one line.
#[derive(Serialize)]
struct Line<'a> {
    kind: &'a str,
    namespace: &'a str,
    name: &'a str,
    /// As a JSON pointer.
    path: &'a str,
    value: serde_json::Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
}

pub(super) fn text(
    output: &Output,
    form: Form,
    place: &dyn Fn(&TreePath) -> String,
) -> Result<String, JsonError> {
    let mut parts = Vec::new();
    for document in &output.documents {
        parts.push(match form {
            Form::Yaml => yaml(output, &document.node, place)?,
            Form::Json => json(output, &document.node, place)?,
        });
    }
    Ok(parts.join(if matches!(form, Form::Yaml) { "---\n" } else { "" }))
}

fn json(output: &Output, node: &Node, place: &dyn Fn(&TreePath) -> String) -> Result<String, JsonError> {
    let text = |path: &[&str]| node.at(path).and_then(|n| n.text()).unwrap_or_default();
    let (kind, namespace, name) =
        (text(&["kind"]), text(&["metadata", "namespace"]), text(&["metadata", "name"]));
    let (kind, namespace, name) = (kind.to_string(), namespace.to_string(), name.to_string());
    let mut lines = String::new();
    for (path, leaf) in leaves(node) {
        let origin = output.origin_of(leaf);
        let line = Line {
            kind: &kind,
            namespace: &namespace,
            name: &name,
            path: &path,
            value: leaf.to_json_as(Schema::Kustomize)?,
            file: origin.file.as_ref().map(place),
            line: (origin.line > 0).then_some(origin.line),
        };
        lines.push_str(&serde_json::to_string(&line).unwrap_or_default());
        lines.push('\n');
    }
    Ok(lines)
}

/// The values within a node that hold no others, each with its JSON pointer.
pub(in crate::commands) fn leaves(node: &Node) -> Vec<(String, &Node)> {
    let mut leaves = Vec::new();
    collect(node, &mut String::new(), &mut leaves);
    leaves
}

fn collect<'a>(node: &'a Node, path: &mut String, leaves: &mut Vec<(String, &'a Node)>) {
    let length = path.len();
    match &node.value {
        Value::Map(map) if !map.is_empty() => {
            for entry in map.iter() {
                let key = entry.key.text().unwrap_or_default().replace('~', "~0").replace('/', "~1");
                path.push('/');
                path.push_str(&key);
                collect(&entry.value, path, leaves);
                path.truncate(length);
            }
        }
        Value::Seq(seq) if !seq.is_empty() => {
            for (n, item) in seq.iter().enumerate() {
                path.push_str(&format!("/{n}"));
                collect(item, path, leaves);
                path.truncate(length);
            }
        }
        _ => leaves.push((path.clone(), node)),
    }
}

/// A value of the written text.
struct Mark<'a> {
    /// Where it begins; of a block, where its header is.
    line: usize,
    is_block: bool,
    from: &'a Node,
}

fn yaml(output: &Output, node: &Node, place: &dyn Fn(&TreePath) -> String) -> Result<String, JsonError> {
    let text = flotilla_yaml::write_canonical(node)?;
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    // What was just written reads back; if it did not, it would be shown without origins.
    let written = flotilla_yaml::parse(&text).unwrap_or_default();
    let (mut marks, mut starts) = (Vec::new(), Vec::new());
    if let Some(written) = written.first() {
        walk(written, node, 0, &mut marks, &mut starts);
    }
    starts.sort_unstable();
    let mut comments: Vec<(usize, String)> = Vec::new();
    for mark in marks {
        let next = starts[starts.partition_point(|start| *start <= mark.line)..].first();
        let last = next.map_or(lines.len(), |next| next - 1);
        let line = if mark.is_block { mark.line } else { last };
        let Some(text) = line.checked_sub(1).and_then(|line| lines.get(line)) else { continue };
        let is_header =
            text.trim_end_matches(|c: char| matches!(c, '+' | '-') || c.is_ascii_digit()).ends_with('|');
        if mark.is_block != is_header && mark.is_block {
            continue;
        }
        comments.push((line - 1, shown(&output.origin_of(mark.from), place)));
    }
    let width = |line: &usize| lines[*line].chars().count();
    let column = comments.iter().map(|(line, _)| width(line)).filter(|w| *w <= WIDEST).max().unwrap_or(0);
    for (line, comment) in comments {
        let pad = column.saturating_sub(lines[line].chars().count());
        lines[line].push_str(&format!("{}  # {comment}", " ".repeat(pad)));
    }
    Ok(lines.join("\n") + "\n")
}

/// Goes through both trees. `line` is that of the key or dash before the value.
fn walk<'a>(written: &Node, from: &'a Node, line: usize, marks: &mut Vec<Mark<'a>>, starts: &mut Vec<usize>) {
    let start = |node: &Node| node.pos.line as usize;
    match (&written.value, &from.value) {
        (Value::Map(map), Value::Map(origin)) if !map.is_empty() => {
            for entry in map.iter() {
                starts.push(start(&entry.key));
                let value = entry.key.text().and_then(|key| origin.get(key));
                if let Some(value) = value {
                    walk(&entry.value, value, start(&entry.key), marks, starts);
                }
            }
        }
        (Value::Seq(seq), Value::Seq(origin)) if !seq.is_empty() => {
            for (item, from) in seq.iter().zip(origin.iter()) {
                let is_block = matches!(item.style, Style::Literal | Style::Folded);
                let line = start(item) - usize::from(is_block);
                starts.push(line);
                walk(item, from, line, marks, starts);
            }
        }
        _ => {
            let is_block = matches!(written.style, Style::Literal | Style::Folded);
            marks.push(Mark { line, is_block, from });
        }
    }
}

fn shown(origin: &Origin, place: &dyn Fn(&TreePath) -> String) -> String {
    match &origin.file {
        Some(file) => format!("{}:{}", place(file), origin.line),
        None => "made by the build".into(),
    }
}

#[cfg(test)]
mod tests {
    use flotilla_kustomize::files::MemoryFiles;
    use flotilla_kustomize::{Options, build};

    use super::*;

    const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n  annotations: {}\ndata:\n  \
         long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbbbbbbbbbbbbbbb ccccccccccccccccccccccccc ddddddddd\n  \
         quoted: \"- aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbbbbbbbbbbbbbbb ccccccccccccccccccccccccc dd\"\n  \
         text: |\n    one\n\n    # two\n  last: x\nlist:\n- a: 1\n  b:\n  - |\n    line\n    more\n  - []\n- z\n";

    #[test]
    fn each_value_has_its_place_and_the_text_reads_back_the_same() {
        let files = MemoryFiles::new([
            ("base/kustomization.yaml", "resources: [map.yaml]\n"),
            ("base/map.yaml", MAP),
            ("over/kustomization.yaml", "namePrefix: x-\nresources: [../base]\npatches:\n- path: p.yaml\n"),
            ("over/p.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  last: y\n"),
        ]);
        let output = build(&files, &TreePath::from_root("over").unwrap(), &Options::default()).unwrap();
        let place = |path: &TreePath| path.to_string();
        let shown = text(&output, Form::Yaml, &place).unwrap();
        let read = flotilla_yaml::parse(&shown).unwrap();
        assert_eq!(
            flotilla_yaml::write_canonical_documents(&read).unwrap(),
            output.to_yaml().unwrap(),
            "comments change nothing:\n{shown}"
        );
        for (start, origin) in [
            ("apiVersion: v1", "base/map.yaml:1"),
            ("  last: \"y\"", "over/p.yaml:6"),
            ("    ddddddddd", "base/map.yaml:7"),
            ("  text: |", "base/map.yaml:10"),
            ("- a: 1", "base/map.yaml:15"),
            ("  - |", "base/map.yaml:18"),
            ("  - []", "base/map.yaml:20"),
            ("- z", "base/map.yaml:21"),
        ] {
            let line = shown.lines().find(|line| line.starts_with(start));
            assert!(line.is_some_and(|line| line.ends_with(&format!("  # {origin}"))), "{start}: {shown}");
        }
        let values = shown.lines().filter(|line| line.contains(".yaml:")).count();
        let lines = text(&output, Form::Json, &place).unwrap();
        assert_eq!(lines.lines().count(), values, "{lines}\n{shown}");
        let wanted = r#"{"kind":"ConfigMap","namespace":"","name":"x-a","path":"/data/last","value":"y","file":"over/p.yaml","line":6}"#;
        assert!(lines.lines().any(|line| line == wanted), "{lines}");
    }
}
