//! A kustomize build as a pure function: a file tree and a root in, documents out.

pub mod files;
