//! The hub's binary.

mod args;
mod budget;
#[cfg(test)]
mod hints;
mod local;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use flotilla_hub::attempts::Attempts;
use flotilla_hub::fleet::{self, FleetConfig, Patience, Releases, Ticks, Worker};
use flotilla_hub::rollout;
use flotilla_hub::serve::{self, StartError};
use flotilla_hub::sources;
use flotilla_hub::state::blocking;
use flotilla_hub::store::backup::{self, BackupError};
use flotilla_hub::store::secrets::SECRETS;
use flotilla_hub::store::{DiskStore, Store, StoreError};
use flotilla_render::helm::{Limits, Program};
use flotilla_runtime::chain;
use flotilla_runtime::files::FileError;
use flotilla_runtime::tasks::Policy;
use flotilla_runtime::tls::{Clock, install_crypto};
use flotilla_runtime::{Signals, Tasks, telemetry};
use flotilla_source::{GitRepo, OpenError, RefPusher};

use args::{ArgsError, CaCommand, Cli, Command, RunArgs};

/// How long tasks may take to end after a signal.
const GRACE: Duration = Duration::from_secs(10);

/// How long threads that block may take to end after that.
const LAST_WAIT: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Args(#[from] ArgsError),
    #[error("the hub cannot start")]
    Start(#[from] StartError),
    #[error("the hub cannot open its clone of the fleet repo")]
    Repo(#[from] OpenError),
    #[error("cannot catch signals")]
    Signals(#[source] std::io::Error),
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Local(#[from] local::LocalError),
    #[error("cannot start the runtime")]
    Runtime(#[source] std::io::Error),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = telemetry::init(&cli.log) {
        eprintln!("flotilla-hub: {}", chain(&error));
        return ExitCode::FAILURE;
    }
    install_crypto();
    match run(cli.command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("flotilla-hub: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<u8, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::Runtime)?;
    match command {
        Command::Run(args) => {
            let code = runtime.block_on(serve(*args));
            // What still blocks a thread (a render, a fetch, a disk that does not answer) is not waited for: whatever was
            // acknowledged is on disk.
            runtime.shutdown_timeout(LAST_WAIT);
            code
        }
        Command::Backup { data, file } => {
            runtime.block_on(take_backup(&data.data, &file))?;
            Ok(0)
        }
        Command::Restore { data, file } => {
            let restored = backup::restore(&file, &data.data, now())?;
            println!(
                "restored {} records and {} files of the backup of {} into {}; {} join tokens are void",
                restored.records,
                restored.files,
                time(restored.made_at),
                data.data.display(),
                restored.dropped_tokens
            );
            println!("what was revoked after that backup has to be revoked again");
            Ok(0)
        }
        Command::AdminToken { data } => {
            println!("{}", local::admin_token(&data.data)?);
            Ok(0)
        }
        Command::Ca { data, command } => {
            let answer = runtime.block_on(async {
                match command {
                    CaCommand::Status => local::get(&data.data, "/api/v1/ca").await,
                    CaCommand::Rotate => local::post(&data.data, "/api/v1/ca/rotate", "").await,
                    CaCommand::Finish { force } => {
                        let body = serde_json::json!({ "force": force }).to_string();
                        local::post(&data.data, "/api/v1/ca/finish", &body).await
                    }
                }
            })?;
            println!("{}", String::from_utf8_lossy(&answer));
            Ok(0)
        }
        Command::Version => {
            println!("flotilla-hub {}", env!("CARGO_PKG_VERSION"));
            Ok(0)
        }
    }
}

/// Says which helm renders charts, and what keeps it from doing anything else.
fn introduced(helm: Program) -> Program {
    match helm.version() {
        Ok(version) => tracing::info!(%version, in_force = %helm.in_force(), "charts are rendered by helm"),
        Err(error) => tracing::warn!("charts cannot be rendered: {error}"),
    }
    if let Some(faults) = helm.faults() {
        tracing::warn!("{faults}; charts are rendered by it only with --allow-vulnerable-helm");
    }
    helm
}

async fn serve(args: RunArgs) -> Result<u8, Error> {
    let signals = Signals::install().map_err(Error::Signals)?;
    let tasks = Tasks::new();
    let spec = args.git_spec()?;
    let push_spec = args.push_refs.then(|| spec.clone());
    let serving = serve::start(&args.data.data, args.options()?, tasks.clone(), Clock::system()).await?;
    let hub = serving.hub;
    // The store is this process's by now: nobody else's marks are taken for those of a dead one.
    let folder = args.data.data.clone();
    let attempts = blocking(move || Attempts::open(&folder)).await?;
    let config = FleetConfig {
        path: args.path.clone(),
        clusters: args.clusters_path.clone(),
        poll_interval: Duration::from_secs(args.poll_interval),
        patience: Patience { deadline: Duration::from_secs(args.cluster_timeout), ..Patience::default() },
        budget: args.budget.budget(),
        strict: args.strict_substitution,
        change_policy: args.change_policy(),
        attempts: attempts.clone(),
    };
    let clone = args.data.data.join(flotilla_hub::store::backup::REPO_FOLDER);
    let repo = blocking(move || GitRepo::open(clone, spec)).await?;
    let store: &Arc<dyn Store> = hub.records.store();
    let helm = Program::new(&args.helm, Limits::default());
    let helm = if args.allow_vulnerable_helm { helm } else { helm.safe_only() };
    let helm = blocking(move || Ok::<_, Error>(introduced(helm))).await?;
    let releases = Arc::new(Releases::open(&args.data.data, Box::new(helm), hub.vault.clone())?);
    // What a projection reads apart from Git.
    let ticks = Ticks {
        facts: ["known/", "suspended/", "kubernetes/", "told/"].map(|prefix| store.watch(prefix)).to_vec(),
        reports: vec![hub.changes.ticks(), hub.rollouts.changes()],
        secrets: vec![store.watch(SECRETS)],
        others: vec![hub.sources.changes(), releases.changes()],
    };
    let helm_loop = fleet::helm::run(releases.clone(), tasks.shutdown().clone());
    tasks.spawn("helm", Policy::ESSENTIAL, helm_loop);
    let sources = hub.sources.clone();
    let (board, ledger, metrics) = (hub.board.clone(), hub.records.clone(), hub.metrics.clone());
    let worker = Worker::new(config, repo, releases, sources, board, ledger, metrics);
    let worker = worker.with_rollouts(hub.rollouts.clone());
    let fleet_loop = fleet::run(worker, hub.fleet.clone(), ticks, tasks.shutdown().clone());
    tasks.spawn("fleet", Policy::ESSENTIAL, fleet_loop);
    let fetch_loop = sources::run(hub.sources.clone(), attempts.clone(), tasks.shutdown().clone());
    tasks.spawn("sources", Policy::ESSENTIAL, fetch_loop);
    let key_loop = sources::run_key_services(hub.sources.clone(), tasks.shutdown().clone());
    tasks.spawn("key-services", Policy::ESSENTIAL, key_loop);
    let reach = hub.settings.sources.policy.reach.clone();
    let check_loop = rollout::checks::run(hub.rollouts.clone(), reach, tasks.shutdown().clone());
    tasks.spawn("checks", Policy::ESSENTIAL, check_loop);
    if let Some(spec) = push_spec {
        let folder = args.data.data.join(backup::REFS_FOLDER);
        let pusher = Arc::new(blocking(move || RefPusher::open(folder, spec)).await?);
        let refs_loop = rollout::refs::run(hub.rollouts.clone(), pusher, tasks.shutdown().clone());
        tasks.spawn("refs", Policy::ESSENTIAL, refs_loop);
    }
    let report = tasks.run(signals, GRACE).await;
    attempts.close();
    Ok(u8::try_from(report.exit_code()).unwrap_or(1))
}

/// From the store, or from the hub that has it open.
async fn take_backup(data: &std::path::Path, file: &std::path::Path) -> Result<(), Error> {
    let store = {
        let path = data.join(backup::STORE_FOLDER);
        if !flotilla_runtime::files::is_there(&path)? {
            return Err(Error::Args(ArgsError::NoHub(data.to_owned())));
        }
        blocking(move || DiskStore::open(&path)).await
    };
    match store {
        Ok(store) => {
            let (folder, target) = (data.to_owned(), file.to_owned());
            let version = env!("CARGO_PKG_VERSION");
            let count =
                blocking(move || backup::write_file(&store, &folder, now(), version, &target)).await?;
            println!("wrote {count} records and files to {}", file.display());
        }
        Err(StoreError::InUse(_)) => {
            let bytes = local::get(data, "/api/v1/backup").await?;
            let target = file.to_owned();
            blocking(move || local::write_new(&target, &bytes)).await?;
            println!("wrote the running hub's backup to {}", file.display());
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

fn now() -> i64 {
    flotilla_hub::authority::timestamp(&Clock::system())
}

fn time(at: i64) -> String {
    jiff::Timestamp::from_second(at).map_or_else(|_| at.to_string(), |time| time.to_string())
}
