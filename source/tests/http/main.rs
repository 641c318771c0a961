//! Sources behind HTTP, on real servers: OCI registries, Helm repositories, buckets.

mod bucket;
mod helm;
mod oci;
mod secure;
mod support;
