//! Where a release has its chart from.

use flotilla_core::source::{HelmChart, Source, SourceId, SourceKind, SourceSpec};
use flotilla_kustomize::files::TreePath;

use super::Read;
use super::read::Reader;
use crate::field::{Field, Object};
use crate::flux::sources::{CHART_SOURCES, chart};

/// Where a chart and its values are in a source.
pub(super) struct Place {
    pub(super) path: TreePath,
    pub(super) values_files: Vec<String>,
    pub(super) ignore_missing: bool,
}

impl Default for Place {
    fn default() -> Self {
        Self { path: TreePath::root(), values_files: Vec::new(), ignore_missing: false }
    }
}

impl Reader<'_> {
    /// The source of the chart, where it is in it, and the `HelmChart` that has to be made for it.
    pub(super) fn chart(
        &mut self,
        object: &Object<'_>,
        interval: u32,
    ) -> Read<(SourceId, Place, Option<Source>)> {
        let (by_spec, by_ref) = (object.get("chart"), object.get("chartRef"));
        let by_spec = match (by_spec, by_ref) {
            (Some(chart), None) => chart,
            (None, Some(chart)) => {
                let kinds = [
                    ("OCIRepository", SourceKind::OciRepository),
                    ("HelmChart", SourceKind::HelmChart),
                    ("ExternalArtifact", SourceKind::ExternalArtifact),
                ];
                let chart = chart.object(&["apiVersion", "kind", "name", "namespace"])?;
                let namespace = chart.text("namespace")?.unwrap_or_else(|| self.id.namespace.clone());
                let kind = chart.need("kind")?.choice(&kinds)?;
                let source = SourceId::new(kind, namespace, chart.need("name")?.text()?);
                return Ok((source, Place::default(), None));
            }
            _ => return Err(object.field.wrong("needs one of spec.chart and spec.chartRef")),
        };
        let template = by_spec.object(&["metadata", "spec"])?;
        let known = [
            "chart",
            "ignoreMissingValuesFiles",
            "interval",
            "reconcileStrategy",
            "sourceRef",
            "valuesFile",
            "valuesFiles",
            "verify",
            "version",
        ];
        let fields = template.need("spec")?.object(&known)?;
        let first = fields.get("valuesFile");
        if let (Some(field), false) = (&first, self.is_old) {
            return Err(field.wrong("is a field of v2beta1 and v2beta2; name the file in valuesFiles"));
        }
        let from = fields.need("sourceRef")?.object(&["apiVersion", "kind", "name", "namespace"])?;
        let kind = from.need("kind")?.choice(&CHART_SOURCES)?;
        let namespace = from.text("namespace")?.unwrap_or_else(|| self.id.namespace.clone());
        let source = SourceId::new(kind, &namespace, from.need("name")?.text()?);
        let spec: HelmChart = chart(&fields, source.clone())?;
        // As source-controller merges it: before the others.
        let first = first.as_ref().map(|field| field.text()).transpose()?;
        let place = Place {
            path: TreePath::root(),
            values_files: first.into_iter().chain(spec.values_files.iter().cloned()).collect(),
            ignore_missing: spec.ignore_missing_values_files,
        };
        if kind != SourceKind::HelmRepository {
            let field = fields.need("chart")?;
            if let Some(verify) = fields.get("verify") {
                return Err(verify.wrong("signatures of charts are not verified yet"));
            }
            let path = field.so(TreePath::from_root(spec.chart.trim_start_matches("./")))?;
            return Ok((source, Place { path, ..place }, None));
        }
        let id = SourceId::new(
            SourceKind::HelmChart,
            namespace,
            format!("{}-{}", self.id.namespace, self.id.name),
        );
        let interval = fields.get("interval").map_or(Ok(interval), Field::seconds)?;
        // The values files are merged where the chart is rendered.
        let spec = HelmChart { values_files: Vec::new(), ignore_missing_values_files: false, ..spec };
        let spec = SourceSpec::HelmChart(spec);
        let implied = Source { id: id.clone(), interval, timeout: 60, suspend: false, spec };
        Ok((id, place, Some(implied)))
    }
}
