//! The program as people run it: against a hub that answers what a test says, and on folders without any.

mod blame;
mod changes;
mod crds;
mod create;
mod debug;
mod fake;
mod flux;
mod hub;
mod kustomize;
mod offline;
mod plan;
mod promote;
mod sops;
mod unhappy;
mod watch;

use std::process::{Output, Stdio};

use tokio::process::{Child, Command};

/// What a run of the program came to.
#[derive(Debug, PartialEq, Eq)]
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// The program with nothing of this machine's environment.
fn flotilla(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flotilla"));
    command.args(args).env_clear().stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn run(args: &[&str]) -> anyhow::Result<Ran> {
    Ok(flotilla(args).output().await?.into())
}

/// Starts it with its output in pipes.
fn start(args: &[&str]) -> anyhow::Result<Child> {
    Ok(flotilla(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
}
