//! The agent's binary.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use flotilla_agent::install::{InstallArgs, InstallError, UninstallArgs, install, uninstall};
use flotilla_agent::run::{RunArgs, run};
use flotilla_runtime::chain;
use flotilla_runtime::telemetry::{self, LogArgs};
use flotilla_runtime::tls::install_crypto;

/// Keeps one Kubernetes cluster in the state that its Flotilla hub defines
#[derive(Parser)]
#[command(name = "flotilla-agent", version, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    log: LogArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Join the hub if necessary, and keep the cluster in its desired state until stopped
    Run(RunArgs),
    /// Make the agent a systemd service beside the Kubernetes of this machine, or bring it up to date
    Install(InstallArgs),
    /// Stop and remove the systemd service; what runs in the cluster stays
    Uninstall(UninstallArgs),
}

/// Says what was done.
fn told(done: Result<Vec<String>, InstallError>) -> ExitCode {
    match done {
        Ok(lines) => {
            lines.iter().for_each(|line| println!("{line}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("flotilla-agent: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = telemetry::init(&cli.log) {
        eprintln!("flotilla-agent: {}", chain(&error));
        return ExitCode::FAILURE;
    }
    let args = match cli.command {
        Command::Run(args) => args,
        Command::Install(args) => return told(install(&args)),
        Command::Uninstall(args) => return told(uninstall(&args)),
    };
    install_crypto();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("flotilla-agent: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(args)) {
        Ok(report) => ExitCode::from(u8::try_from(report.exit_code()).unwrap_or(1)),
        Err(error) => {
            eprintln!("flotilla-agent: {}", chain(&error));
            if let Some(hint) = error.hint() {
                eprintln!("  {hint}");
            }
            ExitCode::FAILURE
        }
    }
}
