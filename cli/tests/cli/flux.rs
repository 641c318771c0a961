//! The commands that people know from Flux: `get kustomizations`, `export`, `logs`, `reconcile source`, `build`.

use std::time::Duration;

use flotilla_api::*;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::fake::FakeHub;
use crate::hub::DIGEST;
use crate::run;

const REVISION: &str = "main@sha1:0123456789abcdef0123456789abcdef01234567";

fn unit(name: &str, phase: &str) -> Unit {
    Unit {
        cluster: "one".into(),
        unit: name.into(),
        phase: phase.into(),
        live: true,
        source: "GitRepository/flux-system/team".into(),
        revision: REVISION.into(),
        desired: Some(DIGEST.into()),
        applied: Some(DIGEST.into()),
        ..Unit::default()
    }
}

fn source(kind: &str, name: &str) -> Source {
    Source {
        kind: kind.into(),
        name: name.into(),
        revision: REVISION.into(),
        ready: true,
        clusters: vec!["one".into()],
        ..Source::default()
    }
}

#[tokio::test]
async fn units_and_sources_are_listed_as_flux_does() -> anyhow::Result<()> {
    let hub = FakeHub::start().await?;
    let failed =
        Unit { message: "no such Namespace".into(), ..unit("kustomization/flux-system/db", "Failed") };
    let suspended =
        Unit { suspended: Some(Suspension::default()), ..unit("kustomization/team/web", "Suspended") };
    let late = Unit { applied: None, ..unit("helmrelease/team/chart", "Ready") };
    let units = [unit("root", "Ready"), failed, suspended, late];
    hub.list("units", &units).list("units?cluster=one", &units);
    let fleet = Source { kind: "fleet".into(), ..source("", "flux-system/flux-system") };
    let other = Source { clusters: vec!["two".into()], ..source("Bucket", "team/charts") };
    hub.list("sources", [&fleet, &source("GitRepository", "flux-system/team"), &other]);

    let listed = hub.run(&["get", "kustomizations"]).await?;
    assert_eq!((listed.code, listed.stderr.as_str()), (0, ""), "{listed:?}");
    let lines: Vec<&str> = listed.stdout.lines().collect();
    assert_eq!(
        lines[..2],
        [
            "CLUSTER   NAMESPACE     NAME   REVISION             SUSPENDED   READY     MESSAGE",
            "one       flux-system   db     main@sha1:01234567   False       False     no such Namespace"
        ]
    );
    assert!(
        lines[2].starts_with("one       team          web    main@sha1:01234567   True        Unknown"),
        "{lines:?}"
    );
    assert_eq!(lines.len(), 3, "{lines:?}");
    let one = hub.run(&["get", "ks", "db", "-n", "flux-system", "-c", "one", "-o", "json"]).await?;
    let one: Vec<Unit> = serde_json::from_str(&one.stdout)?;
    assert_eq!(
        one.iter().map(|unit| unit.unit.as_str()).collect::<Vec<_>>(),
        ["kustomization/flux-system/db"]
    );
    // What is applied is not what is wanted yet.
    let releases = hub.run(&["get", "hr"]).await?;
    assert!(
        releases.stdout.contains("team        chart   main@sha1:01234567   False       Unknown"),
        "{releases:?}"
    );
    let none = hub.run(&["get", "ks", "db", "-n", "team"]).await?;
    assert_eq!(none.code, 6);
    assert!(none.stderr.starts_with("error: none of the Kustomizations is called db\n"), "{}", none.stderr);

    let names = async |args: &[&str]| -> anyhow::Result<Vec<String>> {
        let all = hub.run(&[&["get", "sources", "-o", "json"], args].concat()).await?;
        let all: Vec<Source> = serde_json::from_str(&all.stdout)?;
        Ok(all.into_iter().map(|source| source.name).collect())
    };
    for (args, expected) in [
        (&[][..], &["flux-system/flux-system", "flux-system/team", "team/charts"][..]),
        (&["git"], &["flux-system/flux-system", "flux-system/team"]),
        (&["git", "team"], &["flux-system/team"]),
        (&["all", "charts"], &["team/charts"]),
        (&["team/charts"], &["team/charts"]),
        (&["-n", "team"], &["team/charts"]),
        (&["--cluster", "one"], &["flux-system/flux-system", "flux-system/team"]),
    ] {
        assert_eq!(names(args).await?, expected, "{args:?}");
    }
    assert_eq!(hub.run(&["get", "sources", "pod"]).await?.code, 2);

    let all: Value = serde_json::from_str(&hub.run(&["get", "all", "-o", "json"]).await?.stdout)?;
    let counts = ["sources", "kustomizations", "helmReleases"].map(|name| all[name].as_array().map(Vec::len));
    assert_eq!(counts, [Some(3), Some(2), Some(1)], "{all}");
    let table = hub.run(&["get", "all"]).await?.stdout;
    assert_eq!(table.matches("\n\n").count(), 2, "{table}");
    Ok(())
}

#[tokio::test]
async fn objects_are_exported_as_the_hub_knows_them() -> anyhow::Result<()> {
    let hub = FakeHub::start().await?;
    let object = json!({
        "apiVersion": "source.toolkit.fluxcd.io/v1",
        "kind": "GitRepository",
        "metadata": {"name": "team", "namespace": "flux-system", "labels": {"a": "b"}, "uid": "x"},
        "spec": {"url": "https://example.com/a", "interval": "1m"},
        "status": {"ready": true},
    });
    let definition = Definition { kind: "GitRepository".into(), object, ..Definition::default() };
    let path = "clusters/one/definitions?kind=GitRepository";
    hub.list(&format!("{path}&namespace=flux-system&name=team"), [&definition]);
    hub.list(path, [&definition, &definition]);
    hub.list("clusters/one/definitions?kind=HelmRelease&namespace=team&name=web", Vec::<Definition>::new());
    let text = "---\napiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata:\n  labels:\n    a: b\n  name: \
                team\n  namespace: flux-system\nspec:\n  interval: 1m\n  url: https://example.com/a\n";
    let one = hub.run(&["export", "source", "git", "team", "-c", "one"]).await?;
    assert_eq!((one.code, one.stdout.as_str(), one.stderr.as_str()), (0, text, ""));
    let all = hub.run(&["export", "source", "GitRepository", "--all", "-c", "one"]).await?;
    assert_eq!(all.stdout, text.repeat(2));
    let none = hub.run(&["export", "helmrelease", "web", "-n", "team", "-c", "one"]).await?;
    assert_eq!((none.code, none.stdout.as_str()), (6, ""), "{none:?}");
    assert!(none.stderr.contains("cluster one has no HelmRelease team/web"), "{none:?}");

    let repo = tempfile::tempdir()?;
    let at = repo.path().to_str().unwrap();
    let line = ["export", "source", "git", "team", "-c", "one", "--path", "a/b.yaml", "--repo", at];
    assert_eq!(hub.run(&line).await?.code, 0);
    assert_eq!(std::fs::read_to_string(repo.path().join("a/b.yaml"))?, text);
    Ok(())
}

#[tokio::test]
async fn metrics_are_printed_as_they_are() -> anyhow::Result<()> {
    let hub = FakeHub::start().await?;
    hub.get("/metrics", "flotilla_a_total 1");
    let all = hub.run(&["metrics"]).await?;
    assert_eq!((all.code, all.stdout.contains("flotilla_a_total 1")), (0, true), "{all:?}");
    assert_eq!(hub.run(&["metrics", "nothing"]).await?.stdout, "");
    Ok(())
}

fn event(at: i64, unit: &str, message: &str) -> Event {
    Event {
        cluster: "one".into(),
        at,
        unit: unit.into(),
        reason: "Applied".into(),
        message: message.into(),
        ..Event::default()
    }
}

fn of_source(at: i64, message: &str) -> Event {
    let object = ObjectId {
        group: "source.toolkit.fluxcd.io".into(),
        kind: "GitRepository".into(),
        namespace: "flux-system".into(),
        name: "team".into(),
    };
    let reason = "FetchFailed".into();
    Event { at, object: Some(object), warning: true, reason, message: message.into(), ..Event::default() }
}

#[tokio::test]
async fn logs_are_filtered_and_followed() -> anyhow::Result<()> {
    let hub = FakeHub::start().await?;
    let (first, second) =
        (event(100, "kustomization/flux-system/web", "three objects"), of_source(101, "no route"));
    // As the hub gives them: the newest first.
    let page = json!({"items": [&second, &first], "cursor": "j-2"});
    hub.get("events", &page).get("events?cluster=one", &page);
    hub.get("events?cursor=j-2", json!({"items": [], "cursor": "j-2"}));
    let log = async |args: &[&str]| hub.run(&[&["logs"], args].concat()).await;
    let lines = [
        "1970-01-01T00:01:40Z info one Kustomization/web.flux-system - Applied: three objects\n",
        "1970-01-01T00:01:41Z error GitRepository/team.flux-system - FetchFailed: no route\n",
    ];
    for (args, expected) in [
        (&[][..], lines.concat()),
        (&["--cluster", "one"], lines.concat()),
        (&["--kind", "kustomization"], lines[0].to_owned()),
        (&["--name", "team"], lines[1].to_owned()),
        (&["--level", "error"], lines[1].to_owned()),
        (&["--tail", "1"], lines[1].to_owned()),
        (&["-n", "other"], String::new()),
    ] {
        let ran = log(args).await?;
        assert_eq!((ran.code, &ran.stdout), (0, &expected), "{args:?}: {ran:?}");
    }
    hub.get("events?unit=kustomization%2Fflux-system%2Fweb", json!({"items": [&first], "cursor": "j-1"}));
    let of_unit = hub.run(&["events", "--for", "Kustomization/web", "-o", "json"]).await?;
    assert_eq!(
        serde_json::from_str::<Vec<Event>>(&of_unit.stdout)?,
        std::slice::from_ref(&first),
        "{of_unit:?}"
    );
    let json = log(&["-o", "json"]).await?;
    let events: Vec<Event> = json.stdout.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert_eq!(events, [first.clone(), second.clone()]);

    let mut child = crate::start(&hub.args(&["logs", "--follow", "--tail", "1"]))?;
    let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = async || -> anyhow::Result<String> {
        let line = tokio::time::timeout(Duration::from_secs(20), stdout.next_line()).await??;
        Ok(line.unwrap_or_default() + "\n")
    };
    assert_eq!(next().await?, lines[1]);
    // What comes after the cursor is told, also where the connection was lost meanwhile.
    hub.get("events?cursor=j-2", json!({"items": [&second, &event(102, "root", "later")], "cursor": "j-4"}));
    hub.cut();
    hub.changed();
    assert_eq!(next().await?, lines[1]);
    assert_eq!(next().await?, "1970-01-01T00:01:42Z info one Kustomization/root - Applied: later\n");
    // What is not kept any more is said, and the newest follow.
    hub.on("GET events?cursor=j-4", 410, json!({"error": "9 events after the cursor are no longer kept"}));
    hub.get("events", json!({"items": [&event(103, "root", "newest")], "cursor": "j-9"}));
    hub.get("events?cursor=j-9", json!({"items": [], "cursor": "j-9"}));
    hub.changed();
    assert_eq!(next().await?, "1970-01-01T00:01:43Z info one Kustomization/root - Applied: newest\n");
    Ok(())
}

#[tokio::test]
async fn a_source_is_fetched_now() -> anyhow::Result<()> {
    let hub = FakeHub::start().await?;
    let ready = source("GitRepository", "flux-system/team");
    hub.on("POST sources/reconcile", 200, ReconciledSource { sources: vec![ready.clone()] });
    let done = hub.run(&["reconcile", "source", "git", "team", "--cluster", "one"]).await?;
    assert_eq!((done.code, done.stdout), (0, format!("fetched revision {REVISION}\n")));
    let body = json!({"kind": "GitRepository", "namespace": "flux-system", "name": "team", "cluster": "one"});
    assert_eq!(hub.changes_asked(), [("POST sources/reconcile".to_owned(), body)]);

    let failed = Source { ready: false, message: "cannot reach it".into(), ..ready };
    hub.on("POST sources/reconcile", 200, ReconciledSource { sources: vec![failed] });
    let done = hub.run(&["reconcile", "source", "oci", "team", "-n", "apps"]).await?;
    assert_eq!((done.code, done.stdout.as_str()), (9, ""), "{done:?}");
    assert!(
        done.stderr.contains("OCIRepository/apps/team could not be fetched: cannot reach it"),
        "{done:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_kustomization_is_compared_and_waited_for() -> anyhow::Result<()> {
    let hub = FakeHub::start().await?;
    let path = "clusters/one/units/kustomization%2Fflux-system%2Fweb";
    let web = unit("kustomization/flux-system/web", "Ready");
    let agent = AgentAnswer { cluster: "one".into(), done: true, message: String::new() };
    let answer = Reconciled { agents: vec![agent], ..Reconciled::default() };
    let team = source("GitRepository", "flux-system/team");
    hub.get(path, &web).on("POST reconcile", 200, &answer);
    hub.on("POST sources/reconcile", 200, ReconciledSource { sources: vec![team] });
    let line = ["reconcile", "kustomization", "web", "-c", "one", "--with-source"];
    let done = hub.run(&line).await?;
    assert_eq!((done.code, done.stdout), (0, format!("applied revision {REVISION}\n")), "{}", done.stderr);
    assert_eq!(done.stderr, format!("GitRepository/flux-system/team: fetched revision {REVISION}\n"));
    let asked: Vec<String> = hub.changes_asked().into_iter().map(|(request, _)| request).collect();
    assert_eq!(asked, ["POST sources/reconcile", "POST reconcile"]);

    // It waits for what is wanted, and no longer than it is told to.
    hub.get(path, Unit { applied: None, phase: "Applying".into(), ..web.clone() });
    let late = hub.run(&["reconcile", "ks", "web", "-c", "one", "--timeout", "1s"]).await?;
    assert_eq!(late.code, 9, "{late:?}");
    assert!(
        late.stderr.contains("waiting: Applying") && late.stderr.contains("is not ready in time"),
        "{late:?}"
    );
    hub.get(path, Unit { phase: "Suspended".into(), ..web });
    assert_eq!(hub.run(&["reconcile", "ks", "web", "-c", "one"]).await?.code, 7);
    let away = AgentAnswer { cluster: "one".into(), done: false, message: "not connected".into() };
    hub.on("POST reconcile", 200, Reconciled { agents: vec![away], ..Reconciled::default() });
    let away = hub.run(&["reconcile", "ks", "web", "-c", "one"]).await?;
    assert_eq!(away.code, 9, "{away:?}");
    Ok(())
}

#[tokio::test]
async fn one_unit_is_built_with_folders_for_its_sources() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let write = |path: &str, text: &str| -> anyhow::Result<()> {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap())?;
        Ok(std::fs::write(path, text)?)
    };
    let map = |name: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: a}}\ndata: {{at: '${{at:=west}}'}}\n"
        )
    };
    let unit = |name: &str, source: &str| {
        format!(
            "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: {name}, namespace: \
             flux-system}}\nspec:\n  path: ./deploy\n  prune: true\n  interval: 1m\n  sourceRef: {{kind: GitRepository, name: \
             {source}}}\n  postBuild:\n    substitute: {{at: east}}\n"
        )
    };
    let team = "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {name: team, namespace: \
                flux-system}\nspec: {interval: 1m, url: 'https://example.com/team', ref: {branch: main}}\n";
    write(
        "fleet/clusters/one/units.yaml",
        &format!("{}---\n{}---\n{team}", unit("own", "flux-system"), unit("team", "team")),
    )?;
    write("fleet/deploy/map.yaml", &map("own"))?;
    write("team/deploy/map.yaml", &map("team"))?;
    let (repo, local) = (folder.path().join("fleet"), folder.path().join("team"));
    let repo = repo.to_str().unwrap();
    let build = async |more: &[&str]| {
        run(&[&["build", "kustomization", "-c", "one", "--repo", repo], more].concat()).await
    };

    let own = build(&["own"]).await?;
    assert_eq!((own.code, own.stderr.as_str()), (0, ""), "{own:?}");
    assert!(own.stdout.contains("name: own\n") && !own.stdout.contains("name: team"), "{own:?}");
    assert!(own.stdout.contains("  at: east\n"), "{own:?}");
    let unfetched = build(&["team"]).await?;
    assert_eq!((unfetched.code, unfetched.stdout.contains("kind:")), (3, false), "{unfetched:?}");
    assert!(unfetched.stderr.contains("is not fetched offline"), "{unfetched:?}");
    let source = format!("GitRepository/flux-system/team={}", local.display());
    let given = build(&["team", "--local-sources", &source]).await?;
    assert_eq!(given.code, 0, "{given:?}");
    assert!(given.stdout.contains("name: team\n"), "{given:?}");
    assert_eq!(build(&["nothing"]).await?.code, 6);
    assert_eq!(build(&["own", "--local-sources", "team=x"]).await?.code, 2);

    // The same unit compared with a hub that has none of it.
    let hub = FakeHub::start().await?;
    hub.get("clusters/one/manifests", Manifests::default());
    let diff = async |unit: &str| hub.run(&["diff", "-c", "one", "--repo", repo, "--unit", unit]).await;
    let own = diff("flux-system/own").await?;
    assert_eq!(own.code, 1, "{own:?}");
    assert!(own.stdout.contains("+++ ConfigMap a/own"), "{own:?}");
    let as_flux = hub.run(&["diff", "ks", "own", "-c", "one", "--repo", repo]).await?;
    assert_eq!(as_flux.stdout, own.stdout);
    assert_eq!(diff("flux-system/nothing").await?.code, 6);
    Ok(())
}
