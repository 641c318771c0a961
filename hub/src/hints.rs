//! Every flag that a message, a help text or the documentation names is one of a program of ours, or of one that is named here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory as _};

use crate::args::Cli;

/// Other programs with the flags of theirs that are named.
const FOREIGN: &[(&str, &[&str])] = &[
    ("flux", &["--keep-namespace", "--kustomization-file", "--reset", "--status-selector", "--types"]),
    ("Flux's controllers", &["--default-service-account", "--no-cross-namespace-refs", "--no-remote-bases"]),
    (
        "git",
        &[
            "--abbrev-ref",
            "--cacheinfo",
            "--file",
            "--line-porcelain",
            "--literal-pathspecs",
            "--porcelain",
            "--quiet",
            "--show-prefix",
            "--stdin",
            "--unshallow",
        ],
    ),
    (
        "helm",
        &[
            "--api-versions",
            "--debug",
            "--devel",
            "--generate-name",
            "--include-crds",
            "--kube-context",
            "--kube-version",
            "--name-template",
            "--no-hooks",
            "--set",
            "--skip-crds",
            "--skip-schema-validation",
            "--skip-tests",
            "--template",
            "--untar",
            "--untardir",
        ],
    ),
    ("sops", &["--encrypted-regex"]),
    ("systemctl", &["--now"]),
    ("any", &["--flag"]),
];

fn flags_of(command: &Command, known: &mut BTreeSet<String>) {
    known.extend(command.get_arguments().filter_map(|arg| Some(format!("--{}", arg.get_long()?))));
    command.get_subcommands().for_each(|command| flags_of(command, known));
}

/// The flags in a text.
fn flags(text: &str) -> BTreeSet<String> {
    let is_flag = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let begins = text.match_indices("--").filter(|(at, _)| {
        let before = text[..*at].chars().next_back();
        before.is_none_or(|c| c.is_whitespace() || "`'\"([/|".contains(c))
    });
    let found = begins.map(|(at, _)| {
        let rest = &text[at..];
        rest[..rest.find(|c| !is_flag(c)).unwrap_or(rest.len())].trim_end_matches('-').to_owned()
    });
    found.filter(|flag| flag.len() > 3).collect()
}

/// What people are shown of a file of Rust: its strings and the help of its arguments, without its tests.
fn shown(text: &str) -> String {
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    let is_comment =
        |line: &&str| line.trim_start().starts_with("//") && !line.trim_start().starts_with("/// ");
    text.lines().filter(|line| !is_comment(line)).collect::<Vec<_>>().join("\n")
}

fn files(folder: &Path, end: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, end, found);
        } else if path.extension().is_some_and(|other| other == end) {
            found.push(path);
        }
    }
}

#[test]
fn every_flag_that_is_named_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut known = BTreeSet::new();
    flags_of(&Cli::command(), &mut known);
    // The other programs' are where people read them: the generated reference, and the agent's own arguments.
    let reference = std::fs::read_to_string(root.join("docs/cli-reference.md")).unwrap();
    known.extend(flags(&reference));
    let agent = std::fs::read_to_string(root.join("agent/src/run.rs")).unwrap();
    let (_, arguments) = agent.split_once("pub struct RunArgs {").unwrap();
    let fields =
        arguments.split('}').next().unwrap().lines().filter_map(|line| line.trim().strip_prefix("pub "));
    known.extend(fields.map(|field| format!("--{}", field.split(':').next().unwrap().replace('_', "-"))));
    known.extend(["--help", "--version"].map(str::to_owned));

    let mut all = Vec::new();
    for room in ["agent", "cli", "core", "hub", "kustomize", "render", "runtime", "source"] {
        files(&root.join(room).join("src"), "rs", &mut all);
    }
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for path in &all {
        if path.file_name().is_some_and(|name| name.to_string_lossy().contains("tests") || name == "hints.rs")
        {
            continue;
        }
        for flag in flags(&shown(&std::fs::read_to_string(path).unwrap())) {
            seen += 1;
            let is_foreign = FOREIGN.iter().any(|(_, foreign)| foreign.contains(&flag.as_str()));
            if !known.contains(&flag) && !is_foreign {
                wrong.push(format!("{}: {flag}", path.strip_prefix(root).unwrap().display()));
            }
        }
    }
    assert!(wrong.is_empty(), "no program of ours has:\n{}", wrong.join("\n"));
    assert!(seen > 50, "only {seen} flags were found");
}

#[test]
fn flags_are_found_in_texts() {
    let text = "use `--one`, --two=X or '--three-4' (--five); not a--b, --- or -- alone; --six-";
    let found: Vec<String> = flags(text).into_iter().collect();
    assert_eq!(found, ["--five", "--one", "--six", "--three-4", "--two"]);
    assert_eq!(shown("// --a\n/// --b\nlet x = \"--c\";\n#[cfg(test)]\n--d"), "/// --b\nlet x = \"--c\";");
}
