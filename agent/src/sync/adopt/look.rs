//! What an adoption would make of each object of Git: a look at it, a dry run, and nothing written.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use flotilla_core::adopt::{self, Previous};
use flotilla_core::answer::{Effect, Foreseen};
use flotilla_core::ignore::{Ignores, yield_to};
use flotilla_core::live::Live;
use flotilla_core::order::Stage;
use flotilla_core::plan::{ApplyStep, Cause, apply_fingerprint};
use flotilla_core::report::FieldDrift;
use flotilla_core::{DesiredState, Digest, ObjectId, ObjectRef, ServiceAccount, UnitId, diff, drift};
use flotilla_runtime::chain;
use futures::StreamExt;
use http::Method;
use serde_json::Value;

use super::AT_ONCE;
use crate::cluster::Cluster;
use crate::cluster::discovery::{Discovery, Resource};
use crate::cluster::members::is_paused;
use crate::cluster::objects::RequestMode;
use crate::cluster::request::{Call, Failure};
use crate::sync::apply::Content;
use crate::sync::hiding_key;
use crate::sync::memory::ApplyMode;
use crate::sync::tools::Tools;

/// An object of Git.
pub(super) struct Item {
    pub(super) unit: UnitId,
    /// With its identity completed.
    pub(super) object: ObjectRef,
    digest: Digest,
    template: bool,
    account: Option<ServiceAccount>,
    ignores: Arc<Ignores>,
    /// Its unit is suspended, so that nobody takes it over until that ends.
    pub(super) suspended: bool,
}

/// All objects of units that are present, each once: with the first unit that has it.
pub(super) fn items(desired: &DesiredState, discovery: &Discovery) -> Vec<Item> {
    let mut items: BTreeMap<ObjectId, Item> = BTreeMap::new();
    for unit in desired.all_present() {
        // Rules that cannot be read are a problem of the unit, which is not applied then.
        let ignores = Arc::new(Ignores::new(&unit.spec.ignore).unwrap_or_default());
        for entry in &unit.objects {
            let id = discovery.complete(&entry.object.id);
            items.entry(id.clone()).or_insert_with(|| Item {
                unit: unit.id.clone(),
                object: ObjectRef { id, version: entry.object.version.clone() },
                digest: entry.digest,
                template: entry.template,
                account: unit.spec.service_account.clone(),
                ignores: ignores.clone(),
                suspended: unit.spec.suspend,
            });
        }
    }
    items.into_values().collect()
}

/// What would become of an object.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::sync) enum What {
    Ours,
    Create,
    /// Taken over; the fields that would change.
    Take(Vec<FieldDrift>),
    /// It stays somebody else's.
    Stays(String),
    Refused(String),
}

impl What {
    /// As people are told of it; none where nothing would be other than it is. `unit`: where not all are of one.
    pub(in crate::sync) fn foreseen(&self, object: &ObjectId, unit: Option<&UnitId>) -> Option<Foreseen> {
        let (effect, why, fields) = match self {
            Self::Ours => return None,
            Self::Take(fields) if fields.is_empty() => return None,
            Self::Take(fields) => (Effect::Change, String::new(), fields.clone()),
            Self::Create => (Effect::Create, String::new(), Vec::new()),
            Self::Stays(why) => (Effect::Stays, why.clone(), Vec::new()),
            Self::Refused(why) => (Effect::Refused, why.clone(), Vec::new()),
        };
        let unit = unit.map_or_else(String::new, UnitId::to_string);
        Some(Foreseen { object: object.to_string(), unit, effect, why, fields })
    }
}

/// What is known of an object after a look.
pub(super) struct Looked {
    pub(super) what: What,
    pub(super) uid: String,
    /// Flux's object that its labels name.
    pub(super) owner: Option<ObjectId>,
    /// The release of Helm that its annotations name.
    pub(super) release: Option<super::helm::ReleaseName>,
    /// kubectl holds fields of it.
    pub(super) by_kubectl: bool,
    pub(super) previous: Previous,
    /// What others added stays with them.
    pub(super) merges: bool,
}

impl Looked {
    fn new(what: What) -> Self {
        Self {
            what,
            uid: String::new(),
            owner: None,
            release: None,
            by_kubectl: false,
            previous: Previous::default(),
            merges: false,
        }
    }
}

/// Looks at all of them. `takes`: Flux's objects whose own are to be taken over.
pub(super) async fn look_at_all(
    tools: &Tools,
    items: &[Item],
    takes: &BTreeSet<ObjectId>,
) -> Result<HashMap<ObjectId, Looked>, Failure> {
    let looks = items.iter().map(|item| async move {
        let _seat = tools.seat().await;
        let looked = Box::pin(look(tools, item, takes)).await?;
        Ok::<_, Failure>((item.object.id.clone(), looked))
    });
    let looks: Vec<_> = looks.collect();
    let looks: Vec<_> = futures::stream::iter(looks).buffer_unordered(AT_ONCE).collect().await;
    looks.into_iter().collect()
}

async fn look(tools: &Tools, item: &Item, takes: &BTreeSet<ObjectId>) -> Result<Looked, Failure> {
    let id = &item.object.id;
    // A kind that is not served has no objects; its CRD comes with a unit.
    let Some(resource) = tools.cluster.discovery().any_version(&item.object) else {
        return Ok(Looked::new(What::Create));
    };
    let Some(found) = tools.cluster.fetch::<Value>(&resource, id).await? else {
        return Ok(Looked::new(What::Create));
    };
    let metadata = Live::from(&found).metadata;
    let annotation = |name: &str| metadata.annotations.get(name).cloned();
    let is_kubectl = |manager: &str| manager.starts_with("kubectl") || manager == "before-first-apply";
    let mut looked = Looked {
        uid: metadata.uid.clone(),
        owner: adopt::flux_owner(&metadata),
        release: annotation(adopt::RELEASE_NAMESPACE).zip(annotation(adopt::RELEASE_NAME)),
        by_kubectl: metadata.managed_fields.iter().any(|e| drift::is_folded(e) && is_kubectl(&e.manager)),
        previous: adopt::previous(&metadata),
        ..Looked::new(What::Ours)
    };
    let ours = metadata.managed_fields.iter().any(drift::is_ours);
    let folded = drift::has_folded(&metadata.managed_fields);
    if ours && !folded {
        return Ok(looked);
    }
    let step = ApplyStep {
        object: item.object.clone(),
        digest: item.digest,
        template: item.template,
        fingerprint: apply_fingerprint(item.digest, &item.unit),
        owner: item.unit.clone(),
        stage: Stage::of(id),
        cause: Cause::New,
    };
    let cluster = tools.cluster.acting_as(item.account.as_ref());
    let content = match Content::read(tools, &item.unit, &cluster, &step, id).await {
        Ok(content) => content,
        Err(error) => {
            looked.what = What::Refused(chain(&error));
            return Ok(looked);
        }
    };
    looked.merges = content.annotations.apply_mode == ApplyMode::Merge;
    looked.what = match content.annotations.apply_mode {
        ApplyMode::Never | ApplyMode::Once => What::Stays("its annotations in Git leave it as it is".into()),
        _ if is_paused(&metadata) => What::Stays("its annotations in the cluster leave it as it is".into()),
        ApplyMode::Merge if ours => What::Ours,
        ApplyMode::Override | ApplyMode::Merge => {
            let is_taken = looked.owner.as_ref().is_some_and(|owner| takes.contains(owner));
            let owner = if is_taken { None } else { tools.owners.owner(&tools.cluster, &metadata).await? };
            match owner {
                Some(owner) => What::Stays(format!("belongs to {owner}, which is at work")),
                None => rehearse(&cluster, &item.ignores, &item.object, &resource, &content, found).await?,
            }
        }
    };
    Ok(looked)
}

/// How an object that is there would be after an apply that takes over what former tools hold.
pub(in crate::sync) async fn rehearse(
    cluster: &Cluster,
    ignores: &Ignores,
    object: &ObjectRef,
    resource: &Resource,
    content: &Content,
    mut found: Value,
) -> Result<What, Failure> {
    let id = &object.id;
    let ignored = ignores.paths(object, &content.prepared.value);
    let mut body = content.prepared.body.clone();
    if !ignored.is_empty() {
        let mut wanted = content.prepared.value.clone();
        yield_to(&mut wanted, &found, &ignored);
        body = Bytes::from(wanted.to_string());
    }
    let mut wanted: Value = match cluster.apply(resource, id, body, RequestMode::DryRun).await {
        Ok(wanted) => wanted,
        Err(failure @ Failure::Refused { .. }) if (400..500).contains(&failure.code()) => {
            return Ok(What::Refused(chain(&failure)));
        }
        Err(failure) => return Err(failure),
    };
    if content.annotations.apply_mode == ApplyMode::Override {
        let folded = adopt::after_fold(&wanted);
        if folded != wanted {
            // The API server fills in what it would fill in then, too.
            let path = format!("{}?fieldManager={}&dryRun=All", resource.path(id)?, drift::MANAGER);
            let call = Call::new(Method::PUT, path).body("application/json", Bytes::from(folded.to_string()));
            wanted = match cluster.ask(call).await {
                Ok(filled) => filled,
                Err(failure @ Failure::Refused { .. }) => {
                    tracing::debug!(object = %id, error = chain(&failure), "shown without defaults");
                    folded
                }
                Err(failure) => return Err(failure),
            };
        }
    }
    adopt::without_tool_metadata(&mut found);
    adopt::without_tool_metadata(&mut wanted);
    let mut fields = diff::fields(&found, &wanted, hiding_key());
    if content.holds_secrets() {
        for value in fields.iter_mut().flat_map(|field| [&mut field.found, &mut field.wanted]) {
            *value = value.take().map(|_| "hidden, as values of Secrets are in it".to_owned());
        }
    }
    Ok(What::Take(fields))
}
