//! Objects that two units declare with differing contents. One has it, by lineage (the fleet repo before a tenant, who owns
//! the namespace before others), then by name; the other is left without that object and applies everything else. Whoever
//! writes a repository can so take nothing of others by declaring it, nor hold their units.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use flotilla_core::authority::Rank;
use flotilla_core::report::Problem;
use flotilla_core::unit::ObjectEntry;
use flotilla_core::{Digest, ObjectId, UnitId, UnitManifest};

use crate::checks::hold;
use crate::cluster::{ClusterRender, Unit};
use crate::content::Content;

/// Clashes of one unit that are told one by one.
const TOLD: usize = 10;

/// Who has an object, and what it is there.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Owner {
    rank: Rank,
    unit: UnitId,
    digest: Digest,
}

/// Gives each object to one of the units that declare it. What is held has what it last had: else it could lose that to
/// others while nobody knows what it wants. `false`: nobody had to give way.
pub(crate) fn settle(
    render: &mut ClusterRender,
    last_good: &dyn Fn(&UnitId) -> Option<Arc<Content>>,
) -> bool {
    let mut owners: HashMap<ObjectId, Owner> = HashMap::new();
    let mut twice: Vec<(UnitId, Problem)> = Vec::new();
    for (id, rendered) in &render.units {
        let content = rendered.unit.as_ref().map(|unit| unit.content.clone()).or_else(|| last_good(id));
        let Some(content) = content else { continue };
        if let Some(problem) = declared_twice(&content).filter(|_| rendered.unit.is_some()) {
            twice.push((id.clone(), problem));
            continue;
        }
        for object in &content.objects {
            let rank = rendered.authority.rank(object.id());
            let owner = Owner { rank, unit: id.clone(), digest: object.digest() };
            match owners.get_mut(object.id()) {
                Some(first) if owner < *first => *first = owner,
                Some(_) => {}
                None => drop(owners.insert(object.id().clone(), owner)),
            }
        }
    }
    let mut any = !twice.is_empty();
    for (id, problem) in twice {
        hold(render, &id, problem);
    }
    let mut equals: BTreeMap<UnitId, Vec<Problem>> = BTreeMap::new();
    let mut without: Vec<(UnitId, Unit, Vec<Problem>)> = Vec::new();
    for (id, rendered) in &render.units {
        let Some(unit) = &rendered.unit else { continue };
        let is_lost = |object: &flotilla_core::Object| {
            let owner = owners.get(object.id()).filter(|owner| owner.unit != *id);
            owner.filter(|owner| owner.digest != object.digest())
        };
        if !unit.content.objects.iter().any(|object| is_lost(object).is_some()) {
            continue;
        }
        let mut kept = Content { objects: Vec::new(), origins: Vec::new(), ..Content::clone(&unit.content) };
        let mut told = Vec::new();
        let mut lost = 0;
        for (object, origin) in unit.content.objects.iter().zip(&unit.content.origins) {
            let Some(owner) = is_lost(object) else {
                kept.objects.push(object.clone());
                kept.origins.push(origin.clone());
                continue;
            };
            lost += 1;
            if lost <= TOLD {
                let place = |message: String| Problem::error(origin.0.clone(), origin.1, message).as_notice();
                told.push(place(format!(
                    "{} belongs to {}, which declares it with different content{}; this unit is applied without it: keep it in \
                     one of them",
                    object.id(),
                    owner.unit,
                    why(owner.rank, rendered.authority.rank(object.id())),
                )));
                if owner.rank == rendered.authority.rank(object.id()) {
                    let message = format!(
                        "{id} declares {} too, with other content, and is applied without it",
                        object.id()
                    );
                    equals.entry(owner.unit.clone()).or_default().push(place(message));
                }
            }
        }
        if lost > TOLD {
            let message = format!("{} more objects belong to other units", lost - TOLD);
            told.push(Problem::error("", 0, message).as_notice());
        }
        let entries = kept.objects.iter().map(ObjectEntry::from).collect();
        let manifest = UnitManifest::new(id.clone(), unit.manifest.spec.clone(), entries);
        without.push((id.clone(), Unit { manifest: Arc::new(manifest), content: Arc::new(kept) }, told));
    }
    any |= !without.is_empty();
    for (id, unit, told) in without {
        if let Some(rendered) = render.unit_mut(&id) {
            rendered.unit = Some(unit);
            rendered.problems.extend(told);
        }
    }
    for (id, problems) in equals {
        if let Some(rendered) = render.unit_mut(&id) {
            rendered.problems.extend(problems.into_iter().take(TOLD));
        }
    }
    any
}

/// Why the first of two ranks has it.
fn why(owner: Rank, other: Rank) -> &'static str {
    match owner {
        _ if owner == other => "",
        Rank::Fleet => " and is of the fleet repo",
        Rank::Owner | Rank::Stranger => " and is under an account of its namespace",
    }
}

/// A unit that says two things of one object.
pub(crate) fn declared_twice(content: &Content) -> Option<Problem> {
    let mut seen: HashMap<&ObjectId, Digest> = HashMap::with_capacity(content.objects.len());
    let mut all = content.objects.iter().zip(&content.origins);
    let (object, (file, line)) = all.find(|(object, _)| {
        seen.insert(object.id(), object.digest()).is_some_and(|other| other != object.digest())
    })?;
    let message = format!("{} is declared twice with differing content; keep one of them", object.id());
    Some(Problem::error(file.clone(), *line, message))
}
