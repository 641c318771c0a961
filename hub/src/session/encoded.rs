//! Encoded bodies, made once for all the agents that ask for the same change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use flotilla_core::Digest;
use flotilla_proto::body::Encoded;
use flotilla_runtime::lock;

use super::machine::Body;

/// What the cache holds at most, in encoded bytes; then it starts anew.
const MAX_BYTES: usize = 32 << 20;

/// Encoded bodies by content and base.
#[derive(Debug, Default)]
pub struct EncodedBodies(Mutex<Cache>);

#[derive(Debug, Default)]
struct Cache {
    bodies: HashMap<(Digest, Option<Digest>), Arc<Encoded>>,
    bytes: usize,
}

impl EncodedBodies {
    pub(crate) fn encode(&self, body: &Body<'_>) -> Arc<Encoded> {
        let key = (body.digest, body.base.map(|(digest, _)| digest));
        if let Some(encoded) = self.cache().bodies.get(&key) {
            return encoded.clone();
        }
        // Outside the lock: two may do the same work once.
        let base = body.base.map(|(digest, base)| (digest, &base[..]));
        let encoded = Arc::new(Encoded::of(body.content, base));
        let mut cache = self.cache();
        if cache.bytes + encoded.len() > MAX_BYTES {
            *cache = Cache::default();
        }
        cache.bytes += encoded.len();
        cache.bodies.insert(key, encoded.clone());
        encoded
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        lock(&self.0)
    }
}
