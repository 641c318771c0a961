//! `flotilla render`

use clap::Args;
use flotilla_api::{UnitManifests, UnitState};
use flotilla_core::{ClusterName, UnitId};
use serde::Serialize;

use crate::Context;
use crate::args::Format;
use crate::error::Error;
use crate::exit::Code;
use crate::offline::{Rendered, RepoArgs};
use crate::output::{Cell, Table, Tone, clean};

/// Print what a cluster would run, from a folder and without a hub
///
/// Values of Secrets are printed as they stand in the repo. Exits with 3 where something does not render; what
/// does is printed all the same.
#[derive(Debug, Args)]
pub(crate) struct RenderArgs {
    /// Name of the cluster
    #[arg(short, long, value_name = "NAME")]
    cluster: ClusterName,
    /// Only this unit: root, NAMESPACE/NAME or helmrelease/NAMESPACE/NAME
    #[arg(long, value_name = "UNIT")]
    unit: Option<UnitId>,
    #[command(flatten)]
    repo: RepoArgs,
    /// Form of the output; a table lists units and objects
    #[arg(short, long, value_enum, value_name = "FORM", default_value = "yaml")]
    output: Format,
}

#[derive(Serialize)]
struct Shown<'a> {
    cluster: String,
    units: &'a [UnitManifests],
}

pub(crate) fn run(context: &Context, args: RenderArgs) -> Result<Code, Error> {
    let RenderArgs { cluster, unit, repo, output } = args;
    show(context, &cluster, unit.as_ref(), &repo, output)
}

/// Prints a cluster's units, or one of them.
pub(super) fn show(
    context: &Context,
    cluster: &ClusterName,
    unit: Option<&UnitId>,
    repo: &RepoArgs,
    output: Format,
) -> Result<Code, Error> {
    let repo = repo.open()?;
    let mut rendered = repo.render(cluster)?;
    if let Some(unit) = unit {
        let name = unit.to_string();
        if !rendered.units.iter().any(|unit| unit.unit == name) {
            let known: Vec<&str> = rendered.units.iter().map(|unit| unit.unit.as_str()).collect();
            say_problems(context, &rendered);
            return Err(Error::new(Code::NotFound, format!("cluster {cluster} has no unit {name}"))
                .hint(format!("it has {}", known.join(", "))));
        }
        rendered.units.retain(|unit| unit.unit == name);
        rendered.problems.retain(|(of, _)| of.is_none() || of.as_ref() == Some(unit));
    }
    match output {
        Format::Yaml => context.terminal.print(&yaml(&rendered.units))?,
        format => {
            let shown = Shown { cluster: cluster.to_string(), units: &rendered.units };
            context
                .terminal
                .show(format, &shown, |wide| table(&rendered.units, wide, context.terminal.color))?;
        }
    }
    say_problems(context, &rendered);
    match rendered.errors() {
        0 => Ok(Code::Done),
        1 => Err(Error::new(Code::Input, format!("cluster {cluster} has a problem"))),
        count => Err(Error::new(Code::Input, format!("cluster {cluster} has {count} problems"))),
    }
}

/// To stderr, a line each.
pub(super) fn say_problems(context: &Context, rendered: &Rendered) {
    for (unit, problem) in &rendered.problems {
        let unit = unit.as_ref().map(|unit| format!(" ({unit})")).unwrap_or_default();
        let text = format!("{problem}{unit}");
        if problem.notice { context.terminal.note(&text) } else { context.terminal.error(&text) }
    }
}

/// All objects as documents, with a comment where a unit begins.
fn yaml(units: &[UnitManifests]) -> String {
    let mut out = String::new();
    for unit in units {
        if unit.state == UnitState::Held {
            out.push_str(&format!("# {}: held: {}\n", unit.unit, clean(&unit.reason)));
        }
        for (index, object) in unit.objects.iter().enumerate() {
            out.push_str("---\n");
            if index == 0 {
                out.push_str(&format!("# {}\n", unit.unit));
            }
            out.push_str(&flotilla_yaml::write(&flotilla_yaml::Node::from_json(object)));
        }
    }
    out
}

fn table(units: &[UnitManifests], wide: bool, color: bool) -> String {
    if !wide {
        let mut table = Table::new(&["UNIT", "STATE", "OBJECTS", "MESSAGE"]);
        for unit in units {
            let objects = unit.objects.len().to_string();
            table.row(vec![
                Cell::new(&unit.unit).tone(Tone::Strong),
                state(unit),
                objects.into(),
                Cell::new(&unit.reason),
            ]);
        }
        return table.take(color);
    }
    let mut table = Table::new(&["UNIT", "STATE", "API VERSION", "KIND", "NAMESPACE", "NAME"]);
    for unit in units {
        for object in &unit.objects {
            let text = |pointer: &str| {
                Cell::new(object.pointer(pointer).and_then(|v| v.as_str()).unwrap_or_default())
            };
            table.row(vec![
                Cell::new(&unit.unit).tone(Tone::Strong),
                state(unit),
                text("/apiVersion"),
                text("/kind"),
                text("/metadata/namespace"),
                text("/metadata/name"),
            ]);
        }
    }
    table.take(color)
}

fn state(unit: &UnitManifests) -> Cell {
    match unit.state {
        UnitState::Present => Cell::new("Present").tone(Tone::Good),
        UnitState::Held => Cell::new("Held").tone(Tone::Warn),
        UnitState::Removed => Cell::new("Removed").tone(Tone::Note),
    }
}
