//! `flotilla check`

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use flotilla_core::ClusterName;
use flotilla_core::source::SourceId;
use flotilla_proto::api::{Cluster, ConnectionState, Problem, Status, SyncState, WhoAmI};
use serde::Serialize;

use crate::Context;
use crate::args::OutputArgs;
use crate::client::Client;
use crate::error::Error;
use crate::exit::Code;
use crate::offline::{ClustersArgs, NOT_FETCHED, Repo, local_source};
use crate::output::{Cell, Table, Tone, clean};

/// Check a fleet repo before the commit (--repo), or the hub and its fleet
///
/// With --repo: renders every cluster from a folder, without a hub, and prints each problem with file and line.
/// Without: whether the hub can be reached, takes the token, can read its sources, and how its clusters are.
///
/// Units whose source is not the repo are not fetched: they are named by a notice, unless --local-sources has a folder for
/// them.
///
/// Exits with 0 if all is well, with 1 if there are problems.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Folder with the fleet repo: as it is now, committed or not
    #[arg(long, value_name = "DIR")]
    repo: Option<PathBuf>,
    #[command(flatten)]
    clusters: ClustersArgs,
    /// Only this cluster of the repo
    #[arg(short, long, value_name = "NAME", requires = "repo")]
    cluster: Option<ClusterName>,
    /// Folders that stand in for sources other than the fleet repo, which are not fetched
    #[arg(
        long, value_name = "KIND/NAMESPACE/NAME=DIR", value_delimiter = ',', value_parser = local_source, requires = "repo"
    )]
    local_sources: Vec<(SourceId, PathBuf)>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) async fn run(context: &Context, args: CheckArgs) -> Result<Code, Error> {
    match &args.repo {
        Some(folder) => repo(context, &args, folder),
        None => {
            let client = context
                .hub()
                .map_err(|error| error.or_hint("to check a folder without a hub, say --repo DIR"))?;
            hub(context, &args, &client).await
        }
    }
}

/// A problem, and where it shows.
#[derive(Debug, Serialize)]
struct Found {
    #[serde(flatten)]
    problem: Problem,
    /// `CLUSTER` or `CLUSTER/UNIT`; none where it concerns no cluster in particular.
    concerns: Vec<String>,
}

/// All that a folder's check says.
#[derive(Debug, Default, Serialize)]
struct Report {
    clusters: usize,
    units: usize,
    objects: usize,
    problems: Vec<Found>,
}

fn repo(context: &Context, args: &CheckArgs, folder: &std::path::Path) -> Result<Code, Error> {
    let mut repo = Repo::open(folder, &args.clusters)?;
    repo.add_local(&args.local_sources)?;
    let names = args.cluster.clone().map_or_else(|| repo.names(), |name| vec![name]);
    let mut report = Report { clusters: names.len(), ..Report::default() };
    // One broken base shows in many clusters: it is said once.
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut add = |problem: Problem, concerns: Option<String>| {
        let index = *places.entry(format!("{}{problem}", problem.notice)).or_insert_with(|| {
            report.problems.push(Found { problem, concerns: Vec::new() });
            report.problems.len() - 1
        });
        report.problems[index].concerns.extend(concerns);
    };
    for problem in &repo.fleet.problems {
        add(Problem::from(problem), None);
    }
    if repo.names().is_empty() {
        add(no_cluster(&repo)?, None);
    }
    let (mut units, mut objects) = (0, 0);
    for name in &names {
        let rendered = repo.render(name)?;
        units += rendered.units.len();
        objects += rendered.units.iter().map(|unit| unit.objects.len()).sum::<usize>();
        for (unit, mut problem) in rendered.problems {
            // It says nothing of the repository: nobody has looked.
            problem.notice |= problem.message.ends_with(NOT_FETCHED);
            add(problem, Some(unit.map_or_else(|| name.to_string(), |unit| format!("{name}/{unit}"))));
        }
    }
    (report.units, report.objects) = (units, objects);
    context.terminal.show(args.output.output, &report, |_| lines(&report.problems))?;
    let errors = report.problems.iter().filter(|found| !found.problem.notice).count();
    context.terminal.note(&format!(
        "{} clusters, {units} units, {objects} objects: {}",
        report.clusters,
        match errors {
            0 => "no problems".to_owned(),
            1 => "1 problem".to_owned(),
            count => format!("{count} problems"),
        }
    ));
    Ok(if errors == 0 { Code::Done } else { Code::Found })
}

/// A fleet without a cluster runs nothing. Where Flux has roots in the repository, they are named.
fn no_cluster(repo: &Repo) -> Result<Problem, Error> {
    let found = repo.flux_roots()?;
    let mut message = "the repository defines no cluster".to_owned();
    if !found.is_empty() {
        let paths: Vec<String> = found.iter().map(|root| root.path.to_string()).collect();
        let _ = write!(
            message,
            "; Flux has the roots of clusters at {}: `flotilla import --repo DIR` prints the Cluster objects for them, and the \
             flag to use",
            paths.join(", ")
        );
    }
    Ok(Problem { file: repo.clusters().to_string(), message, ..Problem::default() })
}

/// A line for each problem, as compilers write them, and one for where it shows.
fn lines(problems: &[Found]) -> String {
    const SHOWN: usize = 3;
    let mut out = String::new();
    for Found { problem, concerns } in problems {
        let kind = if problem.notice { "notice: " } else { "" };
        let _ = writeln!(out, "{}", clean(&format!("{kind}{problem}")));
        if !concerns.is_empty() {
            let more = concerns.len().saturating_sub(SHOWN);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let shown = concerns.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
            let _ = writeln!(out, "  in {}", clean(&format!("{shown}{more}")));
        }
    }
    out
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    check: &'static str,
    ok: bool,
    message: String,
}

async fn hub(context: &Context, args: &CheckArgs, client: &Client) -> Result<Code, Error> {
    let who = client.who_am_i().await?;
    let status = client.status().await?;
    let checks = checks(client.hub(), &who, &status, &client.clusters().await?);
    context.terminal.show(args.output.output, &checks, |_| {
        let mut table = Table::new(&["CHECK", "RESULT", "MESSAGE"]);
        for Check { check, ok, message } in &checks {
            let result =
                if *ok { Cell::new("ok").tone(Tone::Good) } else { Cell::new("problem").tone(Tone::Bad) };
            table.row(vec![(*check).into(), result, message.into()]);
        }
        table.take(context.terminal.color)
    })?;
    Ok(if checks.iter().all(|check| check.ok) { Code::Done } else { Code::Found })
}

fn checks(hub: &str, who: &WhoAmI, status: &Status, clusters: &[Cluster]) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut add = |check: &'static str, ok: bool, message: String| checks.push(Check { check, ok, message });
    add("hub", true, format!("{hub}, version {}", status.hub_version));
    let scope = if who.scope.is_fleet() { String::new() } else { format!(", scope {}", who.scope) };
    add("token", true, format!("{}, role {}{scope}", who.name, who.role));
    match &status.commit {
        Some(commit) => {
            let id = commit.id.get(..12).unwrap_or(&commit.id);
            add("commit", true, format!("{id} on {}: {}", commit.branch, commit.subject));
        }
        None => add("commit", false, "the fleet repo has not been read".to_owned()),
    }
    for source in &status.sources {
        let message = if source.message.is_empty() { &source.url } else { &source.message };
        add("source", source.ready, format!("{}/{}: {message}", source.kind, source.name));
    }
    // Who has no agent on purpose, or not yet, is no problem.
    let enrolled: Vec<&Cluster> = clusters
        .iter()
        .filter(|c| matches!(c.connection, ConnectionState::Connected | ConnectionState::Disconnected))
        .collect();
    let ill: Vec<String> = enrolled
        .iter()
        .filter(|c| {
            c.connection == ConnectionState::Disconnected
                || matches!(c.sync, SyncState::Failing | SyncState::Held | SyncState::Unassigned)
        })
        .map(|c| format!("{} is {}, {}", c.name, c.connection.as_str(), c.sync.as_str()))
        .collect();
    let text = format!("{} of {} have an agent", enrolled.len(), clusters.len());
    let text = if ill.is_empty() { text } else { format!("{text}: {}", ill.join("; ")) };
    add("clusters", ill.is_empty(), text);
    add(
        "problems",
        status.problem_count == 0,
        match status.problem_count {
            0 => "none".to_owned(),
            count => format!("{count}: `flotilla get units` shows them"),
        },
    );
    checks
}
