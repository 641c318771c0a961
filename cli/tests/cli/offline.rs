//! Commands on a folder: `check --repo`, `render`, `diff --repo`, `kustomize build`.

use std::path::Path;

use flotilla_api::{Desired, Manifests, UnitManifests, UnitState};
use serde_json::{Value, json};

use crate::fake::FakeHub;
use crate::kustomize::{git, run_in};
use crate::run;

const KUSTOMIZATION: &str = "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata:\n  name: web\n  \
     namespace: flux-system\nspec:\n  path: ./apps/web\n  prune: true\n  interval: 10m\n  sourceRef:\n    \
     kind: GitRepository\n    name: flux-system\n";

fn config_map(name: &str, value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n  namespace: web\ndata:\n  k: {value}\n"
    )
}

/// A fleet repo with one cluster that runs one app.
fn repo() -> anyhow::Result<tempfile::TempDir> {
    let repo = tempfile::tempdir()?;
    write(repo.path(), "clusters/staging/web.yaml", KUSTOMIZATION)?;
    write(repo.path(), "apps/web/map.yaml", &config_map("a", "one"))?;
    write(
        repo.path(),
        "apps/web/secret.yaml",
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: s\n  namespace: web\nstringData:\n  password: hunter2\n",
    )?;
    Ok(repo)
}

fn write(root: &Path, path: &str, text: &str) -> anyhow::Result<()> {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap())?;
    Ok(std::fs::write(path, text)?)
}

#[tokio::test]
async fn a_release_whose_chart_nothing_defines_is_a_problem() -> anyhow::Result<()> {
    for (kind, chart, field) in [
        ("OCIRepository", "chartRef: {kind: OCIRepository, name: nowhere}", "spec.chartRef"),
        ("HelmChart", "chartRef: {kind: HelmChart, name: nowhere}", "spec.chartRef"),
        ("ExternalArtifact", "chartRef: {kind: ExternalArtifact, name: nowhere}", "spec.chartRef"),
        (
            "GitRepository",
            "chart: {spec: {chart: ./c, sourceRef: {kind: GitRepository, name: nowhere}}}",
            "spec.chart.spec.sourceRef",
        ),
    ] {
        let repo = repo()?;
        let release = format!(
            "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {{name: db, namespace: web}}\nspec:\n  \
             interval: 1m\n  {chart}\n"
        );
        write(repo.path(), "clusters/staging/release.yaml", &release)?;
        let at = repo.path().to_str().unwrap();
        let expected = format!("{field}: {kind}/web/nowhere is not defined in this cluster");
        for args in
            [&["check", "--repo", at][..], &["render", "--repo", at, "--cluster", "staging", "-o", "table"]]
        {
            let ran = tokio::time::timeout(std::time::Duration::from_secs(60), run(args)).await??;
            assert!(format!("{}{}", ran.stdout, ran.stderr).contains(&expected), "{args:?}: {ran:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_cluster_is_rendered_without_a_hub() -> anyhow::Result<()> {
    let repo = repo()?;
    let at = repo.path().to_str().unwrap();
    let yaml = run(&["render", "--repo", at, "--cluster", "staging"]).await?;
    assert_eq!((yaml.code, yaml.stderr.as_str()), (0, ""), "{yaml:?}");
    assert!(
        yaml.stdout.starts_with(
            "---\n# kustomization/flux-system/web\napiVersion: v1\ndata:\n  k: one\nkind: ConfigMap\n"
        ),
        "{}",
        yaml.stdout
    );
    assert!(yaml.stdout.contains("hunter2"), "it is the user's own folder: {}", yaml.stdout);
    let table = run(&["render", "--repo", at, "--cluster", "staging", "-o", "table"]).await?;
    assert_eq!(
        table.stdout,
        "UNIT                            STATE     OBJECTS   MESSAGE\n\
         root                            Present   0         -\n\
         kustomization/flux-system/web   Present   2         -\n"
    );
    let one =
        run(&["render", "--repo", at, "--cluster", "staging", "--unit", "flux-system/web", "-o", "json"])
            .await?;
    let one: Value = serde_json::from_str(&one.stdout)?;
    assert_eq!((one["units"].as_array().unwrap().len(), &one["units"][0]["state"]), (1, &json!("present")));
    for (args, hint) in [
        (&["render", "--repo", at, "--cluster", "nope"][..], "it has staging"),
        (&["render", "--repo", at, "--cluster", "staging", "--unit", "a/b"], "it has root, kustomization/"),
    ] {
        let ran = run(args).await?;
        assert_eq!((ran.code, ran.stdout.as_str()), (6, ""), "{ran:?}");
        assert!(ran.stderr.contains(hint), "{ran:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_check_shows_pipelines_with_their_stages_and_units() -> anyhow::Result<()> {
    let repo = repo()?;
    let cluster = |name: &str, labels: &str| {
        format!(
            "apiVersion: flotilla.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {name}}}\nspec: {{path: clusters/staging{labels}}}\n"
        )
    };
    let clusters = [
        cluster("staging", ", labels: {env: staging}"),
        cluster("prod", ", labels: {env: prod}"),
        cluster("lost", ""),
    ];
    write(repo.path(), "clusters/all.yaml", &clusters.join("---\n"))?;
    let pipeline = "apiVersion: flotilla.dev/v1alpha1\nkind: Pipeline\nmetadata: {name: web}\nspec:\n  units: [flux-system/web]\n  \
                    stages:\n  - {name: staging, clusters: {matchLabels: {env: staging}}}\n  - {name: prod, clusters: {matchLabels: \
                    {env: prod}}}\n";
    write(repo.path(), "clusters/pipeline.yaml", pipeline)?;
    let at = repo.path().to_str().unwrap();
    let check = run(&["check", "--repo", at]).await?;
    assert!(
        check.stdout.ends_with(
            "pipeline web (clusters/pipeline.yaml:1)\n  1. staging: staging\n  2. prod: prod\n  no stage: lost\n  promotes: \
             kustomization/flux-system/web (2 clusters)\n"
        ),
        "{check:?}"
    );
    assert!(check.stdout.contains("no stage of the pipeline 'web' selects lost"), "{check:?}");
    let json = run(&["check", "--repo", at, "-o", "json"]).await?;
    let json: Value = serde_json::from_str(&json.stdout)?;
    assert_eq!(json["pipelines"][0]["stages"][1], json!({"name": "prod", "clusters": ["prod"]}));
    write(repo.path(), "clusters/pipeline.yaml", &pipeline.replace("flux-system/web", "flux-system/wbe"))?;
    let check = run(&["check", "--repo", at]).await?;
    assert_eq!(check.code, 1, "{check:?}");
    assert!(
        check.stdout.contains("'kustomization/flux-system/wbe' selects no unit of any cluster"),
        "{check:?}"
    );
    write(repo.path(), "clusters/pipeline.yaml", &pipeline.replace("stages:", "onChange: x\n  stages:"))?;
    let check = run(&["check", "--repo", at]).await?;
    assert!(check.stdout.contains("spec.onChange: 'x' is none of freeze, restart, unstarted"), "{check:?}");
    let frozen = "until this can be read, kustomization/flux-system/web of prod, staging stay as they run";
    assert!(check.stdout.contains(frozen), "{check:?}");
    Ok(())
}

#[tokio::test]
async fn groups_are_listed_with_their_clusters() -> anyhow::Result<()> {
    let repo = tempfile::tempdir()?;
    let kind = |kind: &str, name: &str, spec: &str| {
        format!(
            "apiVersion: flotilla.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"
        )
    };
    let edge = kind(
        "ClusterGroup",
        "edge",
        "selector: {matchLabels: {tier: edge}}, path: sites, variables: {size: s}",
    );
    write(repo.path(), "clusters/groups.yaml", &edge)?;
    let sites = ["one", "two"].map(|name| kind("Cluster", name, "labels: {tier: edge}"));
    write(repo.path(), "clusters/sites.yaml", &sites.join("---\n"))?;
    write(repo.path(), "sites/a.yaml", &config_map("a", "one"))?;
    let at = repo.path().to_str().unwrap();
    let table = run(&["get", "groups", "--repo", at, "-o", "wide"]).await?;
    assert_eq!(
        table.stdout,
        "NAME   PRIORITY   PATH    CLUSTERS   VARIABLES\nedge   0          sites   one,two    size=s\n",
        "{table:?}"
    );
    let check = run(&["check", "--repo", at]).await?;
    assert_eq!(check.code, 0, "{check:?}");
    assert!(check.stderr.contains("2 clusters, 2 units, 2 objects"), "{check:?}");
    let none = run(&["get", "groups", "edg", "--repo", at]).await?;
    assert_eq!(none.code, 6, "{none:?}");
    assert!(none.stderr.contains("it has edge"), "{none:?}");
    write(repo.path(), "clusters/groups.yaml", &edge.replace("variables", "variable"))?;
    let broken = run(&["get", "groups", "--repo", at]).await?;
    assert_eq!(broken.code, 1, "{broken:?}");
    assert!(broken.stderr.contains("'variable' is not a field here"), "{broken:?}");
    Ok(())
}

/// Nobody is told that all is well with a repository of which nothing is understood.
#[tokio::test]
async fn a_fleet_that_runs_nothing_known_is_a_problem() -> anyhow::Result<()> {
    let application =
        "apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {name: x, namespace: argocd}\n";
    let set = "apiVersion: fluxcd.controlplane.io/v1\nkind: ResourceSet\nmetadata: {name: x, namespace: flux-system}\n";
    for (file, text, code, says) in [
        ("README.md", "", 1, "clusters: the repository defines no cluster"),
        ("clusters/README.md", "", 1, "clusters: the repository defines no cluster"),
        ("clusters/a/README.md", "", 0, "notice: clusters: no cluster runs anything"),
        ("clusters/a/app.yaml", application, 1, "only Application (argoproj.io)"),
        ("clusters/a/set.yaml", set, 1, "nothing that their folders define is applied"),
    ] {
        let repo = tempfile::tempdir()?;
        write(repo.path(), file, text)?;
        let ran = run(&["check", "--repo", repo.path().to_str().unwrap()]).await?;
        assert_eq!(ran.code, code, "{file}: {ran:?}");
        assert!(ran.stdout.contains(says) && !ran.stderr.contains("no problems"), "{file}: {ran:?}");
    }
    Ok(())
}

/// What a real repository of many releases looks like: what is broken comes before what nobody fetched.
#[tokio::test]
async fn a_check_of_eighty_releases_says_what_matters_in_a_screen() -> anyhow::Result<()> {
    let repo = repo()?;
    let at = repo.path().to_str().unwrap();
    for n in 0..80 {
        let release = format!(
            "apiVersion: source.toolkit.fluxcd.io/v1\nkind: HelmRepository\nmetadata: {{name: r{n}, namespace: web}}\nspec: \
             {{interval: 1m, url: https://charts.example/{n}}}\n---\n\
             apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {{name: r{n}, namespace: web}}\nspec:\n  \
             interval: 1m\n  chart: {{spec: {{chart: c, version: 1.0.0, sourceRef: {{kind: HelmRepository, name: r{n}}}}}}}\n"
        );
        write(repo.path(), &format!("clusters/staging/r{n}.yaml"), &release)?;
    }
    write(repo.path(), "apps/web/broken.yaml", "a: 1\nb: [\n")?;
    let ran = run(&["check", "--repo", at]).await?;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stdout.starts_with("apps/web/broken.yaml:"), "{}", ran.stdout);
    assert!(ran.stdout.lines().count() <= 24, "more than a screen:\n{}", ran.stdout);
    assert!(ran.stdout.contains("… and 79 more of this kind\n"), "{}", ran.stdout);
    assert!(ran.stdout.ends_with("`--all` shows every one of them.\n"), "{}", ran.stdout);
    assert!(ran.stderr.contains("1 problem, 80 notices"), "{}", ran.stderr);
    let all = run(&["check", "--repo", at, "--all"]).await?;
    assert_eq!(all.stdout.matches("is not fetched offline").count(), 80, "{}", all.stdout);
    Ok(())
}

/// The hub's operator may have set others than the defaults.
#[tokio::test]
async fn a_check_goes_by_the_hubs_budgets() -> anyhow::Result<()> {
    let repo = repo()?;
    let at = repo.path().to_str().unwrap();
    assert_eq!(run(&["check", "--repo", at]).await?.code, 0);
    let ran = run(&["check", "--repo", at, "--max-unit-objects", "1"]).await?;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stdout.contains("objects"), "{ran:?}");
    assert_eq!(run(&["check", "--max-unit-objects", "1"]).await?.code, 2);
    Ok(())
}

#[tokio::test]
async fn a_wrong_letter_in_a_kind_is_a_problem_with_the_word_that_was_meant() -> anyhow::Result<()> {
    let repo = repo()?;
    let at = repo.path().to_str().unwrap();
    let file = repo.path().join("clusters/staging/web.yaml");
    let right = std::fs::read_to_string(&file)?;
    std::fs::write(&file, right.replace("kind: Kustomization", "kind: Kustomizaton"))?;
    let check = run(&["check", "--repo", at]).await?;
    assert_eq!(check.code, 1, "{check:?}");
    assert!(check.stdout.starts_with("clusters/staging/web.yaml:1"), "{}", check.stdout);
    assert!(
        check.stdout.contains("has no kind 'Kustomizaton'; did you mean Kustomization?"),
        "{}",
        check.stdout
    );
    Ok(())
}

#[tokio::test]
async fn a_broken_file_is_named_and_the_rest_is_rendered() -> anyhow::Result<()> {
    let repo = repo()?;
    let at = repo.path().to_str().unwrap();
    let well = run(&["check", "--repo", at]).await?;
    assert_eq!((well.code, well.stdout.as_str()), (0, ""), "{well:?}");
    assert_eq!(well.stderr, "1 cluster, 2 units, 2 objects: no problems\n");

    write(repo.path(), "apps/web/broken.yaml", "a: 1\nb: [\n")?;
    write(repo.path(), "clusters/other/map.yaml", &config_map("b", "two"))?;
    let check = run(&["check", "--repo", at]).await?;
    assert_eq!(check.code, 1, "{check:?}");
    assert!(check.stdout.starts_with("apps/web/broken.yaml:"), "{}", check.stdout);
    assert!(check.stdout.contains("  in staging/kustomization/flux-system/web\n"), "{}", check.stdout);
    let json: Value = serde_json::from_str(&run(&["check", "--repo", at, "-o", "json"]).await?.stdout)?;
    assert_eq!(json["problems"][0]["file"], "apps/web/broken.yaml", "{json}");
    assert_eq!(run(&["check", "--repo", at, "--cluster", "other"]).await?.code, 0);

    let render = run(&["render", "--repo", at, "--cluster", "staging"]).await?;
    assert_eq!(render.code, 3, "{render:?}");
    assert!(render.stdout.contains("# kustomization/flux-system/web: held: "), "{render:?}");
    assert!(render.stderr.contains("error: apps/web/broken.yaml:"), "{render:?}");
    Ok(())
}

/// As a hub hides the values of Secrets.
pub(crate) fn hide(object: &mut Value) {
    flotilla_api::redact::Redactor::new([7; 32]).secret(object);
}

/// What the hub answers to who asks for digests of the Secret `web/s` with this password.
fn hides(hub: &FakeHub, password: &str) {
    let mut secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "web"},
        "stringData": {"password": password}});
    hide(&mut secret);
    hub.on("POST clusters/staging/hide-secrets", 200, json!({"secrets": [secret]}));
}

/// What a hub has published that rendered the same folder.
async fn published(hub: &FakeHub, at: &str) -> anyhow::Result<Manifests> {
    let json = run(&["render", "--repo", at, "--cluster", "staging", "-o", "json"]).await?;
    let json: Value = serde_json::from_str(&json.stdout)?;
    let mut units: Vec<UnitManifests> = serde_json::from_value(json["units"].clone())?;
    units.iter_mut().flat_map(|unit| &mut unit.objects).for_each(hide);
    let manifests = Manifests { cluster: "staging".into(), desired: Desired::default(), units };
    hub.get("clusters/staging/manifests", &manifests);
    Ok(manifests)
}

#[tokio::test]
async fn a_folder_is_compared_with_what_is_published() -> anyhow::Result<()> {
    let (hub, repo) = (FakeHub::start().await?, repo()?);
    let at = repo.path().to_str().unwrap();
    let diff = ["diff", "--cluster", "staging", "--repo", at];
    let new = hub.run(&diff).await?;
    assert_eq!(
        (new.code, new.stderr.as_str()),
        (1, "the hub knows no cluster staging yet: all of it is new\n")
    );
    assert!(!new.stdout.contains("hunter") && !new.stdout.contains("\n-  "), "{}", new.stdout);

    let mut manifests = published(&hub, at).await?;
    hides(&hub, "hunter2");
    let same = hub.run(&diff).await?;
    assert_eq!((same.code, same.stdout.as_str(), same.stderr.as_str()), (0, "", ""));

    write(repo.path(), "apps/web/map.yaml", &config_map("a", "two"))?;
    write(repo.path(), "apps/web/more.yaml", &config_map("new", "x"))?;
    let secret = std::fs::read_to_string(repo.path().join("apps/web/secret.yaml"))?;
    write(repo.path(), "apps/web/secret.yaml", &secret.replace("hunter2", "hunter3"))?;
    // A hub that does not hide them, or a token that may not ask it to.
    hub.on("POST clusters/staging/hide-secrets", 403, json!({"error": "not this role"}));
    let blind = hub.run(&diff).await?;
    assert!(blind.stderr.contains("values of Secrets are not compared: ") && blind.code == 1, "{blind:?}");
    assert!(!blind.stdout.contains("password") && !blind.stdout.contains("hunter"), "{blind:?}");
    hides(&hub, "hunter3");
    let differs = hub.run(&diff).await?;
    assert_eq!((differs.code, differs.stderr.as_str()), (1, ""), "{differs:?}");
    for text in [
        "--- ConfigMap web/a (kustomization/flux-system/web)\n+++ ConfigMap web/a (kustomization/flux-system/web)\n",
        "-  k: one\n+  k: two\n",
        "--- /dev/null\n+++ ConfigMap web/new (kustomization/flux-system/web)\n",
        "-  password: digest ",
        "+  password: digest ",
    ] {
        assert!(differs.stdout.contains(text), "{text}\nis not in\n{}", differs.stdout);
    }
    assert!(!differs.stdout.contains("hunter"), "{}", differs.stdout);
    let json: Value = serde_json::from_str(&hub.run(&[&diff[..], &["-o", "json"]].concat()).await?.stdout)?;
    let changes: Vec<&Value> =
        json["objects"].as_array().unwrap().iter().map(|object| &object["change"]).collect();
    assert_eq!(changes, ["changed", "added", "changed"]);

    // What does not render is neither gone nor the same.
    write(repo.path(), "apps/web/broken.yaml", "b: [\n")?;
    let broken = hub.run(&diff).await?;
    assert_eq!((broken.code, broken.stdout.as_str()), (3, ""), "{broken:?}");
    assert!(
        broken.stderr.contains("kustomization/flux-system/web is not compared: apps/web/broken.yaml:"),
        "{broken:?}"
    );

    std::fs::remove_file(repo.path().join("apps/web/broken.yaml"))?;
    for unit in &mut manifests.units {
        (unit.state, unit.reason, unit.objects) = (UnitState::Held, "it never rendered".into(), vec![]);
    }
    hub.get("clusters/staging/manifests", &manifests);
    let held = hub.run(&diff).await?;
    assert_eq!((held.code, held.stdout.as_str()), (1, ""), "{held:?}");
    assert!(held.stderr.contains("is not compared: it never rendered"), "{held:?}");
    Ok(())
}

#[tokio::test]
async fn kustomizations_are_built_from_anywhere() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let root = folder.path();
    write(root, "base/kustomization.yaml", "resources: [map.yaml]\n")?;
    write(root, "base/map.yaml", &config_map("a", "one"))?;
    write(root, "overlay/kustomization.yaml", "namePrefix: x-\nresources: [../base]\n")?;
    let overlay = root.join("overlay");
    let overlay = overlay.to_str().unwrap();
    let built = run(&["kustomize", "build", overlay]).await?;
    let expected = config_map("x-a", "one");
    assert_eq!((built.code, built.stderr.as_str()), (0, ""), "{built:?}");
    assert!(built.stdout.contains("  name: x-a\n"), "{}", built.stdout);
    assert_eq!(built.stdout.lines().count(), expected.lines().count());

    let file = root.join("out.yaml");
    assert_eq!(run(&["kustomize", "build", overlay, "-o", file.to_str().unwrap()]).await?.stdout, "");
    assert_eq!(std::fs::read_to_string(&file)?, built.stdout);
    let into = root.join("out");
    std::fs::create_dir(&into)?;
    run(&["kustomize", "build", overlay, "-o", into.to_str().unwrap()]).await?;
    assert_eq!(std::fs::read_to_string(into.join("v1_configmap_x-a.yaml"))?, built.stdout);

    // A file outside of the root is refused, by name or by a link; the rule can be lifted for the first.
    write(root, "outside.yaml", &config_map("b", "two"))?;
    write(root, "overlay/kustomization.yaml", "resources: [../outside.yaml]\n")?;
    assert_eq!(run(&["kustomize", "build", overlay]).await?.code, 3);
    let lifted = run(&["kustomize", "build", overlay, "--load-restrictor", "LoadRestrictionsNone"]).await?;
    assert!(lifted.stdout.contains("name: b\n"), "{lifted:?}");
    write(root, "overlay/kustomization.yaml", "resources: [link.yaml]\n")?;
    std::os::unix::fs::symlink(root.join("outside.yaml"), root.join("overlay/link.yaml"))?;
    let linked = run(&["kustomize", "build", overlay]).await?;
    assert_eq!((linked.code, linked.stdout.as_str()), (3, ""), "{linked:?}");

    write(root, "overlay/kustomization.yaml", "resources: [missing.yaml]\n")?;
    let missing = run(&["kustomize", "build", overlay]).await?;
    assert!(missing.stderr.contains("missing.yaml"), "{missing:?}");
    Ok(())
}

#[tokio::test]
async fn an_object_is_traced_to_its_file_unit_and_source() -> anyhow::Result<()> {
    let repo = repo()?;
    let at = repo.path().to_str().unwrap();
    let trace = async |object: &str| {
        run(&["trace", object, "--repo", at, "--cluster", "staging", "-o", "json"]).await
    };
    let fields = |json: &Value| {
        let field = |name: &str| json["objects"][0][name].as_str().unwrap_or_default().to_owned();
        [field("file"), field("unit"), field("unitDefinedAt"), field("source"), field("revision")]
    };
    let map: Value = serde_json::from_str(&trace("configmap/a").await?.stdout)?;
    let fleet = "GitRepository/flux-system/flux-system";
    assert_eq!(
        fields(&map),
        [
            "apps/web/map.yaml:1",
            "kustomization/flux-system/web",
            "clusters/staging/web.yaml:1",
            fleet,
            "the folder"
        ]
    );
    let unit: Value =
        serde_json::from_str(&trace("Kustomizations.kustomize.toolkit.fluxcd.io/web").await?.stdout)?;
    assert_eq!(fields(&unit), ["clusters/staging/web.yaml:1", "root", "", fleet, "the folder"]);
    let words = run(&["trace", "configmap", "a", "--repo", at, "-c", "staging", "-o", "json"]).await?;
    assert_eq!(serde_json::from_str::<Value>(&words.stdout)?, map);
    let nothing = trace("deployment/a").await?;
    assert_eq!(nothing.code, 6, "{nothing:?}");
    assert!(nothing.stderr.contains("nothing in cluster staging renders deployment/a"), "{nothing:?}");
    assert_eq!(trace("a").await?.code, 2);
    Ok(())
}

#[tokio::test]
async fn a_remote_base_is_fetched_for_a_render() -> anyhow::Result<()> {
    let base = tempfile::tempdir()?;
    write(base.path(), "web/kustomization.yaml", "resources: [map.yaml]\n")?;
    write(base.path(), "web/map.yaml", &config_map("from-base", "one"))?;
    git(base.path(), &["init", "-q", "-b", "main"])?;
    git(base.path(), &["add", "-A"])?;
    git(base.path(), &["commit", "-q", "-m", "base"])?;
    let repo = repo()?;
    let address = format!("file://{}//web?ref=main", base.path().display());
    write(repo.path(), "apps/web/kustomization.yaml", &format!("resources: [map.yaml, '{address}']\n"))?;
    let at = repo.path().to_str().unwrap();
    let yaml = run_in(repo.path(), &["render", "--repo", at, "--cluster", "staging"]).await?;
    assert_eq!((yaml.code, yaml.stderr.as_str()), (0, ""), "{yaml:?}");
    assert!(
        yaml.stdout.contains("name: a\n") && yaml.stdout.contains("name: from-base\n"),
        "{}",
        yaml.stdout
    );

    let gone = address.replace("ref=main", "ref=gone");
    write(repo.path(), "apps/web/kustomization.yaml", &format!("resources: ['{gone}']\n"))?;
    let held = run_in(repo.path(), &["render", "--repo", at, "--cluster", "staging"]).await?;
    assert_eq!(held.code, 3, "{held:?}");
    assert!(held.stderr.contains("no branch, tag or commit 'gone'"), "{}", held.stderr);
    Ok(())
}

#[tokio::test]
async fn a_repository_of_flux_is_offered_its_clusters() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let repo = folder.path().to_str().unwrap();
    let write = |path: &str, text: &str| write(folder.path(), path, text);
    let sync = |path: &str| {
        format!(
            "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: flux-system, namespace: \
             flux-system}}\nspec:\n  interval: 10m\n  prune: true\n  path: {path}\n  sourceRef: {{kind: GitRepository, name: \
             flux-system}}\n"
        )
    };
    let nothing = run(&["import", "--repo", repo]).await?;
    assert_eq!((nothing.code, nothing.stdout.as_str()), (1, ""), "{nothing:?}");
    assert!(nothing.stderr.contains("write a Cluster object for each cluster"), "{nothing:?}");

    write("kubernetes/main/flux/config/cluster.yaml", &sync("./kubernetes/main/flux"))?;
    let check = run(&["check", "--repo", repo]).await?;
    assert_eq!(check.code, 1, "{check:?}");
    let expected = "clusters: the repository defines no cluster; Flux has the roots of clusters at kubernetes/main/flux: \
                    `flotilla import --repo DIR`";
    assert!(check.stdout.contains(expected), "{check:?}");

    let import = run(&["import", "--repo", repo]).await?;
    assert_eq!(import.code, 0, "{import:?}");
    assert!(
        import.stdout.contains("# Kustomization flux-system at kubernetes/main/flux/config/cluster.yaml:1\n"),
        "{import:?}"
    );
    assert!(import.stderr.contains("add these objects to clusters/clusters.yaml"), "{import:?}");
    assert!(import.stderr.contains("1 cluster, 1 unit, no objects: no problems, no notices"), "{import:?}");
    // What would be otherwise is said before anything is.
    let odd = "kubernetes/main/flux/config/odd.yaml";
    let team = "---\n".to_owned() + &sync("./gone").replace("flux-system, namespace", "team, namespace");
    write(odd, &team)?;
    let said = run(&["import", "--repo", repo]).await?;
    assert_eq!((said.code, &said.stdout), (0, &import.stdout), "{said:?}");
    assert!(said.stderr.contains("1 cluster, 2 units, no objects: 1 problem, no notices"), "{said:?}");
    assert!(
        said.stderr.contains("gone: there is no such folder")
            && said.stderr.contains("main/kustomization/flux-system/team"),
        "{said:?}"
    );
    std::fs::remove_file(folder.path().join(odd))?;
    write("clusters/clusters.yaml", &import.stdout)?;
    let check = run(&["check", "--repo", repo]).await?;
    assert_eq!(check.code, 0, "{check:?}");
    assert!(check.stderr.contains("1 cluster, 1 unit"), "{check:?}");

    let again = run(&["import", "--repo", repo]).await?;
    assert_eq!((again.code, again.stdout.as_str()), (0, ""), "{again:?}");
    assert!(again.stderr.contains("defined already, and left out: main"), "{again:?}");
    write("k8s/main/flux-system/gotk-sync.yaml", &sync("./k8s/main"))?;
    write("clusters/broken.yaml", "apiVersion: flotilla.dev/v1alpha1\n- no\n")?;
    let another = run(&["import", "--repo", repo]).await?;
    assert!(another.stdout.contains("name: main-2\nspec:\n  path: k8s/main\n"), "{another:?}");
    // --clusters k8s would make a cluster of it, and lose the other.
    assert!(another.stderr.contains("add these objects to clusters/clusters.yaml"), "{another:?}");
    assert!(another.stderr.contains("not every definition below clusters can be read"), "{another:?}");
    std::fs::remove_dir_all(folder.path().join("k8s"))?;

    write("k8s/east/flux-system/gotk-sync.yaml", &sync("./k8s/east"))?;
    std::fs::remove_dir_all(folder.path().join("kubernetes"))?;
    std::fs::remove_dir_all(folder.path().join("clusters"))?;
    let import = run(&["import", "--repo", repo]).await?;
    assert!(import.stderr.contains("`--clusters k8s` makes each of these folders a cluster"), "{import:?}");
    assert_eq!(run(&["check", "--repo", repo, "--clusters", "k8s"]).await?.code, 0);
    Ok(())
}

#[tokio::test]
async fn what_is_not_fetched_is_a_notice_of_a_check_and_a_folder_may_stand_in() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let write = |path: &str, text: &str| write(folder.path(), path, text);
    write(
        "fleet/clusters/one/team.yaml",
        "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {name: team, namespace: d}\nspec: {interval: 1m, \
         url: 'https://git.example.org/team'}\n---\napiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: \
         {name: team, namespace: d}\nspec: {interval: 1m, prune: true, path: ./, sourceRef: {kind: GitRepository, name: \
         team}}\n",
    )?;
    write("team/wrong.yaml", "apiVersion: v1\nkind: ConfigMap\n")?;
    let repo = folder.path().join("fleet");
    let repo = repo.to_str().unwrap();
    let check = run(&["check", "--repo", repo]).await?;
    assert_eq!(check.code, 0, "{check:?}");
    assert!(check.stdout.contains("notice: clusters/one/team.yaml"), "{check:?}");
    assert!(check.stdout.contains("is not fetched offline"), "{check:?}");
    let local = format!("GitRepository/d/team={}", folder.path().join("team").display());
    let check = run(&["check", "--repo", repo, "--local-sources", &local]).await?;
    assert_eq!(check.code, 1, "{check:?}");
    assert!(check.stdout.contains("wrong.yaml"), "{check:?}");
    Ok(())
}

#[tokio::test]
async fn what_init_writes_is_accepted_and_nothing_is_written_over() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    for (name, more) in [
        ("plain", &[][..]),
        (
            "one",
            &[
                "--cluster",
                "edge-1",
                "--app",
                "web",
                "--image",
                "registry.example.com/web:1",
                "--port",
                "8080",
            ],
        ),
        // Names that YAML would take for something else.
        ("odd", &["--cluster", "no", "--cluster", "123", "--app", "true", "--image", "1e3"]),
    ] {
        let dir = folder.path().join(name);
        let at = dir.to_str().unwrap();
        let made = run(&[&["init", at], more].concat()).await?;
        assert_eq!(made.code, 0, "{made:?}");
        let check = run(&["check", "--repo", at]).await?;
        assert_eq!(check.code, 0, "{name}: {check:?}");
        assert!(!check.stdout.contains("problem"), "{name}: {check:?}");
        let again = run(&[&["init", at], more].concat()).await?;
        assert_eq!(again.code, 2, "{again:?}");
        assert!(again.stderr.contains("is there already: nothing was written"), "{again:?}");
    }
    let at = folder.path().join("plain");
    let at = at.to_str().unwrap();
    let rendered = run(&["render", "--repo", at, "--cluster", "production"]).await?;
    assert!(rendered.stdout.contains("greeting: hello from production"), "{rendered:?}");
    let at = folder.path().join("odd");
    let rendered = run(&["render", "--repo", at.to_str().unwrap(), "--cluster", "no"]).await?;
    assert!(
        rendered.stdout.contains("image: \"1e3\"") || rendered.stdout.contains("image: '1e3'"),
        "{rendered:?}"
    );
    Ok(())
}
