//! `flotilla blame` and `flotilla history`: who set what, and what ran when.

use std::path::Path;

use flotilla_api::{Cluster, Desired, HistoryEntry};
use serde_json::Value;

use crate::fake::FakeHub;
use crate::kustomize::{git, write};
use crate::run;

fn commit(root: &Path, author: &str, message: &str) -> anyhow::Result<()> {
    git(root, &["add", "-A"])?;
    git(root, &["-c", &format!("user.name={author}"), "commit", "-q", "-m", message])
}

const BASE: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\n  namespace: web\nspec:\n  replicas: 1\n  template:\n    \
     spec:\n      containers:\n      - name: web\n        image: web:1.0\n";

#[tokio::test]
async fn each_field_has_the_line_and_the_author_that_set_it() -> anyhow::Result<()> {
    let repo = tempfile::tempdir()?;
    let root = repo.path();
    git(root, &["init", "-q", "-b", "main"])?;
    git(root, &["config", "user.email", "x@example.com"])?;
    write(
        root,
        "clusters/east/apps.yaml",
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: apps, namespace: \
         flux-system}\nspec: {path: ./apps/prod, prune: true, interval: 10m, sourceRef: {kind: GitRepository, name: flux-system}}\n",
    )?;
    write(root, "apps/base/kustomization.yaml", "resources: [web.yaml]\n")?;
    write(root, "apps/base/web.yaml", BASE)?;
    commit(root, "ann", "the base")?;
    write(
        root,
        "apps/prod/kustomization.yaml",
        "resources: [../base]\nimages:\n- name: web\n  newTag: \"1.1\"\npatches:\n- path: more.yaml\n",
    )?;
    write(
        root,
        "apps/prod/more.yaml",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: web}\nspec:\n  replicas: 3\n",
    )?;
    commit(root, "ben", "more of it")?;
    let at = root.to_str().unwrap();
    let blame = async |more: &[&str]| {
        run(&[&["blame", "east", "deployment/web", "--repo", at, "-o", "json"], more].concat()).await
    };
    let of = |told: &Value, path: &str| {
        let fields = told["fields"].as_array().unwrap();
        let field =
            fields.iter().find(|field| field["path"] == path).unwrap_or_else(|| panic!("{path}: {told:#}"));
        let text = |name: &str| field[name].as_str().unwrap_or_default().to_owned();
        format!("{} {}:{} {} {}", text("value"), text("file"), field["line"], text("author"), text("summary"))
    };
    let ran = blame(&[]).await?;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    let told: Value = serde_json::from_str(&ran.stdout)?;
    for (path, expected) in [
        ("/metadata/name", "web apps/base/web.yaml:4 ann the base"),
        ("/spec/replicas", "3 apps/prod/more.yaml:5 ben more of it"),
        ("/spec/template/spec/containers/0/name", "web apps/base/web.yaml:11 ann the base"),
        ("/spec/template/spec/containers/0/image", "web:1.1 apps/prod/kustomization.yaml:4 ben more of it"),
    ] {
        assert_eq!(of(&told, path), expected);
    }
    // One field alone, and what is not committed yet.
    write(
        root,
        "apps/prod/more.yaml",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: web}\nspec:\n  replicas: 4\n",
    )?;
    let ran = run(&["blame", "east", "deployment/web", "spec.replicas", "--repo", at]).await?;
    assert_eq!(ran.code, 0, "{ran:?}");
    let line = ran.stdout.lines().nth(1).unwrap();
    assert!(
        line.contains("/spec/replicas")
            && line.contains("apps/prod/more.yaml:5")
            && line.contains("(not committed)"),
        "{ran:?}"
    );
    assert_eq!(ran.stdout.lines().count(), 2, "{ran:?}");
    for (args, code, says) in [
        (&["deployment/nope"][..], 6, "nothing in cluster east renders deployment/nope"),
        (&["deployment/web", "spec.nope"], 6, "has no field /spec/nope"),
        (&["web"], 2, "names no object"),
    ] {
        let ran = run(&[&["blame", "east"], args, &["--repo", at]].concat()).await?;
        assert!(ran.code == code && ran.stderr.contains(says), "{ran:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_ran_on_a_day_is_told() -> anyhow::Result<()> {
    let hub = FakeHub::start().await?;
    let cluster = |name: &str| Cluster { name: name.into(), ..Cluster::default() };
    hub.list("clusters", [cluster("east"), cluster("west")]);
    let entry = |generation: u64, commit: &str, applied_at: Option<i64>| HistoryEntry {
        desired: Desired { generation, commit: commit.repeat(10), ..Desired::default() },
        received_at: Some(1),
        applied_at,
        healthy_at: applied_at,
    };
    let day = 86_400;
    hub.list("clusters/east/history", [entry(1, "abcd", Some(day)), entry(2, "ef01", Some(3 * day))]);
    hub.list("clusters/west/history", [entry(3, "ef01", Some(2 * day)), entry(4, "abcd", None)]);
    let generations = async |args: &[&str]| -> anyhow::Result<(i32, Vec<u64>)> {
        let ran = hub.run(&[&["history", "-o", "json"], args].concat()).await?;
        let told: Value = serde_json::from_str(&ran.stdout)?;
        let all =
            told.as_array().unwrap().iter().map(|state| state["generation"].as_u64().unwrap()).collect();
        Ok((ran.code, all))
    };
    for (args, code, expected) in [
        (&[][..], 0, vec![1, 2, 3, 4]),
        (&["west"], 0, vec![3, 4]),
        (&["--commit", "abcdabc"], 0, vec![1, 4]),
        (&["--at", "1970-01-03"], 0, vec![1, 3]),
        (&["--at", "1970-01-04T00:00:00Z"], 0, vec![2, 3]),
        (&["--at", "1970-01-01"], 1, vec![]),
        (&["--at", "1h", "--commit", "ef01ef0"], 0, vec![2, 3]),
    ] {
        assert_eq!(generations(args).await?, (code, expected), "{args:?}");
    }
    let ran = hub.run(&["history", "west"]).await?;
    assert!(ran.stdout.contains("1970-01-03T00:00:00Z") && ran.stdout.contains("never applied"), "{ran:?}");
    for args in [["--commit", "main"], ["--at", "yesterday"]] {
        assert_eq!(hub.run(&[&["history"], &args[..]].concat()).await?.code, 2);
    }
    Ok(())
}
