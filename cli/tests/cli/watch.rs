//! `--watch`: what changes is shown, and a lost connection is taken up again.

use flotilla_api::{Cluster, ConnectionState, SyncState};
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader, Lines};

use crate::fake::FakeHub;
use crate::hub::cluster;

const SOON: Duration = Duration::from_secs(20);

async fn next<R: AsyncRead + Unpin>(lines: &mut Lines<BufReader<R>>) -> anyhow::Result<String> {
    let line = tokio::time::timeout(SOON, lines.next_line()).await??;
    line.ok_or_else(|| anyhow::anyhow!("it ended"))
}

#[tokio::test]
async fn only_what_changed_is_shown_again_whatever_happens_to_the_connection() -> anyhow::Result<()> {
    let hub = FakeHub::start().await?;
    let cluster = |name, sync| cluster(name, ConnectionState::Connected, sync);
    hub.list("clusters", [cluster("a", SyncState::InSync), cluster("b", SyncState::InSync)]);
    let mut child = crate::start(&hub.args(&["get", "clusters", "--watch", "-o", "json"]))?;
    let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
    let read = |line: String| -> anyhow::Result<(String, SyncState)> {
        let cluster: Cluster = serde_json::from_str(&line)?;
        Ok((cluster.name, cluster.sync))
    };
    assert_eq!(read(next(&mut stdout).await?)?, ("a".into(), SyncState::InSync));
    assert_eq!(read(next(&mut stdout).await?)?, ("b".into(), SyncState::InSync));

    hub.list("clusters", [cluster("a", SyncState::InSync), cluster("b", SyncState::Failing)]);
    hub.changed();
    assert_eq!(read(next(&mut stdout).await?)?, ("b".into(), SyncState::Failing));

    hub.list("clusters", [cluster("a", SyncState::Pending), cluster("b", SyncState::Failing)]);
    hub.cut();
    assert!(next(&mut stderr).await?.contains("the connection to the hub was lost"));
    assert_eq!(read(next(&mut stdout).await?)?, ("a".into(), SyncState::Pending));
    assert!(next(&mut stderr).await?.contains("connected to the hub again"));

    hub.list("clusters", [cluster("a", SyncState::Pending)]);
    hub.changed();
    assert!(next(&mut stderr).await?.contains("cluster b is gone"));
    Ok(())
}

#[tokio::test]
async fn a_status_is_shown_anew_when_it_differs() -> anyhow::Result<()> {
    let hub = FakeHub::start().await?;
    hub.get("status", json!({"problemCount": 1}));
    let mut child = crate::start(&hub.args(&["status", "--watch", "-o", "json"]))?;
    let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(next(&mut stdout).await?.contains(r#""problemCount":1"#));
    hub.changed();
    hub.get("status", json!({"problemCount": 2}));
    hub.changed();
    assert!(next(&mut stdout).await?.contains(r#""problemCount":2"#));
    Ok(())
}

#[tokio::test]
async fn a_token_that_is_not_valid_any_more_ends_the_watch() -> anyhow::Result<()> {
    let hub = FakeHub::start().await?;
    hub.list("clusters", [json!({"name": "a"})]);
    let mut child = crate::start(&hub.args(&["get", "clusters", "--watch"]))?;
    let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(next(&mut stdout).await?.starts_with("NAME"));
    assert!(next(&mut stdout).await?.starts_with("a "));
    hub.on("GET clusters", 401, json!({"error": "revoked"}));
    hub.changed();
    let status = tokio::time::timeout(SOON, child.wait()).await??;
    assert_eq!(status.code(), Some(5));
    Ok(())
}
