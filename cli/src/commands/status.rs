//! `flotilla status`

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::Args;
use flotilla_api::{Attention, Cluster, Event, Status, Unit};
use flotilla_core::ClusterName;
use serde::Serialize;

use super::rows::{self, Row as _};
use crate::Context;
use crate::args::{Format, OutputArgs};
use crate::client::{Choice, Client, EventFilter, Watch};
use crate::error::Error;
use crate::exit::Code;
use crate::output::{self, Table, age, clean, date, now};

/// Show the fleet at a glance, or one cluster with all that is wrong in it
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Name of a cluster
    cluster: Option<ClusterName>,
    /// Show it again whenever it changes, until Ctrl-C
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// One cluster with all that is known.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ClusterStatus {
    cluster: Cluster,
    units: Vec<Unit>,
    /// The newest last.
    recent_warnings: Vec<Event>,
}

/// How many of the newest warnings are shown.
const WARNINGS: usize = 10;

pub(crate) async fn run(context: &Context, args: StatusArgs) -> Result<Code, Error> {
    let client = context.hub()?;
    let mut watch = if args.watch { Some(Watch::start(&client, &context.terminal).await?) } else { None };
    let format = args.output.output;
    let mut last = String::new();
    loop {
        let text = match &args.cluster {
            Some(name) => text(context, format, watch.is_some(), &of_cluster(&client, name).await?, cluster)?,
            None => text(context, format, watch.is_some(), &client.status().await?, fleet)?,
        };
        if text != last {
            let human = matches!(format, Format::Table | Format::Wide);
            let before = match (last.is_empty(), human, context.terminal.interactive) {
                (true, ..) | (_, false, _) => "",
                // Clears the screen.
                (false, true, true) => "\x1b[H\x1b[2J",
                (false, true, false) => "\n",
            };
            context.terminal.print(&format!("{before}{text}"))?;
        }
        last = text;
        match &mut watch {
            Some(watch) => watch.changed().await?,
            None => return Ok(Code::Done),
        }
    }
}

/// Shows one cluster once.
pub(super) async fn once(
    context: &Context,
    client: &Client,
    name: &ClusterName,
    format: Format,
) -> Result<Code, Error> {
    let status = of_cluster(client, name).await?;
    context.terminal.print(&text(context, format, false, &status, cluster)?)?;
    Ok(Code::Done)
}

fn text<T: Serialize>(
    context: &Context,
    format: Format,
    several: bool,
    data: &T,
    human: fn(&T, bool, bool, i64) -> String,
) -> Result<String, Error> {
    match format {
        Format::Table | Format::Wide => {
            Ok(human(data, format == Format::Wide, context.terminal.color, now()))
        }
        format if several => output::part(format, data),
        format => output::document(format, data),
    }
}

/// Reads all of one cluster.
async fn of_cluster(client: &Client, name: &ClusterName) -> Result<ClusterStatus, Error> {
    let cluster = client.cluster(name).await?;
    let units = client.units(Some(name), &Choice::default()).await?;
    let filter = EventFilter {
        cluster: Some(name.clone()),
        warnings: true,
        limit: WARNINGS,
        ..EventFilter::default()
    };
    let (recent_warnings, _) = client.events(&filter).await?;
    Ok(ClusterStatus { cluster, units, recent_warnings })
}

fn line(out: &mut String, label: &str, value: impl AsRef<str>) {
    let value = clean(value.as_ref());
    if !value.is_empty() {
        let _ = writeln!(out, "{label:12}{value}");
    }
}

fn counts(map: &BTreeMap<String, u32>) -> String {
    let parts: Vec<String> = map
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(phase, count)| format!("{count} {phase}"))
        .collect();
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}

/// The fleet in a few lines, then sources and problems.
fn fleet(status: &Status, wide: bool, color: bool, now: i64) -> String {
    let mut out = String::new();
    let up = output::span(now - status.started_at);
    line(&mut out, "hub", format!("{}, up {up}", status.hub_version));
    match &status.commit {
        Some(commit) => line(
            &mut out,
            "commit",
            format!(
                "{} on {}: {} ({}, {} ago)",
                commit.id.get(..12).unwrap_or(&commit.id),
                commit.branch,
                commit.subject,
                commit.author,
                output::span(now - commit.at)
            ),
        ),
        None => line(&mut out, "commit", "none yet: the fleet repo has not been read"),
    }
    let c = &status.clusters;
    let mut clusters = format!("{}: {} connected, {} in sync", c.total, c.connected, c.in_sync);
    for (count, what) in [
        (c.disconnected, "disconnected"),
        (c.failing, "failing"),
        (c.held, "held"),
        (c.kept, "with kept objects"),
        (c.suspended, "suspended"),
        (c.waiting, "not at the newest"),
        (c.unassigned, "unassigned"),
    ] {
        if count > 0 {
            let _ = write!(clusters, ", {count} {what}");
        }
    }
    line(&mut out, "clusters", clusters);
    line(&mut out, "units", counts(&status.units));
    let reasons = counts(&status.attention_counts);
    let summary = match (status.problem_count, status.attention_counts.is_empty()) {
        (0, true) => "none".to_owned(),
        (0, false) => format!("none, but look at: {reasons}"),
        (count, true) => count.to_string(),
        (count, false) => format!("{count} ({reasons})"),
    };
    line(&mut out, "problems", summary);
    if !status.sources.is_empty() {
        out.push('\n');
        table(&mut out, &status.sources, wide, color, now);
    }
    let notices: Vec<_> = status.problems.iter().filter(|problem| problem.notice).cloned().collect();
    problems(&mut out, &notices);
    let all: u32 = status.attention_counts.values().sum();
    attention(&mut out, &status.attention, all, rows::whole);
    let lines = status.waiting.iter().map(|one| format!("{}: {}", one.cluster, rows::waits(one)));
    waiting(&mut out, lines, c.waiting as usize);
    if !status.attention.is_empty() || status.problem_count > 0 {
        out.push_str("\n`flotilla status CLUSTER` says all of one cluster.\n");
    }
    out
}

/// So much of what needs a person is shown of the fleet: a screen.
const SHOWN: usize = 15;

/// What needs a person, the worst first.
fn attention(out: &mut String, attention: &[Attention], all: u32, text: fn(&Attention) -> String) {
    if attention.is_empty() {
        return;
    }
    out.push_str("\nNEEDS ATTENTION\n");
    for found in attention.iter().take(SHOWN) {
        let kind = if found.notice { "notice: " } else { "" };
        let _ = writeln!(out, "  {}", clean(&format!("{kind}{}", text(found))));
    }
    if let more @ 1.. = (all as usize).saturating_sub(attention.len().min(SHOWN)) {
        let _ = writeln!(out, "  and {more} more");
    }
}

/// Why clusters do not run the newest, a line for each reason.
fn waiting(out: &mut String, lines: impl Iterator<Item = String>, clusters: usize) {
    let lines: Vec<String> = lines.take(SHOWN).collect();
    if lines.is_empty() {
        return;
    }
    out.push_str("\nNOT AT THE NEWEST\n");
    for line in &lines {
        let _ = writeln!(out, "  {}", clean(line));
    }
    if clusters > lines.len() {
        let _ = writeln!(out, "  {clusters} clusters in all: `flotilla rollout status` shows each");
    }
}

fn table<T: rows::Row>(out: &mut String, items: &[T], wide: bool, color: bool, now: i64) {
    let mut table = Table::new(T::headers(wide));
    items.iter().for_each(|item| table.row(item.cells(wide, now)));
    out.push_str(&table.take(color));
}

fn problems(out: &mut String, problems: &[flotilla_api::Problem]) {
    if problems.is_empty() {
        return;
    }
    out.push_str("\nPROBLEMS\n");
    for problem in problems {
        let kind = if problem.notice { "notice: " } else { "" };
        let _ = writeln!(out, "  {}", clean(&format!("{kind}{problem}")));
    }
}

/// One cluster with its units, and below everything that is wrong.
fn cluster(status: &ClusterStatus, wide: bool, color: bool, now: i64) -> String {
    let ClusterStatus { cluster, units, recent_warnings } = status;
    let mut out = String::new();
    line(&mut out, "cluster", &cluster.name);
    let since = match cluster.connected_since.filter(|_| cluster.connection.as_str() == "Connected") {
        Some(since) => format!(", for {}", age(now, Some(since))),
        None => {
            cluster.last_seen.map(|at| format!(", last seen {} ago", age(now, Some(at)))).unwrap_or_default()
        }
    };
    line(&mut out, "connection", format!("{}{since}", cluster.connection.as_str()));
    line(&mut out, "sync", cluster.sync.as_str());
    line(
        &mut out,
        "runs",
        if cluster.commit.is_empty() {
            String::new()
        } else {
            format!("commit {}", rows::short(&cluster.commit))
        },
    );
    if let Some(desired) = &cluster.desired {
        let short = |digest: &str| digest.get(..12).unwrap_or(digest).to_owned();
        let at = |digest: &Option<String>| match digest {
            Some(digest) if *digest == desired.digest => "yes".to_owned(),
            Some(digest) => format!("no, at {}", short(digest)),
            None => "no".to_owned(),
        };
        line(
            &mut out,
            "desired",
            format!(
                "{} (generation {}, commit {})",
                short(&desired.digest),
                desired.generation,
                short(&desired.commit)
            ),
        );
        line(&mut out, "received", at(&cluster.received));
        line(&mut out, "applied", at(&cluster.applied));
        line(&mut out, "healthy", at(&cluster.healthy));
    }
    line(&mut out, "units", counts(&cluster.units));
    line(&mut out, "kubernetes", &cluster.kubernetes_version);
    line(&mut out, "agent", &cluster.agent_version);
    line(&mut out, "root", &cluster.root);
    line(
        &mut out,
        "labels",
        cluster.labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(", "),
    );
    if let Some(expires) = cluster.certificate_expires {
        line(&mut out, "certificate", format!("until {}", date(expires)));
    }
    if let Some(suspended) = &cluster.suspended {
        line(
            &mut out,
            "suspended",
            format!("by {}, {} ago: {}", suspended.by, age(now, Some(suspended.at)), suspended.reason),
        );
    }
    if !cluster.assigned {
        line(&mut out, "note", "Git does not define this cluster; it keeps what it runs");
    }
    if let Some(refused) = &cluster.refused {
        line(&mut out, "refused", refused);
    }
    for problem in &cluster.agent_problems {
        line(&mut out, "agent says", problem);
    }
    if !units.is_empty() {
        out.push('\n');
        let mut table = Table::new(Unit::headers(wide));
        units.iter().for_each(|unit| table.row(unit.cells(wide, now)));
        out.push_str(&table.take(color));
    }
    attention(&mut out, &cluster.attention, cluster.attention.len() as u32, rows::about);
    let lines = cluster.waiting.iter().map(|one| format!("{}: {}", one.pipeline, rows::waits(one)));
    waiting(&mut out, lines, 0);
    let all: Vec<_> =
        cluster.problems.iter().chain(units.iter().flat_map(|unit| &unit.problems)).cloned().collect();
    problems(&mut out, &all);
    details(&mut out, cluster, units);
    if !recent_warnings.is_empty() {
        out.push_str("\nRECENT WARNINGS\n");
        for event in recent_warnings {
            let object = event.object.as_ref().map(|object| format!("{object}: ")).unwrap_or_default();
            let ago = age(now, Some(event.at));
            let text = format!("{ago} ago  {}  {object}{}: {}", event.unit, event.reason, event.message);
            let _ = writeln!(out, "  {}", clean(&text));
        }
    }
    out
}

/// Findings, drift and what guards kept, object by object.
fn details(out: &mut String, cluster: &Cluster, units: &[Unit]) {
    let mut section = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            let _ = write!(out, "\n{title}\n");
            for line in lines {
                let _ = writeln!(out, "  {}", clean(&line));
            }
        }
    };
    let findings = units.iter().flat_map(|unit| {
        unit.findings.iter().map(move |f| format!("{}  {}: {}: {}", unit.unit, f.object, f.reason, f.message))
    });
    section("FINDINGS", findings.collect());
    let drift = units.iter().flat_map(|unit| {
        unit.drift.iter().map(move |drift| {
            let fields: Vec<&str> = drift.fields.iter().map(|field| field.field.as_str()).collect();
            let what = if fields.is_empty() { "is gone".to_owned() } else { fields.join(", ") };
            format!("{}  {}: {what}", unit.unit, drift.object)
        })
    });
    section("DRIFT", drift.collect());
    let mut approvals: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for unit in units {
        for kept in &unit.kept {
            let text = format!("{}  {}: {}", unit.unit, kept.object, kept.why);
            approvals.entry(&kept.approval).or_default().push(text);
        }
    }
    let mut kept = Vec::new();
    for (approval, objects) in approvals {
        kept.extend(objects);
        kept.push(format!("  to delete: flotilla approve {} {approval}", cluster.name));
    }
    section("KEPT", kept);
}
