//! A plan as lines for people, which Markdown has too.

use flotilla_core::change::{Finding, Severity};
use flotilla_core::{ClusterName, UnitId};
use flotilla_render::plan::fit::Misfit;
use flotilla_render::plan::{ClusterChange, Fields, Group, ObjectChange, ObjectPlan, UnitChange, UnitPlan};

use super::Shown;
use super::stages::schedule;
use crate::output::{Tone, clean, paint};

/// Shown at most so many, unless all are asked for.
const CLUSTERS: usize = 5;
const OBJECTS: usize = 40;
const FIELDS: usize = 8;
const MISFITS: usize = 10;

/// What a line says of what it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    None,
    Added,
    Removed,
    Changed,
}

/// A line, without control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) sign: Sign,
    pub(super) indent: usize,
    pub(super) text: String,
}

impl Line {
    fn new(sign: Sign, indent: usize, text: impl AsRef<str>) -> Self {
        Self { sign, indent, text: clean(text.as_ref()) }
    }
}

/// All of it, for a terminal.
pub(super) fn text(shown: &Shown, all: bool, color: bool) -> String {
    let mut out = format!("{}\n", paint(&summary(shown), Some(Tone::Strong).filter(|_| color)));
    for finding in &shown.plan.guard {
        let tone = match finding.severity {
            Severity::Stop => Tone::Bad,
            Severity::Warning => Tone::Warn,
            Severity::Info => Tone::Faint,
        };
        out.push_str(&format!("{}\n", paint(&clean(&guard(finding, all)), Some(tone).filter(|_| color))));
    }
    for group in &shown.plan.groups {
        let head = heading(group, all);
        out.push_str(&format!("\n{}\n", paint(&clean(&head), Some(Tone::Strong).filter(|_| color))));
        for line in lines(group, all) {
            let (sign, tone) = match line.sign {
                Sign::None => (" ", None),
                Sign::Added => ("+", Some(Tone::Good)),
                Sign::Removed => ("-", Some(Tone::Bad)),
                Sign::Changed => ("~", Some(Tone::Warn)),
            };
            let text = format!("  {}{sign} {}", "  ".repeat(line.indent), line.text);
            out.push_str(&format!("{}\n", paint(text.trim_end(), tone.filter(|_| color))));
        }
    }
    for more in [schedule(&shown.plan.schedule, all), rest(shown, all)] {
        if !more.is_empty() {
            out.push('\n');
            more.iter().for_each(|line| out.push_str(&format!("{}\n", clean(line))));
        }
    }
    out
}

/// `2 distinct diffs over 212 of 230 clusters, from main (1a2b3c4d) to the folder .`
pub(super) fn summary(shown: &Shown) -> String {
    let groups = &shown.plan.groups;
    let touched: usize = groups.iter().map(|group| group.clusters.len()).sum();
    let what = match groups.len() {
        0 if shown.plan.clusters == 0 => "there is no cluster to compare".to_owned(),
        0 => format!("nothing differs in {}", count(shown.plan.clusters, "cluster")),
        many => format!(
            "{} over {touched} of {}",
            count(many, "distinct diff"),
            count(shown.plan.clusters, "cluster")
        ),
    };
    clean(&format!("{what}, from {} to {}", shown.from, shown.to))
}

/// `stop: 63 of 90 objects are removed, in 3 clusters: a: ConfigMap x; waits for an approval of the change`
pub(super) fn guard(finding: &Finding, all: bool) -> String {
    let waits = match finding.severity {
        Severity::Stop => "; it waits for `flotilla approve --change`",
        Severity::Warning | Severity::Info => "",
    };
    let names =
        if finding.names.is_empty() { String::new() } else { format!(" ({})", finding.names.join(", ")) };
    format!(
        "{}: {finding}, in {}{names}{waits}",
        finding.severity.as_str(),
        clusters(finding.clusters.iter(), all)
    )
}

/// `diff 1a2b3c4d: 1 added, 2 changed in 200 clusters: a, b, c, d, e and 195 more`
pub(super) fn heading(group: &Group, all: bool) -> String {
    format!("{} in {}", head(group), clusters(group.clusters.iter(), all))
}

/// `diff 1a2b3c4d: 1 object added, 2 changed`
pub(super) fn head(group: &Group) -> String {
    let plan = &group.plan;
    let counts = [
        (ObjectChange::Added, "added"),
        (ObjectChange::Changed, "changed"),
        (ObjectChange::Moved, "moved"),
        (ObjectChange::Pruned, "pruned"),
        (ObjectChange::Kept, "kept for now"),
        (ObjectChange::Orphaned, "left behind"),
    ];
    let parts = counts.into_iter().map(|(change, word)| (plan.count(change), word));
    let parts: Vec<String> = parts.filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
    let objects = if parts.is_empty() {
        "no object differs".to_owned()
    } else {
        format!("objects: {}", parts.join(", "))
    };
    format!("diff {}, {objects},", plan.digest().short())
}

pub(super) fn clusters<'a>(names: impl ExactSizeIterator<Item = &'a ClusterName>, all: bool) -> String {
    let (total, limit) = (names.len(), if all { usize::MAX } else { CLUSTERS });
    let shown: Vec<&str> = names.take(limit).map(ClusterName::as_str).collect();
    let more = match total.saturating_sub(limit) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}: {}{more}", count(total, "cluster"), shown.join(", "))
}

pub(super) fn count(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// What becomes of a group's clusters.
pub(super) fn lines(group: &Group, all: bool) -> Vec<Line> {
    let mut out = Vec::new();
    let plan = &group.plan;
    let cluster = match &plan.cluster {
        ClusterChange::Stays => None,
        ClusterChange::Added => Some((Sign::Added, "the cluster is new".to_owned())),
        ClusterChange::Unassigned => Some((
            Sign::Changed,
            "Git defines the cluster no longer: it keeps what it runs, and is shown as unassigned".to_owned(),
        )),
        ClusterChange::Unclear(reason) => Some((
            Sign::Changed,
            format!("the cluster's definition cannot be read, so that it keeps what it runs: {reason}"),
        )),
        ClusterChange::WasUnclear => Some((
            Sign::Changed,
            "the cluster's definition can be read again; what it runs is not known here".to_owned(),
        )),
        ClusterChange::RootMoved { from, to } => Some((
            Sign::Changed,
            format!("the cluster's root moves from {from} to {to}: what leaves waits for an approval"),
        )),
    };
    out.extend(cluster.map(|(sign, text)| Line::new(sign, 0, text)));
    for (id, unit) in &plan.units {
        unit_lines(&mut out, &format!("unit {id}"), unit, all);
    }
    for (id, source) in &plan.sources {
        unit_lines(&mut out, &format!("source {id}"), source, all);
    }
    let limit = if all { usize::MAX } else { OBJECTS };
    // What goes comes first, so that no bound hides it.
    let (leaving, others): (Vec<_>, Vec<_>) = plan.objects.iter().partition(|object| object.to.is_none());
    for object in leaving.iter().chain(&others).take(limit) {
        object_lines(&mut out, object, all);
    }
    if let more @ 1.. = plan.objects.len().saturating_sub(limit) {
        out.push(Line::new(Sign::None, 0, format!("… and {}", count(more, "more object"))));
    }
    out
}

fn unit_lines(out: &mut Vec<Line>, name: &str, unit: &UnitPlan, all: bool) {
    let (sign, word) = match unit.change {
        UnitChange::Added => (Sign::Added, "is new"),
        UnitChange::Changed => (Sign::Changed, "changes"),
        UnitChange::Removed => (Sign::Removed, "is removed"),
        UnitChange::Orphaned => (Sign::Removed, "is removed, its objects stay"),
        UnitChange::Waits => (Sign::Changed, "leaves Git"),
        UnitChange::Held => (Sign::Changed, "is held and keeps what runs"),
        UnitChange::Released => (Sign::Changed, "renders again"),
        UnitChange::Unknown => (Sign::Changed, "changes, and what comes of it is not known here"),
    };
    let reason = if unit.reason.is_empty() { String::new() } else { format!(": {}", unit.reason) };
    out.push(Line::new(sign, 0, format!("{name} {word}{reason}")));
    field_lines(out, &unit.fields, all);
}

fn object_lines(out: &mut Vec<Line>, object: &ObjectPlan, all: bool) {
    let unit = |unit: &Option<UnitId>| unit.as_ref().map(ToString::to_string).unwrap_or_default();
    let (from, to) = (unit(&object.from), unit(&object.to));
    let (sign, tail) = match object.change {
        ObjectChange::Added => match object.content {
            Some(content) => (Sign::Added, format!("({to}), content {}", content.short())),
            None => (Sign::Added, format!("({to})")),
        },
        ObjectChange::Changed if from == to => (Sign::Changed, format!("({to})")),
        ObjectChange::Changed | ObjectChange::Moved => (Sign::Changed, format!("moves from {from} to {to}")),
        ObjectChange::Pruned => (Sign::Removed, format!("({from}) is deleted")),
        ObjectChange::Kept => (Sign::Changed, format!("({from}) leaves Git and is kept")),
        ObjectChange::Orphaned => (Sign::Removed, format!("({from}) leaves Git and stays in the cluster")),
    };
    let note = if object.note.is_empty() { String::new() } else { format!(": {}", object.note) };
    out.push(Line::new(sign, 0, format!("{} {tail}{note}", object.object)));
    if object.change == ObjectChange::Changed {
        field_lines(out, &object.fields, all);
    }
}

fn field_lines(out: &mut Vec<Line>, fields: &Fields, all: bool) {
    let limit = if all { usize::MAX } else { FIELDS };
    for field in fields.fields.iter().take(limit) {
        let side = |side: &Option<String>| side.clone().unwrap_or_else(|| "(none)".to_owned());
        let text = format!("{}: {} → {}", field.path, side(&field.from), side(&field.to));
        out.push(Line::new(Sign::None, 2, text));
    }
    match fields.fields.len().saturating_sub(limit) {
        0 if fields.more => out.push(Line::new(Sign::None, 2, "… and possibly more fields")),
        0 => {}
        more => out.push(Line::new(Sign::None, 2, format!("… and {}", count(more, "more field")))),
    }
}

/// What is to be known beside the diffs.
pub(super) fn rest(shown: &Shown, all: bool) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for problem in &shown.problems {
        let kind = if problem.notice { "notice" } else { "problem" };
        out.push(format!("{kind}: {problem}"));
    }
    let limit = if all { usize::MAX } else { MISFITS };
    let new = |was: bool| shown.plan.misfits.iter().filter(move |((_, before), _)| *before == was);
    for ((misfit, _), names) in new(false).take(limit) {
        out.push(format!("does not fit: {}", misfit_line(misfit, names.iter(), all)));
    }
    if let more @ 1.. = new(false).count().saturating_sub(limit) {
        out.push(format!("… and {more} more that do not fit: --all shows them"));
    }
    if all {
        for ((misfit, _), names) in new(true) {
            out.push(format!(
                "does not fit before the change either: {}",
                misfit_line(misfit, names.iter(), all)
            ));
        }
    } else if let old @ 1.. = new(true).count() {
        out.push(format!("{old} more did not fit before the change either: --all shows them"));
    }
    for (reason, (units, names)) in &shown.plan.unknown {
        out.push(format!(
            "not compared: {} in {}: {reason}",
            count(*units, "unit"),
            clusters(names.iter(), all)
        ));
    }
    out
}

fn misfit_line<'a>(
    misfit: &Misfit,
    names: impl ExactSizeIterator<Item = &'a ClusterName>,
    all: bool,
) -> String {
    format!("{misfit}, in {}", clusters(names, all))
}
