//! `docs/flux.md` tells of every field of every Flux kind whether it works (and which test shows it), is refused, or is a
//! notice. What is said stands in `coverage.txt`, a line for a field and all below it; the list of fields comes from
//! Flux's CRDs in `../shared/flux-crds`. `UPDATE_GOLDEN=1` writes the page anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use flotilla_yaml::Node;

use crate::flux_repos::files;
use flotilla_leftout::shared;

const BEGIN: &str = "<!-- fields: made by render/tests/render/coverage.rs -->\n";
const END: &str = "<!-- end of fields -->\n";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What is said of a field: `works` with tests, `refused` or `notice` with words.
struct Said {
    how: String,
    words: String,
}

/// `KIND FIELD HOW WORDS`; the field `*` stands for the whole kind.
fn said() -> BTreeMap<(String, String), Said> {
    let text = include_str!("coverage.txt");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let mut parts = line.splitn(4, ' ');
            let mut next = || parts.next().unwrap_or_else(|| panic!("{line}")).to_owned();
            ((next(), next()), Said { how: next(), words: next() })
        })
        .collect()
}

/// The fields of a schema that have no fields of their own.
fn leaves(schema: &Node, path: &str, found: &mut Vec<String>) {
    let text = |key: &str| schema.get(key).and_then(Node::text).unwrap_or_default();
    let below = if text("type") == "array" { schema.get("items") } else { Some(schema) };
    let fields = below.and_then(|schema| schema.get("properties")).and_then(Node::as_map);
    let Some(fields) = fields else { return found.push(path.to_owned()) };
    for entry in fields.iter() {
        let name = entry.key.text().unwrap_or_default();
        let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        leaves(&entry.value, &path, found);
    }
}

/// Every kind with the fields of its newest version's spec.
fn kinds(crds: &BTreeMap<String, String>) -> BTreeMap<String, Vec<String>> {
    let mut kinds = BTreeMap::new();
    for (name, text) in crds.iter().filter(|(name, _)| name.ends_with(".yaml")) {
        let documents = flotilla_yaml::parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let spec = documents.iter().find_map(|document| document.get("spec")).unwrap();
        let kind = spec.at(&["names", "kind"]).and_then(Node::text).unwrap();
        let versions = spec.get("versions").and_then(Node::as_seq).unwrap();
        let stored = |version: &&Node| version.get("storage").and_then(Node::as_bool) == Some(true);
        let version = versions.iter().find(stored).unwrap();
        let schema = version.at(&["schema", "openAPIV3Schema", "properties", "spec"]).unwrap();
        let mut fields = Vec::new();
        leaves(schema, "", &mut fields);
        kinds.insert(kind.to_owned(), fields);
    }
    kinds
}

/// The line that speaks of a field: its own, or that of the nearest field above it.
fn entry<'a>(
    said: &'a BTreeMap<(String, String), Said>,
    kind: &str,
    field: &str,
) -> Option<(&'a str, &'a Said)> {
    let mut path = field;
    loop {
        if let Some(((_, path), said)) = said.get_key_value(&(kind.to_owned(), path.to_owned())) {
            return Some((path, said));
        }
        match path.rsplit_once('.') {
            Some((above, _)) => path = above,
            None if path == "*" => return None,
            None => path = "*",
        }
    }
}

/// The names of all tests in the sources.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for crate_folder in ["agent", "core", "kustomize", "render", "sigv4", "source", "hub", "tests"] {
        let all = ["src", "tests"].map(|folder| repository().join(crate_folder).join(folder));
        for folder in all.iter().filter(|folder| folder.is_dir()) {
            for (path, text) in files(folder).iter().filter(|(path, _)| path.ends_with(".rs")) {
                let mut is_test = false;
                for line in text.lines().map(str::trim) {
                    is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                    let name = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
                    if let (true, Some(name)) = (is_test, name.and_then(|name| name.split('(').next())) {
                        names.insert(name.to_owned());
                        is_test = false;
                    }
                }
                let _ = path;
            }
        }
    }
    names
}

fn table(kinds: &BTreeMap<String, Vec<String>>, said: &BTreeMap<(String, String), Said>) -> String {
    let mut text = String::new();
    let known = tests();
    let mut used = BTreeSet::new();
    for (kind, fields) in kinds {
        let mut rows: Vec<(&str, &Said, usize)> = Vec::new();
        for field in fields {
            let (path, what) = entry(said, kind, field)
                .unwrap_or_else(|| panic!("coverage.txt says nothing of {kind} spec.{field}"));
            used.insert((kind.clone(), path.to_owned()));
            match rows.iter_mut().find(|(row, _, _)| *row == path) {
                Some(row) => row.2 += 1,
                None => rows.push((path, what, 1)),
            }
        }
        writeln!(text, "### {kind}\n\n| field | | |\n|---|---|---|").unwrap();
        for (path, Said { how, words }, count) in rows {
            let words = match how.as_str() {
                "works" => {
                    let names: Vec<&str> = words.split(", ").collect();
                    names
                        .iter()
                        .for_each(|name| assert!(known.contains(*name), "{kind} {path}: no test {name}"));
                    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
                }
                "refused" | "notice" => words.clone(),
                other => panic!("{kind} {path}: '{other}' is none of works, refused, notice"),
            };
            let path = if path == "*" { "every field".to_owned() } else { format!("`{path}`") };
            let more = if count > 1 { format!(" ({count} fields)") } else { String::new() };
            writeln!(text, "| {path}{more} | {how} | {words} |").unwrap();
        }
        text.push('\n');
    }
    for key in said.keys() {
        assert!(used.contains(key), "coverage.txt speaks of {} {}, which no CRD has", key.0, key.1);
    }
    text
}

#[test]
fn the_page_tells_of_every_field() {
    let Some(crds) = shared("flux-crds") else { return };
    let table = table(&kinds(&files(&crds)), &said());
    let page = repository().join("docs/flux.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("a place for the fields");
    let (_, after) = rest.split_once(END).expect("an end of the fields");
    let wanted = format!("{before}{BEGIN}\n{table}{END}{after}");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&page, &wanted).unwrap();
    } else {
        assert!(text == wanted, "docs/flux.md is out of date; write it anew with UPDATE_GOLDEN=1");
    }
}

#[test]
fn what_is_refused_is_refused_in_these_words() {
    let folders = ["render/src", "hub/src", "source/src"].map(|folder| files(&repository().join(folder)));
    let texts: Vec<String> = folders
        .into_iter()
        .flat_map(BTreeMap::into_values)
        .map(|text| text.replace("\\\n", "").split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    for ((kind, field), Said { how, words }) in said() {
        let words = words.replace('`', "");
        if how == "refused" {
            assert!(texts.iter().any(|text| text.contains(&words)), "{kind} {field}: no message '{words}'");
        }
    }
}
