//! `propagate`: from a one-line commit, with `flotilla reconcile`, until both clusters have it.

use std::time::Instant;

use anyhow::{Context, Result};
use flotilla_tests::fleet::{Fleet, HubOptions};
use flotilla_tests::objects::ObjectRef;
use flotilla_tests::{ClusterOptions, Clusters};
use serde_json::json;

use crate::figure;
use crate::load::{self, NAMESPACE};
use crate::setup::{fleet, until};

const NAMES: [&str; 2] = ["staging", "production"];
/// What else the repository holds.
const UNITS: usize = 25;

pub(crate) async fn run(clusters: &Clusters, repeats: usize) -> Result<()> {
    let mut files = NAMES.map(load::root).to_vec();
    files.extend(load::units(&NAMES, UNITS, &[])?);
    let fleet = fleet(clusters, NAMES, &files, &ClusterOptions::bare(), &HubOptions::default()).await?;

    let (mut applied, mut reconciled) = (Vec::new(), Vec::new());
    for repeat in 0..repeats {
        let value = format!("change-{repeat}");
        fleet.repo().commit(&value, &load::content(repeat % UNITS, &value)?)?;
        let start = Instant::now();
        let reconcile = async {
            fleet.reconcile().await?;
            anyhow::Ok(Instant::now())
        };
        let [one, other] = NAMES.map(|name| arrives(&fleet, name, repeat % UNITS, &value));
        let (end, one, other) = futures::try_join!(reconcile, one, other).context(value.clone())?;
        reconciled.push((end - start).as_secs_f64());
        applied.push((one.max(other) - start).as_secs_f64());
        // Undisturbed by what comes after the last change.
        fleet.in_sync(&NAMES).await?;
    }
    let about = json!({"clusters": NAMES.len(), "units": UNITS, "reconcile_command_median": figure::median(&reconciled)});
    figure::print_median("propagate_seconds", &applied, "s", about);
    Ok(())
}

/// When a cluster has the value.
async fn arrives(fleet: &Fleet, cluster: &str, unit: usize, value: &str) -> Result<Instant> {
    let client = fleet.client(cluster);
    let config = ObjectRef::new("v1", "ConfigMap", NAMESPACE, &load::name(unit));
    until("the change is in the cluster", async || Ok(config.field(&client, "/data/value").await? == value))
        .await
}
