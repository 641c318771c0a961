//! Helm charts: a request that the caller answers with rendered manifests.

use crate::error::{Fail, Res, fail};
use crate::load::{Context, Loader};
use crate::node_ops::stamp;
use crate::parts::HelmChart;
use crate::request::{Answer, HelmRequest, Request};
use crate::resmap;
use crate::resource::Resource;

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
    let merge = chart.request.values_merge.as_str();
    if !matches!(merge, "" | "merge" | "override" | "replace") {
        return fail!("valuesMerge must be one of merge,override,replace")
            .map_err(|e: Fail| e.field("valuesMerge"));
    }
    let load = |cx: &mut Context, file| -> Res<String> {
        Ok(loader.load(cx, file).map_err(|e: Fail| e.field("valuesFile"))?.text()?.to_owned())
    };
    let file = (!chart.values_file.text.is_empty()).then(|| load(cx, &chart.values_file)).transpose()?;
    let inline = chart.values_inline.as_ref().map(flotilla_yaml::write);
    // Later ones win over earlier ones.
    let mut values: Vec<String> = match merge {
        "merge" => [inline, file],
        "replace" if inline.is_some() => [None, inline],
        _ => [file, inline],
    }
    .into_iter()
    .flatten()
    .collect();
    for file in &chart.additional_values_files {
        values.push(load(cx, file)?);
    }
    let mut request = HelmRequest { values, ..chart.request.clone() };
    if request.namespace.is_empty() {
        request.namespace = namespace.to_owned();
    }
    if request.chart_home.is_empty() {
        let home = if home.is_empty() { "charts" } else { home };
        request.chart_home =
            loader.root.join(home).map_err(|e| Fail::new(e.to_string()))?.as_str().to_owned();
    }
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
