//! From trees to text.

use crate::json::JsonError;
use crate::node::Node;

/// The text as kyaml writes it, with a line break at the end: keys in their order, styles and comments kept where
/// the content allows, two spaces for mappings, none for sequences in mappings, lines never folded.
pub fn write(node: &Node) -> String {
    write_documents(std::slice::from_ref(node))
}

/// As [`write`], documents separated by `---`.
pub fn write_documents(nodes: &[Node]) -> String {
    let _ = nodes;
    unimplemented!("follows")
}

/// The text as `kustomize build` prints an object: the JSON meaning under
/// [`Schema::Kustomize`](crate::Schema::Kustomize), keys sorted, comments gone, strings quoted only where they
/// must be, long lines folded at 80 columns.
///
/// # Errors
/// Where the node has no JSON meaning; see [`Node::to_json_as`].
pub fn write_canonical(node: &Node) -> Result<String, JsonError> {
    write_canonical_documents(std::slice::from_ref(node))
}

/// As [`write_canonical`], documents separated by `---`: the output of `kustomize build`.
pub fn write_canonical_documents(nodes: &[Node]) -> Result<String, JsonError> {
    let _ = nodes;
    unimplemented!("follows")
}
