//! `flotilla promote`: versions go from one overlay to the next, as a commit or on a branch.

use std::fs;

use crate::kustomize::git;
use crate::{Ran, run};

fn overlay(tag: &str, replicas: u32) -> String {
    format!(
        "# ours\nkind: Kustomization\nimages:\n- name: web\n  newTag: {tag}   # by ann\nreplicas:\n- name: web\n  count: {replicas}\n"
    )
}

#[tokio::test]
async fn a_promotion_is_shown_then_committed_or_put_on_a_branch() -> anyhow::Result<()> {
    let repo = tempfile::tempdir()?;
    let root = repo.path();
    let at = |side: &str| root.join(format!("apps/web/{side}/kustomization.yaml"));
    for (side, tag, replicas) in [("staging", "1.1", 1), ("production", "1.0", 3)] {
        fs::create_dir_all(at(side).parent().unwrap())?;
        fs::write(at(side), overlay(tag, replicas))?;
    }
    git(root, &["init", "-q", "-b", "main"])?;
    git(root, &["config", "user.name", "ann"])?;
    git(root, &["config", "user.email", "ann@example.com"])?;
    git(root, &["add", "-A"])?;
    git(root, &["commit", "-q", "-m", "one"])?;
    let folder = root.to_str().unwrap();
    let promote = async |more: &[&str]| -> anyhow::Result<Ran> {
        run(&[&["promote", "staging", "production", "--path", "apps/web", "--repo", folder], more].concat())
            .await
    };

    let ran = promote(&["--dry-run"]).await?;
    let diff = "--- a/apps/web/production/kustomization.yaml\n+++ b/apps/web/production/kustomization.yaml\n@@ -2,7 +2,7 @@\n";
    assert!(ran.stdout.starts_with(diff), "{ran:?}");
    assert!(ran.stdout.contains("\n-  newTag: 1.0   # by ann\n+  newTag: 1.1   # by ann\n"), "{ran:?}");
    assert_eq!(ran.stderr, "1 values would change\n");
    assert_eq!(fs::read_to_string(at("production"))?, overlay("1.0", 3), "a dry run changes nothing");

    // What is not committed was not reviewed.
    fs::write(at("staging"), overlay("1.2", 1))?;
    let ran = promote(&[]).await?;
    assert!(ran.code == 3 && ran.stderr.contains("not committed"), "{ran:?}");
    fs::write(at("staging"), overlay("1.1", 1))?;

    let ran = promote(&["--branch", "release"]).await?;
    assert!(ran.code == 0 && ran.stderr.contains("on branch release"), "{ran:?}");
    assert_eq!(fs::read_to_string(at("production"))?, overlay("1.0", 3), "what is checked out stays");
    git(root, &["diff", "--quiet", "HEAD"])?;
    let ran = promote(&["--branch", "release"]).await?;
    assert!(ran.code != 0 && ran.stderr.contains("name another one"), "{ran:?}");

    let ran = promote(&["-o", "json"]).await?;
    let told: serde_json::Value = serde_json::from_str(&ran.stdout)?;
    assert_eq!(told["changes"][0]["what"], "images[web].newTag");
    assert_eq!(fs::read_to_string(at("production"))?, overlay("1.1", 3));
    // The branch and the commit come to the same files.
    git(root, &["diff", "--quiet", "release", "HEAD"])?;
    assert_eq!(promote(&[]).await?.stderr, "there is nothing to promote\n");

    let ran = run(&["promote", "staging", "prod", "--path", "apps/web", "--repo", folder]).await?;
    assert!(ran.code == 3 && ran.stderr.contains("apps/web/prod"), "{ran:?}");
    Ok(())
}
