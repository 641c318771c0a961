//! The hub's Helm chart, by the real helm: it makes what `flotilla hub install` applies, refuses values that cannot work, and is
//! installed, upgraded and uninstalled on a real API server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use flotilla_tests::fleet::SOON;
use flotilla_tests::objects::{ObjectRef, api};
use flotilla_tests::process::Recipe;
use flotilla_tests::{ClusterOptions, Clusters, helm};
use kube::api::PostParams;
use kube::config::Kubeconfig;
use serde_json::{Value, json};

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/chart")
}

struct Helm {
    program: PathBuf,
    home: tempfile::TempDir,
}

impl Helm {
    async fn new() -> Self {
        let build = || helm::find_or_build(&mut |_| ());
        let program = tokio::task::spawn_blocking(build).await.unwrap().unwrap();
        Self { program, home: tempfile::tempdir().unwrap() }
    }

    /// Whether it went well, what it printed and what it said.
    async fn run(&self, args: &[&str]) -> (bool, String, String) {
        let recipe = Recipe::new(&self.program).args(args).env("HOME", self.home.path());
        let output = recipe.without_env("KUBECONFIG").output(SOON).await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    }

    async fn template(&self, more: &[&str]) -> Result<Vec<Value>, String> {
        let chart = chart();
        let args = [&["template", "hub", chart.to_str().unwrap(), "--namespace", "fleet"], more].concat();
        let (done, printed, said) = self.run(&args).await;
        if done { Ok(objects(&printed)) } else { Err(said) }
    }
}

fn objects(text: &str) -> Vec<Value> {
    let documents = flotilla_yaml::parse(text).unwrap();
    documents.iter().map(|node| node.to_json().unwrap()).filter(|object| !object.is_null()).collect()
}

/// By kind and name, without the marks of who made them.
fn by_name(objects: Vec<Value>) -> BTreeMap<String, Value> {
    let named = objects.into_iter().map(|mut object| {
        object["metadata"].as_object_mut().unwrap().remove("labels");
        if object["kind"] == "StatefulSet" {
            let metadata = object["spec"]["template"]["metadata"].as_object_mut().unwrap();
            let settings = metadata.remove("annotations").unwrap();
            assert!(settings["flotilla.dev/settings"].is_string(), "{settings}");
        }
        (format!("{} {}", object["kind"], object["metadata"]["name"]), object)
    });
    named.collect()
}

const REQUIRED: [&str; 2] = [
    "--set-json",
    r#"settings={"FLOTILLA_REPO": "https://git.example.com/fleet.git", "FLOTILLA_ADVERTISE": "hub.example.com:8443",
        "FLOTILLA_HOST": "hub.example.com"}"#,
];

#[tokio::test]
async fn the_chart_makes_what_hub_install_applies() {
    let helm = Helm::new().await;
    let exported = async |more: &[&str]| {
        let args =
            ["hub", "install", "--export", "--namespace", "fleet", "--advertise", "hub.example.com:8443"];
        let recipe = Recipe::own("flotilla").unwrap().args(args).args(more);
        by_name(objects(&recipe.stdout(SOON).await.unwrap()))
    };
    let password = helm.home.path().join("password");
    std::fs::write(&password, "hunter2\n").unwrap();
    let git = ["--git-username", "hub", "--git-password-file", password.to_str().unwrap()];
    let repo = ["--repo", "https://git.example.com/fleet.git"];
    let on_port = ["--repo", "https://git.example.com:3000/fleet.git"];
    let digest = format!("sha256:{}", "0".repeat(64));
    let image = format!("registry.example.com/hub@{digest}");
    let more = ["--image", &image, "--image-pull-secret", "registry", "--storage-class", "encrypted"];
    let set = [
        "--set",
        &format!("image.repository=registry.example.com/hub,image.digest={digest}"),
        "--set",
        "imagePullSecrets={registry},storage.storageClassName=encrypted,networkPolicy.egressPorts={443,22,3000,5000}",
    ];
    for (flags, values) in [
        (repo.to_vec(), vec![]),
        ([&on_port[..], &git, &more, &["--egress-port", "5000"]].concat(), set.to_vec()),
        (
            [&repo[..], &["--backup-claim", "safe", "--backup-image", "registry.example.com/flotilla:v2"]]
                .concat(),
            vec![
                "--set",
                "backup.enabled=true,backup.claim=safe,backup.image.repository=registry.example.com/flotilla",
                "--set",
                "backup.image.tag=v2",
            ],
        ),
    ] {
        let mut wanted = exported(&flags).await;
        let settings = format!("settings={}", wanted["\"ConfigMap\" \"flotilla-hub\""]["data"]);
        let made = helm.template(&[&["--set-json", &settings], &values[..]].concat()).await.unwrap();
        for object in &made {
            assert_eq!(object["metadata"]["labels"]["app.kubernetes.io/managed-by"], "Helm", "{object}");
        }
        // Helm makes the namespace itself, and a password among its values would stand in its records.
        wanted.retain(|name, _| !name.starts_with("\"Namespace\"") && !name.starts_with("\"Secret\""));
        assert_eq!(by_name(made), wanted, "{flags:?}");
    }
    let about = std::fs::read_to_string(chart().join("Chart.yaml")).unwrap();
    let about = &objects(&about)[0];
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!((&about["version"], &about["appVersion"]), (&json!(version), &json!(version)));
}

#[tokio::test]
async fn values_that_cannot_work_are_refused_and_what_is_off_can_be_had() {
    let helm = Helm::new().await;
    let chart = chart();
    let lint = [&["lint", "--strict", chart.to_str().unwrap()], &REQUIRED[..]].concat();
    let (done, printed, said) = helm.run(&lint).await;
    assert!(done, "{printed}{said}");
    for (values, says) in [
        ("settings.FLOTILLA_REPO=https://a:b@git.example.com/fleet.git", "/settings/FLOTILLA_REPO"),
        ("settings.FLOTILLA_REPO=git@git.example.com:fleet.git", "/settings/FLOTILLA_REPO"),
        ("settings.FLOTILLA_ADVERTISE=hub.example.com", "/settings/FLOTILLA_ADVERTISE"),
        ("settings.FLOTILLA_DATA=/elsewhere", "/settings"),
        ("settings.REPO=x", "'REPO' does not match"),
        ("settings.FLOTILLA_AUDIT_DAYS=30", "/settings/FLOTILLA_AUDIT_DAYS"),
        ("replicas=2", "replicas"),
        ("image.digest=latest", "/image/digest"),
        ("storage.size=many", "/storage/size"),
        ("service.people.type=ExternalName", "/service/people/type"),
        ("networkPolicy.egressPorts={}", "/networkPolicy/egressPorts"),
        ("ingress.enabled=true", "/ingress/host"),
        ("tlsRoute.enabled=true", "/tlsRoute/hostnames"),
        ("serviceMonitor.enabled=true", "/serviceMonitor/serverName"),
        ("backup.enabled=true", "/backup/claim"),
        ("backup.keep=0", "/backup/keep"),
        ("backup.enabled=true,backup.claim=backups", "FLOTILLA_HOST lacks flotilla-hub.fleet.svc"),
    ] {
        let error = helm.template(&[&REQUIRED[..], &["--set", values]].concat()).await.unwrap_err();
        assert!(error.contains(says), "{values}: {error}");
    }
    let error = helm.template(&[]).await.unwrap_err();
    assert!(error.contains("FLOTILLA_REPO"), "{error}");

    let all = [
        "podDisruptionBudget.enabled=true",
        "ingress.enabled=true,ingress.host=fleet.example.com,ingress.className=nginx,ingress.tlsSecretName=fleet-tls",
        "tlsRoute.enabled=true,tlsRoute.hostnames={hub.example.com},tlsRoute.parentRefs[0].name=outside",
        "serviceMonitor.enabled=true,serviceMonitor.serverName=hub.example.com,serviceMonitor.labels.release=prometheus",
        "prometheusRule.enabled=true,prometheusRule.labels.release=prometheus,dashboard.enabled=true",
        "service.agents.type=NodePort,service.agents.nodePort=30443",
        "priorityClassName=system-cluster-critical,nodeSelector.disk=fast,tolerations[0].operator=Exists",
        "networkPolicy.peopleFrom[0].namespaceSelector.matchLabels.name=ingress",
        "backup.enabled=true,backup.claim=backups,backup.keep=3",
        r"settings.FLOTILLA_HOST=hub.example.com\,flotilla-hub.fleet.svc",
    ];
    let set: Vec<&str> = all.iter().flat_map(|values| ["--set", values]).collect();
    let made = by_name(helm.template(&[&REQUIRED[..], &set].concat()).await.unwrap());
    let at =
        |name: &str, path: &str| made[name].pointer(path).unwrap_or_else(|| panic!("{name} {path}")).clone();
    for (name, path, value) in [
        ("\"PodDisruptionBudget\" \"flotilla-hub\"", "/spec/maxUnavailable", json!(0)),
        (
            "\"Ingress\" \"flotilla-hub\"",
            "/spec/rules/0/http/paths/0/backend/service/port/name",
            json!("people"),
        ),
        (
            "\"Ingress\" \"flotilla-hub\"",
            "/spec/tls/0",
            json!({"hosts": ["fleet.example.com"], "secretName": "fleet-tls"}),
        ),
        ("\"TLSRoute\" \"flotilla-hub-agents\"", "/spec/rules/0/backendRefs/0/port", json!(8443)),
        (
            "\"ServiceMonitor\" \"flotilla-hub\"",
            "/spec/endpoints/0/tlsConfig/serverName",
            json!("hub.example.com"),
        ),
        ("\"Service\" \"flotilla-hub-agents\"", "/spec/ports/0/nodePort", json!(30443)),
        ("\"StatefulSet\" \"flotilla-hub\"", "/spec/template/spec/nodeSelector", json!({"disk": "fast"})),
        (
            "\"NetworkPolicy\" \"flotilla-hub\"",
            "/spec/ingress/1/from",
            json!([{"namespaceSelector": {"matchLabels": {"name": "ingress"}}},
                {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "flotilla-hub-backup"}}}]),
        ),
        (
            "\"CronJob\" \"flotilla-hub-backup\"",
            "/spec/jobTemplate/spec/template/spec/volumes/0/persistentVolumeClaim/claimName",
            json!("backups"),
        ),
    ] {
        assert_eq!(at(name, path), value, "{name} {path}");
    }
    let rules = at("\"PrometheusRule\" \"flotilla-hub\"", "/spec/groups/0/rules");
    assert!(rules.as_array().unwrap().len() > 5, "{rules}");
    let dashboard = at("\"ConfigMap\" \"flotilla-hub-dashboard\"", "/data/flotilla.json");
    let dashboard: Value = serde_json::from_str(dashboard.as_str().unwrap()).unwrap();
    assert_eq!(dashboard["title"], "Flotilla");
    let none =
        helm.template(&[&REQUIRED[..], &["--set", "networkPolicy.enabled=false"]].concat()).await.unwrap();
    assert!(none.iter().all(|object| object["kind"] != "NetworkPolicy"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_is_installed_upgraded_and_uninstalled_by_helm() {
    let helm = Helm::new().await;
    let cluster =
        Clusters::new().await.unwrap().start_one("chart", &ClusterOptions::default()).await.unwrap();
    let (kubeconfig, client) = (cluster.kubeconfig_path().to_str().unwrap(), cluster.client());
    let context = Kubeconfig::read_from(kubeconfig).unwrap().current_context.unwrap();
    // Where the strictest pod security is enforced.
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "fleet", "labels":
        {"pod-security.kubernetes.io/enforce": "restricted"}}});
    flotilla_tests::objects::apply(&client, "kubectl", &namespace).await.unwrap();
    let chart = chart();
    let there = ["--namespace", "fleet", "--kubeconfig", kubeconfig];
    let run = async |command: &[&str]| {
        let (done, printed, said) = helm.run(&[command, &there[..]].concat()).await;
        assert!(done, "{command:?}: {printed}{said}");
        printed
    };
    let install = [
        &["upgrade", "--install", "hub", chart.to_str().unwrap(), "--wait", "--timeout", "60s"],
        &REQUIRED[..],
    ];
    let install = install.concat();
    let notes = run(&install).await;
    assert!(
        notes.contains("Agents call hub.example.com:8443") && notes.contains("--namespace fleet"),
        "{notes}"
    );
    let pod = ObjectRef::new("v1", "Pod", "fleet", "flotilla-hub-0");
    let image = pod.field(&client, "/spec/containers/0/image").await.unwrap();
    assert_eq!(image, format!("flotilla-hub:{}", env!("CARGO_PKG_VERSION")));
    run(&[&install[..], &["--set", "image.tag=next"]].concat()).await;
    assert_eq!(pod.field(&client, "/spec/containers/0/image").await.unwrap(), "flotilla-hub:next");

    // The pod of a backup is let in, and its arguments are the CLI's.
    let backup = [
        "--set",
        r"settings.FLOTILLA_HOST=hub.example.com\,flotilla-hub.fleet.svc",
        "--set",
        "backup.enabled=true,backup.claim=backups",
    ];
    run(&[&install[..], &backup].concat()).await;
    let job = ObjectRef::new("batch/v1", "CronJob", "fleet", "flotilla-hub-backup");
    let mut template = job.field(&client, "/spec/jobTemplate/spec/template").await.unwrap();
    template["metadata"]["name"] = json!("backup");
    let pod_of_backup = serde_json::from_value(json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": template["metadata"], "spec": template["spec"]}));
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let pods = api(&client, "v1", "Pod", Some("fleet"));
    pods.create(&dry, &pod_of_backup.unwrap()).await.unwrap();
    let args: Vec<String> =
        serde_json::from_value(template["spec"]["containers"][0]["args"].clone()).unwrap();
    let read = Recipe::own("flotilla").unwrap().args(args).args(["--help"]).stdout(SOON).await.unwrap();
    assert!(read.contains("Write a backup of the hub"), "{read}");

    // Two tools must not write one hub's objects.
    let ours = [
        "hub",
        "install",
        "--namespace",
        "fleet",
        "--repo",
        "https://git.example.com/fleet.git",
        "--advertise",
        "h:1",
    ];
    let args = [&ours[..], &["--context", &context, "--kubeconfig", kubeconfig]].concat();
    let output = Recipe::own("flotilla").unwrap().args(args).output(SOON).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(7) && said.contains("helm upgrade"), "{said}");

    run(&["uninstall", "hub"]).await;
    let set = ObjectRef::new("apps/v1", "StatefulSet", "fleet", "flotilla-hub");
    assert!(set.get(&client).await.unwrap().is_none());
    let volume = ObjectRef::new("v1", "PersistentVolumeClaim", "fleet", "data-flotilla-hub-0");
    assert!(volume.get(&client).await.unwrap().is_some(), "by which agents know their hub");
}
