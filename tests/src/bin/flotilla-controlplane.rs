//! Finds or builds the control plane that scenarios start, and says what it does. `cargo xtask test` runs it ahead
//! of them: the build takes minutes, and inside a test it would look like a hang.

use std::time::{Duration, Instant};

use flotilla_tests::controlplane::{ControlPlane, Progress};

/// How often a build that goes on says so.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

fn main() -> anyhow::Result<()> {
    let mut said: Option<Instant> = None;
    ControlPlane::find_or_build(&mut |progress| match progress {
        Progress::Found(path) => println!("found {}", path.display()),
        Progress::Waiting => println!("another process is building it, waiting"),
        Progress::Downloading => println!("fetching Go modules"),
        Progress::Building { begun, all } => {
            if said.is_none_or(|said| said.elapsed() >= SIGN_OF_LIFE) {
                println!("building: {begun} of {all} packages");
                said = Some(Instant::now());
            }
        }
        Progress::Built { path, took } => println!("built {} in {} s", path.display(), took.as_secs()),
    })?;
    Ok(())
}
