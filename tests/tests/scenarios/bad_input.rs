//! What people can get wrong in Git: each mistake is shown where it stands, keeps what runs, and stays alone.

use std::collections::BTreeMap;

use flotilla_tests::fleet::{Fleet, errors, ready};
use flotilla_tests::git::{Change, file, remove};
use flotilla_tests::manifests::{app, config_map, unit, unit_id};
use http::Method;

use crate::{VALUE, config};

/// A mistake in one unit, and what is said of it.
struct Mistake {
    unit: &'static str,
    changes: Vec<Change>,
    file: &'static str,
    /// 0 where the mistake is the whole file's.
    line: u32,
    /// What the problem says, whatever else.
    says: &'static str,
}

const BOMB: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: bomb, namespace: default}
a: &a [x, x, x, x, x, x, x, x, x, x]
b: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a]
c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b, *b]
d: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c, *c]
e: &e [*d, *d, *d, *d, *d, *d, *d, *d, *d, *d]
f: &f [*e, *e, *e, *e, *e, *e, *e, *e, *e, *e]
g: &g [*f, *f, *f, *f, *f, *f, *f, *f, *f, *f]
h: [*g, *g, *g, *g, *g, *g, *g, *g, *g, *g]
";

const CONTENT: &str = "config.yaml";

fn content(unit: &str, text: impl Into<Vec<u8>>) -> Change {
    file(&format!("apps/{unit}/{CONTENT}"), text)
}

fn list(unit: &str, resource: &str) -> Change {
    let text = format!("kind: Kustomization\nresources:\n  - {CONTENT}\n  - {resource}\n");
    file(&format!("apps/{unit}/kustomization.yaml"), text)
}

fn definition(unit_name: &str, from: &str, to: &str) -> Change {
    let text = unit(unit_name, &format!("apps/{unit_name}"), &[]).replace(from, to);
    file(&format!("clusters/one/{unit_name}.yaml"), text)
}

fn mistakes() -> Vec<Mistake> {
    let huge = format!("{}data:\n  more: \"{}\"\n", "# A file of 50 MB\n", "x".repeat(50 << 20));
    vec![
        Mistake {
            unit: "syntax",
            changes: vec![content("syntax", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: syntax\n")],
            file: "apps/syntax/config.yaml",
            line: 3,
            says: "unclosed",
        },
        Mistake {
            unit: "twice",
            changes: vec![content("twice", config_map("twice", "2") + "  value: again\n")],
            file: "apps/twice/config.yaml",
            line: 8,
            says: "value",
        },
        Mistake {
            unit: "bomb",
            changes: vec![content("bomb", BOMB)],
            file: "apps/bomb/config.yaml",
            line: 0,
            says: "alias",
        },
        Mistake {
            unit: "huge",
            changes: vec![content("huge", huge)],
            file: "apps/huge/config.yaml",
            line: 0,
            says: "bytes",
        },
        Mistake {
            unit: "link",
            changes: vec![
                Change::Symlink("apps/link/out.yaml".into(), "../../../../../etc/passwd".into()),
                list("link", "out.yaml"),
            ],
            file: "apps/link/kustomization.yaml",
            line: 4,
            says: "symlink",
        },
        Mistake {
            unit: "outside",
            changes: vec![list("outside", "../../../../etc/hostname")],
            file: "apps/outside/kustomization.yaml",
            line: 4,
            says: "etc/hostname",
        },
        Mistake {
            unit: "absent",
            changes: vec![list("absent", "not-there.yaml")],
            file: "apps/absent/kustomization.yaml",
            line: 4,
            says: "not-there.yaml",
        },
        Mistake {
            unit: "nameless",
            changes: vec![content("nameless", "apiVersion: v1\nkind: ConfigMap\nmetadata: {}\n")],
            file: "apps/nameless/config.yaml",
            line: 1,
            says: "name",
        },
        Mistake {
            unit: "circle-a",
            changes: vec![app("one", "circle-a", &["dependsOn: [{name: circle-b}]"])],
            file: "clusters/one/circle-a.yaml",
            line: 1,
            says: "cycle",
        },
        Mistake {
            unit: "circle-b",
            changes: vec![app("one", "circle-b", &["dependsOn: [{name: circle-a}]"])],
            file: "clusters/one/circle-b.yaml",
            line: 1,
            says: "cycle",
        },
        Mistake {
            unit: "lonely",
            changes: vec![app("one", "lonely", &["dependsOn: [{name: nobody}]"])],
            file: "clusters/one/lonely.yaml",
            line: 1,
            says: "nobody",
        },
        Mistake {
            unit: "moved",
            changes: vec![definition("moved", "apps/moved", "apps/nowhere")],
            file: "apps/nowhere",
            line: 0,
            says: "no such folder",
        },
        Mistake {
            unit: "interval",
            changes: vec![definition("interval", "interval: 10m", "interval: tuesday")],
            file: "clusters/one/interval.yaml",
            line: 11,
            says: "tuesday",
        },
        Mistake {
            unit: "unknown",
            changes: vec![definition("unknown", "prune: true", "prune: true\n  pruning: true")],
            file: "clusters/one/unknown.yaml",
            line: 13,
            says: "spec.pruning",
        },
    ]
}

fn begin(mistakes: &[Mistake]) -> Vec<Change> {
    let names = mistakes.iter().map(|mistake| mistake.unit).chain(["good", "twin-a", "twin-b"]);
    names.flat_map(|name| [app("one", name, &[]), content(name, config_map(name, "1"))]).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mistake_is_shown_where_it_stands_and_stays_alone() {
    let mistakes = mistakes();
    let begin = begin(&mistakes);
    let mut fleet = Fleet::start(["one"], &begin).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    let mut uids = BTreeMap::new();
    for mistake in &mistakes {
        uids.insert(mistake.unit, fleet.appears("one", &config(mistake.unit)).await.unwrap());
    }
    drop(fleet.member("one").proxy().take_seen());

    let mut changes: Vec<Change> = mistakes.iter().flat_map(|mistake| mistake.changes.clone()).collect();
    changes.push(content("good", config_map("good", "2")));
    changes.push(content("twin-b", config_map("twin-a", "another")));
    fleet.commit("All mistakes at once", &changes).await.unwrap();
    fleet.field_becomes("one", &config("good"), VALUE, "2").await.unwrap();
    let mut wrong = Vec::new();
    for Mistake { unit, file, line, says, .. } in &mistakes {
        let shown = fleet
            .unit_becomes("one", &unit_id(unit), |unit| {
                if errors(unit).is_empty() { Err("no problem is shown".into()) } else { Ok(()) }
            })
            .await
            .unwrap();
        let fits = shown.problems.iter().any(|problem| {
            (file.is_empty() || problem.file == *file)
                && (*line == 0 || problem.line == *line)
                && format!("{} {}", problem.field, problem.message).contains(says)
        });
        if !fits {
            wrong.push(format!("{unit}: {file}:{line} {says:?} is not among {:?}", errors(&shown)));
        }
        if shown.phase != "Held" {
            wrong.push(format!("{unit} is {}", shown.phase));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Of two units with one object the later by name does without it, and says whose it is.
    let twin = fleet
        .unit_becomes("one", &unit_id("twin-b"), |unit| {
            if unit.problems.iter().any(|problem| problem.message.contains("twin-a")) {
                Ok(())
            } else {
                Err(format!("{:?}", unit.problems))
            }
        })
        .await
        .unwrap();
    assert_eq!(twin.phase, "Ready", "{:?}", twin.problems);

    // The same for people.
    let table = fleet.cli(&["get", "units", "--cluster", "one", "-o", "wide"]).await.unwrap();
    assert!(table.contains("Held"), "{table}");
    let checked = fleet.cli_output(&["check"]).await.unwrap();
    assert!(!checked.status.success(), "a fleet with problems passes the check");
    let told = fleet.cli_output(&["reconcile"]).await.unwrap();
    let said = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.status.code() == Some(1) && said.contains("is held: "), "{told:?}");
    let events = fleet.cli(&["get", "events", "--cluster", "one", "--warnings"]).await.unwrap();
    assert!(events.contains("BuildFailed"), "{events}");
    let status = fleet.status().await.unwrap();
    let held = fleet.units("one").await.unwrap().values().filter(|unit| unit.phase == "Held").count();
    assert_eq!(status.attention_counts["Held"] as usize, held, "{:?}", status.attention);
    let metrics = fleet.cli(&["metrics", "flotilla_attention"]).await.unwrap();
    assert!(metrics.contains(&format!("{{reason=\"Held\",problem=\"true\"}} {held}\n")), "{metrics}");

    // What ran runs, put back where it is changed; nothing was deleted.
    for (unit, uid) in &uids {
        assert_eq!(fleet.uid("one", &config(unit)).await.unwrap().as_ref(), Some(uid), "{unit}");
        assert_eq!(config(unit).field(&fleet.client("one"), VALUE).await.unwrap(), "1", "{unit}");
    }
    config("syntax").delete(&fleet.client("one")).await.unwrap();
    fleet.appears_anew("one", &config("syntax"), &uids["syntax"]).await.unwrap();
    let deletes: Vec<_> = fleet
        .member("one")
        .proxy()
        .take_seen()
        .into_iter()
        .filter(|it| it.method == Method::DELETE)
        .collect();
    assert!(deletes.is_empty(), "{deletes:?}");
    assert!(ready(&fleet.units("one").await.unwrap()[&unit_id("good")]));
    assert!(ready(&fleet.units("one").await.unwrap()[&unit_id("twin-a")]));

    // Corrected, all is well.
    let mut corrected: Vec<Change> =
        begin.into_iter().filter(|it| *it != content("good", config_map("good", "1"))).collect();
    corrected.push(remove("apps/link"));
    corrected.push(remove("apps/outside/kustomization.yaml"));
    corrected.push(remove("apps/absent/kustomization.yaml"));
    corrected.push(app("one", "link", &[]));
    corrected.push(content("link", config_map("link", "1")));
    fleet.commit("Corrected", &corrected).await.unwrap();
    fleet.in_sync(&["one"]).await.unwrap();
    fleet.units_ready("one").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_root_holds_its_cluster_and_no_other() {
    let files = ["one", "two"].map(|cluster| {
        let name = format!("of-{cluster}");
        [app(cluster, &name, &[]), content(&name, config_map(&name, "1"))]
    });
    let mut fleet = Fleet::start(["one", "two"], &files.concat()).await.unwrap();
    fleet.in_sync(&["one", "two"]).await.unwrap();
    let uid = fleet.appears("one", &config("of-one")).await.unwrap();
    drop(fleet.member("one").proxy().take_seen());

    // Broken beside the definitions: none of them can be trusted to be all there are.
    let changes = [
        file("clusters/one/more.yaml", "kind: [\n"),
        remove("clusters/one/of-one.yaml"),
        content("of-two", config_map("of-two", "2")),
    ];
    fleet.commit("Break the root of one", &changes).await.unwrap();
    fleet.field_becomes("two", &config("of-two"), VALUE, "2").await.unwrap();
    let broken = fleet.cluster("one").await.unwrap();
    let units = fleet.units("one").await.unwrap();
    let problems: Vec<_> =
        broken.problems.iter().chain(units.values().flat_map(|unit| &unit.problems)).collect();
    assert!(problems.iter().any(|it| it.file == "clusters/one/more.yaml" && it.line > 0), "{problems:?}");
    let told = fleet.cli_output(&["reconcile", "one"]).await.unwrap();
    let said = String::from_utf8_lossy(&told.stdout);
    assert!(told.status.code() == Some(1) && said.contains("clusters/one/more.yaml:1"), "{told:?}");
    assert_eq!(fleet.uid("one", &config("of-one")).await.unwrap(), Some(uid));
    let deletes = fleet.member("one").proxy().take_seen();
    assert!(deletes.iter().all(|it| it.method != Method::DELETE), "{deletes:?}");

    // The file corrected, the unit is really gone: its objects go, though not without a word when nothing is left.
    let files = [
        app("one", "stays", &[]),
        content("stays", config_map("stays", "1")),
        remove("clusters/one/more.yaml"),
    ];
    fleet.commit("Mend it", &files).await.unwrap();
    fleet.vanishes("one", &config("of-one")).await.unwrap();
    fleet.in_sync(&["one", "two"]).await.unwrap();
    // The next state names the removed unit no more: there is nothing to do and nothing to report, and it is in sync.
    fleet.reconcile().await.unwrap();
    fleet.in_sync(&["one", "two"]).await.unwrap();
}
