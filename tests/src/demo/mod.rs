//! What `flotilla-demo` does: brings a fleet up, shows it, takes the tour or stays, leaves nothing behind.
//!
//! ```text
//!   setup ──► Fleet ──► tour (--exit): each step verified in the clusters
//!                  └──► guide: tables, what to try ──► until Ctrl-C
//!   steps: a line for each thing done, with its time
//! ```

mod guide;
mod setup;
mod steps;
mod tour;

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::steps::Steps;
use crate::fleet::Fleet;
use crate::process::tail;

/// The clusters of the demo, by the names that `fleet-example/` gives them.
const CLUSTERS: [&str; 2] = ["staging", "production"];

/// A removal waits for the API servers: one that cannot list what is left in a namespace, as a kind of it is being deleted
/// too, tries again after up to a minute.
const REMOVED_WITHIN: Duration = Duration::from_secs(300);
/// The agents' reports on what they deleted come after the API servers are done with it.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(120);
/// Lines of each program's log that are shown where the demo fails.
const LAST_LINES: usize = 30;

/// What the demo is asked to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Take the tour and end, instead of staying.
    pub exit: bool,
    /// Contexts of the user's kubeconfig, in the order of staging, production.
    pub contexts: Option<[String; 2]>,
}

impl Options {
    /// Reads the arguments; `None` asks for help.
    ///
    /// # Errors
    /// The argument that is not understood.
    pub fn read(args: impl IntoIterator<Item = String>) -> Result<Option<Self>> {
        let mut options = Self::default();
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--help" | "-h" => return Ok(None),
                "--exit" => options.exit = true,
                "--contexts" => {
                    options.contexts = Some(two(&args.next().context("--contexts wants two names: A,B")?)?);
                }
                other => match other.strip_prefix("--contexts=") {
                    Some(names) => options.contexts = Some(two(names)?),
                    None => bail!("'{other}' is no argument of the demo"),
                },
            }
        }
        Ok(Some(options))
    }
}

fn two(names: &str) -> Result<[String; 2]> {
    match names.split(',').map(str::trim).collect::<Vec<_>>()[..] {
        [staging, production] if !staging.is_empty() && !production.is_empty() => {
            ensure!(staging != production, "--contexts wants two different contexts, not '{staging}' twice");
            Ok([staging.to_owned(), production.to_owned()])
        }
        _ => bail!("--contexts wants two names with a comma between them, not '{names}'"),
    }
}

/// Runs the demo to its end: the tour's, or a signal's.
///
/// # Errors
/// Whatever did not work. The logs are kept then, and the error says where.
pub async fn run(options: &Options) -> Result<()> {
    let mut signals = Signals::new()?;
    let mut steps = Steps::new();
    let mut fleet = None;
    let outcome = tokio::select! {
        outcome = work(options, &mut steps, &mut fleet) => outcome,
        () = signals.next() => {
            steps.interrupted();
            Ok(())
        }
    };
    let Some(mut fleet) = fleet else { return outcome };
    let tidied = match &options.contexts {
        None => Ok(()),
        // Taking objects out of somebody's clusters takes a while, and people may not want to wait.
        Some(_) => tokio::select! {
            tidied = leave_clusters_clean(&fleet, &mut steps) => tidied,
            () = signals.next() => Err(anyhow::anyhow!("interrupted: objects of the demo may be left")),
        },
    };
    if outcome.is_err() || tidied.is_err() {
        fleet.keep_folder();
        show_logs(&mut fleet);
        eprintln!("\nlogs are kept in {}", fleet.folder().display());
    }
    outcome.and(tidied)
}

async fn work(options: &Options, steps: &mut Steps, fleet: &mut Option<Fleet>) -> Result<()> {
    setup::bring_up(options, steps, fleet).await?;
    let fleet = fleet.as_mut().context("the fleet is up")?;
    guide::tables(fleet).await?;
    if options.exit {
        tour::take(fleet, steps).await
    } else {
        guide::what_next(fleet, options)?;
        std::future::pending().await
    }
}

/// Shows what the hub and the agents said last.
fn show_logs(fleet: &mut Fleet) {
    let mut logs = vec![("the hub".to_owned(), fleet.hub().log())];
    for name in fleet.names() {
        let log = fleet.member(&name).agent().log();
        logs.push((format!("the agent of {name}"), log));
    }
    for (program, log) in logs {
        let log = log.unwrap_or_else(|error| format!("{error:#}"));
        eprintln!("\nlast lines of {program}:\n{}", tail(&log, LAST_LINES));
    }
}

/// Removes what the demo made in clusters that stay.
async fn leave_clusters_clean(fleet: &Fleet, steps: &mut Steps) -> Result<()> {
    for name in fleet.names() {
        let pruned = async {
            fleet
                .cli_within(REMOVED_WITHIN, &["cluster", "delete", &name, "--prune", "--confirm", &name])
                .await?;
            let gone = crate::wait::eventually(FORGOTTEN_WITHIN, || async {
                let left = fleet.clusters().await?.remove(&name).filter(|it| it.enrolled_at.is_some());
                ensure!(left.is_none(), "the hub still knows it: {left:?}");
                anyhow::Ok(())
            });
            Ok(gone.await?)
        };
        steps.run(&format!("remove the demo's objects from {name}"), pruned).await?;
    }
    Ok(())
}

/// Ctrl-C, and what a system sends to end a program.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let listen = |kind| signal(kind).context("listen for signals");
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str]) -> Result<Option<Options>> {
        Options::read(args.iter().map(|&arg| arg.to_owned()))
    }

    #[test]
    fn arguments_are_read() {
        let contexts = Some(["a".to_owned(), "b".to_owned()]);
        for (args, expected) in [
            (&[][..], Some(Options::default())),
            (&["--exit"], Some(Options { exit: true, contexts: None })),
            (&["--contexts", "a,b"], Some(Options { exit: false, contexts: contexts.clone() })),
            (&["--contexts=a, b", "--exit"], Some(Options { exit: true, contexts })),
            (&["--help"], None),
        ] {
            assert_eq!(read(args).unwrap(), expected, "{args:?}");
        }
        for args in
            [&["--contexts"][..], &["--contexts", "a"], &["--contexts", "a,a"], &["--contexts=a,"], &["-x"]]
        {
            read(args).unwrap_err();
        }
    }
}
