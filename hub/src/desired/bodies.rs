//! The bodies of all objects of a desired state, where the renders of its units have them. They are looked up only when somebody
//! asks for one: most states of most clusters are never asked for more than what is new in them.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use flotilla_core::{Digest, Object};
use flotilla_render::Content;

/// Shared between clusters and generations.
#[derive(Debug, Default)]
pub struct Bodies {
    units: Vec<Arc<Content>>,
    /// By digest, which unit and which of its objects.
    places: OnceLock<HashMap<Digest, (u32, u32)>>,
}

impl Bodies {
    /// Those that these units render to.
    pub fn of(units: Vec<Arc<Content>>) -> Self {
        Self { units, places: OnceLock::new() }
    }

    pub fn get(&self, digest: &Digest) -> Option<&Object> {
        let places = self.places.get_or_init(|| {
            let units = (0..).zip(&self.units);
            let objects = units.flat_map(|(unit, content)| {
                (0..).zip(&content.objects).map(move |(at, object)| (object.digest(), (unit, at)))
            });
            objects.collect()
        });
        let (unit, at) = *places.get(digest)?;
        self.units.get(unit as usize)?.objects.get(at as usize)
    }

    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        self.units.iter().flat_map(|content| &content.objects)
    }
}

impl FromIterator<Object> for Bodies {
    fn from_iter<T: IntoIterator<Item = Object>>(objects: T) -> Self {
        let content = Content { objects: objects.into_iter().collect(), ..Content::default() };
        Self::of(vec![content.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_of_every_unit_is_found_by_its_digest() {
        let object = |name: String| {
            let value =
                serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
            Object::new(&value).unwrap()
        };
        let unit = |n: usize| {
            let objects = (0..n).map(|at| object(format!("{n}-{at}"))).collect();
            Arc::new(Content { objects, ..Content::default() })
        };
        let bodies = Bodies::of((0..4).map(unit).collect());
        assert_eq!(bodies.objects().count(), 6);
        for object in bodies.objects() {
            assert_eq!(bodies.get(&object.digest()), Some(object));
        }
        assert_eq!(bodies.get(&object("other".into()).digest()), None);
    }
}
