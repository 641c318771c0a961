//! `flotilla`, the program that people talk to their fleet with.
//!
//! ```text
//!   args (clap) ─► commands::NAME (one file each) ─► output ─► stdout: data, and nothing else
//!                      │            │                   └────► stderr: notes, warnings, errors with a hint
//!                      │            └─ offline: a folder ─► flotilla_render, no hub
//!                      └─ client: HTTPS to the hub, which is known by its CA and identity (flotilla_runtime::tls)
//! ```
//! How it ends is an [`exit::Code`], published in `docs/cli.md`. Environment variables are in [`env`], and read
//! nowhere else.

mod args;
mod bases;
mod budget;
mod client;
mod commands;
mod config;
mod diff;
mod elsewhere;
mod env;
mod error;
mod exit;
#[cfg(test)]
mod hints;
mod install;
mod offline;
mod output;
#[cfg(test)]
mod reference;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Cli, Color};
use error::Error;
use exit::Code;
use output::Terminal;

/// What a command has at hand.
struct Context {
    terminal: Terminal,
    connection: args::ConnectionArgs,
}

impl Context {
    /// A client of the hub that flags, environment and configuration file name.
    fn hub(&self) -> Result<client::Client, Error> {
        let settings = config::resolve(&self.connection, &env::system, &self.terminal)?;
        client::Client::new(&settings)
    }
}

/// Runs the program with its command line.
pub fn main() -> ExitCode {
    flotilla_runtime::tls::install_crypto();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // What cannot be printed has nobody who reads it.
            let _ = error.print();
            let words: Vec<String> =
                std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
            if error.use_stderr()
                && let Some(hint) = elsewhere::hint(&words, &error)
            {
                Terminal::of_process(Color::default()).hint(hint);
            }
            let code = if error.use_stderr() { Code::Usage } else { Code::Done };
            return code.into();
        }
    };
    let terminal = Terminal::of_process(cli.color);
    let context = Context { terminal, connection: cli.connection };
    let ended = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::io("start the runtime", source))
        .and_then(|runtime| runtime.block_on(commands::run(&context, cli.command)));
    match ended {
        Ok(code) => code,
        Err(error) => {
            error.show(&context.terminal);
            error.code()
        }
    }
    .into()
}
