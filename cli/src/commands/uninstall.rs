//! `flotilla uninstall`: Flotilla's own parts leave a cluster; what they managed stays.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use flotilla_core::{ClusterName, ObjectRef};
use serde_json::{Value, json};

use super::cluster;
use crate::Context;
use crate::error::Error;
use crate::exit::Code;
use crate::install::handover::{FluxFile, Handover};
use crate::install::kubernetes::Kubernetes;
use crate::install::{agent, hub};
use crate::output::clean;

/// Take Flotilla out of a cluster; what it manages there goes on running
#[derive(Debug, Subcommand)]
pub(crate) enum UninstallCommand {
    Agent(AgentArgs),
    Cluster(ClusterArgs),
    Hub(HubArgs),
}

#[derive(Debug, Args)]
struct WhereArgs {
    /// Context of a kubeconfig
    #[arg(long, value_name = "NAME")]
    context: String,
    /// The kubeconfig, in place of KUBECONFIG's or ~/.kube/config
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Show what would be deleted, and delete nothing
    #[arg(long)]
    dry_run: bool,
    /// Repeat the context's name, instead of answering the question
    #[arg(long, value_name = "NAME", conflicts_with = "dry_run")]
    confirm: Option<String>,
}

/// Remove the agent from a cluster, and nothing else
///
/// The namespace flotilla-system stays, with the inventories in it: an agent that comes back knows by them what it may delete.
/// At the hub the cluster stays too, as disconnected: `flotilla uninstall cluster` removes both.
#[derive(Debug, Args)]
pub(crate) struct AgentArgs {
    #[command(flatten)]
    target: WhereArgs,
    /// Delete the namespace flotilla-system too, with the inventories
    #[arg(long)]
    delete_namespace: bool,
    /// Let Flux go on with what the agent managed: the file that `flotilla export flux` wrote
    #[arg(long, value_name = "FILE")]
    to_flux: Option<PathBuf>,
}

/// Delete a cluster at the hub, and remove its agent
///
/// What the agent managed goes on running, as `flotilla cluster delete` says, which --prune of that command changes.
#[derive(Debug, Args)]
pub(crate) struct ClusterArgs {
    /// Name of the cluster
    cluster: ClusterName,
    #[command(flatten)]
    target: WhereArgs,
    /// Delete the namespace flotilla-system too, with the inventories
    #[arg(long)]
    delete_namespace: bool,
    /// Let Flux go on with what the agent managed: the file that `flotilla export flux` wrote
    #[arg(long, value_name = "FILE")]
    to_flux: Option<PathBuf>,
}

/// Remove the hub from a cluster
///
/// Its volume stays, with the CA, the tokens and the secrets of sources: agents know a hub by it. Agents go on with what they have.
#[derive(Debug, Args)]
pub(crate) struct HubArgs {
    #[command(flatten)]
    target: WhereArgs,
    /// Namespace of the hub
    #[arg(long, value_name = "NAME", default_value = hub::NAMESPACE, value_parser = hub::namespace)]
    namespace: String,
    /// Delete its volume and its credentials too; only a backup brings them back
    #[arg(long)]
    delete_data: bool,
}

pub(crate) async fn run(context: &Context, command: UninstallCommand) -> Result<Code, Error> {
    match command {
        UninstallCommand::Agent(args) => agent(context, &args).await,
        UninstallCommand::Cluster(args) => {
            let client = context.hub()?;
            let kubernetes = connect(&args.target).await?;
            is_agent_of(&kubernetes, &args.cluster).await?;
            let handover = prepare(&kubernetes, args.to_flux.as_deref()).await?;
            let plan = plan_agent(&kubernetes, args.delete_namespace).await?;
            client.cluster(&args.cluster).await?;
            show(context, &plan, handover.as_ref())?;
            if args.target.dry_run {
                context.terminal.note(&format!("cluster {} would be deleted at the hub", args.cluster));
                return Ok(Code::Done);
            }
            confirm(context, &args.target)?;
            // First, so that the agent ends its work and does not come back meanwhile.
            cluster::delete_at_hub(context, &client, &args.cluster).await?;
            delete(context, &kubernetes, &plan).await?;
            hand_over(context, &kubernetes, handover.as_ref()).await
        }
        UninstallCommand::Hub(args) => {
            let kubernetes = connect(&args.target).await?;
            let objects = hub::installed(&args.namespace, args.delete_data);
            let found = there(&kubernetes, objects).await?;
            let by_helm =
                |object: &Value| object["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm";
            if found.iter().any(by_helm) {
                return Err(Error::new(Code::Refused, "this hub is a release of Helm's").hint(format!(
                    "`helm uninstall --kube-context {} --namespace {} RELEASE` removes it; its volume stays",
                    args.target.context, args.namespace
                )));
            }
            let with = if args.delete_data { "what else is in it" } else { "the hub's volume" };
            let stays = vec![format!("the namespace {} with {with}", args.namespace)];
            let plan = Plan { delete: found, stays };
            remove(context, &kubernetes, &args.target, &plan).await
        }
    }
}

async fn connect(target: &WhereArgs) -> Result<Kubernetes, Error> {
    Kubernetes::connect(target.kubeconfig.as_deref(), &target.context).await
}

async fn agent(context: &Context, args: &AgentArgs) -> Result<Code, Error> {
    let AgentArgs { target, delete_namespace, to_flux } = args;
    let kubernetes = connect(target).await?;
    let handover = prepare(&kubernetes, to_flux.as_deref()).await?;
    let plan = plan_agent(&kubernetes, *delete_namespace).await?;
    if handover.is_none() {
        return remove(context, &kubernetes, target, &plan).await;
    }
    show(context, &plan, handover.as_ref())?;
    if target.dry_run {
        return Ok(Code::Done);
    }
    confirm(context, target)?;
    delete(context, &kubernetes, &plan).await?;
    hand_over(context, &kubernetes, handover.as_ref()).await
}

async fn prepare(kubernetes: &Kubernetes, file: Option<&Path>) -> Result<Option<Handover>, Error> {
    match file {
        Some(path) => FluxFile::read(path)?.prepare(kubernetes).await.map(Some),
        None => Ok(None),
    }
}

async fn hand_over(
    context: &Context,
    kubernetes: &Kubernetes,
    handover: Option<&Handover>,
) -> Result<Code, Error> {
    if let Some(handover) = handover {
        let handed = handover.run(kubernetes).await.map_err(|error| {
            error.or_hint(&format!(
                "Flux does not run yet; repeat it by `flotilla uninstall agent --context {} --to-flux FILE`",
                kubernetes.context()
            ))
        })?;
        context.terminal.note(&format!("Flux goes on; {handed} objects are in its hands"));
    }
    Ok(Code::Done)
}

/// What is there of Flotilla's own, and what stays.
struct Plan {
    delete: Vec<Value>,
    stays: Vec<String>,
}

async fn plan_agent(kubernetes: &Kubernetes, delete_namespace: bool) -> Result<Plan, Error> {
    let mut delete = there(kubernetes, agent::installed()).await?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": agent::NAMESPACE}});
    let namespace = there(kubernetes, vec![namespace]).await?;
    if !delete_namespace {
        let stays =
            namespace.iter().map(|_| format!("the namespace {} with the inventories", agent::NAMESPACE));
        return Ok(Plan { delete, stays: stays.collect() });
    }
    let found = kubernetes.everything_in(agent::NAMESPACE).await?;
    let foreign: Vec<String> = found.iter().filter(|object| !agent::is_own(object)).map(name_of).collect();
    if !foreign.is_empty() {
        let some = foreign.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
        return Err(Error::new(
            Code::Refused,
            format!("the namespace {} has {} objects of others: {some}", agent::NAMESPACE, foreign.len()),
        )
        .hint("move them, or leave out --delete-namespace"));
    }
    delete.extend(namespace);
    Ok(Plan { delete, stays: Vec::new() })
}

/// Those of the objects that the API server has.
async fn there(kubernetes: &Kubernetes, objects: Vec<Value>) -> Result<Vec<Value>, Error> {
    let mut found = Vec::new();
    for object in objects {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let metadata = &object["metadata"];
        let (namespace, name) = (text(&metadata["namespace"]), text(&metadata["name"]));
        found.extend(
            kubernetes.get(&text(&object["apiVersion"]), &text(&object["kind"]), &namespace, &name).await?,
        );
    }
    Ok(found)
}

/// Refuses a cluster whose agent is another one's.
async fn is_agent_of(kubernetes: &Kubernetes, cluster: &ClusterName) -> Result<(), Error> {
    let found = kubernetes.get("apps/v1", "StatefulSet", agent::NAMESPACE, agent::NAME).await?;
    match found.as_ref().and_then(|it| it["metadata"]["annotations"][agent::CLUSTER].as_str()) {
        Some(other) if other != cluster.as_str() => Err(Error::new(
            Code::Refused,
            format!(
                "the cluster of context {} has the agent of cluster {}",
                kubernetes.context(),
                clean(other)
            ),
        )
        .hint("is it the right context?")),
        _ => Ok(()),
    }
}

pub(super) fn name_of(object: &Value) -> String {
    let id = ObjectRef::of(object).map_or_else(|error| error.to_string(), |target| target.id.to_string());
    clean(&id)
}

fn show(context: &Context, plan: &Plan, handover: Option<&Handover>) -> Result<(), Error> {
    for object in &plan.delete {
        context.terminal.print(&format!("delete {}\n", name_of(object)))?;
    }
    for what in &plan.stays {
        context.terminal.print(&format!("keep   {what}\n"))?;
    }
    if let Some(handover) = handover {
        context.terminal.print(&format!("{}\n", handover.says()))?;
    }
    Ok(())
}

async fn remove(
    context: &Context,
    kubernetes: &Kubernetes,
    target: &WhereArgs,
    plan: &Plan,
) -> Result<Code, Error> {
    if plan.delete.is_empty() {
        context.terminal.note("there is nothing of it in this cluster");
        return Ok(Code::Done);
    }
    show(context, plan, None)?;
    if target.dry_run {
        return Ok(Code::Done);
    }
    confirm(context, target)?;
    delete(context, kubernetes, plan).await
}

async fn delete(context: &Context, kubernetes: &Kubernetes, plan: &Plan) -> Result<Code, Error> {
    for object in &plan.delete {
        kubernetes.delete(object).await?;
    }
    context
        .terminal
        .note(&format!("deleted {} objects; what was managed goes on running", plan.delete.len()));
    Ok(Code::Done)
}

fn confirm(context: &Context, target: &WhereArgs) -> Result<(), Error> {
    let given = match &target.confirm {
        Some(confirm) => confirm.clone(),
        None => cluster::typed(
            context,
            &format!("type the context's name ({}) to go on:", target.context),
            &target.context,
        )?,
    };
    match given == target.context {
        true => Ok(()),
        false => Err(Error::usage(format!("'{given}' is not the context's name: nothing was deleted"))),
    }
}
