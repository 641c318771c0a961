//! `flotilla diff`

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use flotilla_api::{
    ConnectionState, DIGESTS_AT_ONCE, FieldDrift, HideSecrets, Manifests, Unit, UnitManifests,
};
use flotilla_core::{ClusterName, ObjectRef, UnitId, UnitKind};
use serde::Serialize;
use serde_json::Value;

use super::render::say_problems;
use super::target::unit_kind;
use crate::Context;
use crate::args::Format;
use crate::client::{Choice, Client};
use crate::diff::{Change, Diff, ObjectDiff, between, blank, is_open_secret};
use crate::error::Error;
use crate::exit::Code;
use crate::offline::{ClustersArgs, Repo};
use crate::output::{Terminal, Tone, clean, paint, visible};

/// Show what would change in a cluster
///
/// With --repo: from what the hub has published for the cluster to what a folder renders to. Without: from what the
/// cluster runs, as its agent reports it, to what the hub has published. Values of Secrets are digests.
///
/// Exits with 0 if nothing differs, with 1 if something does.
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// Only the unit of this kind, kustomization (ks) or helmrelease (hr), and NAME
    #[arg(value_parser = unit_kind, requires = "name", conflicts_with = "unit")]
    kind: Option<UnitKind>,
    /// Name of the unit
    name: Option<String>,
    /// Namespace of the unit
    #[arg(short, long, default_value = "flux-system", value_name = "NAMESPACE", requires = "name")]
    namespace: String,
    /// Name of the cluster
    #[arg(short, long, value_name = "NAME")]
    cluster: ClusterName,
    /// Only this unit: root, NAMESPACE/NAME or helmrelease/NAMESPACE/NAME
    #[arg(long, value_name = "UNIT")]
    unit: Option<UnitId>,
    /// Folder with the fleet repo: as it is now, committed or not
    #[arg(long, value_name = "DIR")]
    repo: Option<PathBuf>,
    #[command(flatten)]
    clusters: ClustersArgs,
    /// Form of the output; a table is the unified diff
    #[arg(short, long, value_enum, value_name = "FORM", default_value_t, hide_default_value = true)]
    output: Format,
}

pub(crate) async fn run(context: &Context, args: DiffArgs) -> Result<Code, Error> {
    let DiffArgs { kind, name, namespace, cluster, unit, repo, clusters, output } = args;
    let unit = kind.zip(name).map(|(kind, name)| UnitId::new(kind, namespace, name)).or(unit);
    match repo {
        Some(folder) => {
            let repo = Repo::open(&folder, &clusters)?;
            let mut rendered = repo.render(&cluster)?;
            let published = match context.hub()?.manifests(&cluster).await {
                Err(error) if error.code() == Code::NotFound => {
                    context
                        .terminal
                        .note(&format!("the hub knows no cluster {cluster} yet: all of it is new"));
                    Manifests::default()
                }
                published => published?,
            };
            if let Some(unit) = &unit {
                let known = published.units.iter().chain(&rendered.units);
                known_unit(&cluster, unit, known.map(|unit| unit.unit.as_str()))?;
            }
            let mut published = published;
            let client = context.hub()?;
            let why = hide_as_the_hub_does(&client, &cluster, &mut published, &mut rendered.units).await?;
            if let Some(why) = why {
                context.terminal.warn(&format!("values of Secrets are not compared: {why}"));
            }
            let mut diff = if rendered.units.is_empty() {
                Diff::default()
            } else {
                between(&published.units, &rendered.units)
            };
            if let Some(unit) = &unit {
                let name = Some(unit.to_string());
                diff.objects.retain(|object| object.from == name || object.to == name);
                diff.unknown.retain(|unknown, _| Some(unknown) == name.as_ref());
                rendered.problems.retain(|(of, _)| of.is_none() || of.as_ref() == Some(unit));
            }
            show(&context.terminal, output, &diff, &diff.objects)?;
            say_problems(context, &rendered);
            for (unit, reason) in &diff.unknown {
                context.terminal.warn(&format!("{unit} is not compared: {reason}"));
            }
            if rendered.errors() > 0 {
                return Err(Error::new(Code::Input, format!("{} does not render whole", folder.display()))
                    .hint("a unit that does not render is held by the hub: what it runs stays"));
            }
            let same = diff.objects.is_empty() && diff.unknown.is_empty();
            Ok(if same { Code::Done } else { Code::Found })
        }
        None => against_cluster(context, &context.hub()?, &cluster, unit.as_ref(), output).await,
    }
}

/// Has the hub hide the values of Secrets that it has published too: only it can make the digests that it shows. Where it does
/// not, they are not compared, and the reason comes back.
pub(super) async fn hide_as_the_hub_does(
    client: &Client,
    cluster: &ClusterName,
    published: &mut Manifests,
    rendered: &mut [UnitManifests],
) -> Result<Option<String>, Error> {
    let id = |object: &Value| ObjectRef::of(object).ok().map(|object| object.id);
    let known: BTreeSet<_> = published.units.iter().flat_map(|unit| &unit.objects).filter_map(id).collect();
    let mut open: Vec<&mut Value> = rendered
        .iter_mut()
        .flat_map(|unit| &mut unit.objects)
        .filter(|object| is_open_secret(object) && id(object).is_some_and(|id| known.contains(&id)))
        .collect();
    let mut from = 0;
    while from < open.len() {
        let batch = batch(&open[from..]);
        let secrets = open[from..from + batch].iter().map(|secret| (**secret).clone()).collect();
        match client.hide_secrets(cluster, &HideSecrets { secrets }).await {
            Ok(hidden) if hidden.secrets.len() == batch => {
                open[from..].iter_mut().zip(hidden.secrets).for_each(|(secret, hidden)| **secret = hidden);
            }
            refused => {
                let why =
                    refused.err().map_or_else(|| "its answer is not whole".to_owned(), |error| error.chain());
                let published = published.units.iter_mut().flat_map(|unit| &mut unit.objects);
                published.chain(rendered.iter_mut().flat_map(|unit| &mut unit.objects)).for_each(blank);
                return Ok(Some(why));
            }
        }
        from += batch;
    }
    Ok(None)
}

/// How many Secrets go into one request.
fn batch(secrets: &[&mut Value]) -> usize {
    const BYTES: usize = 48 << 10;
    let (mut bytes, mut values) = (0, 0);
    let fits = |secret: &&&mut Value| {
        let count = |field: &str| secret.get(field).and_then(Value::as_object).map_or(1, |data| data.len());
        bytes += secret.to_string().len();
        values += 1 + count("data") + count("stringData");
        bytes <= BYTES && values <= DIGESTS_AT_ONCE
    };
    secrets.iter().take_while(fits).count().max(1)
}

/// Fails where nobody knows such a unit.
fn known_unit<'a>(
    cluster: &ClusterName,
    unit: &UnitId,
    mut known: impl Iterator<Item = &'a str>,
) -> Result<(), Error> {
    let name = unit.to_string();
    if known.any(|known| known == name) {
        return Ok(());
    }
    Err(Error::new(Code::NotFound, format!("cluster {cluster} has no unit {name}"))
        .hint(format!("`flotilla get units --cluster {cluster}` lists them")))
}

fn show<T: Serialize>(
    terminal: &Terminal,
    format: Format,
    data: &T,
    objects: &[ObjectDiff],
) -> Result<(), Error> {
    terminal.show(format, data, |_| objects.iter().map(|object| human(object, terminal.color)).collect())
}

/// A unified diff, coloured by line.
fn human(object: &ObjectDiff, color: bool) -> String {
    let mut out = String::new();
    if object.change == Change::Moved {
        let unit = |unit: &Option<String>| unit.clone().unwrap_or_default();
        let text = format!("{} moves from {} to {}", object.object, unit(&object.from), unit(&object.to));
        return paint(&clean(&text), Some(Tone::Note).filter(|_| color)) + "\n";
    }
    for line in object.diff.lines() {
        let tone = match line.as_bytes() {
            [b'-', b'-', b'-', ..] | [b'+', b'+', b'+', ..] => Some(Tone::Strong),
            [b'@', ..] => Some(Tone::Note),
            [b'-', ..] => Some(Tone::Bad),
            [b'+', ..] => Some(Tone::Good),
            _ => None,
        };
        out.push_str(&paint(&visible(line), tone.filter(|_| color)));
        out.push('\n');
    }
    out
}

/// What the agent says differs from what is published.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Drifted {
    objects: Vec<ObjectDiff>,
    /// Units whose published state is not applied yet, with their phase.
    pending: Vec<String>,
}

async fn against_cluster(
    context: &Context,
    client: &Client,
    name: &ClusterName,
    only: Option<&UnitId>,
    format: Format,
) -> Result<Code, Error> {
    let cluster = client.cluster(name).await?;
    let mut units = client.units(Some(name), &Choice::default()).await?;
    if let Some(only) = only {
        known_unit(name, only, units.iter().map(|unit| unit.unit.as_str()))?;
        units.retain(|unit| unit.unit == only.to_string());
    }
    if cluster.received.is_none() && cluster.applied.is_none() {
        let state = cluster.connection.as_str();
        return Err(Error::new(
            Code::Refused,
            format!("nothing is known of what cluster {name} runs: its agent is {state}"),
        )
        .hint(format!(
            "`flotilla diff --cluster {name} --repo DIR` compares with what the hub has published"
        )));
    }
    if cluster.connection != ConnectionState::Connected {
        context.terminal.warn(&format!(
            "the agent of {name} is {}: this is what it said last",
            cluster.connection.as_str()
        ));
    }
    let drifted = Drifted { objects: units.iter().flat_map(drift).collect(), pending: pending(&units) };
    show(&context.terminal, format, &drifted, &drifted.objects)?;
    for unit in &drifted.pending {
        context.terminal.note(&format!("not applied yet: {unit}"));
    }
    let same = drifted.objects.is_empty() && drifted.pending.is_empty();
    Ok(if same { Code::Done } else { Code::Found })
}

fn pending(units: &[Unit]) -> Vec<String> {
    let open = units.iter().filter(|unit| unit.desired.is_some() && unit.desired != unit.applied);
    open.map(|unit| format!("{} ({})", unit.unit, unit.phase)).collect()
}

fn drift(unit: &Unit) -> Vec<ObjectDiff> {
    let text = |change: Change, object: String, lines: String| {
        let (removed, added) = (change == Change::Removed, change == Change::Added);
        let header =
            |absent: bool| if absent { "/dev/null".to_owned() } else { format!("{object} ({})", unit.unit) };
        ObjectDiff {
            diff: format!("--- {}\n+++ {}\n{lines}", header(added), header(removed)),
            object,
            change,
            from: Some(unit.unit.clone()).filter(|_| !added),
            to: Some(unit.unit.clone()).filter(|_| !removed),
        }
    };
    let drift = unit.drift.iter().map(|drift| {
        let object = drift.object.to_string();
        if drift.fields.is_empty() {
            text(Change::Added, object, "@@ the whole object is gone @@\n".to_owned())
        } else {
            text(Change::Changed, object, drift.fields.iter().map(field).collect())
        }
    });
    let kept = unit.kept.iter().map(|kept| {
        let lines = format!("@@ kept: {} @@\n", kept.why);
        text(Change::Removed, kept.object.to_string(), lines)
    });
    drift.chain(kept).collect()
}

fn field(field: &FieldDrift) -> String {
    let by = field.manager.as_ref().map(|manager| format!(", changed by {manager}")).unwrap_or_default();
    let mut out = format!("@@ {}{by} @@\n", field.field);
    for (sign, value) in [('-', &field.found), ('+', &field.wanted)] {
        for line in value.iter().flat_map(|value| value.lines()) {
            out.push_str(&format!("{sign}{line}\n"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use flotilla_api::{Drift, Kept, ObjectId};

    use super::*;

    #[test]
    fn drift_goes_from_what_is_found_to_what_is_wanted() {
        let object =
            |name: &str| ObjectId { kind: "Service".into(), name: name.into(), ..Default::default() };
        let field = FieldDrift {
            field: "/spec/type".into(),
            wanted: Some("ClusterIP".into()),
            found: Some("NodePort".into()),
            manager: Some("kubectl".into()),
        };
        let unit = Unit {
            unit: "root".into(),
            drift: vec![
                Drift { object: object("a"), at: 1, fields: vec![field] },
                Drift { object: object("b"), at: 1, fields: vec![] },
            ],
            kept: vec![Kept {
                object: object("c"),
                why: "foreign objects inside".into(),
                approval: "x".into(),
            }],
            ..Default::default()
        };
        let texts: Vec<String> = drift(&unit).iter().map(|diff| human(diff, false)).collect();
        assert_eq!(
            texts,
            [
                "--- Service a (root)\n+++ Service a (root)\n@@ /spec/type, changed by kubectl @@\n-NodePort\n+ClusterIP\n",
                "--- /dev/null\n+++ Service b (root)\n@@ the whole object is gone @@\n",
                "--- Service c (root)\n+++ /dev/null\n@@ kept: foreign objects inside @@\n",
            ]
        );
    }
}
