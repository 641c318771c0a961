//! What the hub says that it has done, and how much memory it has.

use anyhow::{Context, Result};
use flotilla_tests::fleet::Fleet;

use crate::memory;

/// What the hub has counted since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) rounds: u64,
    pub(crate) builds: u64,
    pub(crate) helm_runs: u64,
    pub(crate) fetches: u64,
}

impl Counts {
    /// # Errors
    /// If the hub does not say, or not in numbers.
    pub(crate) async fn of(fleet: &Fleet) -> Result<Self> {
        let text = fleet.cli(&["metrics", "flotilla_"]).await?;
        let counter = |name: &str| -> Result<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("_total "));
            line.and_then(|value| value.trim().parse().ok())
                .with_context(|| format!("the hub does not count {name}"))
        };
        Ok(Self {
            rounds: counter("flotilla_rounds")?,
            builds: counter("flotilla_builds")?,
            helm_runs: counter("flotilla_helm_runs")?,
            fetches: counter("flotilla_source_fetches")?,
        })
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            rounds: self.rounds - before.rounds,
            builds: self.builds - before.builds,
            helm_runs: self.helm_runs - before.helm_runs,
            fetches: self.fetches - before.fetches,
        }
    }
}

/// The hub's memory in millions of bytes.
pub(crate) struct Resident {
    pub(crate) now: f64,
    /// Of that, its own and its program's pages.
    pub(crate) anonymous: f64,
    pub(crate) file: f64,
    /// The most that it was.
    pub(crate) peak: f64,
}

/// # Errors
/// If the hub does not run.
pub(crate) fn resident(fleet: &mut Fleet) -> Result<Resident> {
    let pid = fleet.hub().process().pid().context("the hub is not running")?;
    let field = |name: &str| memory::megabytes(pid, name);
    let (now, anonymous, file) = (field("VmRSS")?, field("RssAnon")?, field("RssFile")?);
    Ok(Resident { now, anonymous, file, peak: field("VmHWM")? })
}
