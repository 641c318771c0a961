//! `flotilla hub upgrade`: another version of a hub in a cluster, with a backup before and the way back.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{ArgGroup, Args};
use flotilla_core::ObjectId;
use serde_json::{Value, json};

use super::{backup, stateful_set, wait};
use crate::Context;
use crate::args;
use crate::error::Error;
use crate::exit::Code;
use crate::install::hub::{self, Hub};
use crate::install::kubernetes::Kubernetes;
use crate::output::{self, clean};

/// Upgrade a hub in a cluster: a backup first, and back to the former image if the new one is not ready
///
/// It applies the manifests of this version of the CLI with the settings that the hub has. Agents go on meanwhile. For a hub that
/// `flotilla hub install` made; one of Helm's is upgraded by `helm upgrade`, after `flotilla hub backup`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("before").args(["backup", "no_backup"]))]
pub(crate) struct UpgradeArgs {
    /// Context of a kubeconfig
    #[arg(long, value_name = "NAME")]
    context: String,
    /// The kubeconfig, in place of KUBECONFIG's or ~/.kube/config
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Image of the new version, as registry.example.com/flotilla-hub@sha256:...
    #[arg(long, value_name = "IMAGE")]
    image: String,
    /// File for the backup; by default it has a name by the time, in this folder
    #[arg(long, value_name = "FILE")]
    backup: Option<PathBuf>,
    /// Take no backup, as the hub does not answer
    #[arg(long)]
    no_backup: bool,
    /// Namespace of the hub
    #[arg(long, value_name = "NAME", default_value = hub::NAMESPACE, value_parser = hub::namespace)]
    namespace: String,
    /// Take over fields of the hub's own objects that another tool set
    #[arg(long)]
    force_conflicts: bool,
    /// How long to wait for the hub, each way
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = args::duration)]
    timeout: u64,
}

pub(crate) async fn run(context: &Context, args: UpgradeArgs) -> Result<Code, Error> {
    let kubernetes = Kubernetes::connect(args.kubeconfig.as_deref(), &args.context).await?;
    let place = Place { kubernetes: &kubernetes, namespace: &args.namespace };
    let before = place.read().await?;
    let advertised = before.settings.iter().find(|(name, _)| name == "FLOTILLA_ADVERTISE");
    let saved = match args.no_backup {
        true => None,
        false => Some(save(context, args.backup, advertised.map(|(_, value)| value.as_str())).await?),
    };
    let objects = before.objects(&args.namespace, &args.image);
    for object in &objects {
        kubernetes.apply(object, args.force_conflicts).await?;
    }
    context.terminal.note(&format!("applied {} objects; waiting for the hub", objects.len()));
    let Err(why) = wait(&kubernetes, &args.namespace, args.timeout).await? else {
        context.terminal.note(&format!(
            "the hub is ready with {}, before it ran {}",
            args.image,
            clean(&before.image)
        ));
        return Ok(Code::Done);
    };
    context.terminal.warn(&format!("{why}; going back to {}", clean(&before.image)));
    place.go_back(&before.template).await?;
    let hint = match saved {
        Some(file) => format!("the backup is in {}", file.display()),
        None => "there is no backup of before".to_owned(),
    };
    match wait(&kubernetes, &args.namespace, args.timeout).await? {
        Ok(()) => Err(Error::new(
            Code::NotReached,
            format!("the hub with {} was not ready ({why}), and {} is back", args.image, clean(&before.image)),
        )
        .hint(hint)),
        Err(still) => Err(Error::new(
            Code::NotReached,
            format!("neither {} nor {} is ready: {still}", args.image, clean(&before.image)),
        )
        .hint(format!(
            "where it refuses its store as newer, restore the backup into a new data folder (docs/operations.md, Upgrades); {hint}"
        ))),
    }
}

/// Takes the backup, of the hub that is upgraded and no other.
async fn save(context: &Context, file: Option<PathBuf>, advertised: Option<&str>) -> Result<PathBuf, Error> {
    let client = context.hub().map_err(|error| error.or_hint("--no-backup goes on without a backup"))?;
    let status =
        client.status().await.map_err(|error| error.or_hint("--no-backup goes on without a backup"))?;
    let of_cluster: Vec<&str> = advertised.unwrap_or_default().split(',').collect();
    if status.addresses != of_cluster {
        return Err(Error::new(
            Code::Refused,
            format!(
                "the hub that this CLI is set up for is called at {}, the one in the cluster at {}: they are not the same",
                clean(&status.addresses.join(", ")),
                clean(&of_cluster.join(", "))
            ),
        )
        .hint("set the CLI up for the hub that is to be upgraded"));
    }
    let file = file.unwrap_or_else(|| backup::name_at(output::now()).into());
    backup::take(context, &client, &file).await?;
    Ok(file)
}

/// A hub as it is installed.
#[derive(Debug, PartialEq)]
struct Installed {
    image: String,
    settings: Vec<(String, String)>,
    pull_secret: Option<String>,
    storage_class: Option<String>,
    egress_ports: Vec<u16>,
    /// The pod's template, for the way back.
    template: Value,
}

impl Installed {
    fn of(set: &Value, config: &Value, policy: Option<&Value>) -> Result<Self, String> {
        let template = &set["spec"]["template"];
        let pod = &template["spec"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let settings = config["data"].as_object().ok_or("its ConfigMap has no settings")?;
        let settings = settings.iter().map(|(name, value)| (name.clone(), text(value).unwrap_or_default()));
        let rules = policy.and_then(|policy| policy["spec"]["egress"].as_array()).into_iter().flatten();
        let outside = rules.filter(|rule| rule.get("to").is_some());
        let ports = outside.filter_map(|rule| rule["ports"].as_array()).flatten();
        let class = &set["spec"]["volumeClaimTemplates"][0]["spec"]["storageClassName"];
        Ok(Self {
            image: text(&pod["containers"][0]["image"]).ok_or("its pod has no image")?,
            settings: settings.collect(),
            pull_secret: text(&pod["imagePullSecrets"][0]["name"]),
            storage_class: text(class),
            egress_ports: ports.filter_map(|it| u16::try_from(it["port"].as_u64()?).ok()).collect(),
            template: template.clone(),
        })
    }

    fn objects(&self, namespace: &str, image: &str) -> Vec<Value> {
        let hub = Hub {
            namespace,
            settings: self.settings.clone(),
            image: Some(image),
            pull_secret: self.pull_secret.as_deref(),
            git_password: None,
            storage_class: self.storage_class.as_deref(),
            egress_ports: self.egress_ports.clone(),
            backup: None,
        };
        hub.objects()
    }
}

struct Place<'a> {
    kubernetes: &'a Kubernetes,
    namespace: &'a str,
}

impl Place<'_> {
    async fn read(&self) -> Result<Installed, Error> {
        let hint = "take a backup by `flotilla hub backup FILE`, then upgrade it by `helm upgrade`";
        let Some(set) = stateful_set(self.kubernetes, self.namespace, hint).await? else {
            let text = format!("there is no hub in the namespace {}", self.namespace);
            return Err(Error::new(Code::NotFound, text).hint("--namespace names another one"));
        };
        let config = self.kubernetes.get("v1", "ConfigMap", self.namespace, hub::NAME).await?;
        let policy =
            self.kubernetes.get("networking.k8s.io/v1", "NetworkPolicy", self.namespace, hub::NAME).await?;
        Installed::of(&set, &config.unwrap_or_default(), policy.as_ref())
            .map_err(|why| Error::new(Code::Refused, format!("cannot tell how the hub is installed: {why}")))
    }

    /// A StatefulSet waits for ever for a pod that is not ready, so it has to be deleted for the former one.
    async fn go_back(&self, template: &Value) -> Result<(), Error> {
        let kinds = self.kubernetes.kinds(&BTreeSet::from(["apps".to_owned()])).await?;
        let id = ObjectId::new("apps", "StatefulSet", self.namespace, hub::NAME);
        self.kubernetes.merge(&kinds, &id, "", &json!({"spec": {"template": template}})).await?;
        let pod = self.kubernetes.get("v1", "Pod", self.namespace, &format!("{}-0", hub::NAME)).await?;
        match pod {
            Some(pod) => self.kubernetes.delete(&pod).await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upgrade_keeps_what_the_hub_is_set_up_with() {
        let made = Hub {
            namespace: "fleet",
            settings: vec![("FLOTILLA_REPO".into(), "https://git.example.com/a.git".into())],
            image: Some("registry.example.com/hub:1"),
            pull_secret: Some("registry"),
            git_password: Some("hunter2"),
            storage_class: Some("encrypted"),
            egress_ports: vec![3000],
            backup: None,
        };
        let before = made.objects();
        let of =
            |objects: &[Value], kind: &str| objects.iter().find(|it| it["kind"] == kind).unwrap().clone();
        let read = |objects: &[Value]| {
            let policy = of(objects, "NetworkPolicy");
            Installed::of(&of(objects, "StatefulSet"), &of(objects, "ConfigMap"), Some(&policy)).unwrap()
        };
        let installed = read(&before);
        let after = installed.objects("fleet", "registry.example.com/hub:2");
        assert!(after.iter().all(|object| object["kind"] != "Secret"), "the credentials stay as they are");
        let upgraded = read(&after);
        assert_eq!(upgraded.image, "registry.example.com/hub:2");
        assert_eq!(
            Installed { image: installed.image.clone(), template: Value::Null, ..upgraded },
            Installed { template: Value::Null, ..installed }
        );
        let policies = [of(&before, "NetworkPolicy"), of(&after, "NetworkPolicy")];
        assert_eq!(policies[0], policies[1]);
        assert!(Installed::of(&of(&before, "StatefulSet"), &Value::Null, None).is_err());
    }
}
