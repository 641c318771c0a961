//! Runs the faults of `flotilla_tests::reliability` and prints their table; fails if one of them did harm.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use flotilla_tests::reliability::{FAULTS, Fault, measure, table};

struct Options {
    faults: Vec<Fault>,
    runs: u32,
    seconds: Option<u64>,
    seed: u64,
    write: Option<String>,
}

fn read(args: impl IntoIterator<Item = String>) -> Result<Options> {
    let mut options = Options { faults: Vec::new(), runs: 3, seconds: None, seed: 1, write: None };
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} wants a value"));
        let number = |text: String| text.parse::<u64>().with_context(|| format!("'{text}' is not a number"));
        match arg.as_str() {
            "--runs" => options.runs = u32::try_from(number(value()?)?).context("--runs")?,
            "--seconds" => options.seconds = Some(number(value()?)?),
            "--seed" => options.seed = number(value()?)?,
            "--write" => options.write = Some(value()?),
            name => match FAULTS.iter().find(|fault| fault.name == name) {
                Some(fault) => options.faults.push(*fault),
                None => {
                    let names: Vec<&str> = FAULTS.iter().map(|fault| fault.name).collect();
                    bail!(
                        "no fault '{name}'; there are: {}; options: --runs N, --seconds N, --seed N, --write FILE",
                        names.join(", ")
                    );
                }
            },
        }
    }
    if options.faults.is_empty() {
        options.faults = FAULTS.to_vec();
    }
    Ok(options)
}

/// The file with its table replaced: everything from its first line of one on.
fn with_table(old: &str, table: &str) -> String {
    let (head, before) = old.find("\n| fault |").map_or((old, ""), |at| old.split_at(at + 1));
    let rest = before.split_once("|\n\n").map_or("", |(_, rest)| rest);
    let gap = if head.ends_with("\n\n") || head.is_empty() { "" } else { "\n" };
    let rest = if rest.is_empty() { String::new() } else { format!("\n{rest}") };
    format!("{head}{gap}{table}{rest}")
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let options = read(std::env::args().skip(1))?;
    let rows = measure(&options.faults, options.runs, options.seconds, options.seed).await?;
    let table = table(&rows);
    print!("{table}");
    if let Some(path) = options.write {
        let old = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        std::fs::write(&path, with_table(&old, &table)).with_context(|| format!("write {path}"))?;
    }
    let right = rows.iter().all(|row| row.failures.is_empty());
    Ok(if right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_name_faults_and_numbers() {
        let line = |line: &str| read(line.split_whitespace().map(str::to_owned));
        let options = line("drop --runs 7 --seconds 3 delay").unwrap();
        assert_eq!((options.runs, options.seconds), (7, Some(3)));
        assert_eq!(options.faults.iter().map(|it| it.name).collect::<Vec<_>>(), ["drop", "delay"]);
        assert_eq!(line("").unwrap().faults.len(), FAULTS.len());
        for wrong in ["dropp", "--runs", "--runs x"] {
            assert!(line(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_table_replaces_the_one_before_and_nothing_else() {
        let old = "# Title\n\nWords.\n\n| fault | x |\n|---|---|\n| a | b |\n\nMore words.\n\n| other | z |\n|---|---|\n| e | f |\n\nLast words.\n";
        let more = "More words.\n\n| other | z |\n|---|---|\n| e | f |\n\nLast words.\n";
        let new = "| fault | y |\n|---|---|\n| c | d |\n";
        assert_eq!(with_table(old, new), format!("# Title\n\nWords.\n\n{new}\n{more}"));
        assert_eq!(with_table("# Title\n", new), format!("# Title\n\n{new}"));
    }
}
