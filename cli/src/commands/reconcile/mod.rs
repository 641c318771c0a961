//! `flotilla reconcile`

mod flux;

use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use flotilla_api::{Attention, AttentionReason, Cluster, ConnectionState, Reconcile, Reconciled, SyncState};
use flotilla_core::{ClusterName, UnitId};
use tokio::time::Instant;

use super::rows::cluster_message;
use crate::Context;
use crate::args::{self, OutputArgs};
use crate::client::{Choice, Client, Watch};
use crate::error::Error;
use crate::exit::Code;
use crate::output::clean;

/// Read the fleet repo now, and have agents compare now; or one source, Kustomization or HelmRelease
///
/// Prints what the hub found wrong in the repository, and exits with 1 if it did. With --wait, what keeps clusters from being
/// in sync counts too, and a cluster that a mistake in Git holds is not waited for.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ReconcileArgs {
    #[command(subcommand)]
    command: Option<flux::ReconcileCommand>,
    /// Only the agent of this cluster; all if it is left out
    cluster: Option<ClusterName>,
    /// Only this unit of the cluster
    unit: Option<UnitId>,
    /// Wait until the clusters that are connected run what Git says, and are healthy
    #[arg(long)]
    wait: bool,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = args::duration, requires = "wait")]
    timeout: u64,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) async fn run(context: &Context, args: ReconcileArgs) -> Result<Code, Error> {
    let ReconcileArgs { command, cluster, unit, wait, timeout, output } = args;
    if let Some(command) = command {
        return flux::run(context, command).await;
    }
    let client = context.hub()?;
    let unit = unit.map(|unit| unit.to_string());
    let request = Reconcile { cluster: cluster.as_ref().map(ToString::to_string), unit };
    let answer = client.reconcile(&request).await?;
    context.terminal.show(output.output, &answer, |_| human(&answer))?;
    if let Some(error) = answer.error {
        return Err(Error::new(Code::NotReached, format!("the source could not be read: {error}"))
            .hint("what was read last stays; `flotilla get sources` shows where it stands"));
    }
    if !wait {
        let failed = answer.agents.iter().filter(|agent| !agent.done).count();
        // One agent that is away is no failure of the whole fleet; the one that was named is.
        return match cluster {
            Some(cluster) if failed > 0 => {
                Err(Error::new(Code::NotReached, format!("the agent of cluster {cluster} did not do it"))
                    .hint("`flotilla get clusters` shows which agents are connected"))
            }
            _ if answer.problem_count > 0 => Ok(Code::Found),
            _ => Ok(Code::Done),
        };
    }
    let deadline = Duration::from_secs(timeout);
    wait_for(context, &client, cluster.as_ref(), deadline).await
}

fn human(answer: &Reconciled) -> String {
    let mut out = String::new();
    if let Some(commit) = &answer.commit {
        let id = commit.id.get(..12).unwrap_or(&commit.id);
        out.push_str(&clean(&format!("commit {id} on {}: {}", commit.branch, commit.subject)));
        out.push('\n');
    }
    for agent in &answer.agents {
        let state = if agent.done { "done" } else { "not done" };
        let message = if agent.message.is_empty() { String::new() } else { format!(": {}", agent.message) };
        out.push_str(&clean(&format!("{}: {state}{message}", agent.cluster)));
        out.push('\n');
    }
    list(&mut out, &answer.attention);
    let shown = answer.attention.iter().filter(|found| !found.notice).count().min(SHOWN);
    if let more @ 1.. = (answer.problem_count as usize).saturating_sub(shown) {
        let _ = writeln!(out, "and {more} more problems: see `flotilla status`");
    }
    out
}

/// So many problems are shown.
const SHOWN: usize = 10;

fn list(out: &mut String, attention: &[Attention]) {
    for found in attention.iter().filter(|found| !found.notice).take(SHOWN) {
        let _ = writeln!(out, "problem: {}", clean(&found.to_string()));
    }
}

async fn wait_for(
    context: &Context,
    client: &Client,
    only: Option<&ClusterName>,
    limit: Duration,
) -> Result<Code, Error> {
    let deadline = Instant::now() + limit;
    let mut watch = Watch::start(client, &context.terminal).await?;
    let mut last: Vec<String> = Vec::new();
    loop {
        let clusters = match only {
            Some(name) => vec![client.cluster(name).await?],
            None => client.clusters(&Choice::default()).await?,
        };
        let open = waiting_for(&clusters, only.is_some());
        let stuck = stuck(&clusters, only.is_some());
        if open.is_empty() || !stuck.is_empty() {
            return Ok(ended(context, &clusters, &stuck, only.is_some()));
        }
        if open != last {
            context.terminal.note(&format!("waiting for {}", open.join("; ")));
        }
        last = open;
        match tokio::time::timeout_at(deadline, watch.changed()).await {
            Ok(changed) => changed?,
            Err(_) => {
                let text = format!("not in sync after {}s: {}", limit.as_secs(), last.join("; "));
                return Err(Error::new(Code::NotReached, text)
                    .hint("`flotilla status CLUSTER` says more; nothing is undone, the agents go on"));
            }
        }
    }
}

/// All that was waited for is reached, or cannot be without somebody doing something.
fn ended(context: &Context, clusters: &[Cluster], stuck: &[&Cluster], named: bool) -> Code {
    let shown = if stuck.is_empty() { waited_for(clusters, named) } else { stuck.to_vec() };
    let attention: Vec<Attention> = shown.iter().flat_map(|cluster| cluster.attention.clone()).collect();
    let problems = attention.iter().filter(|found| !found.notice).count();
    for found in attention.iter().take(SHOWN) {
        let text = clean(&found.to_string());
        if found.notice { context.terminal.note(&text) } else { context.terminal.warn(&text) }
    }
    if !stuck.is_empty() {
        let names: Vec<&str> = stuck.iter().map(|cluster| cluster.name.as_str()).collect();
        context.terminal.warn(&format!("not in sync until that is mended: {}", names.join(", ")));
    } else if problems == 0 {
        context.terminal.note("in sync");
    }
    if problems == 0 { Code::Done } else { Code::Found }
}

/// Clusters without an agent are waited for only by name.
fn waited_for(clusters: &[Cluster], named: bool) -> Vec<&Cluster> {
    let counts = |cluster: &&Cluster| named || cluster.connection == ConnectionState::Connected;
    clusters.iter().filter(counts).collect()
}

/// Those that wait for a person: the hub holds something of them, and not because it is at work on it.
fn stuck(clusters: &[Cluster], named: bool) -> Vec<&Cluster> {
    let is_held = |cluster: &&Cluster| {
        cluster.sync == SyncState::Held
            && cluster.attention.iter().any(|found| found.reason == AttentionReason::Held)
    };
    waited_for(clusters, named).into_iter().filter(is_held).collect()
}

/// What is not reached yet, and how it stands.
fn waiting_for(clusters: &[Cluster], named: bool) -> Vec<String> {
    let open = waited_for(clusters, named).into_iter().filter(|cluster| !cluster.sync.is_reached());
    open.map(|cluster| {
        let message = cluster_message(cluster);
        let message = if message.is_empty() { message } else { format!(", {message}") };
        format!("{} ({}, {}{message})", cluster.name, cluster.connection.as_str(), cluster.sync.as_str())
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_that_nobody_speaks_for_are_waited_for_only_by_name() {
        let cluster = |name: &str, connection, sync| Cluster {
            name: name.into(),
            connection,
            sync,
            ..Default::default()
        };
        let clusters = [
            cluster("a", ConnectionState::Connected, SyncState::InSync),
            cluster("b", ConnectionState::Connected, SyncState::Failing),
            cluster("c", ConnectionState::Disconnected, SyncState::Pending),
        ];
        assert_eq!(waiting_for(&clusters, false), ["b (Connected, Failing)"]);
        assert_eq!(waiting_for(&clusters[2..], true), ["c (Disconnected, Pending)"]);
        assert!(waiting_for(&clusters[..1], true).is_empty());
    }

    #[test]
    fn what_is_held_by_a_mistake_is_not_waited_for_and_what_is_under_way_is() {
        let held = |reason| Cluster {
            name: "a".into(),
            connection: ConnectionState::Connected,
            sync: SyncState::Held,
            attention: vec![Attention::new(reason, "a", "root", "x")],
            ..Default::default()
        };
        let (mistake, fetching) = (held(AttentionReason::Held), held(AttentionReason::Waiting));
        assert_eq!(stuck(&[mistake.clone(), fetching.clone()], false), [&mistake]);
        assert_eq!(waiting_for(&[fetching], false).len(), 1);
        for (sync, is_reached) in
            [(SyncState::Kept, true), (SyncState::Suspended, true), (SyncState::Stale, false)]
        {
            assert_eq!(waiting_for(&[Cluster { sync, ..mistake.clone() }], false).is_empty(), is_reached);
        }
    }
}
