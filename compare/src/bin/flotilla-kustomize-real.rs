//! Finds or builds what ours is compared with, the real kustomize and Flux's own packages, and says what it does. `cargo
//! xtask test` runs it ahead of the comparison: each build takes a minute, and inside a test it would look like a hang.

use flotilla_compare::flux;
use flotilla_compare::gobuild::printed;
use flotilla_compare::real::Real;

fn main() -> anyhow::Result<()> {
    Real::find_or_build(&mut printed(|line: &str| println!("kustomize: {line}")))?;
    flux::find_or_build(&mut printed(|line: &str| println!("flux: {line}")))?;
    Ok(())
}
