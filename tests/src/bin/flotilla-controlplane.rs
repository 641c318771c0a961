//! Finds or builds the control plane and the helm that scenarios start, and says what it does. `cargo xtask test` runs
//! it ahead of them: the builds take minutes, and inside a test they would look like a hang.

use flotilla_tests::controlplane::ControlPlane;
use flotilla_tests::helm;

fn main() -> anyhow::Result<()> {
    ControlPlane::find_or_build(&mut flotilla_compare::gobuild::printed(|line: &str| println!("{line}")))?;
    helm::find_or_build(&mut flotilla_compare::gobuild::printed(|line: &str| println!("{line}")))?;
    Ok(())
}
