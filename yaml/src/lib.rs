//! Kubernetes manifests as a tree that keeps what people wrote: order, comments, quotes, positions.
//!
//! ```text
//!            parse                              write            text as kyaml writes it: order, style and comments kept
//!   text ───────────► Vec<Node> ─┬──────────► write_canonical    text as `kustomize build` prints it: sorted, restyled
//!   from_json ──────► Node       └──────────► to_json            what the API server's clients send
//! ```
//!
//! A [`Node`] is a value (scalar, sequence or mapping) with its style, its position in the text and, where
//! there are any, its comments and tag. Collections are shared and copied on write, so cloning a document
//! costs one reference count and changing a clone copies only the path to the change.
//!
//! Scalars keep their text as written (`1.0`, `0644`, `1e3`), together with the [`Kind`] that Kubernetes' tools
//! give to it. There are two such readings, because the tools use two YAML libraries; see [`Schema`].
//!
//! The syntax itself is read by `granit-parser`; this crate builds the tree (anchors, merge keys, duplicate
//! keys, limits) and gives scalars their meaning.

mod build;
mod canonical;
mod collections;
mod comments;
mod emit;
mod json;
mod node;
mod parse;
mod scalar;
mod style;
mod text;
mod timestamp;
mod write;

pub use canonical::{print_documents, write_canonical, write_canonical_documents};
pub use collections::{Entry, Map, Seq};
pub use json::JsonError;
pub use node::{Comments, Link, Node, Pos, Style, Typing, Value};
pub use parse::{First, Limits, Options, ParseError, parse, parse_first, parse_with};
pub use scalar::{Kind, Scalar, Schema};
pub use smol_str::SmolStr;
pub use text::{decode, fold_next_lines};
pub use write::{write, write_documents, write_documents_wide};
