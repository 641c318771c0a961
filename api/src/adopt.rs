//! Adoption: asked of a cluster's agent, which answers with what it would do, or did.

use flotilla_core::adopt::Origin;
use flotilla_core::answer;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::FieldDrift;

/// Takes over what another tool runs in a cluster, or gives it back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Adopt {
    pub from: AdoptFrom,
    pub action: AdoptAction,
    /// With `apply`: the plan that was looked at, as [`Adoption::plan`] names it; if it is another by now, nothing is done.
    /// Empty for whatever the plan is then.
    pub plan: String,
}

/// What had the objects before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AdoptFrom {
    #[default]
    Flux,
    /// Releases of the helm program, without Flux.
    Helm,
    Kubectl,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AdoptAction {
    /// Only say what would be done; nothing is written.
    #[default]
    Plan,
    /// Do it. What was begun and cut short goes on.
    Apply,
    /// Give all of it back.
    Undo,
}

/// What an adoption comes to, or came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Adoption {
    pub from: AdoptFrom,
    pub action: AdoptAction,
    /// Where an earlier adoption stands: `adopting`, `adopted`, `undoing` or `undone`; empty where there was none.
    pub stage: String,
    /// Nothing is left to do.
    pub complete: bool,
    /// A digest of what this plans to do, or did.
    pub plan: String,
    /// Flux's objects, or Helm's releases, that are taken over.
    pub owners: Vec<AdoptedOwner>,
    /// What of the other tool goes on, and why.
    pub stays: Vec<AdoptionNote>,
    pub counts: AdoptionCounts,
    /// Objects of Git that would be made or changed, or cannot be taken over, with what is known of them.
    pub objects: Vec<AdoptedObject>,
    /// Objects that the other tool applied and Git does not have: left as they are, without an owner.
    pub left: Vec<AdoptionNote>,
    /// So many lines of all these lists were left out.
    pub more: u32,
    /// What to do next, for people.
    pub next: Vec<String>,
}

/// Something that applied objects and is taken over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AdoptedOwner {
    pub object: String,
    /// The unit in its place; empty for a source, which needs none.
    pub unit: String,
    /// Where it stands: `runs`, `suspended`, `removed`, `kept apart` (a release), `back`.
    pub state: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AdoptionNote {
    pub object: String,
    pub why: String,
}

/// How many of Git's objects are what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AdoptionCounts {
    /// Flotilla's already.
    pub ours: u32,
    /// Taken over as they are.
    pub same: u32,
    /// Taken over and changed.
    pub change: u32,
    /// Not there yet.
    pub create: u32,
    /// Another owner's, who is at work.
    pub stays: u32,
    /// The API server refuses what Git says.
    pub refused: u32,
    /// Of an adoption under way: not taken over yet.
    pub waiting: u32,
}

/// One of Git's objects.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AdoptedObject {
    pub object: String,
    pub unit: String,
    /// `create`, `change`, `stays`, `refused` or `waiting`.
    pub what: String,
    pub why: String,
    /// What would change, books of tools aside.
    pub fields: Vec<FieldDrift>,
}

impl From<AdoptFrom> for Origin {
    fn from(from: AdoptFrom) -> Self {
        match from {
            AdoptFrom::Flux => Self::Flux,
            AdoptFrom::Helm => Self::Helm,
            AdoptFrom::Kubectl => Self::Kubectl,
        }
    }
}

impl From<Origin> for AdoptFrom {
    fn from(origin: Origin) -> Self {
        match origin {
            Origin::Flux => Self::Flux,
            Origin::Helm => Self::Helm,
            Origin::Kubectl => Self::Kubectl,
        }
    }
}

impl From<AdoptAction> for answer::AdoptAction {
    fn from(action: AdoptAction) -> Self {
        match action {
            AdoptAction::Plan => Self::Plan,
            AdoptAction::Apply => Self::Apply,
            AdoptAction::Undo => Self::Undo,
        }
    }
}

impl From<answer::AdoptAction> for AdoptAction {
    fn from(action: answer::AdoptAction) -> Self {
        match action {
            answer::AdoptAction::Plan => Self::Plan,
            answer::AdoptAction::Apply => Self::Apply,
            answer::AdoptAction::Undo => Self::Undo,
        }
    }
}

impl From<answer::Adoption> for Adoption {
    fn from(adoption: answer::Adoption) -> Self {
        let answer::Adoption { origin, action, stage, complete, plan, .. } = adoption;
        let answer::Adoption { owners, stays, counts, objects, left, more, next, .. } = adoption;
        let note = |answer::Note { object, why }| AdoptionNote { object, why };
        let owner = |answer::Owner { object, unit, state }| AdoptedOwner { object, unit, state };
        let answer::Counts { ours, same, change, create, stays: others, refused, waiting } = counts;
        Self {
            from: origin.into(),
            action: action.into(),
            stage,
            complete,
            plan: plan.map_or_else(String::new, |plan| plan.to_string()),
            owners: owners.into_iter().map(owner).collect(),
            stays: stays.into_iter().map(note).collect(),
            counts: AdoptionCounts { ours, same, change, create, stays: others, refused, waiting },
            objects: objects.into_iter().map(Into::into).collect(),
            left: left.into_iter().map(note).collect(),
            more,
            next,
        }
    }
}

impl From<answer::Foreseen> for AdoptedObject {
    fn from(foreseen: answer::Foreseen) -> Self {
        let answer::Foreseen { object, unit, effect, why, fields } = foreseen;
        let what = effect.as_str().to_owned();
        Self { object, unit, what, why, fields: fields.into_iter().map(Into::into).collect() }
    }
}
