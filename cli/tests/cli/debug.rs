//! The bundle for those who help: everything that can be read, and nothing secret.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;

use flotilla_api::*;
use serde_json::json;

use crate::fake::FakeHub;
use crate::hub::cluster;

fn read(path: &std::path::Path) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()));
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        files.insert(name.strip_prefix("flotilla-debug/").unwrap().to_owned(), text);
    }
    files
}

#[tokio::test]
async fn the_bundle_has_what_can_be_read_and_says_what_cannot() -> anyhow::Result<()> {
    let hub = FakeHub::start().await?;
    let staging = cluster("staging", ConnectionState::Connected, SyncState::InSync);
    hub.get("status", json!({"hubVersion": "0.1.0"})).list("clusters", [&staging]);
    hub.get("clusters/staging/tree", Tree { cluster: staging.clone(), ..Tree::default() });
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("bundle.tar.gz");
    let ran = hub.run(&["debug", "bundle", "--cluster", "staging", "--out", file.to_str().unwrap()]).await?;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("parts could not be read"), "{ran:?}");
    assert_eq!(std::fs::metadata(&file)?.permissions().mode() & 0o777, 0o600);

    let files = read(&file);
    let clusters: Vec<Cluster> = serde_json::from_str(&files["clusters.json"])?;
    assert_eq!(clusters, [staging]);
    assert!(files["clusters/staging.json"].contains("\"staging\""));
    assert!(files["errors.txt"].contains("units.json: ") && !files.contains_key("units.json"), "{files:?}");
    let all = files.values().map(String::as_str).collect::<String>();
    assert!(!all.contains("flt_"), "the caller's token is in it");
    Ok(())
}

#[tokio::test]
async fn a_hub_of_which_nothing_can_be_read_makes_no_bundle() -> anyhow::Result<()> {
    let hub = FakeHub::start().await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("bundle.tar.gz");
    let ran = hub.run(&["debug", "bundle", "--out", file.to_str().unwrap()]).await?;
    assert!(ran.code != 0 && !file.exists(), "{ran:?}");
    Ok(())
}
