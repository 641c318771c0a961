//! A plan as data for scripts.

use flotilla_api as api;
use flotilla_core::{ObjectId, UnitId};
use flotilla_render::plan::{self, ClusterChange, ObjectChange, UnitChange, stages};
use serde::Serialize;

use super::Shown;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Plan {
    from: String,
    to: String,
    /// How many clusters were compared.
    clusters: usize,
    diffs: Vec<Diff>,
    /// When each diff reaches its clusters.
    schedule: Schedule,
    guard: Vec<Guard>,
    misfits: Vec<Misfit>,
    /// Units that are known on neither side.
    unknown: Vec<Unknown>,
    /// What is wrong with the fleet's definition since the change.
    problems: Vec<api::Problem>,
}

/// What becomes of some clusters.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Diff {
    digest: String,
    clusters: Vec<String>,
    /// stays, added, unassigned, unclear, wasUnclear or rootMoved.
    cluster: &'static str,
    units: Vec<Unit>,
    sources: Vec<Unit>,
    objects: Vec<Object>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Unit {
    name: String,
    /// added, changed, removed, orphaned, waits, held, released or unknown.
    change: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(flatten)]
    fields: Fields,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Object {
    group: String,
    kind: String,
    namespace: String,
    name: String,
    /// added, changed, moved, pruned, kept or orphaned.
    change: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    note: String,
    #[serde(flatten)]
    fields: Fields,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fields: Vec<Field>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    more_fields: bool,
}

#[derive(Debug, Serialize)]
struct Field {
    path: String,
    from: Option<String>,
    to: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Schedule {
    at_once: Vec<Part>,
    /// Those that promote anything of what changes.
    pipelines: Vec<Pipeline>,
    stays: Vec<Stays>,
}

#[derive(Debug, Serialize)]
struct Pipeline {
    name: String,
    /// In their order.
    stages: Vec<Stage>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Stage {
    name: String,
    /// How many are in it.
    clusters: usize,
    /// Some of them were not compared, or not in full.
    in_part: bool,
    diffs: Vec<Part>,
}

/// Clusters that get a diff, or some units of it, together.
#[derive(Debug, Serialize)]
struct Part {
    /// Its digest.
    diff: String,
    units: Vec<String>,
    clusters: Vec<String>,
}

/// What changes in Git and not in clusters.
#[derive(Debug, Serialize)]
struct Stays {
    reason: String,
    diffs: Vec<Part>,
}

#[derive(Debug, Serialize)]
struct Guard {
    code: &'static str,
    severity: &'static str,
    message: String,
    clusters: Vec<String>,
    names: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Misfit {
    code: &'static str,
    message: String,
    /// Whether it did not fit before the change either.
    before: bool,
    clusters: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Unknown {
    reason: String,
    units: usize,
    clusters: Vec<String>,
}

fn strings<T: ToString>(names: impl IntoIterator<Item = T>) -> Vec<String> {
    names.into_iter().map(|name| name.to_string()).collect()
}

impl From<&Shown> for Plan {
    fn from(shown: &Shown) -> Self {
        let plan = &shown.plan;
        Self {
            from: shown.from.clone(),
            to: shown.to.clone(),
            clusters: plan.clusters,
            diffs: plan.groups.iter().map(Diff::from).collect(),
            schedule: Schedule::from(&plan.schedule),
            guard: plan
                .guard
                .iter()
                .map(|finding| Guard {
                    code: finding.lint.code(),
                    severity: finding.severity.as_str(),
                    message: finding.to_string(),
                    clusters: strings(&finding.clusters),
                    names: finding.names.clone(),
                })
                .collect(),
            misfits: plan
                .misfits
                .iter()
                .map(|((misfit, before), clusters)| Misfit {
                    code: misfit.code(),
                    message: misfit.to_string(),
                    before: *before,
                    clusters: strings(clusters),
                })
                .collect(),
            unknown: plan
                .unknown
                .iter()
                .map(|(reason, (units, clusters))| Unknown {
                    reason: reason.clone(),
                    units: *units,
                    clusters: strings(clusters),
                })
                .collect(),
            problems: shown.problems.iter().map(api::Problem::from).collect(),
        }
    }
}

impl From<&stages::Schedule> for Schedule {
    fn from(schedule: &stages::Schedule) -> Self {
        let parts = |parts: &[stages::Part]| parts.iter().map(Part::from).collect();
        let stage = |(name, found): (String, &stages::StageSchedule)| Stage {
            name,
            clusters: found.clusters,
            in_part: found.in_part,
            diffs: parts(&found.parts),
        };
        let pipelines = schedule.pipelines.iter().map(|of| {
            let names = of.pipeline.stages.iter().map(|stage| stage.name.clone());
            let stages = names.zip(&of.stages).map(stage).collect();
            Pipeline { name: of.pipeline.name.clone(), stages }
        });
        let stays = schedule.stays.iter();
        Self {
            at_once: parts(&schedule.at_once),
            pipelines: pipelines.collect(),
            stays: stays.map(|(why, all)| Stays { reason: why.clone(), diffs: parts(all) }).collect(),
        }
    }
}

impl From<&stages::Part> for Part {
    fn from(part: &stages::Part) -> Self {
        Self { diff: part.diff.to_string(), units: strings(&part.units), clusters: strings(&part.clusters) }
    }
}

impl From<&plan::Group> for Diff {
    fn from(group: &plan::Group) -> Self {
        let plan = &group.plan;
        Self {
            digest: plan.digest().to_string(),
            clusters: strings(&group.clusters),
            cluster: match plan.cluster {
                ClusterChange::Stays => "stays",
                ClusterChange::Added => "added",
                ClusterChange::Unassigned => "unassigned",
                ClusterChange::Unclear(_) => "unclear",
                ClusterChange::WasUnclear => "wasUnclear",
                ClusterChange::RootMoved { .. } => "rootMoved",
            },
            units: plan.units.iter().map(|(id, unit)| Unit::new(id, unit)).collect(),
            sources: plan.sources.iter().map(|(id, source)| Unit::new(id, source)).collect(),
            objects: plan.objects.iter().map(Object::from).collect(),
        }
    }
}

impl Unit {
    fn new(id: &impl ToString, unit: &plan::UnitPlan) -> Self {
        Self {
            name: id.to_string(),
            change: match unit.change {
                UnitChange::Added => "added",
                UnitChange::Changed => "changed",
                UnitChange::Removed => "removed",
                UnitChange::Orphaned => "orphaned",
                UnitChange::Waits => "waits",
                UnitChange::Held => "held",
                UnitChange::Released => "released",
                UnitChange::Unknown => "unknown",
            },
            reason: unit.reason.clone(),
            fields: Fields::from(&*unit.fields),
        }
    }
}

impl From<&plan::ObjectPlan> for Object {
    fn from(object: &plan::ObjectPlan) -> Self {
        let id: &ObjectId = &object.object;
        let unit = |unit: &Option<UnitId>| unit.as_ref().map(ToString::to_string);
        Self {
            group: id.group.clone(),
            kind: id.kind.clone(),
            namespace: id.namespace.clone(),
            name: id.name.clone(),
            change: match object.change {
                ObjectChange::Added => "added",
                ObjectChange::Changed => "changed",
                ObjectChange::Moved => "moved",
                ObjectChange::Pruned => "pruned",
                ObjectChange::Kept => "kept",
                ObjectChange::Orphaned => "orphaned",
            },
            from: unit(&object.from),
            to: unit(&object.to),
            content: object.content.map(|content| content.to_string()),
            note: object.note.clone(),
            fields: Fields::from(&*object.fields),
        }
    }
}

impl From<&plan::Fields> for Fields {
    fn from(fields: &plan::Fields) -> Self {
        let field = |field: &plan::FieldPlan| Field {
            path: field.path.clone(),
            from: field.from.clone(),
            to: field.to.clone(),
        };
        Self { fields: fields.fields.iter().map(field).collect(), more_fields: fields.more }
    }
}
