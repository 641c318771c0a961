//! A repository in the shape of those that people publish: bases and overlays with 83 files that SOPS encrypted, variables and
//! values of a release from them. It is applied as Flux applies it.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flotilla_tests::fleet::{Fleet, HubOptions};
use flotilla_tests::git::{Change, Repo, folder};
use flotilla_tests::manifests::namespace;
use flotilla_tests::marked::MARK;
use flotilla_tests::objects::{ObjectRef, apply, list};
use flotilla_tests::process::Recipe;
use flotilla_tests::{ClusterOptions, Clusters, helm};
use serde_json::{Value, json};

use crate::VALUE;

const APPS: usize = 20;
/// Four of each app, those of the variables and that of the release.
const ENCRYPTED: usize = 4 * APPS + 3;
const DOMAIN: &str = "home.example.org";
const PUBLIC: &str = "age1uhheudu3vha9uzs6wrujwdvzxtg07qglmr7xalzyvz6yzx0ajq5qmknznw";
const KEY: &str = include_str!("../../../sops/tests/recorded/first.agekey");

const RULES: &str = "creation_rules:\n- path_regex: \\.sops\\.env$\n  age: PUBLIC\n- path_regex: \\.sops\\.yaml$\n  \
                     encrypted_regex: ^(data|stringData)$\n  age: PUBLIC\n";

fn secret(namespace: &str, name: &str, entries: &[(&str, &str)]) -> String {
    let entries: String = entries.iter().map(|(name, value)| format!("  {name}: {value}\n")).collect();
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\n  namespace: {namespace}\nstringData:\n{entries}"
    )
}

fn unit(name: &str, path: &str, more: &str) -> String {
    format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: {name}, namespace: \
         flux-system}}\nspec:\n  interval: 1h\n  prune: true\n  path: ./{path}\n  sourceRef: {{kind: GitRepository, name: \
         flux-system}}\n  decryption: {{provider: sops, secretRef: {{name: sops-age}}}}\n{more}"
    )
}

/// The value of an app in one of its files.
fn value(app: usize, of: &str) -> String {
    format!("{MARK}-{of}-{app}")
}

/// The files before those of Secrets are encrypted.
fn clear() -> Vec<(String, String)> {
    let variables = "  dependsOn: [{name: variables}]\n  postBuild:\n    substituteFrom:\n    - {kind: ConfigMap, name: \
                     settings}\n    - {kind: Secret, name: cluster-secrets}\n    - {kind: Secret, name: home-secrets}\n";
    let mut files: Vec<(String, String)> = [
        (".sops.yaml", RULES.replace("PUBLIC", PUBLIC)),
        ("clusters/home/variables.yaml", unit("variables", "variables/home", "")),
        ("variables/base/kustomization.yaml", "resources: [settings.yaml, secrets.sops.yaml]\n".to_owned()),
        (
            "variables/base/settings.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings, namespace: flux-system}\ndata: {ZONE: home}\n"
                .to_owned(),
        ),
        (
            "variables/base/secrets.sops.yaml",
            secret("flux-system", "cluster-secrets", &[("SECRET_DOMAIN", DOMAIN), ("SECRET_MAIL", "of-all")]),
        ),
        ("variables/home/kustomization.yaml", "resources: [../base, home.sops.yaml]\n".to_owned()),
        (
            "variables/home/home.sops.yaml",
            secret("flux-system", "home-secrets", &[("SECRET_MAIL", "of-home")]),
        ),
        ("clusters/home/release.yaml", unit("release", "release", variables)),
        ("release/kustomization.yaml", "resources: [ns.yaml, values.sops.yaml, release.yaml]\n".to_owned()),
        ("release/ns.yaml", namespace("release")),
        (
            "release/values.sops.yaml",
            secret("release", "values", &[("values.yaml", &format!("'token: {MARK}-token'"))]),
        ),
        (
            "release/release.yaml",
            "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {name: web, namespace: \
             release}\nspec:\n  interval: 1h\n  chart: {spec: {chart: ./chart, sourceRef: {kind: GitRepository, name: \
             flux-system, namespace: flux-system}}}\n  values: {host: 'web.${SECRET_DOMAIN}'}\n  valuesFrom: [{kind: Secret, \
             name: values}]\n"
                .to_owned(),
        ),
        ("chart/Chart.yaml", "apiVersion: v2\nname: web\nversion: 0.1.0\n".to_owned()),
        (
            "chart/templates/all.yaml",
            "apiVersion: v1\nkind: Secret\nmetadata: {name: web}\nstringData: {token: {{ .Values.token | quote \
             }}}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\ndata: {value: {{ .Values.host | quote }}}\n"
                .to_owned(),
        ),
    ]
    .map(|(path, text)| (path.to_owned(), text))
    .into();
    for app in 0..APPS {
        let name = format!("app-{app}");
        let (base, home) = (format!("apps/{name}/base"), format!("apps/{name}/home"));
        files.extend([
            (format!("clusters/home/{name}.yaml"), unit(&name, &home, variables)),
            (
                format!("{base}/kustomization.yaml"),
                format!(
                    "namespace: {name}\nresources: [ns.yaml, config.yaml, password.sops.yaml, \
                     merged.yaml]\nsecretGenerator:\n- name: env\n  envs: [app.sops.env]\n"
                ),
            ),
            (format!("{base}/ns.yaml"), namespace(&name)),
            (
                format!("{base}/config.yaml"),
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config}\ndata: {value: '${ZONE} ${SECRET_DOMAIN} \
                 ${SECRET_MAIL}'}\n"
                    .to_owned(),
            ),
            (
                format!("{base}/password.sops.yaml"),
                secret(&name, "password", &[("value", &value(app, "base"))]),
            ),
            (format!("{base}/merged.yaml"), secret(&name, "merged", &[("clear", "text")])),
            (format!("{base}/app.sops.env"), format!("TOKEN={}\n", value(app, "env"))),
            (
                format!("{home}/kustomization.yaml"),
                format!(
                    "namespace: {name}\nresources: [../base, extra.sops.yaml]\npatches: [{{path: merge.sops.yaml}}]\n"
                ),
            ),
            (format!("{home}/extra.sops.yaml"), secret(&name, "extra", &[("value", &value(app, "home"))])),
            (format!("{home}/merge.sops.yaml"), secret(&name, "merged", &[("value", &value(app, "patch"))])),
        ]);
    }
    files
}

/// All files, as they are committed.
async fn repository() -> Result<Vec<Change>> {
    let at = tempfile::tempdir()?;
    let mut encrypted = 0;
    for (path, text) in clear() {
        let path = at.path().join(path);
        std::fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
        std::fs::write(&path, text)?;
        let name = path.to_string_lossy().into_owned();
        if name.ends_with(".sops.yaml") && !name.ends_with("/.sops.yaml") || name.ends_with(".sops.env") {
            let encrypt = Recipe::own("flotilla")?.args(["secret", "encrypt", "--in-place", &name]);
            encrypt.stdout(flotilla_tests::fleet::SOON).await?;
            let text = std::fs::read_to_string(&path)?;
            ensure!(
                text.contains("ENC[AES256_GCM") && !text.contains(MARK),
                "{name} is not encrypted: {text}"
            );
            encrypted += 1;
        }
    }
    ensure!(encrypted == ENCRYPTED, "{encrypted} files are encrypted");
    folder(at.path())
}

/// What a Secret of the cluster has under a key.
async fn entry(fleet: &Fleet, namespace: &str, name: &str, key: &str) -> Result<String> {
    let value = ObjectRef::new("v1", "Secret", namespace, name).json(&fleet.client("home")).await?;
    decoded(&value, key)
}

fn decoded(secret: &Value, key: &str) -> Result<String> {
    let value = secret["data"][key].as_str().with_context(|| format!("there is no {key}"))?;
    Ok(String::from_utf8(STANDARD.decode(value)?)?)
}

async fn with_key(program: &Path) -> Result<Fleet> {
    let repo = Repo::new()?;
    repo.commit("begin", &repository().await?)?;
    let url = repo.url();
    let args = vec!["--helm".to_owned(), program.display().to_string()];
    let options = HubOptions { args, ..HubOptions::default() };
    let mut fleet = Fleet::new(repo, &url, &options).await?;
    let key = fleet.folder().join("age.agekey");
    std::fs::write(&key, KEY)?;
    let from = format!("age.agekey={}", key.display());
    fleet
        .cli(&["secret", "create", "generic", "sops-age", "--namespace", "flux-system", "--from-file", &from])
        .await?;
    let [cluster] = Clusters::new().await?.start(["home"], &ClusterOptions::default()).await?;
    let home = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "flux-system"}});
    apply(&cluster.client(), "kubectl", &home).await?;
    fleet.join("home", cluster).await?;
    Ok(fleet)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_full_of_encrypted_files_is_applied_as_flux_does() {
    let program = tokio::task::spawn_blocking(|| helm::find_or_build(&mut |_| {})).await.unwrap().unwrap();
    let fleet = with_key(&program).await.unwrap();
    fleet.units_ready("home").await.unwrap();
    for app in 0..APPS {
        let name = format!("app-{app}");
        assert_eq!(entry(&fleet, &name, "password", "value").await.unwrap(), value(app, "base"));
        assert_eq!(entry(&fleet, &name, "extra", "value").await.unwrap(), value(app, "home"));
        assert_eq!(entry(&fleet, &name, "merged", "value").await.unwrap(), value(app, "patch"));
        assert_eq!(entry(&fleet, &name, "merged", "clear").await.unwrap(), "text");
        let all = list(&fleet.client("home"), "v1", "Secret", Some(&name), "").await.unwrap();
        let env: Vec<Value> = all
            .iter()
            .map(|secret| serde_json::to_value(secret).unwrap())
            .filter(|secret| secret["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("env-")))
            .collect();
        let [env] = env.as_slice() else { panic!("{env:?}") };
        assert_eq!(decoded(env, "TOKEN").unwrap(), value(app, "env"));
        let config = ObjectRef::new("v1", "ConfigMap", &name, "config");
        fleet.field_becomes("home", &config, VALUE, format!("home {DOMAIN} of-home").as_str()).await.unwrap();
    }
    assert_eq!(entry(&fleet, "release", "web", "token").await.unwrap(), format!("{MARK}-token"));
    let web = ObjectRef::new("v1", "ConfigMap", "release", "web");
    fleet.field_becomes("home", &web, VALUE, format!("web.{DOMAIN}").as_str()).await.unwrap();

    // Where they are used, people are told; what they hold, nobody is.
    let uses = fleet.cli(&["secret", "where", "cluster-secrets", "-n", "flux-system"]).await.unwrap();
    assert!(uses.contains("kustomization/flux-system/app-19"), "{uses}");
    // The output is searched for the mark.
    crate::sops::shown(&fleet, "home").await;
}
