//! Sources behind HTTP, on real servers: OCI registries, Helm repositories.

mod helm;
mod oci;
mod support;
