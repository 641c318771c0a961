//! The parts of a long command: each says what it does, how it ended and how long it took.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::workspace;

/// How a part ended.
struct Part {
    name: &'static str,
    ok: bool,
    took: Duration,
    note: String,
}

/// The parts so far, in order.
#[derive(Default)]
pub(crate) struct Parts {
    parts: Vec<Part>,
    /// How many tests were left out, by what the machine lacks.
    left_out: BTreeMap<String, usize>,
}

impl Parts {
    /// Runs a part; its result is a note for the table. A failure is printed and kept: the parts after it still run.
    /// Returns whether it went well.
    pub(crate) fn run(
        &mut self,
        name: &'static str,
        what: &str,
        part: impl FnOnce() -> anyhow::Result<String>,
    ) -> bool {
        println!("\n== {name}: {what}");
        let started = Instant::now();
        let (ok, note) = match part() {
            Ok(note) => (true, note),
            Err(error) => {
                println!("{name}: {error:#}");
                (false, error.to_string().lines().next().unwrap_or_default().to_owned())
            }
        };
        let took = started.elapsed();
        println!("== {name}: {} in {:.1} s", if ok { "ok" } else { "FAILED" }, took.as_secs_f64());
        self.parts.push(Part { name, ok, took, note });
        ok
    }

    /// Takes what tests noted that did not run, a line each: what the machine lacks, a tab, which test.
    pub(crate) fn leave_out(&mut self, lines: impl AsRef<str>) {
        // A test may look for the same thing more than once.
        let lines: BTreeSet<&str> = lines.as_ref().lines().collect();
        for line in lines {
            let lacking = line.split('\t').next().unwrap_or(line);
            *self.left_out.entry(lacking.to_owned()).or_default() += 1;
        }
    }

    /// Prints the table; an error names the parts that failed.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        println!("\n{}", self.table());
        let failed: Vec<_> = self.parts.iter().filter(|part| !part.ok).map(|part| part.name).collect();
        if !failed.is_empty() {
            bail!("failed: {}", failed.join(", "));
        }
        Ok(())
    }

    fn table(&self) -> String {
        let total: Duration = self.parts.iter().map(|part| part.took).sum();
        let mut table = String::new();
        for part in &self.parts {
            let end = if part.ok { "ok" } else { "FAILED" };
            let line =
                format!("{:<12} {end:<6} {:>8.1} s  {}", part.name, part.took.as_secs_f64(), part.note);
            table += line.trim_end();
            table.push('\n');
        }
        table += &format!("{:<12} {:<6} {:>8.1} s", "total", "", total.as_secs_f64());
        for (lacking, tests) in &self.left_out {
            let tests = if *tests == 1 { "1 test".to_owned() } else { format!("{tests} tests") };
            table += &format!("\nLEFT OUT     {tests}, as there is no {lacking}");
        }
        table
    }
}

/// Runs a command whose output goes where ours goes.
pub(crate) fn command(mut command: Command) -> anyhow::Result<String> {
    let shown = workspace::shown(&command);
    let status = command.status().with_context(|| format!("cannot run `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(String::new())
}

/// Runs a `cargo test`, passes its output on as it comes and returns the sum of its closing lines.
pub(crate) fn tests(mut command: Command) -> anyhow::Result<String> {
    let shown = workspace::shown(&command);
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot run `{shown}`"))?;
    let stdout = child.stdout.take().context("cargo has no stdout")?;
    let mut counts = Counts::default();
    let mut out = std::io::stdout().lock();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.with_context(|| format!("cannot read what `{shown}` prints"))?;
        out.write_all(&line).and_then(|()| out.write_all(b"\n")).context("cannot print")?;
        counts.add(&String::from_utf8_lossy(&line));
    }
    drop(out);
    let status = child.wait().with_context(|| format!("cannot wait for `{shown}`"))?;
    if !status.success() {
        bail!("{counts}; `{shown}` failed ({status})");
    }
    Ok(counts.to_string())
}

/// The sum over the closing lines of `cargo test`, one for each test binary.
#[derive(Default, Debug, PartialEq)]
struct Counts {
    passed: u32,
    failed: u32,
    ignored: u32,
}

impl Counts {
    /// Adds `test result: ok. 3 passed; 0 failed; 1 ignored; …`; any other line adds nothing.
    fn add(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for count in counts.split("; ") {
            let Some((number, of)) = count.split_once(' ') else { continue };
            let Ok(number) = number.parse::<u32>() else { continue };
            match of {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.ignored > 0 {
            write!(f, ", {} ignored", self.ignored)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_add_up() {
        let mut counts = Counts::default();
        for line in [
            "running 3 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: FAILED. 39 passed; 2 failed; 0 ignored; 0 measured; 7 filtered out; finished in 1s",
            "test tidy ... ok",
        ] {
            counts.add(line);
        }
        assert_eq!(counts, Counts { passed: 42, failed: 2, ignored: 1 });
        assert_eq!(counts.to_string(), "42 passed, 2 failed, 1 ignored");
    }

    #[test]
    fn a_failed_part_does_not_stop_the_next_and_fails_the_whole() {
        let mut parts = Parts::default();
        assert!(!parts.run("first", "fails", || bail!("because\nof this")));
        assert!(parts.run("second", "goes on", || Ok("7 passed, 0 failed".to_owned())));
        let table = parts.table();
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[0].starts_with("first        FAILED") && lines[0].ends_with(" s  because"), "{table}");
        assert!(
            lines[1].starts_with("second       ok") && lines[1].ends_with("7 passed, 0 failed"),
            "{table}"
        );
        assert!(lines[2].starts_with("total"), "{table}");
        assert_eq!(parts.finish().unwrap_err().to_string(), "failed: first");
    }

    #[test]
    fn tests_that_are_left_out_are_counted_by_what_is_lacking() {
        let mut parts = Parts::default();
        parts
            .leave_out("shared/flux-crds\ta::b\nshared/flux-crds\ta::c\nsshd\tssh\nshared/flux-crds\ta::c\n");
        let table = parts.table();
        let (_, end) = table.split_once('\n').unwrap();
        assert_eq!(
            end,
            "LEFT OUT     2 tests, as there is no shared/flux-crds\nLEFT OUT     1 test, as there is no sshd"
        );
    }

    #[test]
    fn a_command_that_fails_is_named() {
        let mut failing = Command::new("git");
        failing.args(["rev-parse", "--verify", "--quiet", "no-such-revision"]);
        let error = command(failing).unwrap_err().to_string();
        assert!(error.starts_with("`git rev-parse --verify --quiet no-such-revision` failed"), "{error}");
    }
}
