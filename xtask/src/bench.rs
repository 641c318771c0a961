//! `cargo xtask bench`: a release build, then the benchmarks. Only their JSON goes to stdout.

use crate::{build, demo, needs, workspace};

pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    needs::check(true)?;
    let packages: Vec<&str> = build::SHIPPED.into_iter().chain([build::TESTS]).collect();
    build::with_progress("building for release", build::command(&packages, &["--release"]))?;
    let binary = workspace::target_dir(&workspace::metadata(false)?)?.join("release").join("flotilla-bench");
    demo::replace_by(&binary, args)
}
