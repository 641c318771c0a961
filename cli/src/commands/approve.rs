//! `flotilla approve`

use clap::Args;
use flotilla_core::{ClusterName, Digest};

use crate::Context;
use crate::error::Error;
use crate::exit::Code;

/// Let objects go that a guard kept, by the digest that `flotilla status CLUSTER` shows
#[derive(Debug, Args)]
pub(crate) struct ApproveArgs {
    /// Name of the cluster
    cluster: ClusterName,
    /// What is approved: exactly the objects that this digest was made of
    digest: Digest,
}

pub(crate) async fn run(context: &Context, args: ApproveArgs) -> Result<Code, Error> {
    let ApproveArgs { cluster, digest } = args;
    let done = context.hub()?.approve(&cluster, digest).await?;
    context.terminal.note(&super::said(&done, &format!("approved on cluster {cluster}")));
    Ok(Code::Done)
}
