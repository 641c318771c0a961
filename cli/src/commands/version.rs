//! `flotilla version`

use clap::Args;
use serde::Serialize;

use crate::Context;
use crate::args::OutputArgs;
use crate::error::Error;
use crate::exit::Code;

/// Print the versions of this program and of the hub
#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    /// Of this program only; asks no hub
    #[arg(long)]
    client: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Versions {
    client: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hub: Option<String>,
}

pub(crate) async fn run(context: &Context, args: VersionArgs) -> Result<Code, Error> {
    let client = env!("CARGO_PKG_VERSION");
    let mut failed = None;
    let hub = if args.client {
        None
    } else {
        match context.hub() {
            Ok(hub) => hub.status().await.map(|status| status.hub_version).map_err(|e| failed = Some(e)).ok(),
            Err(error) => {
                context.terminal.note(&format!("the hub's version is not known: {}", error.chain()));
                None
            }
        }
    };
    let versions = Versions { client, hub };
    context.terminal.show(args.output.output, &versions, |_| match &versions.hub {
        Some(hub) => format!("flotilla {client}\nhub      {hub}\n"),
        None => format!("flotilla {client}\n"),
    })?;
    failed.map_or(Ok(Code::Done), Err)
}
