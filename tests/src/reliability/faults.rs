//! The faults: what each does while it lasts.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::http::StatusCode;
use rand::Rng;
use rand::rngs::StdRng;

use crate::fleet::Fleet;
use crate::limits::{limit_files, read_only, survives_limits, writable};
use crate::process::Recipe;
use crate::proxy::{Harm, Trouble};

use super::world::CLUSTER;

const SECOND: Duration = Duration::from_secs(1);
/// What the agent can lose: who it is has to be restored by people, by a join token.
const LOSABLE: [&str; 3] = ["desired", "bodies", "memory"];

/// A fault by its name.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    pub name: &'static str,
    /// For people: what is done.
    pub what: &'static str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Between agent and API server, to a share of the requests.
    Trouble(Harm, f64),
    ApiServerKilled,
    AgentKilled,
    Truncated,
    Corrupted,
    ReadOnly,
    Full,
}

const fn fault(name: &'static str, what: &'static str, kind: Kind) -> Fault {
    Fault { name, what, kind }
}

/// All of them.
pub const FAULTS: [Fault; 17] = [
    fault("drop", "3 of 10 requests end with their connection, unsent", Kind::Trouble(Harm::Drop, 0.3)),
    fault(
        "lose-answer",
        "3 of 10 requests are done and never answered",
        Kind::Trouble(Harm::LoseAnswer, 0.3),
    ),
    fault("cut-answer", "3 of 10 answers end in their middle", Kind::Trouble(Harm::CutAnswer, 0.3)),
    fault(
        "delay",
        "each request waits for half a second",
        Kind::Trouble(Harm::Delay(Duration::from_millis(500)), 1.0),
    ),
    fault(
        "storm-429",
        "7 of 10 requests are answered 429",
        Kind::Trouble(Harm::Refuse(StatusCode::TOO_MANY_REQUESTS), 0.7),
    ),
    fault(
        "storm-500",
        "half of the requests are answered 500",
        Kind::Trouble(Harm::Refuse(StatusCode::INTERNAL_SERVER_ERROR), 0.5),
    ),
    fault(
        "watch-cut",
        "each watch breaks within 2 s",
        Kind::Trouble(Harm::CutWatch(SECOND.saturating_mul(2)), 1.0),
    ),
    fault(
        "watch-gone",
        "each watch is told 410 Gone within 2 s",
        Kind::Trouble(Harm::Gone(SECOND.saturating_mul(2)), 1.0),
    ),
    fault("no-bookmarks", "no watch has bookmarks", Kind::Trouble(Harm::NoBookmarks, 1.0)),
    fault(
        "stale-watch",
        "each watch tells everything 3 s late",
        Kind::Trouble(Harm::Lag(SECOND.saturating_mul(3)), 1.0),
    ),
    fault("silent-watch", "open watches tell nothing any more", Kind::Trouble(Harm::Silence, 1.0)),
    fault(
        "api-server-killed",
        "the API server is killed and started again, mid-apply",
        Kind::ApiServerKilled,
    ),
    fault("agent-killed", "the agent is killed (SIGKILL) and started again at random", Kind::AgentKilled),
    fault("state-truncated", "the agent is killed, files of its state are cut at random", Kind::Truncated),
    fault(
        "state-corrupted",
        "the agent is killed, bytes of its state are changed at random",
        Kind::Corrupted,
    ),
    fault("state-read-only", "the agent's state folder takes no writes", Kind::ReadOnly),
    fault("disk-full", "no file of the agent can grow", Kind::Full),
];

/// A fault that lasts.
pub(super) struct Lasting {
    fault: Fault,
    /// How the agent is started where there is no fault.
    recipe: Option<Recipe>,
}

impl Fault {
    /// How long the cluster may need to be right after it; a silent watch is noticed by its lack of bookmarks.
    pub(super) fn limit(&self) -> Duration {
        match self.kind {
            Kind::Trouble(Harm::Silence, _) => Duration::from_secs(240),
            _ => Duration::from_secs(120),
        }
    }

    pub(super) fn begin(self, fleet: &mut Fleet) -> Result<Lasting> {
        let state = fleet.agent_folder(CLUSTER);
        let mut lasting = Lasting { fault: self, recipe: None };
        match self.kind {
            Kind::Trouble(harm, share) => fleet.member(CLUSTER).proxy().trouble(Trouble::new(harm, share)),
            Kind::ReadOnly => lasting.restart_as(fleet, |recipe| read_only(recipe, &state))?,
            Kind::Full => {
                lasting.restart_as(fleet, |recipe| Ok(survives_limits(recipe)))?;
                limit_files(fleet.member(CLUSTER).agent().process(), Some(64 << 10))?;
            }
            _ => {}
        }
        Ok(lasting)
    }
}

impl Lasting {
    fn restart_as(&mut self, fleet: &mut Fleet, change: impl FnOnce(Recipe) -> Result<Recipe>) -> Result<()> {
        let process = fleet.member(CLUSTER).agent().process();
        process.kill();
        let mut changed = Ok(());
        process.change(|recipe| {
            self.recipe = Some(recipe.clone());
            change(recipe.clone()).unwrap_or_else(|error| {
                changed = Err(error);
                recipe
            })
        });
        changed?;
        process.start()
    }

    /// What is done after each commit; `moment` is how long after.
    pub(super) async fn strike(&self, fleet: &mut Fleet, random: &mut StdRng) -> Result<()> {
        tokio::time::sleep(Duration::from_millis(random.random_range(0..500))).await;
        match self.fault.kind {
            Kind::ApiServerKilled => {
                let cluster = fleet.member(CLUSTER).cluster();
                cluster.stop_apiserver()?;
                cluster.start_apiserver().await
            }
            Kind::AgentKilled => fleet.member(CLUSTER).agent().restart(),
            Kind::Truncated | Kind::Corrupted => {
                let state = fleet.agent_folder(CLUSTER);
                let process = fleet.member(CLUSTER).agent().process();
                process.kill();
                for name in LOSABLE {
                    if random.random_bool(0.6) {
                        self.damage(&state.join(name), random)?;
                    }
                }
                process.start()
            }
            Kind::Trouble(..) | Kind::ReadOnly | Kind::Full => Ok(()),
        }
    }

    fn damage(&self, path: &Path, random: &mut StdRng) -> Result<()> {
        // Not every file is there at every moment.
        let Ok(mut bytes) = fs::read(path) else { return Ok(()) };
        if bytes.is_empty() {
            return Ok(());
        }
        if matches!(self.fault.kind, Kind::Truncated) {
            bytes.truncate(random.random_range(0..bytes.len()));
        } else {
            for _ in 0..random.random_range(1..20) {
                let at = random.random_range(0..bytes.len());
                bytes[at] ^= random.random_range(1..=255_u8);
            }
        }
        fs::write(path, bytes).with_context(|| format!("damage {}", path.display()))
    }

    pub(super) fn end(self, fleet: &mut Fleet) -> Result<()> {
        fleet.member(CLUSTER).proxy().heal();
        let state = fleet.agent_folder(CLUSTER);
        if let Some(recipe) = self.recipe {
            let process = fleet.member(CLUSTER).agent().process();
            process.kill();
            process.change(|_| recipe);
            if matches!(self.fault.kind, Kind::ReadOnly) {
                writable(&state)?;
            }
            process.start()?;
        }
        Ok(())
    }
}
