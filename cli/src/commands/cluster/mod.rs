//! `flotilla cluster`

mod add;
mod token;

use std::collections::BTreeSet;
use std::io::{BufRead as _, IsTerminal as _};

use clap::{Args, Subcommand};
use flotilla_api::{ConnectionState, Prune, Tree, TreeUnit};
use flotilla_core::ClusterName;
use serde::Serialize;

use super::adopt::{self, AdoptArgs};
use super::{rows, status};
use crate::Context;
use crate::args::OutputArgs;
use crate::client::{Choice, Client};
use crate::error::Error;
use crate::exit::Code;
use crate::output::clean;

/// Let clusters join, show them, revoke them, delete them
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    Add(add::AddArgs),
    Token(token::TokenArgs),
    Tokens(token::TokensArgs),
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

/// Delete a cluster at the hub; its objects stay
///
/// Its agent ends its work: it applies, corrects and deletes nothing any more, and needs a new join token to come back. What it
/// managed goes on running and is listed. A cluster that Git defines stays in the list, without an agent.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Name of the cluster
    cluster: ClusterName,
    /// Delete everything that the agent manages in the cluster before; the agent must be connected
    #[arg(long)]
    prune: bool,
    /// Repeat the cluster's name, instead of answering the question that --prune asks
    #[arg(long, value_name = "NAME", requires = "prune")]
    confirm: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) async fn run(context: &Context, command: ClusterCommand) -> Result<Code, Error> {
    let client = context.hub()?;
    match command {
        ClusterCommand::Add(args) => add::run(context, &client, args).await,
        ClusterCommand::Token(args) => token::run(context, &client, args).await,
        ClusterCommand::Tokens(args) => token::list(context, &client, args).await,
        ClusterCommand::List(output) => {
            rows::show(
                &context.terminal,
                output.output,
                "clusters",
                &client.clusters(&Choice::default()).await?,
            )?;
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

/// A name with a letter wrong makes a cluster of its own, which runs nothing.
fn warn_of_undefined(context: &Context, cluster: &ClusterName) {
    context.terminal.warn(&format!(
        "Git does not define {cluster} as far as the hub has read: its agent has nothing to run until it does; \
         `flotilla get clusters` lists those that it defines"
    ));
}

/// What a unit had in a cluster that is deleted.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Had {
    unit: String,
    /// How many objects; of a unit that is held more than are named.
    count: u32,
    objects: Vec<String>,
}

fn had(tree: &Tree) -> Vec<Had> {
    let units = tree.units.iter().filter(|unit| unit.unit.objects > 0);
    let had = units.map(|TreeUnit { unit, objects }| {
        let objects: BTreeSet<String> = objects.iter().map(|object| object.object.to_string()).collect();
        let objects: Vec<String> = objects.into_iter().collect();
        Had { unit: unit.unit.clone(), count: unit.objects.max(objects.len() as u32), objects }
    });
    had.collect()
}

fn listed(had: &[Had], heading: &str, wide: bool) -> String {
    if had.is_empty() {
        return String::new();
    }
    let mut out = format!("{heading}:\n");
    for Had { unit, count, objects } in had {
        let s = if *count == 1 { "" } else { "s" };
        out += &format!("  {}: {count} object{s}\n", clean(unit));
        for object in objects.iter().filter(|_| wide) {
            out += &format!("    {}\n", clean(object));
        }
    }
    out
}

async fn delete(context: &Context, client: &Client, args: DeleteArgs) -> Result<Code, Error> {
    let DeleteArgs { cluster: name, prune, confirm, output } = args;
    let tree = client.tree(&name).await?;
    let had = had(&tree);
    let show = |heading: &str| context.terminal.show(output.output, &had, |wide| listed(&had, heading, wide));
    if prune {
        if tree.cluster.connection != ConnectionState::Connected {
            let state = tree.cluster.connection.as_str();
            return Err(Error::new(Code::Refused, format!("cannot prune cluster {name}: its agent is {state}"))
                .hint("only its agent can delete objects; without --prune the cluster is deleted at the hub and its objects stay"));
        }
        show(&format!("what is deleted from cluster {name}"))?;
        let confirm = match confirm {
            Some(confirm) => confirm,
            None => ask(context, &name, tree.cluster.objects)?,
        };
        if confirm != name.as_str() {
            return Err(Error::usage(format!("'{confirm}' is not the cluster's name: nothing was deleted")));
        }
        let done = client.prune_cluster(&name, &Prune { confirm }).await?;
        context.terminal.note(&super::said(&done, &format!("the objects of cluster {name} are deleted")));
    }
    let done = client.delete_cluster(&name).await?;
    if !prune {
        show(&format!("what stays in cluster {name}"))?;
    }
    context.terminal.note(&super::said(&done, &format!("cluster {name} is deleted")));
    if tree.cluster.enrolled_at.is_some() {
        context.terminal.note(what_is_left_to_do(prune));
    }
    Ok(Code::Done)
}

/// The hub has no way to the cluster any more: what is left to do is done there.
fn what_is_left_to_do(pruned: bool) -> &'static str {
    if pruned {
        "its agent has nothing to do any more: `flotilla uninstall agent --context CONTEXT --delete-namespace` removes it from the \
         cluster, `flotilla-agent uninstall` from a machine"
    } else {
        "the objects keep their labels; `flotilla uninstall agent --context CONTEXT` removes the agent from the cluster, \
         `flotilla-agent uninstall` from a machine"
    }
}

fn ask(context: &Context, name: &ClusterName, objects: u32) -> Result<String, Error> {
    context
        .terminal
        .warn(&format!("this deletes all {objects} objects that Flotilla manages in cluster {name}"));
    typed(context, "type the cluster's name to go on:", name.as_str())
}

/// What somebody types at a terminal in answer to a question.
pub(super) fn typed(context: &Context, question: &str, expected: &str) -> Result<String, Error> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Error::usage("a deletion has to be confirmed")
            .hint(format!("without a terminal, say --confirm {expected}")));
    }
    context.terminal.note(question);
    let mut line = String::new();
    stdin.lock().read_line(&mut line).map_err(|error| Error::io("read the confirmation", error))?;
    Ok(line.trim().to_owned())
}

/// Deletes a cluster at the hub and says what stays in it.
pub(super) async fn delete_at_hub(
    context: &Context,
    client: &Client,
    name: &ClusterName,
) -> Result<(), Error> {
    let had = had(&client.tree(name).await?);
    let done = client.delete_cluster(name).await?;
    context.terminal.print(&listed(&had, &format!("what stays in cluster {name}"), false))?;
    context.terminal.note(&super::said(&done, &format!("cluster {name} is deleted at the hub")));
    Ok(())
}
