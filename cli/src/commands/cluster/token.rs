//! `flotilla cluster token` and `flotilla cluster tokens`

use clap::Args;
use flotilla_api::{ManyNodes, NewJoinToken, OpenJoinToken};
use flotilla_core::ClusterName;
use flotilla_core::nodes::NameTemplate;

use super::super::rows::{self, Row};
use crate::Context;
use crate::args::{self, OutputArgs};
use crate::client::Client;
use crate::error::Error;
use crate::exit::Code;
use crate::output::{Cell, Tone, age, date, span};

/// Make a token with which one agent may join, once, or many nodes of a group
///
/// Of many nodes, each has the same token and names itself; Git defines a Cluster for each name, with labels that the ClusterGroup
/// selects:
///
///   flotilla cluster token --count 200 --group edge --names 'edge-{hostname}' --expires 30d
///
/// It lets nobody in under the name of a cluster that has joined, or that is not in the group.
#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// Name of the cluster
    #[arg(required_unless_present = "count", conflicts_with = "count")]
    cluster: Option<ClusterName>,
    /// Until when it can be used: 90s, 15m, 24h, 30d
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = args::duration)]
    expires: u64,
    /// The cluster has an agent already, and the new one takes its place
    #[arg(long, conflicts_with = "count")]
    replace: bool,
    /// A label of the cluster; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = args::pair, conflicts_with = "count")]
    labels: Vec<(String, String)>,
    #[command(flatten)]
    many: ManyArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Nodes that name themselves.
#[derive(Debug, Args)]
pub(super) struct ManyArgs {
    /// Let in up to this many nodes, which name themselves
    #[arg(long, value_name = "NUMBER", requires = "group")]
    count: Option<u32>,
    /// The ClusterGroup whose clusters the nodes become
    #[arg(long, value_name = "GROUP", requires = "count")]
    group: Option<String>,
    /// How a node is called: text with {hostname}, {machine-id} or {uid} (of its kube-system namespace)
    #[arg(long, value_name = "TEMPLATE", default_value = "{hostname}", requires = "count")]
    names: NameTemplate,
}

impl ManyArgs {
    pub(super) fn nodes(&self) -> Option<ManyNodes> {
        let (count, group) = self.count.zip(self.group.clone())?;
        Some(ManyNodes { count, group, names: self.names.to_string() })
    }
}

/// List the join tokens that are good, without their secrets
#[derive(Debug, Args)]
pub(crate) struct TokensArgs {
    /// End the token with this id at once; clusters that joined with it stay
    #[arg(long, value_name = "ID")]
    revoke: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(context: &Context, client: &Client, args: TokenArgs) -> Result<Code, Error> {
    let TokenArgs { cluster, expires, replace, labels, many, output } = args;
    let many = many.nodes();
    let request = NewJoinToken {
        cluster: cluster.as_ref().map(ToString::to_string).unwrap_or_default(),
        expires_in: Some(expires),
        replace,
        labels: labels.into_iter().collect(),
        many: many.clone(),
    };
    let made = client.join_token(&request).await?;
    if let Some(cluster) = &cluster
        && client.cluster(cluster).await.is_ok_and(|found| !found.assigned)
    {
        super::warn_of_undefined(context, cluster);
    }
    let who = match &many {
        Some(ManyNodes { count, group, names }) => {
            format!("{count} nodes can join as clusters of the group {group} with this token, as {names},")
        }
        None => format!("an agent can join as {} with this token, once,", made.cluster),
    };
    context.terminal.note(&format!(
        "{who} until {}; it will call {}",
        date(made.expires_at),
        made.addresses.join(", ")
    ));
    context.terminal.show(output.output, &made, |_| format!("{}\n", made.token))?;
    Ok(Code::Done)
}

pub(super) async fn list(context: &Context, client: &Client, args: TokensArgs) -> Result<Code, Error> {
    match args.revoke {
        Some(id) => {
            let done = client.revoke_join_token(&id).await?;
            context.terminal.note(&super::super::said(&done, &format!("the join token {id} is revoked")));
        }
        None => {
            rows::show(&context.terminal, args.output.output, "join tokens", &client.join_tokens().await?)?;
        }
    }
    Ok(Code::Done)
}

impl Row for OpenJoinToken {
    fn headers(_: bool) -> &'static [&'static str] {
        &["ID", "FOR", "JOINED", "CREATED", "BY", "EXPIRES"]
    }

    fn cells(&self, wide: bool, now: i64) -> Vec<Cell> {
        let (whom, joined) = match &self.many {
            Some(ManyNodes { count, group, names }) => {
                (format!("group {group} as {names}"), format!("{} of {count}", self.joined))
            }
            None => (format!("cluster {}", self.cluster), "0 of 1".to_owned()),
        };
        let created = if wide { date(self.created_at) } else { age(now, Some(self.created_at)) };
        let expires =
            if wide { date(self.expires_at) } else { format!("in {}", span(self.expires_at - now)) };
        vec![
            Cell::new(&self.id).tone(Tone::Strong),
            Cell::new(whom),
            Cell::new(joined),
            created.into(),
            Cell::new(&self.created_by),
            expires.into(),
        ]
    }

    fn key(&self) -> String {
        format!("join token {}", self.id)
    }
}
