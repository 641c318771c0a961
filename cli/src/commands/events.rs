//! `flotilla events`, and reading on in the journal of events.

use clap::Args;
use flotilla_api::Event;
use flotilla_core::{ClusterName, UnitId, UnitKind};

use super::get::ListArgs;
use super::rows::{self, Row};
use super::target::unit_kind;
use crate::Context;
use crate::args::{self, Format};
use crate::client::{Client, EventFilter, Watch};
use crate::error::Error;
use crate::exit::Code;
use crate::output::{self, Table, now};

/// Show what happened, the newest last
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Only events of this cluster, and of the sources that it defines
    #[arg(short, long, value_name = "NAME")]
    cluster: Option<ClusterName>,
    /// Only events of units of this name
    #[arg(long, value_name = "UNIT")]
    unit: Option<UnitId>,
    /// Only events of the unit KIND/NAME, like kustomization/apps, as `flux events` takes it
    #[arg(long = "for", value_name = "KIND/NAME", value_parser = unit_named, conflicts_with = "unit")]
    named: Option<(UnitKind, String)>,
    /// Namespace of the unit that --for names
    #[arg(short, long, default_value = "flux-system", value_name = "NAMESPACE", requires = "named")]
    namespace: String,
    /// What is the case anyway
    #[arg(short = 'A', long, hide = true, conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Only warnings
    #[arg(long)]
    warnings: bool,
    /// Only what is not older
    #[arg(long, value_name = "TIME", value_parser = args::duration)]
    since: Option<u64>,
    /// How many, of the newest
    #[arg(long, default_value_t = 100, value_name = "NUMBER")]
    limit: usize,
    #[command(flatten)]
    list: ListArgs,
}

/// A unit as `flux events --for` names it.
fn unit_named(text: &str) -> Result<(UnitKind, String), String> {
    match text.split_once('/') {
        Some((kind, name)) if !name.is_empty() && !name.contains('/') => {
            let kind = unit_kind(kind).map_err(|why| {
                format!("{why}; `flotilla logs --kind KIND --name NAME` is for sources, `flotilla trace` names the unit of other objects")
            })?;
            Ok((kind, name.to_owned()))
        }
        _ => Err(format!("'{text}' is not of the form KIND/NAME, like kustomization/apps")),
    }
}

/// The time that is so many seconds ago.
pub(super) fn ago(seconds: u64) -> i64 {
    now().saturating_sub(i64::try_from(seconds).unwrap_or(i64::MAX))
}

pub(crate) async fn run(context: &Context, args: EventsArgs) -> Result<Code, Error> {
    let client = context.hub()?;
    let EventsArgs { cluster, unit, named, namespace, all_namespaces: _, warnings, since, limit, list } =
        args;
    let unit = named.map(|(kind, name)| UnitId::new(kind, namespace, name)).or(unit);
    let filter = EventFilter { cluster, unit, since: since.map(ago), warnings, limit };
    let (events, cursor) = client.events(&filter).await?;
    let (terminal, format) = (&context.terminal, list.output.output);
    if !list.watch {
        rows::show(terminal, format, "events", &events)?;
        return Ok(Code::Done);
    }
    let wide = format == Format::Wide;
    let mut table = Table::new(Event::headers(wide));
    let print = |events: &[Event]| {
        let text = match format {
            Format::Table | Format::Wide => {
                events.iter().for_each(|event| table.row(event.cells(wide, now())));
                table.take(terminal.color)
            }
            Format::Json | Format::Yaml => {
                events.iter().map(|event| output::part(format, event)).collect::<Result<_, _>>()?
            }
        };
        if text.is_empty() { Ok(()) } else { terminal.print(&text) }
    };
    follow(context, &client, &filter, (events, cursor), print).await
}

/// Prints events and what comes after them, until the user ends it. What was missed while the connection was lost is read with
/// the cursor; where that is not kept any more, it is said.
pub(super) async fn follow(
    context: &Context,
    client: &Client,
    filter: &EventFilter,
    (events, mut cursor): (Vec<Event>, String),
    mut print: impl FnMut(&[Event]) -> Result<(), Error>,
) -> Result<Code, Error> {
    if cursor.is_empty() {
        return Err(Error::new(Code::Refused, "the hub gives no cursor from which to follow events")
            .hint("it is older than this CLI: `flotilla version` shows both"));
    }
    print(&events)?;
    let mut watch = Watch::start(client, &context.terminal).await?;
    loop {
        let newer = client.events_after(filter, &cursor).await;
        let (events, next) = match newer {
            // Nothing else is refused of what was good at first.
            Err(error) if error.code() == Code::Refused => {
                context.terminal.warn(&format!("events may be missing: {}", error.chain()));
                client.events(filter).await?
            }
            // These pass by themselves, and the watch tells when.
            Err(error) if matches!(error.code(), Code::Unreachable | Code::HubFailed) => (Vec::new(), cursor),
            newer => newer?,
        };
        cursor = next;
        if !events.is_empty() {
            print(&events)?;
        }
        watch.changed().await?;
    }
}
