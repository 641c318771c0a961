//! The contracts: between hub and agents (gRPC, [`v1`]) and between the hub and people (JSON, [`api`]).
//!
//! Wire types stop here. [`convert`] turns them into the domain's types, where what is invalid is refused
//! with the name of the field.

pub mod api;
pub mod body;
pub mod convert;
pub mod redact;

/// Generated from `proto/flotilla.v1.proto`; its comments are the specification.
#[allow(unreachable_pub, clippy::all)]
pub mod v1 {
    tonic::include_proto!("flotilla.v1");
}

/// The newest minor version of the protocol that this build speaks.
pub const PROTOCOL_MINOR: u32 = 1;

/// The largest message that either side sends or takes, in bytes.
pub const MAX_MESSAGE: usize = 1 << 20;

/// The largest piece of a body in one message, in bytes.
pub const MAX_CHUNK: usize = 256 << 10;

/// The largest body of one object, in bytes. The API server takes 1.5 MiB (etcd's limit on a request).
pub const MAX_BODY: usize = 3 << 20;
