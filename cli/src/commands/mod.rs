//! The commands, a file each.

pub(crate) mod adopt;
pub(crate) mod approve;
pub(crate) mod audit;
pub(crate) mod blame;
pub(crate) mod build;
pub(crate) mod check;
pub(crate) mod cluster;
pub(crate) mod completion;
pub(crate) mod create;
pub(crate) mod debug;
pub(crate) mod diff;
pub(crate) mod events;
pub(crate) mod export;
pub(crate) mod get;
pub(crate) mod help;
pub(crate) mod history;
pub(crate) mod hub;
pub(crate) mod import;
pub(crate) mod init;
pub(crate) mod kustomize;
pub(crate) mod logs;
pub(crate) mod metrics;
pub(crate) mod plan;
pub(crate) mod promote;
pub(crate) mod reconcile;
pub(crate) mod render;
pub(crate) mod resume;
pub(crate) mod rollout;
pub(crate) mod secret;
pub(crate) mod sops;
pub(crate) mod status;
pub(crate) mod suspend;
pub(crate) mod token;
pub(crate) mod trace;
pub(crate) mod tree;
pub(crate) mod uninstall;
pub(crate) mod version;

mod flux_rows;
mod groups;
mod manifest;
mod rows;
mod target;

use crate::Context;
use crate::args::Command;
use crate::error::Error;
use crate::exit::Code;

/// Runs a command; what it found is in the code, what went wrong in the error.
pub(crate) async fn run(context: &Context, command: Command) -> Result<Code, Error> {
    match command {
        Command::Check(args) => check::run(context, args).await,
        Command::Create(command) => create::run(context, command),
        Command::Export(command) => export::run(context, command).await,
        Command::Build(command) => build::run(context, command),
        Command::Get(command) => get::run(context, command).await,
        Command::Events(args) => events::run(context, args).await,
        Command::Logs(args) => logs::run(context, args).await,
        Command::Status(args) => status::run(context, args).await,
        Command::Tree(args) => tree::run(context, args).await,
        Command::Reconcile(args) => reconcile::run(context, args).await,
        Command::Suspend(args) => suspend::run(context, args).await,
        Command::Resume(args) => resume::run(context, args).await,
        Command::Approve(args) => approve::run(context, args).await,
        Command::Rollout(command) => rollout::run(context, command).await,
        Command::Cluster(command) => cluster::run(context, command).await,
        Command::Secret(command) => secret::run(context, command).await,
        Command::Token(command) => token::run(context, command).await,
        Command::Hub(command) => hub::run(context, *command).await,
        Command::Uninstall(command) => uninstall::run(context, command).await,
        Command::Init(args) => init::run(context, args),
        Command::Import(args) => import::run(context, args),
        Command::Render(args) => render::run(context, args),
        Command::Plan(args) => plan::run(context, &args).await,
        Command::Promote(args) => promote::run(context, &args).await,
        Command::Trace(args) => trace::run(context, args),
        Command::Blame(args) => blame::run(context, &args),
        Command::History(args) => history::run(context, args).await,
        Command::Diff(args) => diff::run(context, args).await,
        Command::Kustomize(command) => kustomize::run(context, command).await,
        Command::Audit(args) => audit::run(context, args).await,
        Command::Metrics(args) => metrics::run(context, args).await,
        Command::Debug(command) => debug::run(context, command).await,
        Command::Version(args) => version::run(context, args).await,
        Command::Completion(args) => completion::run(context, args),
        Command::Help(args) => help::run(context, args),
    }
}

/// What the hub said of a change, or our own words where it said nothing.
fn said(done: &flotilla_api::Done, otherwise: &str) -> String {
    if done.message.is_empty() { otherwise.to_owned() } else { done.message.clone() }
}
