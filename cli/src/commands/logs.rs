//! `flotilla logs`: what happened, line by line, as `flux logs` shows it.

use clap::{Args, ValueEnum};
use flotilla_api::Event;
use flotilla_core::{ClusterName, UnitId, UnitKind};

use super::events;
use crate::Context;
use crate::args::{self, Format};
use crate::client::EventFilter;
use crate::error::Error;
use crate::exit::Code;
use crate::output::{self, clean, date};

/// The hub's longest list.
const MOST: usize = 5000;

/// Show what happened to units and sources, the newest last
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Only of this cluster, and of the sources that it defines
    #[arg(short, long, value_name = "NAME")]
    cluster: Option<ClusterName>,
    /// Only of objects of this kind, like Kustomization, HelmRelease or GitRepository
    #[arg(long)]
    kind: Option<String>,
    /// Only of objects of this name
    #[arg(long)]
    name: Option<String>,
    /// Only of objects in this namespace
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// What is the case anyway
    #[arg(short = 'A', long, hide = true, conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Go on with what happens, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Only what is not older
    #[arg(long, value_name = "TIME", value_parser = args::duration)]
    since: Option<u64>,
    /// Start with this many of the newest
    #[arg(long, value_name = "NUMBER")]
    tail: Option<usize>,
    /// How grave it has to be
    #[arg(long, value_enum, value_name = "LEVEL", default_value_t)]
    level: Level,
    /// Form of the output; JSON comes as a line for each event
    #[arg(short, long, value_enum, value_name = "FORM", default_value_t)]
    output: Form,
}

/// As Flux's controllers log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Level {
    Debug,
    #[default]
    Info,
    Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Form {
    #[default]
    Text,
    Json,
}

pub(crate) async fn run(context: &Context, args: LogsArgs) -> Result<Code, Error> {
    let client = context.hub()?;
    let since = args.since.map(events::ago);
    let filter = EventFilter { cluster: args.cluster.clone(), since, limit: MOST, ..EventFilter::default() };
    let (mut found, cursor) = client.events(&filter).await?;
    found.retain(|event| is_meant(event, &args));
    if let Some(tail) = args.tail {
        found.drain(..found.len().saturating_sub(tail));
    }
    let print = |events: &[Event]| print(context, &args, events);
    if args.follow {
        return events::follow(context, &client, &filter, (found, cursor), print).await;
    }
    print(&found)?;
    if found.is_empty() {
        context.terminal.note("nothing happened that was asked for");
    }
    Ok(Code::Done)
}

fn is_meant(event: &Event, args: &LogsArgs) -> bool {
    let subject = Subject::of(event);
    (event.warning || args.level != Level::Error)
        && args.kind.as_ref().is_none_or(|kind| subject.kind.eq_ignore_ascii_case(kind))
        && args.name.as_ref().is_none_or(|name| subject.name == *name)
        && args.namespace.as_ref().is_none_or(|namespace| subject.namespace == *namespace)
}

/// The Flux object that something happened to.
struct Subject {
    kind: String,
    namespace: String,
    name: String,
}

impl Subject {
    fn of(event: &Event) -> Self {
        match (event.unit.parse::<UnitId>(), &event.object) {
            (Ok(unit), _) => {
                let kind = if unit.kind == UnitKind::HelmRelease { "HelmRelease" } else { "Kustomization" };
                let name = if unit.kind == UnitKind::Root { "root".to_owned() } else { unit.name.clone() };
                Self { kind: kind.to_owned(), namespace: unit.namespace.clone(), name }
            }
            (Err(_), Some(object)) => Self {
                kind: object.kind.clone(),
                namespace: object.namespace.clone(),
                name: object.name.clone(),
            },
            (Err(_), None) => {
                Self { kind: String::new(), namespace: String::new(), name: event.unit.clone() }
            }
        }
    }
}

fn print(context: &Context, args: &LogsArgs, events: &[Event]) -> Result<(), Error> {
    let meant = events.iter().filter(|event| is_meant(event, args));
    let text = meant.map(|event| match args.output {
        Form::Text => Ok(line(event)),
        Form::Json => output::part(Format::Json, event),
    });
    let text: String = text.collect::<Result<_, _>>()?;
    if text.is_empty() { Ok(()) } else { context.terminal.print(&text) }
}

/// `TIME LEVEL [CLUSTER] KIND/NAME.NAMESPACE - REASON: MESSAGE`
fn line(event: &Event) -> String {
    let Subject { kind, namespace, name } = Subject::of(event);
    let namespace = if namespace.is_empty() { String::new() } else { format!(".{namespace}") };
    let level = if event.warning { "error" } else { "info" };
    let cluster = if event.cluster.is_empty() { String::new() } else { format!("{} ", event.cluster) };
    let object = match &event.object {
        Some(object) if !event.unit.is_empty() => format!("{object}: "),
        _ => String::new(),
    };
    let text = format!(
        "{} {level} {cluster}{kind}/{name}{namespace} - {}: {object}{}",
        date(event.at),
        event.reason,
        event.message
    );
    format!("{}\n", clean(&text))
}

#[cfg(test)]
mod tests {
    use flotilla_api::ObjectId;

    use super::*;

    #[test]
    fn lines_are_like_those_of_flux() {
        let object = |kind: &str, name: &str| {
            Some(ObjectId {
                kind: kind.into(),
                namespace: "a".into(),
                name: name.into(),
                ..ObjectId::default()
            })
        };
        let event = |cluster: &str, unit: &str, object, warning| Event {
            cluster: cluster.into(),
            at: 1_785_585_600,
            unit: unit.into(),
            object,
            warning,
            reason: "Applied".into(),
            message: "it\nis".into(),
            ..Event::default()
        };
        for (event, expected) in [
            (
                event("edge", "flux-system/apps", None, false),
                "info edge Kustomization/apps.flux-system - Applied: it is",
            ),
            (
                event("edge", "helmrelease/a/web", object("Service", "web"), true),
                "error edge HelmRelease/web.a - Applied: Service a/web: it is",
            ),
            (event("edge", "root", None, false), "info edge Kustomization/root - Applied: it is"),
            (
                event("", "", object("GitRepository", "team"), true),
                "error GitRepository/team.a - Applied: it is",
            ),
        ] {
            assert_eq!(line(&event), format!("2026-08-01T12:00:00Z {expected}\n"));
        }
    }
}
