//! Every command that a message, a comment or the documentation shows is one that this program takes: what a hint names can be
//! typed as it stands.

use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap::error::ErrorKind;

use crate::args::Cli;

/// What begins like a command and is the first line of a file.
const NO_COMMANDS: [&str; 3] = ["flotilla desired 2", "flotilla KIND 1", "flotilla get {}"];
/// What is made from the commands themselves.
const GENERATED: [&str; 2] = ["hints.rs", "cli-reference.md"];

fn files(folder: &Path, wanted: &[&str], found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            files(&path, wanted, found);
        } else if path.extension().is_some_and(|end| wanted.iter().any(|wanted| end == *wanted)) {
            found.push(path);
        }
    }
}

/// The commands in a text: between backticks, and lines of their own.
fn commands(text: &str) -> Vec<String> {
    // A string of Rust's and a command of a shell that go on in the next line.
    let mut joined = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mut line = line.to_owned();
        while let Some(begin) = line.strip_suffix('\\') {
            line = begin.to_owned() + lines.next().unwrap_or_default().trim_start();
        }
        joined += &line;
        joined.push('\n');
    }
    let quoted = joined.match_indices("`flotilla ").filter_map(|(at, _)| joined[at + 1..].split_once('`'));
    let quoted = quoted.map(|(text, _)| text).filter(|text| !text.contains('\n'));
    let lines = joined.lines().map(|line| line.trim().trim_start_matches("$ "));
    let all = quoted.chain(lines).filter(|text| text.starts_with("flotilla "));
    all.map(str::to_owned).collect()
}

/// The words of a command, with values that fit in place of what stands for one; several where it names several ways.
fn words(command: &str) -> Vec<Vec<String>> {
    let mut all: Vec<Vec<String>> = vec![Vec::new()];
    let command = command.split(" # ").next().unwrap_or_default();
    let command = command.split("   #").next().unwrap_or_default();
    // Between quotes stands one word.
    let quoted = command.split('"').enumerate();
    let all_words = quoted.flat_map(|(at, text)| match at % 2 {
        0 => text.split_whitespace().collect(),
        _ => vec![text],
    });
    for word in all_words {
        if [">", "|", "&&"].contains(&word) {
            break;
        }
        // What a shell takes as it stands is no placeholder of ours.
        if let Some(literal) = word.strip_prefix('\'').and_then(|word| word.strip_suffix('\'')) {
            all.iter_mut().for_each(|line| line.push(literal.to_owned()));
            continue;
        }
        let word = word.trim_matches(['[', ']']);
        let word = word.replace("{origin}", "flux");
        let word = match (word.find('{'), word.rfind('}')) {
            (Some(begin), Some(end)) if begin < end => {
                format!("{}00112233{}", &word[..begin], &word[end + 1..])
            }
            _ => word,
        };
        let is_placeholder = word.len() > 1 && word.chars().all(|char| char.is_ascii_uppercase());
        let ways: Vec<String> = match word.as_str() {
            "…" | "..." => continue,
            "UNIT" => vec!["kustomization/flux-system/web".into()],
            "APPROVAL" => vec!["00112233".into()],
            "DIGEST" => vec!["00112233".repeat(8)],
            _ if is_placeholder => vec![word.to_lowercase()],
            _ => word.split('|').map(str::to_owned).collect(),
        };
        all = all
            .iter()
            .flat_map(|line| ways.iter().map(|way| line.iter().chain([way]).cloned().collect()))
            .collect();
    }
    all
}

/// Why a command is none, if so. What only names a command or a flag need not be whole.
fn wrong(words: &[String]) -> Option<String> {
    let error = Cli::command().try_get_matches_from(words).err()?;
    let names_a_flag = words.last().is_some_and(|last| last.starts_with("--"));
    match error.kind() {
        ErrorKind::MissingRequiredArgument
        | ErrorKind::MissingSubcommand
        | ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => None,
        ErrorKind::InvalidValue | ErrorKind::TooFewValues if names_a_flag => None,
        _ => Some(error.to_string()),
    }
}

#[test]
fn every_command_that_is_shown_can_be_typed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut all = Vec::new();
    files(root, &["rs", "md", "yaml", "service", "sh"], &mut all);
    let (mut bad, mut seen) = (Vec::new(), 0);
    for path in all.iter().filter(|path| !GENERATED.iter().any(|name| path.ends_with(name))) {
        let Ok(text) = std::fs::read_to_string(path) else { continue };
        for command in commands(&text).iter().filter(|command| !NO_COMMANDS.contains(&command.as_str())) {
            seen += 1;
            let wrong = words(command).iter().find_map(|words| wrong(words));
            bad.extend(wrong.map(|why| format!("{}: `{command}`: {why}", path.display())));
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
    assert!(seen > 150, "only {seen} commands were found");
}

#[test]
fn a_command_that_is_none_is_found() {
    for (text, expected) in [
        ("see `flotilla get clusters`", true),
        ("see `flotilla status {name}`", true),
        ("`flotilla approve`", true),
        ("`flotilla check --repo`", true),
        ("\"see `flotilla \\\n    get clusters`\"", true),
        ("`flotilla reconcile source|kustomization|helmrelease`", true),
        ("`flotilla get cluster-list`", false),
        ("`flotilla statsu {name}`", false),
        ("`flotilla check --local-source DIR`", false),
        ("flotilla cluster delete NAME --prune --confirm NAME --now", false),
    ] {
        let found = commands(text);
        assert_eq!(found.len(), 1, "{text}");
        let wrong = words(&found[0]).iter().find_map(|words| wrong(words));
        assert_eq!(wrong.is_none(), expected, "{text}: {wrong:?}");
    }
}
