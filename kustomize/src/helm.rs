//! Helm charts: a request that the caller answers with rendered manifests, and the values that it renders them with.

use flotilla_yaml::{Node, Schema, Value, write_canonical};

use crate::decode::Text;
use crate::error::{Error, Fail, Res, fail};
use crate::files::{PathError, TreePath};
use crate::load::{Context, Loader};
use crate::merge::strategic_merge;
use crate::node_ops::{drop_styles, stamp};
use crate::parts::HelmChart;
use crate::request::{Answer, HelmRequest, Request, ValuesMerge};
use crate::resmap;
use crate::resource::Resource;
use crate::schema;
use crate::work::{Limits, Work};

/// The resources of one chart; none while its rendering is missing.
pub(crate) fn generate(
    cx: &mut Context,
    loader: &Loader,
    chart: &HelmChart,
    namespace: &str,
    home: &str,
) -> Res<Vec<Resource>> {
    if !cx.options.helm {
        return fail!(
            "trouble configuring builtin HelmChartInflationGenerator for chart '{}': must specify --enable-helm",
            chart.request.name
        )
        .map_err(|e: Fail| e.hint("charts of kustomizations are rendered only where that is switched on; a HelmRelease always is"));
    }
    if chart.request.name.is_empty() {
        return fail!("chart name cannot be empty").map_err(|e: Fail| e.field("name"));
    }
    let load = |cx: &mut Context, file: &Text, field: String| -> Res<String> {
        Ok(loader.load(cx, file).map_err(|e: Fail| e.field(field))?.text()?.into_owned())
    };
    let mut request = chart.request.clone();
    if !chart.values_file.text.is_empty() {
        request.values_file = Some(load(cx, &chart.values_file, "valuesFile".into())?);
    }
    for (n, file) in chart.additional_values_files.iter().enumerate() {
        request.additional_values.push(load(cx, file, format!("additionalValuesFiles[{n}]"))?);
    }
    if request.namespace.is_empty() {
        request.namespace = namespace.to_owned();
    }
    let home = [request.chart_home.as_str(), home, "charts"].into_iter().find(|home| !home.is_empty());
    let home = loader.root.join(home.unwrap_or_default()).map_err(|e| Fail::new(e.to_string()))?;
    request.chart_home = home.as_str().to_owned();
    match cx.answer(Request::Helm(Box::new(request))) {
        None => Ok(Vec::new()),
        Some(Answer::Tree { .. }) => fail!("chart '{}' was answered with a folder", chart.request.name),
        Some(Answer::Text(manifests)) => {
            let mut resources = resmap::from_text(cx, &manifests, 0)
                .map_err(|e| e.context(format!("chart '{}' rendered bad YAML", chart.request.name)))?;
            for resource in &mut resources {
                resource.from_helm = true;
                resource.pos = chart.pos;
                stamp(&mut resource.node, chart.pos);
            }
            Ok(resources)
        }
    }
}

impl HelmRequest {
    /// Where the chart is in the tree, if it is there: a chart with a version and a repository in a folder of that
    /// version, as kustomize leaves the ones that it fetched.
    ///
    /// # Errors
    /// Where its name or version leads out of the tree.
    pub fn chart_folder(&self) -> Result<TreePath, PathError> {
        let home = TreePath::from_root(&self.chart_home)?;
        let of_version = !self.version.is_empty() && !self.repo.is_empty();
        let folder = if of_version { home.join(&format!("{}-{}", self.name, self.version))? } else { home };
        folder.join(&self.name)
    }

    /// The texts of values that Helm is to be given after the chart's own, later ones over earlier ones. `chart` is the
    /// content of the chart's own `values.yaml`, which kustomize merges like a file of the kustomization.
    ///
    /// # Errors
    /// Where there are no values to merge with, or the texts cannot be read or merged.
    pub fn values(&self, chart: Option<&[u8]>) -> Result<Vec<String>, Error> {
        self.merged(chart).map_err(|e| {
            e.context(format!("values of the chart '{}'", self.name)).into_error(&[], &ToString::to_string)
        })
    }

    fn merged(&self, chart: Option<&[u8]>) -> Res<Vec<String>> {
        let own = match (&self.values_file, chart) {
            (None, Some(content)) => {
                let text = flotilla_yaml::decode(content);
                Some(text.map_err(|e| Fail::new(format!("values.yaml cannot be read: {e}")))?)
            }
            _ => None,
        };
        let Some(file) = self.values_file.as_deref().or(own.as_deref()) else {
            return fail!("values.yaml: no such file or directory").map_err(|e: Fail| {
                e.hint(
                    "kustomize renders no chart without a file of values: add one, or name one by valuesFile",
                )
            });
        };
        let first = match &self.values_inline {
            None => file.to_owned(),
            Some(inline) => self.with_inline(file, &read(inline, false)?)?,
        };
        Ok([first].into_iter().chain(self.additional_values.iter().cloned()).collect())
    }

    /// What is inline, merged as a strategic merge patch with what is in the file.
    fn with_inline(&self, file: &str, inline: &Node) -> Res<String> {
        let words = "could not parse values inline";
        let json = inline
            .to_json_as(Schema::Kubernetes)
            .map_err(|e| Fail::new(format!("{words}: {}", e.message)))?;
        let inline = Node::from_json(&json).through_json_numbers();
        let merged = match self.values_merge {
            ValuesMerge::Replace => Some(inline),
            merge => {
                let file =
                    read(file, true).map_err(|e| e.context("could not parse values file into rnode"))?;
                let (over, under) = if merge == ValuesMerge::Merge { (file, inline) } else { (inline, file) };
                // As kustomize does, which merges them as parts of objects and not as objects.
                strategic_merge(&schema::Schema::builtin(), under, over, &Work::new(Limits::default()))
                    .map_err(|e| e.context("could not merge values"))?
            }
        };
        let words = "could not parse merged values into map";
        let mut merged = merged.filter(|n| !n.is_null()).unwrap_or_else(Node::map);
        drop_styles(&mut merged);
        let Value::Map(map) = &mut merged.value else {
            return fail!("{words}: the values are not a mapping");
        };
        // Go has no place for a null among the keys of a map of texts.
        map.retain(|entry| !entry.key.is_null() || entry.key.text() == Some(""));
        merge_quoted(&mut merged);
        write_canonical(&merged).map_err(|e| Fail::new(format!("{words}: {}", e.message)))
    }
}

/// Makes merge keys of the keys `<<` that stood in quotes: kustomize writes them without, and helm merges what is below.
fn merge_quoted(node: &mut Node) {
    match &mut node.value {
        Value::Scalar(_) => {}
        Value::Seq(seq) => seq.iter_mut().for_each(merge_quoted),
        Value::Map(map) => {
            for entry in map.entries_mut() {
                if entry.key.text() == Some("<<") {
                    entry.key.set_tag(Some("!!merge".into()));
                }
                merge_quoted(&mut entry.value);
            }
        }
    }
}

/// The first document of a text of values.
fn read(text: &str, merges: bool) -> Res<Node> {
    let options = flotilla_yaml::Options { drop_aliased_fields: merges, ..Default::default() };
    let first = flotilla_yaml::parse_first(text, &options).map_err(|e| Fail::new(e.to_string()))?;
    // A line of dashes begins a document, though there is nothing in it.
    let is_begun = || text.lines().any(|line| line.starts_with("---"));
    if first.document.is_null() && first.document.pos.line == 0 && !is_begun() {
        return fail!("EOF")
            .map_err(|e: Fail| e.hint("there are no values in it; write {} if none are meant"));
    }
    Ok(first.document)
}
