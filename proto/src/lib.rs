//! The contract between hub and agents: gRPC, [`v1`].
//!
//! Wire types stop here. [`convert`] turns them into the domain's types, where what is invalid is refused
//! with the name of the field.

pub mod answer;
pub mod body;
pub mod convert;
pub mod question;

/// Generated from `proto/flotilla.v1.proto`; its comments are the specification.
#[allow(unreachable_pub, clippy::all)]
pub mod v1 {
    tonic::include_proto!("flotilla.v1");
}

/// The newest minor version of the protocol that this build speaks.
pub const PROTOCOL_MINOR: u32 = 4;

/// From this minor version on, what an agent found is a message, and before it a JSON text.
pub const FOUND_MINOR: u32 = 4;

/// The oldest minor version that this build can read. In those before, the numbers of the enums meant something else.
pub const PROTOCOL_OLDEST: u32 = 2;

/// The newest minor version that the other side speaks, if this build can read it.
///
/// # Errors
/// Where the other side is too old, or does not say; `other` names it: `agent`, `hub`.
pub fn check_protocol(protocol: Option<&v1::Protocol>, other: &'static str) -> Result<u32, convert::Invalid> {
    let minor = protocol.map_or(0, |protocol| protocol.minor);
    if minor >= PROTOCOL_OLDEST {
        return Ok(minor);
    }
    let reason = format!(
        "the {other} speaks version 1.{minor} of the protocol, and this side reads 1.{PROTOCOL_OLDEST} and newer: \
         upgrade the {other}"
    );
    Err(convert::Invalid::new("protocol", reason))
}

/// The trailer of a refusal that says for machines why, as `flotilla.v1.proto` lists it.
pub const REFUSAL: &str = "flotilla-refusal";

/// The refusal of an agent whose cluster was deleted at the hub.
pub const DELETED: &str = "deleted";

/// The largest message that either side sends or takes, in bytes.
pub const MAX_MESSAGE: usize = 1 << 20;

/// The largest piece of a body in one message, in bytes.
pub const MAX_CHUNK: usize = 256 << 10;

/// The largest body of one object, in bytes. The API server takes 1.5 MiB (etcd's limit on a request).
pub const MAX_BODY: usize = 3 << 20;
