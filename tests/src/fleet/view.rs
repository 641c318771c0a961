//! What the hub tells of the fleet, by the CLI, and what is in the clusters, by their API servers; and waiting for both.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use flotilla_api as api;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Fleet, SOON};
use crate::objects::ObjectRef;
use crate::wait::eventually;

impl Fleet {
    /// What the CLI prints as JSON.
    ///
    /// # Errors
    /// If it fails, or prints something else.
    pub async fn json<T: DeserializeOwned>(&self, args: &[&str]) -> Result<T> {
        let text = self.cli(args).await?;
        serde_json::from_str(&text)
            .with_context(|| format!("flotilla {} printed something else: {text}", args.join(" ")))
    }

    /// What the hub knows of the fleet.
    ///
    /// # Errors
    /// If the CLI fails.
    pub async fn status(&self) -> Result<api::Status> {
        self.json(&["status", "-o", "json"]).await
    }

    /// What the hub knows of the clusters, by name.
    ///
    /// # Errors
    /// If the CLI fails.
    pub async fn clusters(&self) -> Result<BTreeMap<String, api::Cluster>> {
        let list: Vec<api::Cluster> = self.json(&["get", "clusters", "-o", "json"]).await?;
        Ok(list.into_iter().map(|cluster| (cluster.name.clone(), cluster)).collect())
    }

    /// What the hub knows of one cluster.
    ///
    /// # Errors
    /// If the CLI fails, or the hub knows no such cluster.
    pub async fn cluster(&self, name: &str) -> Result<api::Cluster> {
        let found = self.clusters().await?.remove(name);
        found.with_context(|| format!("the hub knows no cluster {name}"))
    }

    /// What the hub knows of a cluster's units, by name.
    ///
    /// # Errors
    /// If the CLI fails.
    pub async fn units(&self, cluster: &str) -> Result<BTreeMap<String, api::Unit>> {
        let list: Vec<api::Unit> = self.json(&["get", "units", "--cluster", cluster, "-o", "json"]).await?;
        Ok(list.into_iter().map(|unit| (unit.unit.clone(), unit)).collect())
    }

    /// Waits until the newest commit is what the hub renders, and each of these clusters runs what that comes to.
    ///
    /// # Errors
    /// The last status, if it never is.
    pub async fn in_sync(&self, clusters: &[&str]) -> Result<()> {
        let head = self.repo().head(crate::git::BRANCH)?.context("the repository has no commit")?;
        let in_sync = eventually(SOON, || async {
            let commit = self.status().await?.commit.unwrap_or_default().id;
            ensure!(commit == head, "the hub renders {commit:?}, not {head}");
            let all = self.clusters().await?;
            for name in clusters {
                let cluster = all.get(*name).with_context(|| format!("the hub knows no cluster {name}"))?;
                let (connection, sync) = (cluster.connection, cluster.sync);
                ensure!(
                    connection == api::ConnectionState::Connected && sync.is_reached(),
                    "{name} is {connection:?} and {sync:?}; its units: {}",
                    told(&self.units(name).await?)
                );
            }
            anyhow::Ok(())
        });
        in_sync.await.with_context(|| format!("wait until in sync: {}", clusters.join(", ")))
    }

    /// Waits until the agent of a cluster is connected.
    ///
    /// # Errors
    /// The last state, if it never is.
    pub async fn connected(&self, cluster: &str) -> Result<()> {
        self.connection_becomes(cluster, api::ConnectionState::Connected).await
    }

    /// Waits until the connection of a cluster's agent is in this state.
    ///
    /// # Errors
    /// The last state, if it never is.
    pub async fn connection_becomes(&self, cluster: &str, wanted: api::ConnectionState) -> Result<()> {
        let became = eventually(SOON, || async {
            let state = self.cluster(cluster).await?.connection;
            ensure!(state == wanted, "{cluster} is {state:?}, not {wanted:?}");
            anyhow::Ok(())
        });
        Ok(became.await?)
    }

    /// Waits until all units of a cluster are ready at the state that is wanted of them.
    ///
    /// # Errors
    /// The last state of the units, if they never are.
    pub async fn units_ready(&self, cluster: &str) -> Result<BTreeMap<String, api::Unit>> {
        let units = eventually(SOON, || async {
            let units = self.units(cluster).await?;
            ensure!(!units.is_empty() && units.values().all(ready), "{}", told(&units));
            anyhow::Ok(units)
        });
        units.await.with_context(|| format!("wait for the units of {cluster}"))
    }

    /// Waits until a unit is as `check` wants it; what it says otherwise is told with the unit.
    ///
    /// # Errors
    /// The last state of the unit, if it never is.
    pub async fn unit_becomes(
        &self,
        cluster: &str,
        unit: &str,
        check: impl Fn(&api::Unit) -> Result<(), String>,
    ) -> Result<api::Unit> {
        let became = eventually(SOON, || async {
            let found = self.units(cluster).await?.remove(unit);
            let found = found.with_context(|| format!("the hub knows no unit {unit}"))?;
            check(&found).map_err(|wanted| anyhow::anyhow!("{wanted}; {}", tell(&found)))?;
            anyhow::Ok(found)
        });
        became.await.with_context(|| format!("wait for {unit} of {cluster}"))
    }

    /// Waits until a unit is in this phase.
    ///
    /// # Errors
    /// The last state of the unit, if it never is.
    pub async fn phase_becomes(&self, cluster: &str, unit: &str, phase: &str) -> Result<api::Unit> {
        self.unit_becomes(cluster, unit, |unit| {
            if unit.phase == phase { Ok(()) } else { Err(format!("not {phase}")) }
        })
        .await
    }

    /// Waits until a cluster has an object with this value in a field (JSON pointer).
    ///
    /// # Errors
    /// The last value, if it never has.
    pub async fn field_becomes(
        &self,
        cluster: &str,
        object: &ObjectRef,
        pointer: &str,
        wanted: impl Into<Value>,
    ) -> Result<()> {
        let (client, wanted) = (self.client(cluster), wanted.into());
        let became = eventually(SOON, || async {
            let value = object.field(&client, pointer).await?;
            ensure!(value == wanted, "{object}: {pointer} is {value}, not {wanted}");
            anyhow::Ok(())
        });
        became.await.with_context(|| format!("in {cluster}"))
    }

    /// Waits until a cluster has the object, and gives its uid.
    ///
    /// # Errors
    /// If it never has.
    pub async fn appears(&self, cluster: &str, object: &ObjectRef) -> Result<String> {
        self.appears_anew(cluster, object, "").await
    }

    /// Waits until a cluster has the object with another uid than this one, and gives that.
    ///
    /// # Errors
    /// If it never has.
    pub async fn appears_anew(&self, cluster: &str, object: &ObjectRef, last: &str) -> Result<String> {
        let client = self.client(cluster);
        let appears = eventually(SOON, || async {
            let uid = uid(object.get(&client).await?.with_context(|| format!("{object} is not there"))?);
            ensure!(uid != last, "{object} still has the uid {last}");
            anyhow::Ok(uid)
        });
        appears.await.with_context(|| format!("in {cluster}"))
    }

    /// Waits until the object is gone from a cluster.
    ///
    /// # Errors
    /// If it never is.
    pub async fn vanishes(&self, cluster: &str, object: &ObjectRef) -> Result<()> {
        let client = self.client(cluster);
        let vanishes = eventually(SOON, || async {
            ensure!(object.get(&client).await?.is_none(), "{object} is there");
            anyhow::Ok(())
        });
        vanishes.await.with_context(|| format!("in {cluster}"))
    }

    /// The object's uid now, or `None` if it is not there.
    ///
    /// # Errors
    /// If the API server cannot say.
    pub async fn uid(&self, cluster: &str, object: &ObjectRef) -> Result<Option<String>> {
        Ok(object.get(&self.client(cluster)).await?.map(uid))
    }
}

fn uid(object: kube::api::DynamicObject) -> String {
    object.metadata.uid.unwrap_or_default()
}

/// Whether a unit is ready at the state that is wanted of it, by an agent that is there.
#[must_use]
pub fn ready(unit: &api::Unit) -> bool {
    unit.phase == "Ready" && unit.live && unit.desired.is_some() && unit.desired == unit.applied
}

/// What is wrong with a unit by Git, without notices, as people read it.
#[must_use]
pub fn errors(unit: &api::Unit) -> Vec<String> {
    unit.problems.iter().filter(|problem| !problem.notice).map(ToString::to_string).collect()
}

fn told(units: &BTreeMap<String, api::Unit>) -> String {
    if units.is_empty() {
        return "no units".to_owned();
    }
    units.values().map(tell).collect::<Vec<_>>().join("; ")
}

fn tell(unit: &api::Unit) -> String {
    let mut text = format!("{} is {} ({})", unit.unit, unit.phase, unit.message);
    if !ready(unit) {
        let short =
            |digest: &Option<String>| digest.as_ref().map_or("none", |it| &it[..it.len().min(8)]).to_owned();
        text += &format!(
            ", live {}, wanted {}, applied {}",
            unit.live,
            short(&unit.desired),
            short(&unit.applied)
        );
        text.extend(errors(unit).iter().map(|error| format!(", problem {error}")));
        text.extend(unit.findings.iter().map(|finding| format!(", {}: {}", finding.reason, finding.message)));
    }
    text
}
