//! `flotilla resume`

use clap::Args;
use flotilla_api::Resume;

use super::target::Target;
use crate::Context;
use crate::error::Error;
use crate::exit::Code;

/// End a manual suspension; a suspension in Git stays
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    target: Target,
}

pub(crate) async fn run(context: &Context, args: ResumeArgs) -> Result<Code, Error> {
    let target = args.target.named()?;
    let done = context.hub()?.resume(&target.cluster, &Resume { unit: target.unit_text() }).await?;
    context.terminal.note(&super::said(&done, &format!("{target} is resumed")));
    Ok(Code::Done)
}
