//! `flotilla hub`: a hub in a cluster, by the manifests that are built in; and its backups.

mod backup;
mod upgrade;

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use flotilla_runtime::files;
use flotilla_runtime::tls::HubAddress;
use flotilla_source::{Branch, GitUrl};
use serde_json::Value;
use tokio::time::Instant;

use super::manifest;
use crate::Context;
use crate::args;
use crate::error::Error;
use crate::exit::Code;
use crate::install::hub::{self, Backup, Hub};
use crate::install::kubernetes::Kubernetes;
use crate::output::clean;

/// How often the cluster is asked whether the hub is ready.
const LOOK: Duration = Duration::from_secs(1);

/// Install a hub in a cluster, upgrade it, or take its backup
#[derive(Debug, Subcommand)]
pub(crate) enum HubCommand {
    Install(Box<InstallArgs>),
    Upgrade(upgrade::UpgradeArgs),
    Backup(backup::BackupArgs),
}

/// Install a hub in a cluster, or change its settings
///
/// With --export it prints the manifests; with --context it applies them and waits until the hub is ready. The hub gets no rights in
/// the cluster. Its data stays on its volume when it is run again. For more settings change deploy/hub.yaml.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("to").required(true).args(["export", "context"]))]
pub(crate) struct InstallArgs {
    /// Print the manifests
    #[arg(long)]
    export: bool,
    /// Context of a kubeconfig: apply there
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The kubeconfig, in place of KUBECONFIG's or ~/.kube/config
    #[arg(long, value_name = "FILE", requires = "context")]
    kubeconfig: Option<PathBuf>,
    /// The fleet repo, as https://git.example.com/fleet.git
    #[arg(long, value_name = "URL", value_parser = https)]
    repo: GitUrl,
    /// Its branch
    #[arg(long, default_value = "main")]
    branch: Branch,
    /// User for https
    #[arg(long, value_name = "NAME", requires = "git_password_file")]
    git_username: Option<String>,
    /// File with the password or token for https
    #[arg(long, value_name = "FILE")]
    git_password_file: Option<PathBuf>,
    /// Where agents call; may be repeated. Its hosts are the names in the hub's certificate
    #[arg(long, value_name = "HOST:PORT", required = true)]
    advertise: Vec<HubAddress>,
    /// Another name or address in the hub's certificate, for people; may be repeated
    #[arg(long, value_name = "HOST")]
    host: Vec<String>,
    /// Image of the hub, as registry.example.com/flotilla-hub@sha256:...
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Secret in the hub's namespace with the credentials of the image's registry
    #[arg(long, value_name = "NAME")]
    image_pull_secret: Option<String>,
    /// Storage class of its volume, which holds the fleet's keys
    #[arg(long, value_name = "NAME")]
    storage_class: Option<String>,
    /// Port that the hub may call beside 443, 22 and the fleet repo's: of a registry, an index, a key service; may be repeated
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    egress_port: Vec<u16>,
    /// Take a backup each night into this PersistentVolumeClaim; deploy/hub-backup.yaml says what else it needs
    #[arg(long, value_name = "NAME")]
    backup_claim: Option<String>,
    /// Image of the CLI for that, as registry.example.com/flotilla@sha256:...
    #[arg(long, value_name = "IMAGE", requires = "backup_claim")]
    backup_image: Option<String>,
    /// Namespace of the hub
    #[arg(long, value_name = "NAME", default_value = hub::NAMESPACE, value_parser = hub::namespace)]
    namespace: String,
    /// Take over fields of the hub's own objects that another tool set
    #[arg(long, requires = "context")]
    force_conflicts: bool,
    /// How long to wait for the hub
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = args::duration, requires = "context")]
    timeout: u64,
}

/// The image has no ssh, and a folder is nothing to a pod. Credentials in the address would stand in a ConfigMap.
fn https(text: &str) -> Result<GitUrl, String> {
    let authority = text.split_once("://").map_or("", |(_, rest)| rest.split('/').next().unwrap_or(rest));
    if authority.contains('@') {
        return Err("give user and password by --git-username and --git-password-file".to_owned());
    }
    let url: GitUrl = text.parse().map_err(|error: flotilla_source::UrlError| error.to_string())?;
    match url.is_file() || url.is_ssh() {
        true => Err("a hub in a cluster reads the fleet repo over https; for others change deploy/hub.yaml"
            .to_owned()),
        false => Ok(url),
    }
}

pub(crate) async fn run(context: &Context, command: HubCommand) -> Result<Code, Error> {
    let args = match command {
        HubCommand::Install(args) => *args,
        HubCommand::Upgrade(args) => return upgrade::run(context, args).await,
        HubCommand::Backup(args) => return backup::run(context, args).await,
    };
    let password = args.git_password_file.as_ref().map(|path| {
        let read = files::read(path).map_err(|error| {
            Error::new(Code::Local, format!("cannot read the password in {}", path.display())).because(error)
        })?;
        let text =
            String::from_utf8(read).map_err(|_| Error::usage(format!("{} is not text", path.display())))?;
        Ok(text.trim_end_matches(['\n', '\r']).to_owned())
    });
    let password: Option<String> = password.transpose()?;
    let objects = Hub {
        namespace: &args.namespace,
        settings: settings(&args),
        image: args.image.as_deref(),
        pull_secret: args.image_pull_secret.as_deref(),
        git_password: password.as_deref(),
        storage_class: args.storage_class.as_deref(),
        egress_ports: args.repo.port().into_iter().chain(args.egress_port.iter().copied()).collect(),
        backup: args
            .backup_claim
            .as_deref()
            .map(|claim| Backup { claim, image: args.backup_image.as_deref() }),
    }
    .objects();
    let Some(name) = &args.context else {
        context.terminal.print(&manifest::yaml(&objects))?;
        return Ok(Code::Done);
    };
    let kubernetes = Kubernetes::connect(args.kubeconfig.as_deref(), name).await?;
    stateful_set(&kubernetes, &args.namespace, "upgrade it by `helm upgrade`").await?;
    for object in &objects {
        kubernetes.apply(object, args.force_conflicts).await?;
    }
    context.terminal.note(&format!("applied {} objects; waiting for the hub", objects.len()));
    if let Err(why) = wait(&kubernetes, &args.namespace, args.timeout).await? {
        return Err(Error::new(Code::NotReached, why).hint("nothing is undone"));
    }
    context.terminal.note("the hub is ready");
    context.terminal.hint(&format!(
        "the first admin's token: `kubectl --context {} --namespace {} exec {}-0 -- flotilla-hub admin-token --data /data/hub`",
        kubernetes.context(),
        args.namespace,
        hub::NAME
    ));
    Ok(Code::Done)
}

fn settings(args: &InstallArgs) -> Vec<(String, String)> {
    let addresses: Vec<String> = args.advertise.iter().map(ToString::to_string).collect();
    let mut hosts: Vec<String> = args.advertise.iter().map(|it| it.host().to_owned()).collect();
    hosts.extend(args.host.iter().cloned());
    hosts.extend(args.backup_claim.iter().map(|_| hub::inside(&args.namespace)));
    hosts.dedup();
    let mut settings = vec![
        ("FLOTILLA_REPO", args.repo.to_string()),
        ("FLOTILLA_BRANCH", args.branch.to_string()),
        ("FLOTILLA_ADVERTISE", addresses.join(",")),
        ("FLOTILLA_HOST", hosts.join(",")),
    ];
    if args.git_password_file.is_some() {
        settings.push(("FLOTILLA_GIT_PASSWORD_FILE", "/git/password".to_owned()));
    }
    settings.extend(args.git_username.iter().map(|name| ("FLOTILLA_GIT_USERNAME", name.clone())));
    settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Whether a StatefulSet's one pod is of its newest template, and ready.
fn is_rolled_out(set: &Value) -> bool {
    let status = &set["status"];
    let number = |value: &Value| value.as_i64().unwrap_or_default();
    number(&status["observedGeneration"]) >= number(&set["metadata"]["generation"])
        && status["currentRevision"].is_string()
        && status["updateRevision"] == status["currentRevision"]
        && number(&status["readyReplicas"]) >= 1
}

/// The hub's StatefulSet, if it is there. One that Helm made is refused with a hint of what to do.
async fn stateful_set(kubernetes: &Kubernetes, namespace: &str, hint: &str) -> Result<Option<Value>, Error> {
    let set = kubernetes.get("apps/v1", "StatefulSet", namespace, hub::NAME).await?;
    match set.as_ref().map(|set| &set["metadata"]["labels"]["app.kubernetes.io/managed-by"]) {
        Some(tool) if tool == "Helm" => {
            Err(Error::new(Code::Refused, "this hub is a release of Helm's").hint(hint))
        }
        _ => Ok(set),
    }
}

/// Waits until the hub is ready. The inner error says why it is not ready within `timeout` seconds.
async fn wait(kubernetes: &Kubernetes, namespace: &str, timeout: u64) -> Result<Result<(), String>, Error> {
    let deadline = Instant::now() + Duration::from_secs(timeout);
    loop {
        let set = kubernetes.get("apps/v1", "StatefulSet", namespace, hub::NAME).await?;
        if set.as_ref().is_some_and(is_rolled_out) {
            return Ok(Ok(()));
        }
        if Instant::now() >= deadline {
            let why = kubernetes.why_not_ready(namespace, hub::NAME).await?;
            return Ok(Err(format!("the hub is not ready after {timeout}s: {}", clean(&why))));
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_hub_is_ready_once_its_pod_is_of_the_newest_template() {
        let set = |observed: i64, update: &str, ready: i64| {
            json!({"metadata": {"generation": 2}, "status": {
                "observedGeneration": observed, "currentRevision": "a", "updateRevision": update, "readyReplicas": ready}})
        };
        for (set, ready) in [
            (set(2, "a", 1), true),
            (set(1, "a", 1), false),
            (set(2, "b", 1), false),
            (set(2, "a", 0), false),
            (json!({"metadata": {"generation": 1}}), false),
        ] {
            assert_eq!(is_rolled_out(&set), ready, "{set}");
        }
    }
}
