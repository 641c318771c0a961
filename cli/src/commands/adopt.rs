//! `flotilla cluster adopt`

use std::fmt::Write as _;

use clap::Args;
use flotilla_api::{Adopt, AdoptAction, AdoptFrom, AdoptedObject, Adoption, AdoptionNote};
use flotilla_core::{ClusterName, Digest};

use crate::Context;
use crate::args::OutputArgs;
use crate::client::Client;
use crate::error::Error;
use crate::exit::Code;
use crate::output::{Tone, clean, paint, visible};

/// Take over what Flux, Helm or kubectl run in a cluster, or give it back
///
/// Without --yes it shows what would be done, by dry runs, and changes nothing. Nothing that runs is deleted or recreated,
/// neither on the way there nor on the way back. What was cut short goes on when it is asked for again.
///
/// Exits with 0 if nothing is left to do, with 1 if something is.
#[derive(Debug, Args)]
pub(crate) struct AdoptArgs {
    /// Name of the cluster
    cluster: ClusterName,
    #[command(flatten)]
    from: FromArgs,
    /// Do it
    #[arg(long)]
    yes: bool,
    /// Only if the plan is still the one that was shown with this digest
    #[arg(long, value_name = "DIGEST", requires = "yes")]
    plan: Option<Digest>,
    /// Give all of it back, and leave it alone from then on
    #[arg(long, conflicts_with = "yes")]
    undo: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct FromArgs {
    /// Kustomizations and HelmReleases of Flux that Git has too, with all that they applied
    #[arg(long)]
    from_flux: bool,
    /// Objects of Git that are of releases of the helm program
    #[arg(long)]
    from_helm: bool,
    /// Objects of Git that people applied or edited with kubectl
    #[arg(long)]
    from_kubectl: bool,
}

impl FromArgs {
    fn from(&self) -> AdoptFrom {
        match (self.from_helm, self.from_kubectl) {
            (true, _) => AdoptFrom::Helm,
            (_, true) => AdoptFrom::Kubectl,
            _ => AdoptFrom::Flux,
        }
    }
}

pub(crate) async fn run(context: &Context, client: &Client, args: AdoptArgs) -> Result<Code, Error> {
    let AdoptArgs { cluster, from, yes, plan, undo, output } = args;
    let action = match (yes, undo) {
        (true, _) => AdoptAction::Apply,
        (_, true) => AdoptAction::Undo,
        _ => AdoptAction::Plan,
    };
    if action != AdoptAction::Plan {
        context.terminal.note("the agent is at it; this may take some minutes");
    }
    let plan = plan.map(|plan| plan.to_string()).unwrap_or_default();
    let adoption = client.adopt(&cluster, &Adopt { from: from.from(), action, plan }).await?;
    let color = context.terminal.color;
    context.terminal.show(output.output, &adoption, |_| text(&adoption, color))?;
    for line in &adoption.next {
        context.terminal.note(line);
    }
    Ok(if adoption.complete { Code::Done } else { Code::Found })
}

/// What people see: owners, what stays, counts, each object that would be other than it is.
fn text(adoption: &Adoption, color: bool) -> String {
    let tone = |tone: Tone| Some(tone).filter(|_| color);
    let mut out = String::new();
    let heading = |out: &mut String, text: &str| {
        let gap = if out.is_empty() { "" } else { "\n" };
        let _ = writeln!(out, "{gap}{}", paint(text, tone(Tone::Strong)));
    };
    if !adoption.owners.is_empty() {
        heading(
            &mut out,
            match adoption.action {
                AdoptAction::Plan => "to be taken over",
                AdoptAction::Apply => "taken over",
                AdoptAction::Undo => "given back",
            },
        );
        for owner in &adoption.owners {
            let unit =
                if owner.unit.is_empty() { String::new() } else { format!(" by {}", clean(&owner.unit)) };
            let _ = writeln!(out, "  {}{unit} ({})", clean(&owner.object), clean(&owner.state));
        }
    }
    let notes = |out: &mut String, title: &str, notes: &[AdoptionNote]| {
        if !notes.is_empty() {
            heading(out, title);
            for note in notes {
                let _ = writeln!(out, "  {}: {}", clean(&note.object), clean(&note.why));
            }
        }
    };
    notes(&mut out, "stays as it is", &adoption.stays);
    let left = match adoption.action {
        AdoptAction::Undo => "not given back",
        AdoptAction::Plan | AdoptAction::Apply => "left alone: not in Git, and without an owner from then on",
    };
    notes(&mut out, left, &adoption.left);
    heading(&mut out, "objects");
    let counts = &adoption.counts;
    let counts = match adoption.action {
        AdoptAction::Undo => vec![(counts.same, "given back")],
        AdoptAction::Plan | AdoptAction::Apply => vec![
            (counts.ours, "Flotilla's already"),
            (counts.same, "taken over as they are"),
            (counts.change, "taken over and changed"),
            (counts.create, "made"),
            (counts.stays, "somebody else's"),
            (counts.refused, "refused"),
            (counts.waiting, "not taken over yet"),
        ],
    };
    let counts: Vec<String> = counts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    let counts = if counts.is_empty() { "none".to_owned() } else { counts.join(", ") };
    let _ = writeln!(out, "  {counts}");
    for object in &adoption.objects {
        one(&mut out, object, color);
    }
    if adoption.more > 0 {
        let _ = writeln!(out, "  and {} more lines", adoption.more);
    }
    out
}

fn one(out: &mut String, object: &AdoptedObject, color: bool) {
    let why = if object.why.is_empty() { String::new() } else { format!(": {}", clean(&object.why)) };
    let tone = match object.what.as_str() {
        "refused" | "waiting" => Tone::Bad,
        _ => Tone::Note,
    };
    let what = paint(&clean(&object.what), Some(tone).filter(|_| color));
    let _ = writeln!(out, "  {what} {} ({}){why}", clean(&object.object), clean(&object.unit));
    for field in &object.fields {
        let value = |value: &Option<String>| value.as_deref().map_or_else(|| "nothing".to_owned(), visible);
        let by =
            field.manager.as_ref().map(|manager| format!(", set by {}", clean(manager))).unwrap_or_default();
        let (found, wanted) = (value(&field.found), value(&field.wanted));
        let _ = writeln!(out, "    {}: {found} -> {wanted}{by}", clean(&field.field));
    }
}
