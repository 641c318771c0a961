//! `flotilla get groups`: the ClusterGroups of a folder, with their clusters.

use clap::Args;
use flotilla_api::Problem;
use flotilla_render::ClusterGroup;
use serde::Serialize;
use std::collections::BTreeMap;

use crate::Context;
use crate::args::OutputArgs;
use crate::error::Error;
use crate::exit::Code;
use crate::offline::{ClustersArgs, Repo};
use crate::output::{Cell, Table, Tone};

#[derive(Debug, Args)]
pub(crate) struct GroupsArgs {
    /// Only this group
    name: Option<String>,
    /// Folder with the fleet repo: as it is now, committed or not
    #[arg(long, value_name = "DIR", default_value = ".")]
    repo: std::path::PathBuf,
    #[command(flatten)]
    clusters: ClustersArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// A group, with what it gives.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    name: String,
    priority: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    variables: BTreeMap<String, String>,
    clusters: Vec<String>,
    file: String,
    line: u32,
}

impl From<&ClusterGroup> for Group {
    fn from(group: &ClusterGroup) -> Self {
        let (file, line) = group.defined_at.clone();
        Self {
            name: group.name.clone(),
            priority: group.priority,
            path: group.path.as_ref().map(ToString::to_string),
            variables: group.variables.clone(),
            clusters: group.clusters.iter().map(ToString::to_string).collect(),
            file,
            line,
        }
    }
}

pub(crate) fn run(context: &Context, args: &GroupsArgs) -> Result<Code, Error> {
    let repo = Repo::open(&args.repo, &args.clusters)?;
    let is_shown = |group: &&ClusterGroup| args.name.as_ref().is_none_or(|name| *name == group.name);
    let groups: Vec<Group> = repo.fleet.groups.values().filter(is_shown).map(Group::from).collect();
    for problem in &repo.fleet.problems {
        let text = Problem::from(problem).to_string();
        if problem.notice { context.terminal.note(&text) } else { context.terminal.error(&text) }
    }
    if let (Some(name), true) = (&args.name, groups.is_empty()) {
        let known: Vec<&str> = repo.fleet.groups.keys().map(String::as_str).collect();
        let known = if known.is_empty() {
            "it defines none".to_owned()
        } else {
            format!("it has {}", known.join(", "))
        };
        let message = format!("the fleet repo has no group {name} in {}", repo.clusters());
        return Err(Error::new(Code::NotFound, message).hint(known));
    }
    context
        .terminal
        .show(args.output.output, &groups, |wide| table(&groups, wide, context.terminal.color))?;
    let broken = repo.fleet.problems.iter().any(|problem| !problem.notice) || !repo.fleet.unclear.is_empty();
    Ok(if broken { Code::Found } else { Code::Done })
}

fn table(groups: &[Group], wide: bool, color: bool) -> String {
    let mut table = Table::new(&["NAME", "PRIORITY", "PATH", "CLUSTERS", "VARIABLES"]);
    for group in groups {
        let list = |names: &mut dyn ExactSizeIterator<Item = String>| match (wide, names.len()) {
            (false, count) => count.to_string(),
            (true, _) => names.collect::<Vec<_>>().join(","),
        };
        table.row(vec![
            Cell::new(&group.name).tone(Tone::Strong),
            group.priority.to_string().into(),
            Cell::new(group.path.as_deref().unwrap_or_default()),
            list(&mut group.clusters.iter().cloned()).into(),
            list(&mut group.variables.iter().map(|(name, value)| format!("{name}={value}"))).into(),
        ]);
    }
    table.take(color)
}
