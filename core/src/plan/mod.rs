//! The plan of one unit: a pure function of what is wanted, what the inventory lists and what was seen.
//!
//! ```text
//!   entry (present | hold | removed) ─► gates (parent, dependsOn, suspend) ─► target manifest
//!   target × observation of each object    ─► apply steps by stage
//!   inventory − target               ─► leaving: judged by core::guard after a complete apply, or forgotten, or staying
//! ```
//!
//! A plan without steps says what it waits for.

mod gates;
mod moves;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::authority::Rank;
use crate::desired::{DesiredState, Removal, UnitEntry};
use crate::digest::Digest;
use crate::inventory::{Inventory, Member, Uid};
use crate::object::{ObjectId, ObjectRef};
use crate::order::Stage;
use crate::unit::{DriftMode, ObjectEntry, ServiceAccount, UnitId, UnitKind, UnitManifest, UnitSpec};

pub use moves::{PruneStop, prune_stop};

/// What the agent remembers of a unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitMemory {
    /// The manifest last applied completely.
    pub last: Option<Arc<UnitManifest>>,
    /// The definition that a parent's apply, or none being needed, last let through.
    pub admitted: Option<Digest>,
    /// The manifest digest last found ready.
    pub ready: Option<Digest>,
    /// Git or somebody suspended it when it was last defined.
    pub suspended: bool,
}

/// What is known of one object in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The fingerprint of what we last applied to it, if that is remembered.
    pub applied: Option<Digest>,
    pub state: ObservedState,
    /// What the object itself says about its drift, over what its unit says.
    pub drift: Option<DriftMode>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObservedState {
    /// Nobody looked yet.
    Unknown,
    Absent,
    /// There. `touched`: not as our last apply left it.
    There {
        uid: Uid,
        touched: bool,
    },
}

/// The cluster as the planner sees it; the same for all of its units.
pub struct Situation<'a> {
    pub desired: &'a DesiredState,
    pub declared: &'a Declared,
    pub inventory: &'a Inventory,
    pub unit_memories: &'a BTreeMap<UnitId, UnitMemory>,
    /// Completes an identity: the namespace `default` where a namespaced object names none.
    pub resolve: &'a dyn Fn(&ObjectId) -> ObjectId,
    /// What stands against pruning. See [`prune_stop`].
    pub prune_stop: PruneStop,
    /// Whether the API server refused this object to that unit for want of rights, as the unit declares it now.
    pub forbidden: &'a dyn Fn(&UnitId, &ObjectId) -> bool,
    /// Links that cannot be followed, from [`crate::order::broken_links`].
    pub broken: &'a BTreeMap<UnitId, String>,
    /// Everything is to go, by the operator's word.
    pub remove_all: bool,
    /// Whether what a unit's revision makes of Flux objects may be made by who makes it: all of these claims.
    pub access: &'a dyn Fn(&UnitId, &[Claim]) -> Access,
    /// A unit in Flux's shape, for expressions: see [`crate::flux::shape`].
    pub shape: &'a dyn Fn(&UnitId) -> Option<Value>,
}

/// A Flux object that an account is to be allowed to create, though no such object is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub account: ServiceAccount,
    pub group: &'static str,
    /// As in the API server's paths.
    pub plural: &'static str,
    pub namespace: String,
    /// "" stands for any.
    pub name: String,
}

/// What the cluster's RBAC says of claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    Allowed,
    /// Nobody asked yet.
    Unknown,
    /// The reason is for people.
    Denied(String),
}

/// Which units declare an object, with which content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    objects: BTreeMap<ObjectId, Vec<Declaration>>,
}

/// Declarations of one object are ordered: the first is the one that counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Declaration {
    rank: Rank,
    pub unit: UnitId,
    pub digest: Digest,
}

/// The plan of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitPlan {
    pub unit: UnitId,
    /// The account that is acted as; `None`: the agent itself.
    pub account: Option<ServiceAccount>,
    pub target: Target,
    /// In stages, each complete before the next.
    pub apply: Vec<ApplyStep>,
    /// Objects that nobody looked at yet: the unit is not known to be in sync.
    pub unseen: usize,
    /// Objects of the target that this unit must not apply, and why.
    pub refused: Vec<(ObjectId, String)>,
    /// Drift that is left as it is, by the unit's mode.
    pub tolerated: Vec<ApplyStep>,
    /// Members that are not in the target.
    pub leaving: Vec<(Member, Leaving)>,
    /// What has to be allowed for the unit to be as desired.
    pub claims: Vec<Claim>,
}

/// What a unit is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// As desired.
    Desired(Arc<UnitManifest>),
    /// Kept as last applied, while something is waited for.
    Last(Arc<UnitManifest>, Waiting),
    /// Not touched, not even where it drifted. What more there is to say of it, if anything.
    Suspended(Option<String>),
    /// Never applied, and not yet allowed to be.
    Nothing(Waiting),
    Removed(Removal, Option<Waiting>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplyStep {
    /// With its identity completed.
    pub object: ObjectRef,
    pub digest: Digest,
    /// The content is a template that has to be completed first.
    pub template: bool,
    /// What to remember after the apply.
    pub fingerprint: Digest,
    /// The unit that the object's label names.
    pub owner: UnitId,
    pub stage: Stage,
    pub cause: Cause,
}

/// Why an object is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Never applied, as far as anybody remembers.
    New,
    /// Wanted otherwise than before.
    Change,
    /// Somebody deleted it.
    Missing,
    /// Somebody changed it.
    Touched,
}

impl Cause {
    pub fn is_drift(self) -> bool {
        matches!(self, Self::Missing | Self::Touched)
    }
}

/// What becomes of a member that is not in the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leaving {
    /// A candidate for deletion, if the guards agree.
    Judge,
    /// Off the inventory, left in the cluster.
    Forget(String),
    /// Off this unit's list if this other unit still lists it by then: an object goes with the last of its units.
    Shared(UnitId),
    /// It stays listed for now.
    Stay(String),
}

/// What a unit waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    /// The parent has not applied the revision that defines this unit.
    Parent(UnitId),
    ParentSuspended(UnitId),
    ParentHeld(UnitId),
    /// The parent has not applied the revision that no longer defines this unit.
    Departure(UnitId),
    Dependency(UnitId),
    /// The expression that says when it is ready cannot be told.
    Expression(UnitId, String),
    Broken(String),
    Held(String),
    /// Whether accounts may create this unit, or the sources that it defines, is not known yet.
    Access(Vec<Claim>),
    /// It may not.
    Denied(String),
    /// Units that have to go first.
    Others(Vec<UnitId>),
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parent(unit) => {
                write!(f, "waits for its parent {unit} to apply the revision that defines it")
            }
            Self::ParentSuspended(unit) => write!(f, "waits for its parent {unit}, which is suspended"),
            Self::ParentHeld(unit) => write!(f, "waits for its parent {unit}, which is held"),
            Self::Departure(unit) => {
                write!(
                    f,
                    "was removed from Git; is kept until its parent {unit} has completely applied the revision without it"
                )
            }
            Self::Expression(unit, why) => {
                write!(f, "waits for {unit}, whose readyExpr cannot be evaluated yet: {why}")
            }
            Self::Dependency(unit) => write!(f, "waits for {unit} to be ready"),
            Self::Broken(why) | Self::Held(why) | Self::Denied(why) => f.write_str(why),
            Self::Access(claims) => match claims.first() {
                Some(Claim { account, plural, namespace, .. }) => {
                    write!(f, "asks whether {} may create {plural} in {namespace}", account.user())
                }
                None => f.write_str("asks what its account may do"),
            },
            Self::Others(units) => {
                let names: Vec<String> = units.iter().take(5).map(ToString::to_string).collect();
                let more = units.len() - names.len();
                write!(f, "waits for the removal of {}", names.join(", "))?;
                if more > 0 { write!(f, " and {more} more") } else { Ok(()) }
            }
        }
    }
}

/// What an apply of `digest` under the label of `owner` leaves: the thing to remember and compare.
pub fn apply_fingerprint(digest: Digest, owner: &UnitId) -> Digest {
    Digest::of_parts([&digest.as_bytes()[..], owner.to_string().as_bytes()])
}

/// Notes which units a state suspends, of those that run or ran: that holds for as long as no later state defines them
/// otherwise. The units for which that is new.
pub fn note_suspensions(
    desired: &DesiredState,
    inventory: &Inventory,
    unit_memories: &mut BTreeMap<UnitId, UnitMemory>,
) -> Vec<UnitId> {
    let mut changed = Vec::new();
    for unit in desired.all_present() {
        let suspend = unit.spec.suspend;
        let runs = inventory.units.get(&unit.id).is_some_and(|listed| !listed.members.is_empty());
        match unit_memories.get_mut(&unit.id) {
            Some(unit_memory) if unit_memory.suspended != suspend => unit_memory.suspended = suspend,
            None if suspend && runs => {
                let unit_memory = UnitMemory { suspended: true, ..UnitMemory::default() };
                unit_memories.insert(unit.id.clone(), unit_memory);
            }
            Some(_) | None => continue,
        }
        changed.push(unit.id.clone());
    }
    changed
}

impl Declared {
    /// Every unit that is present, as desired; every other one as it last ran.
    pub fn of(
        desired: &DesiredState,
        unit_memories: &BTreeMap<UnitId, UnitMemory>,
        resolve: &dyn Fn(&ObjectId) -> ObjectId,
    ) -> Self {
        let held = unit_memories.iter().filter_map(|(id, unit_memory)| match desired.units().get(id) {
            Some(UnitEntry::Present(_) | UnitEntry::Removed(_)) => None,
            Some(UnitEntry::Hold(_)) | None => unit_memory.last.as_ref(),
        });
        let mut objects: BTreeMap<ObjectId, Vec<Declaration>> = BTreeMap::new();
        for unit in desired.all_present().chain(held) {
            for entry in &unit.objects {
                let object = resolve(&entry.object.id);
                let rank = unit.spec.authority.rank(&object);
                let units = objects.entry(object).or_insert_with(|| Vec::with_capacity(1));
                units.push(Declaration { rank, unit: unit.id.clone(), digest: entry.digest });
            }
        }
        for units in objects.values_mut() {
            units.sort();
        }
        Self { objects }
    }

    /// The declaration that counts: the first by lineage, then by name.
    pub fn owner(&self, object: &ObjectId) -> Option<&Declaration> {
        self.all(object).next()
    }

    fn all(&self, object: &ObjectId) -> impl Iterator<Item = &Declaration> {
        self.objects.get(object).into_iter().flatten()
    }
}

/// Plans one unit. `look` tells what is known of an object.
pub fn plan(id: &UnitId, situation: &Situation, look: &dyn Fn(&ObjectId) -> Observation) -> UnitPlan {
    let target = gates::target(id, situation);
    let mut plan = UnitPlan {
        unit: id.clone(),
        account: match &target {
            Target::Desired(manifest) if makes_its_account(manifest, situation) => None,
            Target::Desired(manifest) | Target::Last(manifest, _) => manifest.spec.service_account.clone(),
            Target::Removed(..) => {
                situation.inventory.units.get(id).and_then(|unit| unit.links.account.clone())
            }
            Target::Suspended(_) | Target::Nothing(_) => None,
        },
        target: target.clone(),
        apply: Vec::new(),
        unseen: 0,
        refused: Vec::new(),
        tolerated: Vec::new(),
        leaving: Vec::new(),
        claims: match (&target, situation.desired.present(id)) {
            (
                Target::Desired(_)
                | Target::Nothing(Waiting::Access(_) | Waiting::Denied(_))
                | Target::Last(_, Waiting::Access(_) | Waiting::Denied(_)),
                Some(manifest),
            ) => gates::claims(manifest, situation),
            _ => Vec::new(),
        },
    };
    match &target {
        Target::Desired(manifest) => {
            for entry in &manifest.objects {
                plan_object(&mut plan, situation, entry, &manifest.spec, false, look);
            }
            plan.apply.sort_by_key(|step| step.stage);
            let wanted: std::collections::BTreeSet<ObjectId> =
                manifest.objects.iter().map(|entry| (situation.resolve)(&entry.object.id)).collect();
            moves::plan_departures(
                &mut plan,
                situation,
                |object| wanted.contains(object),
                manifest.spec.prune,
            );
        }
        Target::Last(manifest, _) => {
            for entry in &manifest.objects {
                plan_object(&mut plan, situation, entry, &manifest.spec, true, look);
            }
            plan.apply.sort_by_key(|step| step.stage);
        }
        Target::Removed(removal, None) => {
            moves::plan_departures(&mut plan, situation, |_| false, removal.deletes())
        }
        Target::Removed(_, Some(_)) | Target::Suspended(_) | Target::Nothing(_) => {}
    }
    plan
}

/// Whether a root brings the account that it is to be applied as, to a cluster where nothing of it was ever applied:
/// somebody else has to begin, as `flux bootstrap` does.
fn makes_its_account(manifest: &UnitManifest, situation: &Situation) -> bool {
    let Some(account) = &manifest.spec.service_account else { return false };
    let makes = manifest.objects.iter().map(|entry| &entry.object.id).any(|id| {
        id.is("", "ServiceAccount") && id.namespace == account.namespace && id.name == account.name
    });
    let applied = situation.unit_memories.get(&manifest.id).and_then(|unit_memory| unit_memory.last.as_ref());
    manifest.id.kind == UnitKind::Root && makes && applied.is_none()
}

fn plan_object(
    plan: &mut UnitPlan,
    situation: &Situation,
    entry: &ObjectEntry,
    UnitSpec { drift, authority, .. }: &UnitSpec,
    only_drift: bool,
    look: &dyn Fn(&ObjectId) -> Observation,
) {
    let id = (situation.resolve)(&entry.object.id);
    let owner = situation.declared.owner(&id).map_or(&plan.unit, |first| &first.unit);
    // Of a blocked unit its new content is declared and its old one is kept right: only others count against that.
    let rank = authority.rank(&id);
    let is_rival = |other: &&Declaration| {
        let counts =
            if only_drift { other.unit != plan.unit && other.rank <= rank } else { other.unit == *owner };
        counts && other.digest != entry.digest
    };
    if let Some(Declaration { unit: rival, .. }) = situation.declared.all(&id).find(is_rival) {
        if !only_drift {
            let what = "declares it with different content; rename one, or keep it in one unit only";
            plan.refused.push((id.clone(), format!("{rival} {what}")));
        }
        return;
    }
    let fingerprint = apply_fingerprint(entry.digest, owner);
    let observation = look(&id);
    let cause = match (observation.applied, observation.state) {
        (None, _) => Cause::New,
        (Some(applied), _) if applied != fingerprint => Cause::Change,
        (Some(_), ObservedState::There { touched: false, .. }) => return,
        (Some(_), ObservedState::There { touched: true, .. }) => Cause::Touched,
        (Some(_), ObservedState::Absent) => Cause::Missing,
        (Some(_), ObservedState::Unknown) => {
            plan.unseen += 1;
            return;
        }
    };
    if only_drift && !cause.is_drift() {
        return;
    }
    let stage = Stage::of(&id);
    let object = ObjectRef { id, version: entry.object.version.clone() };
    let (digest, template) = (entry.digest, entry.template);
    let step = ApplyStep { object, digest, template, fingerprint, owner: owner.clone(), stage, cause };
    match observation.drift.unwrap_or(*drift) {
        DriftMode::Report if cause.is_drift() => plan.tolerated.push(step),
        DriftMode::Ignore if cause.is_drift() => {}
        _ => plan.apply.push(step),
    }
}
