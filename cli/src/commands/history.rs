//! `flotilla history`

use clap::Args;
use flotilla_api::HistoryEntry;
use flotilla_core::ClusterName;
use serde::Serialize;

use crate::Context;
use crate::args::{OutputArgs, duration};
use crate::client::{Choice, Client};
use crate::error::Error;
use crate::exit::Code;
use crate::output::{Cell, Table, date, now};

/// Which states clusters ran, and when: what ran on that day, where a commit was
///
/// The hub keeps the newest 20 states of each cluster. A state runs from when its agent had applied it until it had applied the next one.
/// Where pipelines hold units back, these are of older commits than the one that is shown.
///
/// Exits with 1 if nothing is found.
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Only these clusters
    #[arg(value_name = "CLUSTER")]
    clusters: Vec<ClusterName>,
    /// Only states of this commit, by 7 digits of its id or more
    #[arg(long, value_name = "ID", value_parser = commit)]
    commit: Option<String>,
    /// Only what ran then: a time like 2026-12-01T12:00:00Z, a day, whose beginning counts, or how long ago, like 12h
    #[arg(long, value_name = "TIME", value_parser = moment)]
    at: Option<i64>,
    #[command(flatten)]
    output: OutputArgs,
}

fn commit(text: &str) -> Result<String, String> {
    const LEAST: usize = 7;
    let is_id = text.len() >= LEAST && text.chars().all(|c| c.is_ascii_hexdigit());
    if is_id {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(format!("'{text}' is not a commit's id of {LEAST} digits or more"))
    }
}

/// In seconds since 1970.
fn moment(text: &str) -> Result<i64, String> {
    if let Ok(ago) = duration(text) {
        return Ok(now().saturating_sub(i64::try_from(ago).unwrap_or(i64::MAX)));
    }
    let day = || text.parse::<jiff::civil::Date>().ok()?.in_tz("UTC").ok().map(|day| day.timestamp());
    let time = text.parse::<jiff::Timestamp>().ok().or_else(day);
    time.map(|time| time.as_second()).ok_or_else(|| {
        format!(
            "'{text}' is not a time: write 2026-12-01T12:00:00Z, 2026-12-01 for its beginning in UTC, or 12h"
        )
    })
}

/// A state of a cluster. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct State {
    cluster: String,
    generation: u64,
    commit: String,
    /// `null`: it was never applied.
    from: Option<i64>,
    /// `null`: it still runs, or never did.
    until: Option<i64>,
    healthy_at: Option<i64>,
}

pub(crate) async fn run(context: &Context, args: HistoryArgs) -> Result<Code, Error> {
    let client = context.hub()?;
    let mut states = Vec::new();
    for (cluster, entries) in fetch(&client, args.clusters).await? {
        let mut found = of_cluster(&cluster, &entries);
        found.retain(|state| {
            let is_of = args.commit.as_ref().is_none_or(|commit| state.commit.starts_with(commit.as_str()));
            let ran = |at: &i64| {
                state.from.is_some_and(|from| from <= *at) && state.until.is_none_or(|until| *at < until)
            };
            is_of && args.at.as_ref().is_none_or(ran)
        });
        states.extend(found);
    }
    context.terminal.show(args.output.output, &states, |_| table(&states, context.terminal.color))?;
    Ok(if states.is_empty() { Code::Found } else { Code::Done })
}

async fn fetch(
    client: &Client,
    mut names: Vec<ClusterName>,
) -> Result<Vec<(ClusterName, Vec<HistoryEntry>)>, Error> {
    if names.is_empty() {
        for cluster in client.clusters(&Choice::default()).await? {
            let wrong = |error| Error::new(Code::HubFailed, "the hub names a cluster wrongly").because(error);
            names.push(cluster.name.parse().map_err(wrong)?);
        }
    }
    const AT_ONCE: usize = 16;
    let mut found = Vec::new();
    for some in names.chunks(AT_ONCE) {
        let mut asking = tokio::task::JoinSet::new();
        for name in some {
            let (client, name) = (client.clone(), name.clone());
            asking.spawn(async move { client.history(&name).await.map(|history| (name, history)) });
        }
        while let Some(answer) = asking.join_next().await {
            let cut =
                |error| Error::new(Code::HubFailed, "a question to the hub was cut short").because(error);
            found.push(answer.map_err(cut)??);
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(found)
}

/// The newest last, as the hub has them.
fn of_cluster(cluster: &ClusterName, entries: &[HistoryEntry]) -> Vec<State> {
    let mut states: Vec<State> = Vec::new();
    let mut until = None;
    for entry in entries.iter().rev() {
        states.push(State {
            cluster: cluster.to_string(),
            generation: entry.desired.generation,
            commit: entry.desired.commit.clone(),
            from: entry.applied_at,
            until: until.filter(|_| entry.applied_at.is_some()),
            healthy_at: entry.healthy_at,
        });
        until = entry.applied_at.or(until);
    }
    states.reverse();
    states
}

fn table(states: &[State], color: bool) -> String {
    let mut table = Table::new(&["CLUSTER", "GENERATION", "COMMIT", "FROM", "UNTIL", "HEALTHY"]);
    let time = |at: Option<i64>, none: &str| Cell::new(at.map_or_else(|| none.to_owned(), date));
    for state in states {
        table.row(vec![
            Cell::new(&state.cluster),
            Cell::new(state.generation.to_string()),
            Cell::new(state.commit.chars().take(12).collect::<String>()),
            time(state.from, "never applied"),
            time(state.until, ""),
            time(state.healthy_at, ""),
        ]);
    }
    table.take(color)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_runs_until_the_next_is_applied() {
        let entry = |generation: u64, applied_at: Option<i64>| HistoryEntry {
            desired: flotilla_api::Desired { generation, ..Default::default() },
            applied_at,
            ..HistoryEntry::default()
        };
        let entries = [entry(1, Some(10)), entry(2, None), entry(3, Some(30)), entry(4, None)];
        let states = of_cluster(&"a".parse().unwrap(), &entries);
        let ran: Vec<_> = states.iter().map(|state| (state.generation, state.from, state.until)).collect();
        assert_eq!(ran, [(1, Some(10), Some(30)), (2, None, None), (3, Some(30), None), (4, None, None)]);
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(moment("2026-08-01T12:00:00Z"), Ok(1_785_585_600));
        assert_eq!(moment("2026-08-01"), Ok(1_785_542_400));
        assert!(moment("12h").unwrap() <= now() - 43_200);
        for text in ["", "yesterday", "2026-13-01", "12"] {
            assert!(moment(text).is_err(), "{text}");
        }
    }
}
