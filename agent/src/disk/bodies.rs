//! The bodies of objects on disk, one pack for all; those that the disk does not take stay in memory.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use flotilla_core::Digest;
use tokio::sync::watch;

use super::log::Log;
use crate::problems::Problems;
use crate::sync::{Bodies, BodyError};

const SUBJECT: &str = "bodies";
/// What is kept in memory while the disk takes nothing.
const MAX_UNSAVED: usize = 64 << 20;

/// Bodies by digest. Each is checked against its digest when it is read.
pub struct BodyStore {
    inner: Mutex<Inner>,
    problems: Problems,
    /// Counts the bodies that could not be read any more.
    lost: watch::Sender<u64>,
}

struct Inner {
    log: Log<Digest>,
    unsaved: HashMap<Digest, Bytes>,
    unsaved_bytes: usize,
}

/// A body that could be kept neither on disk nor in memory.
#[derive(Debug, thiserror::Error)]
#[error("no room for a body: the disk takes none, and the memory for such is full")]
pub struct NoRoom(#[source] io::Error);

impl BodyStore {
    pub(super) fn open(path: &Path, problems: Problems) -> Self {
        let (log, problem) = Log::open(path.to_owned(), "bodies");
        if let Some(problem) = problem {
            problems.set(SUBJECT, problem);
        }
        let inner = Inner { log, unsaved: HashMap::new(), unsaved_bytes: 0 };
        Self { inner: Mutex::new(inner), problems, lost: watch::Sender::new(0) }
    }

    /// Whether the body is there, as far as is known without reading it.
    pub fn has(&self, digest: Digest) -> bool {
        let inner = self.lock();
        inner.log.contains(&digest) || inner.unsaved.contains_key(&digest)
    }

    /// Keeps a body under the digest that the caller has checked it against. Durable after
    /// [`BodyStore::flush`]. Blocks for a write without a sync.
    pub fn put(&self, digest: Digest, body: &Bytes) -> Result<(), NoRoom> {
        let mut inner = self.lock();
        if inner.log.contains(&digest) || inner.unsaved.contains_key(&digest) {
            return Ok(());
        }
        match inner.log.append(digest, Some(body)) {
            Ok(()) => Ok(()),
            Err(error) if inner.unsaved_bytes + body.len() > MAX_UNSAVED => Err(NoRoom(error)),
            Err(error) => {
                self.problems
                    .set(SUBJECT, format!("contents are kept in memory only, the disk takes none: {error}"));
                inner.unsaved_bytes += body.len();
                inner.unsaved.insert(digest, body.clone());
                Ok(())
            }
        }
    }

    /// Makes all bodies durable. Blocking. An error leaves them readable, from memory if need be.
    pub fn flush(&self) -> io::Result<()> {
        let handle = {
            let mut inner = self.lock();
            let Inner { log, unsaved, unsaved_bytes } = &mut *inner;
            let waiting: Vec<Digest> = unsaved.keys().copied().collect();
            for digest in waiting {
                log.append(digest, unsaved.get(&digest).map(|body| &body[..]))?;
                *unsaved_bytes -= unsaved.remove(&digest).map_or(0, |body| body.len());
            }
            log.handle()?
        };
        handle.map_or(Ok(()), |file| file.sync_data())?;
        self.problems.clear(SUBJECT);
        Ok(())
    }

    /// Forgets the bodies that are not to be kept, and gives their room back if that is worth it. Blocking.
    pub fn collect(&self, keep: impl Fn(&Digest) -> bool) -> io::Result<()> {
        let mut inner = self.lock();
        inner.unsaved.retain(|digest, _| keep(digest));
        inner.unsaved_bytes = inner.unsaved.values().map(Bytes::len).sum();
        inner.log.retain(keep);
        inner.log.compact()
    }

    /// Changes whenever a body turned out to be unreadable, so that it has to be asked for anew.
    pub fn losses(&self) -> watch::Receiver<u64> {
        self.lost.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bodies for BodyStore {
    fn body(&self, digest: Digest) -> Result<Bytes, BodyError> {
        let mut inner = self.lock();
        if let Some(body) = inner.unsaved.get(&digest) {
            return Ok(body.clone());
        }
        let lost = match inner.log.get(&digest) {
            Ok(Some(body)) if Digest::of(&body) == digest => return Ok(body),
            Ok(None) => false,
            Ok(Some(_)) => {
                inner.log.retain(|kept| *kept != digest);
                true
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => true,
            Err(error) => return Err(BodyError::Io(digest, error)),
        };
        drop(inner);
        if lost {
            self.problems.set(SUBJECT, "the disk damaged contents; they are asked for anew");
            self.lost.send_modify(|lost| *lost += 1);
        }
        Err(BodyError::Missing(digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> (Digest, Bytes) {
        (Digest::of(text.as_bytes()), Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn a_damaged_body_is_missing_and_can_be_put_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bodies");
        let problems = Problems::default();
        let store = BodyStore::open(&path, problems.clone());
        let (digest, content) = body("content");
        let (other, other_content) = body("other");
        store.put(digest, &content).unwrap();
        store.put(other, &other_content).unwrap();
        store.flush().unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(7).position(|window| window == b"content").unwrap();
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();

        let store = BodyStore::open(&path, problems.clone());
        let losses = store.losses();
        assert!(store.has(digest), "nobody has looked yet");
        assert!(matches!(store.body(digest), Err(BodyError::Missing(missing)) if missing == digest));
        assert!(!store.has(digest) && losses.has_changed().unwrap());
        assert_eq!(problems.all(), ["the disk damaged contents; they are asked for anew"]);
        store.put(digest, &content).unwrap();
        assert_eq!(store.body(digest).unwrap(), content);
        assert_eq!(store.body(other).unwrap(), other_content);
        store.flush().unwrap();
        assert!(problems.all().is_empty());
    }

    #[test]
    fn a_full_disk_is_told_and_contents_stay_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let problems = Problems::default();
        let store = BodyStore::open(&folder.path().join("bodies"), problems.clone());
        store.lock().log.break_writes();
        let (digest, content) = body("content");
        store.put(digest, &content).unwrap();
        assert_eq!(store.body(digest).unwrap(), content);
        assert!(problems.all()[0].starts_with("contents are kept in memory only"));
        assert!(store.flush().is_err());

        std::fs::remove_dir(folder.path().join("bodies")).unwrap();
        std::fs::rename(folder.path().join("bodies.elsewhere"), folder.path().join("bodies")).unwrap();
        store.flush().unwrap();
        assert!(problems.all().is_empty(), "there is room again");
        let again = BodyStore::open(&folder.path().join("bodies"), problems);
        assert_eq!(again.body(digest).unwrap(), content);
    }

    #[test]
    fn what_is_not_kept_goes() {
        let folder = tempfile::tempdir().unwrap();
        let store = BodyStore::open(&folder.path().join("bodies"), Problems::default());
        let (kept, content) = body("kept");
        store.put(kept, &content).unwrap();
        let large = Bytes::from(vec![b'x'; 1 << 20]);
        store.put(Digest::of(&large), &large).unwrap();
        store.collect(|digest| *digest == kept).unwrap();
        assert!(store.has(kept) && !store.has(Digest::of(&large)));
        assert!(std::fs::metadata(folder.path().join("bodies")).unwrap().len() < 200);
    }
}
