//! A cluster under constant change: what has to be in it, what has to be left alone, and what was deleted.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};
use flotilla_api as api;
use kube::ResourceExt;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::ClusterOptions;
use crate::fleet::{Fleet, ready};
use crate::git::{Change, file, remove};
use crate::manifests::{app, config_map};
use crate::objects::{self, ObjectRef, apply, resource_versions};

pub(super) const CLUSTER: &str = "one";
/// What the hub was told of the units when a run failed, beside the logs.
const UNITS: &str = "units.json";
/// So many lines of the agent's are shown where a run failed; its log has all.
const TAIL: usize = 30;
const VALUE: &str = "/data/value";
/// So many that none is changed by hand often enough to be taken for fought over.
const STEADY: u32 = 60;
const MANY: u32 = 20;
/// So that states and bodies are more than a few pages of a disk.
const SIZE: usize = 2_000;

/// A fleet of one cluster, whose API server keeps a record of deletions.
pub struct World {
    pub(super) fleet: Fleet,
    /// The round that was committed last.
    pub(super) round: u32,
    steady: BTreeMap<String, String>,
    bystanders: BTreeMap<ObjectRef, String>,
    folder: TempDir,
}

/// What there is to explain a run that failed.
pub(super) struct Kept {
    pub(super) place: String,
    /// Of the units that are not as they should be, a line each.
    pub(super) units: Vec<String>,
    /// The agent's last lines, the last one first.
    pub(super) log: Vec<String>,
}

/// A unit's state in a line: its first finding, and why the first of the objects is kept that are.
fn tell(unit: &api::Unit) -> String {
    let api::Unit { unit: name, phase, message, findings, kept, .. } = unit;
    let finding = findings.first().map(|it| format!("; {} {}: {}", it.object.name, it.reason, it.message));
    let waits = kept.first().map(|it| format!("; {} kept, first {}: {}", kept.len(), it.object.name, it.why));
    format!("{name} is {phase} ({message}){}{}", finding.unwrap_or_default(), waits.unwrap_or_default())
}

fn config(name: &str) -> ObjectRef {
    ObjectRef::new("v1", "ConfigMap", "default", name)
}

fn names(prefix: &'static str, count: u32) -> impl Iterator<Item = String> {
    (0..count).map(move |number| format!("{prefix}-{number}"))
}

/// Round N sets N in many objects, adds `extra-N`, and removes that of the round before.
fn changes(round: u32) -> Vec<Change> {
    let extra = |round: u32| format!("apps/app/extra-{round}.yaml");
    let value = format!("{round}-{}", "x".repeat(SIZE));
    let mut changes: Vec<Change> = names("many", MANY)
        .map(|name| file(&format!("apps/app/{name}.yaml"), config_map(&name, &value)))
        .collect();
    changes.push(file(&extra(round), config_map(&format!("extra-{round}"), "1")));
    if round > 1 {
        changes.push(remove(&extra(round - 1)));
    }
    changes
}

impl World {
    /// A fleet in sync, with objects of others beside.
    ///
    /// # Errors
    /// If any of it does not come up.
    pub async fn start() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("flotilla-audit-").tempdir().context("make a folder")?;
        let policy = json!({
            "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
            "rules": [{"level": "Metadata", "verbs": ["delete", "deletecollection"]}, {"level": "None"}],
        });
        let (policy_file, log) = (folder.path().join("policy.json"), folder.path().join("audit.log"));
        fs::write(&policy_file, policy.to_string()).context("write the audit policy")?;
        let mut options = ClusterOptions::bare();
        options.apiserver_flags = vec![
            format!("--audit-policy-file={}", policy_file.display()),
            format!("--audit-log-path={}", log.display()),
        ];
        let mut files = vec![app(CLUSTER, "app", &[]), app(CLUSTER, "steady", &["wait: true"])];
        files.extend(
            names("steady", STEADY)
                .map(|name| file(&format!("apps/steady/{name}.yaml"), config_map(&name, "1"))),
        );
        files.extend(changes(1));
        let fleet = Fleet::start_with([CLUSTER], &files, &options).await?;
        fleet.in_sync(&[CLUSTER]).await?;
        let (steady, bystanders) = (BTreeMap::new(), BTreeMap::new());
        let mut world = Self { fleet, round: 1, steady, bystanders, folder };
        world.put_bystanders().await?;
        for name in names("steady", STEADY) {
            let uid = world.fleet.appears(CLUSTER, &config(&name)).await?;
            world.steady.insert(name, uid);
        }
        Ok(world)
    }

    /// Objects of others: one with the labels of an object of ours, as controllers copy labels.
    async fn put_bystanders(&mut self) -> Result<()> {
        let client = self.fleet.client(CLUSTER);
        let ours = config("steady-0").json(&client).await?;
        let object = |kind: &str, name: &str, labels: Value| {
            json!({"apiVersion": "v1", "kind": kind,
                "metadata": {"name": name, "namespace": "default", "labels": labels}})
        };
        let all = [
            object("ConfigMap", "bystander", json!({})),
            object("ConfigMap", "copied", ours["metadata"]["labels"].clone()),
            object("Secret", "bystander", json!({"of": "somebody"})),
            object("ServiceAccount", "bystander", json!({})),
        ];
        let mut refs = Vec::new();
        for object in &all {
            apply(&client, "somebody", object).await?;
            refs.push(ObjectRef::of(object)?);
        }
        self.bystanders = resource_versions(&client, &refs).await?;
        Ok(())
    }

    /// Commits the next round, changes something in the cluster by hand, and has the hub read the commit: where it cannot,
    /// that is the error.
    pub(super) async fn advance(&mut self) -> Result<()> {
        self.round += 1;
        self.fleet.repo().commit(&self.round.to_string(), &changes(self.round))?;
        let told = self.fleet.reconcile().await;
        // While the API server is away nobody changes anything.
        let by_hand = json!({"data": {"value": format!("by hand {}", self.round)}});
        drop(
            config(&format!("steady-{}", self.round % STEADY))
                .edit(&self.fleet.client(CLUSTER), by_hand)
                .await,
        );
        told
    }

    /// Whether the cluster is as the last commit says.
    pub(super) async fn is_right(&self) -> Result<()> {
        let client = self.fleet.client(CLUSTER);
        let there: BTreeMap<String, Value> = objects::list(&client, "v1", "ConfigMap", Some("default"), "")
            .await?
            .into_iter()
            .map(|object| (object.name_any(), object.data))
            .collect();
        let value = |name: &str| -> Result<&str> {
            let object = there.get(name).with_context(|| format!("{name} is not there"))?;
            Ok(object.pointer(VALUE).and_then(Value::as_str).unwrap_or_default())
        };
        for name in names("many", MANY) {
            let found = value(&name)?.split('-').next().unwrap_or_default().to_owned();
            ensure!(found == self.round.to_string(), "{name} is of round {found}, not {}", self.round);
        }
        for name in names("steady", STEADY) {
            ensure!(value(&name)? == "1", "{name} is {}", value(&name)?);
        }
        let wanted = format!("extra-{}", self.round);
        value(&wanted)?;
        let left: Vec<&String> =
            there.keys().filter(|it| it.starts_with("extra-") && **it != wanted).collect();
        ensure!(left.is_empty(), "still there: {left:?}");
        Ok(())
    }

    /// Whether everything that was to be left alone was.
    pub(super) async fn harmed_nobody(&self) -> Result<()> {
        let client = self.fleet.client(CLUSTER);
        let refs: Vec<ObjectRef> = self.bystanders.keys().cloned().collect();
        let now = resource_versions(&client, &refs).await?;
        ensure!(now == self.bystanders, "objects of others were written: {:?}, now {now:?}", self.bystanders);
        for (name, uid) in &self.steady {
            let now = self.fleet.uid(CLUSTER, &config(name)).await?;
            ensure!(now.as_ref() == Some(uid), "{name} is another object: {now:?}, it was {uid}");
        }
        for (name, times) in self.deletions()? {
            ensure!(name.starts_with("extra-"), "{name} was deleted");
            ensure!(times == 1, "{name} was deleted {times} times");
        }
        Ok(())
    }

    /// Successful deletions by name, as the API server recorded them.
    fn deletions(&self) -> Result<BTreeMap<String, u32>> {
        let path = self.folder.path().join("audit.log");
        let log = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let mut deletions = BTreeMap::new();
        for line in log.lines() {
            // A killed API server may leave half a line.
            let Ok(entry) = serde_json::from_str::<Value>(line) else { continue };
            let text = |pointer: &str| entry.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            let done =
                entry.pointer("/responseStatus/code").and_then(Value::as_u64).is_some_and(|code| code < 300);
            if done && text("/objectRef/namespace") == "default" {
                *deletions.entry(text("/objectRef/name").to_owned()).or_default() += 1;
            }
        }
        Ok(deletions)
    }

    /// Leaves the logs of all programs for somebody to look into, with what the hub was told of the cluster's units, and says
    /// where, and what the agent said last.
    pub(super) async fn keep(&mut self) -> Kept {
        self.fleet.keep_folder();
        self.folder.disable_cleanup(true);
        let log = self.fleet.member(CLUSTER).agent().log().unwrap_or_else(|error| format!("{error:#}"));
        // Not what its client says of each request that fails.
        let own = log.lines().filter(|line| line.contains("flotilla"));
        let units = match self.fleet.units(CLUSTER).await {
            Ok(units) => units.into_values().collect(),
            Err(error) => {
                eprintln!("  nobody says how the units are: {error:#}");
                Vec::new()
            }
        };
        let (folder, audit) = (self.fleet.folder(), self.folder.path());
        if let Err(error) = fs::write(folder.join(UNITS), json!(units).to_string()) {
            eprintln!("  cannot write down how the units are: {error}");
        }
        Kept {
            place: format!("{} and {}", folder.display(), audit.display()),
            units: units.iter().filter(|unit| !ready(unit) || !unit.kept.is_empty()).map(tell).collect(),
            log: own.rev().take(TAIL).map(str::to_owned).collect(),
        }
    }
}
