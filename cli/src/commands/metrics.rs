//! `flotilla metrics`

use clap::Args;

use crate::Context;
use crate::error::Error;
use crate::exit::Code;

/// Print the hub's metrics, as Prometheus reads them
#[derive(Debug, Args)]
pub(crate) struct MetricsArgs {
    /// Only metrics whose name begins so
    prefix: Option<String>,
}

pub(crate) async fn run(context: &Context, args: MetricsArgs) -> Result<Code, Error> {
    let text = context.hub()?.metrics().await?;
    match args.prefix {
        None => context.terminal.print(&text)?,
        Some(prefix) => {
            let lines = text.lines().filter(|line| line.starts_with(&prefix));
            context.terminal.print(&lines.map(|line| format!("{line}\n")).collect::<String>())?;
        }
    }
    Ok(Code::Done)
}
