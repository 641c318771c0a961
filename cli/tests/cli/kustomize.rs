//! `kustomize build` with what is not in the folder: remote bases, charts; and where values come from.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::{Ran, flotilla};

pub(crate) fn write(root: &Path, path: &str, text: &str) -> anyhow::Result<()> {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().context("a file has a folder")?)?;
    Ok(std::fs::write(path, text)?)
}

pub(crate) fn git(dir: &Path, args: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("git")
        .args(["-c", "user.name=Ada", "-c", "user.email=x@example.org"])
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .context("git is needed")?;
    ensure!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// With PATH, for `git`, in a folder.
pub(crate) async fn run_in(folder: &Path, args: &[&str]) -> anyhow::Result<Ran> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    Ok(flotilla(args).env("PATH", path).current_dir(folder).output().await?.into())
}

const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  k: one\n";

/// A repository whose tag `v1` has a base and an overlay, and whose branch has gone on.
fn repository(root: &Path) -> anyhow::Result<String> {
    let dir = root.join("remote");
    write(&dir, "base/kustomization.yaml", "resources: [map.yaml]\n")?;
    write(&dir, "base/map.yaml", MAP)?;
    write(&dir, "over/kustomization.yaml", "nameSuffix: -r\nresources: [../base]\n")?;
    git(&dir, &["init", "-q", "-b", "main"])?;
    git(&dir, &["add", "-A"])?;
    git(&dir, &["commit", "-q", "-m", "one"])?;
    git(&dir, &["tag", "v1"])?;
    write(&dir, "base/map.yaml", &MAP.replace("one", "two"))?;
    git(&dir, &["commit", "-q", "-a", "-m", "two"])?;
    Ok(format!("file://{}", dir.display()))
}

#[tokio::test]
async fn remote_bases_and_remote_folders_are_fetched() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let url = repository(folder.path())?;
    let k = format!("namePrefix: x-\nresources:\n- {url}//over?ref=v1\n");
    write(folder.path(), "local/kustomization.yaml", &k)?;
    let built = run_in(folder.path(), &["kustomize", "build", "local"]).await?;
    assert_eq!((built.code, built.stderr.as_str()), (0, ""), "{built:?}");
    let expected = "apiVersion: v1\ndata:\n  k: one\nkind: ConfigMap\nmetadata:\n  name: x-a-r\n";
    assert_eq!(built.stdout, expected);

    let remote = run_in(folder.path(), &["kustomize", "build", &format!("{url}//over")]).await?;
    assert_eq!(remote.stdout, expected.replace("one", "two").replace("x-", ""), "{remote:?}");
    let component =
        format!("kind: Component\napiVersion: kustomize.config.k8s.io/v1alpha1\nresources:\n- {url}//base\n");
    write(folder.path(), "with/kustomization.yaml", "components: [../comp]\n")?;
    write(folder.path(), "comp/kustomization.yaml", &component)?;
    let with = run_in(folder.path(), &["kustomize", "build", "with"]).await?;
    assert!(with.stdout.contains("k: two"), "{with:?}");

    write(folder.path(), "local/kustomization.yaml", &k.replace("v1", "v9"))?;
    let missing = run_in(folder.path(), &["kustomize", "build", "local"]).await?;
    assert_eq!(missing.code, 3);
    assert!(missing.stderr.contains("has no branch, tag or commit 'v9'"), "{missing:?}");
    Ok(())
}

#[tokio::test]
async fn origins_name_the_file_and_line_of_each_value() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let url = repository(folder.path())?;
    write(
        folder.path(),
        "over/kustomization.yaml",
        &format!("resources:\n- ../base\n- {url}//base?ref=v1\npatches:\n- path: p.yaml\n"),
    )?;
    write(folder.path(), "base/kustomization.yaml", "resources: [map.yaml]\n")?;
    write(folder.path(), "base/map.yaml", &MAP.replace("name: a", "name: b"))?;
    write(folder.path(), "over/p.yaml", &MAP.replace("name: a", "name: b").replace("one", "three"))?;
    let built = run_in(folder.path(), &["kustomize", "build", "over", "--origins"]).await?;
    let remote = &url;
    assert_eq!(
        built.stdout,
        format!(
            "apiVersion: v1   # {remote}/base/map.yaml:1\ndata:\n  k: one         # {remote}/base/map.yaml:6\n\
             kind: ConfigMap  # {remote}/base/map.yaml:2\nmetadata:\n  name: a        # {remote}/base/map.yaml:4\n\
             ---\napiVersion: v1   # base/map.yaml:1\ndata:\n  k: three       # over/p.yaml:6\n\
             kind: ConfigMap  # base/map.yaml:2\nmetadata:\n  name: b        # base/map.yaml:4\n"
        ),
        "{built:?}"
    );
    let lines = run_in(folder.path(), &["kustomize", "build", "over", "--origins=json"]).await?;
    let values: Vec<Value> = lines.stdout.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert_eq!(values.len(), 8);
    let set = values.iter().find(|v| v["name"] == "b" && v["path"] == "/data/k").context("the value")?;
    assert_eq!((&set["file"], &set["line"]), (&"over/p.yaml".into(), &6.into()));
    Ok(())
}

/// Prints a ConfigMap with its arguments, and what the values files hold.
const HELM: &str = r#"#!/bin/sh
command="$1"; args="$*"
for last; do :; done
case "$command" in
pull) for arg; do case "$arg" in --untardir=*) into="${arg#*=}/web"; mkdir -p "$into"; echo "$args" > "$into/pulled";; esac; done ;;
template)
  printf 'apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: out\ndata:\n  args: "%s"\n  pulled: "%s"\n' "$args" "$(cat "$last/pulled")"
  while [ $# -gt 0 ]; do case "$1" in --values=*) printf '  v%s: "%s"\n' "$#" "$(cat "${1#*=}")";; esac; shift; done ;;
*) echo "no $command" >&2; exit 7 ;;
esac
"#;

#[tokio::test]
async fn charts_are_rendered_by_the_helm_program() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let helm = folder.path().join("bin/helm");
    write(folder.path(), "bin/helm", HELM)?;
    std::fs::set_permissions(&helm, std::fs::Permissions::from_mode(0o755))?;
    let helm = helm.to_str().context("a path")?;
    let chart = "helmCharts:\n- name: web\n  repo: https://charts.example\n  version: 1.2.3\n  releaseName: r\n  \
                 namespace: ns\n  includeCRDs: true\n  valuesFile: v.yaml\n  valuesInline: {in: 1}\n  \
                 additionalValuesFiles: [more.yaml]\n  apiVersions: [a/v1]\n";
    write(folder.path(), "app/kustomization.yaml", chart)?;
    write(folder.path(), "app/v.yaml", "file: 1")?;
    write(folder.path(), "app/more.yaml", "more: 1")?;
    let off = run_in(folder.path(), &["kustomize", "build", "app"]).await?;
    assert_eq!(off.code, 3);
    assert!(off.stderr.contains("must specify --enable-helm"), "{off:?}");

    let args =
        ["kustomize", "build", "app", "--enable-helm", "--helm-command", helm, "--helm-kube-version", "1.30"];
    let built = run_in(folder.path(), &args).await?;
    assert_eq!(built.code, 0, "{built:?}");
    for part in [
        "--repo=https://charts.example --version=1.2.3 -- web",
        "--namespace=ns",
        "--api-versions=a/v1 --kube-version=1.30 --include-crds -- r /",
    ] {
        assert!(built.stdout.replace("\n    ", " ").contains(part), "{part}: {}", built.stdout);
    }
    let at = |text: &str| built.stdout.find(text).with_context(|| format!("{text} in {}", built.stdout));
    // The counts of what follows fall, and the output is sorted by them: the last values come first. What is inline is
    // merged with the file.
    assert!(at("more: 1")? < at("file: 1 in: 1")?, "{}", built.stdout);

    // A chart of a version is looked for where kustomize leaves one that it fetched.
    write(folder.path(), "app/charts/web/pulled", "of any version")?;
    let other = run_in(folder.path(), &args).await?;
    assert!(other.stdout.contains("pulled: pull"), "{other:?}");
    write(folder.path(), "app/charts/web-1.2.3/web/pulled", "in the tree")?;
    let local = run_in(folder.path(), &args).await?;
    assert!(local.stdout.contains("pulled: in the tree"), "{local:?}");

    let gone =
        run_in(folder.path(), &["kustomize", "build", "app", "--enable-helm", "--helm-command", "/nohelm"]);
    let gone = gone.await?;
    assert_eq!(gone.code, 3);
    assert!(gone.stderr.contains("cannot run '/nohelm'"), "{gone:?}");
    Ok(())
}

#[tokio::test]
async fn flags_for_programs_change_nothing() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    write(folder.path(), "kustomization.yaml", "resources: [map.yaml]\n")?;
    write(folder.path(), "map.yaml", MAP)?;
    let plain = run_in(folder.path(), &["kustomize", "build"]).await?;
    let with =
        ["kustomize", "build", ".", "--enable-alpha-plugins", "--enable-exec", "--network", "-e", "A=b"];
    let with = run_in(folder.path(), &with).await?;
    assert_eq!((with.code, &with.stdout), (0, &plain.stdout), "{with:?}");
    assert!(with.stderr.contains("--enable-alpha-plugins, --enable-exec, --network, --env"), "{with:?}");
    Ok(())
}

#[tokio::test]
async fn all_flags_of_the_command_are_taken() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    write(folder.path(), "kustomization.yaml", "resources: [map.yaml]\n")?;
    write(folder.path(), "map.yaml", MAP)?;
    // Those that `kustomize build --help` of 5.8.1 names, and the two that it hides.
    let all = "--as-current-user --enable-alpha-plugins --enable-exec --enable-helm -e A=b --env C --helm-api-versions a/v1 \
               --helm-api-versions b/v1 --helm-command helm --helm-debug --helm-kube-version 1.30 --load-restrictor \
               LoadRestrictionsNone --mount a --mount b --network --network-name bridge --output out.yaml --stack-trace \
               --reorder none --enable-managedby-label";
    let args: Vec<&str> = ["kustomize", "build", "."].into_iter().chain(all.split_whitespace()).collect();
    let ran = run_in(folder.path(), &args).await?;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{ran:?}");
    let written = std::fs::read_to_string(folder.path().join("out.yaml"))?;
    assert!(written.contains("app.kubernetes.io/managed-by: kustomize-v5.8.1"), "{written}");
    Ok(())
}

#[tokio::test]
async fn a_folder_as_output_gets_the_files_that_kustomize_writes() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let object = |version: &str, kind: &str, metadata: &str| {
        format!("apiVersion: {version}\nkind: {kind}\nmetadata: {metadata}\n---\n")
    };
    let cluster = [
        object("v1", "Namespace", "{name: ns}"),
        object("rbac.authorization.k8s.io/v1", "ClusterRole", "{name: \"system:node\"}"),
    ];
    let [one, two] =
        ["{name: Two}", "{name: Two, namespace: ns}"].map(|m| object("apps/v1", "Deployment", m));
    for (name, deployment, expected) in [
        ("one", one, ["apps_v1_deployment_two.yaml", "v1_configmap_a.yaml"]),
        ("several", two, ["default_v1_configmap_a.yaml", "ns_apps_v1_deployment_two.yaml"]),
    ] {
        write(folder.path(), &format!("{name}/kustomization.yaml"), "resources: [all.yaml]\n")?;
        write(folder.path(), &format!("{name}/all.yaml"), &(cluster.concat() + &deployment + MAP))?;
        let out = folder.path().join(format!("{name}-out"));
        std::fs::create_dir(&out)?;
        let out_text = out.to_str().context("a path")?;
        let ran = run_in(folder.path(), &["kustomize", "build", name, "-o", out_text]).await?;
        assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{ran:?}");
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&out)? {
            files.push(entry?.file_name().to_string_lossy().into_owned());
        }
        files.sort();
        let of_cluster =
            ["rbac.authorization.k8s.io_v1_clusterrole_system:node.yaml", "v1_namespace_ns.yaml"];
        let mut expected: Vec<&str> = expected.into_iter().chain(of_cluster).collect();
        expected.sort_unstable();
        assert_eq!(files, expected);
        let map = files.iter().find(|file| file.ends_with("configmap_a.yaml")).context("checked above")?;
        assert!(
            std::fs::read_to_string(out.join(map))?
                .starts_with("apiVersion: v1\ndata:\n  k: one\nkind: ConfigMap\n")
        );
    }
    Ok(())
}

/// In a build with debug assertions a client that blocks inside of the runtime would panic.
#[tokio::test]
async fn remote_files_are_fetched_in_every_build() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        for mut stream in listener.incoming().flatten() {
            // One read takes a request as short as these.
            let _ = stream.read(&mut [0; 4096]);
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}", MAP.len());
            let _ = write!(stream, "{head}\r\nConnection: close\r\n\r\n{MAP}");
        }
    });
    let file = format!("nameSuffix: -f\nresources: ['http://{address}/maps/map.yaml']\n");
    write(folder.path(), "kustomization.yaml", &file)?;
    let built = run_in(folder.path(), &["kustomize", "build", "."]).await?;
    let expected = "apiVersion: v1\ndata:\n  k: one\nkind: ConfigMap\nmetadata:\n  name: a-f\n";
    assert_eq!((built.code, built.stdout.as_str()), (0, expected), "{}", built.stderr);
    Ok(())
}

#[tokio::test]
async fn paths_in_messages_can_be_used_as_they_are() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let here = folder.path().canonicalize()?.display().to_string();
    let right = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    write(folder.path(), "r.yaml", right)?;
    for (kustomization, expected) in [
        ("kind: Kustomisation\nresources: [r.yaml]\n", format!("under {here}:\n")),
        ("resources: [none.yaml]\n", format!("{here}/none.yaml: no such file")),
        ("resources: [r.yaml, r.yaml]\n", format!("the other one is at {here}/r.yaml:1")),
        ("commonLabels: {a: b}\nresources: [r.yaml]\n", format!("warning: {here}: 'commonLabels'")),
    ] {
        write(folder.path(), "kustomization.yaml", kustomization)?;
        let ran = run_in(folder.path(), &["kustomize", "build"]).await?;
        assert!(ran.stderr.contains(&expected), "{expected}\n{ran:?}");
    }
    Ok(())
}
