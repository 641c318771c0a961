//! The rules that no compiler checks: who may use whom, what stays pure, how long files are, which links lead
//! somewhere. A test of this crate holds them, `cargo xtask tidy` shows them with the warnings.

mod code;
mod files;
mod graph;
mod modules;
mod names;

use std::path::Path;

use anyhow::bail;

use crate::workspace;

/// What was found: errors fail the check, warnings are shown.
#[derive(Default, Debug)]
struct Findings {
    errors: Vec<String>,
    warnings: Vec<String>,
}

pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    if let Some(arg) = args.first() {
        bail!("tidy takes no arguments, not '{arg}'");
    }
    println!("{}", report()?);
    Ok(())
}

/// Checks the workspace and prints what is found; returns a summary, or an error where something is not tidy.
pub(crate) fn report() -> anyhow::Result<String> {
    let Findings { errors, warnings } = check(&workspace::root())?;
    for warning in &warnings {
        println!("warning: {warning}");
    }
    for error in &errors {
        println!("error: {error}");
    }
    if !errors.is_empty() {
        bail!("{} errors, {} warnings", errors.len(), warnings.len());
    }
    Ok(format!("tidy, {} warnings", warnings.len()))
}

fn check(root: &Path) -> anyhow::Result<Findings> {
    let mut findings = Findings::default();
    graph::check(&workspace::metadata(true)?, &mut findings);
    files::check(root, &mut findings)?;
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_tidy() {
        let findings = check(&workspace::root()).unwrap();
        assert!(findings.errors.is_empty(), "\n{}", findings.errors.join("\n"));
    }
}
