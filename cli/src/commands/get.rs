//! `flotilla get`

use clap::{Args, Subcommand};
use flotilla_core::{ClusterName, UnitId};

use super::rows::{self, Row};
use crate::Context;
use crate::args::{Format, OutputArgs};
use crate::client::{Client, EventFilter};
use crate::error::Error;
use crate::exit::Code;

/// List clusters, units, sources or events
#[derive(Debug, Subcommand)]
pub(crate) enum GetCommand {
    /// Clusters: connection, state, commit
    #[command(visible_alias = "cluster")]
    Clusters {
        /// Only this cluster
        name: Option<ClusterName>,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Units: phase, commit, what is wrong with which file and line
    #[command(visible_alias = "unit")]
    Units {
        /// Only units of this name: root, NAMESPACE/NAME or helmrelease/NAMESPACE/NAME
        name: Option<UnitId>,
        /// Only units of this cluster
        #[arg(short, long, value_name = "NAME")]
        cluster: Option<ClusterName>,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Where content comes from: the fleet repo and other sources
    #[command(visible_alias = "source")]
    Sources {
        /// Only sources of this name
        name: Option<String>,
        #[command(flatten)]
        list: ListArgs,
    },
    /// What happened, the newest last
    #[command(visible_alias = "event")]
    Events {
        /// Only events of this cluster
        #[arg(short, long, value_name = "NAME")]
        cluster: Option<ClusterName>,
        /// Only events of units of this name
        #[arg(long, value_name = "UNIT")]
        unit: Option<UnitId>,
        /// Only warnings
        #[arg(long)]
        warnings: bool,
        /// How many, of the newest
        #[arg(long, default_value_t = 100, value_name = "NUMBER")]
        limit: usize,
        #[command(flatten)]
        list: ListArgs,
    },
}

/// How a list is shown.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Go on with what changes, until Ctrl-C; JSON comes as a line for each item
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) async fn run(context: &Context, command: GetCommand) -> Result<Code, Error> {
    let client = context.hub()?;
    match command {
        GetCommand::Clusters { name: Some(name), list } if !list.watch => {
            // One cluster is an object of its own for scripts, and an error where it is not known.
            let cluster = client.cluster(&name).await?;
            match list.output.output {
                format @ (Format::Json | Format::Yaml) => {
                    context.terminal.show(format, &cluster, |_| String::new())?;
                }
                format => rows::show(&context.terminal, format, "clusters", &[cluster])?,
            }
            Ok(Code::Done)
        }
        GetCommand::Clusters { name, list } => {
            let fetch = async || {
                let mut clusters = client.clusters().await?;
                clusters.retain(|cluster| name.as_ref().is_none_or(|name| cluster.name == name.as_str()));
                Ok(clusters)
            };
            show(context, &client, &list, "clusters", fetch).await
        }
        GetCommand::Units { name, cluster, list } => {
            let name = name.map(|name| name.to_string());
            let fetch = async || {
                let mut units = client.units(cluster.as_ref()).await?;
                units.retain(|unit| name.as_ref().is_none_or(|name| unit.unit == *name));
                Ok(units)
            };
            show(context, &client, &list, "units", fetch).await
        }
        GetCommand::Sources { name, list } => {
            let fetch = async || {
                let mut sources = client.sources().await?;
                sources.retain(|source| name.as_ref().is_none_or(|name| source.name == *name));
                Ok(sources)
            };
            show(context, &client, &list, "sources", fetch).await
        }
        GetCommand::Events { cluster, unit, warnings, limit, list } => {
            let filter = EventFilter { cluster, unit, limit };
            let fetch = async || {
                let mut events = client.events(&filter).await?;
                events.retain(|event| event.warning || !warnings);
                events.sort_by_key(|event| event.at);
                Ok(events)
            };
            show(context, &client, &list, "events", fetch).await
        }
    }
}

async fn show<T: Row>(
    context: &Context,
    client: &Client,
    list: &ListArgs,
    what: &str,
    fetch: impl AsyncFn() -> Result<Vec<T>, Error>,
) -> Result<Code, Error> {
    if list.watch {
        rows::watch(&context.terminal, client, list.output.output, fetch).await?;
    } else {
        rows::show(&context.terminal, list.output.output, what, &fetch().await?)?;
    }
    Ok(Code::Done)
}
