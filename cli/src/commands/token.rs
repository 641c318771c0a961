//! `flotilla token`

use clap::{Args, Subcommand};
use flotilla_proto::api::{NewToken, Role};

use super::rows;
use crate::Context;
use crate::args::{self, OutputArgs};
use crate::error::Error;
use crate::exit::Code;
use crate::output::date;

/// Manage the tokens with which people and programs use the hub
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    Create(CreateArgs),
    /// List the tokens, without their secrets
    List(OutputArgs),
    /// End a token at once
    Revoke {
        /// Name of the token
        name: String,
    },
}

/// Make a token; its secret is printed once and kept nowhere
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Name of the token: 1 to 63 lower-case letters, digits and '-'
    name: String,
    /// What it allows: view, operate, approve or admin; each may do what those before it may
    #[arg(long)]
    role: Role,
    /// When it ends: 90s, 15m, 24h, 30d; never if it is left out
    #[arg(long, value_name = "TIME", value_parser = args::duration)]
    expires: Option<u64>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) async fn run(context: &Context, command: TokenCommand) -> Result<Code, Error> {
    let client = context.hub()?;
    match command {
        TokenCommand::Create(CreateArgs { name, role, expires, output }) => {
            let made = client.create_token(&NewToken { name, role, expires_in: expires }).await?;
            let until =
                made.token.expires_at.map_or("for ever".to_owned(), |at| format!("until {}", date(at)));
            context.terminal.note(&format!("token {} ({}), valid {until}", made.token.name, made.token.role));
            context.terminal.show(output.output, &made, |_| format!("{}\n", made.secret))?;
        }
        TokenCommand::List(output) => {
            rows::show(&context.terminal, output.output, "tokens", &client.tokens().await?)?;
        }
        TokenCommand::Revoke { name } => {
            let done = client.revoke_token(&name).await?;
            context.terminal.note(&super::said(&done, &format!("token {name} is revoked")));
        }
    }
    Ok(Code::Done)
}
