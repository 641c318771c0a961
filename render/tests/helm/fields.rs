//! What the fields of a release mean, and which are refused.

use flotilla_core::UnitId;
use flotilla_core::unit::DriftMode;
use serde_json::{Value, json};

use super::{CHART, World, config_map, files, held, objects, release, unit};

#[test]
fn drift_is_corrected_where_the_release_asks_for_it() {
    for (detection, mode, rules) in [
        ("{mode: enabled}", DriftMode::Correct, 0),
        (
            "{mode: enabled, ignore: [{paths: [/spec/replicas], target: {kind: Deployment}}]}",
            DriftMode::Correct,
            1,
        ),
        ("{mode: warn}", DriftMode::Report, 0),
        ("{}", DriftMode::Report, 0),
    ] {
        let spec = format!("{CHART}  driftDetection: {detection}\n");
        let (render, _) = World::default().render(&files(&spec, ""), config_map);
        let spec = unit(&render).manifest.spec.clone();
        assert_eq!((spec.drift, spec.ignore.len()), (mode, rules), "{detection}");
    }
}

#[test]
fn what_a_release_says_of_its_drift_goes_over_what_the_cluster_says() {
    use DriftMode::{Correct, Ignore, Report};
    for (detection, annotation, expected) in [
        ("", None, [Report, Report, Ignore]),
        ("  driftDetection: {mode: disabled}\n", None, [Report, Report, Ignore]),
        ("  driftDetection: {mode: warn}\n", None, [Report; 3]),
        ("  driftDetection: {mode: enabled}\n", None, [Correct; 3]),
        ("  driftDetection: {mode: enabled}\n", Some("ignore"), [Ignore; 3]),
        ("", Some("correct"), [Correct; 3]),
    ] {
        for (drift, expected) in [Correct, Report, Ignore].into_iter().zip(expected) {
            let mut files = files(&format!("{CHART}{detection}"), "");
            if let Some(mode) = annotation {
                let with = format!("metadata: {{annotations: {{flotilla.dev/drift: {mode}}}, ");
                files[1].1 = files[1].1.replacen("metadata: {", &with, 1);
            }
            let (render, _) = World { drift, ..World::default() }.render(&files, config_map);
            assert_eq!(
                unit(&render).manifest.spec.drift,
                expected,
                "{detection} {annotation:?} in {drift:?}"
            );
        }
    }
}

#[test]
fn what_is_not_supported_is_refused_at_its_line() {
    for (spec, says, line) in [
        (format!("{CHART}  kubeConfig: {{secretRef: {{name: x}}}}\n"), "has an agent of its own", 8),
        (
            format!("{CHART}  chartRef: {{kind: OCIRepository, name: x}}\n"),
            "one of spec.chart and spec.chartRef",
            5,
        ),
        ("  values: {}\n".to_owned(), "one of spec.chart and spec.chartRef", 5),
        (format!("{CHART}  typo: 1\n"), "'typo' is not a field here", 8),
        (format!("{CHART}  releaseName: {}\n", "x".repeat(54)), "is not a valid release name", 8),
        (
            format!("{CHART}  releaseName: --set-file=a=/x\n"),
            "'--set-file=a=/x' is not a valid release name",
            8,
        ),
        (format!("{CHART}  targetNamespace: --debug\n"), "'--debug' is not a valid namespace", 8),
        (format!("{CHART}  values: [1]\n"), "must be a mapping", 8),
        (format!("{CHART}  postRenderers: [{{kustomize: {{patches: 1}}}}]\n"), "must be a list", 8),
    ] {
        let (render, _) = World::default().render(&files(&spec, ""), config_map);
        let problem = &held(&render)[0];
        assert!(problem.message.contains(says), "{problem:?}");
        assert_eq!((problem.file.as_str(), problem.line), ("clusters/x/web.yaml", line), "{problem:?}");
    }
    let (render, _) =
        World::default().render(&files(&format!("{CHART}  test: {{enable: true}}\n"), ""), config_map);
    let notice = &render.units[&UnitId::root()].problems[0];
    assert!(notice.notice && notice.message.contains("has no effect"), "{notice:?}");
}

#[test]
fn fields_of_older_versions_mean_what_they_meant() {
    let chart =
        CHART.replace("version: 1.x", "version: 1.x, valuesFile: large.yaml, valuesFiles: [small.yaml]");
    let spec = format!(
        "{chart}  postRenderers: [{{kustomize: {{patchesStrategicMerge: [{{apiVersion: v1, kind: ConfigMap, metadata: \
         {{name: web}}, data: {{one: '1'}}}}], patchesJson6902: [{{target: {{kind: ConfigMap, name: web}}, patch: [{{op: \
         add, path: /data/two, value: '2'}}]}}]}}}}]\n"
    );
    let mut all = files(&spec, "");
    let (render, _) = World::default().render(&all, config_map);
    assert!(!held(&render).is_empty(), "they are no fields of v2");
    for version in ["v2beta1", "v2beta2"] {
        all[1].1 = release("web", &spec).replace("io/v2", &format!("io/{version}"));
        let (render, asked) = World::default().render(&all, config_map);
        let defaults = asked[0].chart.default_values.clone().map(Value::Object);
        assert_eq!(defaults, Some(json!({"size": 1, "keep": true})));
        assert_eq!(objects(&render)[0]["data"]["one"], "1");
        assert_eq!(objects(&render)[0]["data"]["two"], "2");
    }
}
