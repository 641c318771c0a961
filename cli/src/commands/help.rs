//! `flotilla help`

use clap::{Args, CommandFactory as _};

use crate::Context;
use crate::args::Cli;
use crate::error::Error;
use crate::exit::Code;
use crate::{env, exit};

/// Help on a command, or on exit-codes or environment
#[derive(Debug, Args)]
pub(crate) struct HelpArgs {
    /// A command with its subcommands, `exit-codes` or `environment`
    topic: Vec<String>,
}

pub(crate) fn run(context: &Context, args: HelpArgs) -> Result<Code, Error> {
    let topic: Vec<&str> = args.topic.iter().map(String::as_str).collect();
    let text = match topic[..] {
        ["exit-codes"] => exit::table(),
        ["environment"] => env::table(),
        _ => of_command(&topic)?,
    };
    context.terminal.print(&text)?;
    Ok(Code::Done)
}

fn of_command(topic: &[&str]) -> Result<String, Error> {
    let mut root = Cli::command();
    root.build();
    let mut command = &mut root;
    for name in topic {
        command = command.find_subcommand_mut(name).ok_or_else(|| {
            Error::usage(format!("there is no help on '{}'", topic.join(" ")))
                .hint("`flotilla help` lists the commands; `exit-codes` and `environment` are topics too")
        })?;
    }
    Ok(command.render_long_help().to_string())
}
