//! Pipelines as people write them: what is read, what is said of those that are wrong, and what these freeze.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::report::Problem;
use flotilla_core::{ClusterName, UnitId};
use flotilla_kustomize::files::{MemoryFiles, TreePath};
use flotilla_render::pipeline::{MAX_PIPELINES, PIPELINE_FIELDS, STAGE_FIELDS, STRATEGY_FIELDS, Survey};
use flotilla_render::{Claim, Fleet, discover};
use flotilla_rollout::spec::{Amount, Order};

const STAGES: &str = "stages: [{name: a, clusters: {matchLabels: {env: dev}}}, {name: b, clusters: {matchLabels: {env: prod}}}]";

fn pipeline(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: flotilla.dev/v1alpha1\nkind: Pipeline\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"
    )
}

/// Clusters `dev` and `prod` with a label `env`, and `other` without.
fn fleet(objects: &[String]) -> Fleet {
    let cluster = |name: &str, labels: &str| {
        format!(
            "apiVersion: flotilla.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {name}}}\nspec: {{path: {name}{labels}}}\n"
        )
    };
    let clusters = [
        cluster("dev", ", labels: {env: dev}"),
        cluster("prod", ", labels: {env: prod}"),
        cluster("other", ""),
    ];
    let (clusters, objects) = (clusters.join("---\n"), objects.join("---\n"));
    let files = [("clusters/all.yaml", clusters.as_str()), ("clusters/p.yaml", objects.as_str())];
    discover(&MemoryFiles::new(files), &TreePath::from_root("clusters").unwrap()).unwrap()
}

fn texts(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

fn apps() -> UnitId {
    UnitId::kustomization("flux-system", "apps")
}

fn web() -> UnitId {
    UnitId::helm_release("web", "shop")
}

/// The root, with `apps` in it, with `web` in it.
fn units() -> BTreeMap<UnitId, Option<UnitId>> {
    [(UnitId::root(), None), (apps(), Some(UnitId::root())), (web(), Some(apps()))].into()
}

/// To whom the units of a cluster belong, in their order: `-` nobody, `NAME/STAGE`, `NAME/?` no stage, `!` a clash, `X` unread.
fn claims(fleet: &Fleet, cluster: &str) -> String {
    let units = units();
    let cluster: ClusterName = cluster.parse().unwrap();
    let claim = |unit| match fleet.pipelines.claim(&cluster, unit, |unit: &UnitId| units[unit].as_ref()) {
        Claim::Nobody => "-".to_owned(),
        Claim::Stage(of, stage) => format!("{}/{}", of.pipeline.name, of.pipeline.stages[stage].name),
        Claim::NoStage(of) => format!("{}/?", of.pipeline.name),
        Claim::Clash(_) => "!".to_owned(),
        Claim::Unread(_) => "X".to_owned(),
    };
    [UnitId::root(), apps(), web()].iter().map(claim).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_unit_belongs_to_the_pipeline_that_selects_it_and_the_first_stage_that_selects_its_cluster() {
    let all = pipeline("all", STAGES);
    let shop = |more: &str| pipeline("shop", &format!("units: [helmrelease/web/*], {more}{STAGES}"));
    let apps = pipeline("apps", &format!("units: [flux-system/apps], except: [helmrelease/*/*], {STAGES}"));
    for (objects, dev, prod, other) in [
        (vec![], "- - -", "- - -", "- - -"),
        (vec![all.clone()], "all/a all/a all/a", "all/b all/b all/b", "all/? all/? all/?"),
        (vec![shop("")], "- - shop/a", "- - shop/b", "- - shop/?"),
        (vec![apps.clone(), shop("")], "- apps/a shop/a", "- apps/b shop/b", "- apps/? shop/?"),
        (vec![all, shop("")], "all/a all/a !", "all/b all/b !", "all/? all/? all/?"),
        // Cannot be read: what it selects is frozen, where it can be told; else all of it.
        (vec![shop("onChange: never, ")], "- - X", "- - X", "- - -"),
        (vec![pipeline("shop", &format!("unit: [helmrelease/web/*], {STAGES}"))], "X X X", "X X X", "- - -"),
        (vec![pipeline("shop", "units: [helmrelease/web/*], stages: []")], "- - X", "- - X", "- - X"),
        (vec![pipeline("shop", &format!("units: [nothing], {STAGES}"))], "X X X", "X X X", "- - -"),
        (vec![pipeline("Shop", &format!("units: [helmrelease/web/*], {STAGES}"))], "- - X", "- - X", "- - -"),
        (vec![shop(""), shop("")], "- - X", "- - X", "- - -"),
        (vec![shop(""), shop("onChange: never, ")], "- - X", "- - X", "- - -"),
        (vec![shop("").replace("Pipeline", "Pipelin")], "- - X", "- - X", "- - -"),
        (vec![shop("").replace("v1alpha1", "v1")], "- - X", "- - X", "- - -"),
        (
            vec!["apiVersion: flotilla.dev/v1alpha1\nkind: Pipeline\na: [\n".to_owned()],
            "X X X",
            "X X X",
            "X X X",
        ),
        (
            vec!["apiVersion: flotilla.dev/v1alpha1\nkind: Cluster\na: [\n".to_owned()],
            "- - -",
            "- - -",
            "- - -",
        ),
    ] {
        let fleet = fleet(&objects);
        let found = ["dev", "prod", "other"].map(|cluster| claims(&fleet, cluster));
        assert_eq!(found, [dev, prod, other], "{objects:#?}\n{:#?}", texts(&fleet.problems));
    }
    let gone = discover(&MemoryFiles::new([("a.yaml", "a: 1")]), &TreePath::from_root("clusters").unwrap());
    assert_eq!(claims(&gone.unwrap(), "dev"), "X X X", "without the folder nobody knows of pipelines");
}

#[test]
fn what_is_wrong_is_said_with_its_field() {
    let stage = |more: &str| format!("stages: [{{name: a, clusters: {{}}, {more}}}]");
    let check = |more: &str| stage(&format!("after: {{checks: [{{name: c, {more}}}]}}"));
    let window = |more: &str| format!("windows: [{{name: w, {more}}}], {STAGES}");
    let many = |count: usize, one: &str| vec![one; count].join(", ");
    for (spec, field, message) in [
        (String::new(), "spec.stages", "is missing"),
        ("stages: []".to_owned(), "spec.stages", "needs at least one stage"),
        ("stages: {}".to_owned(), "spec.stages", "must be a list"),
        (format!("stages: [{}]", many(33, "{name: a, clusters: {}}")), "spec.stages", "33 entries"),
        (format!("{STAGES}, stage: []"), "spec.stage", "is not a field here; known are units, except"),
        (format!("units: [], {STAGES}"), "spec.units", "selects no unit"),
        (format!("units: [apps], {STAGES}"), "spec.units[0]", "'apps' selects no unit"),
        (format!("units: [{}], {STAGES}", many(257, "root")), "spec.units", "257 entries"),
        (format!("except: ['a/[b'], {STAGES}"), "spec.except[0]", "selects no unit"),
        (
            format!("onChange: later, {STAGES}"),
            "spec.onChange",
            "'later' is none of freeze, restart, unstarted",
        ),
        ("stages: [{name: A, clusters: {}}]".to_owned(), "spec.stages[0].name", "'A' is not a valid name"),
        ("stages: [{name: a}]".to_owned(), "spec.stages[0].clusters", "is missing"),
        (
            "stages: [{name: a, clusters: {env: a}}]".to_owned(),
            "spec.stages[0].clusters.env",
            "is not a field of a selector",
        ),
        (
            format!("stages: [{}]", many(2, "{name: a, clusters: {}}")),
            "spec.stages[1]",
            "another stage has the name 'a' too",
        ),
        (stage("gates: {}"), "spec.stages[0].gates", "is not a field here"),
        (
            stage("strategy: {maxConcurrent: 0}"),
            "spec.stages[0].strategy.maxConcurrent",
            "must be at least 1",
        ),
        (
            stage("strategy: {maxConcurrent: 0%}"),
            "spec.stages[0].strategy.maxConcurrent",
            "must be at least 1",
        ),
        (stage("strategy: {maxFailed: 101%}"), "spec.stages[0].strategy.maxFailed", "a share such as 25%"),
        (
            stage("strategy: {maxFailed: -1}"),
            "spec.stages[0].strategy.maxFailed",
            "must be a number of clusters",
        ),
        (stage("strategy: {order: size}"), "spec.stages[0].strategy.order", "must be name, spread or"),
        (
            stage("strategy: {progressDeadline: 5}"),
            "spec.stages[0].strategy.progressDeadline",
            "must be a string",
        ),
        (
            stage("strategy: {progressDeadline: 0s}"),
            "spec.stages[0].strategy.progressDeadline",
            "at least 1s",
        ),
        (
            stage("strategy: {onFailure: stop}"),
            "spec.stages[0].strategy.onFailure",
            "'stop' is none of pause, rollback, continue",
        ),
        (
            stage("strategy: {offline: {then: go}}"),
            "spec.stages[0].strategy.offline.then",
            "'go' is none of wait, skip, fail",
        ),
        (stage("strategy: {join: all}"), "spec.stages[0].strategy.join", "none of lastPassed, candidate"),
        (
            stage("strategy: {supersede: perhaps}"),
            "spec.stages[0].strategy.supersede",
            "must be true or false",
        ),
        (stage("before: {healthyFor: 10}"), "spec.stages[0].before.healthyFor", "must be a string"),
        (stage("before: {approval: {count: 0}}"), "spec.stages[0].before.approval.count", "from 1 to 32"),
        (stage("before: {approval: {from: []}}"), "spec.stages[0].before.approval.from", "names nobody"),
        (
            stage("before: {approval: {from: ['']}}"),
            "spec.stages[0].before.approval.from[0]",
            "must not be empty",
        ),
        (check("every: 1m"), "spec.stages[0].after.checks[0]", "needs one of metric and http"),
        (
            check("http: {url: ftp://x}"),
            "spec.stages[0].after.checks[0].http.url",
            "begins with https:// or http://",
        ),
        (
            check("http: {url: 'https://me:secret@x/'}"),
            "spec.stages[0].after.checks[0].http.url",
            "has credentials in it",
        ),
        (
            check("http: {url: 'https://x', status: []}"),
            "spec.stages[0].after.checks[0].http.status",
            "names no status",
        ),
        (
            check("http: {url: 'https://x', status: [9]}"),
            "spec.stages[0].after.checks[0].http.status[0]",
            "such as 200",
        ),
        (
            check("metric: {server: 'http://x', query: up, is: '== 1'}"),
            "spec.stages[0].after.checks[0].metric.is",
            "such as '<= 0.01'",
        ),
        (
            check("metric: {server: 'http://x', query: up, is: '> inf'}"),
            "spec.stages[0].after.checks[0].metric.is",
            "such as '<= 0.01'",
        ),
        (
            check("successes: 0, http: {url: 'https://x'}"),
            "spec.stages[0].after.checks[0].successes",
            "from 1 to 1000",
        ),
        (window("kind: allow, from: 9, to: '10:00'"), "spec.windows[0].from", "is not a time"),
        (window("kind: allow, from: '25:00', to: '10:00'"), "spec.windows[0].from", "'25:00' is not a time"),
        (window("kind: open, from: '09:00', to: '10:00'"), "spec.windows[0].kind", "none of allow, deny"),
        (
            window("kind: allow, from: '09:00', to: '2026-12-24T12:00'"),
            "spec.windows[0].to",
            "must be written as `from` is",
        ),
        (
            window("kind: allow, from: '2026-12-24T12:00', to: '2026-12-24T11:00'"),
            "spec.windows[0].to",
            "must be after",
        ),
        (
            window("kind: allow, days: [Fredag], from: '09:00', to: '10:00'"),
            "spec.windows[0].days[0]",
            "is no day",
        ),
        (window("kind: allow, days: [], from: '09:00', to: '10:00'"), "spec.windows[0].days", "names no day"),
        (
            window("kind: allow, zone: Berlin, from: '09:00', to: '10:00'"),
            "spec.windows[0].zone",
            "'Berlin' is no time zone",
        ),
        (
            window("kind: deny, maxStarts: 1, from: '09:00', to: '10:00'"),
            "spec.windows[0].maxStarts",
            "that allow something",
        ),
        (
            window("kind: deny, override: [], from: '09:00', to: '10:00'"),
            "spec.windows[0].override",
            "names no role",
        ),
        (window("kind: deny, to: '10:00'"), "spec.windows[0].from", "is missing"),
    ] {
        let fleet = fleet(&[pipeline("p", &spec)]);
        let said = fleet.problems.iter().find(|problem| !problem.notice);
        let said = said.unwrap_or_else(|| panic!("{spec}: nothing is said"));
        let place = format!("clusters/p.yaml:{}:", said.line);
        assert!(said.to_string().starts_with(&place) && said.line > 0, "{spec}: {said}");
        assert!(said.field == field && said.message.contains(message), "{spec}: {said}");
        assert!(fleet.pipelines.read.is_empty() && fleet.pipelines.unread.len() == 1, "{spec}");
    }
}

#[test]
fn a_fleet_has_a_bounded_number_of_pipelines() {
    let one = |n: usize| pipeline(&format!("p{n}"), &format!("units: [flux-system/u{n}], {STAGES}"));
    let fleet = fleet(&(0..=MAX_PIPELINES).map(one).collect::<Vec<_>>());
    assert_eq!((fleet.pipelines.read.len(), fleet.pipelines.unread.len()), (MAX_PIPELINES, 1));
    let said = texts(&fleet.problems);
    assert!(said.iter().any(|problem| problem.contains("more than 64 pipelines")), "{said:?}");
}

#[test]
fn what_only_rendered_clusters_show_is_said() {
    let shop = pipeline("shop", &format!("units: [helmrelease/web/*], {STAGES}"));
    for (objects, expected) in [
        (vec![shop.clone()], vec!["notice: no stage of the pipeline 'shop' selects other: "]),
        (
            vec![pipeline(
                "p",
                &format!("units: [flux-system/app, flux-system/apps], except: [a/b], {STAGES}"),
            )],
            vec![
                "'kustomization/flux-system/app' selects no unit of any cluster",
                "'kustomization/a/b' selects no unit of any cluster",
                "notice: no stage of the pipeline 'p' selects other",
            ],
        ),
        (
            vec![shop.clone(), pipeline("all", STAGES)],
            vec![
                "the pipelines 'all' and 'shop' both promote helmrelease/web/shop of dev, prod",
                "the pipelines 'shop' and 'all' both promote helmrelease/web/shop of dev, prod",
                "notice: no stage of the pipeline 'all' selects other",
            ],
        ),
        (
            vec![shop.replace("units:", "onChange: x, units:")],
            vec!["until this can be read, helmrelease/web/shop of dev, prod stay as they run"],
        ),
    ] {
        let fleet = fleet(&objects);
        let mut survey = Survey::new(&fleet.pipelines);
        fleet.clusters.keys().for_each(|cluster| survey.add(cluster, &units()));
        let kind = |problem: &Problem| if problem.notice { "notice: " } else { "" };
        let said: Vec<String> =
            survey.problems().iter().map(|problem| format!("{}{}", kind(problem), problem.message)).collect();
        assert_eq!(said.len(), expected.len(), "{said:#?}");
        for (said, expected) in said.iter().zip(expected) {
            assert!(said.starts_with(expected), "{said}\n{expected}");
        }
    }
    let fleet = fleet(&[shop]);
    let mut survey = Survey::new(&fleet.pipelines);
    fleet.clusters.keys().for_each(|cluster| survey.add(cluster, &units()));
    assert_eq!(survey.promoted("shop").unwrap().units, [(web(), 2)].into());
}

/// Each YAML block of a page that holds a `Pipeline`.
fn examples(page: &str) -> Vec<String> {
    let blocks = page.split("```yaml\n").skip(1).filter_map(|block| block.split("```").next());
    blocks.filter(|block| block.contains("kind: Pipeline")).map(str::to_owned).collect()
}

#[test]
fn the_pipelines_of_the_documentation_are_read() {
    let kinds = include_str!("../../../docs/kinds.md");
    let promotion = include_str!("../../../docs/promotion.md");
    for (page, count) in [(kinds, 1), (promotion, 4)] {
        let examples = examples(page);
        assert_eq!(examples.len(), count);
        for example in examples {
            let fleet = fleet(std::slice::from_ref(&example));
            assert_eq!(fleet.pipelines.unread, [], "{example}");
            assert_eq!(fleet.pipelines.read.len(), 1, "{example}");
        }
    }
    let shop = &fleet(&examples(promotion)[1..2]).pipelines.read["shop"].pipeline;
    let edge = &shop.stages[1].strategy;
    assert_eq!((edge.max_concurrent, edge.max_failed), (Amount::Percent(10), Amount::Percent(2)));
    assert_eq!(edge.order, Order::Label("region".to_owned()));
}

#[test]
fn each_field_of_a_pipeline_is_documented() {
    let page = include_str!("../../../docs/kinds.md");
    let section = page.split("\n## ").find(|section| section.starts_with("Pipeline\n")).unwrap();
    let rows: BTreeSet<&str> =
        section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    for field in PIPELINE_FIELDS {
        assert!(rows.contains(format!("spec.{field}").as_str()), "{field}");
    }
    for field in STAGE_FIELDS.iter().chain(&STRATEGY_FIELDS) {
        assert!(rows.contains(field), "{field}");
    }
}
