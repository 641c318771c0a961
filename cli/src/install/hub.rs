//! The hub's manifests: those of `deploy/hub.yaml`, with its settings. Pure.

use flotilla_core::Digest;
use flotilla_core::names::is_dns_label;
use serde_json::{Value, json};

use super::{documents, let_call, secret, set_image};

const HUB: &str = include_str!("../../../deploy/hub.yaml");
const BACKUP: &str = include_str!("../../../deploy/hub-backup.yaml");

/// Where the hub runs, unless somebody says otherwise.
pub(crate) const NAMESPACE: &str = "flotilla-hub";
/// The name of its StatefulSet and of most of its objects.
pub(crate) const NAME: &str = "flotilla-hub";
/// The Secret with the credentials of the fleet repo.
const GIT_SECRET: &str = "flotilla-hub-git";

/// On its pod: a digest of its settings.
const SETTINGS: &str = "flotilla.dev/settings";

/// What is particular to one hub.
#[derive(Debug)]
pub(crate) struct Hub<'a> {
    pub namespace: &'a str,
    /// Its settings: environment variables of `flotilla-hub run`.
    pub settings: Vec<(String, String)>,
    /// In place of the image of this version.
    pub image: Option<&'a str>,
    /// Secret in its namespace with the registry's credentials.
    pub pull_secret: Option<&'a str>,
    /// Password or token for the fleet repo.
    pub git_password: Option<&'a str>,
    pub storage_class: Option<&'a str>,
    /// What it may call beside the ports of https and ssh.
    pub egress_ports: Vec<u16>,
    pub backup: Option<Backup<'a>>,
}

/// A CronJob that takes backups.
#[derive(Debug)]
pub(crate) struct Backup<'a> {
    /// PersistentVolumeClaim for them.
    pub claim: &'a str,
    /// In place of the CLI's image of this version.
    pub image: Option<&'a str>,
}

/// The name by which a backup calls a hub: it has to be in the hub's certificate.
pub(crate) fn inside(namespace: &str) -> String {
    format!("{NAME}.{namespace}.svc")
}

impl Hub<'_> {
    /// The objects, in an order in which they can be applied.
    pub(crate) fn objects(&self) -> Vec<Value> {
        let mut objects = documents(HUB);
        if let Some(backup) = &self.backup {
            objects.extend(documents(BACKUP).into_iter().map(|cron_job| self.with_backup(cron_job, backup)));
        }
        if let Some(password) = self.git_password {
            objects.push(secret(GIT_SECRET, NAMESPACE, "password", password));
        }
        // The pod last: what it needs is there when it starts.
        objects.sort_by_key(|object| object["kind"] == "StatefulSet");
        for object in &mut objects {
            match object["kind"].as_str() {
                Some("Namespace") => object["metadata"]["name"] = json!(self.namespace),
                Some("ConfigMap") => object["data"] = self.data(),
                Some("StatefulSet") => self.set_pod(object),
                Some("NetworkPolicy") => let_call(object, self.egress_ports.iter().copied()),
                _ => {}
            }
            if object["metadata"]["namespace"].is_string() {
                object["metadata"]["namespace"] = json!(self.namespace);
            }
        }
        objects
    }

    fn with_backup(&self, mut cron_job: Value, backup: &Backup<'_>) -> Value {
        let job = &mut cron_job["spec"]["jobTemplate"];
        set_image(job, backup.image, self.pull_secret);
        let pod = &mut job["spec"]["template"]["spec"];
        pod["volumes"][0]["persistentVolumeClaim"]["claimName"] = json!(backup.claim);
        let (example, own) = (inside(NAMESPACE), inside(self.namespace));
        for arg in pod["containers"][0]["args"].as_array_mut().into_iter().flatten() {
            if let Some(text) = arg.as_str() {
                *arg = json!(text.replace(&example, &own));
            }
        }
        cron_job
    }

    fn data(&self) -> Value {
        self.settings.iter().map(|(name, value)| (name.clone(), json!(value))).collect()
    }

    fn set_pod(&self, stateful_set: &mut Value) {
        if let Some(class) = self.storage_class {
            stateful_set["spec"]["volumeClaimTemplates"][0]["spec"]["storageClassName"] = json!(class);
        }
        // The hub reads its settings when it starts: others make another pod.
        let settings = Digest::of(self.data().to_string().as_bytes());
        stateful_set["spec"]["template"]["metadata"]["annotations"][SETTINGS] = json!(settings.to_string());
        set_image(stateful_set, self.image, self.pull_secret);
    }
}

/// All objects that an installation makes in a namespace, in the order in which they can be deleted. Without its data they
/// leave its volume and its credentials. The namespace stays: others may have something in it.
pub(crate) fn installed(namespace: &str, with_data: bool) -> Vec<Value> {
    let settings = Vec::new();
    let hub = Hub {
        namespace,
        settings,
        image: None,
        pull_secret: None,
        git_password: Some(""),
        storage_class: None,
        egress_ports: Vec::new(),
        backup: Some(Backup { claim: "", image: None }),
    };
    let mut objects = hub.objects();
    objects.reverse();
    objects.retain(|object| object["kind"] != "Namespace" && (with_data || object["kind"] != "Secret"));
    if !with_data {
        return objects;
    }
    let claim = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": format!("data-{NAME}-0"), "namespace": namespace},
    });
    objects.insert(1, claim);
    objects
}

/// A namespace on the command line.
pub(crate) fn namespace(text: &str) -> Result<String, String> {
    match is_dns_label(text) {
        true => Ok(text.to_owned()),
        false => {
            Err(format!("'{text}' cannot name a namespace: use 1 to 63 lower-case letters, digits and '-'"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifests_hold_the_settings_and_the_pod_comes_last() {
        let hub = Hub {
            namespace: "fleet",
            settings: vec![("FLOTILLA_REPO".to_owned(), "https://git.example.com/a.git".to_owned())],
            image: Some("registry.example.com/hub:2"),
            pull_secret: Some("registry"),
            git_password: Some("hunter2"),
            storage_class: Some("encrypted"),
            egress_ports: vec![443, 3000],
            backup: Some(Backup { claim: "safe", image: Some("registry.example.com/flotilla:2") }),
        };
        let objects = hub.objects();
        let text = serde_json::to_string(&objects).unwrap();
        // What the manifests of deploy/ have for an example is nobody's setting.
        assert!(!text.contains("hub.example.com") && !text.contains("git.example.com/fleet"), "{text}");
        for object in &objects {
            let namespace = if object["kind"] == "Namespace" {
                &object["metadata"]["name"]
            } else {
                &object["metadata"]["namespace"]
            };
            assert_eq!(namespace, "fleet", "{object}");
        }
        let of_kind = |kind: &str| objects.iter().find(|object| object["kind"] == kind).unwrap();
        assert_eq!(of_kind("ConfigMap")["data"], json!({"FLOTILLA_REPO": "https://git.example.com/a.git"}));
        let job = &of_kind("CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"];
        assert_eq!(job["volumes"][0]["persistentVolumeClaim"]["claimName"], "safe");
        assert_eq!(job["containers"][0]["image"], "registry.example.com/flotilla:2");
        assert_eq!(job["imagePullSecrets"], json!([{"name": "registry"}]));
        assert_eq!(job["containers"][0]["args"][4], "--hub=https://flotilla-hub.fleet.svc:8444");
        assert_eq!(of_kind("Secret")["stringData"]["password"], "hunter2");
        let ports = of_kind("NetworkPolicy")["spec"]["egress"][1]["ports"].to_string();
        assert_eq!((ports.matches("3000").count(), ports.matches("443").count()), (1, 1), "{ports}");
        let set = objects.last().unwrap();
        let pod = &set["spec"]["template"]["spec"];
        assert_eq!(
            (&set["kind"], &pod["containers"][0]["image"]),
            (&json!("StatefulSet"), &json!("registry.example.com/hub:2"))
        );
        assert_eq!(set["spec"]["volumeClaimTemplates"][0]["spec"]["storageClassName"], "encrypted");
    }

    #[test]
    fn the_data_goes_only_where_it_is_asked_for() {
        let kinds = |with_data| {
            let objects = installed("fleet", with_data);
            objects.iter().map(|object| object["kind"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let (without, with) = (kinds(false), kinds(true));
        assert_eq!(without[0], "StatefulSet");
        for kind in ["PersistentVolumeClaim", "Secret"] {
            assert!(!without.iter().any(|it| it == kind) && with.iter().any(|it| it == kind), "{kind}");
        }
        assert!(!with.iter().any(|it| it == "Namespace"), "it may be somebody else's");
    }
}
