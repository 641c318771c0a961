//! `flotilla tree`

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use flotilla_api::{Health, Tree, TreeUnit};

use super::rows::{cluster_message, phase_tone, unit_message};
use super::target::Target;
use crate::Context;
use crate::args::Format;
use crate::error::Error;
use crate::exit::Code;
use crate::output::{Tone, clean, paint};

/// Show a cluster's units and their objects as a tree, or one unit with those below it
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct TreeArgs {
    #[command(flatten)]
    target: Target,
    /// Units only, no objects
    #[arg(long, global = true)]
    units: bool,
    /// Form of the output
    #[arg(short, long, value_enum, value_name = "FORM", global = true, default_value_t)]
    output: Format,
}

pub(crate) async fn run(context: &Context, args: TreeArgs) -> Result<Code, Error> {
    let target = args.target.named()?;
    let mut tree = context.hub()?.tree(&target.cluster).await?;
    if let Some(unit) = target.unit_text() {
        below(&mut tree, &unit);
        if tree.units.is_empty() {
            let error = Error::new(Code::NotFound, format!("cluster {} has no unit {unit}", target.cluster));
            return Err(error.hint(format!("`flotilla get units --cluster {}` lists them", target.cluster)));
        }
    }
    if args.units {
        tree.units.iter_mut().for_each(|unit| unit.objects.clear());
    }
    context.terminal.show(args.output, &tree, |_| draw(&tree, context.terminal.color))?;
    Ok(Code::Done)
}

/// Leaves a unit and what is below it, at any depth.
fn below(tree: &mut Tree, top: &str) {
    let mut kept = BTreeSet::from([top.to_owned()]);
    loop {
        let is_below =
            |unit: &&TreeUnit| unit.unit.parent.as_ref().is_some_and(|parent| kept.contains(parent));
        let found: Vec<_> = tree.units.iter().filter(is_below).map(|unit| unit.unit.unit.clone()).collect();
        let known = kept.len();
        kept.extend(found);
        if kept.len() == known {
            break;
        }
    }
    tree.units.retain(|unit| kept.contains(&unit.unit.unit));
}

/// A node of the drawing: a line, and what is below it.
struct Branch {
    label: String,
    below: Vec<Branch>,
}

fn draw(tree: &Tree, color: bool) -> String {
    let cluster = &tree.cluster;
    let message = cluster_message(cluster);
    let label = label(
        &cluster.name,
        &format!("{}, {}", cluster.connection.as_str(), cluster.sync.as_str()),
        None,
        &message,
        color,
    );
    let mut children: BTreeMap<&str, Vec<&TreeUnit>> = BTreeMap::new();
    let known: Vec<&str> = tree.units.iter().map(|unit| unit.unit.unit.as_str()).collect();
    let mut tops = Vec::new();
    for unit in &tree.units {
        match unit.unit.parent.as_deref() {
            Some(parent) if known.contains(&parent) && parent != unit.unit.unit => {
                children.entry(parent).or_default().push(unit);
            }
            // A parent that is gone must not hide its child.
            _ => tops.push(unit),
        }
    }
    let below = tops.into_iter().map(|unit| branch(unit, &mut children, color)).collect();
    let mut out = String::new();
    Branch { label, below }.write(&mut out, "", "");
    // Units that are one another's parent hang from no top.
    for unit in children.into_values().flatten() {
        branch(unit, &mut BTreeMap::new(), color).write(&mut out, "", "");
    }
    out
}

fn branch(unit: &TreeUnit, children: &mut BTreeMap<&str, Vec<&TreeUnit>>, color: bool) -> Branch {
    let objects = unit.objects.iter().map(|object| {
        let tone = match object.health {
            Health::Healthy => Tone::Good,
            Health::Failing => Tone::Bad,
            Health::Kept => Tone::Warn,
            Health::Progressing => Tone::Note,
            Health::Unknown => Tone::Faint,
        };
        let name = object.object.to_string();
        Branch {
            label: label(&name, object.health.as_str(), Some(tone), &object.message, color),
            below: Vec::new(),
        }
    });
    let mut below: Vec<Branch> = objects.collect();
    let units = children.remove(unit.unit.unit.as_str()).unwrap_or_default();
    below.extend(units.into_iter().map(|unit| branch(unit, children, color)));
    let tone = phase_tone(&unit.unit.phase, unit.unit.live);
    let name = paint(&clean(&unit.unit.unit), Some(Tone::Strong).filter(|_| color));
    let rest = label("", &unit.unit.phase, Some(tone), &unit_message(&unit.unit), color);
    Branch { label: name + &rest, below }
}

fn label(name: &str, state: &str, tone: Option<Tone>, message: &str, color: bool) -> String {
    let state = paint(&clean(state), tone.filter(|_| color));
    let message = if message.is_empty() { String::new() } else { format!(": {}", clean(message)) };
    format!("{}  {state}{message}", clean(name))
}

impl Branch {
    fn write(&self, out: &mut String, first: &str, rest: &str) {
        out.push_str(&format!("{first}{}\n", self.label));
        for (index, branch) in self.below.iter().enumerate() {
            let (tee, bar) =
                if index + 1 == self.below.len() { ("└── ", "    ") } else { ("├── ", "│   ") };
            branch.write(out, &format!("{rest}{tee}"), &format!("{rest}{bar}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use flotilla_api::{Cluster, ObjectId, TreeObject, Unit};

    use super::*;

    fn unit(name: &str, parent: Option<&str>, objects: &[(&str, Health)]) -> TreeUnit {
        let object = |(name, health): &(&str, Health)| TreeObject {
            object: ObjectId {
                kind: "ConfigMap".into(),
                namespace: "web".into(),
                name: (*name).into(),
                ..Default::default()
            },
            health: *health,
            ..Default::default()
        };
        TreeUnit {
            unit: Unit {
                unit: name.into(),
                parent: parent.map(Into::into),
                phase: "Ready".into(),
                ..Default::default()
            },
            objects: objects.iter().map(object).collect(),
        }
    }

    #[test]
    fn one_unit_is_shown_with_all_that_is_below_it() {
        let mut tree = Tree {
            units: vec![
                unit("root", None, &[]),
                unit("c", Some("b"), &[]),
                unit("a", Some("root"), &[]),
                unit("b", Some("a"), &[]),
                unit("other", Some("root"), &[]),
            ],
            ..Default::default()
        };
        below(&mut tree, "a");
        assert_eq!(
            draw(&tree, false),
            "  NotEnrolled, Unknown\n└── a  Ready\n    └── b  Ready\n        └── c  Ready\n"
        );
        below(&mut tree, "nowhere");
        assert!(tree.units.is_empty());
    }

    #[test]
    fn units_hang_below_their_parents_and_none_is_lost() {
        let tree = Tree {
            cluster: Cluster { name: "staging".into(), ..Default::default() },
            units: vec![
                unit("root", None, &[("a", Health::Healthy)]),
                unit("kustomization/f/apps", Some("root"), &[("b", Health::Failing)]),
                unit("kustomization/f/db", Some("root"), &[]),
                unit("kustomization/f/orphan", Some("kustomization/f/gone"), &[]),
                unit("kustomization/f/x", Some("kustomization/f/y"), &[]),
                unit("kustomization/f/y", Some("kustomization/f/x"), &[]),
            ],
        };
        assert_eq!(
            draw(&tree, false),
            "staging  NotEnrolled, Unknown\n\
             ├── root  Ready\n\
             │   ├── ConfigMap web/a  Healthy\n\
             │   ├── kustomization/f/apps  Ready\n\
             │   │   └── ConfigMap web/b  Failing\n\
             │   └── kustomization/f/db  Ready\n\
             └── kustomization/f/orphan  Ready\n\
             kustomization/f/y  Ready\n\
             kustomization/f/x  Ready\n"
        );
    }
}
