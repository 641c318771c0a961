//! What the agent keeps on disk, in one folder of its own (0700).
//!
//! ```text
//! STATE/key.pem sealing.key   its keys                      STATE/desired  what should run
//!      /enrolment.json heard  what the hub gave and when    STATE/bodies   the objects' contents, sealed by bodies.key
//!      /removed               everything was removed        STATE/memory   what was applied
//! ```
//!
//! A file that cannot be used says nothing about what should run: it is set aside, told, and asked for anew.
//! A disk that takes nothing leaves the agent working from memory, and told.

mod bodies;
mod desired;
mod identity;
mod log;
mod memory;
mod removal;
mod seal;

pub use bodies::{BodyStore, NoRoom};
pub use identity::{Enrolment, IdentityError, IdentityFiles};
pub use memory::MemoryStore;
pub use removal::{Ending, RemovalError};

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flotilla_core::{ClusterName, DesiredState, Digest};
use flotilla_runtime::chain;
use flotilla_runtime::files::{self, FileError};

use crate::problems::Problems;

const SUBJECT: &str = "desired";

/// A state folder that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("cannot open the state folder {}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("the state folder {} is in use by another agent", .0.display())]
    InUse(PathBuf),
    #[error(transparent)]
    File(#[from] FileError),
}

/// The agent's folder. One process at a time has it.
pub struct Disk {
    pub identity: IdentityFiles,
    pub bodies: Arc<BodyStore>,
    pub memory: Arc<MemoryStore>,
    desired: desired::DesiredFile,
    removed: PathBuf,
    problems: Problems,
    /// Held for the lock on it.
    _folder: File,
}

impl Disk {
    /// Opens the folder, or makes it. Blocking.
    pub fn open(folder: &Path, problems: Problems) -> Result<Self, DiskError> {
        if let Err(error) = files::private_folder(folder) {
            // One that is there and takes no writes serves to read.
            if !folder.is_dir() {
                return Err(error.into());
            }
            problems.set("state folder", chain(&error));
        }
        let handle =
            File::open(folder).map_err(|source| DiskError::Open { path: folder.to_owned(), source })?;
        match handle.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DiskError::InUse(folder.to_owned())),
            // Some file systems have no locks.
            Err(TryLockError::Error(error)) => tracing::warn!("cannot lock {}: {error}", folder.display()),
        }
        Ok(Self {
            identity: IdentityFiles::new(folder.to_owned()),
            bodies: Arc::new(BodyStore::open(&folder.join("bodies"), problems.clone())),
            memory: Arc::new(MemoryStore::open(&folder.join("memory"), problems.clone())),
            desired: desired::DesiredFile::new(folder.join("desired")),
            removed: folder.join("removed"),
            problems,
            _folder: handle,
        })
    }

    /// What should run, if that is known. Blocking.
    pub fn desired(&self) -> Option<DesiredState> {
        let (state, problem) = self.desired.load();
        if let Some(problem) = problem {
            self.problems.set(SUBJECT, problem);
        }
        state
    }

    /// Makes a state and the bodies that it names durable. Blocking. Whatever fails is told; the agent goes on
    /// from memory, and after a restart from the last state that was written.
    pub fn save(&self, state: &DesiredState) -> Result<(), SaveError> {
        let saved = self
            .bodies
            .flush()
            .map_err(SaveError::Bodies)
            .and_then(|()| self.desired.save(state).map_err(SaveError::State));
        match &saved {
            Ok(()) => self.problems.clear(SUBJECT),
            Err(error) => self.problems.set(
                SUBJECT,
                format!(
                    "the desired state cannot be written, so a restart goes back to the last one: {}",
                    chain(error)
                ),
            ),
        }
        saved
    }

    /// Forgets what should run, as everything is to be removed from the cluster; that outlives a restart, so that
    /// nothing is applied again. Blocking.
    pub fn forget_desired(&self, cluster: &ClusterName) -> Result<(), FileError> {
        removal::write(&self.removed, Ending::Removal, cluster)?;
        self.desired.remove()
    }

    /// Notes that the cluster was deleted at the hub; that outlives a restart. What it ran stays on the disk, for an agent
    /// that joins anew. Blocking.
    pub fn note_deletion(&self, cluster: &ClusterName) -> Result<(), FileError> {
        removal::write(&self.removed, Ending::Deletion, cluster)
    }

    /// Why the agent's work in the cluster is over, if it is. Blocking.
    ///
    /// # Errors
    /// If that cannot be told: then nothing is deleted, and nothing applied.
    pub fn ending(&self, cluster: &ClusterName) -> Result<Option<Ending>, RemovalError> {
        removal::read(&self.removed, cluster)
    }

    /// The agent joined anew, so it is to run again what the hub says. Blocking.
    pub fn take_up_again(&self) -> Result<(), FileError> {
        files::remove(&self.removed)
    }

    /// Gives back the room of bodies that are not kept. Blocking.
    pub fn collect(&self, keep: impl Fn(&Digest) -> bool) {
        if let Err(error) = self.bodies.collect(keep) {
            tracing::warn!("cannot compact the bodies: {error}");
        }
    }
}

/// A state that could not be made durable.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    #[error("cannot write the bodies")]
    Bodies(#[source] io::Error),
    #[error(transparent)]
    State(FileError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::testing::{bodies, state};
    use crate::sync::Bodies;

    #[test]
    fn a_folder_has_one_owner_and_a_state_survives_with_its_bodies() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/state");
        let disk = Disk::open(&path, Problems::default()).unwrap();
        assert!(matches!(Disk::open(&path, Problems::default()), Err(DiskError::InUse(_))));
        let state = state(3, &[("root", &["a", "b"])]);
        for (digest, body) in bodies(&state) {
            disk.bodies.put(digest, &body).unwrap();
        }
        disk.save(&state).unwrap();
        drop(disk);
        let disk = Disk::open(&path, Problems::default()).unwrap();
        assert_eq!(disk.desired(), Some(state.clone()));
        for (digest, body) in bodies(&state) {
            assert_eq!(disk.bodies.body(digest).unwrap(), body);
        }
        let cluster = &state.cluster;
        assert_eq!(disk.ending(cluster).unwrap(), None);
        disk.forget_desired(cluster).unwrap();
        drop(disk);
        let disk = Disk::open(&path, Problems::default()).unwrap();
        assert_eq!((disk.desired(), disk.ending(cluster).unwrap()), (None, Some(Ending::Removal)));
        disk.take_up_again().unwrap();
        assert_eq!(disk.ending(cluster).unwrap(), None);
    }

    #[test]
    fn a_disk_that_went_away_is_told_and_the_last_state_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let problems = Problems::default();
        let disk = Disk::open(&path, problems.clone()).unwrap();
        let old = state(1, &[("root", &["a"])]);
        disk.save(&old).unwrap();
        let away = folder.path().join("away");
        std::fs::rename(&path, &away).unwrap();
        let new = state(2, &[("root", &["b"])]);
        assert!(disk.save(&new).is_err());
        assert!(problems.all()[0].contains("a restart goes back to the last one"), "{:?}", problems.all());
        std::fs::rename(&away, &path).unwrap();
        assert_eq!(disk.desired(), Some(old));
        disk.save(&new).unwrap();
        assert_eq!((disk.desired(), problems.all()), (Some(new), Vec::new()));
    }

    /// Files as agents of format 1 wrote them, which every later one is to read. They are never written anew.
    #[test]
    fn a_state_of_format_1_is_read_for_good() {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in [
            ("desired", &include_bytes!("format-1/desired")[..]),
            ("bodies", include_bytes!("format-1/bodies")),
            ("memory", include_bytes!("format-1/memory")),
        ] {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        let problems = Problems::default();
        let disk = Disk::open(folder.path(), problems.clone()).unwrap();
        let state = disk.desired().unwrap();
        assert_eq!(
            (state.cluster.as_str(), state.generation.0, state.snapshot.as_str()),
            ("staging", 7, "c0ffee")
        );
        let units: Vec<String> = state.units().keys().map(ToString::to_string).collect();
        assert_eq!(units, ["root", "kustomization/x/held", "kustomization/x/y"]);
        let names = state.all_present().flat_map(|unit| &unit.objects);
        let names: Vec<&str> = names.map(|entry| entry.object.id.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        for entry in state.all_present().flat_map(|unit| &unit.objects) {
            assert_eq!(Digest::of(&disk.bodies.body(entry.digest).unwrap()), entry.digest);
        }
        let memory = crate::sync::Memory::load(&*disk.memory).unwrap();
        assert_eq!(memory, [("root".to_owned(), bytes::Bytes::from_static(b"what was applied"))]);
        assert_eq!(problems.all(), Vec::<String>::new());
    }
}
