//! The real helm on a real API server: it goes on with a release of which we wrote a revision, and we with what it wrote.

use std::path::Path;
use std::process::Command;

use flotilla_helm::{Phase, Record, Status, chart, manifest, owner, record};
use flotilla_tests::objects::{ObjectRef, api, apply, list};
use flotilla_tests::{ClusterOptions, Clusters, helm};
use jiff::Timestamp;
use kube::Client;
use kube::api::{DynamicObject, PostParams};
use serde_json::{Value, json};

const CHART: &[(&str, &str)] = &[
    ("Chart.yaml", "apiVersion: v2\nname: own\nversion: 0.1.0\n"),
    ("values.yaml", "text: none\n"),
    ("templates/NOTES.txt", "It says {{ .Values.text }}.\n"),
    (
        "templates/objects.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n---\napiVersion: v1\nkind: \
         ConfigMap\nmetadata: {name: web}\ndata: {text: {{ .Values.text | quote }}}\n",
    ),
    (
        "templates/hook.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: before\n  annotations: {helm.sh/hook: \
         'pre-install,pre-rollback', helm.sh/hook-weight: '3'}\n",
    ),
];

struct Helm<'a> {
    program: &'a Path,
    kubeconfig: &'a Path,
    folder: &'a Path,
}

impl Helm<'_> {
    async fn run(&self, args: &[&str]) -> String {
        let mut command = Command::new(self.program);
        command.args(args).args(["--namespace", "default"]).current_dir(self.folder).env_clear();
        command.env("HOME", self.folder).env("KUBECONFIG", self.kubeconfig);
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        assert!(output.status.success(), "helm {args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    async fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.run(&[args, &["--output", "json"]].concat()).await).unwrap()
    }

    /// The revisions that there are, with their statuses.
    async fn history(&self) -> Vec<(u64, String)> {
        let history = self.json(&["history", "web"]).await;
        let entry = |entry: &Value| {
            (entry["revision"].as_u64().unwrap(), entry["status"].as_str().unwrap().to_owned())
        };
        history.as_array().unwrap().iter().map(entry).collect()
    }
}

async fn read(client: &Client, revision: u64) -> Record {
    let name = record::secret_name("web", revision);
    let secret = ObjectRef::new("v1", "Secret", "default", &name).json(client).await.unwrap();
    Record::of_secret(secret.to_string().as_bytes()).unwrap()
}

async fn write(client: &Client, record: &Record) {
    let secret: DynamicObject = serde_json::from_value(record.to_secret(Timestamp::now()).unwrap()).unwrap();
    let api = api(client, "v1", "Secret", Some("default"));
    match &record.resource_version {
        Some(_) => {
            let name = secret.metadata.name.clone().unwrap();
            api.replace(&name, &PostParams::default(), &secret).await.unwrap()
        }
        None => api.create(&PostParams::default(), &secret).await.unwrap(),
    };
}

#[tokio::test]
async fn helm_goes_on_with_records_of_ours() {
    let program = tokio::task::spawn_blocking(|| helm::find_or_build(&mut |_| ())).await.unwrap().unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (path, content) in CHART {
        let path = folder.path().join("own").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let clusters = Clusters::new().await.unwrap();
    let [cluster] = clusters.start(["one"], &ClusterOptions::default()).await.unwrap();
    let client = cluster.client();
    let helm = Helm { program: &program, kubeconfig: cluster.kubeconfig_path(), folder: folder.path() };
    let config = ObjectRef::new("v1", "ConfigMap", "default", "web");
    helm.run(&["install", "web", "own", "--set", "text=one"]).await;
    let uid = config.field(&client, "/metadata/uid").await.unwrap();

    // What helm printed for the chart, sorted here, is what helm wrote down.
    let mut first = read(&client, 1).await;
    let printed = helm.run(&["template", "web", "own", "--set", "text=one"]).await;
    let documents = manifest::split(&printed);
    let documents = documents.iter().map(|document| {
        let (source, content) = document.split_once('\n').unwrap();
        // It prints an empty line after each but the last.
        (source.strip_prefix("# Source: ").unwrap().to_owned(), format!("{}\n", content.trim_end()))
    });
    let documents: Vec<(String, String)> = documents.collect();
    let sorted = manifest::sort(documents.iter().map(|(path, text)| (path.as_str(), text.as_str()))).unwrap();
    assert_eq!(manifest::joined(&sorted.objects), first.release.manifest);
    let mut ran = first.release.hooks.clone();
    assert_eq!(ran[0].last_run.phase, Phase::Succeeded);
    ran[0].last_run = sorted.hooks[0].last_run.clone();
    // Helm notes what holds by default when it runs the hook.
    ran[0].delete_policies.clear();
    assert_eq!(sorted.hooks, ran);

    // A revision of ours, as of an upgrade.
    let mut second = first.clone();
    second.resource_version = None;
    let release = &mut second.release;
    release.revision = 2;
    release.config = record::Json::of(&json!({"text": "two"}));
    // Of the chart's files by our own rules, as the hub sends it.
    let files = CHART
        .iter()
        .map(|(path, text)| chart::File { path: (*path).to_owned(), content: text.as_bytes().to_vec() });
    release.chart = chart::chart(files, None).unwrap();
    release.manifest = release.manifest.replace("one", "two");
    release.info.notes = "It says two.\n".to_owned();
    release.info.last_deployed = Some(Timestamp::now());
    release.info.description = "Upgrade complete".to_owned();
    write(&client, &second).await;
    first.release.info.status = Status::Superseded;
    write(&client, &first).await;
    let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web", "namespace": "default"},
        "data": {"text": "two"}});
    owner::mark(object.as_object_mut().unwrap(), "web", "default");
    // As the manager by which helm applied it: it forces nobody aside.
    let manager = config.field(&client, "/metadata/managedFields/0/manager").await.unwrap();
    let manager = manager.as_str().unwrap();
    let applied = apply(&client, manager, &object).await.unwrap();
    assert!(owner::is_of(&serde_json::to_value(&applied).unwrap(), "web", "default"));

    let of = |revision, status: &str| (revision, status.to_owned());
    assert_eq!(helm.history().await, [of(1, "superseded"), of(2, "deployed")]);
    let status = helm.json(&["status", "web"]).await;
    assert_eq!((&status["version"], &status["info"]["status"]), (&json!(2), &json!("deployed")));
    let listed = helm.json(&["list"]).await;
    assert_eq!((&listed[0]["revision"], &listed[0]["chart"]), (&json!("2"), &json!("own-0.1.0")));
    assert_eq!(helm.json(&["get", "values", "web"]).await, json!({"text": "two"}));
    assert_eq!(helm.json(&["get", "values", "web", "--all"]).await, json!({"text": "two"}));
    let metadata = helm.json(&["get", "metadata", "web"]).await;
    assert_eq!((&metadata["chart"], &metadata["version"]), (&json!("own"), &json!("0.1.0")));
    assert!(helm.run(&["get", "all", "web"]).await.contains("It says two."));
    assert!(helm.run(&["get", "manifest", "web"]).await.contains("\"two\""));
    assert!(helm.run(&["get", "hooks", "web"]).await.contains("pre-rollback"));
    assert!(helm.run(&["get", "notes", "web"]).await.contains("It says two."));

    // Back, on by helm, and away: each from what we wrote.
    helm.run(&["rollback", "web", "1"]).await;
    assert_eq!(helm.history().await, [of(1, "superseded"), of(2, "superseded"), of(3, "deployed")]);
    assert_eq!(config.field(&client, "/data/text").await.unwrap(), json!("one"));
    let third = read(&client, 3).await.release;
    assert_eq!((third.info.rollback_revision, &third.manifest), (1, &first.release.manifest));
    assert_eq!(read(&client, 2).await.release.info.status, Status::Superseded);
    helm.run(&["upgrade", "web", "own", "--set", "text=four"]).await;
    assert_eq!(read(&client, 4).await.release.config.value().unwrap(), json!({"text": "four"}));
    assert_eq!(config.field(&client, "/metadata/uid").await.unwrap(), uid);
    helm.run(&["uninstall", "web"]).await;
    assert!(config.get(&client).await.unwrap().is_none());
    let left = list(&client, "v1", "Secret", Some("default"), "owner=helm").await.unwrap();
    assert!(left.is_empty(), "{left:?}");
}

/// `helm template` says neither; a record has both.
#[test]
fn helm_says_the_notes_and_tests_of_a_chart_beside_its_objects() {
    use flotilla_kustomize::files::{MemoryFiles, TreePath};
    use flotilla_render::helm::{Capabilities, ChartFiles, Helm, Limits, Owner, Program, TemplateRequest};
    let program = helm::find_or_build(&mut |_| {}).unwrap();
    let files = MemoryFiles::new(helm::CHART.iter().map(|(path, text)| (format!("own/{path}"), *text)));
    let request = TemplateRequest {
        owner: Owner {
            cluster: "one".parse().unwrap(),
            unit: flotilla_core::UnitId::helm_release("default", "web"),
        },
        chart: ChartFiles {
            files: std::sync::Arc::new(files),
            path: TreePath::from_root("own").unwrap(),
            digest: flotilla_core::Digest::of(b"own"),
            default_values: None,
        },
        name: "web".parse().unwrap(),
        namespace: "default".parse().unwrap(),
        values: serde_json::Map::new(),
        capabilities: Capabilities { kube_version: "v1.36.3".parse().unwrap(), api_versions: Vec::new() },
        crds: true,
        no_hooks: false,
        skip_schema: false,
        again: None,
        without: std::collections::BTreeSet::new(),
        from_secrets: false,
    };
    let text = Program::new(&program, Limits::default()).template(&request).unwrap().text;
    let notes = "# Source: own/templates/flotilla-notes.yaml\n# flotilla-notes: \"Thank you for web.\\n\"\n";
    assert!(text.contains(notes), "{text}");
    assert!(text.contains("helm.sh/hook: test"), "{text}");
}
