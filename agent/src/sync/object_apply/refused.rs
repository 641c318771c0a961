//! What is done where the API server refuses the content of an object that is there. Either what others hold of it keeps
//! the merge from being valid, and is taken; or the object cannot become what is wanted, and is made anew where that is
//! asked for.

use std::time::Duration;

use bytes::Bytes;
use flotilla_core::drift::{self, Place};
use flotilla_core::inventory::Uid;
use flotilla_core::live::Live;
use flotilla_runtime::poll;
use serde::de::DeserializeOwned;

use super::{ObjectApply, Start, StepError};
use crate::cluster::members::{is_paused, says};
use crate::cluster::objects::{Deleted, RequestMode};
use crate::cluster::request::{Conflict, Failure};
use crate::sync::memory::ApplyMode;

/// An object that is made anew is awaited so long to go.
const RECREATE: Duration = Duration::from_secs(30);
/// Never made anew by itself: what hangs on them would go too.
const PRECIOUS: [&str; 4] =
    ["Namespace", "PersistentVolume", "PersistentVolumeClaim", "CustomResourceDefinition"];

/// Whose fields are taken where a merge with them is not valid, those first that are ours by agreement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// All of kubectl's and of the tools that had the object before.
    Folded,
    /// Anybody's, where the API server says that it is wrong.
    AtPlaces,
}

impl ObjectApply<'_> {
    /// Applies by force; makes the object anew where it cannot be changed and may be. Also gives whose fields were taken.
    pub(super) async fn apply_firmly<T: DeserializeOwned>(
        &self,
        body: Bytes,
    ) -> Result<(T, Vec<Conflict>), StepError> {
        match self.apply_making_way(body, RequestMode::Forced).await? {
            Ok(applied) => return Ok(applied),
            Err(failure) => self.may_recreate(failure).await?,
        }
        if let Some(live) = self.cluster.fetch::<Live>(self.resource, self.id).await? {
            let uid = Uid::from(live.metadata.uid);
            if let Deleted::Waits(finalizers) =
                self.cluster.delete(self.resource, self.id, &uid, "Foreground").await?
            {
                let gone = || async {
                    let live = self.cluster.fetch::<Live>(self.resource, self.id).await;
                    matches!(live, Ok(None))
                        || live.is_ok_and(|live| live.is_some_and(|live| !uid.is(&live.metadata.uid)))
                };
                self.leave_seat();
                if !poll(RECREATE, gone).await {
                    return Err(StepError::StillThere(finalizers.join(", ")));
                }
            }
        }
        // Made anew it is all ours, ignored fields too.
        let body = self.prepared.body.clone();
        Ok((self.cluster.apply(self.resource, self.id, body, RequestMode::Forced).await?, Vec::new()))
    }

    /// Why the apply would leave the object as it is while others of its unit are changed, by a dry run. It may make others'
    /// fields ours on the way, and changes no content.
    pub(in crate::sync) async fn rehearse(&self) -> Result<(), StepError> {
        if self.annotations.apply_mode == ApplyMode::Never {
            return Ok(());
        }
        let Start::Body(body) = self.start().await? else { return Ok(()) };
        match self.apply_making_way::<Live>(body, RequestMode::DryRun).await? {
            Ok(_) => Ok(()),
            Err(failure) => self.may_recreate(failure).await,
        }
    }

    /// Applies by force, for real or as a dry run. Where that is refused and others hold fields that may be why, these
    /// become ours, so that another apply takes away what it does not name. The inner error is a refusal of the content
    /// all the same.
    async fn apply_making_way<T: DeserializeOwned>(
        &self,
        mut body: Bytes,
        mode: RequestMode,
    ) -> Result<Result<(T, Vec<Conflict>), Failure>, StepError> {
        let mut taken = Vec::new();
        let mut refused = match self.cluster.apply(self.resource, self.id, body.clone(), mode).await {
            Err(failure) if failure.is_of_content() => failure,
            other => return Ok(Ok((other?, taken))),
        };
        if self.annotations.apply_mode != ApplyMode::Override {
            return Ok(Err(refused));
        }
        for whose in [Whose::Folded, Whose::AtPlaces] {
            let found = self.cluster.fetch::<Live>(self.resource, self.id).await?;
            let Some(Live { metadata, .. }) = found else { break };
            // A rehearsal comes this far with an object that somebody in the cluster paused.
            if says(&metadata, "ssa", "merge") || is_paused(&metadata) {
                break;
            }
            let (entries, version) = (&metadata.managed_fields, &metadata.resource_version);
            let patch = match whose {
                Whose::Folded => drift::fold_patch(entries, version),
                Whose::AtPlaces => {
                    let places: Vec<Place> =
                        refused.fields().iter().filter_map(|field| Place::around(field)).collect();
                    drift::take_patch(entries, &places, version).map(|(patch, managers)| {
                        let field = refused.fields().join(", ");
                        let conflict = |manager| Conflict { field: field.clone(), manager };
                        taken = managers.into_iter().map(conflict).collect();
                        patch
                    })
                }
            };
            let Some(patch) = patch else { continue };
            let patched = match self.cluster.patch(self.resource, self.id, &patch).await {
                // Changed meanwhile: the next round shows how it is now.
                Err(failure) if failure.is_conflict() => break,
                other => other?,
            };
            if !self.ignored.is_empty() {
                // Now that they are ours, ignored fields are to be named as they are.
                body = self.yielding(&serde_json::from_slice(&patched)?)?;
            }
            refused = match self.cluster.apply(self.resource, self.id, body.clone(), mode).await {
                Err(failure) if failure.is_of_content() => failure,
                other => return Ok(Ok((other?, taken))),
            };
        }
        Ok(Err(refused))
    }

    /// Passes where the object cannot be changed in place, and may be made anew; else says why not.
    async fn may_recreate(&self, failure: Failure) -> Result<(), StepError> {
        match self.is_in_its_own_way(&failure).await? {
            Some(true) => {}
            Some(false) => return Err(failure.into()),
            // It might not come back: nothing is deleted for it, whatever the unit says.
            None if failure.says_immutable() => return Err(StepError::Immutable(failure)),
            None => return Err(failure.into()),
        }
        if !self.force && !self.annotations.force {
            // As Flux: it may be asked for in the cluster too.
            let found = self.cluster.fetch::<Live>(self.resource, self.id).await?;
            if !found.is_some_and(|live| says(&live.metadata, "force", "enabled")) {
                return Err(StepError::Immutable(failure));
            }
        }
        if PRECIOUS.contains(&self.id.kind.as_str()) {
            return Err(StepError::Precious(failure));
        }
        Ok(())
    }

    /// Whether the content was refused only as the object is there: kinds, versions, rules of CRDs and policies all have
    /// their own words for it, so the API server is asked whether it would take it as a new object. Thus nothing is deleted
    /// for what could not be made again. `None`: nobody may ask, as the account may not create.
    async fn is_in_its_own_way(&self, failure: &Failure) -> Result<Option<bool>, StepError> {
        // A policy's no is a no; only where it speaks of immutability it is one to the change.
        if failure.is_admission() && !failure.says_immutable() {
            return Ok(Some(false));
        }
        let body = self.prepared.body.clone();
        match self.cluster.could_create(self.resource, self.id, body).await {
            Ok(could) => Ok(Some(could)),
            // A webhook that takes no part in dry runs says nothing of this.
            Err(other) if other.is_of_dry_run() => Ok(Some(failure.says_immutable())),
            Err(Failure::Refused { code: 403, .. }) => Ok(None),
            Err(other) => Err(other.into()),
        }
    }
}
