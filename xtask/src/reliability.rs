//! `cargo xtask reliability`: a build, then the faults. All of them together write docs/reliability.md.

use crate::{build, demo, needs, workspace};

const TABLE: &str = "docs/reliability.md";

pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    if let Some((name, rest)) = args.split_first()
        && name == "ports"
    {
        return ports(rest);
    }
    needs::check(true)?;
    let packages: Vec<&str> = build::SHIPPED.into_iter().chain([build::TESTS]).collect();
    build::with_progress("building", build::command(&packages, &[]))?;
    let binary =
        workspace::target_dir(&workspace::metadata(false)?)?.join("debug").join("flotilla-reliability");
    demo::replace_by(&binary, &with_table(args))
}

/// Strangers at the hub's ports, so many connections of them; everybody else is to be served within a second.
fn ports(args: &[String]) -> anyhow::Result<()> {
    let connections = args.first().map_or("10000", String::as_str);
    let mut command = workspace::cargo();
    command.env("FLOTILLA_LOAD", connections);
    command.args(["test", "--package", "flotilla-hub", "--test", "hub", "--", "ports::", "--nocapture"]);
    anyhow::ensure!(command.arg("--test-threads=1").status()?.success(), "somebody was held up");
    Ok(())
}

/// A table of some faults is for the screen only.
fn with_table(args: &[String]) -> Vec<String> {
    let mut args = args.to_vec();
    let value = |at: usize| at > 0 && args[at - 1].starts_with("--");
    let named = (0..args.len()).any(|at| !args[at].starts_with("--") && !value(at));
    if !named {
        args.extend(["--write".to_owned(), TABLE.to_owned()]);
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_written_when_no_fault_is_named() {
        for (line, written) in
            [("", true), ("--runs 5 --seconds 9", true), ("drop", false), ("--runs 2 drop", false)]
        {
            let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            assert_eq!(with_table(&args).contains(&TABLE.to_owned()), written, "{line}");
        }
    }
}
