//! `flotilla reconcile source|kustomization|helmrelease`: one of Flux's objects, as `flux reconcile` does it.

use std::time::Duration;

use clap::{Args, Subcommand};
use flotilla_api::{Reconcile, ReconcileSource, ReconciledSource, Source, Unit};
use flotilla_core::source::{SourceId, SourceKind};
use flotilla_core::{ClusterName, UnitId};
use tokio::time::Instant;

use crate::Context;
use crate::args::{self, OutputArgs, source_kind};
use crate::client::{Client, Watch};
use crate::commands::rows::unit_message;
use crate::error::Error;
use crate::exit::Code;
use crate::output::clean;

#[derive(Debug, Subcommand)]
pub(crate) enum ReconcileCommand {
    /// Fetch a source now, and say which revision it is at
    Source {
        /// Kind of the source: git, oci, helm, chart, bucket or a whole kind
        #[arg(value_parser = source_kind)]
        kind: SourceKind,
        /// Name of the source
        name: String,
        /// Namespace of the source
        #[arg(short, long, default_value = "flux-system", value_name = "NAMESPACE")]
        namespace: String,
        /// Only as this cluster defines it
        #[arg(short, long, value_name = "NAME")]
        cluster: Option<ClusterName>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Have a cluster's agent compare a Kustomization now, and wait until it is ready
    #[command(visible_alias = "ks")]
    Kustomization(UnitArgs),
    /// Have a cluster's agent compare a HelmRelease now, and wait until it is ready
    #[command(name = "helmrelease", visible_alias = "hr")]
    HelmRelease(UnitArgs),
}

#[derive(Debug, Args)]
pub(crate) struct UnitArgs {
    /// Name of the object
    name: String,
    /// Namespace of the object
    #[arg(short, long, default_value = "flux-system", value_name = "NAMESPACE")]
    namespace: String,
    /// Cluster whose agent it is
    #[arg(short, long, value_name = "NAME")]
    cluster: ClusterName,
    /// Fetch its source first
    #[arg(long)]
    with_source: bool,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = args::duration)]
    timeout: u64,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(context: &Context, command: ReconcileCommand) -> Result<Code, Error> {
    let client = context.hub()?;
    match command {
        ReconcileCommand::Source { kind, name, namespace, cluster, output } => {
            let source = SourceId::new(kind, namespace, name);
            let answer = fetch(&client, &source, cluster.as_ref()).await?;
            context.terminal.show(output.output, &answer, |_| revisions(&answer.sources))?;
            Ok(Code::Done)
        }
        ReconcileCommand::Kustomization(args) => {
            let id = UnitId::kustomization(&args.namespace, &args.name);
            unit(context, &client, id, args).await
        }
        ReconcileCommand::HelmRelease(args) => {
            let id = UnitId::helm_release(&args.namespace, &args.name);
            unit(context, &client, id, args).await
        }
    }
}

/// Has the hub fetch a source; what could not be fetched is an error.
async fn fetch(
    client: &Client,
    source: &SourceId,
    cluster: Option<&ClusterName>,
) -> Result<ReconciledSource, Error> {
    let body = ReconcileSource {
        kind: source.kind.to_string(),
        namespace: source.namespace.clone(),
        name: source.name.clone(),
        cluster: cluster.map(ToString::to_string),
    };
    let answer = client.reconcile_source(&body).await?;
    match answer.sources.iter().find(|source| !source.ready) {
        Some(failed) => {
            Err(Error::new(Code::NotReached, format!("{source} could not be fetched: {}", failed.message))
                .hint("what was fetched last stays in use; `flotilla get sources` shows it"))
        }
        None => Ok(answer),
    }
}

fn revisions(sources: &[Source]) -> String {
    let line = |source: &Source| {
        let clusters = match (sources.len(), source.clusters.is_empty()) {
            (1, _) | (_, true) => String::new(),
            _ => format!(" ({})", source.clusters.join(", ")),
        };
        format!("{}\n", clean(&format!("fetched revision {}{clusters}", source.revision)))
    };
    sources.iter().map(line).collect()
}

async fn unit(context: &Context, client: &Client, id: UnitId, args: UnitArgs) -> Result<Code, Error> {
    let UnitArgs { cluster, with_source, timeout, output, .. } = args;
    let deadline = Instant::now() + Duration::from_secs(timeout);
    if with_source {
        let source = client.unit(&cluster, &id).await?.source;
        let source: SourceId = source.parse().map_err(|_| {
            Error::new(Code::Refused, format!("the hub does not know the source of {id}"))
                .hint("leave --with-source out")
        })?;
        let fetched = fetch(client, &source, Some(&cluster)).await?;
        revisions(&fetched.sources)
            .lines()
            .for_each(|line| context.terminal.note(&format!("{source}: {line}")));
    }
    let body = Reconcile { cluster: Some(cluster.to_string()), unit: Some(id.to_string()) };
    let answer = client.reconcile(&body).await?;
    if let Some(error) = answer.error {
        let error = Error::new(Code::NotReached, format!("the fleet repo could not be read: {error}"));
        return Err(error.hint("what was read last stays; `flotilla get sources` shows where it stands"));
    }
    if let Some(agent) = answer.agents.iter().find(|agent| !agent.done) {
        let error = format!("the agent of cluster {cluster} did not do it: {}", agent.message);
        return Err(Error::new(Code::NotReached, error)
            .hint("`flotilla get clusters` shows which agents are connected"));
    }
    let unit = ready(context, client, &cluster, &id, deadline).await?;
    context.terminal.show(output.output, &unit, |_| {
        let revision = if unit.revision.is_empty() { &unit.commit } else { &unit.revision };
        format!("{}\n", clean(&format!("applied revision {revision}")))
    })?;
    Ok(Code::Done)
}

/// Waits until the cluster runs what is wanted of the unit, and it is healthy.
async fn ready(
    context: &Context,
    client: &Client,
    cluster: &ClusterName,
    id: &UnitId,
    deadline: Instant,
) -> Result<Unit, Error> {
    let mut watch = Watch::start(client, &context.terminal).await?;
    let mut last = String::new();
    loop {
        let unit = client.unit(cluster, id).await?;
        if unit.phase == "Ready" && unit.applied == unit.desired {
            return Ok(unit);
        }
        if unit.phase == "Suspended" {
            let error = format!("{id} of cluster {cluster} is suspended");
            return Err(Error::new(Code::Refused, error)
                .hint("`flotilla resume` ends a suspension by hand; one by spec.suspend ends in Git"));
        }
        let now = format!("{} {}", unit.phase, unit_message(&unit));
        if now != last {
            context.terminal.note(&format!("waiting: {}", now.trim_end()));
        }
        last = now;
        match tokio::time::timeout_at(deadline, watch.changed()).await {
            Ok(changed) => changed?,
            Err(_) => {
                let error = format!("{id} of cluster {cluster} is not ready in time: {}", last.trim_end());
                return Err(Error::new(Code::NotReached, error)
                    .hint("nothing is undone, the agent goes on; `flotilla get units` shows how far it is"));
            }
        }
    }
}
