//! `flotilla approve`

use clap::Args;
use flotilla_core::ClusterName;

use crate::Context;
use crate::error::Error;
use crate::exit::Code;

/// Let objects be deleted that a guard kept, by the digest that `flotilla status CLUSTER` and events show
#[derive(Debug, Args)]
pub(crate) struct ApproveArgs {
    /// Name of the cluster
    cluster: ClusterName,
    /// What is approved: exactly the objects that this digest was made of. Its first 8 digits or more are enough, as long as
    /// nothing else in the cluster begins with them
    #[arg(value_name = "DIGEST", value_parser = digest)]
    digest: String,
}

/// The fewest digits that name an approval, as the hub has it.
const SHORTEST: usize = 8;

fn digest(text: &str) -> Result<String, String> {
    if (SHORTEST..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(format!("'{text}' is not a digest of {SHORTEST} to 64 hexadecimal digits"))
}

pub(crate) async fn run(context: &Context, args: ApproveArgs) -> Result<Code, Error> {
    let ApproveArgs { cluster, digest } = args;
    let done = context.hub()?.approve(&cluster, &digest).await?;
    context.terminal.note(&super::said(&done, &format!("approved on cluster {cluster}")));
    Ok(Code::Done)
}
