//! What the engine remembers, written behind: a disk that stalls holds up no plan. Of several values under one key only the
//! newest is written, so what waits is bounded by what there is to remember.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use flotilla_runtime::{blocking, chain, lock};
use tokio::sync::Notify;

use super::api::{Memory, MemoryError};

pub(super) struct Persist {
    memory: Arc<dyn Memory>,
    /// What waits to be written by key; none is to be removed.
    pending: Mutex<BTreeMap<String, Option<Bytes>>>,
    /// Held by whoever writes, so that no older value comes after a newer one.
    writing: Mutex<()>,
    wake: Notify,
}

impl Persist {
    pub(super) fn new(memory: Arc<dyn Memory>) -> Self {
        Self { memory, pending: Mutex::default(), writing: Mutex::default(), wake: Notify::new() }
    }

    /// Everything that was stored.
    pub(super) async fn load(&self) -> Result<Vec<(String, Bytes)>, MemoryError> {
        let memory = self.memory.clone();
        blocking(move || memory.load()).await
    }

    /// Has a value written under a key, or what is there removed.
    pub(super) fn put(&self, key: String, value: Option<Bytes>) {
        lock(&self.pending).insert(key, value);
        self.wake.notify_one();
    }

    /// Writes a value before it returns. It is asked for when nothing older can follow it any more. Blocking.
    pub(super) fn put_now(&self, key: &str, value: impl FnOnce() -> Bytes) -> Result<(), MemoryError> {
        let _writing = lock(&self.writing);
        lock(&self.pending).remove(key);
        self.memory.store(key, value())
    }

    /// Writes what comes, for as long as it is polled.
    pub(super) async fn run(self: &Arc<Self>) -> Infallible {
        loop {
            self.wake.notified().await;
            self.flush().await;
        }
    }

    /// Writes what waits.
    pub(super) async fn flush(self: &Arc<Self>) {
        let this = self.clone();
        blocking(move || this.write()).await;
    }

    fn write(&self) {
        let _writing = lock(&self.writing);
        let batch = std::mem::take(&mut *lock(&self.pending));
        for (key, value) in batch {
            let written = match value {
                Some(value) => self.memory.store(&key, value),
                None => self.memory.remove(&key),
            };
            if let Err(error) = written {
                tracing::warn!(key, error = chain(&error), "goes on without memory");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Written(Mutex<Vec<(String, Option<Bytes>)>>);

    impl Memory for Written {
        fn load(&self) -> Result<Vec<(String, Bytes)>, MemoryError> {
            Ok(Vec::new())
        }
        fn store(&self, key: &str, value: Bytes) -> Result<(), MemoryError> {
            lock(&self.0).push((key.to_owned(), Some(value)));
            Ok(())
        }
        fn remove(&self, key: &str) -> Result<(), MemoryError> {
            lock(&self.0).push((key.to_owned(), None));
            Ok(())
        }
    }

    #[tokio::test]
    async fn the_newest_value_is_written_and_nothing_older_after_it() {
        let text = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
        let written = Arc::new(Written::default());
        let persist = Arc::new(Persist::new(written.clone()));
        persist.put("a".into(), text("1"));
        persist.put("a".into(), text("2"));
        persist.put("b".into(), None);
        persist.put_now("b", || Bytes::from_static(b"now")).unwrap();
        persist.flush().await;
        persist.flush().await;
        assert_eq!(*lock(&written.0), [("b".to_owned(), text("now")), ("a".to_owned(), text("2"))]);
    }
}
