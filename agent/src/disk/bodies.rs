//! The bodies of objects on disk, one pack for all, sealed; those that the disk does not take stay in memory.
//!
//! A pack in clear, as agents wrote them before, is read once and written anew, sealed.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use flotilla_core::Digest;
use flotilla_runtime::lock;
use tokio::sync::watch;

use super::log::{Log, is_of_kind};
use super::seal::Seal;
use crate::problems::Problems;
use crate::sync::{Bodies, BodyError};

const SUBJECT: &str = "bodies";
const SEALED: &str = "bodies 2";
const IN_CLEAR: &str = "bodies 1";
/// What is kept in memory while the disk takes nothing.
const MAX_UNSAVED: usize = 64 << 20;

/// Bodies by digest. Each is checked against its digest when it is read.
pub struct BodyStore {
    inner: Mutex<Inner>,
    problems: Problems,
    /// Counts how often a body was read that is not there.
    lost: watch::Sender<u64>,
}

struct Inner {
    log: Log<Digest>,
    seal: Sealing,
    unsaved: HashMap<Digest, Bytes>,
    unsaved_bytes: usize,
}

/// A body that could be kept neither on disk nor in memory.
#[derive(Debug, thiserror::Error)]
#[error("no room for a body: the disk cannot be written, and the memory that stands in for it is full")]
pub struct NoRoom(#[source] io::Error);

/// How what is in the log is written.
enum Sealing {
    By(Box<Seal>),
    /// It could not be sealed yet: the next start tries again.
    InClear,
    /// The key cannot be read: what is there may be good, and cannot be told.
    Unknown(String),
}

impl Inner {
    fn write(&mut self, digest: Digest, body: &[u8]) -> io::Result<()> {
        match &self.seal {
            Sealing::By(seal) => {
                let sealed = seal.close(digest, body)?;
                self.log.append(digest, Some(&sealed))
            }
            // Not in clear where everything else is to be sealed.
            Sealing::InClear => Err(io::Error::other("the contents could not be sealed at the start")),
            Sealing::Unknown(why) => Err(io::Error::other(why.clone())),
        }
    }

    /// As [`Log::get`]; an error of kind `InvalidData` where it does not open.
    fn read(&mut self, digest: Digest) -> io::Result<Option<Bytes>> {
        if let Sealing::Unknown(why) = &self.seal {
            return Err(io::Error::other(why.clone()));
        }
        let Some(bytes) = self.log.get(&digest)? else { return Ok(None) };
        let body = match &self.seal {
            Sealing::By(seal) => seal.open_sealed(digest, &bytes),
            _ => Some(bytes),
        };
        match body.filter(|body| Digest::of(body) == digest) {
            Some(body) => Ok(Some(body)),
            None => {
                self.log.retain(|kept| *kept != digest);
                Err(io::Error::new(io::ErrorKind::InvalidData, "its content has another digest"))
            }
        }
    }
}

/// Writes a pack in clear anew, sealed, and puts it in its place.
fn seal_anew(path: &Path, seal: &Seal) -> io::Result<()> {
    let (mut old, problem) = Log::<Digest>::open(path.to_owned(), IN_CLEAR);
    if let Some(problem) = problem {
        tracing::warn!("{problem}");
    }
    let beside = path.with_extension("sealing");
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (mut new, problem) = Log::<Digest>::open(beside.clone(), SEALED);
    if let Some(problem) = problem {
        return Err(io::Error::other(problem));
    }
    let digests: Vec<Digest> = old.keys().copied().collect();
    for digest in digests {
        match old.get(&digest) {
            Ok(Some(body)) => new.append(digest, Some(&seal.close(digest, &body)?))?,
            Ok(None) => {}
            // Damaged: asked for anew.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
            Err(error) => return Err(error),
        }
    }
    new.sync()?;
    std::fs::rename(&beside, path)?;
    path.parent().map_or(Ok(()), |folder| std::fs::File::open(folder)?.sync_all())
}

impl BodyStore {
    pub(super) fn open(path: &Path, problems: Problems) -> Self {
        let tell = |problem: Option<String>| {
            if let Some(problem) = problem {
                problems.set(SUBJECT, problem);
            }
        };
        let mut seal = match Seal::open(&path.with_extension("key")) {
            Ok((seal, problem)) => {
                tell(problem);
                Sealing::By(Box::new(seal))
            }
            Err(why) => {
                tell(Some(format!("contents cannot be sealed, so they are kept in memory only: {why}")));
                Sealing::Unknown(why)
            }
        };
        let mut kind = SEALED;
        if is_of_kind(path, IN_CLEAR).unwrap_or(false) {
            let sealed = match &seal {
                Sealing::By(seal) => seal_anew(path, seal),
                _ => Err(io::Error::other("there is no key")),
            };
            if let Err(error) = sealed {
                tell(Some(format!(
                    "the contents on disk are still in clear: they cannot be sealed: {error}"
                )));
                (seal, kind) = (Sealing::InClear, IN_CLEAR);
            }
        }
        let (log, problem) = Log::open(path.to_owned(), kind);
        tell(problem);
        let inner = Inner { log, seal, unsaved: HashMap::new(), unsaved_bytes: 0 };
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
        match inner.write(digest, body) {
            Ok(()) => Ok(()),
            Err(error) if inner.unsaved_bytes + body.len() > MAX_UNSAVED => Err(NoRoom(error)),
            Err(error) => {
                self.problems.set(
                    SUBJECT,
                    format!("contents are kept in memory only, as the disk cannot be written: {error}"),
                );
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
            let waiting: Vec<(Digest, Bytes)> =
                inner.unsaved.iter().map(|(digest, body)| (*digest, body.clone())).collect();
            for (digest, body) in waiting {
                inner.write(digest, &body)?;
                inner.unsaved_bytes -= inner.unsaved.remove(&digest).map_or(0, |body| body.len());
            }
            inner.log.handle()?
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

    /// Changes whenever somebody reads a body that is not there, so that it has to be asked for.
    pub fn losses(&self) -> watch::Receiver<u64> {
        self.lost.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    /// Holds up whoever uses the bodies, as a disk that stalls does, until what it gives is dropped.
    #[cfg(test)]
    pub(crate) fn stall(self: &std::sync::Arc<Self>) -> std::sync::mpsc::Sender<()> {
        let (until, dropped) = std::sync::mpsc::channel::<()>();
        let (is_stalled, stalled) = std::sync::mpsc::channel();
        let store = self.clone();
        std::thread::spawn(move || {
            let _inner = store.lock();
            is_stalled.send(()).unwrap();
            let _ = dropped.recv();
        });
        stalled.recv().unwrap();
        until
    }
}

impl Bodies for BodyStore {
    fn body(&self, digest: Digest) -> Result<Bytes, BodyError> {
        let mut inner = self.lock();
        if let Some(body) = inner.unsaved.get(&digest) {
            return Ok(body.clone());
        }
        let is_damaged = match inner.read(digest) {
            Ok(Some(body)) => return Ok(body),
            Ok(None) => false,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => true,
            Err(error) => return Err(BodyError::Io(digest, error)),
        };
        drop(inner);
        if is_damaged {
            self.problems.set(SUBJECT, "the disk damaged contents; they are asked for again");
        }
        self.lost.send_modify(|lost| *lost += 1);
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
        assert!(!bytes.windows(7).any(|window| window == b"content"), "it is sealed");
        // In the first record's value.
        let at = bytes.windows(32).position(|window| window == digest.as_bytes()).unwrap() + 32 + 12;
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();

        let store = BodyStore::open(&path, problems.clone());
        let mut losses = store.losses();
        assert!(store.has(digest), "nobody has looked yet");
        assert!(matches!(store.body(digest), Err(BodyError::Missing(missing)) if missing == digest));
        assert!(!store.has(digest) && losses.has_changed().unwrap());
        losses.mark_unchanged();
        assert!(store.body(digest).is_err() && losses.has_changed().unwrap(), "as long as it is not there");
        assert_eq!(problems.all(), ["the disk damaged contents; they are asked for again"]);
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

    /// A pack as agents wrote it before.
    fn in_clear(path: &Path, bodies: &[(Digest, Bytes)]) {
        let (mut log, problem) = Log::open(path.to_owned(), IN_CLEAR);
        assert_eq!(problem, None);
        for (digest, content) in bodies {
            log.append(*digest, Some(content)).unwrap();
        }
        log.sync().unwrap();
    }

    #[test]
    fn a_pack_in_clear_is_sealed_at_the_next_start() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bodies");
        let all = [body("password: hunter2"), body("other")];
        in_clear(&path, &all);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let problems = Problems::default();
        for _ in 0..2 {
            let store = BodyStore::open(&path, problems.clone());
            for (digest, content) in &all {
                assert_eq!(store.body(*digest).unwrap(), content);
            }
        }
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(7).any(|window| window == b"hunter2"));
        for file in ["bodies", "bodies.key"] {
            let mode = std::fs::metadata(folder.path().join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        assert_eq!(problems.all(), Vec::<String>::new());

        // Under another key they do not open, and are asked for anew; none stands in for another.
        std::fs::remove_file(folder.path().join("bodies.key")).unwrap();
        let store = BodyStore::open(&path, problems.clone());
        for (digest, content) in &all {
            assert!(matches!(store.body(*digest), Err(BodyError::Missing(_))));
            store.put(*digest, content).unwrap();
            assert_eq!(store.body(*digest).unwrap(), content);
        }
    }

    #[test]
    fn a_pack_that_cannot_be_sealed_stays_readable_and_a_key_that_cannot_be_read_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bodies");
        let all = [body("one"), body("two")];
        in_clear(&path, &all);
        // In the way of the sealed one.
        std::fs::create_dir_all(folder.path().join("bodies.sealing/x")).unwrap();
        let problems = Problems::default();
        let store = BodyStore::open(&path, problems.clone());
        assert!(problems.all()[0].contains("still in clear"), "{:?}", problems.all());
        assert_eq!(store.body(all[0].0).unwrap(), all[0].1);
        let (new, content) = body("three");
        store.put(new, &content).unwrap();
        assert_eq!(store.body(new).unwrap(), content, "from memory");
        assert!(store.flush().is_err(), "nothing more is written in clear");
        drop(store);
        std::fs::remove_dir_all(folder.path().join("bodies.sealing")).unwrap();
        drop(BodyStore::open(&path, Problems::default()));

        let (key, away) = (folder.path().join("bodies.key"), folder.path().join("away"));
        std::fs::rename(&key, &away).unwrap();
        std::fs::create_dir(&key).unwrap();
        let store = BodyStore::open(&path, Problems::default());
        assert!(store.has(all[0].0));
        assert!(matches!(store.body(all[0].0), Err(BodyError::Io(..))), "unknown is not missing");
        drop(store);
        std::fs::remove_dir(&key).unwrap();
        std::fs::rename(&away, &key).unwrap();
        assert_eq!(BodyStore::open(&path, Problems::default()).body(all[0].0).unwrap(), all[0].1);
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
