//! `flotilla token`

use clap::{Args, Subcommand};
use flotilla_api::{NewToken, Role, Scope, Token};
use flotilla_core::ClusterName;
use flotilla_core::names::is_dns_label;

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
    /// When it ends: 90s, 15m, 24h, 30d, or never
    #[arg(long, value_name = "TIME", default_value = "90d", value_parser = expiry)]
    expires: Expiry,
    /// Reach only this cluster and what else is named; may be repeated
    #[arg(long = "cluster", value_name = "CLUSTER")]
    clusters: Vec<ClusterName>,
    /// Reach only the clusters of this ClusterGroup and what else is named; may be repeated
    #[arg(long = "group", value_name = "GROUP", value_parser = label)]
    groups: Vec<String>,
    /// Reach only units, sources and secrets of this namespace; may be repeated
    #[arg(short, long = "namespace", value_name = "NAMESPACE", value_parser = label)]
    namespaces: Vec<String>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expiry {
    Never,
    /// In seconds.
    In(u64),
}

fn expiry(text: &str) -> Result<Expiry, String> {
    if text == "never" { Ok(Expiry::Never) } else { args::duration(text).map(Expiry::In) }
}

fn label(text: &str) -> Result<String, String> {
    if is_dns_label(text) {
        Ok(text.to_owned())
    } else {
        Err("use 1 to 63 lower-case letters, digits and '-'".to_owned())
    }
}

pub(crate) async fn run(context: &Context, command: TokenCommand) -> Result<Code, Error> {
    let client = context.hub()?;
    match command {
        TokenCommand::Create(CreateArgs { name, role, expires, clusters, groups, namespaces, output }) => {
            let (expires_in, never_expires) = match expires {
                Expiry::Never => (None, true),
                Expiry::In(seconds) => (Some(seconds), false),
            };
            let clusters = clusters.iter().map(ToString::to_string).collect();
            let scope = Scope { clusters, groups, namespaces };
            let made = client
                .create_token(&NewToken { name, role, expires_in, never_expires, scope: scope.clone() })
                .await?;
            if made.token.scope != scope {
                // An older hub leaves out what it does not know: such a token reaches everything.
                client.revoke_token(&made.token.name).await?;
                return Err(Error::new(
                    Code::Refused,
                    format!("the hub does not know scopes of tokens; {} is revoked again", made.token.name),
                )
                .hint("upgrade the hub"));
            }
            let Token { name, role, scope, expires_at, .. } = &made.token;
            let until =
                expires_at.map_or("until it is revoked".to_owned(), |at| format!("until {}", date(at)));
            context.terminal.note(&format!("token {name} ({role}, {scope}), valid {until}"));
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
