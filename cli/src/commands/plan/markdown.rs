//! A plan as the comment on a pull request: bounded, folded, and with all text from repositories in fences, so that it neither
//! formats nor calls anybody.

use super::Shown;
use super::lines::{Line, Sign, count, guard, head, heading, lines, rest, summary};
use super::stages::schedule;
use crate::output::clean;

/// Whoever keeps a comment up to date finds it by this.
const MARK: &str = "<!-- flotilla plan -->";

/// Of one group, so that the first does not take all the room.
const SHARE: usize = 5;

pub(super) fn comment(shown: &Shown, all: bool, max: usize) -> String {
    let mut out = format!("{MARK}\n### Flotilla plan\n\n{}\n", fence("text", &[summary(shown)], max / SHARE));
    let findings: Vec<String> = shown.plan.guard.iter().map(|finding| guard(finding, all)).collect();
    if !findings.is_empty() {
        out.push_str(&format!(
            "\n**The guard on the change**\n\n{}\n",
            fence("text", &findings, max / SHARE)
        ));
    }
    let section = |title: &str, lines: Vec<String>| match lines.is_empty() {
        true => String::new(),
        false => {
            let lines: Vec<String> = lines.iter().map(|line| clean(line)).collect();
            format!("\n**{title}**\n\n{}\n", fence("text", &lines, max / SHARE))
        }
    };
    let schedule = section("When it happens", schedule(&shown.plan.schedule, all));
    let tail = schedule + &section("Also", rest(shown, all));
    // What is said of what does not fit.
    const CLOSING: usize = 200;
    let room = max.saturating_sub(tail.len() + CLOSING);
    let groups = &shown.plan.groups;
    for (index, group) in groups.iter().enumerate() {
        let marked = |line: &Line| {
            let sign = match line.sign {
                Sign::None => ' ',
                Sign::Added => '+',
                Sign::Removed => '-',
                Sign::Changed => '!',
            };
            format!("{sign} {}{}", "  ".repeat(line.indent), line.text)
        };
        let mut body = vec![format!("  {}", heading(group, all))];
        body.extend(lines(group, all).iter().map(marked));
        let open = if groups.len() == 1 { " open" } else { "" };
        let title = format!("{} in {}", head(group), count(group.clusters.len(), "cluster"));
        let title = format!("\n<details{open}><summary>{title}</summary>\n\n");
        const END: &str = "\n\n</details>\n";
        let left = room.saturating_sub(out.len() + title.len() + END.len());
        // A fence of a few lines is of no use.
        const LEAST: usize = 300;
        if left < LEAST {
            let more = count(groups.len() - index, "more distinct diff");
            out.push_str(&format!("\n… and {more}: `flotilla plan` shows them all.\n"));
            break;
        }
        let share = if groups.len() == 1 { left } else { left.min(max / SHARE).max(LEAST) };
        out.push_str(&format!("{title}{}{END}", fence("diff", &body, share)));
    }
    out.push_str(&tail);
    out
}

/// Lines in a fence that none of them closes, of at most `max` bytes.
fn fence(language: &str, lines: &[String], max: usize) -> String {
    let longest =
        lines.iter().flat_map(|line| line.split(|c| c != '`')).map(str::len).max().unwrap_or_default();
    // A line that is nothing but a longer run would take all the room.
    const RUN: usize = 60;
    let ticks = "`".repeat(longest.clamp(2, RUN) + 1);
    let mut out = format!("{ticks}{language}\n");
    let room = max.saturating_sub(2 * ticks.len() + language.len() + 40);
    let mut used = 0;
    for (index, line) in lines.iter().enumerate() {
        let line = if longest > RUN { line.replace('`', "'") } else { line.clone() };
        used += line.len() + 1;
        if used > room {
            out.push_str(&format!("  … and {}\n", count(lines.len() - index, "more line")));
            break;
        }
        out.push_str(&line);
        out.push('\n');
    }
    out + &ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_a_fence() {
        for (lines, expected) in [
            (vec!["a"], "```text\na\n```"),
            (vec!["```", "</details> @ada"], "````text\n```\n</details> @ada\n````"),
            (vec!["x ```` y"], "`````text\nx ```` y\n`````"),
        ] {
            let lines: Vec<String> = lines.into_iter().map(str::to_owned).collect();
            assert_eq!(fence("text", &lines, 1000), expected);
        }
        let run = fence("text", &["`".repeat(500)], 10_000);
        assert!(
            run.contains(&"'".repeat(500)) && run.starts_with(&format!("{}text", "`".repeat(61))),
            "{run}"
        );
    }

    #[test]
    fn a_fence_keeps_to_its_room() {
        let lines: Vec<String> = (0..1000).map(|n| format!("line {n}")).collect();
        let out = fence("diff", &lines, 500);
        assert!(out.len() <= 500, "{}", out.len());
        assert!(out.contains("more lines\n"), "{out}");
    }
}
