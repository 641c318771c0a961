//! What a check found, worst first, with what repeats itself counted: a screen says what matters.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use flotilla_api::Problem;
use serde::Serialize;

use crate::output::clean;

/// Of problems of one kind so many are shown; of notices one.
const SHOWN: usize = 3;
/// So many kinds of problems are shown, and of notices.
const KINDS: usize = 8;
/// So many places of one problem are shown.
const PLACES: usize = 3;

/// A problem, and where it shows.
#[derive(Debug, Clone, Serialize)]
pub(in crate::commands) struct Found {
    #[serde(flatten)]
    pub(in crate::commands) problem: Problem,
    /// `CLUSTER` or `CLUSTER/UNIT`; none where it concerns no cluster in particular.
    pub(in crate::commands) concerns: Vec<String>,
}

/// Problems before notices; of each, what concerns the fleet, then what concerns most places, then by file.
pub(in crate::commands) fn sort(problems: &mut [Found]) {
    problems.sort_by_key(|Found { problem, concerns }| {
        let places = if concerns.is_empty() { usize::MAX } else { concerns.len() };
        (problem.notice, std::cmp::Reverse(places), problem.file.clone(), problem.line)
    });
}

/// What problems that differ only in names and numbers have in common.
fn kind(problem: &Problem) -> (bool, String) {
    let is_name = |word: &str| word.contains(['/', '\'', '"', '`', '_']) || word.contains(char::is_numeric);
    let words = problem.field.split_whitespace().chain(problem.message.split_whitespace());
    let words: Vec<&str> = words.map(|word| if is_name(word) { "…" } else { word }).collect();
    (problem.notice, words.join(" "))
}

/// A line for each problem, as compilers write them, and one for where it shows. `all`: nothing is left out.
pub(in crate::commands) fn lines(problems: &[Found], all: bool) -> String {
    let mut groups: Vec<Vec<&Found>> = Vec::new();
    let mut known: BTreeMap<(bool, String), usize> = BTreeMap::new();
    for found in problems {
        let at = *known.entry(kind(&found.problem)).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[at].push(found);
    }
    let mut out = String::new();
    let mut hidden = [Vec::new(), Vec::new()];
    let mut shown = [0, 0];
    for group in groups {
        let is_notice = usize::from(group[0].problem.notice);
        if !all && shown[is_notice] == KINDS {
            hidden[is_notice].push(group.len());
            continue;
        }
        shown[is_notice] += 1;
        let limit = match (all, is_notice) {
            (true, _) => usize::MAX,
            (false, 0) => SHOWN,
            (false, _) => 1,
        };
        group.iter().take(limit).for_each(|found| one(&mut out, found, all));
        if let more @ 1.. = group.len().saturating_sub(limit) {
            let _ = writeln!(out, "  … and {more} more of this kind");
        }
    }
    let left: usize = hidden.iter().flatten().sum();
    if left > 0 {
        let of = |kinds: &[usize], what: &str| match kinds.iter().sum::<usize>() {
            0 => None,
            1 => Some(format!("1 more {what}")),
            more => Some(format!("{more} more {what}s")),
        };
        let parts: Vec<String> =
            [of(&hidden[0], "problem"), of(&hidden[1], "notice")].into_iter().flatten().collect();
        let _ = writeln!(out, "… and {} of other kinds", parts.join(" and "));
    }
    if out.contains('…') && !all {
        out.push_str("`--all` shows every one of them.\n");
    }
    out
}

fn one(out: &mut String, Found { problem, concerns }: &Found, all: bool) {
    let kind = if problem.notice { "notice: " } else { "" };
    let _ = writeln!(out, "{}", clean(&format!("{kind}{problem}")));
    if concerns.is_empty() {
        return;
    }
    let limit = if all { usize::MAX } else { PLACES };
    let more = concerns.len().saturating_sub(limit);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let shown = concerns.iter().take(limit).cloned().collect::<Vec<_>>().join(", ");
    let _ = writeln!(out, "  in {}", clean(&format!("{shown}{more}")));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(notice: bool, file: &str, message: &str, places: usize) -> Found {
        let problem = Problem { file: file.into(), message: message.into(), notice, ..Problem::default() };
        Found { problem, concerns: (0..places).map(|n| format!("c{n}/root")).collect() }
    }

    #[test]
    fn what_repeats_itself_is_counted_and_the_worst_comes_first() {
        let mut problems: Vec<Found> =
            (0..80).map(|n| found(true, "", &format!("HelmRepository/a/r{n} is not fetched"), 1)).collect();
        problems.push(found(false, "b.yaml", "no path 'x'", 1));
        problems.push(found(false, "a.yaml", "broken", 5));
        problems.extend((0..4).map(|n| found(false, "c.yaml", &format!("no path 'y{n}'"), 1)));
        problems.push(found(false, "clusters", "the repository defines no cluster", 0));
        sort(&mut problems);
        assert_eq!(
            lines(&problems, false),
            "clusters: the repository defines no cluster\n\
             a.yaml: broken\n  in c0/root, c1/root, c2/root and 2 more\n\
             b.yaml: no path 'x'\n  in c0/root\n\
             c.yaml: no path 'y0'\n  in c0/root\n\
             c.yaml: no path 'y1'\n  in c0/root\n  … and 2 more of this kind\n\
             notice: HelmRepository/a/r0 is not fetched\n  in c0/root\n  … and 79 more of this kind\n\
             `--all` shows every one of them.\n"
        );
        let all = lines(&problems, true);
        assert_eq!(all.matches("is not fetched").count(), 80);
        assert!(all.contains("c2/root, c3/root, c4/root\n") && !all.contains('…'), "{all}");
    }

    #[test]
    fn kinds_that_are_not_shown_are_counted() {
        const WORDS: [&str; 11] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"];
        let problems: Vec<Found> = WORDS.map(|word| found(false, "x.yaml", word, 0)).to_vec();
        let shown = lines(&problems, false);
        assert!(
            shown.ends_with("… and 3 more problems of other kinds\n`--all` shows every one of them.\n"),
            "{shown}"
        );
        assert_eq!(lines(&problems[..8], false).lines().count(), 8);
    }
}
