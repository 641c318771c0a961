//! Rules on files: length, purity of sources, forgotten tests, notes to oneself, links.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::graph::PURE;
use super::{Findings, code, modules, names};

/// Lines of a source file from which it is worth splitting, and from which it must be.
const LONG: usize = 400;
const TOO_LONG: usize = 800;

/// Folders that hold what is not ours to tidy: build output, other people's input, expected output.
const SKIPPED: [&str; 6] = ["target", "fixtures", "testdata", "golden", "node_modules", "cases"];

/// Where the code is that users run.
const SHIPPED: [&str; 14] = [
    "agent/src/",
    "api/src/",
    "cli/src/",
    "core/src/",
    "helm/src/",
    "hub/src/",
    "kustomize/src/",
    "proto/src/",
    "render/src/",
    "rollout/src/",
    "runtime/src/",
    "sigv4/src/",
    "sops/src/",
    "source/src/",
];

/// Words that say that something is not done. In two pieces, so that this file holds none.
const UNFINISHED: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];
/// Macros that do, or leave something behind.
const UNFINISHED_MACROS: [&str; 3] =
    [concat!("todo", "!("), concat!("dbg", "!("), concat!("unimplemented", "!(")];

/// A file of the workspace.
pub(super) struct File {
    /// From the root, `/`-separated.
    pub(super) name: String,
    pub(super) text: String,
}

pub(super) fn check(root: &Path, findings: &mut Findings) -> anyhow::Result<()> {
    let files = read(root)?;
    let skipped = test_only(&files);
    let is_shipped = |file: &&File| {
        let of_ours = SHIPPED.iter().any(|folder| file.name.starts_with(folder));
        of_ours && file.name.ends_with(".rs") && !skipped.contains(&file.name)
    };
    let shipped: Vec<&File> = files.iter().filter(is_shipped).collect();
    modules::check(&shipped, findings);
    for file in &files {
        unfinished(file, findings);
        if file.name.ends_with(".rs") {
            length(file, findings);
            if !skipped.contains(&file.name) {
                purity(file, findings);
                absence(file, findings);
            }
            forgotten(file, findings);
        }
        if file.name.ends_with(".md") {
            links(file, &|path| root.join(path).exists(), findings);
        }
        if file.name.ends_with("/Cargo.toml") && !lints(&file.text) {
            findings
                .errors
                .push(format!("{}: takes no workspace lints (`[lints] workspace = true`)", file.name));
        }
        if file.name.ends_with("Cargo.toml") && aborts(&file.text) {
            findings.errors.push(format!(
                "{}: panics abort; one input that makes the hub panic must cost its unit and not the process",
                file.name
            ));
        }
        if file.name == "docs/security.md" {
            for test in tests_named(&file.text) {
                let definition = format!("fn {test}(");
                if !files.iter().any(|other| other.name.ends_with(".rs") && other.text.contains(&definition))
                {
                    findings.errors.push(format!("{}: there is no test {test}", file.name));
                }
            }
        }
        if names::is_document(&file.name) {
            names::check(&shipped, file, findings);
        }
        if file.name == "ARCHITECTURE.md" {
            names::glossary(&shipped, file, findings);
        }
    }
    Ok(())
}

/// The files that rules look at, sorted by name.
fn read(root: &Path) -> anyhow::Result<Vec<File>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries =
            std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type().with_context(|| format!("cannot look at {}", path.display()))?;
            if kind.is_dir() && !name.starts_with('.') && !SKIPPED.contains(&name.as_str()) {
                folders.push(path);
            } else if kind.is_file()
                && [".rs", ".md", ".toml", ".proto", ".go"].iter().any(|end| name.ends_with(end))
            {
                match std::fs::read_to_string(&path) {
                    Ok(text) => files.push(File { name: shown(root, &path), text }),
                    // Others may be at work: what was listed may be gone.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => {
                        return Err(error).with_context(|| format!("cannot read {}", path.display()));
                    }
                }
            }
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

fn shown(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/")
}

fn length(file: &File, findings: &mut Findings) {
    let lines = file.text.lines().count();
    let say = |limit: usize| format!("{}: {lines} lines, more than {limit}", file.name);
    if lines > TOO_LONG {
        findings.errors.push(say(TOO_LONG));
    } else if lines > LONG {
        findings.warnings.push(say(LONG));
    }
}

/// The one module of a pure crate that runs a program.
const HELM: &str = "render/src/helm/program/";

/// Whether a file belongs to what a pure crate ships.
fn is_pure(name: &str) -> bool {
    if name.starts_with(HELM) {
        return false;
    }
    let mut parts = name.split('/');
    parts.next().is_some_and(|folder| PURE.contains(&folder)) && parts.next() == Some("src")
}

fn purity(file: &File, findings: &mut Findings) {
    if !is_pure(&file.name) {
        return;
    }
    let (shipped, _) = code::shipped(&code::blank(&file.text));
    for (line, name) in code::ambient(&shipped) {
        let why = "this crate is pure, take it as an argument";
        findings.errors.push(format!("{}:{line}: uses {name}; {why}", file.name));
    }
}

/// Folders of programs that keep something on a disk.
const KEEP: [&str; 4] = ["hub/src/", "agent/src/", "runtime/src/", "source/src/"];

/// To `Path::exists` a disk that fails has no files, and what is not there is made anew or left out.
fn absence(file: &File, findings: &mut Findings) {
    if !KEEP.iter().any(|folder| file.name.starts_with(folder)) || file.name.ends_with("_tests.rs") {
        return;
    }
    let (shipped, _) = code::shipped(&code::blank(&file.text));
    for (line, text) in shipped.lines().enumerate().filter(|(_, text)| text.contains(".exists()")) {
        let why = "what cannot be looked at is not absent, so ask `files::is_there` or `try_exists`";
        findings.errors.push(format!("{}:{}: {}: {why}", file.name, line + 1, text.trim()));
    }
}

/// The files that are modules under `#[cfg(test)]`, with what is below them; those that such a module names by `path`
/// end in `_tests.rs`.
fn test_only(files: &[File]) -> BTreeSet<String> {
    let mut roots = Vec::new();
    for file in files.iter().filter(|file| file.name.ends_with(".rs")) {
        let path = Path::new(&file.name);
        let stem = path.file_stem().unwrap_or_default();
        let folder = path.parent().unwrap_or(Path::new(""));
        let owns = ["lib", "main", "mod"].iter().any(|name| stem == *name);
        let folder: PathBuf = if owns { folder.to_owned() } else { folder.join(stem) };
        let (_, modules) = code::shipped(&code::blank(&file.text));
        roots.extend(modules.iter().map(|module| folder.join(module).to_string_lossy().into_owned()));
    }
    let below = |name: &str| {
        roots.iter().any(|root| {
            name.strip_prefix(root.as_str()).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        })
    };
    let is_test = |name: &String| below(name) || name.ends_with("_tests.rs");
    files.iter().map(|file| file.name.clone()).filter(is_test).collect()
}

/// A file of scenarios that cargo would build and run for nothing.
fn forgotten(file: &File, findings: &mut Findings) {
    let Some((folder, name)) = file.name.rsplit_once('/') else { return };
    if folder.ends_with("/tests") && !name.is_empty() && !code::has_test(&code::blank(&file.text)) {
        findings
            .errors
            .push(format!("{}: holds no test; a helper belongs into a folder or the library", file.name));
    }
}

fn unfinished(file: &File, findings: &mut Findings) {
    let mut say = |at: usize, what: &str| {
        let line = code::line_of(&file.text, at);
        findings.errors.push(format!("{}:{line}: {what}: finish it, or make it an issue", file.name));
    };
    for word in UNFINISHED {
        for (at, _) in file.text.match_indices(word) {
            let letter = |c: char| c.is_alphanumeric() || c == '_';
            let inside = file.text[..at].chars().next_back().is_some_and(letter)
                || file.text[at + word.len()..].chars().next().is_some_and(letter);
            if !inside {
                say(at, word);
            }
        }
    }
    if file.name.ends_with(".rs") {
        let blanked = code::blank(&file.text);
        for name in UNFINISHED_MACROS {
            blanked.match_indices(name).for_each(|(at, _)| say(at, name));
        }
    }
}

/// Whether a crate's manifest takes the workspace's lints.
fn lints(manifest: &str) -> bool {
    !manifest.contains("[package]")
        || manifest
            .split("\n[")
            .any(|table| table.starts_with("lints]") && table.contains("workspace = true"))
}

/// Whether a profile of a manifest makes panics end the process.
fn aborts(manifest: &str) -> bool {
    let settings = manifest.lines().filter_map(|line| line.split_once('='));
    let mut panics = settings.filter(|(name, _)| name.trim() == "panic");
    panics.any(|(_, value)| value.trim().trim_matches('"') == "abort")
}

/// What a page names that can only be a test: `a_sentence_in_code`.
fn tests_named(page: &str) -> impl Iterator<Item = &str> {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    page.split('`')
        .skip(1)
        .step_by(2)
        .filter(move |text| text.matches('_').count() > 2 && text.chars().all(is_word))
}

/// Relative links of a Markdown file that lead nowhere. `exists` takes a path from the root.
fn links(file: &File, exists: &dyn Fn(&Path) -> bool, findings: &mut Findings) {
    let folder = Path::new(&file.name).parent().unwrap_or(Path::new(""));
    let mut fenced = false;
    for (number, line) in file.text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced || line.starts_with("    ") {
            continue;
        }
        for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split(['#', ' ']).next().unwrap_or_default();
            if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
                continue;
            }
            if !exists(&folder.join(path)) {
                findings.errors.push(format!(
                    "{}:{}: the link to {target} leads nowhere",
                    file.name,
                    number + 1
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: impl Into<String>) -> File {
        File { name: name.to_owned(), text: text.into() }
    }

    /// The errors and warnings that one rule has about one file.
    fn found(rule: impl Fn(&File, &mut Findings), file: &File) -> (usize, usize) {
        let mut findings = Findings::default();
        rule(file, &mut findings);
        (findings.errors.len(), findings.warnings.len())
    }

    #[test]
    fn long_files_warn_and_longer_ones_fail() {
        for (lines, expected) in [(400, (0, 0)), (401, (0, 1)), (800, (0, 1)), (801, (1, 0))] {
            assert_eq!(found(length, &file("hub/src/a.rs", "x\n".repeat(lines))), expected, "{lines}");
        }
    }

    #[test]
    fn only_what_pure_crates_ship_must_be_pure() {
        for (name, errors) in [
            ("core/src/plan.rs", 1),
            ("render/src/cache.rs", 1),
            ("core/tests/plan.rs", 0),
            ("core/build.rs", 0),
            ("hub/src/store.rs", 0),
        ] {
            assert_eq!(found(purity, &file(name, "use std::fs;")), (errors, 0), "{name}");
        }
    }

    #[test]
    fn nobody_takes_a_failing_disk_for_an_empty_one() {
        for (name, text, errors) in [
            ("hub/src/store/disk.rs", "if !file.exists() {}", 1),
            ("hub/src/store/disk.rs", "if !file.try_exists()? {}", 0),
            ("hub/src/store/disk.rs", "#[cfg(test)]\nmod tests { fn a() { path.exists(); } }", 0),
            ("hub/src/store/disk_tests.rs", "path.exists()", 0),
            ("xtask/src/dist.rs", "path.exists()", 0),
        ] {
            assert_eq!(found(absence, &file(name, text)), (errors, 0), "{name} {text}");
        }
    }

    #[test]
    fn modules_for_tests_are_known_with_what_is_below_them() {
        let files = [
            file("core/src/lib.rs", "mod plan;\n#[cfg(test)]\nmod cases_of_all;"),
            file("core/src/cases_of_all.rs", ""),
            file("core/src/cases_of_all/more.rs", ""),
            file("core/src/plan.rs", "#[cfg(test)]\nmod tests;"),
            file("core/src/plan/tests.rs", ""),
            file("core/src/tests.rs", ""),
        ];
        let skipped: Vec<String> = test_only(&files).into_iter().collect();
        assert_eq!(
            skipped,
            ["core/src/cases_of_all.rs", "core/src/cases_of_all/more.rs", "core/src/plan/tests.rs"]
        );
    }

    #[test]
    fn scenario_files_hold_tests() {
        for (name, text, errors) in [
            ("tests/tests/prune.rs", "#[tokio::test]\nasync fn prunes() {}", 0),
            ("tests/tests/prune.rs", "async fn prunes() {}", 1),
            ("core/tests/plan.rs", "fn helper() {}", 1),
            ("tests/tests/common/mod.rs", "fn helper() {}", 0),
            ("tests/src/wait.rs", "fn helper() {}", 0),
        ] {
            assert_eq!(found(forgotten, &file(name, text)), (errors, 0), "{name} {text}");
        }
    }

    #[test]
    fn unfinished_work_is_found() {
        let [word, other] = UNFINISHED;
        for (name, text, errors) in [
            ("docs/a.md", format!("{word}: later"), 1),
            ("hub/src/a.rs", format!("// {other} later"), 1),
            ("hub/src/a.rs", format!("{}x)", UNFINISHED_MACROS[1]), 1),
            ("hub/src/a.rs", format!("// {}x)", UNFINISHED_MACROS[1]), 0),
            ("hub/src/a.rs", format!("let {word}S = 1;"), 0),
        ] {
            assert_eq!(found(unfinished, &file(name, text.clone())), (errors, 0), "{name} {text}");
        }
    }

    #[test]
    fn manifests_take_the_lints() {
        for (manifest, expected) in [
            ("[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n", true),
            ("[package]\nname = \"a\"\nversion.workspace = true\n", false),
            ("[package]\nname = \"a\"\n\n[lints]\n\n[dependencies]\na = { workspace = true }\n", false),
            ("[workspace]\nmembers = []\n", true),
        ] {
            assert_eq!(lints(manifest), expected, "{manifest}");
        }
    }

    #[test]
    fn panics_that_abort_are_found() {
        for (manifest, expected) in [
            ("[profile.dist]\nlto = \"fat\"\n", false),
            ("[profile.dist]\npanic = \"abort\"\n", true),
            ("[profile.dist]\npanic=\"abort\"\n", true),
            ("[profile.dist]\npanic = \"unwind\"\n", false),
        ] {
            assert_eq!(aborts(manifest), expected, "{manifest}");
        }
    }

    #[test]
    fn tests_are_known_by_their_names() {
        let page = "| `what_is_so_is_said`, `also_a_name` | `spec.path`, `a b_c_d_e`, \n`x_y_z_0`";
        assert_eq!(tests_named(page).collect::<Vec<_>>(), ["what_is_so_is_said", "x_y_z_0"]);
    }

    #[test]
    fn links_lead_somewhere() {
        let there =
            |path: &Path| ["docs/a.md", "docs/../README.md"].iter().any(|known| path == Path::new(known));
        for (text, errors) in [
            ("[a](a.md) [a](a.md#part) [readme](../README.md)", 0),
            ("[b](b.md) and [c](https://example.com/c.md) and [d](#d)", 1),
            ("```\n[b](b.md)\n```", 0),
            ("    [b](b.md)", 0),
        ] {
            let found = found(|file, findings| links(file, &there, findings), &file("docs/x.md", text));
            assert_eq!(found, (errors, 0), "{text}");
        }
    }
}
