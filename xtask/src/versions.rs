//! `cargo xtask versions COMMIT...`: the tour with an agent of another version, and with a hub of another version.
//!
//! ```text
//!   for each commit:  git worktree ──► its hub, agent and CLI, kept in the cache by the commit
//!                     tour: its agent with our hub     tour: our agent with its hub
//! ```
//! The CLI is the hub's: it speaks that one's API.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::{build, needs, workspace};

/// How many tags before this commit are taken where none is named.
const BEFORE: usize = 2;
const PROGRAMS: [&str; 3] = ["flotilla-hub", "flotilla-agent", "flotilla"];
/// Names the folder of the programs that the demo starts.
const PROGRAMS_VARIABLE: &str = "FLOTILLA_BIN_DIR";

pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    let commits = commits(args)?;
    needs::check(true)?;
    let cache = workspace::cache()?.join("versions");
    let mut others = Vec::new();
    for commit in &commits {
        others.push((commit, programs_of(&cache, &commit.hash)?));
    }
    let packages: Vec<&str> = build::SHIPPED.into_iter().chain([build::TESTS]).collect();
    build::with_progress("building the newest version", build::command(&packages, &[]))?;
    let newest = workspace::target_dir(&workspace::metadata(false)?)?.join("debug");
    let mut outcomes = Vec::new();
    for (commit, theirs) in &others {
        for (what, hub, agent) in [
            (format!("the newest hub with an agent of {}", commit.name), &newest, theirs),
            (format!("a hub of {} with the newest agent", commit.name), theirs, &newest),
        ] {
            println!("\n{what}");
            let folder = cache.join("pair");
            pair(&folder, hub, agent)?;
            let mut demo = Command::new(newest.join("flotilla-demo"));
            demo.arg("--exit").env(PROGRAMS_VARIABLE, &folder).current_dir(workspace::root());
            let status = demo.status().context("cannot run flotilla-demo")?;
            outcomes.push((what, status.success()));
        }
    }
    println!();
    for (what, is_good) in &outcomes {
        println!("{}  {what}", if *is_good { "passed" } else { "FAILED" });
    }
    ensure!(outcomes.iter().all(|(_, is_good)| *is_good), "the tour fails with another version");
    Ok(())
}

/// A version to hold against the newest.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Commit {
    /// As it was named, or its tag.
    name: String,
    hash: String,
}

/// Those that are named, or the newest tags that this commit has behind it.
fn commits(args: &[String]) -> anyhow::Result<Vec<Commit>> {
    if let Some(option) = args.iter().find(|arg| arg.starts_with('-')) {
        bail!("versions takes commits and tags, not '{option}'");
    }
    let mut names = args.to_vec();
    if names.is_empty() {
        let tags = git(&["tag", "--merged", "HEAD~1", "--list", "v*", "--sort=-version:refname"])?;
        names = tags.lines().take(BEFORE).map(str::to_owned).collect();
    }
    ensure!(!names.is_empty(), "there is no tag v* before this commit: name the commits to hold against it");
    names.into_iter().map(|name| commit(&name)).collect()
}

fn commit(name: &str) -> anyhow::Result<Commit> {
    let hash = git(&["rev-parse", "--verify", "--quiet", &format!("{name}^{{commit}}")])
        .with_context(|| format!("'{name}' is not a commit or tag of this repository"))?;
    Ok(Commit { name: name.to_owned(), hash: hash.trim().to_owned() })
}

fn git(args: &[&str]) -> anyhow::Result<String> {
    workspace::output(Command::new("git").current_dir(workspace::root()).args(args))
}

/// The folder with the programs of a commit, which are built unless they were before. All versions share a target folder, as
/// most of what they are made of is the same.
fn programs_of(cache: &Path, hash: &str) -> anyhow::Result<PathBuf> {
    let programs = cache.join(hash);
    if PROGRAMS.iter().all(|name| programs.join(name).is_file()) {
        return Ok(programs);
    }
    let (tree, target) = (cache.join("tree"), cache.join("target"));
    // One that an interrupted run left.
    remove_tree(&tree)?;
    let path = tree.to_str().context("the path of the cache is not UTF-8")?;
    git(&["worktree", "add", "--quiet", "--detach", "--force", path, hash])?;
    let built = build_in(&tree, &target, &hash[..hash.len().min(12)]);
    remove_tree(&tree)?;
    built?;
    std::fs::create_dir_all(&programs).with_context(|| format!("cannot make {}", programs.display()))?;
    for name in PROGRAMS {
        let (from, to) = (target.join("debug").join(name), programs.join(name));
        std::fs::copy(&from, &to)
            .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    }
    Ok(programs)
}

fn build_in(tree: &Path, target: &Path, version: &str) -> anyhow::Result<()> {
    let mut command = build::command(&build::SHIPPED, &[]);
    command.current_dir(tree).env("CARGO_TARGET_DIR", target);
    build::with_progress(&format!("building version {version}"), command)
}

fn remove_tree(tree: &Path) -> anyhow::Result<()> {
    if tree.exists() {
        std::fs::remove_dir_all(tree).with_context(|| format!("cannot remove {}", tree.display()))?;
    }
    git(&["worktree", "prune"]).map(drop)
}

/// Fills a folder with links: the hub and its CLI from one folder, the agent from another.
fn pair(folder: &Path, hub: &Path, agent: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for name in PROGRAMS {
        let from = if name == "flotilla-agent" { agent } else { hub };
        let (program, link) = (from.join(name), folder.join(name));
        match std::fs::remove_file(&link) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", link.display()));
            }
            _ => {}
        }
        symlink(&program, &link).with_context(|| format!("cannot link {}", link.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str]) -> anyhow::Result<Vec<Commit>> {
        commits(&args.iter().map(|&arg| arg.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_no_commit_is_an_error_that_names_it() {
        for (args, said) in [
            (&["no-such-commit"][..], "'no-such-commit' is not a commit or tag of this repository"),
            (&["HEAD", "--fast"], "versions takes commits and tags, not '--fast'"),
        ] {
            assert_eq!(read(args).unwrap_err().to_string(), said);
        }
    }

    #[test]
    fn a_pair_is_the_hub_of_one_version_and_the_agent_of_another() {
        let folder = std::env::temp_dir().join(format!("flotilla-versions-{}", std::process::id()));
        let [old, new, pair_folder] = ["old", "new", "pair"].map(|name| folder.join(name));
        for (version, path) in [("old", &old), ("new", &new)] {
            std::fs::create_dir_all(path).unwrap();
            PROGRAMS.iter().for_each(|name| std::fs::write(path.join(name), version).unwrap());
        }
        for (hub, agent, said) in [(&old, &new, ["old", "new", "old"]), (&new, &old, ["new", "old", "new"])] {
            pair(&pair_folder, hub, agent).unwrap();
            let versions = PROGRAMS.map(|name| std::fs::read_to_string(pair_folder.join(name)).unwrap());
            assert_eq!(versions, said);
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
