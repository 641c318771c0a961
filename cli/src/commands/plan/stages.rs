//! When diffs reach their clusters, in words.

use flotilla_render::plan::stages::{Part, Schedule, StageSchedule};
use flotilla_rollout::spec::{Amount, Gates, Stage, Window};

use super::lines::{clusters, count};
use crate::output::span;

/// Units of a part that are named, unless all are asked for.
const UNITS: usize = 4;

/// Nothing where no pipeline has a say in it.
pub(super) fn schedule(schedule: &Schedule, all: bool) -> Vec<String> {
    if schedule.pipelines.is_empty() && schedule.stays.is_empty() {
        return Vec::new();
    }
    let mut out = Vec::new();
    if !schedule.at_once.is_empty() {
        out.push("at once:".to_owned());
        out.extend(schedule.at_once.iter().map(|one| part(2, one, all)));
    }
    for of in &schedule.pipelines {
        let name = &of.pipeline.name;
        let windows = windows(&of.pipeline.windows);
        let windows = if windows.is_empty() { String::new() } else { format!(" ({windows})") };
        out.push(format!("pipeline {name}{windows}:"));
        for (n, (stage, found)) in of.pipeline.stages.iter().zip(&of.stages).enumerate() {
            out.push(format!("  {}. {}", n + 1, stage_line(stage, found)));
            out.extend(found.parts.iter().map(|one| part(5, one, all)));
        }
    }
    for (why, parts) in &schedule.stays {
        out.push(format!("stays as it runs: {why}:"));
        out.extend(parts.iter().map(|one| part(2, one, all)));
    }
    out
}

/// `canary: 3 clusters, 1 at a time; passes after 2h of health`
fn stage_line(stage: &Stage, found: &StageSchedule) -> String {
    let head = format!("{}: {}", stage.name, count(found.clusters, "cluster"));
    match found {
        StageSchedule { clusters: 0, .. } => format!("{head}: passes at once, without its gates"),
        StageSchedule { parts, in_part: false, .. } if parts.is_empty() => {
            format!("{head}: nothing changes there, so that it passes at once and tests nothing")
        }
        StageSchedule { parts, .. } if parts.is_empty() => {
            format!("{head}: nothing changes there that is known here")
        }
        _ => format!("{head}{}", conditions(stage)),
    }
}

/// What has to hold, and how many clusters there are at once.
pub(super) fn conditions(stage: &Stage) -> String {
    let pace = match stage.strategy.max_concurrent {
        Amount::Percent(100..) => "all at once".to_owned(),
        some => format!("{some} at a time"),
    };
    let mut out = format!(", {pace}");
    let windows = windows(&stage.windows);
    let before = [gates(&stage.before, "the stage before"), windows];
    let before: Vec<&str> = before.iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
    if !before.is_empty() {
        out.push_str(&format!("; begins after {}", before.join(", ")));
    }
    let after = gates(&stage.after, "each cluster");
    if !after.is_empty() {
        out.push_str(&format!("; passes after {after}"));
    }
    out
}

fn windows(windows: &[Window]) -> String {
    match windows {
        [] => String::new(),
        some => {
            let names: Vec<&str> = some.iter().map(|window| window.name.as_str()).collect();
            format!("as windows allow: {}", names.join(", "))
        }
    }
}

fn gates(gates: &Gates, whose: &str) -> String {
    let mut out = Vec::new();
    out.extend(gates.healthy_for.map(|time| format!("{whose} is healthy for {}", span(time))));
    out.extend(gates.approval.as_ref().map(|approval| {
        let from = match approval.from.is_empty() {
            true => String::new(),
            false => format!(" by {}", approval.from.join(", ")),
        };
        format!("{}{from}", count(approval.count as usize, "approval"))
    }));
    out.extend(gates.checks.iter().map(|check| format!("the check {}", check.name)));
    out.join(", ")
}

/// `diff 1a2b3c4d in 2 clusters: a, b: kustomization/flux-system/web`
fn part(indent: usize, part: &Part, all: bool) -> String {
    let limit = if all { usize::MAX } else { UNITS };
    let units: Vec<String> = part.units.iter().take(limit).map(ToString::to_string).collect();
    let more = match part.units.len().saturating_sub(limit) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "{}diff {} in {}: {}{more}",
        " ".repeat(indent),
        part.diff.short(),
        clusters(part.clusters.iter(), all),
        units.join(", ")
    )
}
