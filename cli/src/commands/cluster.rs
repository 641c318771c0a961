//! `flotilla cluster`

use std::io::{BufRead as _, IsTerminal as _};

use clap::{Args, Subcommand};
use flotilla_core::ClusterName;
use flotilla_proto::api::{ConnectionState, NewJoinToken, Prune};

use super::adopt::{self, AdoptArgs};
use super::{rows, status};
use crate::Context;
use crate::args::{self, OutputArgs};
use crate::client::Client;
use crate::error::Error;
use crate::exit::Code;
use crate::output::date;

/// Let clusters in, look at them, cut them off, forget them
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    Token(TokenArgs),
    /// List the clusters; as `flotilla get clusters`
    List(OutputArgs),
    /// Show all of one cluster; as `flotilla status CLUSTER`
    Show {
        /// Name of the cluster
        cluster: ClusterName,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Cut a cluster's agent off at once; it needs a new join token to come back
    Revoke {
        /// Name of the cluster
        cluster: ClusterName,
    },
    Adopt(AdoptArgs),
    Delete(DeleteArgs),
}

/// Make a token with which one agent may join, once
#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// Name of the cluster
    cluster: ClusterName,
    /// Until when it can be used: 90s, 15m, 24h, 30d
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = args::duration)]
    expires: u64,
    /// The cluster has an agent already, and the new one takes its place
    #[arg(long)]
    replace: bool,
    /// A label of the cluster; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = args::pair)]
    labels: Vec<(String, String)>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Forget a cluster; its objects stay
///
/// The agent is cut off, what it manages goes on running. A cluster that Git defines stays in the list, without an
/// agent.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Name of the cluster
    cluster: ClusterName,
    /// Delete everything that the agent manages in the cluster before; the agent must be connected
    #[arg(long)]
    prune: bool,
    /// The cluster's name once more, in place of the question that --prune asks
    #[arg(long, value_name = "NAME", requires = "prune")]
    confirm: Option<String>,
}

pub(crate) async fn run(context: &Context, command: ClusterCommand) -> Result<Code, Error> {
    let client = context.hub()?;
    match command {
        ClusterCommand::Token(args) => token(context, &client, args).await,
        ClusterCommand::List(output) => {
            rows::show(&context.terminal, output.output, "clusters", &client.clusters().await?)?;
            Ok(Code::Done)
        }
        ClusterCommand::Show { cluster, output } => {
            status::once(context, &client, &cluster, output.output).await
        }
        ClusterCommand::Revoke { cluster } => {
            let done = client.revoke_cluster(&cluster).await?;
            context.terminal.note(&super::said(&done, &format!("cluster {cluster} is cut off")));
            Ok(Code::Done)
        }
        ClusterCommand::Adopt(args) => adopt::run(context, &client, args).await,
        ClusterCommand::Delete(args) => delete(context, &client, args).await,
    }
}

async fn token(context: &Context, client: &Client, args: TokenArgs) -> Result<Code, Error> {
    let TokenArgs { cluster, expires, replace, labels, output } = args;
    let request = NewJoinToken {
        cluster: cluster.to_string(),
        expires_in: Some(expires),
        replace,
        labels: labels.into_iter().collect(),
    };
    let made = client.join_token(&request).await?;
    context.terminal.note(&format!(
        "an agent can join as {} with this token, once, until {}; it will call {}",
        made.cluster,
        date(made.expires_at),
        made.addresses.join(", ")
    ));
    context.terminal.show(output.output, &made, |_| format!("{}\n", made.token))?;
    Ok(Code::Done)
}

async fn delete(context: &Context, client: &Client, args: DeleteArgs) -> Result<Code, Error> {
    let DeleteArgs { cluster: name, prune, confirm } = args;
    if prune {
        let cluster = client.cluster(&name).await?;
        if cluster.connection != ConnectionState::Connected {
            let state = cluster.connection.as_str();
            return Err(Error::new(Code::Refused, format!("cannot prune cluster {name}: its agent is {state}"))
                .hint("only its agent can delete objects; without --prune the cluster is forgotten and its objects stay"));
        }
        let confirm = match confirm {
            Some(confirm) => confirm,
            None => ask(context, &name, cluster.objects)?,
        };
        if confirm != name.as_str() {
            return Err(Error::usage(format!("'{confirm}' is not the cluster's name: nothing was deleted")));
        }
        let done = client.prune_cluster(&name, &Prune { confirm }).await?;
        context.terminal.note(&super::said(&done, &format!("the objects of cluster {name} are deleted")));
    }
    let done = client.delete_cluster(&name).await?;
    context.terminal.note(&super::said(&done, &format!("cluster {name} is forgotten")));
    context.terminal.note(what_stays(prune));
    Ok(Code::Done)
}

/// The hub has no way to the cluster any more: what is left to do is done there.
fn what_stays(pruned: bool) -> &'static str {
    if pruned {
        "its agent has nothing to do any more: remove it from the cluster, with the namespace flotilla-system"
    } else {
        "its agent goes on keeping what runs there as it is, until you remove the agent (kubectl delete, or stop its service); \
         the objects stay then too, with their labels and the namespace flotilla-system"
    }
}

fn ask(context: &Context, name: &ClusterName, objects: u32) -> Result<String, Error> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Error::usage("deleting everything in a cluster has to be confirmed")
            .hint(format!("without a terminal, say --confirm {name}")));
    }
    context
        .terminal
        .warn(&format!("this deletes all {objects} objects that Flotilla manages in cluster {name}"));
    context.terminal.note("type the cluster's name to go on:");
    let mut line = String::new();
    stdin.lock().read_line(&mut line).map_err(|error| Error::io("read the confirmation", error))?;
    Ok(line.trim().to_owned())
}
