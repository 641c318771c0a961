//! The cases of kustomize's own test-suite, each a folder of input and what has to come out.
//!
//! They stand outside the repository (`FLOTILLA_SHARED`, or `shared` beside the clone). `not-yet.txt` names those
//! that do not pass by text, each with a reason; the test fails when that list is out of date in either direction.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use flotilla_kustomize::files::{MemoryFiles, TreePath};
use flotilla_kustomize::{BuildError, LoadRestrictor, Options, Reorder, build};
use serde_json::Value;

/// How a case went.
#[derive(Debug, Clone, PartialEq)]
enum Outcome {
    Text,
    Documents,
    Failed(String),
}

fn read_tree(folder: &Path, at: &str, files: &mut Vec<(String, Vec<u8>)>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let entry = entry.expect("a folder's entry");
        let name = format!("{at}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            read_tree(&entry.path(), &format!("{name}/"), files);
        } else {
            files.push((name, fs::read(entry.path()).expect("a file of the case")));
        }
    }
}

fn run(case: &Path) -> Outcome {
    let meta: Value =
        serde_json::from_slice(&fs::read(case.join("meta.json")).expect("meta.json")).expect("JSON");
    let mut files = Vec::new();
    read_tree(&case.join("input"), "", &mut files);
    let tree = MemoryFiles::new(files);
    let target = fs::read_to_string(case.join("target")).expect("target");
    let target = TreePath::from_root(target.trim()).expect("a path");
    let set = |option: &str| meta["options"][option].as_str() == Some("none");
    let options = Options {
        load_restrictor: if set("load_restrictor") { LoadRestrictor::None } else { LoadRestrictor::RootOnly },
        reorder: if set("reorder") { Reorder::None } else { Reorder::Legacy },
        add_managed_by: meta["options"]["add_managedby_label"].as_bool() == Some(true),
        ..Options::default()
    };
    let result = build(&tree, &target, &options);
    if meta["outcome"] == "error" {
        return match result {
            Ok(_) => Outcome::Failed("built, where an error is expected".into()),
            Err(error) => check_error(&meta, &error),
        };
    }
    let output = match result {
        Ok(output) => output,
        Err(error) => return Outcome::Failed(error.to_string()),
    };
    let text = match output.to_yaml() {
        Ok(text) => text,
        Err(error) => return Outcome::Failed(error.to_string()),
    };
    let expected = fs::read_to_string(case.join("expected.yaml")).expect("expected.yaml");
    let (text, expected) = (without_version(&text), without_version(&expected));
    if text == expected {
        return Outcome::Text;
    }
    if documents(&text) == documents(&expected) {
        return if meta["compare"] == "yaml" { Outcome::Text } else { Outcome::Documents };
    }
    let shown =
        std::env::var_os("CASE").map(|_| format!(", got\n{text}\nexpected\n{expected}")).unwrap_or_default();
    Outcome::Failed(format!("other documents{shown}"))
}

/// The version in the label of the builder is nobody's business.
fn without_version(text: &str) -> String {
    let mark = "app.kubernetes.io/managed-by: kustomize-";
    text.lines()
        .map(|l| l.split_once(mark).map_or(l.to_owned(), |(indent, _)| format!("{indent}{mark}")) + "\n")
        .collect()
}

fn documents(text: &str) -> Vec<Value> {
    let nodes = flotilla_yaml::parse(text).expect("YAML");
    nodes.iter().map(|n| n.to_json_as(flotilla_yaml::Schema::Kustomize).expect("JSON")).collect()
}

fn check_error(meta: &Value, error: &BuildError) -> Outcome {
    let shown = error.to_string();
    let message = match error {
        BuildError::Failed(error) => error.message.clone(),
        BuildError::Needs(_) => shown.clone(),
    };
    for check in meta["error"].as_array().into_iter().flatten() {
        // Paths are relative to the tree here; its root is `.`.
        let here = |text: &str| text.replace("${ROOT}/", "").replace("${ROOT}", ".");
        let text = check["text"].as_str().map(here).unwrap_or_default();
        let holds = match check["how"].as_str() {
            Some("exact") => message.trim_end() == text.trim_end(),
            Some("regex") => regex::Regex::new(&text).expect("a regex").is_match(&shown),
            Some("not_substring") => !shown.contains(&text),
            Some("any_of") => {
                let texts = check["texts"].as_array().into_iter().flatten();
                texts.filter_map(Value::as_str).any(|t| shown.contains(&here(t)))
            }
            _ => shown.contains(&text),
        };
        if !holds {
            return Outcome::Failed(format!("another error: {shown}\n        expected: {text}"));
        }
    }
    Outcome::Text
}

/// `name: reason` lines.
fn not_yet() -> BTreeMap<String, String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/not-yet.txt"))
        .unwrap_or_default();
    let lines = text.lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#'));
    lines
        .map(|l| {
            let (name, reason) =
                l.split_once(": ").unwrap_or_else(|| panic!("not-yet.txt: '{l}' has no reason"));
            (name.to_owned(), reason.to_owned())
        })
        .collect()
}

#[test]
fn kustomizes_own_cases() {
    let Some(folder) = flotilla_leftout::shared("kustomize-cases") else { return };
    let mut names: Vec<PathBuf> =
        fs::read_dir(&folder).expect("cases").map(|e| e.expect("entry").path()).collect();
    names.retain(|p| p.join("meta.json").is_file());
    names.sort();
    let only = std::env::var("CASE").unwrap_or_default();
    let known = not_yet();
    let (mut text, mut by_documents, mut failed) = (0, 0, 0);
    let mut wrong = Vec::new();
    for case in names.iter().filter(|p| p.to_string_lossy().contains(&only)) {
        let name = case.file_name().expect("a name").to_string_lossy().into_owned();
        let outcome =
            std::panic::catch_unwind(|| run(case)).unwrap_or_else(|_| Outcome::Failed("panicked".into()));
        match &outcome {
            Outcome::Text => text += 1,
            Outcome::Documents => by_documents += 1,
            Outcome::Failed(_) => failed += 1,
        }
        match (&outcome, known.contains_key(&name)) {
            (Outcome::Text, true) => wrong.push(format!("{name} passes: take it out of not-yet.txt")),
            (Outcome::Text, false) | (_, true) => {}
            (Outcome::Documents, false) => wrong.push(format!("{name}: the same documents in another text")),
            (Outcome::Failed(why), false) => wrong.push(format!("{name}: {why}")),
        }
    }
    let unknown = known.keys().filter(|n| !names.iter().any(|p| p.ends_with(n)));
    wrong.extend(unknown.map(|n| format!("{n} is in not-yet.txt and no case")));
    println!(
        "by text {text}, by documents only {by_documents}, failed {failed}, of {}",
        text + by_documents + failed
    );
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}
