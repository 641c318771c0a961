//! A tenant who attacks: what his repository brings about beyond his account, one hop away (what it holds) and two (what a unit
//! that it defines holds), and by a token of his own. docs/security.md lists all of it; here it is the whole hub.

use std::io::Read as _;
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::ensure;
use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use flotilla_tests::fleet::{Fleet, HubOptions, SOON, errors};
use flotilla_tests::git::{Change, Repo, file, remove};
use flotilla_tests::git_http::GitServer;
use flotilla_tests::manifests::{config_map, config_map_in, namespace};
use flotilla_tests::objects::{ObjectRef, apply};
use flotilla_tests::wait::eventually;
use flotilla_tests::{ClusterOptions, Clusters};
use serde_json::json;

use crate::VALUE;

const PASSWORD: &str = "hunter2-of-team-b";
const CROWN: &str = flotilla_tests::marked::MARK;

/// Requests, each with what it was authorized by.
type Requests = Arc<Mutex<Vec<(String, Option<String>)>>>;

/// The tenant's own server: which requests came, each with what it was authorized by.
async fn attacker() -> (String, Requests) {
    let seen = Requests::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let noted = seen.clone();
    let router = Router::new().fallback(move |request: Request| {
        let authorization = request.headers().get("authorization").map(|it| format!("{it:?}"));
        let line = (request.uri().to_string(), authorization);
        noted.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        async { StatusCode::NOT_FOUND }
    });
    // It ends with the test's runtime.
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, seen)
}

/// Something that listens where the operator allows nothing: how many connections came.
fn forbidden() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.2:0").unwrap();
    let (port, count) = (listener.local_addr().unwrap().port(), Arc::<AtomicUsize>::default());
    let counted = count.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::SeqCst);
            // Whatever it says, it is answered by the end of the connection.
            let _ = { stream }.read(&mut [0; 1]);
        }
    });
    (port, count)
}

fn git(namespace: &str, name: &str, url: &str, more: &str) -> String {
    format!(
        "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {{name: {name}, namespace: \
         {namespace}}}\nspec:\n  interval: 1h\n  url: {url}\n  ref: {{branch: main}}\n{more}"
    )
}

/// A Kustomization; `source` is of its own namespace.
fn kustomization(namespace: &str, name: &str, source: &str, path: &str, more: &str) -> String {
    format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: {name}, namespace: \
         {namespace}}}\nspec:\n  interval: 1h\n  prune: true\n  path: ./{path}\n  sourceRef: {{kind: GitRepository, name: \
         {source}}}\n{more}"
    )
}

/// What an account may do: everything in its own namespace.
fn account(namespace: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: sa, namespace: {namespace}}}\n---\napiVersion: \
         rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: sa, namespace: {namespace}}}\nrules: [{{apiGroups: \
         ['*'], resources: ['*'], verbs: ['*']}}]\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: \
         RoleBinding\nmetadata: {{name: sa, namespace: {namespace}}}\nroleRef: {{apiGroup: rbac.authorization.k8s.io, kind: \
         Role, name: sa}}\nsubjects: [{{kind: ServiceAccount, namespace: {namespace}, name: sa}}]\n"
    )
}

/// What the tenant puts beside a ConfigMap of his own, and whether the ConfigMap is applied all the same: what only lacks a
/// right, or has no place, is left out; what is refused holds its unit.
struct Attack {
    name: &'static str,
    text: String,
    /// Further resources of its kustomization.
    resources: String,
    runs: bool,
}

fn attacks(hop: &str, attacker: &str, forbidden: u16) -> Vec<Attack> {
    let attack = |name, text: String, runs| Attack { name, text, resources: String::new(), runs };
    let with_secret = "  secretRef: {name: git-creds}\n";
    let steal = format!(
        "{}---\n{}",
        git("team-b", &format!("steal-{hop}"), &format!("{attacker}/steal.git"), with_secret),
        kustomization(
            "team-b",
            &format!("steal-{hop}"),
            &format!("steal-{hop}"),
            ".",
            "  serviceAccountName: sa\n"
        ),
    );
    // The control: what a tenant may have fetched, without anybody's credentials.
    let plain = format!("plain-{hop}");
    let plain = format!(
        "{}---\n{}",
        git("team-a", &plain, &format!("{attacker}/{plain}.git"), ""),
        kustomization("team-a", &plain, &plain, ".", ""),
    );
    let own = format!("own-{hop}");
    let own = format!(
        "{}---\n{}",
        git("team-a", &own, &format!("{attacker}/{own}.git"), with_secret),
        kustomization("team-a", &own, &own, ".", ""),
    );
    let spellings = ["127.0.0.2", "2130706434", "0x7f.2", "127.2"].iter().enumerate();
    let spellings = spellings.map(|(n, host)| {
        let name = format!("at-{hop}-{n}");
        let source = git("team-a", &name, &format!("http://{host}:{forbidden}/x.git"), "");
        format!("{source}---\n{}", kustomization("team-a", &name, &name, ".", ""))
    });
    let variables = "  postBuild: {substituteFrom: [{kind: Secret, name: crown}]}\n";
    let wide = kustomization("team-a", &format!("wide-{hop}"), "team-a", &format!("{hop}/credentials"), "")
        .replace("namespace: team-a}", "namespace: team-a, annotations: {flotilla.dev/namespaces: team-b}}");
    let forged = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: forged, namespace: team-a}\nflotilla.dev/template: {text: \
                  \"apiVersion: v1\\nkind: ConfigMap\\nmetadata: {name: forged, namespace: team-a}\\ndata: {value: \
                  '${password}'}\\n\", variables: {layers: [{from: {kind: Secret, namespace: team-b, name: crown}}]}}\n";
    vec![
        attack("credentials", steal, true),
        attack("plain", plain, true),
        attack("own-source", own, true),
        attack("addresses", spellings.collect::<Vec<_>>().join("---\n"), true),
        Attack {
            resources: format!(", 'http://127.0.0.2:{forbidden}/{hop}.yaml'"),
            ..attack("remote-base", config_map_in("team-a", &format!("base-{hop}"), "1"), false)
        },
        attack("object", config_map_in("team-b", &format!("loot-{hop}"), "1"), true),
        attack("template", forged.replace("name: forged", &format!("name: forged-{hop}")), false),
        attack(
            "variables",
            kustomization("team-a", &format!("sub-{hop}"), "team-a", &format!("{hop}/substituted"), variables),
            true,
        ),
        // A name of somebody else, and more namespaces than the account has.
        attack("names", kustomization("team-b", "app", "team-a", &format!("{hop}/object"), ""), true),
        attack("wide", wide, true),
        attack(
            "fleet",
            "apiVersion: flotilla.dev/v1alpha1\nkind: Cluster\nmetadata: {name: evil}\nspec: {path: clusters/one}\n".into(),
            false,
        ),
    ]
}

/// The tenant's repository: each attack in a folder of its own, for one hop and for two.
fn tenant(attacker: &str, forbidden: u16) -> Vec<Change> {
    let mut files = Vec::new();
    let mut root = String::from("resources:\n");
    for hop in ["one", "two"] {
        for Attack { name, text, resources, .. } in attacks(hop, attacker, forbidden) {
            let folder = format!("{hop}/{name}");
            let ran = config_map_in("team-a", &format!("ran-{hop}-{name}"), "1");
            files.push(file(
                &format!("{folder}/kustomization.yaml"),
                format!("resources: [attack.yaml, ran.yaml{resources}]\n"),
            ));
            files.push(file(&format!("{folder}/attack.yaml"), text));
            files.push(file(&format!("{folder}/ran.yaml"), ran));
            if hop == "two" {
                files.push(file(
                    &format!("root/{name}.yaml"),
                    kustomization("team-a", &format!("two-{name}"), "team-a", &folder, ""),
                ));
                root += &format!("  - {name}.yaml\n");
            }
        }
        let got = config_map_in("team-a", &format!("got-{hop}"), "${password}");
        files.push(file(&format!("{hop}/substituted/got.yaml"), got));
    }
    files.push(file("root/kustomization.yaml", root));
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_reaches_no_further_than_its_account() {
    let (attacker, seen) = attacker().await;
    let (forbidden, connections) = forbidden();
    let team = Repo::new().unwrap();
    team.commit("attack", &tenant(&attacker, forbidden)).unwrap();
    let server = GitServer::start(&team, None).await.unwrap();
    // Team b's own repository, behind a password that the hub keeps.
    let other = Repo::new().unwrap();
    other
        .commit(
            "app",
            &[
                file("app.yaml", config_map_in("team-b", "app", "1")),
                file("more.yaml", config_map_in("team-b", "more", "1")),
            ],
        )
        .unwrap();
    let private = GitServer::start(&other, Some(("team-b", PASSWORD))).await.unwrap();

    let as_account = "  serviceAccountName: sa\n";
    let mut begin = vec![
        file(
            "clusters/one/spaces.yaml",
            ["team-a", "team-b"]
                .map(|name| format!("{}---\n{}", namespace(name), account(name)))
                .join("---\n"),
        ),
        file("clusters/one/source-a.yaml", git("team-a", "team-a", &server.url(), "")),
        file(
            "clusters/one/source-b.yaml",
            git("team-b", "team-b", &private.url(), "  secretRef: {name: git-creds}\n"),
        ),
        file("clusters/one/app-b.yaml", kustomization("team-b", "app", "team-b", ".", as_account)),
        file("clusters/one/root-a.yaml", kustomization("team-a", "root", "team-a", "root", as_account)),
        file("clusters/two/own.yaml", config_map("own", "1")),
    ];
    for Attack { name, .. } in attacks("one", &attacker, forbidden) {
        let unit =
            kustomization("team-a", &format!("one-{name}"), "team-a", &format!("one/{name}"), as_account);
        begin.push(file(&format!("clusters/one/one-{name}.yaml"), unit));
    }
    let repo = Repo::new().unwrap();
    repo.commit("begin", &begin).unwrap();
    let options = HubOptions {
        args: ["--allow-source", "127.0.0.1"].map(str::to_owned).to_vec(),
        ..HubOptions::default()
    };
    let url = repo.url();
    let clusters = async { Clusters::new().await?.start(["one", "two"], &ClusterOptions::bare()).await };
    let (started, mut fleet) =
        futures::future::try_join(clusters, Fleet::new(repo, &url, &options)).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, PASSWORD).unwrap();
    let password = password.to_str().unwrap();
    let put = [
        "secret",
        "create",
        "git",
        "git-creds",
        "--namespace",
        "team-b",
        "--username",
        "team-b",
        "--password-file",
        password,
    ];
    fleet.cli(&put).await.unwrap();
    for cluster in started {
        let name = cluster.name().to_owned();
        fleet.join(&name, cluster).await.unwrap();
    }
    let one = fleet.client("one");
    let app = ObjectRef::new("v1", "ConfigMap", "team-b", "app");
    let uid = fleet.appears("one", &app).await.unwrap();
    let crown = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "crown", "namespace": "team-b"},
        "stringData": {"password": CROWN}});
    apply(&one, "somebody", &crown).await.unwrap();

    // Each attack was read, and what is the tenant's to do was done.
    for hop in ["one", "two"] {
        for Attack { name, runs, .. } in attacks(hop, &attacker, forbidden) {
            let unit = format!("kustomization/team-a/{hop}-{name}");
            let ran = ObjectRef::new("v1", "ConfigMap", "team-a", &format!("ran-{hop}-{name}"));
            if runs {
                fleet.appears("one", &ran).await.unwrap();
                continue;
            }
            let refused = fleet.unit_becomes("one", &unit, |unit| {
                if errors(unit).is_empty() { Err(format!("{unit:?}")) } else { Ok(()) }
            });
            assert_eq!(refused.await.unwrap().phase, "Held", "{unit}");
        }
        let unit = format!("kustomization/team-a/{hop}-object");
        fleet
            .unit_becomes("one", &unit, |unit| {
                let says = |text: &str| unit.findings.iter().any(|finding| finding.reason == text);
                if says("Forbidden") { Ok(()) } else { Err(format!("{unit:?}")) }
            })
            .await
            .unwrap();
    }
    eventually(SOON, || async {
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for hop in ["one", "two"] {
            ensure!(seen.iter().any(|(path, _)| path.contains(&format!("plain-{hop}"))), "{seen:?}");
        }
        Ok(())
    })
    .await
    .unwrap();

    // Nobody else had any of it.
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let stolen: Vec<_> =
        seen.iter().filter(|(path, credentials)| credentials.is_some() || !path.contains("plain-")).collect();
    assert!(stolen.is_empty(), "{stolen:?}");
    assert_eq!(
        connections.load(Ordering::SeqCst),
        0,
        "the hub called an address that the operator did not allow"
    );
    let maps = flotilla_tests::objects::api(&one, "v1", "ConfigMap", None);
    let maps = maps.list(&Default::default()).await.unwrap();
    let told = serde_json::to_string(&maps.items).unwrap();
    assert!(!told.contains(CROWN) && !told.contains(PASSWORD));
    for hop in ["one", "two"] {
        let loot = ObjectRef::new("v1", "ConfigMap", "team-b", &format!("loot-{hop}"));
        assert_eq!(fleet.uid("one", &loot).await.unwrap(), None);
    }
    assert_eq!(fleet.uid("one", &app).await.unwrap(), Some(uid));
    let units = fleet.units("one").await.unwrap();
    assert_eq!(units["kustomization/team-b/app"].phase, "Ready", "{:?}", units["kustomization/team-b/app"]);
    let beyond: Vec<_> =
        units.keys().filter(|id| id.contains("/team-b/") && *id != "kustomization/team-b/app").collect();
    assert!(beyond.is_empty(), "{beyond:?}");
    assert_eq!(fleet.clusters().await.unwrap().into_keys().collect::<Vec<_>>(), ["one", "two"]);

    // Everybody else's commits go on: changes, and deletions too.
    other
        .commit("more", &[file("app.yaml", config_map_in("team-b", "app", "2")), remove("more.yaml")])
        .unwrap();
    fleet.cli(&["reconcile", "source", "git", "team-b", "--namespace", "team-b"]).await.unwrap();
    fleet.field_becomes("one", &app, VALUE, "2").await.unwrap();
    fleet.vanishes("one", &ObjectRef::new("v1", "ConfigMap", "team-b", "more")).await.unwrap();

    // His token: his own units, and neither others' nor the fleet.
    let create =
        ["token", "create", "tenant", "--role", "operate", "--cluster", "one", "--namespace", "team-a"];
    let token = folder.path().join("token");
    let made: serde_json::Value = fleet.json(&[&create[..], &["-o", "json"]].concat()).await.unwrap();
    std::fs::write(&token, made["secret"].as_str().unwrap()).unwrap();
    let with_token = ["--token-file", token.to_str().unwrap(), "reconcile"];
    for (target, is_his) in [
        (&["one", "kustomization/team-a/root"][..], true),
        (&["one", "kustomization/team-b/app"], false),
        (&["one"], false),
        (&["two"], false),
        (&[], false),
        (&["source", "git", "team-b", "--namespace", "team-b"], false),
        (&["source", "git", "team-a", "--namespace", "team-a"], true),
    ] {
        let output = fleet.cli_output(&[&with_token[..], target].concat()).await.unwrap();
        assert_eq!(
            output.status.success(),
            is_his,
            "{target:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
