//! `flotilla plan`: two points of a fleet repo.

use std::path::Path;

use flotilla_api::{Cluster, Manifests, Scope, UnitManifests, UnitState, WhoAmI};
use serde_json::{Value, json};

use crate::fake::FakeHub;
use crate::kustomize::{git, run_in};
use crate::offline::hide;
use crate::run;

const APP: &str = "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata:\n  name: web\n  \
     namespace: flux-system\nspec:\n  path: ./apps/web\n  prune: true\n  interval: 10m\n  sourceRef:\n    \
     kind: GitRepository\n    name: flux-system\n";

fn write(root: &Path, path: &str, text: &str) -> anyhow::Result<()> {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap())?;
    Ok(std::fs::write(path, text)?)
}

fn map(name: &str, value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: default}}\ndata: {{k: \"{value}\"}}\n"
    )
}

fn secret(value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: s, namespace: default}}\nstringData: {{password: {value}}}\n"
    )
}

fn commit(dir: &Path, message: &str) -> anyhow::Result<()> {
    git(dir, &["add", "-A"])?;
    git(dir, &["commit", "-q", "-m", message])
}

/// Two clusters run one app; the branch `change` has other values in it, and an object less.
fn repository() -> anyhow::Result<tempfile::TempDir> {
    let repo = tempfile::tempdir()?;
    let root = repo.path();
    for cluster in ["east", "west"] {
        write(root, &format!("clusters/{cluster}/web.yaml"), APP)?;
    }
    write(root, "apps/web/a.yaml", &map("a", "one"))?;
    write(root, "apps/web/b.yaml", &map("b", "one"))?;
    write(root, "apps/web/secret.yaml", &secret("hunter2"))?;
    git(root, &["init", "-q", "-b", "main"])?;
    commit(root, "one")?;
    git(root, &["checkout", "-q", "-b", "change"])?;
    write(root, "apps/web/a.yaml", &map("a", "two ``` </details> @ada"))?;
    write(root, "apps/web/secret.yaml", &secret("hunter3"))?;
    std::fs::remove_file(root.join("apps/web/b.yaml"))?;
    commit(root, "two")?;
    Ok(repo)
}

#[tokio::test]
async fn two_commits_are_compared_for_every_cluster() -> anyhow::Result<()> {
    let repo = repository()?;
    let at = repo.path().to_str().unwrap();
    let plan = run(&["plan", "--repo", at, "--from", "main", "--to", "change"]).await?;
    assert_eq!((plan.code, plan.stderr.as_str()), (0, ""), "{plan:?}");
    for expected in [
        "1 distinct diff over 2 of 2 clusters, from main (",
        "info: 2 of 6 objects are removed, in 2 clusters: east, west (",
        "objects: 2 changed, 1 pruned, in 2 clusters: east, west\n",
        "  - ConfigMap default/b (kustomization/flux-system/web) is deleted\n",
        "  ~ ConfigMap default/a (kustomization/flux-system/web)\n        /data/k: one → two ``` </details> @ada\n",
        "  ~ Secret default/s (kustomization/flux-system/web)\n        /stringData/password: (hidden) → (hidden)\n",
    ] {
        assert!(plan.stdout.contains(expected), "{expected}\n{}", plan.stdout);
    }
    for form in ["text", "json", "yaml", "markdown"] {
        let plan = run(&["plan", "--repo", at, "--from", "main", "--all", "-o", form]).await?;
        assert!(plan.code == 0 && !plan.stdout.is_empty(), "{plan:?}");
        assert!(!format!("{plan:?}").contains("hunter"), "{form}: {}", plan.stdout);
    }
    let json = run(&["plan", "--repo", at, "--from", "main", "-o", "json"]).await?;
    let json: Value = serde_json::from_str(&json.stdout)?;
    assert_eq!(json["diffs"][0]["clusters"], serde_json::json!(["east", "west"]));
    let changes: Vec<&str> = json["diffs"][0]["objects"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|it| it["change"].as_str())
        .collect();
    assert_eq!(changes, ["changed", "pruned", "changed"]);
    let markdown = run(&["plan", "--repo", at, "--from", "main", "-o", "markdown"]).await?;
    assert!(
        markdown.stdout.starts_with("<!-- flotilla plan -->\n### Flotilla plan\n"),
        "{}",
        markdown.stdout
    );
    assert!(markdown.stdout.contains("\n````diff\n"), "the text has three backticks: {}", markdown.stdout);
    Ok(())
}

#[tokio::test]
async fn what_ends_how_is_published() -> anyhow::Result<()> {
    let repo = repository()?;
    let at = repo.path().to_str().unwrap();
    for (args, code, says) in [
        (&["--from", "main"][..], 0, ""),
        (&["--from", "main", "--exit-code"], 1, ""),
        (&["--exit-code"], 0, ""),
        (&["--cluster", "nope"], 6, "neither side defines a cluster nope"),
        (&["--from", "nowhere"], 3, "'nowhere' names no commit"),
        (&["--from", "./nowhere"], 3, "cannot read the fleet repo ./nowhere"),
        (&["--kubernetes-version", "1.30,1.31"], 2, "two versions of the same clusters"),
        (&["--kubernetes-version", "tier=edge:1.31"], 0, "no cluster with the label tier=edge"),
    ] {
        let ran = run(&[&["plan", "--repo", at], args].concat()).await?;
        assert_eq!(ran.code, code, "{args:?}: {ran:?}");
        assert!(ran.stderr.contains(says), "{args:?}: {ran:?}");
    }
    // What does not render any more is an error, and is not shown as gone.
    write(repo.path(), "apps/web/a.yaml", "a: [\n")?;
    let ran = run(&["plan", "--repo", at]).await?;
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stdout.contains("is held and keeps what runs: apps/web/a.yaml:"), "{ran:?}");
    assert!(!ran.stdout.contains("is deleted"), "{ran:?}");
    // Nobody is told that nothing differs where there is nothing to compare.
    let none = tempfile::tempdir()?;
    git(none.path(), &["init", "-q", "-b", "main"])?;
    write(none.path(), "README.md", "")?;
    commit(none.path(), "one")?;
    let ran = run(&["plan", "--repo", none.path().to_str().unwrap()]).await?;
    assert!(ran.code == 3 && ran.stdout.contains("the repository defines no cluster"), "{ran:?}");
    Ok(())
}

/// Which clusters get it first, what has to hold before the others do, and what nobody holds back.
#[tokio::test]
async fn a_plan_goes_by_stages() -> anyhow::Result<()> {
    let repo = repository()?;
    let root = repo.path();
    let cluster = |name: &str, env: &str| {
        format!(
            "apiVersion: flotilla.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {name}}}\nspec: {{path: clusters/{name}, labels: \
             {{env: {env}}}}}\n---\n"
        )
    };
    let pipeline = "apiVersion: flotilla.dev/v1alpha1\nkind: Pipeline\nmetadata: {name: web}\nspec:\n  units: [flux-system/web]\n  \
                    stages:\n  - {name: staging, clusters: {matchLabels: {env: staging}}, strategy: {maxConcurrent: 100%}, after: \
                    {healthyFor: 30m}}\n  - {name: none, clusters: {matchLabels: {env: x}}}\n  - {name: production, clusters: \
                    {matchLabels: {env: production}}, before: {approval: {from: [leads], count: 2}}, windows: [{name: office, kind: \
                    allow, from: '09:00', to: '16:00'}]}\n";
    let all = format!("{}{}{pipeline}", cluster("east", "staging"), cluster("west", "production"));
    write(root, "clusters/fleet.yaml", &all)?;
    write(root, "clusters/west/own.yaml", &map("own", "1"))?;
    commit(root, "three")?;
    write(root, "clusters/west/own.yaml", &map("own", "2"))?;
    write(root, "apps/web/a.yaml", &map("a", "three"))?;
    let at = root.to_str().unwrap();
    let plan = run(&["plan", "--repo", at]).await?;
    assert_eq!(plan.code, 0, "{plan:?}");
    let json = run(&["plan", "--repo", at, "-o", "json"]).await?;
    let json: Value = serde_json::from_str(&json.stdout)?;
    let digest = |cluster: &str| {
        let diffs = json["diffs"].as_array().unwrap();
        let of = diffs.iter().find(|diff| diff["clusters"][0] == cluster).unwrap();
        of["digest"].as_str().unwrap().to_owned()
    };
    let (east, west) = (digest("east"), digest("west"));
    let short = |digest: &str| digest[..12].to_owned();
    let expected = format!(
        "\nat once:\n  diff {w} in 1 cluster: west: root\npipeline web:\n  1. staging: 1 cluster, all at once; passes after each \
         cluster is healthy for 30m\n     diff {e} in 1 cluster: east: kustomization/flux-system/web\n  2. none: 0 clusters: passes \
         at once, without its gates\n  3. production: 1 cluster, 1 at a time; begins after 2 approvals by leads, as windows allow: \
         office\n     diff {w} in 1 cluster: west: kustomization/flux-system/web\n",
        w = short(&west),
        e = short(&east)
    );
    assert!(plan.stdout.contains(&expected), "{expected}\n{}", plan.stdout);
    let stages = &json["schedule"]["pipelines"][0]["stages"];
    assert_eq!(stages[2]["diffs"][0]["diff"], west.as_str());
    assert_eq!(stages[2]["diffs"][0]["clusters"], serde_json::json!(["west"]));
    assert_eq!(json["schedule"]["atOnce"][0]["units"], serde_json::json!(["root"]));
    let markdown = run(&["plan", "--repo", at, "-o", "markdown"]).await?;
    assert!(markdown.stdout.contains("\n**When it happens**\n\n```text\nat once:\n"), "{}", markdown.stdout);
    Ok(())
}

/// What a hub has published that rendered the repository for these clusters as it is now.
async fn publish(hub: &FakeHub, at: &str, clusters: &[&str]) -> anyhow::Result<Vec<Manifests>> {
    let mut all = Vec::new();
    for name in clusters {
        let json = run(&["render", "--repo", at, "--cluster", name, "-o", "json"]).await?;
        let json: Value = serde_json::from_str(&json.stdout)?;
        let mut units: Vec<UnitManifests> = serde_json::from_value(json["units"].clone())?;
        units.iter_mut().flat_map(|unit| &mut unit.objects).for_each(hide);
        let manifests = Manifests { cluster: (*name).to_owned(), units, ..Manifests::default() };
        hub.get(&format!("clusters/{name}/manifests"), &manifests);
        all.push(manifests);
    }
    let cluster = |name: &&str| Cluster {
        name: (*name).to_owned(),
        assigned: true,
        root: format!("clusters/{name}"),
        kubernetes_version: "v1.30.2+k3s1".to_owned(),
        ..Cluster::default()
    };
    hub.list("clusters", clusters.iter().map(cluster).collect::<Vec<_>>());
    Ok(all)
}

/// The Secret that the hub is asked for, with this password.
fn hides(hub: &FakeHub, clusters: &[&str], password: &str) {
    let mut secret: Value = json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "s", "namespace": "default"}, "stringData": {"password": password}});
    hide(&mut secret);
    for name in clusters {
        hub.on(&format!("POST clusters/{name}/hide-secrets"), 200, json!({"secrets": [secret]}));
    }
}

#[tokio::test]
async fn a_folder_is_compared_with_what_a_hub_has_published() -> anyhow::Result<()> {
    let (hub, repo) = (FakeHub::start().await?, repository()?);
    let (root, at) = (repo.path(), repo.path().to_str().unwrap());
    hub.get("whoami", WhoAmI::default()).list("pipelines", Vec::<Value>::new());
    let plan = async |more: &[&str]| hub.run(&[&["plan", "--server", "--repo", at], more].concat()).await;
    let mut told = publish(&hub, at, &["east", "west"]).await?;
    hides(&hub, &["east", "west"], "hunter3");
    let same = plan(&["--exit-code"]).await?;
    assert_eq!((same.code, same.stderr.as_str()), (0, ""), "{same:?}");
    assert!(
        same.stdout.starts_with("nothing differs in 2 clusters, from what https://127.0.0.1:"),
        "{same:?}"
    );

    // One cluster is behind: it has an object more, and an older one.
    let old = &mut told[1].units[1];
    assert_eq!(old.unit, "kustomization/flux-system/web");
    old.objects[0]["data"]["k"] = "one".into();
    old.objects.push(serde_json::from_value(json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "b", "namespace": "default"}, "data": {"k": "one"}}))?);
    hub.get("clusters/west/manifests", &told[1]);
    hub.list("pipelines", json!([{"name": "gone"}]));
    let behind = plan(&[]).await?;
    for expected in [
        "1 distinct diff over 1 of 2 clusters, from what https://127.0.0.1:",
        "objects: 1 changed, 1 pruned, in 1 cluster: west\n",
        "  - ConfigMap default/b (kustomization/flux-system/web) is deleted\n",
        "        /data/k: one → two ``` </details> @ada\n",
        "notice: the pipeline 'gone' of the hub is not defined any more",
    ] {
        assert!(behind.stdout.contains(expected), "{expected}\n{}", behind.stdout);
    }
    hub.list("pipelines", Vec::<Value>::new());

    // Another policy of a unit, and a Secret with another value.
    publish(&hub, at, &["east", "west"]).await?;
    write(root, "clusters/east/web.yaml", &APP.replace("prune: true", "prune: false"))?;
    hides(&hub, &["west"], "hunter4");
    let policy = plan(&[]).await?;
    assert!(
        policy.stdout.contains("unit kustomization/flux-system/web changes\n        /prune: true → (none)\n"),
        "{policy:?}"
    );
    assert!(policy.stdout.contains("  ~ Secret default/s (kustomization/flux-system/web)\n"), "{policy:?}");
    assert!(!format!("{policy:?}").contains("hunter"), "{policy:?}");
    // Who may not ask for that is told that they are not compared.
    hub.on("POST clusters/west/hide-secrets", 403, json!({"error": "not this role"}));
    let blind = plan(&["--cluster", "west"]).await?;
    assert!(blind.code == 0 && blind.stderr.contains("values of Secrets are not compared: "), "{blind:?}");
    assert!(blind.stdout.starts_with("nothing differs in 1 cluster,"), "{blind:?}");
    hides(&hub, &["west"], "hunter3");

    // A hub that cannot tell what a unit is, or a cluster: nothing of it is shown as new or gone.
    for unit in &mut told[0].units {
        (unit.state, unit.reason, unit.objects) = (UnitState::Held, "it never rendered".into(), vec![]);
    }
    hub.get("clusters/east/manifests", &told[0]);
    hub.on("GET clusters/west/manifests", 409, json!({"error": "the fleet repo was not rendered yet"}));
    let unknown = plan(&[]).await?;
    assert!(
        !unknown.stdout.contains("ConfigMap") && unknown.stdout.contains("what it runs is not known here"),
        "{unknown:?}"
    );

    // Clusters that the token does not see are not new, and one that is new is.
    let scope = Scope { clusters: vec!["east".to_owned()], ..Scope::default() };
    hub.get("whoami", WhoAmI { scope, ..WhoAmI::default() });
    publish(&hub, at, &["east"]).await?;
    let bound = plan(&[]).await?;
    assert!(
        bound.stderr.contains("the token is not of the whole fleet: 1 clusters are not compared"),
        "{bound:?}"
    );
    assert!(bound.stdout.starts_with("nothing differs in 1 cluster,"), "{bound:?}");
    hub.get("whoami", WhoAmI::default());
    let new = plan(&[]).await?;
    assert!(new.stdout.contains("+ the cluster is new\n"), "{new:?}");
    let scope = Scope { namespaces: vec!["web".to_owned()], ..Scope::default() };
    hub.get("whoami", WhoAmI { scope, ..WhoAmI::default() });
    assert_eq!(plan(&[]).await?.code, 5);
    assert_eq!(plan(&["--from", "main"]).await?.code, 2);
    Ok(())
}

/// A comment that a host refuses for its length says nothing.
#[tokio::test]
async fn a_comment_keeps_to_its_length() -> anyhow::Result<()> {
    let repo = tempfile::tempdir()?;
    write(repo.path(), "before/clusters/README.md", "")?;
    for n in 0..60 {
        for m in 0..30 {
            write(
                repo.path(),
                &format!("after/clusters/c{n}/m{m}.yaml"),
                &map(&format!("m{m}"), &format!("{n}")),
            )?;
        }
    }
    let (before, after) = (repo.path().join("before"), repo.path().join("after"));
    let (before, after) = (before.to_str().unwrap(), after.to_str().unwrap());
    for max in ["1000", "5000", "60000"] {
        let plan =
            run(&["plan", "--from", before, "--to", after, "-o", "markdown", "--max-bytes", max, "--all"])
                .await?;
        assert_eq!(plan.code, 0, "{plan:?}");
        assert!(plan.stdout.len() <= max.parse()?, "{max}: {}", plan.stdout.len());
        assert!(plan.stdout.contains("60 distinct diffs over 60 of 60 clusters"), "{}", plan.stdout);
        assert_eq!(plan.stdout.matches("```").count() % 2, 0, "{}", plan.stdout);
        assert_eq!(plan.stdout.matches("<details").count(), plan.stdout.matches("</details>").count());
    }
    Ok(())
}

/// The commands of docs/plan.md that run `flotilla`, in a repository as CI checks it out.
#[tokio::test]
async fn the_commands_of_the_documentation_work() -> anyhow::Result<()> {
    let repo = repository()?;
    git(repo.path(), &["update-ref", "refs/remotes/origin/main", "main"])?;
    let text = include_str!("../../../docs/plan.md");
    let lines: Vec<&str> =
        text.lines().filter_map(|line| Some(&line[line.find("flotilla plan --")?..])).collect();
    // Those against a hub have a test of their own.
    let lines: Vec<&str> = lines.into_iter().filter(|line| !line.contains("--server")).collect();
    let commands: Vec<&str> =
        lines.iter().map(|line| line.split(['#', '>', '|', '`']).next().unwrap().trim()).collect();
    assert!(commands.len() >= 5, "{commands:?}");
    for command in commands {
        let command = command
            .replace("$CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "main")
            .replace("${{ github.base_ref }}", "main");
        let words: Vec<String> =
            command.split_whitespace().skip(1).map(|word| word.trim_matches('"').to_owned()).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let ran = run_in(repo.path(), &words).await?;
        let expected = i32::from(words.contains(&"--exit-code"));
        assert_eq!(ran.code, expected, "{command}: {ran:?}");
        assert!(!ran.stdout.is_empty(), "{command}: {ran:?}");
    }
    Ok(())
}
