//! Finds or builds the control plane that scenarios start, and says what it does. `cargo xtask test` runs it ahead
//! of them: the build takes minutes, and inside a test it would look like a hang.

use flotilla_tests::controlplane::ControlPlane;

fn main() -> anyhow::Result<()> {
    ControlPlane::find_or_build(&mut flotilla_compare::gobuild::printed(|line: &str| println!("{line}")))?;
    Ok(())
}
