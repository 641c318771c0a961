//! How the program ends when something is wrong: codes, reasons, hints, and nothing on stdout.

use flotilla_api::ErrorBody;
use serde_json::json;

use crate::fake::FakeHub;
use crate::run;

#[tokio::test]
async fn each_refusal_has_its_code() -> anyhow::Result<()> {
    let hub = FakeHub::start().await?;
    for (status, code, error, says) in [
        (401, 5, "", "error: cannot read the status: the hub answered 401 Unauthorized\nhint: give a valid"),
        (
            403,
            5,
            "the role view does not do",
            "error: cannot read the status: the role view does not do\nhint: ",
        ),
        (
            404,
            6,
            "no cluster is called x",
            "error: cannot read the status: no cluster is called x\nhint: look again\n",
        ),
        (409, 7, "not now", "error: cannot read the status: not now\nhint: look again\n"),
        (500, 8, "", "hint: the hub's log says more\n"),
        (504, 9, "too slow", "error: cannot read the status: too slow\n"),
    ] {
        let hint = matches!(status, 404 | 409).then(|| "look again".to_owned());
        hub.on("GET status", status, ErrorBody { error: error.into(), hint });
        let ran = hub.run(&["status"]).await?;
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{status}: {ran:?}");
        assert!(ran.stderr.contains(says), "{status}: {}", ran.stderr);
    }
    hub.get("status", json!("not a status"));
    let ran = hub.run(&["status"]).await?;
    assert_eq!(ran.code, 8, "{ran:?}");
    assert!(ran.stderr.contains("is not understood"), "{ran:?}");
    Ok(())
}

#[tokio::test]
async fn a_wrong_token_another_hubs_ca_and_nobody_at_all() -> anyhow::Result<()> {
    let (hub, other) = (FakeHub::start().await?, FakeHub::start().await?);
    hub.get("status", json!({}));
    assert_eq!(hub.run(&["status"]).await?.code, 0);
    let wrong = hub.run(&["status", "--token", "flt_wrong"]).await?;
    assert_eq!(wrong.code, 5, "{wrong:?}");
    let ca = format!("{}/ca.pem", other.data());
    let stranger = hub.run(&["status", "--ca", &ca]).await?;
    assert_eq!(stranger.code, 4, "{stranger:?}");
    assert!(
        stranger.stderr.contains("certificate") && stranger.stderr.contains("is --ca that of this hub"),
        "{stranger:?}"
    );

    // The agents' port, of this version and of an older one, and the port for probes.
    hub.on(
        "GET status",
        421,
        ErrorBody { error: "this is the hub's port for agents".into(), hint: Some("8444".into()) },
    );
    let agents = hub.run(&["status"]).await?;
    assert_eq!(agents.code, 4, "{agents:?}");
    assert!(agents.stderr.contains("port for agents\nhint: 8444"), "{agents:?}");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let plain = async {
        let (mut stream, _) = listener.accept().await?;
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await?;
        anyhow::Ok(stream)
    };
    let args = ["status", "--hub", &address];
    let (probes, _stream) = tokio::join!(hub.run(&args), plain);
    let probes = probes?;
    assert_eq!(probes.code, 4, "{probes:?}");
    assert!(
        probes.stderr.contains("is this the port for probes?") && probes.stderr.contains("8444"),
        "{probes:?}"
    );

    // A port that was free a moment ago.
    let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let nobody = hub.run(&["status", "--hub", &address]).await?;
    assert_eq!(nobody.code, 4, "{nobody:?}");
    assert!(
        nobody.stderr.contains(&address) && nobody.stderr.contains("hint: is the hub running"),
        "{nobody:?}"
    );
    Ok(())
}

#[tokio::test]
async fn wrong_usage_is_told_from_the_rest() -> anyhow::Result<()> {
    for (args, code, says) in [
        (&["nonsense"][..], 2, "unrecognized subcommand"),
        (&["suspend", "source", "git", "web"], 2, "hint: only clusters and units are suspended by hand"),
        (&["suspend", "ks", "web"], 2, "--cluster <NAME>"),
        (&["stats"], 2, "hint: `flotilla status`"),
        (&["events", "--for", "Deployment/web"], 2, "`flotilla trace` names the unit of other objects"),
        (&["events", "--for", "web"], 2, "'web' is not of the form KIND/NAME"),
        (&["tree", "Not_A_Name"], 2, "cannot name a cluster"),
        (&["get", "clusters"], 2, "hint: give --hub"),
        (&["status", "--hub", "http://hub:80"], 2, "not safe"),
        (&["status", "--hub", "hub:1", "--data", "/nowhere"], 2, "cannot read the"),
        (&["help", "nothing"], 2, "there is no help on 'nothing'"),
        (&["render", "--cluster", "x", "--repo", "/nowhere"], 3, "cannot read the fleet repo /nowhere"),
        (&["kustomize", "build", "/nowhere"], 3, "cannot build /nowhere"),
        (&["kustomize", "build", "nowhere"], 3, "cannot build nowhere: No such file"),
        (&["kustomize", "build", "https://h/x"], 3, "names no repository"),
        (&["kustomize", "build", "file:///nowhere?ref=a"], 3, "needs the program 'git'"),
        (&["check"], 2, "--repo DIR"),
    ] {
        let ran = run(args).await?;
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{args:?}: {ran:?}");
        assert!(ran.stderr.contains(says), "{args:?}: {}", ran.stderr);
    }
    Ok(())
}

#[tokio::test]
async fn what_needs_no_hub_needs_nothing() -> anyhow::Result<()> {
    for (args, says) in [
        (&["--help"][..], "Usage: flotilla"),
        (&["--version"], "flotilla 0"),
        (&["version", "--client"], "flotilla 0"),
        (&["help", "cluster", "delete"], "Usage: flotilla cluster delete"),
        (&["help", "exit-codes"], "   0  done\n"),
        (&["help", "environment"], "  FLOTILLA_HUB "),
        (&["completion", "bash"], "_flotilla()"),
        (&["completion", "fish"], "complete -c flotilla"),
        (&["completion", "zsh"], "#compdef flotilla"),
    ] {
        let ran = run(args).await?;
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{args:?}");
        assert!(ran.stdout.contains(says), "{args:?}: {}", ran.stdout);
    }
    Ok(())
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_it_quietly() -> anyhow::Result<()> {
    let mut child = crate::start(&["completion", "bash"])?;
    drop(child.stdout.take());
    let ran: crate::Ran = child.wait_with_output().await?.into();
    assert_eq!((ran.code, ran.stderr.as_str()), (141, ""));
    Ok(())
}

#[tokio::test]
async fn colours_are_for_terminals_or_for_who_asks() -> anyhow::Result<()> {
    let hub = FakeHub::start().await?;
    hub.list("clusters", [json!({"name": "staging"})]);
    let plain = hub.run(&["get", "clusters"]).await?;
    assert!(!plain.stdout.contains('\u{1b}'), "{plain:?}");
    let colored = hub.run(&["get", "clusters", "--color", "always"]).await?;
    assert!(colored.stdout.contains("\u{1b}[1mstaging\u{1b}[0m"), "{colored:?}");
    Ok(())
}
