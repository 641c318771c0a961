//! `flotilla check --repo`: every cluster of a folder, rendered as the hub would.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use flotilla_api::{Problem, UnitState};
use flotilla_core::{ClusterName, UnitId};
use flotilla_render::pipeline::Survey;
use serde::Serialize;
use serde_json::Value;

use super::CheckArgs;
use super::groups::{Found, lines, sort};
use super::pipelines::{self, Pipeline};
use crate::Context;
use crate::error::Error;
use crate::exit::Code;
use crate::offline::{NOT_FETCHED, Rendered, Repo};

/// All that a folder's check says.
#[derive(Debug, Default, Serialize)]
struct Report {
    clusters: usize,
    units: usize,
    objects: usize,
    problems: Vec<Found>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pipelines: Vec<Pipeline>,
}

/// Problems, each said once: one broken base shows in many clusters.
#[derive(Default)]
pub(in crate::commands) struct Problems {
    pub(in crate::commands) found: Vec<Found>,
    places: BTreeMap<String, usize>,
}

impl Problems {
    pub(in crate::commands) fn add(&mut self, problem: Problem, concerns: Option<String>) {
        let index = *self.places.entry(format!("{}{problem}", problem.notice)).or_insert_with(|| {
            self.found.push(Found { problem, concerns: Vec::new() });
            self.found.len() - 1
        });
        self.found[index].concerns.extend(concerns);
    }

    /// What is wrong with a cluster.
    pub(in crate::commands) fn add_all(
        &mut self,
        cluster: &ClusterName,
        problems: Vec<(Option<UnitId>, Problem)>,
    ) {
        for (unit, mut problem) in problems {
            // It says nothing of the repository: nobody has looked.
            problem.notice |= problem.message.ends_with(NOT_FETCHED);
            let concerns = unit.map_or_else(|| cluster.to_string(), |unit| format!("{cluster}/{unit}"));
            self.add(problem, Some(concerns));
        }
    }
}

pub(super) fn run(context: &Context, args: &CheckArgs, folder: &Path) -> Result<Code, Error> {
    let mut repo = Repo::open(folder, &args.clusters)?;
    repo.add_local(&args.local_sources)?;
    repo.budget = args.budget.budget();
    let names = args.cluster.clone().map_or_else(|| repo.names(), |name| vec![name]);
    let mut problems = Problems::default();
    for problem in &repo.fleet.problems {
        problems.add(Problem::from(problem), None);
    }
    if repo.names().is_empty() {
        let (file, message) = (repo.clusters().to_string(), repo.no_cluster()?);
        problems.add(Problem { file, message, ..Problem::default() }, None);
    }
    let mut contents = Contents::default();
    let mut survey = Survey::new(&repo.fleet.pipelines);
    if args.cluster.is_some() || !repo.fleet.unclear.is_empty() {
        survey.leave_out();
    }
    let (mut units, mut objects) = (0, 0);
    for name in &names {
        let rendered = repo.render(name)?;
        units += rendered.units.len();
        objects += rendered.units.iter().map(|unit| unit.objects.len()).sum::<usize>();
        contents.add(&rendered);
        survey.add(name, &rendered.parents);
        if rendered.units.iter().any(|unit| unit.state == UnitState::Held) {
            survey.leave_out();
        }
        problems.add_all(name, rendered.problems);
    }
    if !names.is_empty()
        && let Some((message, notice)) = contents.nothing_known()
    {
        problems
            .add(Problem { file: repo.clusters().to_string(), message, notice, ..Problem::default() }, None);
    }
    for problem in survey.problems() {
        problems.add(Problem::from(&problem), None);
    }
    let read = repo.fleet.pipelines.read.iter();
    let pipelines =
        read.filter_map(|(name, definition)| Some(Pipeline::new(definition, survey.promoted(name)?)));
    let pipelines = pipelines.collect();
    let mut report = Report { clusters: names.len(), units, objects, problems: problems.found, pipelines };
    sort(&mut report.problems);
    context.terminal.show(args.output.output, &report, |_| {
        lines(&report.problems, args.all) + &pipelines::paragraphs(&report.pipelines, args.all)
    })?;
    let notices = report.problems.iter().filter(|found| found.problem.notice).count();
    let errors = report.problems.len() - notices;
    let result = match errors {
        0 if !contents.known => "nothing that could have a problem".to_owned(),
        errors => count(errors, "problem"),
    };
    let notices = if notices == 0 { String::new() } else { format!(", {}", count(notices, "notice")) };
    context.terminal.note(&format!(
        "{}, {}, {}: {result}{notices}",
        count(report.clusters, "cluster"),
        count(units, "unit"),
        count(objects, "object"),
    ));
    Ok(if errors == 0 { Code::Done } else { Code::Found })
}

pub(in crate::commands) fn count(count: usize, what: &str) -> String {
    match count {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

/// Kubernetes' own groups have no dot or end in `.k8s.io`, which nobody else may use without its approval (KEP 1111).
fn is_kubernetes(group: &str) -> bool {
    !group.contains('.') || group.ends_with(".k8s.io")
}

/// What all clusters together run, as far as it tells whether this is a fleet repository at all.
#[derive(Default)]
struct Contents {
    /// Units beside roots, sources, or objects of kinds that every cluster serves or that the repository defines.
    known: bool,
    /// Groups that CustomResourceDefinitions of the repository define.
    defined: BTreeSet<String>,
    /// Other objects' kinds, with their groups.
    unknown: BTreeSet<(String, String)>,
    /// Something in the folders of clusters is not acted on.
    left_out: bool,
}

impl Contents {
    fn add(&mut self, rendered: &Rendered) {
        // What does not render is a problem of its own, and may be anything.
        self.known |= rendered.units.len() > 1 || rendered.errors() > 0;
        self.left_out |= !rendered.problems.is_empty();
        for object in rendered.units.iter().flat_map(|unit| &unit.objects) {
            let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            let group = text("/apiVersion").split_once('/').map_or("", |(group, _)| group);
            if text("/kind") == "CustomResourceDefinition" {
                self.defined.insert(text("/spec/group").to_owned());
            }
            if is_kubernetes(group) {
                self.known = true;
            } else {
                self.unknown.insert((text("/kind").to_owned(), group.to_owned()));
            }
        }
    }

    /// Why no cluster runs anything that somebody could vouch for, and whether that is a notice only: a repository where
    /// nothing is defined yet is a beginning.
    fn nothing_known(&self) -> Option<(String, bool)> {
        if self.known || self.unknown.iter().any(|(_, group)| self.defined.contains(group)) {
            return None;
        }
        if self.unknown.is_empty() && self.left_out {
            return Some((
                "no cluster runs anything: nothing that their folders define is applied".to_owned(),
                false,
            ));
        }
        if self.unknown.is_empty() {
            return Some(("no cluster runs anything: their folders define no object".to_owned(), true));
        }
        let kinds: Vec<String> =
            self.unknown.iter().map(|(kind, group)| format!("{kind} ({group})")).collect();
        let message = format!(
            "no cluster runs anything of a kind that Kubernetes, Flux or Flotilla defines, only {}; the objects are applied \
             as they are, and nothing here acts on them",
            kinds.join(", ")
        );
        Some((message, false))
    }
}

#[cfg(test)]
mod tests {
    use flotilla_api::UnitManifests;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_fleet_of_nothing_that_anybody_knows_is_told_from_one_that_runs_something() {
        let object =
            |api: &str, kind: &str| json!({"apiVersion": api, "kind": kind, "metadata": {"name": "x"}});
        let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                         "spec": {"group": "argoproj.io"}});
        let application = object("argoproj.io/v1alpha1", "Application");
        for (objects, said) in [
            (vec![], Some("define no object")),
            (vec![application.clone()], Some("only Application (argoproj.io)")),
            (vec![object("fluxcd.controlplane.io/v1", "ResourceSet")], Some("ResourceSet")),
            (vec![object("v1", "ConfigMap")], None),
            (vec![object("batch/v1", "Job"), application.clone()], None),
            (vec![crd, application], None),
        ] {
            let unit = UnitManifests { unit: "root".into(), objects: objects.clone(), ..Default::default() };
            let mut contents = Contents::default();
            contents.add(&Rendered { units: vec![unit], ..Rendered::default() });
            let found = contents.nothing_known();
            match said {
                None => assert_eq!(found, None, "{objects:?}"),
                Some(said) => {
                    assert!(found.as_ref().is_some_and(|(found, _)| found.contains(said)), "{found:?}")
                }
            }
        }
    }
}
