//! The ConfigMaps and Secrets that templates take values from, as last seen: of each no more than a digest is kept.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flotilla_core::Digest;
use flotilla_core::template::{ValuesKind, ValuesRef};
use flotilla_runtime::lock;
use serde_json::Value;

/// The values of one place; none where there is no such object.
pub(crate) type Found = Option<BTreeMap<String, String>>;

/// What stands in the place of bytes that are no text.
const MARK: &str = "\u{FFFD}";

/// The values of a ConfigMap or Secret. Bytes that are no text become marks: no variable can hold them.
pub(crate) fn values_of(kind: ValuesKind, object: &Value) -> BTreeMap<String, String> {
    let data = object["data"].as_object().into_iter().flatten();
    let text = |value: &Value| match kind {
        ValuesKind::ConfigMap => value.as_str().map(str::to_owned),
        ValuesKind::Secret => {
            let bytes = STANDARD.decode(value.as_str()?).ok()?;
            Some(String::from_utf8_lossy(&bytes).into_owned())
        }
    };
    data.map(|(key, value)| (key.clone(), text(value).unwrap_or_else(|| MARK.to_owned()))).collect()
}

/// By which values are compared.
pub(crate) fn digest_of(found: &Found) -> Digest {
    match found {
        None => Digest::of(b"absent"),
        Some(values) => {
            let parts = values.iter().flat_map(|(key, value)| [key.as_bytes(), value.as_bytes()]);
            Digest::of_parts(std::iter::once(&b"there"[..]).chain(parts))
        }
    }
}

/// What is known of them.
#[derive(Default)]
pub(crate) struct SeenValues {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    seen: HashMap<ValuesRef, Digest>,
    changed: HashSet<ValuesRef>,
}

impl SeenValues {
    /// What a watch shows. True if that is new.
    pub(crate) fn observe(&self, reference: &ValuesRef, found: &Found) -> bool {
        let (digest, mut inner) = (digest_of(found), self.lock());
        let is_new = inner.seen.insert(reference.clone(), digest) != Some(digest);
        if is_new {
            inner.changed.insert(reference.clone());
        }
        is_new
    }

    /// None while nobody has looked.
    pub(crate) fn get(&self, reference: &ValuesRef) -> Option<Digest> {
        self.lock().seen.get(reference).copied()
    }

    /// What changed since the last call.
    pub(crate) fn take_changed(&self) -> HashSet<ValuesRef> {
        std::mem::take(&mut self.lock().changed)
    }

    /// It is not watched any more: nothing is known of it.
    pub(crate) fn forget(&self, reference: &ValuesRef) {
        self.lock().seen.remove(reference);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_other_values_are_news() {
        let reference = ValuesRef { kind: ValuesKind::Secret, namespace: "n".into(), name: "s".into() };
        let of = |object: Value| Some(values_of(ValuesKind::Secret, &object));
        let seen = SeenValues::default();
        assert_eq!(seen.get(&reference), None);
        assert!(seen.observe(&reference, &of(json!({"data": {"a": "MQ=="}}))));
        let changed = HashSet::from([reference.clone()]);
        assert_eq!((seen.take_changed(), seen.take_changed()), (changed, HashSet::new()));
        assert!(
            !seen
                .observe(&reference, &of(json!({"metadata": {"labels": {"x": "y"}}, "data": {"a": "MQ=="}})))
        );
        assert!(seen.observe(&reference, &of(json!({"data": {"a": "Mg=="}}))));
        assert!(seen.observe(&reference, &of(json!({}))), "empty");
        assert!(seen.observe(&reference, &None), "and gone");
        seen.forget(&reference);
        assert_eq!(seen.get(&reference), None);
    }
}
