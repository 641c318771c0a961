//! `flotilla check`

pub(super) mod groups;
mod pipelines;
mod pre;
pub(super) mod repo;

use std::path::PathBuf;

use clap::Args;
use flotilla_api::{AttentionReason, Cluster, ConnectionState, Status, WhoAmI};
use flotilla_core::ClusterName;
use flotilla_core::source::SourceId;
use serde::Serialize;

use crate::Context;
use crate::args::OutputArgs;
use crate::budget::BudgetArgs;
use crate::client::{Choice, Client};
use crate::error::Error;
use crate::exit::Code;
use crate::install::kubernetes::Kubernetes;
use crate::offline::{ClustersArgs, local_source};
use crate::output::{Cell, Table, Tone};

/// Check a fleet repo before the commit (--repo), a cluster before an installation (--pre), or the hub and its fleet
///
/// With --repo: renders every cluster from a folder, without a hub, and prints each problem with file and line, and each
/// pipeline with its stages, the clusters in them, and the units that it promotes.
/// With --pre: what the cluster of --context lacks for the agent, or the hub: version, storage, nodes, and your rights, by dry runs.
/// Without both: whether the hub can be reached, takes the token, can read its sources, and how its clusters are.
///
/// Units whose source is not the repo are not fetched: they are named by a notice, unless --local-sources has a folder for
/// them. The worst comes first, and what repeats itself is counted; --all shows everything.
///
/// Exits with 0 if all is well, with 1 if there are problems.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Folder with the fleet repo: as it is now, committed or not
    #[arg(long, value_name = "DIR")]
    repo: Option<PathBuf>,
    /// What is to be installed in the cluster of --context
    #[arg(long, value_enum, value_name = "PART", requires = "context", conflicts_with = "repo")]
    pre: Option<pre::Part>,
    /// Context of a kubeconfig
    #[arg(long, value_name = "NAME", requires = "pre")]
    context: Option<String>,
    /// The kubeconfig, in place of KUBECONFIG's or ~/.kube/config
    #[arg(long, value_name = "FILE", requires = "pre")]
    kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    clusters: ClustersArgs,
    /// Only this cluster of the repo
    #[arg(short, long, value_name = "NAME", requires = "repo")]
    cluster: Option<ClusterName>,
    /// Folders that stand in for sources other than the fleet repo, which are not fetched
    #[arg(
        long, value_name = "KIND/NAMESPACE/NAME=DIR", value_delimiter = ',', value_parser = local_source, requires = "repo"
    )]
    local_sources: Vec<(SourceId, PathBuf)>,
    /// Show every problem and every place of it; without this, problems of one kind are counted
    #[arg(long, requires = "repo")]
    all: bool,
    #[command(flatten)]
    budget: BudgetArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) async fn run(context: &Context, args: CheckArgs) -> Result<Code, Error> {
    if let (Some(part), Some(name)) = (args.pre, &args.context) {
        let kubernetes = Kubernetes::connect(args.kubeconfig.as_deref(), name).await?;
        return show(context, &args, &pre::checks(&kubernetes, part).await?);
    }
    match &args.repo {
        Some(folder) => repo::run(context, &args, folder),
        None => {
            let client = context
                .hub()
                .map_err(|error| error.or_hint("to check a folder without a hub, say --repo DIR"))?;
            hub(context, &args, &client).await
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    check: &'static str,
    ok: bool,
    message: String,
}

async fn hub(context: &Context, args: &CheckArgs, client: &Client) -> Result<Code, Error> {
    let who = client.who_am_i().await?;
    let status = client.status().await?;
    let checks = checks(client.hub(), &who, &status, &client.clusters(&Choice::default()).await?);
    show(context, args, &checks)
}

fn show(context: &Context, args: &CheckArgs, checks: &[Check]) -> Result<Code, Error> {
    context.terminal.show(args.output.output, &checks, |_| {
        let mut table = Table::new(&["CHECK", "RESULT", "MESSAGE"]);
        for Check { check, ok, message } in checks {
            let result =
                if *ok { Cell::new("ok").tone(Tone::Good) } else { Cell::new("problem").tone(Tone::Bad) };
            table.row(vec![(*check).into(), result, message.into()]);
        }
        table.take(context.terminal.color)
    })?;
    Ok(if checks.iter().all(|check| check.ok) { Code::Done } else { Code::Found })
}

fn checks(hub: &str, who: &WhoAmI, status: &Status, clusters: &[Cluster]) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut add = |check: &'static str, ok: bool, message: String| checks.push(Check { check, ok, message });
    add("hub", true, format!("{hub}, version {}", status.hub_version));
    let scope = if who.scope.is_fleet() { String::new() } else { format!(", scope {}", who.scope) };
    add("token", true, format!("{}, role {}{scope}", who.name, who.role));
    match &status.commit {
        Some(commit) => {
            let id = commit.id.get(..12).unwrap_or(&commit.id);
            add("commit", true, format!("{id} on {}: {}", commit.branch, commit.subject));
        }
        None => add("commit", false, "the fleet repo has not been read".to_owned()),
    }
    for source in &status.sources {
        let message = if source.message.is_empty() { &source.url } else { &source.message };
        add("source", source.ready, format!("{}/{}: {message}", source.kind, source.name));
    }
    let counted =
        |state: ConnectionState| clusters.iter().filter(|cluster| cluster.connection == state).count();
    let (connected, away) = (counted(ConnectionState::Connected), counted(ConnectionState::Disconnected));
    // Who has no agent on purpose, or not yet, is no problem.
    let text = format!("{} of {} have an agent, {connected} are connected", connected + away, clusters.len());
    let is_empty = clusters.is_empty();
    add("clusters", !is_empty, if is_empty { "none: Git defines no cluster".to_owned() } else { text });
    for found in &status.attention {
        // A source has its own line.
        if found.reason != AttentionReason::SourceFailed {
            add(if found.notice { "notice" } else { "problem" }, found.notice, found.to_string());
        }
    }
    let all: u32 = status.attention_counts.values().sum();
    if let more @ 1.. = (all as usize).saturating_sub(status.attention.len()) {
        add("more", true, format!("{more} more: `flotilla status CLUSTER` shows those of one cluster"));
    }
    let problems = match status.problem_count {
        0 => "none".to_owned(),
        count => format!("{count}"),
    };
    add("problems", status.problem_count == 0, problems);
    checks
}
