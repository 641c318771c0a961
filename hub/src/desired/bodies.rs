//! The bodies of all objects of a desired state, where the renders of its units have them. They are looked up only when somebody
//! asks for one: most states of most clusters are never asked for more than what is new in them.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use flotilla_core::{Digest, Object};
use flotilla_render::Content;

/// Shared between clusters and generations.
#[derive(Debug, Default)]
pub struct Bodies {
    units: Vec<Arc<Content>>,
    /// By digest, which unit and what of it.
    places: OnceLock<HashMap<Digest, (u32, Place)>>,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Object(u32),
    /// What a release is made of, and its chart.
    Release,
    Chart,
}

impl Bodies {
    /// Those that these units render to.
    pub fn of(units: Vec<Arc<Content>>) -> Self {
        Self { units, places: OnceLock::new() }
    }

    /// An object by its digest.
    pub fn get(&self, digest: &Digest) -> Option<&Object> {
        let (content, place) = self.place(digest)?;
        match place {
            Place::Object(at) => content.objects.get(at as usize),
            Place::Release | Place::Chart => None,
        }
    }

    /// All that an agent may ask for by its digest.
    pub fn bytes(&self, digest: &Digest) -> Option<&Bytes> {
        let (content, place) = self.place(digest)?;
        match place {
            Place::Object(at) => content.objects.get(at as usize).map(Object::body),
            Place::Release => content.release.as_ref().map(|release| &release.content.bytes),
            Place::Chart => content.release.as_ref().map(|release| &release.chart.bytes),
        }
    }

    fn place(&self, digest: &Digest) -> Option<(&Content, Place)> {
        let places = self.places.get_or_init(|| {
            let mut places = HashMap::new();
            for (unit, content) in (0..).zip(&self.units) {
                if let Some(release) = &content.release {
                    places.insert(release.content.digest, (unit, Place::Release));
                    places.insert(release.chart.digest, (unit, Place::Chart));
                }
                let objects = (0..).zip(&content.objects);
                places.extend(objects.map(|(at, object)| (object.digest(), (unit, Place::Object(at)))));
            }
            places
        });
        let (unit, place) = *places.get(digest)?;
        Some((self.units.get(unit as usize)?, place))
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
    use flotilla_render::helm::Packed;

    #[test]
    fn every_object_of_every_unit_is_found_by_its_digest() {
        let object = |name: String| {
            let value =
                serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
            Object::new(&value).unwrap()
        };
        let unit = |n: usize| {
            let objects = (0..n).map(|at| object(format!("{n}-{at}"))).collect();
            let release = (n > 2).then(|| Packed::new(vec![n as u8], b"chart".to_vec()));
            Arc::new(Content { objects, release, ..Content::default() })
        };
        let bodies = Bodies::of((0..4).map(unit).collect());
        assert_eq!(bodies.objects().count(), 6);
        for object in bodies.objects() {
            assert_eq!(bodies.get(&object.digest()), Some(object));
            assert_eq!(bodies.bytes(&object.digest()), Some(object.body()));
        }
        for bytes in [&[3][..], b"chart"] {
            let digest = Digest::of(bytes);
            assert_eq!(bodies.bytes(&digest).map(|bytes| &bytes[..]), Some(bytes));
            assert_eq!(bodies.get(&digest), None, "it is no object");
        }
        assert_eq!(bodies.get(&object("other".into()).digest()), None);
    }
}
