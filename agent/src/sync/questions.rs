//! What people ask of the cluster as it is: one of our objects with what is behind its health, and what an apply would
//! change. Nothing is written.

use bytes::Bytes;
use flotilla_core::answer::{LiveObject, Rehearsal};
use flotilla_core::health::Health;
use flotilla_core::ignore::{Ignores, InvalidRule};
use flotilla_core::live::Live;
use flotilla_core::object::FromBodyError;
use flotilla_core::{Object, ObjectId, ObjectRef, UnitId, UnitManifest, diff};
use flotilla_runtime::chain;
use flotilla_runtime::lock;
use futures::StreamExt;
use serde_json::Value;

use super::adopt::look::{What, rehearse};
use super::apply::Content;
use super::engine::Engine;
use super::hiding_key;
use super::memory::ApplyMode;
use super::object_apply::StepError;
use super::reasons;
use super::template::Given;
use super::tools::Tools;
use crate::cluster::members::{Presence, is_paused};
use crate::cluster::objects::RequestMode;
use crate::cluster::request::Failure;

const AT_ONCE: usize = 8;
/// Objects of one rehearsal.
const MOST: usize = 200;

/// An object that is not applied, for a rehearsal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RehearsedBody {
    pub body: Bytes,
    /// Whoever made it says that it is a template.
    pub template: bool,
}

/// Of an object as it stands.
impl From<Bytes> for RehearsedBody {
    fn from(body: Bytes) -> Self {
        Self { body, template: false }
    }
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QuestionError {
    #[error("the agent has not read its cluster yet, or has no desired state; try again in a moment")]
    NotYet,
    #[error("{0} is not in the inventory of {1}")]
    NotOurs(ObjectId, UnitId),
    #[error("{0} is not in the cluster")]
    Absent(ObjectId),
    #[error("no unit {0} is present in the desired state")]
    NoUnit(UnitId),
    #[error("{0} objects are too many, at most {MOST} are looked at")]
    TooMany(usize),
    #[error("object {0} cannot be read")]
    Body(usize, #[source] FromBodyError),
    #[error("spec.ignore of {0}")]
    Ignores(UnitId, #[source] InvalidRule),
    #[error("{0}")]
    Object(ObjectId, #[source] Failure),
}

impl Engine {
    /// One object of a unit as the cluster has it.
    ///
    /// # Errors
    /// [`QuestionError`]; for an object that the unit's inventory does not list, or of which another stands in its place.
    pub async fn look_at(&self, unit: &UnitId, id: &ObjectId) -> Result<LiveObject, QuestionError> {
        let tools = self.shared.tools.borrow().clone().ok_or(QuestionError::NotYet)?;
        let member =
            tools.inventory.view(|inventory| inventory.units.get(unit).and_then(|members| members.get(id)));
        let member = member.ok_or_else(|| QuestionError::NotOurs(id.clone(), unit.clone()))?;
        let absent = || QuestionError::Absent(id.clone());
        let failed = |failure| QuestionError::Object(id.clone(), failure);
        let resource = tools.cluster.discovery().any_version(&member.object).ok_or_else(absent)?;
        let found: Option<Value> = tools.cluster.fetch(&resource, id).await.map_err(failed)?;
        let mut object = found.ok_or_else(absent)?;
        let live = Live::from(&object);
        if !member.uid.is_some_and(|uid| uid.is(&live.metadata.uid)) {
            return Err(QuestionError::NotOurs(id.clone(), unit.clone()));
        }
        // As the unit sees it, whose rules may tell it otherwise.
        let health = match tools.members.get(id) {
            Presence::There(seen) => seen.health,
            Presence::Absent | Presence::Unknown => Health::of(&live),
        };
        let mut why = String::new();
        if !health.is_current() {
            why = health.message;
            let behind = reasons::find_behind(&tools.cluster, id, &object).await.map_err(failed)?;
            if let Some(words) = behind {
                why = if why.is_empty() { words } else { format!("{why}: {words}") };
            }
        }
        if let Some(metadata) = object.pointer_mut("/metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        diff::redact(&mut object, hiding_key());
        Ok(LiveObject { object, why })
    }

    /// What an apply of these objects to a unit would change, by dry runs as its account.
    ///
    /// # Errors
    /// [`QuestionError`]; that the API server refuses an object is an answer.
    pub async fn rehearse(
        &self,
        unit: &UnitId,
        bodies: Vec<RehearsedBody>,
    ) -> Result<Rehearsal, QuestionError> {
        if bodies.len() > MOST {
            return Err(QuestionError::TooMany(bodies.len()));
        }
        let tools = self.shared.tools.borrow().clone();
        let desired = lock(&self.shared.input).desired.clone();
        let (tools, desired) = tools.zip(desired).ok_or(QuestionError::NotYet)?;
        let manifest = desired.present(unit).ok_or_else(|| QuestionError::NoUnit(unit.clone()))?;
        let ignores = Ignores::new(&manifest.spec.ignore)
            .map_err(|error| QuestionError::Ignores(unit.clone(), error))?;
        let (tools, ignores) = (&*tools, &ignores);
        let objects = bodies.into_iter().enumerate();
        let objects = objects
            .map(|(at, RehearsedBody { body, template })| {
                Object::from_body(body, template).map_err(|error| QuestionError::Body(at, error))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let looks = futures::stream::iter(objects).map(|object| async move {
            let _seat = tools.seat().await;
            let id = tools.cluster.discovery().complete(&object.reference().id);
            let reference = ObjectRef { id, version: object.reference().version.clone() };
            let what = Box::pin(one(tools, manifest, ignores, &reference, &object)).await;
            let what = what.map_err(|failure| QuestionError::Object(reference.id.clone(), failure))?;
            Ok((reference, what))
        });
        let looks: Vec<Result<_, QuestionError>> = looks.buffered(AT_ONCE).collect().await;
        let mut rehearsal = Rehearsal::default();
        for result in looks {
            let (object, what) = result?;
            match what.foreseen(&object.id, None) {
                Some(foreseen) => rehearsal.objects.push(foreseen),
                None => rehearsal.same += 1,
            }
        }
        Ok(rehearsal)
    }
}

async fn one(
    tools: &Tools,
    unit: &UnitManifest,
    ignores: &Ignores,
    object: &ObjectRef,
    wanted: &Object,
) -> Result<What, Failure> {
    let id = &object.id;
    // A kind that is not served may come with a CRD.
    let Some(resource) = tools.cluster.discovery().any_version(object) else { return Ok(What::Create) };
    let cluster = tools.cluster.acting_as(unit.spec.service_account.as_ref());
    let given = Given { body: wanted.body().clone(), template: wanted.is_template() };
    let content = match Content::of(tools, &unit.id, &cluster, given, id, &unit.id).await {
        Ok(content) => content,
        Err(StepError::Failure(failure)) => return Err(failure),
        Err(error) => return Ok(What::Refused(chain(&error))),
    };
    let Some(found) = tools.cluster.fetch::<Value>(&resource, id).await? else {
        let body = content.prepared.body.clone();
        return match cluster.apply::<Value>(&resource, id, body, RequestMode::DryRun).await {
            // What it needs, its namespace say, may come before it.
            Err(failure) if failure.is_not_found() => Ok(What::Create),
            Err(failure @ Failure::Refused { .. }) if failure.code() < 500 => {
                Ok(What::Refused(chain(&failure)))
            }
            other => other.map(|_| What::Create),
        };
    };
    let metadata = Live::from(&found).metadata;
    if matches!(content.annotations.apply_mode, ApplyMode::Never | ApplyMode::Once) || is_paused(&metadata) {
        return Ok(What::Stays("its annotations leave it as it is".into()));
    }
    if let Some(owner) = tools.owners.owner(&tools.cluster, &metadata).await? {
        return Ok(What::Stays(format!("belongs to {owner}, which is at work")));
    }
    rehearse(&cluster, ignores, object, &resource, &content, found).await
}
