//! What the engine remembers across restarts, on disk. Written behind: a crash may lose the newest values.

use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use flotilla_runtime::lock;

use super::log::Log;
use crate::problems::Problems;
use crate::sync::{Memory, MemoryError};

const SUBJECT: &str = "memory";

/// The engine's memory in one file.
pub struct MemoryStore {
    log: Mutex<Log<String>>,
    problems: Problems,
}

impl MemoryStore {
    pub(super) fn open(path: &Path, problems: Problems) -> Self {
        let (log, problem) = Log::open(path.to_owned(), "memory 1");
        if let Some(problem) = problem {
            problems.set(SUBJECT, problem);
        }
        Self { log: Mutex::new(log), problems }
    }

    /// Makes everything durable. Blocking.
    pub fn flush(&self) -> io::Result<()> {
        let handle = self.lock().handle()?;
        handle.map_or(Ok(()), |file| file.sync_data())
    }

    fn change(&self, key: &str, value: Option<&[u8]>, attempt: &'static str) -> Result<(), MemoryError> {
        let mut log = self.lock();
        let changed = log.append(key.to_owned(), value).and_then(|()| log.compact());
        match changed {
            Ok(()) => {
                self.problems.clear(SUBJECT);
                Ok(())
            }
            Err(source) => {
                self.problems.set(
                    SUBJECT,
                    format!(
                        "what was applied cannot be written down, so a restart applies it again: {source}"
                    ),
                );
                Err(MemoryError { attempt, source })
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Log<String>> {
        lock(&self.log)
    }
}

impl Memory for MemoryStore {
    fn load(&self) -> Result<Vec<(String, Bytes)>, MemoryError> {
        let mut log = self.lock();
        let keys: Vec<String> = log.keys().cloned().collect();
        let mut all = Vec::with_capacity(keys.len());
        for key in keys {
            match log.get(&key) {
                Ok(Some(value)) => all.push((key, value)),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    tracing::warn!(key, "what was remembered is damaged and forgotten");
                }
                Err(source) => return Err(MemoryError { attempt: "read", source }),
            }
        }
        Ok(all)
    }

    fn store(&self, key: &str, value: Bytes) -> Result<(), MemoryError> {
        self.change(key, Some(&value), "write")
    }

    fn remove(&self, key: &str) -> Result<(), MemoryError> {
        if !self.lock().contains(&key.to_owned()) {
            return Ok(());
        }
        self.change(key, None, "remove")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_survives_and_what_cannot_be_written_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory");
        let problems = Problems::default();
        let memory = MemoryStore::open(&path, problems.clone());
        for round in 0..3_000_u32 {
            memory.store("root", Bytes::from(vec![round as u8; 1_000])).unwrap();
        }
        memory.store("gone", Bytes::from_static(b"x")).unwrap();
        memory.remove("gone").unwrap();
        memory.flush().unwrap();
        assert!(std::fs::metadata(&path).unwrap().len() < 300 << 10, "old values go");
        let memory = MemoryStore::open(&path, problems.clone());
        let last = Bytes::from(vec![2_999_u32 as u8; 1_000]);
        assert_eq!(memory.load().unwrap(), [("root".to_owned(), last)]);
        assert!(problems.all().is_empty());

        memory.lock().break_writes();
        assert!(memory.store("root", Bytes::from_static(b"y")).is_err());
        assert_eq!(problems.all().len(), 1);
    }
}
