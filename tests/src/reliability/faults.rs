//! The faults: what each does while it lasts.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use axum::http::StatusCode;
use rand::Rng;
use rand::rngs::StdRng;
use rustix::io::Errno;

use crate::clock::FalseClock;
use crate::disk::{DiskFault, FaultyDisk};
use crate::fleet::{Fleet, SOON};
use crate::limits::{limit_files, read_only, survives_limits, writable};
use crate::process::{Process, Recipe};
use crate::proxy::{Harm, Trouble};

use super::world::CLUSTER;

const SECOND: Duration = Duration::from_secs(1);
/// What the agent can lose: who it is has to be restored by people, by a join token.
const LOSABLE: [&str; 3] = ["desired", "bodies", "memory"];
/// What the hub's store is in, below its data folder.
const STORE: &str = "store/records.redb";
/// How far a clock jumps at most, either way.
const JUMP: u64 = 400 * 86_400;

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
    HubKilled,
    HubFull,
    /// The hub's store is cut at random; it says what to do, and that is done.
    HubStoreCut,
    /// A share of what a program does in its folder fails.
    Disk(Who, DiskFault, Strike),
    /// The clock of a program jumps.
    Clock(Who),
}

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Hub,
    Agent,
}

/// What is done to a program beside, after each commit. One that ends by itself is started again in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strike {
    None,
    Kill,
}

impl Who {
    fn process(self, fleet: &mut Fleet) -> &mut Process {
        match self {
            Self::Hub => fleet.hub().process(),
            Self::Agent => fleet.member(CLUSTER).agent().process(),
        }
    }

    fn folder(self, fleet: &Fleet) -> PathBuf {
        match self {
            Self::Hub => fleet.data().to_owned(),
            Self::Agent => fleet.agent_folder(CLUSTER),
        }
    }

    /// As a supervisor does: one that ended is started again.
    fn supervise(self, fleet: &mut Fleet) -> Result<()> {
        let process = self.process(fleet);
        if process.ended()?.is_some() {
            process.kill();
            process.start()?;
        }
        Ok(())
    }
}

const fn disk(error: Errno, percent: u8, operations: &'static str) -> DiskFault {
    DiskFault { error, percent, operations }
}

const fn fault(name: &'static str, what: &'static str, kind: Kind) -> Fault {
    Fault { name, what, kind }
}

/// All of them.
pub const FAULTS: [Fault; 28] = [
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
    fault(
        "state-writes-fail",
        "3 of 10 writes to the agent's state end with EIO",
        Kind::Disk(Who::Agent, disk(Errno::IO, 30, "w"), Strike::None),
    ),
    fault(
        "state-unreadable",
        "the agent is killed, 3 of 10 looks and reads in its state end with EIO",
        Kind::Disk(Who::Agent, disk(Errno::IO, 30, "lr"), Strike::Kill),
    ),
    fault("agent-clock", "the agent's clock jumps by up to 400 days", Kind::Clock(Who::Agent)),
    fault("hub-killed", "the hub is killed (SIGKILL) and started again at random", Kind::HubKilled),
    fault(
        "hub-writes-fail",
        "3 of 10 writes to the hub's data end with EIO",
        Kind::Disk(Who::Hub, disk(Errno::IO, 30, "w"), Strike::None),
    ),
    fault(
        "hub-writes-torn",
        "the hub is killed, 3 of 10 of its writes are done by half and end with EIO",
        Kind::Disk(Who::Hub, disk(Errno::IO, 30, "t"), Strike::Kill),
    ),
    fault("hub-disk-full", "no file of the hub can grow", Kind::HubFull),
    fault(
        "hub-unreadable",
        "the hub is killed, 3 of 10 looks and reads in its data end with EIO",
        Kind::Disk(Who::Hub, disk(Errno::IO, 30, "lr"), Strike::Kill),
    ),
    fault(
        "hub-denied",
        "the hub is killed, 3 of 10 looks at its data end with EACCES",
        Kind::Disk(Who::Hub, disk(Errno::ACCESS, 30, "l"), Strike::Kill),
    ),
    fault(
        "hub-store-cut",
        "the hub is killed, its store is cut at random; it says so, and a backup is restored",
        Kind::HubStoreCut,
    ),
    fault("hub-clock", "the hub's clock jumps by up to 400 days", Kind::Clock(Who::Hub)),
];

/// A fault that lasts.
pub(super) struct Lasting {
    fault: Fault,
    /// How a program is started where there is no fault.
    recipe: Option<(Who, Recipe)>,
    disk: Option<FaultyDisk>,
    clock: Option<FalseClock>,
}

impl Fault {
    /// How long the cluster may need to be right after it; a silent watch is noticed by its lack of bookmarks.
    pub(super) fn limit(&self) -> Duration {
        match self.kind {
            Kind::Trouble(Harm::Silence, _) => Duration::from_secs(240),
            _ => Duration::from_secs(120),
        }
    }

    /// Whether people may get no answer from the hub meanwhile.
    pub(super) fn is_of_the_hub(&self) -> bool {
        match self.kind {
            Kind::Disk(who, ..) | Kind::Clock(who) => who == Who::Hub,
            Kind::HubKilled | Kind::HubFull | Kind::HubStoreCut => true,
            _ => false,
        }
    }

    pub(super) async fn begin(self, fleet: &mut Fleet) -> Result<Lasting> {
        let state = fleet.agent_folder(CLUSTER);
        let mut lasting = Lasting { fault: self, recipe: None, disk: None, clock: None };
        match self.kind {
            Kind::Trouble(harm, share) => fleet.member(CLUSTER).proxy().trouble(Trouble::new(harm, share)),
            Kind::ReadOnly => {
                lasting.restart_as(fleet, Who::Agent, |recipe| read_only(recipe, &state)).await?
            }
            Kind::Full | Kind::HubFull => {
                let who = if matches!(self.kind, Kind::Full) { Who::Agent } else { Who::Hub };
                lasting.restart_as(fleet, who, |recipe| Ok(survives_limits(recipe))).await?;
                limit_files(who.process(fleet), Some(64 << 10))?;
            }
            Kind::Disk(who, fault, _) => {
                let disk = FaultyDisk::new(fleet.folder()).await?;
                lasting.restart_as(fleet, who, |recipe| Ok(disk.worn(recipe))).await?;
                disk.is_worn(who.process(fleet)).await?;
                disk.fail(fault, &who.folder(fleet))?;
                lasting.disk = Some(disk);
            }
            Kind::Clock(who) => {
                let clock = FalseClock::new(fleet.folder()).await?;
                lasting.restart_as(fleet, who, |recipe| Ok(clock.worn(recipe))).await?;
                clock.is_worn(who.process(fleet)).await?;
                lasting.clock = Some(clock);
            }
            _ => {}
        }
        Ok(lasting)
    }
}

impl Lasting {
    async fn restart_as(
        &mut self,
        fleet: &mut Fleet,
        who: Who,
        change: impl FnOnce(Recipe) -> Result<Recipe>,
    ) -> Result<()> {
        let process = who.process(fleet);
        process.kill();
        let mut changed = Ok(());
        process.change(|recipe| {
            self.recipe = Some((who, recipe.clone()));
            change(recipe.clone()).unwrap_or_else(|error| {
                changed = Err(error);
                recipe
            })
        });
        changed?;
        match who {
            Who::Hub => fleet.hub().restart().await,
            Who::Agent => process.start(),
        }
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
            Kind::HubKilled => {
                fleet.hub().process().kill();
                fleet.hub().restart().await
            }
            Kind::HubStoreCut => cut_store(fleet, random).await,
            Kind::Disk(who, _, strike) => {
                if strike == Strike::Kill {
                    who.process(fleet).kill();
                    return who.process(fleet).start();
                }
                who.supervise(fleet)
            }
            Kind::Clock(who) => {
                let jump = Duration::from_secs(random.random_range(0..JUMP));
                let now = SystemTime::now();
                let time = if random.random_bool(0.5) { now + jump } else { now - jump };
                self.clock.as_ref().context("a clock")?.set(time)?;
                who.supervise(fleet)
            }
            Kind::HubFull => Who::Hub.supervise(fleet),
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

    /// Disks and clocks are well again while the program runs; where it ended by itself, or was started with a limit, it is
    /// started again.
    pub(super) async fn end(self, fleet: &mut Fleet) -> Result<()> {
        fleet.member(CLUSTER).proxy().heal();
        let state = fleet.agent_folder(CLUSTER);
        let Some((who, recipe)) = self.recipe else { return Ok(()) };
        let process = who.process(fleet);
        process.change(|_| recipe);
        match (&self.disk, &self.clock) {
            (Some(disk), _) => disk.heal()?,
            (_, Some(clock)) => clock.set_right()?,
            (None, None) => {
                process.kill();
                if matches!(self.fault.kind, Kind::ReadOnly) {
                    writable(&state)?;
                }
                return match who {
                    Who::Hub => fleet.hub().restart().await,
                    Who::Agent => process.start(),
                };
            }
        }
        who.supervise(fleet)
    }
}

/// Cuts the store of a hub that is killed, and does what it says then.
async fn cut_store(fleet: &mut Fleet, random: &mut StdRng) -> Result<()> {
    let (data, folder) = (fleet.data().to_owned(), fleet.folder().to_owned());
    let number: u64 = random.random();
    let backup = folder.join(format!("backup-{number:x}"));
    let path = backup.to_str().context("a path that is text")?;
    fleet.hub().command("backup", path).await?;
    fleet.hub().process().kill();
    let store = data.join(STORE);
    let length = fs::metadata(&store).with_context(|| format!("look at {}", store.display()))?.len();
    let file = fs::File::options().write(true).open(&store).context("open the store")?;
    file.set_len(random.random_range(0..length)).context("cut the store")?;
    let said = fleet.hub().log()?.len();
    fleet.hub().process().start()?;
    fleet.hub().process().wait(SOON).await.context("a hub whose store is cut")?;
    fleet.hub().process().kill();
    let log = fleet.hub().log()?;
    let says = log.get(said..).unwrap_or_default();
    ensure!(says.contains("flotilla-hub restore"), "the hub does not say what to do: {says}");
    fs::rename(&data, folder.join(format!("cut-{number:x}"))).context("set the data folder aside")?;
    fleet.hub().command("restore", path).await?;
    fleet.hub().restart().await
}
