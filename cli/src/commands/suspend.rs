//! `flotilla suspend`

use clap::Args;
use flotilla_api::Suspend;

use super::target::Target;
use crate::Context;
use crate::error::Error;
use crate::exit::Code;

/// Leave a cluster, or a unit of it, as it is: nothing is applied, corrected or pruned
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct SuspendArgs {
    #[command(flatten)]
    target: Target,
    /// Why, for those who find it suspended
    #[arg(long, value_name = "TEXT", global = true, default_value = "", hide_default_value = true)]
    reason: String,
}

pub(crate) async fn run(context: &Context, args: SuspendArgs) -> Result<Code, Error> {
    let SuspendArgs { target, reason } = args;
    let target = target.named()?;
    let done = context.hub()?.suspend(&target.cluster, &Suspend { unit: target.unit_text(), reason }).await?;
    context.terminal.note(&super::said(&done, &format!("{target} is suspended")));
    Ok(Code::Done)
}
