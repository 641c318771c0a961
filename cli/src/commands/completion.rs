//! `flotilla completion`

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::Context;
use crate::args::Cli;
use crate::error::Error;
use crate::exit::Code;

/// Print a completion script for a shell
///
/// For this shell only: `source <(flotilla completion bash)`. For all: write it where your shell looks.
#[derive(Debug, Args)]
pub(crate) struct CompletionArgs {
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(context: &Context, args: CompletionArgs) -> Result<Code, Error> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "flotilla", &mut script);
    context.terminal.print(&String::from_utf8_lossy(&script))?;
    Ok(Code::Done)
}
