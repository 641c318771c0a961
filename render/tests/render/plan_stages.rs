//! When a plan's diffs reach clusters.

use flotilla_core::ClusterName;
use flotilla_core::change::Policy;
use flotilla_render::plan::stages::{Part, whens};
use flotilla_render::plan::{Differ, FleetPlan, Misfits, PlanBuilder, plan};

use crate::plan::{UNFETCHED, World, app, fleet, map};

const PIPELINE: &str = "apiVersion: flotilla.dev/v1alpha1\nkind: Pipeline\nmetadata: {name: p}\nspec: {units: [flux-system/app], \
     stages: [{name: a, clusters: {matchLabels: {env: dev}}}, {name: none, clusters: {matchLabels: {env: test}}}, {name: b, \
     clusters: {matchLabels: {env: prod}}}]}\n";

/// What is to happen when, a line for each part.
fn scheduled(plan: &FleetPlan) -> Vec<String> {
    let part = |when: &str, part: &Part| {
        let names: Vec<&str> = part.clusters.iter().map(|name| name.as_str()).collect();
        let units: Vec<String> = part
            .units
            .iter()
            .map(|unit| unit.to_string().replace("kustomization/flux-system/", ""))
            .collect();
        let group = plan.groups.iter().find(|group| group.plan.digest() == part.diff).expect("a diff");
        assert!(part.clusters.is_subset(&group.clusters), "{part:?}");
        format!("{when}: {} of {}", units.join(","), names.join(","))
    };
    let mut out: Vec<String> = plan.schedule.at_once.iter().map(|one| part("at once", one)).collect();
    for of in &plan.schedule.pipelines {
        for (stage, found) in of.pipeline.stages.iter().zip(&of.stages) {
            if found.parts.is_empty() {
                let doubt = if found.in_part { "?" } else { "" };
                out.push(format!(
                    "{}/{}: nothing{doubt} of {}",
                    of.pipeline.name, stage.name, found.clusters
                ));
            }
            let when = format!("{}/{}", of.pipeline.name, stage.name);
            out.extend(found.parts.iter().map(|one| part(&when, one)));
        }
    }
    for (why, parts) in &plan.schedule.stays {
        out.extend(parts.iter().map(|one| part(why, one)));
    }
    out
}

#[test]
fn a_plan_says_in_which_stage_clusters_get_what() {
    let cluster = |name: &str, env: &str| {
        format!(
            "apiVersion: flotilla.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {name}}}\nspec: {{path: root, labels: {{env: {env}}}}}\n"
        )
    };
    let tree = |value: &str, pipeline: &str| {
        vec![
            ("clusters/dev.yaml", cluster("dev", "dev")),
            ("clusters/prod.yaml", cluster("prod", "prod")),
            ("clusters/free.yaml", cluster("free", "none")),
            ("clusters/p.yaml", pipeline.to_owned()),
            ("root/app.yaml", app("app", "apps", "")),
            ("apps/a.yaml", map("a", value)),
            ("root/own.yaml", map("own", value)),
        ]
    };
    let one = tree("one", PIPELINE);
    let other = |path: &str, content: String| {
        let mut files = tree("one", PIPELINE);
        files.retain(|(known, _)| *known != path);
        files.push(match path {
            "apps/a.yaml" => ("apps/a.yaml", content),
            "clusters/dev.yaml" => ("clusters/dev.yaml", content),
            "clusters/new.yaml" => ("clusters/new.yaml", content),
            _ => ("root/app.yaml", content),
        });
        files
    };
    let changed = tree("two", PIPELINE);
    let second = PIPELINE.replace("{name: p}", "{name: q}");
    for (what, to, expected) in [
        ("nothing", one.clone(), vec![]),
        (
            "what it selects goes through stages, the rest goes at once, as in a cluster of no stage",
            changed.clone(),
            vec![
                "at once: root of dev,prod",
                "at once: root,app of free",
                "p/a: app of dev",
                "p/none: nothing of 0",
                "p/b: app of prod",
            ],
        ),
        ("nobody waits without a pipeline", tree("one", "a: 1\n"), vec![]),
        (
            "one that is gone keeps what it promoted",
            tree("two", ""),
            vec![
                "at once: root of dev,prod",
                "at once: root,app of free",
                "the pipeline 'p' is not defined any more, and keeps what it promoted as it runs until `flotilla rollout forget p`: \
                 app of dev,prod",
            ],
        ),
        (
            "two that promote one unit",
            tree("two", &format!("{PIPELINE}---\n{second}")),
            vec![
                "at once: root of dev,prod",
                "at once: root,app of free",
                "the pipelines 'p', 'q' all promote it: app of dev,prod",
            ],
        ),
        (
            "a unit that is removed goes through the stages too",
            other("root/app.yaml", map("x", "1")),
            vec![
                "at once: root of dev,prod",
                "at once: root,app of free",
                "p/a: app of dev",
                "p/none: nothing of 0",
                "p/b: app of prod",
            ],
        ),
        (
            "a cluster that left all stages, with an edit of what it would run",
            other("clusters/dev.yaml", cluster("dev", "none").replace("path: root", "path: apps")),
            vec![
                "at once: root of dev",
                "no stage of the pipeline 'p' selects the cluster any more: it keeps what it runs: app of dev",
            ],
        ),
        (
            "a new cluster",
            other("clusters/new.yaml", cluster("new", "prod")),
            vec!["at once: root of new", "p/a: nothing of 1", "p/none: nothing of 0", "p/b: app of new"],
        ),
    ] {
        assert_eq!(scheduled(&fleet(&one, &to)), expected, "{what}");
    }
    let unread = fleet(&one, &tree("two", &PIPELINE.replace("stages:", "onChange: x, stages:")));
    assert!(
        unread.schedule.stays.keys().all(|why| why.contains("'x' is none of freeze"))
            && !unread.schedule.stays.is_empty(),
        "{:?}",
        unread.schedule
    );
    assert!(unread.schedule.pipelines.is_empty());
    // Where a cluster was not compared, nobody can tell that nothing changes in its stage.
    let (from, to) = (World::new(&one), World::new(&changed));
    let (differ, mut builder) = (Differ::new([7; 32]), PlanBuilder::default());
    let name: ClusterName = "prod".parse().unwrap();
    let (old, new) = (from.render(&name), to.render(&name));
    let (before, after) = (from.side(&name, &old), to.side(&name, &new));
    let planned = plan(before, after, &differ, UNFETCHED);
    let whens = whens(&name, (before, &from.fleet.pipelines), (after, &to.fleet.pipelines), &planned.plan);
    builder.add(name, planned, Misfits::default(), whens);
    let alone = builder.finish(&Policy::default(), &to.fleet.pipelines);
    assert!(scheduled(&alone).contains(&"p/a: nothing? of 1".to_owned()), "{:?}", scheduled(&alone));
}
