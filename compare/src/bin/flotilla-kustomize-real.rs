//! Finds or builds the real kustomize that ours is compared with, and says what it does. `cargo xtask test` runs it
//! ahead of the comparison: the build takes a minute, and inside a test it would look like a hang.

use flotilla_compare::gobuild::printed;
use flotilla_compare::real::Real;

fn main() -> anyhow::Result<()> {
    Real::find_or_build(&mut printed(|line: &str| println!("{line}")))?;
    Ok(())
}
