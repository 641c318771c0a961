//! `flotilla init`: a fleet repo to start from, as files in a folder.

use std::path::{Path, PathBuf};

use clap::Args;
use flotilla_core::ClusterName;
use flotilla_core::names::is_dns_label;
use flotilla_runtime::files::{self, FileError};
use flotilla_yaml::Node;
use serde_json::{Value, json};

use crate::Context;
use crate::error::Error;
use crate::exit::Code;

/// Write a fleet repo to start from
///
/// Each cluster gets a folder in clusters/, with one unit that runs an app from apps/. Without --image the app is a ConfigMap that
/// greets in the name of its cluster, for which no cluster needs to pull anything; with --image a Deployment. The files are plain
/// Kubernetes, kustomize and Flux's own Kustomization; only clusters/*/cluster.yaml is Flotilla's.
///
/// Nothing that is there is written over. `flotilla check --repo DIR` accepts what this writes.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Folder to write into; made if it is not there
    dir: PathBuf,
    /// A cluster; may be given several times
    #[arg(long = "cluster", value_name = "NAME", default_values = ["staging", "production"])]
    clusters: Vec<ClusterName>,
    /// Name of the app, and of its namespace
    #[arg(long, value_name = "NAME", default_value = "hello", value_parser = label)]
    app: String,
    /// Image that the app runs
    #[arg(long, value_name = "IMAGE", value_parser = image)]
    image: Option<String>,
    /// Port that the image listens on: the app gets a Service
    #[arg(long, value_name = "PORT", requires = "image", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
}

fn label(text: &str) -> Result<String, String> {
    match is_dns_label(text) {
        true => Ok(text.to_owned()),
        false => Err(format!("'{text}' is not a name: use 1 to 63 lower-case letters, digits and '-'")),
    }
}

fn image(text: &str) -> Result<String, String> {
    let taken = |c: char| c.is_ascii_alphanumeric() || "._:/@-".contains(c);
    match text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(taken) {
        true => Ok(text.to_owned()),
        false => Err(format!("'{text}' is not an image: write it like registry.example.com/app:1.0")),
    }
}

pub(crate) fn run(context: &Context, args: InitArgs) -> Result<Code, Error> {
    let files = repo(&args);
    let failed = |path: &Path, error: FileError| {
        Error::new(Code::Local, format!("cannot write {}", path.display())).because(error)
    };
    for (path, _) in &files {
        let path = args.dir.join(path);
        if files::is_there(&path).map_err(|error| failed(&path, error))? {
            return Err(Error::usage(format!("{} is there already: nothing was written", path.display()))
                .hint("choose an empty folder"));
        }
    }
    for (path, text) in &files {
        let path = args.dir.join(path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .map_err(|error| Error::io(format!("make the folder {}", folder.display()), error))?;
        }
        files::write_atomic(&path, text.as_bytes(), files::PUBLIC).map_err(|error| failed(&path, error))?;
    }
    let dir = args.dir.display();
    context.terminal.note(&format!("wrote {} files to {dir}", files.len()));
    context.terminal.hint(&format!(
        "next: `flotilla check --repo {dir}`, then commit it to a repository, and start the hub with --repo of its address"
    ));
    Ok(Code::Done)
}

/// The files, by their paths.
fn repo(args: &InitArgs) -> Vec<(String, String)> {
    let InitArgs { clusters, app, .. } = args;
    let mut files = vec![("README.md".to_owned(), readme(clusters, app))];
    for cluster in clusters {
        let folder = format!("clusters/{cluster}");
        let definition = json!({
            "apiVersion": "flotilla.dev/v1alpha1",
            "kind": "Cluster",
            "metadata": {"name": cluster.as_str()},
            "spec": {"path": folder, "variables": {"cluster_name": cluster.as_str()}},
        });
        files.push((
            format!("{folder}/cluster.yaml"),
            said(
                "What this cluster is. Only the hub reads this file: kustomization.yaml does not list it.",
                &definition,
            ),
        ));
        files.push((
            format!("{folder}/kustomization.yaml"),
            said("What this cluster runs.", &listing(&["apps.yaml"])),
        ));
        let unit = json!({
            "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
            "kind": "Kustomization",
            "metadata": {"name": app, "namespace": "flux-system"},
            "spec": {
                "path": format!("./apps/{app}"),
                "sourceRef": {"kind": "GitRepository", "name": "flux-system"},
                "postBuild": {"substitute": {"app": app}},
                "interval": "10m",
                "timeout": "5m",
                "wait": true,
                "prune": true,
            },
        });
        let about = "A unit: a folder of this repo that is built, applied, watched and pruned as one. The source flux-system is \
                     this repo.";
        files.push((format!("{folder}/apps.yaml"), said(about, &unit)));
    }
    let objects = objects(args);
    let names: Vec<String> = objects.iter().map(|(name, _)| format!("{name}.yaml")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    files.push((format!("apps/{app}/kustomization.yaml"), yaml(&listing(&names))));
    for (name, object) in &objects {
        files.push((format!("apps/{app}/{name}.yaml"), yaml(object)));
    }
    files
}

fn listing(files: &[&str]) -> Value {
    json!({"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": files})
}

/// What the app is made of.
fn objects(args: &InitArgs) -> Vec<(&'static str, Value)> {
    let InitArgs { app, image, port, .. } = args;
    let metadata = json!({"name": app, "namespace": app});
    let enforced = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    let mut objects = vec![(
        "namespace",
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": app, "labels": enforced}}),
    )];
    let Some(image) = image else {
        let data = json!({"greeting": "hello from ${cluster_name}"});
        objects.push((
            "greeting",
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}),
        ));
        return objects;
    };
    let labels = json!({"app.kubernetes.io/name": app});
    let mut container = json!({
        "name": app,
        "image": image,
        "env": [{"name": "CLUSTER", "value": "${cluster_name}"}],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
    });
    if let Some(port) = port {
        container["ports"] = json!([{"name": "main", "containerPort": port}]);
    }
    let deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [container],
                },
            },
        },
    });
    objects.push(("deployment", deployment));
    if port.is_some() {
        let spec = json!({"selector": labels, "ports": [{"name": "main", "port": 80, "targetPort": "main"}]});
        objects.push((
            "service",
            json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}),
        ));
    }
    objects
}

fn yaml(value: &Value) -> String {
    flotilla_yaml::write(&Node::from_json(value))
}

fn said(comment: &str, value: &Value) -> String {
    format!("# {comment}\n{}", yaml(value))
}

fn readme(clusters: &[ClusterName], app: &str) -> String {
    let first = clusters.first().map_or("NAME", ClusterName::as_str);
    format!(
        "# Fleet\n\nWhat our Kubernetes clusters run. Flotilla reads this repository, and each cluster's agent applies what its folder says.\n\n\
         | folder | what it holds |\n|---|---|\n| `clusters/` | a folder for each cluster: what it is, and its units |\n\
         | `apps/` | what units run; `apps/{app}` to begin with |\n\n\
         Before a commit: `flotilla check --repo .`, and `flotilla plan --from HEAD` for what it will change where.\n\n\
         To add a cluster, copy `clusters/{first}`, change the name in it, commit, and run `flotilla cluster add NAME`. To add an app, add \
         a folder to `apps/` and a unit to the clusters that run it.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_images_are_read_as_they_are_meant() {
        for (text, is_image) in [
            ("registry.example.com:5000/a/b:1@sha256:00", true),
            ("nginx", true),
            ("", false),
            ("a b", false),
            ("-x", false),
        ] {
            assert_eq!(image(text).is_ok(), is_image, "{text}");
        }
        assert!(label("web-1").is_ok() && label("Web").is_err() && label("").is_err());
    }
}
