//! Commands that change something: what they ask of the hub, and when they ask nothing.

use flotilla_api::*;
use serde_json::{Value, json};

use crate::fake::FakeHub;
use crate::hub::{DIGEST, cluster};

/// What changes something: the command, what it asks of the hub, and the code and stdout when the hub agrees.
/// What is asked for a token of the whole fleet.
fn token(mut more: Value) -> Value {
    let rest =
        json!({"name": "ci", "role": "view", "scope": {"clusters": [], "groups": [], "namespaces": []}});
    more.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    more
}

/// A cluster without units.
fn tree_of(name: &str, connection: ConnectionState) -> Tree {
    Tree { cluster: cluster(name, connection, SyncState::InSync), units: vec![] }
}

#[tokio::test]
async fn changes_ask_for_exactly_what_was_said() -> anyhow::Result<()> {
    let hub = FakeHub::start().await?;
    hub.get("clusters/edge/tree", tree_of("edge", ConnectionState::Connected));
    let done = Done { message: "so be it".into() };
    for path in [
        "POST clusters/edge/suspend",
        "POST clusters/edge/resume",
        "POST clusters/edge/approve",
        "POST changes/00112233/approve",
        "POST clusters/edge/revoke",
        "POST clusters/edge/prune",
        "DELETE clusters/edge",
        "DELETE tokens/ci",
    ] {
        hub.on(path, 200, &done);
    }
    hub.on(
        "POST join-tokens",
        200,
        JoinToken {
            cluster: "edge".into(),
            token: "join-me".into(),
            addresses: vec!["hub:1".into()],
            ..JoinToken::default()
        },
    );
    hub.on(
        "POST tokens",
        200,
        MadeToken {
            token: Token { name: "ci".into(), role: Role::View, ..Token::default() },
            secret: "flt_x".into(),
        },
    );
    let prune = ("POST clusters/edge/prune", json!({"confirm": "edge"}));
    let delete = ("DELETE clusters/edge", Value::Null);
    for (args, asked, stdout) in [
        (
            &["suspend", "edge", "web/app", "--reason", "move"][..],
            vec![("POST clusters/edge/suspend", json!({"unit": "kustomization/web/app", "reason": "move"}))],
            "",
        ),
        (&["suspend", "edge"], vec![("POST clusters/edge/suspend", json!({"unit": null, "reason": ""}))], ""),
        // As Flux's users type it.
        (
            &["suspend", "ks", "app", "-n", "web", "-c", "edge", "--reason", "move"],
            vec![("POST clusters/edge/suspend", json!({"unit": "kustomization/web/app", "reason": "move"}))],
            "",
        ),
        (
            &["resume", "helmrelease", "app", "-c", "edge"],
            vec![("POST clusters/edge/resume", json!({"unit": "helmrelease/flux-system/app"}))],
            "",
        ),
        (&["resume", "edge", "root"], vec![("POST clusters/edge/resume", json!({"unit": "root"}))], ""),
        (&["approve", "edge", DIGEST], vec![("POST clusters/edge/approve", json!({"approval": DIGEST}))], ""),
        (&["approve", "--change", "00112233"], vec![("POST changes/00112233/approve", Value::Null)], ""),
        (&["cluster", "revoke", "edge"], vec![("POST clusters/edge/revoke", Value::Null)], ""),
        (&["cluster", "delete", "edge"], vec![delete.clone()], ""),
        (&["cluster", "delete", "edge", "--prune", "--confirm", "edge"], vec![prune, delete], ""),
        (
            &["cluster", "token", "edge", "--expires", "1h", "--replace", "--label", "a=b"],
            vec![(
                "POST join-tokens",
                json!({"cluster": "edge", "expiresIn": 3600, "replace": true, "labels": {"a": "b"}}),
            )],
            "join-me\n",
        ),
        (
            &["token", "create", "ci", "--role", "view"],
            vec![("POST tokens", token(json!({"expiresIn": 90 * 86_400, "neverExpires": false})))],
            "flt_x\n",
        ),
        (
            &["token", "create", "ci", "--role", "view", "--expires", "never"],
            vec![("POST tokens", token(json!({"expiresIn": null, "neverExpires": true})))],
            "flt_x\n",
        ),
        (&["token", "revoke", "ci"], vec![("DELETE tokens/ci", Value::Null)], ""),
    ] {
        let ran = hub.run(args).await?;
        assert_eq!((ran.code, ran.stdout.as_str()), (0, stdout), "{args:?}: {}", ran.stderr);
        assert!(!ran.stderr.is_empty(), "{args:?} says on stderr what was done");
        let asked: Vec<_> = asked.into_iter().map(|(request, body)| (request.to_owned(), body)).collect();
        assert_eq!(hub.changes_asked(), asked, "{args:?}");
    }
    // A hub that does not know scopes has made a token that reaches everything.
    let scoped =
        ["token", "create", "ci", "--role", "view", "--cluster", "staging", "-n", "web", "--group", "edge"];
    let ran = hub.run(&scoped).await?;
    assert!(ran.code != 0 && ran.stderr.contains("does not know scopes") && ran.stdout.is_empty(), "{ran:?}");
    let asked = hub.changes_asked();
    let scope = json!({"clusters": ["staging"], "groups": ["edge"], "namespaces": ["web"]});
    assert_eq!((&asked[0].1["scope"], asked[1].0.as_str()), (&scope, "DELETE tokens/ci"));
    Ok(())
}

#[tokio::test]
async fn an_adoption_is_shown_and_done_only_when_that_is_said() -> anyhow::Result<()> {
    let hub = FakeHub::start().await?;
    let drift = FieldDrift {
        field: "/spec/replicas".into(),
        wanted: Some("3".into()),
        found: Some("2".into()),
        manager: Some("kubectl-edit".into()),
    };
    let object = |what: &str, fields| AdoptedObject {
        object: "Deployment.apps web/app".into(),
        unit: "kustomization/flux-system/web".into(),
        what: what.into(),
        fields,
        ..AdoptedObject::default()
    };
    let plan = Adoption {
        owners: vec![AdoptedOwner {
            object: "Kustomization flux-system/web".into(),
            unit: "kustomization/flux-system/web".into(),
            state: "runs".into(),
        }],
        left: vec![AdoptionNote { object: "ConfigMap web/old".into(), why: "was applied by web".into() }],
        counts: AdoptionCounts { same: 4, change: 1, ..AdoptionCounts::default() },
        objects: vec![object("change", vec![drift])],
        next: vec!["nothing was changed".into()],
        ..Adoption::default()
    };
    let done = Adoption { complete: true, action: AdoptAction::Apply, ..Adoption::default() };
    let digest = "ab".repeat(32);
    for (args, answer, body, code) in [
        (&["--from-flux"][..], &plan, json!({"from": "flux", "action": "plan", "plan": ""}), 1),
        (&["--from-helm", "--yes"], &done, json!({"from": "helm", "action": "apply", "plan": ""}), 0),
        (
            &["--from-flux", "--yes", "--plan", &digest],
            &done,
            json!({"from": "flux", "action": "apply", "plan": digest}),
            0,
        ),
        (&["--from-kubectl", "--undo"], &done, json!({"from": "kubectl", "action": "undo", "plan": ""}), 0),
    ] {
        hub.on("POST clusters/edge/adopt", 200, answer);
        let ran = hub.run(&[&["cluster", "adopt", "edge"], args].concat()).await?;
        assert_eq!(ran.code, code, "{ran:?}");
        assert_eq!(hub.changes_asked(), [("POST clusters/edge/adopt".to_owned(), body)], "{args:?}");
        if code == 1 {
            for line in [
                "  Kustomization flux-system/web by kustomization/flux-system/web (runs)\n",
                "  ConfigMap web/old: was applied by web\n",
                "  4 taken over as they are, 1 taken over and changed\n",
                "    /spec/replicas: 2 -> 3, set by kubectl-edit\n",
            ] {
                assert!(ran.stdout.contains(line), "{line}: {}", ran.stdout);
            }
            assert!(ran.stderr.contains("nothing was changed"), "{}", ran.stderr);
        }
    }
    for args in [
        &[][..],
        &["--from-flux", "--from-helm"],
        &["--from-flux", "--yes", "--undo"],
        &["--from-flux", "--plan", &digest],
    ] {
        let ran = hub.run(&[&["cluster", "adopt", "edge"], args].concat()).await?;
        assert_eq!((ran.code, hub.changes_asked().len()), (2, 0), "{args:?}: {ran:?}");
    }
    Ok(())
}

#[tokio::test]
async fn who_deletes_a_cluster_is_told_what_stays_and_what_goes() -> anyhow::Result<()> {
    let hub = FakeHub::start().await?;
    let object = |name: &str| TreeObject {
        object: ObjectId {
            kind: "ConfigMap".into(),
            namespace: "web".into(),
            name: name.into(),
            ..ObjectId::default()
        },
        ..TreeObject::default()
    };
    let unit = |name: &str, objects: u32| Unit { unit: name.into(), objects, ..Unit::default() };
    let tree = Tree {
        cluster: cluster("edge", ConnectionState::Connected, SyncState::InSync),
        units: vec![
            TreeUnit { unit: unit("root", 0), objects: vec![] },
            TreeUnit { unit: unit("kustomization/web/app", 2), objects: vec![object("b"), object("a")] },
            // A unit that is held: nobody names its objects.
            TreeUnit { unit: unit("kustomization/web/held", 1), objects: vec![] },
        ],
    };
    hub.get("clusters/edge/tree", tree);
    let done = |message: &str| Done { message: message.into() };
    hub.on("POST clusters/edge/prune", 200, done("everything is removed"));
    hub.on("DELETE clusters/edge", 200, done("cluster edge is deleted; its agent ends its work now"));
    let units = "  kustomization/web/app: 2 objects\n  kustomization/web/held: 1 object\n";
    let kept = hub.run(&["cluster", "delete", "edge"]).await?;
    assert_eq!((kept.code, kept.stdout), (0, format!("what stays in cluster edge:\n{units}")));
    assert!(kept.stderr.contains("its agent ends its work now"), "{}", kept.stderr);
    let wide = hub.run(&["cluster", "delete", "edge", "-o", "wide"]).await?;
    assert!(wide.stdout.contains("2 objects\n    ConfigMap web/a\n    ConfigMap web/b\n"), "{}", wide.stdout);
    let json = hub.run(&["cluster", "delete", "edge", "-o", "json"]).await?;
    let json: Value = serde_json::from_str(&json.stdout)?;
    assert_eq!(json[0]["objects"], json!(["ConfigMap web/a", "ConfigMap web/b"]));
    let pruned = hub.run(&["cluster", "delete", "edge", "--prune", "--confirm", "edge"]).await?;
    assert_eq!(pruned.stdout, format!("what is deleted from cluster edge:\n{units}"));
    assert!(pruned.stderr.contains("everything is removed\n"), "{}", pruned.stderr);
    Ok(())
}

#[tokio::test]
async fn pruning_a_cluster_needs_its_agent_and_its_name() -> anyhow::Result<()> {
    let hub = FakeHub::start().await?;
    hub.get("clusters/edge/tree", tree_of("edge", ConnectionState::Connected));
    hub.get("clusters/away/tree", tree_of("away", ConnectionState::Disconnected));
    for (args, code, says) in [
        (&["cluster", "delete", "edge", "--prune"][..], 2, "--confirm edge"),
        (&["cluster", "delete", "edge", "--prune", "--confirm", "egde"], 2, "nothing was deleted"),
        (&["cluster", "delete", "away", "--prune", "--confirm", "away"], 7, "its agent is Disconnected"),
    ] {
        let ran = hub.run(args).await?;
        assert_eq!(ran.code, code, "{ran:?}");
        assert!(ran.stderr.contains(says), "{ran:?}");
        assert_eq!(hub.changes_asked(), [], "{args:?}");
    }
    // A prune that did not go through must not be followed by forgetting the cluster.
    hub.on(
        "POST clusters/edge/prune",
        409,
        ErrorBody { error: "the agent did not remove all".into(), hint: None },
    );
    let ran = hub.run(&["cluster", "delete", "edge", "--prune", "--confirm", "edge"]).await?;
    assert_eq!(ran.code, 7, "{ran:?}");
    assert_eq!(hub.changes_asked().len(), 1);
    Ok(())
}

#[tokio::test]
async fn reconcile_is_done_when_what_was_asked_for_is() -> anyhow::Result<()> {
    let hub = FakeHub::start().await?;
    let commit = Some(Commit {
        id: "c0ffee0123456789".into(),
        branch: "main".into(),
        subject: "s".into(),
        ..Commit::default()
    });
    let agent = |done| vec![AgentAnswer { cluster: "staging".into(), done, message: String::new() }];
    let away = |agents, error: Option<&str>| Reconciled {
        commit: commit.clone(),
        error: error.map(Into::into),
        agents,
        ..Reconciled::default()
    };
    let broken = Reconciled {
        attention: vec![Attention::new(AttentionReason::Held, "staging", "root", "a.yaml:3: broken")],
        problem_count: 1,
        ..away(vec![], None)
    };
    for (args, answer, code) in [
        (&["reconcile"][..], away(vec![], None), 0),
        (&["reconcile"], away(agent(false), None), 0),
        (&["reconcile"], away(vec![], Some("no route to host")), 9),
        (&["reconcile", "staging"], away(agent(true), None), 0),
        (&["reconcile", "staging", "root"], away(agent(false), None), 9),
        (&["reconcile"], broken, 1),
        (&["reconcile"], away(vec![], None), 0),
    ] {
        hub.on("POST reconcile", 200, answer);
        let ran = hub.run(args).await?;
        assert_eq!(ran.code, code, "{args:?}: {ran:?}");
        assert!(ran.stdout.starts_with("commit c0ffee012345 on main: s\n"), "{ran:?}");
        let says_why = ran.stdout.contains("problem: staging root is held: a.yaml:3: broken\n");
        assert_eq!(says_why, code == 1, "{ran:?}");
    }
    let one_unit = json!({"cluster": "staging", "unit": "root"});
    assert!(hub.changes_asked().iter().any(|(_, asked)| *asked == one_unit));

    hub.on("POST reconcile", 200, away(vec![], None));
    hub.list(
        "clusters",
        [
            cluster("a", ConnectionState::Connected, SyncState::InSync),
            cluster("b", ConnectionState::Disconnected, SyncState::Pending),
        ],
    );
    assert_eq!(hub.run(&["reconcile", "--wait"]).await?.code, 0);
    // What a mistake in Git holds does not come right by waiting; what is kept is reached, and said.
    for (sync, reason, code, says) in [
        (SyncState::Held, AttentionReason::Held, 1, "a root is held: x"),
        (SyncState::Kept, AttentionReason::Kept, 1, "a root keeps what Git no longer names: x"),
        (SyncState::Suspended, AttentionReason::Suspended, 0, "a root is suspended: x"),
    ] {
        let attention = vec![Attention::new(reason, "a", "root", "x")];
        hub.list("clusters", [Cluster { attention, ..cluster("a", ConnectionState::Connected, sync) }]);
        let ran = hub.run(&["reconcile", "--wait"]).await?;
        assert_eq!(ran.code, code, "{ran:?}");
        assert!(ran.stderr.contains(says), "{ran:?}");
    }
    hub.list("clusters", [cluster("a", ConnectionState::Connected, SyncState::Failing)]);
    let late = hub.run(&["reconcile", "--wait", "--timeout", "1s"]).await?;
    assert_eq!(late.code, 9, "{late:?}");
    assert!(late.stderr.contains("not in sync after 1s: a (Connected, Failing)"), "{late:?}");
    Ok(())
}

#[tokio::test]
async fn many_nodes_get_the_same_manifests_and_no_name() -> anyhow::Result<()> {
    let hub = FakeHub::start().await?;
    hub.get("status", json!({"addresses": ["hub.example.com:8443"]}));
    hub.on("POST join-tokens", 200, JoinToken { token: "join-us".into(), ..JoinToken::default() });
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("flotilla-agent.yaml");
    let group = ["--count", "200", "--group", "edge", "--names", "edge-{machine-id}", "--expires", "30d"];
    let args = [&["cluster", "add"], &group[..], &["--out", file.to_str().unwrap()]].concat();
    let ran = hub.run(&args).await?;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("200 nodes can join") && ran.stderr.contains("edge-{machine-id}"), "{ran:?}");
    let many = json!({"count": 200, "group": "edge", "names": "edge-{machine-id}"});
    let body = json!({"cluster": "", "expiresIn": 30 * 86_400, "replace": false, "labels": {}, "many": many});
    assert_eq!(hub.changes_asked(), [("POST join-tokens".to_owned(), body)]);
    let manifests = std::fs::read_to_string(&file)?;
    assert!(manifests.contains("join-us") && manifests.contains("FLOTILLA_NODE_NAME"), "{manifests}");
    assert!(!manifests.contains("flotilla.dev/cluster"), "each says itself who it is");
    // Whose file it is cannot be told.
    let again = hub.run(&args).await?;
    assert!(again.code == 2 && again.stderr.contains("is there already"), "{again:?}");
    assert!(hub.changes_asked().is_empty(), "no token was made for nothing");
    Ok(())
}
