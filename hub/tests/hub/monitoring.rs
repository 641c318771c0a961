//! The alerts and the dashboard of the chart ask for metrics that the hub has, with the labels that they have.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use flotilla_hub::view::{ClusterFacts, FleetView};
use http::{Method, StatusCode};
use regex::Regex;
use serde_json::{Value, json};

use crate::support::TestHub;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/chart/monitoring")
}

/// By name: the labels that some series of it has. A counter is written with `_total`, its family without.
async fn measured() -> BTreeMap<String, BTreeSet<String>> {
    let hub = TestHub::start().await;
    let agent = hub.join("staging").await;
    hub.publish("staging", "x");
    let clusters =
        [("staging".parse().unwrap(), Arc::new(ClusterFacts { assigned: true, ..Default::default() }))];
    hub.hub().fleet.publish(FleetView { clusters: clusters.into(), ..FleetView::default() });
    agent.sync().await.unwrap().welcome().await;
    let (status, body) = hub.ask_bytes(Some(&hub.admin()), Method::GET, "/metrics", Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    hub.stop().await;
    let line = Regex::new(r"(?m)^(flotilla_\w+)(?:\{(.*)\})? ").unwrap();
    let label = Regex::new(r#"(\w+)=""#).unwrap();
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let text = String::from_utf8(body).unwrap();
    for series in line.captures_iter(&text) {
        let labels = series.get(2).map_or("", |labels| labels.as_str());
        found
            .entry(series[1].to_owned())
            .or_default()
            .extend(label.captures_iter(labels).map(|it| it[1].to_owned()));
    }
    // What has no series before something happened is declared all the same.
    for family in Regex::new(r"(?m)^# TYPE (flotilla_\w+) (\w+)").unwrap().captures_iter(&text) {
        let end = if &family[2] == "counter" { "_total" } else { "" };
        found.entry(format!("{}{end}", &family[1])).or_default();
    }
    found
}

/// What is wrong with an expression, or with a text that shows labels of what it gives.
fn wrong(expression: &str, shown: &str, measured: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let names: BTreeSet<&str> =
        Regex::new(r"flotilla_\w+").unwrap().find_iter(expression).map(|it| it.as_str()).collect();
    let mut wrong: Vec<String> = Vec::new();
    if names.is_empty() {
        wrong.push(format!("{expression}: asks for nothing of the hub"));
    }
    let mut known: BTreeSet<&str> = BTreeSet::new();
    for name in names {
        match measured.get(name) {
            Some(labels) => known.extend(labels.iter().map(String::as_str)),
            None => wrong.push(format!("{expression}: the hub has no {name}")),
        }
    }
    let used = Regex::new(r#"[{,]\s*(\w+)\s*[=!]|by \((\w+)\)"#).unwrap();
    let used = used.captures_iter(expression).filter_map(|it| it.get(1).or(it.get(2)).map(|it| it.as_str()));
    let legend = Regex::new(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}").unwrap();
    let legend = legend.captures_iter(shown).map(|it| it.get(1).map_or("", |it| it.as_str()));
    for label in used.chain(legend) {
        if !known.contains(label) {
            wrong.push(format!("{expression} {shown}: there is no label {label}"));
        }
    }
    wrong
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_and_dashboard_ask_for_what_the_hub_measures() {
    let measured = measured().await;
    let rules = std::fs::read_to_string(folder().join("rules.yaml")).unwrap();
    let rules = flotilla_yaml::parse(&rules).unwrap()[0].to_json().unwrap();
    let (mut problems, mut alerts, mut panels) = (Vec::new(), 0, 0);
    for rule in rules["groups"][0]["rules"].as_array().unwrap() {
        let text = rule["annotations"].to_string();
        problems.extend(wrong(rule["expr"].as_str().unwrap(), &text, &measured));
        assert!(rule["for"].is_string() && rule["labels"]["severity"].is_string(), "{rule}");
        alerts += 1;
    }
    let dashboard = std::fs::read(folder().join("dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_slice(&dashboard).unwrap();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        for target in panel["targets"].as_array().unwrap() {
            let (expression, legend) =
                (target["expr"].as_str().unwrap(), target["legendFormat"].as_str().unwrap());
            problems.extend(wrong(expression, legend, &measured));
            panels += 1;
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(alerts > 8 && panels > 20, "{alerts} alerts, {panels} queries");
    let known = BTreeMap::from([("flotilla_a".to_owned(), BTreeSet::from(["b".to_owned()]))]);
    for (expression, shown, expected) in [
        ("flotilla_a{b=\"1\"}", "{{b}}", 0),
        ("sum by (b) (flotilla_a)", "{{ $labels.b }} {{ $value }}", 0),
        ("flotilla_c", "", 1),
        ("up", "", 1),
        ("flotilla_a{c=\"1\"}", "", 1),
        ("flotilla_a", "{{c}}", 1),
    ] {
        assert_eq!(wrong(expression, shown, &known).len(), expected, "{expression} {shown}");
    }
}

#[test]
fn prometheus_takes_the_alerts() {
    if Command::new("promtool").arg("--version").output().is_err() {
        flotilla_leftout::note("promtool", "install Prometheus (Debian: prometheus)");
        return;
    }
    let rules = folder().join("rules.yaml");
    let output = Command::new("promtool").args(["check", "rules"]).arg(&rules).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    // A cluster that was away for an hour is told of, and one that is there is not.
    let test = json!({
        "rule_files": [rules],
        "evaluation_interval": "1m",
        "tests": [{
            "interval": "1m",
            "input_series": [
                {"series": "flotilla_cluster_last_seen_timestamp_seconds{cluster=\"away\"}", "values": "0x60"},
                {"series": "flotilla_cluster_last_seen_timestamp_seconds{cluster=\"there\"}", "values": "0+60x60"},
                {"series": "flotilla_round_end_timestamp_seconds", "values": "0+60x60"},
            ],
            "alert_rule_test": [
                {"eval_time": "60m", "alertname": "FlotillaClusterAway", "exp_alerts": [{
                    "exp_labels": {"severity": "warning", "cluster": "away"},
                    "exp_annotations": {
                        "summary": "The agent of away was last heard 1h 0m 0s ago",
                        "description": "The cluster keeps what it runs and gets no changes. `flotilla status away` shows how it stood.",
                    },
                }]},
                {"eval_time": "60m", "alertname": "FlotillaRoundsStopped", "exp_alerts": []},
                {"eval_time": "60m", "alertname": "FlotillaHubAbsent", "exp_alerts": []},
            ],
        }],
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("test.yaml");
    std::fs::write(&file, test.to_string()).unwrap();
    let output = Command::new("promtool").args(["test", "rules"]).arg(&file).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}
