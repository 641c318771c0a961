//! `flotilla cluster add`: the agent's manifests with a join token in them, printed, written or applied.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use flotilla_api::{Cluster, ConnectionState, ManyNodes, NewJoinToken};
use flotilla_core::ClusterName;
use flotilla_runtime::files;
use flotilla_runtime::tls::HubAddress;
use serde_json::Value;
use tokio::time::Instant;

use super::super::manifest;
use super::token::ManyArgs;
use crate::Context;
use crate::args;
use crate::client::{Client, Watch};
use crate::error::Error;
use crate::exit::Code;
use crate::install::agent::{self, Agent, Rights};
use crate::install::kubernetes::Kubernetes;
use crate::output::{clean, date};

/// Let a cluster in: its agent's manifests, with a join token
///
/// Prints the manifests, to be applied in the cluster:
///
///   flotilla cluster add edge-1 | kubectl apply -f -
///
/// With --context it applies them itself and waits until the agent is connected. With --out it writes a file; in
/// /var/lib/rancher/k3s/server/manifests/ (or RKE2's, or k0s' folder) the node applies that by itself, at its first start too.
///
/// For a cluster that has joined they come without a token: the agent keeps its identity, and gets the image and the rights of
/// this call. Without --rights the agent applies nothing but as service accounts that units name and that you let it act as.
///
/// With --count and --group they are for many nodes, each with a Kubernetes of its own, that have the same file from the start and
/// name themselves: see `flotilla cluster token`.
#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// Name of the cluster
    #[arg(required_unless_present = "count", conflicts_with = "count")]
    cluster: Option<ClusterName>,
    #[command(flatten)]
    many: ManyArgs,
    /// A label of the cluster; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = args::pair, conflicts_with = "count")]
    labels: Vec<(String, String)>,
    /// Until when the agent can join: 90s, 15m, 24h, 30d
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = args::duration)]
    expires: u64,
    /// The cluster has an agent already, and the new one takes its place
    #[arg(long, conflicts_with = "count")]
    replace: bool,
    /// What the agent may do in the cluster
    #[arg(long, value_enum, value_name = "RIGHTS", default_value_t)]
    rights: Rights,
    /// Image of the agent, as registry.example.com/flotilla-agent@sha256:...
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Secret in flotilla-system with the credentials of the image's registry
    #[arg(long, value_name = "NAME")]
    image_pull_secret: Option<String>,
    /// Port that the agent may call beside the hub's, 443 and 6443: of the API server, of a key service (Vault: 8200); may be
    /// repeated
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    egress_port: Vec<u16>,
    /// File to write, instead of printing
    #[arg(long, value_name = "FILE", conflicts_with = "context")]
    out: Option<PathBuf>,
    /// Context of a kubeconfig: apply there, and wait until the agent is connected
    #[arg(long, value_name = "NAME", conflicts_with = "count")]
    context: Option<String>,
    /// The kubeconfig, in place of KUBECONFIG's or ~/.kube/config
    #[arg(long, value_name = "FILE", requires = "context")]
    kubeconfig: Option<PathBuf>,
    /// Take over fields of the agent's own objects that another tool set
    #[arg(long, requires = "context")]
    force_conflicts: bool,
    /// How long to wait for the agent
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = args::duration, requires = "context")]
    timeout: u64,
}

pub(super) async fn run(context: &Context, client: &Client, args: AddArgs) -> Result<Code, Error> {
    // All that can be wrong is looked at before a token is made.
    if let Some(file) = &args.out {
        check_file(file, args.cluster.as_ref())?;
    }
    let Some(name) = &args.cluster else { return many(context, client, &args).await };
    let target = match &args.context {
        Some(name) => Some(Kubernetes::connect(args.kubeconfig.as_deref(), name).await?),
        None => None,
    };
    let known = match client.cluster(name).await {
        Ok(found) => Some(found),
        Err(error) if error.code() == Code::NotFound => None,
        Err(error) => return Err(error),
    };
    if let Some(target) = &target {
        check_cluster(target, name, args.replace, known.as_ref()).await?;
    }
    if !known.as_ref().is_some_and(|cluster| cluster.assigned) {
        super::warn_of_undefined(context, name);
    }
    let joined = known.as_ref().filter(|cluster| has_joined(cluster)).is_some() && !args.replace;
    if joined && !args.labels.is_empty() {
        return Err(Error::usage(format!("cluster {name} has joined: its labels cannot be set here"))
            .hint("set them in its Cluster object in Git, or join anew with --replace"));
    }
    let hubs = hubs(client).await?;
    let token = if joined {
        context.terminal.note(&format!(
            "cluster {name} has joined: the manifests have no token, and its agent keeps its identity; --replace lets a new \
             one take its place"
        ));
        None
    } else {
        let request = NewJoinToken {
            cluster: name.to_string(),
            expires_in: Some(args.expires),
            replace: args.replace,
            labels: args.labels.iter().cloned().collect(),
            many: None,
        };
        Some(client.join_token(&request).await?)
    };
    let objects = objects(context, &args, token.as_ref().map(|made| made.token.as_str()), &hubs);
    match &target {
        Some(target) => apply(context, client, target, &objects, name, &args).await,
        None => {
            write(context, &args, &objects)?;
            if args.out.is_none() && context.terminal.interactive && token.is_some() {
                context.terminal.hint(&format!(
                    "to apply them: `flotilla cluster add {name} | kubectl apply -f -`, or --context NAME; they hold a secret"
                ));
            }
            Ok(Code::Done)
        }
    }
}

/// Manifests with a token that many nodes share.
async fn many(context: &Context, client: &Client, args: &AddArgs) -> Result<Code, Error> {
    let hubs = hubs(client).await?;
    let request =
        NewJoinToken { expires_in: Some(args.expires), many: args.many.nodes(), ..NewJoinToken::default() };
    let made = client.join_token(&request).await?;
    write(context, args, &objects(context, args, Some(&made.token), &hubs))?;
    if let Some(ManyNodes { count, group, names }) = &request.many {
        context.terminal.note(&format!(
            "{count} nodes can join by them as clusters of the group {group}, as {names}, until {}; they hold a secret",
            date(made.expires_at)
        ));
    }
    Ok(Code::Done)
}

/// Where agents call the hub.
async fn hubs(client: &Client) -> Result<Vec<HubAddress>, Error> {
    let addresses = client.status().await?.addresses;
    let hubs: Result<Vec<HubAddress>, _> = addresses.iter().map(|it| it.parse()).collect();
    let hubs = hubs.map_err(|error| {
        Error::new(Code::HubFailed, "the hub says where agents call it in a form that cannot be read")
            .because(error)
    })?;
    if hubs.is_empty() {
        return Err(Error::new(Code::HubFailed, "the hub does not say where agents call it")
            .hint("start it with --advertise HOST:PORT; a hub of an older version does not say it: upgrade the hub first"));
    }
    Ok(hubs)
}

fn objects(context: &Context, args: &AddArgs, token: Option<&str>, hubs: &[HubAddress]) -> Vec<Value> {
    if args.rights == Rights::Accounts {
        context.terminal.hint(
            "the agent applies units only as service accounts that they name; --rights cluster-admin lets it apply all units",
        );
    }
    let (image, pull_secret) = (args.image.as_deref(), args.image_pull_secret.as_deref());
    let (cluster, rights, egress_ports) = (args.cluster.as_ref(), args.rights, &args.egress_port);
    Agent { cluster, rights, image, pull_secret, token, hubs, egress_ports }.objects()
}

/// Into the file, or printed.
fn write(context: &Context, args: &AddArgs, objects: &[Value]) -> Result<(), Error> {
    match &args.out {
        Some(file) => {
            // It holds the token.
            files::write_atomic(file, manifest::yaml(objects).as_bytes(), files::PRIVATE).map_err(
                |error| Error::new(Code::Local, format!("cannot write {}", file.display())).because(error),
            )?;
            context.terminal.note(&format!("wrote {}", file.display()));
            Ok(())
        }
        None => context.terminal.print(&manifest::yaml(objects)),
    }
}

fn has_joined(cluster: &Cluster) -> bool {
    cluster.enrolled_at.is_some() && cluster.revoked_at.is_none()
}

/// A file that is there already is written over only where it is this cluster's. One for many nodes is nobody's.
fn check_file(file: &Path, cluster: Option<&ClusterName>) -> Result<(), Error> {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_name = name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b"-.".contains(&c));
    if !is_name || !(name.ends_with(".yaml") || name.ends_with(".yml")) {
        return Err(Error::usage(format!(
            "'{}' is not a name of a manifest that k3s would apply",
            file.display()
        ))
        .hint("use lower-case letters, digits, '-' and '.', and end it with .yaml"));
    }
    let there = files::read_if_there(file)
        .map_err(|error| Error::new(Code::Local, format!("cannot read {}", file.display())).because(error))?;
    let Some(there) = there else { return Ok(()) };
    let Some(cluster) = cluster else {
        return Err(Error::usage(format!("{} is there already", file.display()))
            .hint("choose another file, or remove this one"));
    };
    if agent::cluster_of(&String::from_utf8_lossy(&there)).as_deref() == Some(cluster.as_str()) {
        return Ok(());
    }
    Err(Error::usage(format!("{} is there and is not the agent of cluster {cluster}", file.display()))
        .hint("choose another file, or remove this one"))
}

/// Refuses a cluster that has another cluster's agent, or is not the one that joined under the name.
async fn check_cluster(
    target: &Kubernetes,
    name: &ClusterName,
    replace: bool,
    known: Option<&Cluster>,
) -> Result<(), Error> {
    let refuse = |what: String| {
        Err(Error::new(Code::Refused, format!("the cluster of context {} {what}", target.context())))
    };
    let agent = target.get("apps/v1", "StatefulSet", agent::NAMESPACE, agent::NAME).await?;
    if let Some(other) = agent.as_ref().and_then(|it| it["metadata"]["annotations"][agent::CLUSTER].as_str())
        && other != name.as_str()
    {
        return refuse(format!("has the agent of cluster {}", clean(other)))
            .map_err(|error| error.hint("a cluster joins under one name; is it the right context?"));
    }
    let Some(known) = known.filter(|it| has_joined(it) && !it.uid.is_empty() && !replace) else {
        return Ok(());
    };
    let system = target.get("v1", "Namespace", "", "kube-system").await?;
    let uid = system.as_ref().and_then(|it| it["metadata"]["uid"].as_str()).unwrap_or_default();
    if uid == known.uid {
        return Ok(());
    }
    refuse(format!("is not the one that joined as {name}")).map_err(|error| {
        error.hint("is it the right context? --replace lets this cluster take the other one's place")
    })
}

async fn apply(
    context: &Context,
    client: &Client,
    target: &Kubernetes,
    objects: &[Value],
    name: &ClusterName,
    args: &AddArgs,
) -> Result<Code, Error> {
    for object in objects {
        target.apply(object, args.force_conflicts).await?;
    }
    context.terminal.note(&format!("applied {} objects; waiting for the agent of {name}", objects.len()));
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    let mut watch = Watch::start(client, &context.terminal).await?;
    loop {
        let found = client.cluster(name).await?;
        if found.connection == ConnectionState::Connected {
            context
                .terminal
                .note(&format!("cluster {name} is connected; `flotilla status {name}` shows what it runs"));
            return Ok(Code::Done);
        }
        match tokio::time::timeout_at(deadline, watch.changed()).await {
            Ok(changed) => changed?,
            Err(_) => {
                let state = found.connection.as_str();
                let why = target.why_not_ready(agent::NAMESPACE, agent::NAME).await;
                let why = why.unwrap_or_else(|error| error.chain());
                let text = format!("the agent of {name} is {state} after {}s: {}", args.timeout, clean(&why));
                return Err(Error::new(Code::NotReached, text).hint(format!(
                    "nothing is undone; `kubectl --context {} --namespace {} logs {}-0` shows what the agent says",
                    target.context(),
                    agent::NAMESPACE,
                    agent::NAME
                )));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_over_only_where_it_is_this_clusters() {
        let folder = tempfile::tempdir().unwrap();
        let cluster: ClusterName = "edge-1".parse().unwrap();
        let (file, other) = (folder.path().join("flotilla-agent.yaml"), folder.path().join("other.yaml"));
        check_file(&file, Some(&cluster)).unwrap();
        let of = |name: &str| {
            let cluster: ClusterName = name.parse().unwrap();
            let (rights, image, pull_secret) = (Rights::default(), None, None);
            manifest::yaml(
                &Agent {
                    cluster: Some(&cluster),
                    rights,
                    image,
                    pull_secret,
                    token: None,
                    hubs: &[],
                    egress_ports: &[],
                }
                .objects(),
            )
        };
        std::fs::write(&file, of("edge-1")).unwrap();
        std::fs::write(&other, of("edge-2")).unwrap();
        check_file(&file, Some(&cluster)).unwrap();
        let error = check_file(&other, Some(&cluster)).unwrap_err();
        assert!(error.chain().contains("is not the agent of cluster edge-1"), "{}", error.chain());
        assert!(check_file(&file, None).is_err(), "one for many nodes is nobody's");
        for name in ["flotilla_agent.yaml", "agent.json", "Agent.yaml"] {
            assert!(check_file(&folder.path().join(name), Some(&cluster)).is_err(), "{name}");
        }
    }
}
