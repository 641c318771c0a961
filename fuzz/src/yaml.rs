//! Any text: reading it ends, and what was read is written so that it reads back equal. Comments may find another
//! place when they are read again.

use crate::inputs::on_thread;
use flotilla_yaml::{Node, Options, Schema, parse, parse_with, write_canonical, write_documents};

pub fn run(bytes: &[u8]) {
    on_thread(|| check(bytes));
}

fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let bare = Options { skip_comments: true, last_key_wins: true, ..Options::default() };
    let _ = parse_with(text, &bare);
    let as_resource = Options { schema: Schema::Kustomize, skip_comments: true, ..Options::default() };
    parse_with(text, &as_resource).unwrap_or_default().iter().for_each(canonical);
    let Ok(mut nodes) = parse(text) else { return };
    let written = write_documents(&nodes);
    let read = parse(&written).expect("what was written can be read");
    assert_eq!(read, nodes, "{written}");
    nodes.iter_mut().for_each(Node::strip_comments);
    let bare = write_documents(&nodes);
    assert_eq!(write_documents(&parse(&bare).expect("what was written can be read")), bare);
    for node in &nodes {
        let _ = node.to_json();
        canonical(node);
    }
}

/// What is printed means what the node does.
fn canonical(node: &Node) {
    if let (Ok(meaning), Ok(text)) = (node.to_json_as(Schema::Kustomize), write_canonical(node)) {
        let read = parse(&text).expect("canonical text can be read");
        let again = read.first().map(|n| n.to_json_as(Schema::Kustomize).expect("it was JSON"));
        assert_eq!(again.unwrap_or_default(), meaning, "{text}");
    }
}
