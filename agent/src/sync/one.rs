//! The apply of one object: what its annotations ask for, whose it is, and the request itself.

use std::time::Duration;

use flotilla_core::inventory::Uid;
use flotilla_core::live::{Live, Metadata};
use flotilla_core::plan::Cause;
use flotilla_core::report::Drift;
use flotilla_core::{ObjectId, diff, drift};
use serde_json::Value;

use super::api::BodyError;
use super::apply::{Tools, poll};
use super::memory::Manner;
use crate::cluster::discovery::Resource;
use crate::cluster::objects::{Deleted, Mode, Prepared};
use crate::cluster::owners::Owners;
use crate::cluster::request::Failure;

/// An object that is made anew is awaited so long to go.
const RECREATE: Duration = Duration::from_secs(30);
const FOLD_ATTEMPTS: u32 = 4;

/// Why one object was not applied.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    #[error(transparent)]
    Failure(#[from] Failure),
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error("its content is no JSON")]
    Json(#[from] serde_json::Error),
    #[error("belongs to {0}, which is at work; suspend it or take the object out of it")]
    Owned(String),
    #[error("cannot be changed in place, and is never made anew by itself as its data would be lost: {0}")]
    Precious(Failure),
    #[error("cannot be changed in place (spec.force would make it anew): {0}")]
    Immutable(Failure),
    #[error("was to be made anew and still waits for {0}")]
    StillThere(String),
    #[error("the inventory: {0}")]
    Inventory(String),
}

impl StepError {
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Owned(_) => "OwnedByFlux",
            Self::Body(_) => "ContentMissing",
            Self::Precious(_) | Self::Immutable(_) => "Immutable",
            Self::Failure(Failure::NoMatch { .. }) => "UnknownKind",
            _ => "ApplyFailed",
        }
    }
}

/// What annotations of an object ask for, Flux's own.
pub(super) struct Wishes {
    pub(super) manner: Manner,
    force: bool,
}

impl Wishes {
    pub(super) fn of(value: &Value) -> Self {
        let annotation = |name: &str| {
            let annotations = value.pointer("/metadata/annotations");
            annotations
                .and_then(|all| all.get(name))
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_ascii_lowercase()
        };
        let ssa = annotation("kustomize.toolkit.fluxcd.io/ssa");
        let manner = match ssa.as_str() {
            "merge" => Manner::Merge,
            "ifnotpresent" => Manner::Once,
            "ignore" => Manner::Never,
            _ => Manner::Override,
        };
        let off = annotation("kustomize.toolkit.fluxcd.io/reconcile") == "disabled";
        let manner = if off { Manner::Never } else { manner };
        Self { manner, force: annotation("kustomize.toolkit.fluxcd.io/force") == "enabled" }
    }
}

/// The apply of one object.
pub(super) struct One<'a> {
    pub(super) tools: &'a Tools,
    pub(super) resource: &'a Resource,
    pub(super) id: &'a ObjectId,
    pub(super) prepared: &'a Prepared,
    pub(super) wishes: &'a Wishes,
    pub(super) force: bool,
}

impl One<'_> {
    pub(super) async fn apply(&self, cause: Cause, now: i64) -> Result<(Live, Option<Drift>), StepError> {
        let cluster = &self.tools.cluster;
        let respect = cause == Cause::New && Owners::possible(cluster);
        if self.wishes.manner == Manner::Never {
            let live = cluster.fetch::<Live>(self.resource, self.id).await?;
            return Ok((live.unwrap_or_default(), None));
        }
        if cause.is_drift() {
            return self.correct(now).await;
        }
        if self.wishes.manner == Manner::Once || respect {
            let live = cluster.fetch::<Live>(self.resource, self.id).await?;
            if respect
                && let Some(live) = &live
                && let Some(owner) = self.tools.owners.owner(cluster, &live.metadata).await?
            {
                return Err(StepError::Owned(owner));
            }
            if let Some(live) = live
                && self.wishes.manner == Manner::Once
            {
                return Ok((live, None));
            }
        }
        Ok((self.apply_and_fold::<Live>(|live| &live.metadata).await?, None))
    }

    /// Puts an object back, and tells by what was there before what was changed.
    async fn correct(&self, now: i64) -> Result<(Live, Option<Drift>), StepError> {
        let before = self.tools.cluster.fetch::<Value>(self.resource, self.id).await?;
        if self.wishes.manner == Manner::Once
            && let Some(before) = &before
        {
            return Ok((Live::from(before), None));
        }
        let after: Parsed = self.apply_and_fold::<Parsed>(|parsed| &parsed.live.metadata).await?;
        let fields = before.as_ref().map(|before| diff::fields(before, &after.value)).unwrap_or_default();
        let drifted = before.is_none() || !fields.is_empty();
        let drift = drifted.then(|| Drift { object: self.id.clone(), at: now, fields });
        Ok((after.live, drift))
    }

    /// Applies; where kubectl or a former tool holds fields, makes them ours and applies again, which takes away those
    /// that Git does not have.
    async fn apply_and_fold<T: serde::de::DeserializeOwned>(
        &self,
        metadata: impl Fn(&T) -> &Metadata,
    ) -> Result<T, StepError> {
        let cluster = &self.tools.cluster;
        let mut applied: T = self.apply_or_recreate().await?;
        if self.wishes.manner != Manner::Override {
            return Ok(applied);
        }
        for _ in 0..FOLD_ATTEMPTS {
            if !drift::has_folded(&metadata(&applied).managed_fields) {
                break;
            }
            match cluster.fold(self.resource, self.id, metadata(&applied)).await {
                Ok(_) => {}
                // Changed meanwhile: the next apply shows how it is now.
                Err(failure) if failure.is_conflict() => {}
                Err(failure) => return Err(failure.into()),
            }
            applied = self.apply_or_recreate().await?;
        }
        Ok(applied)
    }

    async fn apply_or_recreate<T: serde::de::DeserializeOwned>(&self) -> Result<T, StepError> {
        let cluster = &self.tools.cluster;
        let body = || self.prepared.body.clone();
        let failure = match cluster.apply(self.resource, self.id, body(), Mode::Real).await {
            Err(failure) if failure.is_immutable() => failure,
            other => return Ok(other?),
        };
        if !self.force && !self.wishes.force {
            return Err(StepError::Immutable(failure));
        }
        let precious = ["Namespace", "PersistentVolume", "PersistentVolumeClaim", "CustomResourceDefinition"];
        if precious.contains(&self.id.kind.as_str()) {
            return Err(StepError::Precious(failure));
        }
        if let Some(live) = cluster.fetch::<Live>(self.resource, self.id).await? {
            let uid = Uid(live.metadata.uid);
            if let Deleted::Waits(finalizers) =
                cluster.delete(self.resource, self.id, &uid, "Foreground").await?
            {
                let gone = || async {
                    let live = cluster.fetch::<Live>(self.resource, self.id).await;
                    matches!(live, Ok(None))
                        || live.is_ok_and(|live| live.is_some_and(|live| live.metadata.uid != uid.0))
                };
                if !poll(RECREATE, gone).await {
                    return Err(StepError::StillThere(finalizers.join(", ")));
                }
            }
        }
        Ok(cluster.apply(self.resource, self.id, body(), Mode::Real).await?)
    }
}

/// An answer both as a whole and as we look at it.
struct Parsed {
    value: Value,
    live: Live,
}

impl<'de> serde::Deserialize<'de> for Parsed {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Ok(Self { live: Live::from(&value), value })
    }
}
