//! The apply of one object: what its annotations ask for, whose it is, and the request itself.

mod empty;
mod refused;

use std::sync::Mutex;

use bytes::Bytes;
use flotilla_core::ignore::yield_to;
use flotilla_core::live::{Live, Metadata};
use flotilla_core::plan::Cause;
use flotilla_core::report::Drift;
use flotilla_core::unit::DriftMode;
use flotilla_core::{ObjectId, diff, drift};
use flotilla_runtime::lock;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::SemaphorePermit;

use super::api::BodyError;
use super::failure::FailureReason;
use super::hiding_key;
use super::memory::ApplyMode;
use super::template::CompleteError;
use super::tools::Tools;
use crate::cluster::Cluster;
use crate::cluster::discovery::Resource;
use crate::cluster::inventory::Trouble;
use crate::cluster::members::{Presence, is_paused, is_to_fold};
use crate::cluster::objects::{Parsed, Prepared, RequestMode};
use crate::cluster::owners::Owners;
use crate::cluster::request::{Conflict, Failure};

const FOLD_ATTEMPTS: u32 = 4;

/// Why one object was not applied.
#[derive(Debug, thiserror::Error)]
pub(in crate::sync) enum StepError {
    #[error(transparent)]
    Failure(#[from] Failure),
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error(transparent)]
    Template(#[from] Box<CompleteError>),
    #[error("its content is not JSON")]
    Json(#[from] serde_json::Error),
    #[error("belongs to {0}, which is active; suspend it or remove the object from it")]
    Owned(String),
    #[error(
        "cannot be changed in place, and is never recreated automatically because its data would be lost: {0}"
    )]
    Precious(Failure),
    #[error("cannot be changed in place (spec.force would recreate it): {0}")]
    Immutable(Failure),
    #[error("is being recreated and still waits for {0}")]
    StillThere(String),
    #[error(transparent)]
    Inventory(#[from] Trouble),
}

impl StepError {
    /// Whether the API server is away, so that it says nothing of this object.
    pub(in crate::sync) fn is_away(&self) -> bool {
        match self {
            Self::Failure(failure) => failure.is_away(),
            Self::Inventory(trouble) => trouble.is_away,
            _ => false,
        }
    }

    pub(in crate::sync) fn reason(&self) -> FailureReason {
        match self {
            Self::Owned(_) => FailureReason::OwnedByOther,
            Self::Body(_) => FailureReason::ContentMissing,
            Self::Template(error) if error.is_of_keys() => FailureReason::DecryptionFailed,
            Self::Template(_) => FailureReason::SubstitutionFailed,
            Self::Precious(_) | Self::Immutable(_) => FailureReason::Immutable,
            Self::Failure(Failure::NoMatch { .. }) => FailureReason::UnknownKind,
            Self::Failure(failure) if failure.is_admission() => FailureReason::Denied,
            Self::Failure(failure) if failure.code() == 403 => FailureReason::Forbidden,
            _ => FailureReason::ApplyFailed,
        }
    }

    /// Whether the API server will not take the object as it is, whatever becomes of others. `rules_change`: what it goes by
    /// may be among what changes with the object.
    pub(in crate::sync) fn is_refusal(&self, rules_change: bool) -> bool {
        match self {
            Self::Precious(_) | Self::Immutable(_) => true,
            Self::Failure(failure) => failure.is_refusal() && !(rules_change && failure.is_admission()),
            _ => false,
        }
    }
}

/// What annotations of an object ask for, Flux's own and ours.
pub(in crate::sync) struct ObjectAnnotations {
    pub(in crate::sync) apply_mode: ApplyMode,
    pub(in crate::sync) force: bool,
    pub(in crate::sync) drift: Option<DriftMode>,
}

impl ObjectAnnotations {
    pub(in crate::sync) fn of(value: &Value) -> Self {
        let annotation = |name: &str| {
            let annotations = value.pointer("/metadata/annotations");
            annotations
                .and_then(|all| all.get(name))
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_ascii_lowercase()
        };
        // As Flux: its words may stand in a label too, and either counts.
        let says = |word: &str, wanted: &str| {
            let name = format!("kustomize.toolkit.fluxcd.io/{word}");
            ["/metadata/annotations", "/metadata/labels"].iter().any(|place| {
                let found = value.pointer(place).and_then(|all| all.get(&name)).and_then(Value::as_str);
                found.is_some_and(|found| found.eq_ignore_ascii_case(wanted))
            })
        };
        let apply_mode = if says("reconcile", "disabled") || says("ssa", "ignore") {
            ApplyMode::Never
        } else if says("ssa", "ifnotpresent") {
            ApplyMode::Once
        } else if says("ssa", "merge") {
            ApplyMode::Merge
        } else {
            ApplyMode::Override
        };
        let drift = match annotation("flotilla.dev/drift").as_str() {
            "correct" => Some(DriftMode::Correct),
            "report" => Some(DriftMode::Report),
            "ignore" => Some(DriftMode::Ignore),
            _ => None,
        };
        Self { apply_mode, force: says("force", "enabled"), drift }
    }
}

/// The apply of one object.
pub(in crate::sync) struct ObjectApply<'a> {
    pub(in crate::sync) tools: &'a Tools,
    /// In the name of the unit's account.
    pub(in crate::sync) cluster: &'a Cluster,
    pub(in crate::sync) resource: &'a Resource,
    pub(in crate::sync) id: &'a ObjectId,
    pub(in crate::sync) prepared: &'a Prepared,
    pub(in crate::sync) annotations: &'a ObjectAnnotations,
    /// Fields that are left to others once the object is there.
    pub(in crate::sync) ignored: Vec<&'a str>,
    pub(in crate::sync) force: bool,
    /// Its seat among those at work, while it has one.
    pub(in crate::sync) seat: Mutex<Option<SemaphorePermit<'a>>>,
}

/// What an apply left.
pub(in crate::sync) struct Applied {
    pub(in crate::sync) live: Live,
    /// What somebody else had changed, where that was put back.
    pub(in crate::sync) drift: Option<Drift>,
    /// What others held, and we took.
    pub(in crate::sync) conflicts: Vec<Conflict>,
    /// By the object itself: somebody in the cluster said that it is to be left alone.
    pub(in crate::sync) paused: bool,
}

impl Applied {
    fn as_found(live: Live) -> Self {
        let paused = is_paused(&live.metadata);
        Self { live, drift: None, conflicts: Vec::new(), paused }
    }
}

/// What an apply begins with.
enum Start {
    /// What to send.
    Body(Bytes),
    /// The object is left as it is.
    Leave(Box<Live>),
}

impl ObjectApply<'_> {
    /// Makes room for another before a long wait.
    pub(in crate::sync) fn leave_seat(&self) {
        drop(lock(&self.seat).take());
    }

    pub(in crate::sync) async fn apply(&self, cause: Cause, now: i64) -> Result<Applied, StepError> {
        if self.annotations.apply_mode == ApplyMode::Never {
            let live = self.cluster.fetch::<Live>(self.resource, self.id).await?;
            return Ok(Applied::as_found(live.unwrap_or_default()));
        }
        if cause.is_drift() {
            return self.correct(now).await;
        }
        let body = match self.start().await? {
            Start::Body(body) => body,
            Start::Leave(live) => return Ok(Applied::as_found(*live)),
        };
        let (live, conflicts) = if self.wants_empty() {
            let (applied, conflicts) =
                self.apply_politely(body, |parsed: &Parsed| &parsed.live.metadata).await?;
            (self.with_empty(applied).await?.live, conflicts)
        } else {
            self.apply_politely(body, |live: &Live| &live.metadata).await?
        };
        Ok(Applied { live, drift: None, conflicts, paused: false })
    }

    /// What an apply, or its rehearsal, begins with.
    async fn start(&self) -> Result<Start, StepError> {
        // An owner that came, or was suspended and went on, counts as one that was there first.
        let respect = Owners::possible(&self.tools.cluster);
        let known = self.tools.members.get(self.id);
        let paused = matches!(&known, Presence::There(observed) if observed.paused);
        if (self.annotations.apply_mode == ApplyMode::Once || respect || paused || !self.ignored.is_empty())
            && let Some(found) = self.cluster.fetch::<Parsed>(self.resource, self.id).await?
        {
            return Ok(match self.body_over(&found).await? {
                Some(body) => Start::Body(body),
                None => Start::Leave(Box::new(found.live)),
            });
        }
        Ok(Start::Body(self.prepared.body.clone()))
    }

    /// The body to send for an object that is there; none if it is to be left as it is.
    async fn body_over(&self, found: &Parsed) -> Result<Option<Bytes>, StepError> {
        self.respect(&found.live.metadata).await?;
        if self.annotations.apply_mode == ApplyMode::Once || is_paused(&found.live.metadata) {
            return Ok(None);
        }
        self.yielding(&found.value).map(Some)
    }

    /// Leaves an object to its owner of another tool, where one is at work.
    async fn respect(&self, found: &Metadata) -> Result<(), StepError> {
        if !Owners::possible(&self.tools.cluster) {
            return Ok(());
        }
        match self.tools.owners.owner(&self.tools.cluster, found).await? {
            Some(owner) => Err(StepError::Owned(owner)),
            None => Ok(()),
        }
    }

    /// Puts an object back, and tells by what was there before what was changed.
    async fn correct(&self, now: i64) -> Result<Applied, StepError> {
        let before = self.cluster.fetch::<Parsed>(self.resource, self.id).await?;
        let mut body = self.prepared.body.clone();
        if let Some(before) = &before {
            match self.body_over(before).await? {
                Some(over) => body = over,
                None => return Ok(Applied::as_found(before.live.clone())),
            }
        }
        let (after, conflicts) =
            self.apply_and_fold::<Parsed>(body, |parsed: &Parsed| &parsed.live.metadata).await?;
        let after = self.with_empty(after).await?;
        let before = before.map(|before| before.value);
        let fields = before
            .as_ref()
            .map(|before| diff::put_back(before, &after.value, hiding_key()))
            .unwrap_or_default();
        let drifted = before.is_none() || !fields.is_empty();
        let drift = drifted.then(|| Drift { object: self.id.clone(), at: now, fields });
        Ok(Applied { live: after.live, drift, conflicts, paused: false })
    }

    /// What differs of the object where its drift is left as it is: fields, and the managers that added some.
    pub(in crate::sync) async fn look(&self, now: i64) -> Result<Option<Drift>, StepError> {
        let drift = |fields| Drift { object: self.id.clone(), at: now, fields };
        let Some(found) = self.cluster.fetch::<Value>(self.resource, self.id).await? else {
            return Ok(Some(drift(Vec::new())));
        };
        let body = self.yielding(&found)?;
        let wanted: Value = self.cluster.apply(self.resource, self.id, body, RequestMode::DryRun).await?;
        let mut fields = diff::fields(&found, &wanted, hiding_key());
        fields.extend(diff::added_by_others(&wanted));
        Ok((!fields.is_empty()).then(|| drift(fields)))
    }

    /// The body, but for the fields that are left to others.
    pub(in crate::sync) fn yielding(&self, found: &Value) -> Result<Bytes, StepError> {
        if self.ignored.is_empty() {
            return Ok(self.prepared.body.clone());
        }
        let mut wanted = self.prepared.value.clone();
        yield_to(&mut wanted, found, &self.ignored);
        Ok(serde_json::to_vec(&wanted)?.into())
    }

    /// Applies without force first, so that what others hold is known before it is taken.
    async fn apply_politely<T: DeserializeOwned>(
        &self,
        body: Bytes,
        metadata: impl Fn(&T) -> &Metadata,
    ) -> Result<(T, Vec<Conflict>), StepError> {
        match self.cluster.apply::<T>(self.resource, self.id, body.clone(), RequestMode::Polite).await {
            Ok(applied)
                if self.annotations.apply_mode != ApplyMode::Override || !is_to_fold(metadata(&applied)) =>
            {
                Ok((applied, Vec::new()))
            }
            Err(failure) if failure.conflicts().is_empty() && !failure.is_of_content() => Err(failure.into()),
            other => {
                let mut conflicts = other.err().map_or(Vec::new(), |failure| failure.conflicts().to_vec());
                let (applied, taken) = self.apply_and_fold(body, metadata).await?;
                conflicts.extend(taken);
                // Theirs become ours by agreement.
                conflicts.retain(|conflict| !drift::is_folded_manager(&conflict.manager));
                Ok((applied, conflicts))
            }
        }
    }

    /// Applies; where kubectl or a former tool holds fields, makes them ours and applies again, which takes away those
    /// that Git does not have.
    async fn apply_and_fold<T: DeserializeOwned>(
        &self,
        mut body: Bytes,
        metadata: impl Fn(&T) -> &Metadata,
    ) -> Result<(T, Vec<Conflict>), StepError> {
        let (mut applied, mut conflicts): (T, _) = self.apply_firmly(body.clone()).await?;
        if self.annotations.apply_mode != ApplyMode::Override {
            return Ok((applied, conflicts));
        }
        for _ in 0..FOLD_ATTEMPTS {
            if !is_to_fold(metadata(&applied)) {
                break;
            }
            match self.cluster.fold(self.resource, self.id, metadata(&applied)).await {
                // Now that they are ours, ignored fields are to be named as they are.
                Ok(Some(folded)) if !self.ignored.is_empty() => {
                    body = self.yielding(&serde_json::from_slice(&folded)?)?;
                }
                Ok(_) => {}
                // Changed meanwhile, or ours by a request whose answer was lost.
                Err(failure) if failure.is_conflict() => {
                    if !self.ignored.is_empty()
                        && let Some(found) = self.cluster.fetch::<Value>(self.resource, self.id).await?
                    {
                        body = self.yielding(&found)?;
                    }
                }
                Err(failure) => return Err(failure.into()),
            }
            let (again, taken) = self.apply_firmly(body.clone()).await?;
            applied = again;
            conflicts.extend(taken);
        }
        Ok((applied, conflicts))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_word_of_fluxs_counts_in_an_annotation_and_in_a_label() {
        use ApplyMode::{Merge, Never, Once, Override};
        for (annotations, labels, expected, forced) in [
            (json!({}), json!({}), Override, false),
            (json!({"reconcile": "Disabled"}), json!({}), Never, false),
            (json!({"reconcile": "enabled"}), json!({"reconcile": "disabled"}), Never, false),
            (json!({"ssa": "merge"}), json!({"ssa": "IfNotPresent"}), Once, false),
            (json!({"ssa": "merge"}), json!({"ssa": "ignore"}), Never, false),
            (json!({}), json!({"ssa": "Merge", "force": "enabled"}), Merge, true),
            (json!({"force": "disabled"}), json!({"force": "Enabled"}), Override, true),
            (json!({"ssa": "override", "force": true}), json!({"other": "disabled"}), Override, false),
        ] {
            let named = |words: &Value| -> Value {
                let words = words.as_object().into_iter().flatten();
                words
                    .map(|(word, value)| (format!("kustomize.toolkit.fluxcd.io/{word}"), value.clone()))
                    .collect()
            };
            let object = json!({"metadata": {"annotations": named(&annotations), "labels": named(&labels)}});
            let found = ObjectAnnotations::of(&object);
            assert_eq!((found.apply_mode, found.force), (expected, forced), "{object}");
        }
    }
}
