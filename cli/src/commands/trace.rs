//! `flotilla trace`

use clap::Args;
use flotilla_core::ClusterName;
use serde::Serialize;

use crate::Context;
use crate::args::Format;
use crate::error::Error;
use crate::exit::Code;
use crate::offline::{RepoArgs, Trace};
use crate::output::{Cell, Table, Tone};

/// Say where an object comes from: file, unit, source and revision
///
/// Reads a folder, without a hub. Objects are named as kubectl names them; units and sources by their Flux kind:
/// kustomization/apps, gitrepository/team.
#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    /// KIND/NAME, or KIND NAME; a kind may have its group, like deployment.apps
    #[arg(value_name = "KIND/NAME", required = true, num_args = 1..=2)]
    object: Vec<String>,
    /// Only in this namespace
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Name of the cluster
    #[arg(short, long, value_name = "NAME")]
    cluster: ClusterName,
    #[command(flatten)]
    repo: RepoArgs,
    /// Form of the output
    #[arg(short, long, value_enum, value_name = "FORM", default_value = "table")]
    output: Format,
}

#[derive(Serialize)]
struct Shown<'a> {
    cluster: String,
    objects: &'a [Trace],
}

pub(crate) fn run(context: &Context, args: TraceArgs) -> Result<Code, Error> {
    let TraceArgs { object, namespace, cluster, repo, output } = args;
    let object = object.join("/");
    let Some((kind, name)) = object
        .split_once('/')
        .filter(|(kind, name)| !kind.is_empty() && !name.is_empty() && !name.contains('/'))
    else {
        let error = Error::usage(format!("'{object}' names no object"));
        return Err(error.hint("write KIND/NAME, like deployment/web; -n NAMESPACE chooses among several"));
    };
    let repo = repo.open()?;
    let rendered = repo.render(&cluster)?;
    let is_it = |trace: &&Trace| {
        trace.is_kind(kind)
            && trace.name == name
            && namespace.as_ref().is_none_or(|wanted| trace.namespace == *wanted)
    };
    let found: Vec<Trace> = rendered.traces.iter().filter(is_it).cloned().collect();
    if found.is_empty() {
        let held = rendered.units.iter().filter(|unit| !unit.reason.is_empty()).count();
        let error = Error::new(Code::NotFound, format!("nothing in cluster {cluster} renders {object}"));
        let hint = match held {
            0 => "`flotilla render -o wide` lists what it renders".to_owned(),
            held => format!("{held} of its units do not render now; `flotilla render -o table` says why"),
        };
        return Err(error.hint(hint));
    }
    let shown = Shown { cluster: cluster.to_string(), objects: &found };
    context.terminal.show(output, &shown, |_| table(&found, context.terminal.color))?;
    Ok(Code::Done)
}

fn table(found: &[Trace], color: bool) -> String {
    let mut table = Table::new(&["OBJECT", "FILE", "UNIT", "DEFINED AT", "SOURCE", "REVISION"]);
    for trace in found {
        table.row(vec![
            Cell::new(trace.object()).tone(Tone::Strong),
            Cell::new(&trace.file),
            Cell::new(&trace.unit),
            Cell::new(&trace.unit_defined_at),
            Cell::new(&trace.source),
            Cell::new(&trace.revision),
        ]);
    }
    table.take(color)
}
