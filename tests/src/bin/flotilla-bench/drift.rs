//! `drift`: from a deletion, or a change by hand, until it is repaired.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use flotilla_tests::fleet::HubOptions;
use flotilla_tests::objects::ObjectRef;
use flotilla_tests::{ClusterOptions, Clusters};
use kube::ResourceExt;
use serde_json::json;

use crate::figure;
use crate::load::{self, NAMESPACE};
use crate::setup::{fleet, until};

const NAME: &str = "bench";
const UNITS: usize = 50;

pub(crate) async fn run(clusters: &Clusters, repeats: usize) -> Result<()> {
    ensure!(repeats <= UNITS, "no more than {UNITS} repeats: each disturbs another unit");
    let mut files = vec![load::root(NAME)];
    files.extend(load::units(&[NAME], UNITS, &[])?);
    let fleet = fleet(clusters, [NAME], &files, &ClusterOptions::bare(), &HubOptions::default()).await?;
    let client = fleet.client(NAME);

    let (mut deleted, mut edited) = (Vec::new(), Vec::new());
    for unit in 0..repeats {
        let config = ObjectRef::new("v1", "ConfigMap", NAMESPACE, &load::name(unit));
        let before = config.get(&client).await?.with_context(|| format!("{config} is not there"))?.uid();
        config.delete(&client).await?;
        let start = Instant::now();
        let repaired = until("the object is back", async || {
            Ok(config.get(&client).await?.is_some_and(|found| found.uid() != before))
        });
        deleted.push((repaired.await? - start).as_secs_f64());

        let deployment = ObjectRef::new("apps/v1", "Deployment", NAMESPACE, &load::name(unit));
        deployment.edit(&client, json!({"spec": {"replicas": 3}})).await?;
        let start = Instant::now();
        let repaired = until("the field is put back", async || {
            Ok(deployment.field(&client, "/spec/replicas").await? == 1)
        });
        edited.push((repaired.await? - start).as_secs_f64());
    }
    let about = json!({"units": UNITS});
    figure::print_median("drift_delete_seconds", &deleted, "s", about.clone());
    figure::print_median("drift_edit_seconds", &edited, "s", about);
    Ok(())
}
