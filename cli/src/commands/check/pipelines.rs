//! The pipelines of a folder: which units each promotes, through which clusters.

use std::fmt::Write as _;

use flotilla_render::PipelineDefinition;
use flotilla_render::pipeline::Promoted;
use serde::Serialize;

use crate::output::clean;

/// So many clusters of a stage, and units, are shown.
const SHOWN: usize = 8;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pipeline {
    name: String,
    file: String,
    line: u32,
    /// In the order in which a candidate passes them.
    stages: Vec<Stage>,
    /// Clusters that have units which it promotes, and that no stage selects.
    no_stage: Vec<String>,
    units: Vec<Unit>,
}

#[derive(Debug, Serialize)]
struct Stage {
    name: String,
    clusters: Vec<String>,
}

/// A unit that is promoted.
#[derive(Debug, Serialize)]
struct Unit {
    unit: String,
    /// How many clusters in stages have it.
    clusters: usize,
}

impl Pipeline {
    pub(super) fn new(definition: &PipelineDefinition, promoted: &Promoted) -> Self {
        let (file, line) = definition.defined_at.clone();
        let stages = definition.pipeline.stages.iter().zip(&definition.stages);
        Self {
            name: definition.pipeline.name.clone(),
            file,
            line,
            stages: stages
                .map(|(stage, clusters)| Stage {
                    name: stage.name.clone(),
                    clusters: clusters.iter().map(ToString::to_string).collect(),
                })
                .collect(),
            no_stage: promoted.no_stage.iter().map(ToString::to_string).collect(),
            units: promoted
                .units
                .iter()
                .map(|(unit, clusters)| Unit { unit: unit.to_string(), clusters: *clusters })
                .collect(),
        }
    }
}

/// A paragraph for each. `all`: nothing is left out.
pub(super) fn paragraphs(pipelines: &[Pipeline], all: bool) -> String {
    let mut out = String::new();
    let list = |names: Vec<String>| {
        let limit = if all { usize::MAX } else { SHOWN };
        let more = names.len().saturating_sub(limit);
        let shown = names.into_iter().take(limit).collect::<Vec<_>>().join(", ");
        match (shown.as_str(), more) {
            ("", _) => "none".to_owned(),
            (_, 0) => clean(&shown),
            (_, more) => format!("{} and {more} more", clean(&shown)),
        }
    };
    for Pipeline { name, file, line, stages, no_stage, units } in pipelines {
        let _ = writeln!(out, "pipeline {name} ({}:{line})", clean(file));
        for (n, stage) in stages.iter().enumerate() {
            let _ = writeln!(out, "  {}. {}: {}", n + 1, stage.name, list(stage.clusters.clone()));
        }
        if !no_stage.is_empty() {
            let _ = writeln!(out, "  no stage: {}", list(no_stage.clone()));
        }
        let units = units.iter().map(|Unit { unit, clusters }| match clusters {
            1 => format!("{unit} (1 cluster)"),
            count => format!("{unit} ({count} clusters)"),
        });
        let _ = writeln!(out, "  promotes: {}", list(units.collect()));
    }
    out
}
