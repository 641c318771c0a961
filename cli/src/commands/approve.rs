//! `flotilla approve`

use clap::Args;
use flotilla_core::ClusterName;

use crate::Context;
use crate::error::Error;
use crate::exit::Code;

/// Approve the deletion of objects that a guard kept, by the digest that `flotilla status CLUSTER` and events show
#[derive(Debug, Args)]
pub(crate) struct ApproveArgs {
    /// Name of the cluster
    #[arg(required_unless_present = "change")]
    cluster: Option<ClusterName>,
    /// What is approved: exactly the objects that this digest was made of. Its first 8 digits or more are enough, as long as
    /// nothing else in the cluster begins with them
    #[arg(value_name = "DIGEST", value_parser = digest, required_unless_present = "change")]
    digest: Option<String>,
    /// Let exactly the units and objects go that a change of the whole fleet takes away, by the digest that `flotilla get
    /// changes` shows
    #[arg(long, value_name = "DIGEST", value_parser = digest, conflicts_with_all = ["cluster", "digest"])]
    change: Option<String>,
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
    let (done, what) = match args {
        ApproveArgs { change: Some(change), .. } => {
            (context.hub()?.approve_change(&change).await?, "approved".to_owned())
        }
        ApproveArgs { cluster: Some(cluster), digest: Some(digest), .. } => {
            (context.hub()?.approve(&cluster, &digest).await?, format!("approved on cluster {cluster}"))
        }
        _ => return Err(Error::usage("name a cluster and a digest, or a change by --change")),
    };
    context.terminal.note(&super::said(&done, &what));
    Ok(Code::Done)
}
