//! Helm releases, rendered by the real helm at the hub and applied as units.

use std::path::Path;

use anyhow::{Context, ensure};
use flotilla_tests::ClusterOptions;
use flotilla_tests::fleet::{Fleet, HubOptions, SOON};
use flotilla_tests::git::{Change, Repo, file};
use flotilla_tests::helm::{self, CHART};
use flotilla_tests::manifests::{app, config_map, unit, unit_id};
use flotilla_tests::marked::MARK;
use flotilla_tests::objects::{ObjectRef, apply};
use flotilla_tests::wait::eventually;
use serde_json::json;

use crate::config;
use crate::shared::{held, lacks, name_of, objects};

fn release(values: &str) -> Change {
    let text = format!(
        "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {{name: web, namespace: \
         default}}\nspec:\n  interval: 1m\n  chart:\n    spec:\n      chart: ./charts/own\n      sourceRef: {{kind: \
         GitRepository, name: flux-system, namespace: flux-system}}\n  values: {values}\n"
    );
    file("clusters/one/web.yaml", text)
}

/// A subchart as `helm dependency update` leaves it.
fn packed() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let chart = folder.path().join("packed");
    std::fs::create_dir_all(chart.join("templates")).unwrap();
    std::fs::write(chart.join("Chart.yaml"), "apiVersion: v2\nname: packed\nversion: 0.1.0\n").unwrap();
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: packed\ndata:\n  value: '1'\n{{- if .Values.old }}\n  old: {{ \
               lookup \"v1\" \"ConfigMap\" .Release.Namespace \"packed\" }}\n{{- end }}\n";
    std::fs::write(chart.join("templates/map.yaml"), map).unwrap();
    // Nobody answers there, and nobody is asked.
    std::fs::write(chart.join("values.schema.json"), r#"{"$ref": "http://127.0.0.1:9/own.json"}"#).unwrap();
    let mut tar = std::process::Command::new("tar");
    let output = tar.arg("-C").arg(folder.path()).args(["-czf", "-", "packed"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

/// The files of the chart, with that archive among them.
fn chart() -> Vec<(String, Vec<u8>)> {
    let own = CHART.iter().map(|(path, content)| ((*path).to_owned(), content.as_bytes().to_vec()));
    own.chain([("charts/packed-0.1.0.tgz".to_owned(), packed())]).collect()
}

/// Compares the cluster with what helm itself prints for the chart.
async fn is_as_helm_has_it(fleet: &Fleet, program: &Path, values: &str) {
    let folder = tempfile::tempdir().unwrap();
    for (path, content) in chart() {
        let path = folder.path().join("own").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    std::fs::write(folder.path().join("values.yaml"), values).unwrap();
    let mut helm = std::process::Command::new(program);
    helm.args([
        "template",
        "web",
        "own",
        "--values",
        "values.yaml",
        "--namespace",
        "default",
        "--include-crds",
    ]);
    helm.args(["--no-hooks", "--kube-version", "v1.36.3", "--skip-schema-validation"]);
    let output = helm.current_dir(folder.path()).env_clear().env("HOME", folder.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut wanted = objects(&String::from_utf8(output.stdout).unwrap());
    for object in &mut wanted {
        if object["kind"] != "CustomResourceDefinition" {
            object["metadata"]["namespace"] = json!("default");
        }
        // It is drawn anew by each run.
        object.as_object_mut().unwrap().remove("stringData");
    }
    let ours = held(fleet, "one", |unit| unit == "helmrelease/default/web").await.unwrap();
    assert_eq!(ours, wanted.iter().map(name_of).collect());
    for object in &wanted {
        let differences = lacks(fleet, "one", object).await.unwrap();
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    }
}

/// A hub with this helm, and the cluster `one`.
async fn with_helm(program: &Path, files: &[Change]) -> Fleet {
    let repo = Repo::new().unwrap();
    repo.commit("begin", files).unwrap();
    let url = repo.url();
    let args = vec!["--helm".to_owned(), program.display().to_string()];
    let options = HubOptions { args, ..HubOptions::default() };
    let mut fleet = Fleet::new(repo, &url, &options).await.unwrap();
    let cluster = flotilla_tests::Clusters::new().await.unwrap();
    let [cluster] = cluster.start(["one"], &ClusterOptions::default()).await.unwrap();
    fleet.join("one", cluster).await.unwrap();
    fleet
}

/// Puts values into the hub's secrets.
async fn keep(fleet: &mut Fleet, values: &str) {
    let put = ["secret", "create", "generic", "values", "--namespace", "default", "--from-literal"];
    let output = fleet.hub().cli(&[&put[..], &[&format!("values.yaml={values}")]].concat()).await.unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Waits for what the release's problems are to say; nothing: until there are none.
async fn problem(fleet: &Fleet, says: Option<&str>) {
    eventually(SOON, || async {
        let units = fleet.units("one").await?;
        let web = units.get("helmrelease/default/web").context("the hub knows no such unit")?;
        let errors = flotilla_tests::fleet::errors(web);
        let as_said = says.map_or(errors.is_empty(), |says| errors.iter().any(|error| error.contains(says)));
        ensure!(as_said, "{errors:?}");
        anyhow::Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_is_rendered_once_and_applied() {
    let program = tokio::task::spawn_blocking(|| helm::find_or_build(&mut |_| {})).await.unwrap().unwrap();
    let values = "{replicas: 2, global: {port: 8080}}";
    let mut files = vec![release(values)];
    files.extend(chart().into_iter().map(|(path, content)| file(&format!("charts/own/{path}"), content)));
    let mut fleet = with_helm(&program, &files).await;

    let service = ObjectRef::new("v1", "Service", "default", "web-sub");
    let secret = ObjectRef::new("v1", "Secret", "default", "web");
    let password = |fleet: &Fleet| {
        let (client, secret) = (fleet.client("one"), secret.clone());
        async move { secret.field(&client, "/data/password").await }
    };
    fleet.field_becomes("one", &config("web"), "/data/replicas", "2").await.unwrap();
    fleet.field_becomes("one", &config("web"), "/data/kubernetes", "v1.36.3").await.unwrap();
    fleet.field_becomes("one", &service, "/spec/ports/0/port", 8080).await.unwrap();
    fleet.field_becomes("one", &config("packed"), "/data/value", "1").await.unwrap();
    fleet
        .appears(
            "one",
            &ObjectRef::global("apiextensions.k8s.io/v1", "CustomResourceDefinition", "monitors.example.org"),
        )
        .await
        .unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    is_as_helm_has_it(&fleet, &program, values).await;
    let drawn = password(&fleet).await.unwrap();

    // A commit beside it, a restart of the hub: helm is not run again, or the password would be another.
    fleet.commit("Beside", &[file("clusters/one/other.yaml", config_map("other", "1"))]).await.unwrap();
    fleet.field_becomes("one", &config("other"), "/data/value", "1").await.unwrap();
    fleet.hub().process().kill();
    fleet.hub().restart().await.unwrap();
    fleet.commit("Beside", &[file("clusters/one/other.yaml", config_map("other", "2"))]).await.unwrap();
    fleet.field_becomes("one", &config("other"), "/data/value", "2").await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    assert_eq!(password(&fleet).await.unwrap(), drawn);

    // Without drift detection, drift is told and left.
    config("web").edit(&fleet.client("one"), json!({"data": {"replicas": "9"}})).await.unwrap();
    eventually(SOON, || async {
        let units = fleet.units("one").await?;
        let drift = &units["helmrelease/default/web"].drift;
        ensure!(drift.len() == 1, "drift: {drift:?}");
        anyhow::Ok(())
    })
    .await
    .unwrap();
    assert_eq!(config("web").field(&fleet.client("one"), "/data/replicas").await.unwrap(), "9");

    // What cannot be rendered keeps what runs, by name.
    for (values, says) in [
        ("{replicas: many}", "replicas"),
        ("{hook: true}", "Job migrate (pre-upgrade, own/templates/hook.yaml)"),
        ("{old: true}", "own/templates/secret.yaml:8:"),
        ("{packed: {old: true}}", "own/charts/packed/templates/map.yaml:8:"),
    ] {
        fleet.commit(values, &[release(values)]).await.unwrap();
        eventually(SOON, || async {
            let units = fleet.units("one").await?;
            let errors = flotilla_tests::fleet::errors(&units["helmrelease/default/web"]);
            ensure!(errors.iter().any(|error| error.contains(says)), "{errors:?}");
            anyhow::Ok(())
        })
        .await
        .unwrap();
    }
    assert_eq!(password(&fleet).await.unwrap(), drawn, "what was held stayed");

    fleet.commit("Mend", &[release("{replicas: 3}")]).await.unwrap();
    fleet.field_becomes("one", &config("web"), "/data/replicas", "3").await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();

    // Values from the hub's secrets.
    let drawn = password(&fleet).await.unwrap();
    keep(&mut fleet, "{replicas: 4}").await;
    let from = "{}\n  valuesFrom: [{kind: Secret, name: values}]";
    fleet.commit("Values", &[release(from)]).await.unwrap();
    fleet.field_becomes("one", &config("web"), "/data/replicas", "4").await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    let redrawn = password(&fleet).await.unwrap();
    assert_ne!(redrawn, drawn, "other values are another render");
    keep(&mut fleet, &format!("{{refused: {MARK}}}")).await;
    problem(&fleet, Some("some of the values come from Secrets")).await;
    keep(&mut fleet, "{replicas: 4}").await;
    problem(&fleet, None).await;
    fleet.in_sync(&["one"]).await.unwrap();
    assert_eq!(password(&fleet).await.unwrap(), redrawn, "what was rendered once is there");

    // A backup holds what helm gave; without it, nothing is rendered in its place.
    let backup = fleet.hub().data().with_file_name("backup");
    fleet.hub().command("backup", &backup.display().to_string()).await.unwrap();
    fleet.hub().process().kill();
    let data = fleet.hub().data().to_owned();
    std::fs::remove_dir_all(data.join("helm")).unwrap();
    fleet.hub().restart().await.unwrap();
    problem(&fleet, Some("is lost")).await;
    assert_eq!(password(&fleet).await.unwrap(), redrawn);
    fleet.hub().process().kill();
    std::fs::rename(&data, data.with_file_name("before")).unwrap();
    fleet.hub().command("restore", &backup.display().to_string()).await.unwrap();
    fleet.hub().restart().await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    fleet.commit("After", &[file("clusters/one/other.yaml", config_map("other", "3"))]).await.unwrap();
    fleet.field_becomes("one", &config("other"), "/data/value", "3").await.unwrap();
    problem(&fleet, None).await;
    assert_eq!(password(&fleet).await.unwrap(), redrawn);
}

/// A chart that shows the values which it is given.
const SHOWS: [(&str, &str); 2] = [
    ("charts/shows/Chart.yaml", "apiVersion: v2\nname: shows\nversion: 0.1.0\n"),
    (
        "charts/shows/templates/map.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}\ndata:\n  size: {{ .Values.size | \
         default \"none\" | quote }}\n",
    ),
];

/// The release of that chart, with more lines of its spec.
fn shows(name: &str, annotations: &str, more: &str) -> Change {
    let text = format!(
        "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {{name: {name}, namespace: default, \
         annotations: {{{annotations}}}}}\nspec:\n  interval: 1m\n  chart:\n    spec:\n      chart: ./charts/shows\n      \
         sourceRef: {{kind: GitRepository, name: flux-system, namespace: flux-system}}\n{more}"
    );
    file(&format!("clusters/one/{name}.yaml"), text)
}

/// An account that may have ConfigMaps, and may not read Secrets.
const LIMITED: &str = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: limited, namespace: default}\n---\napiVersion: \
                       rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: limited, namespace: default}\nrules: \
                       [{apiGroups: [''], resources: [configmaps], verbs: ['*']}]\n---\napiVersion: \
                       rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: limited, namespace: \
                       default}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: limited}\nsubjects: \
                       [{kind: ServiceAccount, name: limited, namespace: default}]\n";

/// Waits until a unit reports an error that says this.
async fn says(fleet: &Fleet, unit: &str, text: &str) {
    let check = |unit: &flotilla_api::Unit| {
        let errors = flotilla_tests::fleet::errors(unit);
        let is_said = errors.iter().any(|error| error.contains(text));
        if is_said { Ok(()) } else { Err(format!("'{text}' is not said: {errors:?}")) }
    };
    fleet.unit_becomes("one", unit, check).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_the_cluster_has_gives_values_and_is_followed() {
    let program = tokio::task::spawn_blocking(|| helm::find_or_build(&mut |_| {})).await.unwrap().unwrap();
    let secret_of = "  valuesFrom: [{kind: Secret, name: overrides, optional: true}]\n";
    let files = [
        shows(
            "web",
            "",
            "  valuesFrom: [{kind: ConfigMap, name: settings}, {kind: Secret, name: overrides, optional: true}]\n",
        ),
        shows("guarded", "", &format!("  serviceAccountName: limited\n{secret_of}")),
        file("clusters/one/limited.yaml", LIMITED),
        app("one", "apps", &["postBuild: {substituteFrom: [{kind: ConfigMap, name: vars}]}"]),
        file("apps/apps/map.yaml", config_map("apps", "${region}")),
        // What the hub itself reads: it has to be told.
        file("apps/apps/regional.yaml", unit("regional", "regions/${region}", &[])),
        file("regions/eu/map.yaml", config_map("regional", "of eu")),
        file("regions/us/map.yaml", config_map("regional", "of us")),
    ];
    let charts = SHOWS.map(|(path, content)| file(path, content));
    let mut fleet = with_helm(&program, &[&files[..], &charts].concat()).await;
    let client = fleet.client("one");
    let (web, guarded) = ("helmrelease/default/web", "helmrelease/default/guarded");
    let (apps, regional) = (unit_id("apps"), unit_id("regional"));

    // What the cluster lacks and is not optional holds, and so does what the account may not read: that is not absent.
    says(&fleet, web, "ConfigMap/settings is neither in Git nor in the cluster").await;
    says(&fleet, &apps, "vars").await;
    says(&fleet, guarded, "the cluster's agent cannot read it").await;
    for name in ["web", "guarded", "apps", "regional"] {
        assert!(config(name).get(&client).await.unwrap().is_none(), "{name}");
    }

    let map = |namespace: &str, name: &str, key: &str, value: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace},
            "data": {key: value}})
    };
    let settings = |value: &str| map("default", "settings", "values.yaml", value);
    let vars = |region: &str| map("flux-system", "vars", "region", region);
    let flux_system = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "flux-system"}});
    for object in [flux_system, settings("size: small"), vars("eu")] {
        apply(&client, "somebody", &object).await.unwrap();
    }
    fleet.field_becomes("one", &config("web"), "/data/size", "small").await.unwrap();
    fleet.field_becomes("one", &config("apps"), "/data/value", "eu").await.unwrap();
    fleet.field_becomes("one", &config("regional"), "/data/value", "of eu").await.unwrap();

    // A change in the cluster is followed, without a commit.
    apply(&client, "somebody", &settings("size: large")).await.unwrap();
    apply(&client, "somebody", &vars("us")).await.unwrap();
    fleet.field_becomes("one", &config("web"), "/data/size", "large").await.unwrap();
    fleet.field_becomes("one", &config("apps"), "/data/value", "us").await.unwrap();
    fleet.field_becomes("one", &config("regional"), "/data/value", "of us").await.unwrap();

    // The Secret comes: what is in it is known only there, so the release stays as it is until that goes.
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "overrides", "namespace": "default"},
        "stringData": {"values.yaml": format!("size: {MARK}")}});
    apply(&client, "somebody", &secret).await.unwrap();
    says(&fleet, web, "what is in it is known only there").await;
    assert_eq!(config("web").field(&client, "/data/size").await.unwrap(), "large");
    ObjectRef::of(&secret).unwrap().delete(&client).await.unwrap();
    fleet.phase_becomes("one", web, "Ready").await.unwrap();

    // Nobody asks for the Secret that the account may not read.
    let absent = shows(
        "guarded",
        "flotilla.dev/absent: Secret/overrides",
        &format!("  serviceAccountName: limited\n{secret_of}"),
    );
    fleet.commit("Do without", &[absent]).await.unwrap();
    fleet.field_becomes("one", &config("guarded"), "/data/size", "none").await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();

    // A hub that restarts asks the same, and knows the answers while no agent is there: nothing changes, nothing is held.
    let versions = |client: kube::Client| async move {
        let mut versions = Vec::new();
        for name in ["web", "guarded", "apps", "regional"] {
            versions.push(config(name).field(&client, "/metadata/resourceVersion").await.unwrap());
        }
        versions
    };
    let before = versions(client.clone()).await;
    fleet.member("one").agent().process().kill();
    fleet.hub().process().kill();
    fleet.hub().restart().await.unwrap();
    let beside = file("clusters/one/beside.yaml", config_map("beside", "1"));
    let commit = fleet.commit("Beside", &[beside]).await.unwrap();
    eventually(SOON, || async {
        let at = fleet.status().await?.commit.unwrap_or_default().id;
        ensure!(at == commit, "the hub renders {at}");
        let units = fleet.units("one").await?;
        for unit in [web, guarded, &apps, &regional] {
            let unit = units.get(unit).with_context(|| format!("the hub forgot {unit}"))?;
            let errors = flotilla_tests::fleet::errors(unit);
            ensure!(errors.is_empty(), "{}: {errors:?}", unit.unit);
        }
        anyhow::Ok(())
    })
    .await
    .unwrap();
    fleet.member("one").agent().restart().unwrap();
    fleet.field_becomes("one", &config("beside"), "/data/value", "1").await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    assert_eq!(versions(client.clone()).await, before);

    // And follows what changes from then on.
    apply(&client, "somebody", &settings("size: huge")).await.unwrap();
    apply(&client, "somebody", &vars("eu")).await.unwrap();
    fleet.field_becomes("one", &config("web"), "/data/size", "huge").await.unwrap();
    fleet.field_becomes("one", &config("regional"), "/data/value", "of eu").await.unwrap();

    // What goes from the cluster leaves what it gave.
    let gone = ObjectRef::of(&vars("eu")).unwrap();
    gone.delete(&client).await.unwrap();
    says(&fleet, &apps, "vars").await;
    assert_eq!(config("regional").field(&client, "/data/value").await.unwrap(), "of eu");
}
