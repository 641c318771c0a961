//! `flotilla blame`

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use flotilla_core::ClusterName;
use flotilla_kustomize::{BuildError, Output};
use flotilla_render::source::fleet_source;
use flotilla_render::{Definition, origins};
use flotilla_yaml::Node;
use serde::Serialize;

use super::kustomize::leaves;
use super::promote::git;
use crate::Context;
use crate::args::{Format, OutputArgs};
use crate::error::Error;
use crate::exit::Code;
use crate::offline::{ClustersArgs, KUBERNETES, Repo, Trace, rendered};
use crate::output::{Cell, Table, date};

/// Say who set the fields of an object: file, line, commit and author
///
/// Renders a cluster from a folder, without a hub, and asks git who last changed the line that each field comes from: a base, an overlay, a
/// patch or the kustomization that names an image. A value is shown as it was written, before variables are put in. Of what
/// Helm renders, or what comes from another source or a remote base, the line is known that defines it in the fleet repo.
#[derive(Debug, Args)]
pub(crate) struct BlameArgs {
    /// Name of the cluster
    cluster: ClusterName,
    /// KIND/NAME; a kind may have its group, like deployment.apps
    #[arg(value_name = "KIND/NAME")]
    object: String,
    /// Only this field and what is below it, like spec.replicas or /spec/replicas
    field: Option<String>,
    /// Only in this namespace
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Folder with the fleet repo, in a Git work tree
    #[arg(long, value_name = "DIR", default_value = ".")]
    repo: PathBuf,
    #[command(flatten)]
    clusters: ClustersArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// One field, with who set it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Field {
    /// As a JSON pointer; empty for the whole object, where no more is known.
    path: String,
    value: String,
    file: String,
    line: u32,
    #[serde(flatten)]
    by: Option<Author>,
}

/// The last change of a line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Author {
    /// Empty: it is not committed.
    commit: String,
    author: String,
    at: i64,
    summary: String,
}

#[derive(Serialize)]
struct Shown {
    cluster: String,
    object: String,
    unit: String,
    fields: Vec<Field>,
    /// Why not more is known; empty otherwise.
    note: String,
}

pub(crate) fn run(context: &Context, args: &BlameArgs) -> Result<Code, Error> {
    let repo = Repo::open(&args.repo, &args.clusters)?;
    let Some(definition) = repo.fleet.clusters.get(&args.cluster) else {
        // It says what is wrong.
        repo.render(&args.cluster)?;
        let message = format!("the definition of cluster {} cannot be read", args.cluster);
        return Err(Error::new(Code::Input, message).hint("`flotilla check --repo .` says why"));
    };
    let (render, _) = repo.render_as(definition, KUBERNETES)?;
    let trace = find(&rendered(&render).traces, args)?;
    let unit = render.units.iter().find(|(id, _)| id.to_string() == trace.unit).map(|(_, unit)| unit);
    let (mut fields, mut note) = (Vec::new(), String::new());
    match unit.map(|unit| &unit.definition) {
        Some(definition) if definition.source != fleet_source() => {
            note =
                format!("its content is of {}: only where the unit is defined is known", definition.source);
        }
        Some(definition) if definition.release.is_some() => {
            note = "helm renders it: only where the release is defined is known".to_owned();
        }
        Some(definition) => match origins(repo.files(), definition) {
            Ok(output) => fields = of_object(&output, &trace, definition),
            Err(BuildError::Needs(_)) => {
                note = "the build needs remote bases: only where the object stands is known".to_owned();
            }
            Err(BuildError::Failed(error)) => {
                return Err(Error::new(Code::Input, format!("cannot build {}", trace.unit)).because(error));
            }
        },
        None => {}
    }
    if fields.is_empty() {
        if note.is_empty() {
            note = "its name is made after the build: only where the object stands is known".to_owned();
        }
        let is_ours = unit.is_some_and(|unit| {
            unit.definition.source == fleet_source() && unit.definition.release.is_none()
        });
        let at = if is_ours { &trace.file } else { &trace.unit_defined_at };
        let (file, line) = at.rsplit_once(':').unwrap_or((at, ""));
        fields.push(Field { file: file.to_owned(), line: line.parse().unwrap_or(0), ..Field::default() });
    } else if let Some(wanted) = &args.field {
        let wanted = pointer(wanted);
        fields.retain(|field| field.path == wanted || field.path.starts_with(&format!("{wanted}/")));
        if fields.is_empty() {
            let error = Error::new(Code::NotFound, format!("{} has no field {wanted}", trace.object()));
            return Err(error.hint("without FIELD all of them are listed"));
        }
    }
    blame(&args.repo, &mut fields)?;
    let shown = Shown {
        cluster: args.cluster.to_string(),
        object: trace.object(),
        unit: trace.unit.clone(),
        fields,
        note,
    };
    context
        .terminal
        .show(args.output.output, &shown, |wide| table(&shown.fields, wide, context.terminal.color))?;
    if !shown.note.is_empty() && matches!(args.output.output, Format::Table | Format::Wide) {
        context.terminal.note(&shown.note);
    }
    Ok(Code::Done)
}

/// The one object that is meant.
fn find(traces: &[Trace], args: &BlameArgs) -> Result<Trace, Error> {
    let named = args.object.split_once('/').filter(|(kind, name)| !kind.is_empty() && !name.is_empty());
    let Some((kind, name)) = named else {
        return Err(Error::usage(format!("'{}' names no object", args.object))
            .hint("write KIND/NAME, like deployment/web"));
    };
    let is_it = |trace: &&Trace| {
        trace.is_kind(kind)
            && trace.name == name
            && args.namespace.as_ref().is_none_or(|wanted| trace.namespace == *wanted)
    };
    let found: Vec<&Trace> = traces.iter().filter(is_it).collect();
    match found[..] {
        [one] => Ok(one.clone()),
        [] => Err(Error::new(
            Code::NotFound,
            format!("nothing in cluster {} renders {}", args.cluster, args.object),
        )
        .hint("`flotilla render -o wide` lists what it renders")),
        [first, ..] => {
            let all: Vec<String> =
                found.iter().map(|trace| format!("{} ({})", trace.object(), trace.unit)).collect();
            // The first owner keeps an object that several declare.
            if found.iter().all(|other| other.object() == first.object()) {
                return Ok(first.clone());
            }
            Err(Error::usage(format!("'{}' is several objects: {}", args.object, all.join(", ")))
                .hint("--namespace NAMESPACE and KIND.GROUP/NAME choose among them"))
        }
    }
}

/// The values of an object with where each was written; what the unit's definition adds stands there.
fn of_object(output: &Output, trace: &Trace, definition: &Definition) -> Vec<Field> {
    let text = |node: &Node, path: &[&str]| node.at(path).and_then(Node::text).unwrap_or_default().to_owned();
    let is_it = |node: &Node| {
        let namespace = text(node, &["metadata", "namespace"]);
        text(node, &["kind"]) == trace.kind
            && text(node, &["metadata", "name"]) == trace.name
            && (namespace == trace.namespace || namespace.is_empty())
    };
    let Some(document) = output.documents.iter().find(|document| is_it(&document.node)) else {
        return Vec::new();
    };
    let is_secret = trace.kind == "Secret";
    let field = |(path, node): (String, &Node)| {
        let origin = output.origin_of(node);
        let is_hidden = is_secret && (path.starts_with("/data") || path.starts_with("/stringData"));
        let value = match node.to_json() {
            _ if is_hidden => "(hidden)".to_owned(),
            Ok(serde_json::Value::String(text)) => text,
            Ok(value) => value.to_string(),
            Err(error) => error.to_string(),
        };
        let (file, line) = match origin.file {
            Some(file) => (file.to_string(), origin.line),
            None => (definition.file.clone(), definition.line),
        };
        Field { path, value, file, line, by: None }
    };
    leaves(&document.node).into_iter().map(field).collect()
}

/// `spec.containers[0].image` as `/spec/containers/0/image`.
fn pointer(field: &str) -> String {
    if field.starts_with('/') {
        return field.trim_end_matches('/').to_owned();
    }
    let parts = field.split(['.', '[', ']']).filter(|part| !part.is_empty());
    parts.map(|part| format!("/{}", part.replace('~', "~0").replace('/', "~1"))).collect()
}

/// Asks git who changed the lines last, once for each file.
fn blame(repo: &std::path::Path, fields: &mut [Field]) -> Result<(), Error> {
    let mut files: BTreeMap<String, BTreeMap<u32, Author>> = BTreeMap::new();
    for field in fields.iter_mut().filter(|field| field.line > 0) {
        if !files.contains_key(&field.file) {
            let text =
                git(repo, &["blame", "--line-porcelain", "--", &field.file], "", None).map_err(|error| {
                    error.or_hint("the folder has to be in a Git work tree, and the file in its history")
                })?;
            files.insert(field.file.clone(), authors(&text));
        }
        field.by = files.get(&field.file).and_then(|lines| lines.get(&field.line)).cloned();
    }
    Ok(())
}

/// The lines of `git blame --line-porcelain`, by their numbers: a header for each, then its line behind a tab.
fn authors(text: &str) -> BTreeMap<u32, Author> {
    let (mut lines, mut number, mut now) = (BTreeMap::new(), 0, Author::default());
    let mut is_header = true;
    for line in text.lines() {
        if line.starts_with('\t') {
            lines.insert(number, std::mem::take(&mut now));
            is_header = true;
            continue;
        }
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            commit if is_header => {
                now.commit =
                    if commit.bytes().all(|c| c == b'0') { String::new() } else { commit.to_owned() };
                number = rest.split(' ').nth(1).and_then(|number| number.parse().ok()).unwrap_or(0);
                is_header = false;
            }
            "author" => now.author = rest.to_owned(),
            "author-time" => now.at = rest.parse().unwrap_or(0),
            "summary" => now.summary = rest.to_owned(),
            _ => {}
        }
    }
    // The last line may be an empty one, which is trimmed with its tab.
    if !is_header {
        lines.insert(number, now);
    }
    lines
}

fn table(fields: &[Field], wide: bool, color: bool) -> String {
    let mut headers = vec!["FIELD", "VALUE", "FILE", "COMMIT", "AUTHOR"];
    if wide {
        headers.extend(["DATE", "SUMMARY"]);
    }
    let mut table = Table::new(&headers);
    for Field { path, value, file, line, by } in fields {
        const LONG: usize = 60;
        let value: String = value.chars().take(LONG).collect();
        let by = by.clone();
        let (commit, author) = match &by {
            None => (String::new(), String::new()),
            Some(by) if by.commit.is_empty() => ("(not committed)".to_owned(), String::new()),
            Some(by) => (by.commit.chars().take(12).collect(), by.author.clone()),
        };
        let mut row = vec![
            Cell::new(path),
            Cell::new(value),
            Cell::new(format!("{file}:{line}")),
            Cell::new(commit),
            Cell::new(author),
        ];
        if wide {
            let by = by.unwrap_or_default();
            row.extend([
                Cell::new(if by.at > 0 { date(by.at) } else { String::new() }),
                Cell::new(by.summary),
            ]);
        }
        table.row(row);
    }
    table.take(color)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_named_as_people_do() {
        for (field, expected) in [
            ("spec.replicas", "/spec/replicas"),
            ("/spec/replicas/", "/spec/replicas"),
            ("spec.containers[0].image", "/spec/containers/0/image"),
        ] {
            assert_eq!(pointer(field), expected);
        }
    }

    #[test]
    fn lines_of_git_are_read() {
        let id = "a".repeat(40);
        let zero = "0".repeat(40);
        let text = format!(
            "{id} 3 1 1\nauthor Ann B\nauthor-time 12\nsummary summary of\nfilename x\n\tauthor Eve\n{zero} 2 2\nauthor Not Committed \
             Yet\nauthor-time 13\nsummary x\nfilename x"
        );
        let lines = authors(&text);
        assert_eq!(
            (lines[&1].commit.as_str(), lines[&1].author.as_str(), lines[&1].at),
            (id.as_str(), "Ann B", 12)
        );
        assert_eq!(lines[&1].summary, "summary of");
        assert_eq!(lines[&2].commit, "");
    }
}
