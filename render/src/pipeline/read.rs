//! From a `Pipeline` object's YAML to the engine's types. docs/kinds.md describes each field.

use std::collections::BTreeSet;

use flotilla_core::names::is_dns_label;
use flotilla_core::report::Problem;
use flotilla_kustomize::files::TreePath;
use flotilla_rollout::spec::{
    Amount, Join, MAX_STAGES, Offline, OnChange, OnFailure, Order, Pipeline, Seconds, Stage, Strategy,
    UnitPattern, UnitSelection, WhenOffline,
};
use flotilla_yaml::Node;

use super::gates::gates;
use super::windows::windows;
use crate::field::{self, Field, Object, Wrong};

/// What a `Pipeline` object may say in its `spec`; docs/kinds.md describes each.
pub const PIPELINE_FIELDS: [&str; 5] = ["units", "except", "stages", "windows", "onChange"];
/// What one of its stages may say.
pub const STAGE_FIELDS: [&str; 6] = ["name", "clusters", "strategy", "before", "after", "windows"];
/// What the `strategy` of a stage may say.
pub const STRATEGY_FIELDS: [&str; 8] =
    ["maxConcurrent", "order", "maxFailed", "progressDeadline", "onFailure", "offline", "join", "supersede"];

/// The most patterns of units.
const MAX_PATTERNS: usize = 256;
/// The most requirements of a stage's selector.
const MAX_REQUIREMENTS: usize = 64;
/// A prefix of 253 bytes, a slash, a name of 63.
const MAX_LABEL: usize = 317;

/// Reads one.
pub(super) fn pipeline(file: &TreePath, document: &Node) -> Result<Pipeline, Problem> {
    fields(document).map_err(|Wrong { pos, field, message }| {
        let line = if pos.line > 0 { pos.line } else { document.pos.line };
        let problem = Problem::error(file.to_string(), line, message).field(field);
        Problem { column: pos.column, ..problem }
    })
}

/// The units that a pipeline selects which cannot be read as a whole, or more than these. `None`: that cannot be told.
pub(super) fn units_at_least(spec: &Node) -> Option<UnitSelection> {
    let patterns = |name: &str| -> Option<Vec<UnitPattern>> {
        let items = spec.get(name)?.as_seq().filter(|items| !items.is_empty())?;
        items.iter().map(|item| item.as_str()?.parse().ok()).collect()
    };
    spec.as_map()?;
    let include = match spec.get("units").filter(|units| !units.is_null()) {
        Some(_) => patterns("units")?,
        None => vec!["root".parse().ok()?],
    };
    Some(UnitSelection { include, except: patterns("except").unwrap_or_default() })
}

fn fields(document: &Node) -> Result<Pipeline, Wrong> {
    let name = document.at(&["metadata", "name"]).and_then(Node::text).unwrap_or_default();
    if !is_dns_label(name) {
        let message =
            format!("'{name}' is not a valid name for a pipeline: lower-case letters, digits and '-'");
        return Err(Field::new(document, "metadata.name").wrong(message));
    }
    field::top(document)?;
    let spec = document.get("spec").filter(|spec| !spec.is_null());
    let spec = spec.ok_or_else(|| Field::new(document, "spec").wrong("is missing"))?;
    let spec = Field::new(spec, "spec");
    field::no_nulls(&spec)?;
    let spec = spec.object(&PIPELINE_FIELDS)?;
    let all = spec.need("stages")?;
    let items = all.list(MAX_STAGES)?;
    if items.is_empty() {
        return Err(all.wrong("needs at least one stage"));
    }
    let mut names = BTreeSet::new();
    let mut stages = Vec::new();
    for item in items {
        let stage = stage(&item)?;
        if !names.insert(stage.name.clone()) {
            return Err(item.wrong(format!("another stage has the name '{}' too", stage.name)));
        }
        stages.push(stage);
    }
    Ok(Pipeline {
        name: name.to_owned(),
        units: units(&spec)?,
        stages,
        windows: windows(spec.get("windows"))?,
        on_change: spec.choice(
            "onChange",
            &[
                ("freeze", OnChange::Freeze),
                ("restart", OnChange::Restart),
                ("unstarted", OnChange::Unstarted),
            ],
        )?,
    })
}

/// All of a cluster where nothing is said.
fn units(spec: &Object<'_>) -> Result<UnitSelection, Wrong> {
    let patterns =
        |field: &Field<'_>| field.list(MAX_PATTERNS)?.iter().map(Field::parsed).collect::<Result<_, _>>();
    let include = match spec.get("units") {
        Some(field) => {
            let include: Vec<UnitPattern> = patterns(field)?;
            if include.is_empty() {
                return Err(field.wrong("selects no unit; leave it out to promote all of a cluster"));
            }
            include
        }
        None => vec![spec.field.so("root".parse())?],
    };
    let except = spec.get("except").map(patterns).transpose()?.unwrap_or_default();
    Ok(UnitSelection { include, except })
}

fn stage(item: &Field<'_>) -> Result<Stage, Wrong> {
    let fields = item.object(&STAGE_FIELDS)?;
    let field = fields.need("name")?;
    let name = field.text()?;
    if !is_dns_label(&name) {
        let message = format!("'{name}' is not a valid name for a stage: lower-case letters, digits and '-'");
        return Err(field.wrong(message));
    }
    let field = fields.need("clusters")?;
    let clusters = field.selector()?;
    if clusters.labels().count() > MAX_REQUIREMENTS {
        return Err(field.wrong(format!("asks for more than {MAX_REQUIREMENTS} labels")));
    }
    let (before, after) = (gates(fields.get("before"))?, gates(fields.get("after"))?);
    let mut names = BTreeSet::new();
    for check in before.checks.iter().chain(&after.checks) {
        if !names.insert(&check.name) {
            return Err(item.wrong(format!("two checks of the stage have the name '{}'", check.name)));
        }
    }
    Ok(Stage {
        name,
        clusters,
        strategy: fields.get("strategy").map(strategy).transpose()?.unwrap_or_default(),
        before,
        after,
        windows: windows(fields.get("windows"))?,
    })
}

fn strategy(field: &Field<'_>) -> Result<Strategy, Wrong> {
    let fields = field.object(&STRATEGY_FIELDS)?;
    let mut strategy = Strategy::default();
    if let Some(field) = fields.get("maxConcurrent") {
        strategy.max_concurrent = amount(field)?;
        if matches!(strategy.max_concurrent, Amount::Count(0) | Amount::Percent(0)) {
            return Err(field.wrong("must be at least 1, or a share of at least 1%"));
        }
    }
    if let Some(field) = fields.get("maxFailed") {
        strategy.max_failed = amount(field)?;
    }
    if let Some(field) = fields.get("order") {
        strategy.order = match field.node.as_str() {
            Some("name") => Order::Name,
            Some("spread") => Order::Spread,
            Some(_) => return Err(field.wrong("must be name, spread or {label: NAME}")),
            None => Order::Label(field.object(&["label"])?.need("label")?.name(MAX_LABEL)?),
        };
    }
    if let Some(field) = fields.get("progressDeadline") {
        strategy.progress_deadline = match field.node.as_str() {
            Some("none") => None,
            _ => Some(Seconds::from(field.seconds()?)),
        };
    }
    strategy.on_failure = fields.choice(
        "onFailure",
        &[("pause", OnFailure::Pause), ("rollback", OnFailure::Rollback), ("continue", OnFailure::Continue)],
    )?;
    if let Some(field) = fields.get("offline") {
        strategy.offline = offline(field)?;
    }
    strategy.join =
        fields.choice("join", &[("lastPassed", Join::LastPassed), ("candidate", Join::Candidate)])?;
    strategy.supersede = fields.bool("supersede")?;
    Ok(strategy)
}

fn offline(field: &Field<'_>) -> Result<Offline, Wrong> {
    let fields = field.object(&["after", "then"])?;
    let Offline { after, then } = Offline::default();
    let choices = [("wait", WhenOffline::Wait), ("skip", WhenOffline::Skip), ("fail", WhenOffline::Fail)];
    Ok(Offline {
        after: fields.seconds("after")?.map_or(after, Seconds::from),
        then: fields.get("then").map(|then| then.choice(&choices)).transpose()?.unwrap_or(then),
    })
}

/// `5` or `25%`
fn amount(field: &Field<'_>) -> Result<Amount, Wrong> {
    if let Some(count) = field.node.as_u64().and_then(|count| u32::try_from(count).ok()) {
        return Ok(Amount::Count(count));
    }
    field
        .share()
        .map(Amount::Percent)
        .map_err(|_| field.wrong("must be a number of clusters, or a share such as 25%"))
}
