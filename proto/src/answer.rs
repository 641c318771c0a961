//! What an agent found, between wire messages and the domain.

use flotilla_core::adopt::Origin;
use flotilla_core::answer::{
    AdoptAction, Adoption, Counts, Effect, Foreseen, Found, LiveObject, Note, Owner, Rehearsal,
};

use crate::convert::{Invalid, cut, digest_bytes, optional_digest};
use crate::v1;

impl From<Origin> for v1::adopt::Origin {
    fn from(origin: Origin) -> Self {
        match origin {
            Origin::Flux => Self::Flux,
            Origin::Helm => Self::Helm,
            Origin::Kubectl => Self::Kubectl,
        }
    }
}

impl From<AdoptAction> for v1::adopt::Action {
    fn from(action: AdoptAction) -> Self {
        match action {
            AdoptAction::Plan => Self::Plan,
            AdoptAction::Apply => Self::Apply,
            AdoptAction::Undo => Self::Undo,
        }
    }
}

/// Reads whose objects are taken over. A newer side may name what this one does not know.
pub fn origin(field: &'static str, number: i32) -> Result<Origin, Invalid> {
    use v1::adopt::Origin as Wire;
    match Wire::try_from(number) {
        Ok(Wire::Flux) => Ok(Origin::Flux),
        Ok(Wire::Helm) => Ok(Origin::Helm),
        Ok(Wire::Kubectl) => Ok(Origin::Kubectl),
        Ok(Wire::Unspecified) | Err(_) => Err(unknown(field, number)),
    }
}

/// Reads what an adoption does.
pub fn action(field: &'static str, number: i32) -> Result<AdoptAction, Invalid> {
    use v1::adopt::Action as Wire;
    match Wire::try_from(number) {
        Ok(Wire::Plan) => Ok(AdoptAction::Plan),
        Ok(Wire::Apply) => Ok(AdoptAction::Apply),
        Ok(Wire::Undo) => Ok(AdoptAction::Undo),
        Ok(Wire::Unspecified) | Err(_) => Err(unknown(field, number)),
    }
}

fn unknown(field: &'static str, number: i32) -> Invalid {
    Invalid::new(field, format!("{number} is unknown to this version"))
}

impl From<Found> for v1::answer::Found {
    fn from(found: Found) -> Self {
        match found {
            Found::Adoption(adoption) => Self::Adoption((*adoption).into()),
            Found::Live(LiveObject { object, why }) => {
                Self::LiveObject(v1::LiveObject { object: object.to_string().into(), why })
            }
            Found::Rehearsal(Rehearsal { objects, same }) => {
                Self::Rehearsal(v1::Rehearsal { objects: all(objects), same })
            }
        }
    }
}

impl TryFrom<v1::answer::Found> for Found {
    type Error = Invalid;

    fn try_from(found: v1::answer::Found) -> Result<Self, Invalid> {
        Ok(match found {
            v1::answer::Found::Adoption(adoption) => Self::Adoption(Box::new(adoption.try_into()?)),
            v1::answer::Found::LiveObject(v1::LiveObject { object, why }) => {
                let object = serde_json::from_slice(&object);
                let object = object.map_err(|error| Invalid::new("live_object.object", error))?;
                Self::Live(LiveObject { object, why: cut(why) })
            }
            v1::answer::Found::Rehearsal(v1::Rehearsal { objects, same }) => {
                Self::Rehearsal(Rehearsal { objects: try_all(objects)?, same })
            }
        })
    }
}

impl From<Adoption> for v1::Adoption {
    fn from(adoption: Adoption) -> Self {
        let Adoption { origin, action, stage, complete, plan, .. } = adoption;
        let Adoption { owners, stays, counts, objects, left, more, next, .. } = adoption;
        let Counts { ours, same, change, create, stays: others, refused, waiting } = counts;
        Self {
            origin: v1::adopt::Origin::from(origin).into(),
            action: v1::adopt::Action::from(action).into(),
            stage,
            complete,
            plan: digest_bytes(plan),
            owners: all(owners),
            stays: all(stays),
            counts: Some(v1::AdoptionCounts { ours, same, change, create, stays: others, refused, waiting }),
            objects: all(objects),
            left: all(left),
            more,
            next,
        }
    }
}

impl TryFrom<v1::Adoption> for Adoption {
    type Error = Invalid;

    fn try_from(adoption: v1::Adoption) -> Result<Self, Invalid> {
        let counts = adoption.counts.ok_or_else(|| Invalid::new("adoption.counts", "missing"))?;
        let v1::AdoptionCounts { ours, same, change, create, stays, refused, waiting } = counts;
        Ok(Self {
            origin: origin("adoption.origin", adoption.origin)?,
            action: action("adoption.action", adoption.action)?,
            stage: cut(adoption.stage),
            complete: adoption.complete,
            plan: optional_digest("adoption.plan", &adoption.plan)?,
            owners: all(adoption.owners),
            stays: all(adoption.stays),
            counts: Counts { ours, same, change, create, stays, refused, waiting },
            objects: try_all(adoption.objects)?,
            left: all(adoption.left),
            more: adoption.more,
            next: adoption.next.into_iter().map(cut).collect(),
        })
    }
}

impl From<Owner> for v1::AdoptedOwner {
    fn from(Owner { object, unit, state }: Owner) -> Self {
        Self { object, unit, state }
    }
}

impl From<v1::AdoptedOwner> for Owner {
    fn from(v1::AdoptedOwner { object, unit, state }: v1::AdoptedOwner) -> Self {
        Self { object: cut(object), unit: cut(unit), state: cut(state) }
    }
}

impl From<Note> for v1::AdoptionNote {
    fn from(Note { object, why }: Note) -> Self {
        Self { object, why }
    }
}

impl From<v1::AdoptionNote> for Note {
    fn from(v1::AdoptionNote { object, why }: v1::AdoptionNote) -> Self {
        Self { object: cut(object), why: cut(why) }
    }
}

impl From<Foreseen> for v1::ForeseenObject {
    fn from(Foreseen { object, unit, effect, why, fields }: Foreseen) -> Self {
        use v1::foreseen_object::Effect as Wire;
        let effect = match effect {
            Effect::Create => Wire::Create,
            Effect::Change => Wire::Change,
            Effect::Stays => Wire::Stays,
            Effect::Refused => Wire::Refused,
            Effect::Waiting => Wire::Waiting,
        };
        Self { object, unit, effect: effect.into(), why, fields: all(fields) }
    }
}

impl TryFrom<v1::ForeseenObject> for Foreseen {
    type Error = Invalid;

    fn try_from(foreseen: v1::ForeseenObject) -> Result<Self, Invalid> {
        use v1::foreseen_object::Effect as Wire;
        let effect = match Wire::try_from(foreseen.effect) {
            Ok(Wire::Create) => Effect::Create,
            Ok(Wire::Change) => Effect::Change,
            Ok(Wire::Stays) => Effect::Stays,
            Ok(Wire::Refused) => Effect::Refused,
            Ok(Wire::Waiting) => Effect::Waiting,
            Ok(Wire::Unspecified) | Err(_) => return Err(unknown("foreseen.effect", foreseen.effect)),
        };
        let v1::ForeseenObject { object, unit, why, fields, .. } = foreseen;
        Ok(Self { object: cut(object), unit: cut(unit), effect, why: cut(why), fields: all(fields) })
    }
}

fn all<T, U: From<T>>(items: Vec<T>) -> Vec<U> {
    items.into_iter().map(U::from).collect()
}

fn try_all<T, U: TryFrom<T, Error = Invalid>>(items: Vec<T>) -> Result<Vec<U>, Invalid> {
    items.into_iter().map(U::try_from).collect()
}

#[cfg(test)]
mod tests {
    use flotilla_core::report::FieldDrift;
    use prost::Message;
    use serde_json::json;

    use super::*;

    fn examples() -> Vec<Found> {
        let fields = vec![FieldDrift {
            field: "/spec/replicas".into(),
            wanted: Some("3".into()),
            found: None,
            manager: Some("kubectl".into()),
        }];
        let effects = [Effect::Create, Effect::Change, Effect::Stays, Effect::Refused, Effect::Waiting];
        let objects = effects.map(|effect| Foreseen {
            object: "Deployment web/app".into(),
            unit: "kustomization/web/app".into(),
            effect,
            why: "because".into(),
            fields: fields.clone(),
        });
        let note = Note { object: "ConfigMap web/old".into(), why: "was applied by web".into() };
        let owner = Owner { object: "release web/app".into(), unit: String::new(), state: "runs".into() };
        let adoptions =
            [AdoptAction::Plan, AdoptAction::Apply, AdoptAction::Undo].into_iter().zip(Origin::ALL);
        let adoptions = adoptions.map(|(action, origin)| {
            Found::Adoption(Box::new(Adoption {
                stage: "adopting".into(),
                complete: action == AdoptAction::Undo,
                plan: (action != AdoptAction::Undo).then(|| flotilla_core::Digest::of(b"plan")),
                owners: vec![owner.clone()],
                stays: vec![note.clone()],
                counts: Counts { ours: 1, same: 2, change: 3, create: 4, stays: 5, refused: 6, waiting: 7 },
                objects: objects.to_vec(),
                left: vec![note.clone()],
                more: 8,
                next: vec!["go on".into()],
                ..Adoption::new(origin, action)
            }))
        });
        let live = LiveObject { object: json!({"kind": "Pod", "spec": {"a": 1.5}}), why: "waits".into() };
        let rehearsal = Rehearsal { objects: objects.to_vec(), same: 9 };
        adoptions.chain([Found::Live(live), Found::Rehearsal(rehearsal)]).collect()
    }

    #[test]
    fn what_was_found_is_the_same_on_the_other_side() {
        for found in examples() {
            let answer = v1::Answer { found: Some(found.clone().into()), ..Default::default() };
            let text = serde_json::to_string(&found).unwrap();
            assert!(answer.encoded_len() <= text.len() + 16, "what fits as a text fits as a message");
            let read = v1::Answer::decode(&*answer.encode_to_vec()).unwrap();
            assert_eq!(Found::try_from(read.found.unwrap()), Ok(found.clone()));
            match found {
                Found::Adoption(adoption) => {
                    assert_eq!(serde_json::from_str::<Adoption>(&text).unwrap(), *adoption);
                }
                Found::Live(live) => assert_eq!(serde_json::from_str::<LiveObject>(&text).unwrap(), live),
                Found::Rehearsal(rehearsal) => {
                    assert_eq!(serde_json::from_str::<Rehearsal>(&text).unwrap(), rehearsal);
                }
            }
        }
    }

    #[test]
    fn what_this_version_does_not_know_is_refused_by_its_field() {
        let counts = Some(v1::AdoptionCounts::default());
        let adoption = |origin, action, effect| v1::Adoption {
            origin,
            action,
            counts,
            objects: vec![v1::ForeseenObject { effect, ..Default::default() }],
            ..Default::default()
        };
        for (wire, field) in [
            (adoption(0, 1, 1), "adoption.origin"),
            (adoption(1, 77, 1), "adoption.action"),
            (adoption(1, 1, 0), "foreseen.effect"),
            (v1::Adoption { counts: None, ..adoption(1, 1, 1) }, "adoption.counts"),
            (v1::Adoption { plan: vec![1].into(), ..adoption(1, 1, 1) }, "adoption.plan"),
        ] {
            let found = v1::answer::Found::Adoption(wire);
            assert_eq!(Found::try_from(found).unwrap_err().field, field);
        }
        let found =
            v1::answer::Found::LiveObject(v1::LiveObject { object: "{".into(), ..Default::default() });
        assert_eq!(Found::try_from(found).unwrap_err().field, "live_object.object");
    }
}
