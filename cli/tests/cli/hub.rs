//! Commands that ask a hub: what they print, and what they ask.

use std::time::{SystemTime, UNIX_EPOCH};

use flotilla_api::*;
use serde_json::{Value, json};

use crate::Ran;
use crate::fake::FakeHub;

pub(crate) const DIGEST: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// The same moment in the whole test, so that only what a test changes differs.
fn three_days_ago() -> i64 {
    static MOMENT: std::sync::OnceLock<i64> = std::sync::OnceLock::new();
    *MOMENT.get_or_init(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
        now - 3 * 86400 - 600
    })
}

fn ok(stdout: &str) -> Ran {
    Ran { code: 0, stdout: stdout.into(), stderr: String::new() }
}

pub(crate) fn cluster(name: &str, connection: ConnectionState, sync: SyncState) -> Cluster {
    Cluster {
        name: name.into(),
        connection,
        sync,
        assigned: true,
        labels: [("stage".to_owned(), name.to_owned())].into(),
        last_seen: Some(three_days_ago()),
        commit: "c0ffee0123456789".into(),
        desired: Some(Desired { digest: DIGEST.into(), generation: 7, commit: "c0ffee0123456789".into() }),
        received: Some(DIGEST.into()),
        applied: Some(DIGEST.into()),
        units: [("Ready".to_owned(), 2), ("Failed".to_owned(), 1)].into(),
        objects: 12,
        root: format!("clusters/{name}"),
        ..Cluster::default()
    }
}

fn unit(name: &str, phase: &str) -> Unit {
    Unit {
        cluster: "staging".into(),
        unit: name.into(),
        phase: phase.into(),
        live: true,
        objects: 4,
        commit: "c0ffee0123456789".into(),
        desired: Some(DIGEST.into()),
        applied: Some(DIGEST.into()),
        since: Some(three_days_ago()),
        ..Unit::default()
    }
}

fn object(kind: &str, name: &str) -> ObjectId {
    ObjectId { kind: kind.into(), namespace: "web".into(), name: name.into(), ..ObjectId::default() }
}

#[tokio::test]
async fn lists_of_clusters() -> anyhow::Result<()> {
    let hub = FakeHub::start().await?;
    let mut production = cluster("production", ConnectionState::Disconnected, SyncState::Stale);
    // What runs there, not what is wanted.
    production.commit = "0ldc0ffee0123456789".into();
    production.attention = vec![
        Attention::new(AttentionReason::Disconnected, "production", "", "last seen long ago"),
        Attention::new(AttentionReason::Held, "production", "root", "clusters/production/apps.yaml:12: no"),
    ];
    let staging = cluster("staging", ConnectionState::Connected, SyncState::InSync);
    hub.list("clusters", [&production, &staging]).get("clusters/staging", &staging);
    assert_eq!(
        hub.run(&["get", "clusters"]).await?,
        ok("NAME         CONNECTION     SYNC     UNITS   COMMIT         SEEN   MESSAGE\n\
            production   Disconnected   Stale    2/3     0ldc0ffee012   3d     is disconnected: last seen long ago \
            (and 1 more)\n\
            staging      Connected      InSync   2/3     c0ffee012345   now    -\n")
    );
    let wide = hub.run(&["get", "cluster", "staging", "-o", "wide"]).await?;
    assert!(wide.stdout.contains("clusters/staging   stage=staging"), "{wide:?}");
    assert_eq!(hub.run(&["cluster", "list"]).await?, hub.run(&["get", "clusters"]).await?);

    let all: Vec<Cluster> = serde_json::from_str(&hub.run(&["get", "clusters", "-o", "json"]).await?.stdout)?;
    assert_eq!(all, [production, staging.clone()]);
    let one = hub.run(&["get", "clusters", "staging", "-o", "json"]).await?;
    assert_eq!(serde_json::from_str::<Cluster>(&one.stdout)?, staging);
    let yaml = hub.run(&["get", "clusters", "-o", "yaml"]).await?;
    assert!(yaml.stdout.starts_with("- agentProblems: []\n  agentVersion: \"\"\n"), "{}", yaml.stdout);

    hub.list("clusters", Vec::<Cluster>::new());
    let none = hub.run(&["get", "clusters"]).await?;
    assert_eq!((none.stdout.as_str(), none.stderr.as_str()), ("", "there are no clusters\n"));
    assert_eq!(hub.run(&["get", "clusters", "-o", "json"]).await?, ok("[]\n"));
    Ok(())
}

#[tokio::test]
async fn all_pages_are_read_and_a_page_that_leads_to_itself_is_the_last() -> anyhow::Result<()> {
    let hub = FakeHub::start().await?;
    let names = |names: &[&str]| -> Vec<Value> { names.iter().map(|name| json!({"name": name})).collect() };
    hub.get("clusters", json!({"items": names(&["a", "b"]), "next": "b"}));
    hub.get("clusters?after=b", json!({"items": names(&["c"]), "next": "c"}));
    hub.get("clusters?after=c", json!({"items": names(&["d"]), "next": "c"}));
    let all: Vec<Cluster> = serde_json::from_str(&hub.run(&["get", "clusters", "-o", "json"]).await?.stdout)?;
    assert_eq!(all.iter().map(|c| c.name.as_str()).collect::<String>(), "abcd");
    Ok(())
}

#[tokio::test]
async fn units_say_file_line_and_reason() -> anyhow::Result<()> {
    let hub = FakeHub::start().await?;
    let problem = |message: &str, notice| Problem {
        file: "apps/web.yaml".into(),
        line: 3,
        message: message.into(),
        notice,
        ..Problem::default()
    };
    let held = Unit {
        problems: vec![problem("odd", true), problem("bad", false), problem("worse", false)],
        ..unit("kustomization/flux-system/web", "Held")
    };
    let failed = Unit {
        message: "2 objects failed".into(),
        findings: vec![Finding {
            object: object("Service", "web"),
            reason: "ApplyFailed".into(),
            message: "no\nway \x1b[31m".into(),
        }],
        ..unit("root", "Failed")
    };
    hub.list("units?cluster=staging", [&failed, &held]).list("units", [&failed]);
    assert_eq!(
        hub.run(&["get", "units", "--cluster", "staging"]).await?,
        ok("CLUSTER   UNIT                            PHASE    OBJECTS   COMMIT         SINCE   MESSAGE\n\
            staging   root                            Failed   4         c0ffee012345   3d      2 objects failed; \
            Service web/web: ApplyFailed: no way \u{fffd}[31m\n\
            staging   kustomization/flux-system/web   Held     4         c0ffee012345   3d      apps/web.yaml:3: bad \
            (and 1 more)\n")
    );
    hub.list("units?cluster=staging&unit=kustomization%2Fflux-system%2Fweb", [&held]);
    let one = hub.run(&["get", "units", "-c", "staging", "flux-system/web", "-o", "json"]).await?;
    assert_eq!(serde_json::from_str::<Vec<Unit>>(&one.stdout)?, [&held].map(Unit::clone));
    // The hub chooses and sorts; a limit ends the reading of pages.
    let chosen =
        "units?labelSelector=env%3Dprod%2Cregion%20in%20%28eu%29&phase=Held&image=nginx&sortBy=-problems";
    hub.get(chosen, json!({"items": [&held], "next": "more"}));
    let args = [
        "-l",
        "env=prod,region in (eu)",
        "--phase=Held",
        "--image=nginx",
        "--sort-by",
        "-problems",
        "--limit=1",
    ];
    let some = hub.run(&[&["get", "units", "-o", "json"][..], &args].concat()).await?;
    assert_eq!(serde_json::from_str::<Vec<Unit>>(&some.stdout)?, [held], "{some:?}");
    Ok(())
}

#[tokio::test]
async fn sources_events_audit_and_tokens() -> anyhow::Result<()> {
    let hub = FakeHub::start().await?;
    let at = three_days_ago();
    hub.list(
        "sources",
        [Source {
            name: "fleet".into(),
            kind: "fleet".into(),
            reference: "main".into(),
            revision: "c0ffee0123456789".into(),
            message: "the host is not there".into(),
            checked_at: Some(at),
            ..Source::default()
        }],
    );
    let event = |at, warning, reason: &str| Event {
        cluster: "staging".into(),
        at,
        unit: "root".into(),
        object: Some(object("Service", "web")),
        warning,
        reason: reason.into(),
        message: "m".into(),
        ..Event::default()
    };
    hub.list("events?cluster=staging", [event(at + 1, true, "ApplyFailed"), event(at, false, "Applied")]);
    hub.list("events?cluster=staging&warnings=true", [event(at + 1, true, "ApplyFailed")]);
    let (stop, info) = (DIGEST.to_owned(), String::new());
    let finding =
        |severity: &str, digest: String, message: &str, clusters: &[&str], names: &[&str]| ChangeFinding {
            severity: severity.into(),
            digest,
            commit: "c0ffee0123456789".into(),
            message: message.into(),
            clusters: clusters.iter().map(|name| (*name).to_owned()).collect(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            ..ChangeFinding::default()
        };
    let first = ["a: kustomization/f/web", "b: kustomization/f/web"];
    hub.list(
        "changes",
        [
            finding("stop", stop, "28 of 45 units are removed", &["a", "b"], &first),
            finding("info", info, "2 of 90 objects are removed", &["staging"], &[]),
        ],
    );
    hub.list(
        "audit",
        [AuditEntry {
            sequence: 9,
            at: 0,
            who: "admin".into(),
            action: "cluster.revoke".into(),
            target: "staging".into(),
            detail: String::new(),
        }],
    );
    hub.list(
        "tokens",
        [Token {
            name: "ci".into(),
            role: Role::Operate,
            created_at: at,
            created_by: "admin".into(),
            expires_at: Some(1),
            scope: Scope { clusters: vec!["staging".into()], ..Scope::default() },
            last_used_at: None,
        }],
    );
    for (args, expected) in [
        (
            &["get", "sources"][..],
            "NAME    KIND    READY   REFERENCE   REVISION       CHECKED   MESSAGE\n\
             fleet   fleet   False   main        c0ffee012345   3d        the host is not there\n",
        ),
        (
            &["get", "events", "-c", "staging"],
            "AGE   CLUSTER   TYPE      REASON        UNIT   OBJECT            MESSAGE\n\
             3d    staging   Normal    Applied       root   Service web/web   m\n\
             3d    staging   Warning   ApplyFailed   root   Service web/web   m\n",
        ),
        (
            &["get", "events", "-c", "staging", "--warnings"],
            "AGE   CLUSTER   TYPE      REASON        UNIT   OBJECT            MESSAGE\n\
             3d    staging   Warning   ApplyFailed   root   Service web/web   m\n",
        ),
        (
            &["get", "changes"],
            "SEVERITY   WHAT                          CLUSTERS   DIGEST         FIRST\n\
             stop       28 of 45 units are removed    2          001122334455   a: kustomization/f/web\n\
             info       2 of 90 objects are removed   staging    -              -\n",
        ),
        (
            &["audit"],
            "TIME                   WHO     ACTION           TARGET    DETAIL\n\
             1970-01-01T00:00:00Z   admin   cluster.revoke   staging   -\n",
        ),
        (
            &["token", "list"],
            "NAME   ROLE      SCOPE             CREATED   BY      EXPIRES   LAST USED\n\
             ci     operate   cluster staging   3d        admin   expired   never\n",
        ),
    ] {
        assert_eq!(hub.run(args).await?, ok(expected), "{args:?}");
    }
    Ok(())
}

#[tokio::test]
async fn the_status_of_the_fleet_and_of_a_cluster() -> anyhow::Result<()> {
    let hub = FakeHub::start().await?;
    let at = three_days_ago();
    let waiting = WaitingCluster {
        cluster: "production".into(),
        pipeline: "apps".into(),
        stage: Some("production".into()),
        message: "candidate 1f2e waits for stage staging".into(),
        next: Some(1_767_225_600),
    };
    let status = Status {
        hub_version: "0.1.0".into(),
        started_at: at,
        commit: Some(Commit {
            id: "c0ffee0123456789".into(),
            branch: "main".into(),
            author: "Jo".into(),
            subject: "Scale web".into(),
            at,
        }),
        clusters: ClusterCounts {
            total: 2,
            connected: 1,
            in_sync: 1,
            failing: 1,
            waiting: 1,
            ..ClusterCounts::default()
        },
        units: [("Ready".to_owned(), 5), ("Failed".to_owned(), 1)].into(),
        problem_count: 1,
        attention: vec![Attention::new(AttentionReason::Held, "staging", "root", "a.yaml:3: broken")],
        attention_counts: [("Held".to_owned(), 1)].into(),
        waiting: vec![waiting.clone()],
        ..Status::default()
    };
    hub.get("status", &status);
    assert_eq!(
        hub.run(&["status"]).await?,
        ok("hub         0.1.0, up 3d\n\
            commit      c0ffee012345 on main: Scale web (Jo, 3d ago)\n\
            clusters    2: 1 connected, 1 in sync, 1 failing, 1 not at the newest\n\
            units       1 Failed, 5 Ready\n\
            problems    1 (1 Held)\n\n\
            NEEDS ATTENTION\n  staging root is held: a.yaml:3: broken\n\n\
            NOT AT THE NEWEST\n  production: candidate 1f2e waits for stage staging (next at 2026-01-01T00:00:00Z)\n\n\
            `flotilla status CLUSTER` says all of one cluster.\n")
    );
    assert_eq!(serde_json::from_str::<Status>(&hub.run(&["status", "-o", "json"]).await?.stdout)?, status);
    let mut behind = cluster("production", ConnectionState::Connected, SyncState::InSync);
    behind.waiting = vec![waiting];
    hub.list("clusters", [&behind]);
    let listed = hub.run(&["get", "clusters"]).await?.stdout;
    assert!(listed.contains("candidate 1f2e waits for stage staging (next at 2026-01-01"), "{listed}");
    let listed = hub.run(&["get", "clusters", "-o", "json"]).await?.stdout;
    assert_eq!(serde_json::from_str::<Vec<Cluster>>(&listed)?, [behind]);
    let version = hub.run(&["version"]).await?;
    assert_eq!(version, ok(&format!("flotilla {0}\nhub      0.1.0\n", env!("CARGO_PKG_VERSION"))));

    let kept = Kept {
        object: object("PersistentVolumeClaim", "db"),
        why: "holds data".into(),
        approval: DIGEST.into(),
    };
    let drift = Drift {
        object: object("Service", "web"),
        at,
        fields: vec![FieldDrift {
            field: "/spec/type".into(),
            wanted: Some("ClusterIP".into()),
            found: Some("NodePort".into()),
            manager: Some("kubectl".into()),
        }],
    };
    let web = Unit { kept: vec![kept], drift: vec![drift], ..unit("kustomization/f/web", "Ready") };
    hub.get("clusters/staging", cluster("staging", ConnectionState::Connected, SyncState::InSync));
    hub.list("units?cluster=staging", [&web]);
    hub.list(
        "events?cluster=staging&warnings=true",
        [Event {
            cluster: "staging".into(),
            at,
            unit: "root".into(),
            object: None,
            warning: true,
            reason: "ApplyFailed".into(),
            message: "no".into(),
            ..Event::default()
        }],
    );
    let shown = hub.run(&["status", "staging"]).await?;
    for text in [
        "sync        InSync\n",
        "applied     yes\nhealthy     no\n",
        "\nDRIFT\n  kustomization/f/web  Service web/web: /spec/type\n",
        &format!(
            "\nKEPT\n  kustomization/f/web  PersistentVolumeClaim web/db: holds data\n    to delete: flotilla approve staging {DIGEST}\n"
        ),
        "\nRECENT WARNINGS\n  3d ago  root  ApplyFailed: no\n",
    ] {
        assert!(shown.stdout.contains(text), "{text}\nis not in\n{}", shown.stdout);
    }
    assert_eq!(hub.run(&["cluster", "show", "staging"]).await?, shown);

    let diff = hub.run(&["diff", "--cluster", "staging"]).await?;
    assert_eq!(
        diff,
        Ran {
            code: 1,
            stdout: "--- Service web/web (kustomization/f/web)\n+++ Service web/web (kustomization/f/web)\n\
                     @@ /spec/type, changed by kubectl @@\n-NodePort\n+ClusterIP\n\
                     --- PersistentVolumeClaim web/db (kustomization/f/web)\n+++ /dev/null\n@@ kept: holds data @@\n"
                .into(),
            stderr: String::new(),
        }
    );
    hub.list("units?cluster=staging", [unit("root", "Ready")]);
    assert_eq!(hub.run(&["diff", "--cluster", "staging"]).await?, ok(""));
    Ok(())
}

#[tokio::test]
async fn where_a_secret_is_used() -> anyhow::Result<()> {
    let hub = FakeHub::start().await?;
    let uses = SecretUse {
        cluster: "staging".into(),
        unit: "kustomization/web/app".into(),
        namespace: "web".into(),
        object: "Deployment.apps web/api".into(),
        field: "spec.template.spec.imagePullSecrets[0].name".into(),
        ..SecretUse::default()
    };
    let unknown = SecretUse {
        cluster: "production".into(),
        unit: "root".into(),
        role: SecretRole::Unknown,
        reason: "it is broken".into(),
        ..SecretUse::default()
    };
    hub.list("secret-uses/pull?namespace=web&cluster=staging", [&uses, &unknown]);
    let shown = hub.run(&["secret", "where", "pull", "-n", "web", "--cluster", "staging"]).await?;
    assert_eq!(
        shown,
        ok("CLUSTER      UNIT                    ROLE      NAMESPACE   BY                        FIELD\n\
            staging      kustomization/web/app   uses      web         Deployment.apps web/api   \
            spec.template.spec.imagePullSecrets[0].name\n\
            production   root                    unknown   -           -                         it is broken\n")
    );
    hub.list("secret-uses/none", Vec::<SecretUse>::new());
    let none = hub.run(&["secret", "where", "none"]).await?;
    assert_eq!((none.code, none.stdout.as_str()), (0, ""));
    assert!(none.stderr.contains("there are no units that use a secret called none"), "{}", none.stderr);
    Ok(())
}

#[tokio::test]
async fn a_tree() -> anyhow::Result<()> {
    let hub = FakeHub::start().await?;
    let tree = Tree {
        cluster: cluster("staging", ConnectionState::Connected, SyncState::InSync),
        units: vec![
            TreeUnit {
                unit: unit("root", "Ready"),
                objects: vec![TreeObject {
                    object: object("Service", "web"),
                    version: "v1".into(),
                    health: Health::Healthy,
                    message: String::new(),
                }],
            },
            TreeUnit {
                unit: Unit { parent: Some("root".into()), ..unit("kustomization/flux-system/web", "Ready") },
                objects: Vec::new(),
            },
        ],
    };
    hub.get("clusters/staging/tree", &tree);
    let drawn = "staging  Connected, InSync\n\
                 └── root  Ready\n    ├── Service web/web  Healthy\n    └── kustomization/flux-system/web  Ready\n";
    assert_eq!(hub.run(&["tree", "staging"]).await?, ok(drawn));
    assert_eq!(
        hub.run(&["tree", "staging", "--units"]).await?,
        ok("staging  Connected, InSync\n└── root  Ready\n    └── kustomization/flux-system/web  Ready\n")
    );
    for args in
        [&["tree", "ks", "web", "-c", "staging", "--units"][..], &["tree", "staging", "flux-system/web"]]
    {
        assert_eq!(
            hub.run(args).await?,
            ok("staging  Connected, InSync\n└── kustomization/flux-system/web  Ready\n")
        );
    }
    let none = hub.run(&["tree", "ks", "nowhere", "-c", "staging"]).await?;
    assert_eq!((none.code, none.stdout.as_str()), (6, ""));
    assert!(
        none.stderr.contains(
            "cluster staging has no unit kustomization/flux-system/nowhere\nhint: `flotilla get units"
        ),
        "{}",
        none.stderr
    );
    assert_eq!(
        serde_json::from_str::<Tree>(&hub.run(&["tree", "staging", "-o", "json"]).await?.stdout)?,
        tree
    );
    Ok(())
}

#[tokio::test]
async fn check_tells_whether_all_is_well() -> anyhow::Result<()> {
    let hub = FakeHub::start().await?;
    let status = Status { hub_version: "0.1.0".into(), commit: Some(Commit::default()), ..Status::default() };
    hub.get("whoami", WhoAmI { name: "admin".into(), role: Role::Admin, ..WhoAmI::default() })
        .get("status", &status);
    let of = |name, connection, sync| cluster(name, connection, sync);
    let never = WaitingCluster { message: "has never connected".into(), ..WaitingCluster::default() };
    let well = [
        of("a", ConnectionState::Connected, SyncState::Progressing),
        Cluster { waiting: vec![never], ..of("b", ConnectionState::NotEnrolled, SyncState::Unknown) },
        of("c", ConnectionState::Revoked, SyncState::Unknown),
    ];
    hub.list("clusters", &well);
    let ran = hub.run(&["check"]).await?;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains("\ntoken      ok       admin, role admin\n"), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("\nclusters   ok       1 of 3 have an agent, 1 are connected\n"),
        "{}",
        ran.stdout
    );
    let ran = hub.run(&["get", "clusters"]).await?;
    assert!(
        ran.stdout.contains("no agent has joined; `flotilla cluster token b` lets one in"),
        "{}",
        ran.stdout
    );
    // What is a problem, and what is for information, is the hub's word.
    let suspended = Attention::new(AttentionReason::Suspended, "a", "root", "by ann: freeze");
    let kept = Attention::new(AttentionReason::Kept, "a", "root", "Service web/web: more than half");
    let counts = |reasons: &[&str]| reasons.iter().map(|reason| ((*reason).to_owned(), 1)).collect();
    let only_suspended = Status {
        attention: vec![suspended.clone()],
        attention_counts: counts(&["Suspended"]),
        ..status.clone()
    };
    hub.get("status", &only_suspended);
    let ran = hub.run(&["check"]).await?;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.stdout.contains("notice     ok       a root is suspended: by ann: freeze\n"),
        "{}",
        ran.stdout
    );
    let told = Status {
        attention: vec![kept, suspended],
        attention_counts: counts(&["Kept", "Suspended"]),
        problem_count: 1,
        ..status.clone()
    };
    hub.get("status", &told);
    let ran = hub.run(&["check"]).await?;
    assert_eq!(ran.code, 1, "{ran:?}");
    let line = "problem    problem   a root keeps what Git no longer names: Service";
    assert!(ran.stdout.contains(line), "{}", ran.stdout);
    let ran = hub.run(&["status"]).await?;
    for text in [
        "problems    1 (1 Kept, 1 Suspended)\n",
        "NEEDS ATTENTION\n  a root keeps what Git no longer names: Service web/web: more than half\n",
        "  notice: a root is suspended: by ann: freeze\n",
    ] {
        assert!(ran.stdout.contains(text), "{text}\nis not in\n{}", ran.stdout);
    }
    // A fleet without a cluster runs nothing.
    hub.list("clusters", Vec::<Cluster>::new()).get("status", &status);
    assert_eq!(hub.run(&["check"]).await?.code, 1);
    // A hub that has not read its repo, or could not, is not well either.
    hub.list("clusters", &well).get("status", Status { commit: None, ..status.clone() });
    assert_eq!(hub.run(&["check"]).await?.code, 1);
    let source = Source { name: "fleet".into(), message: "no route".into(), ..Source::default() };
    hub.get("status", Status { sources: vec![source], ..status });
    assert_eq!(hub.run(&["check"]).await?.code, 1);
    Ok(())
}
