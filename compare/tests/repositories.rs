//! Every kustomization of the fleet repositories that there are, against the real command, byte for byte.

use std::fs;
use std::path::{Path, PathBuf};

use flotilla_compare::ours;
use flotilla_compare::real::{Real, real_or_skip};
use flotilla_compare::tree::Tree;
use flotilla_compare::verdict::{Verdict, first_difference};
use flotilla_kustomize::Options;

/// The folders below `folder` that hold a kustomization, relative to it.
fn kustomizations(folder: &Path) -> Vec<String> {
    const NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        if NAMES.iter().any(|name| at.join(name).is_file()) {
            let path = at.strip_prefix(folder).expect("below it");
            found.push(path.to_str().expect("UTF-8").to_owned());
        }
        let entries = fs::read_dir(&at).unwrap_or_else(|error| panic!("{}: {error}", at.display()));
        folders.extend(entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir()));
    }
    found.sort();
    found
}

/// Builds every kustomization of a repository with both and returns how many built.
fn check(real: &Real, repository: &Path) -> usize {
    let (mut built, mut wrong) = (0, Vec::new());
    for path in kustomizations(repository) {
        let tree = Tree::read(repository, &path).expect("the repository can be read");
        let folder = repository.join(&path);
        let theirs = real.run_command(&[&folder.to_string_lossy()]).expect("kustomize runs");
        let ours = ours::outcome(&tree, &Options::default());
        match Verdict::of(&ours, &theirs) {
            Verdict::Same => built += 1,
            Verdict::BothFail => println!("{path} fails in both: {}", first_difference(&ours, &theirs)),
            verdict => wrong.push(format!("{path} {}: {}", verdict.name(), first_difference(&ours, &theirs))),
        }
    }
    println!("{}: {built} the same", repository.display());
    assert!(wrong.is_empty(), "{}:\n{}", repository.display(), wrong.join("\n"));
    built
}

#[test]
fn the_example_fleet_builds_the_same() {
    let Some(real) = real_or_skip() else { return };
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fleet-example");
    let all = kustomizations(&example).len();
    assert!(all > 0, "no kustomizations in {}", example.display());
    assert_eq!(check(&real, &example), all, "each of our own builds");
}

/// They stand outside the repository (`FLOTILLA_SHARED`, or `shared` beside the clone).
#[test]
fn fleets_of_others_build_the_same() {
    let Some(real) = real_or_skip() else { return };
    let Some(folder) = flotilla_leftout::shared("fleet-repos") else { return };
    let entries = fs::read_dir(&folder).expect("the folder can be listed");
    let mut repositories: Vec<PathBuf> =
        entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir()).collect();
    repositories.sort();
    let built: usize = repositories.iter().map(|repository| check(&real, repository)).sum();
    assert!(built > 0, "nothing built in {}", folder.display());
}
