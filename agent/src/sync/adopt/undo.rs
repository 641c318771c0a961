//! The way back: Flux's objects as they were, Helm's releases shown again, fields and labels in the hands of those who had
//! them, and nothing of it on our inventory.

use flotilla_core::answer::{AdoptAction, Adoption, Note, Owner};
use flotilla_core::{ObjectId, ObjectRef};
use serde_json::Value;

use super::{AdoptError, Job, at_once, flux, helm, plan};
use crate::sync::adoption_record::{self as record, Line, Record, Stage};

impl Job<'_> {
    pub(super) async fn undo(&self) -> Result<Adoption, AdoptError> {
        let cluster = &self.tools.cluster;
        let mut record = Record::load(cluster, self.origin).await?;
        let mut adoption = Adoption {
            complete: true,
            stage: Stage::Undone.as_str().to_owned(),
            next: plan::after_undo(self),
            ..Adoption::new(self.origin, AdoptAction::Undo)
        };
        match record.stage {
            None => return Err(AdoptError::Nothing(self.origin)),
            // What became of it since is nobody's business here.
            Some(Stage::Undone) => return Ok(adoption),
            Some(Stage::Adopting | Stage::Adopted | Stage::Undoing) => {}
        }
        let lines = record.lines(cluster).await?;
        record.set(cluster, Stage::Undoing).await?;
        self.engine.relinquish(record::relinquished(cluster).await?).await?;

        let flux: Vec<(ObjectId, &Value)> = lines
            .iter()
            .filter_map(|line| match line {
                // It was written down as the API server gave it.
                Line::Flux(body) => Some((ObjectRef::of(body).ok()?.id, body)),
                Line::Object { .. } | Line::Release { .. } => None,
            })
            .collect();
        let mut back = |object: String| {
            adoption.owners.push(Owner { object, state: "back".into(), ..Owner::default() });
        };
        for (id, body) in &flux {
            let brought = flux::bring_back(cluster, id, body).await;
            let why = brought.map_err(|failure| AdoptError::BringBack(id.clone(), failure))?;
            stays(id, why)?;
            back(id.to_string());
        }
        for line in &lines {
            if let Line::Release { namespace, name } = line {
                helm::set_apart(cluster, namespace, name, false).await?;
                back(format!("Secret {namespace}/{name}"));
            }
        }
        let objects: Vec<_> = lines
            .iter()
            .filter_map(|line| match line {
                Line::Object { object, uid, previous, .. } => {
                    Some((ObjectRef::from(object.clone()), uid, previous))
                }
                Line::Flux(_) | Line::Release { .. } => None,
            })
            .collect();
        let given = objects
            .iter()
            .map(|(object, uid, previous)| (&object.id, flux::give_back(cluster, object, uid, previous)));
        for (id, why) in at_once(given).await? {
            match why {
                None => adoption.counts.same += 1,
                Some(why) => adoption.left.push(Note { object: id.to_string(), why }),
            }
        }
        for (id, body) in &flux {
            let resumed = flux::resume(cluster, id, body).await;
            stays(id, resumed.map_err(|failure| AdoptError::Object(id.clone(), failure))?)?;
        }
        self.tools.owners.forget();
        record.set(cluster, Stage::Undone).await?;
        Ok(adoption)
    }
}

fn stays(id: &ObjectId, why: Option<String>) -> Result<(), AdoptError> {
    why.map_or(Ok(()), |why| Err(AdoptError::Stays(id.clone(), why)))
}
