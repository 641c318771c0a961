//! `cargo xtask bench`: a release build, then the benchmarks. Only their JSON goes to stdout.

use crate::{build, demo, dist, needs, workspace};

/// The benchmarks of what is shipped, which is built with another profile.
const OF_SHIPPED: [&str; 2] = ["agent-memory", "size"];

pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    needs::check(true)?;
    let packages: Vec<&str> = build::SHIPPED.into_iter().chain([build::TESTS]).collect();
    build::with_progress("building for release", build::command(&packages, &["--release"]))?;
    if wants_shipped(args) {
        dist::build()?;
    }
    let binary = workspace::target_dir(&workspace::metadata(false)?)?.join("release").join("flotilla-bench");
    demo::replace_by(&binary, args)
}

/// Whether a benchmark of what is shipped is among those that are named; all are where none is.
fn wants_shipped(args: &[String]) -> bool {
    let mut names =
        args.iter().filter(|arg| arg.starts_with(|first: char| first.is_ascii_alphabetic())).peekable();
    names.peek().is_none() || names.any(|name| OF_SHIPPED.contains(&name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shipped_is_built_where_it_is_measured() {
        for (line, expected) in [
            ("", true),
            ("--units 20", true),
            ("apply --units 20", false),
            ("wire agent-memory", true),
            ("size", true),
            ("propagate drift --repeats 3", false),
        ] {
            let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            assert_eq!(wants_shipped(&args), expected, "{line}");
        }
    }
}
