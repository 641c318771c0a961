//! A repository's branch: its clone on disk, brought up to date, replaced when it is damaged.
//!
//! For the fleet the clone holds the whole history of the one branch, without tags: the commits that clusters still run
//! must stay readable, also after the clone was lost and made anew; and fleet repositories are text, where history is
//! small. What a forced push drops stays while it is kept ([`GitRepo::keep`]), else until the next new clone. Other sources
//! have their newest commit, and those that are kept.
//!
//! ```text
//! DIR/lock       held while the process lives
//! DIR/origin     which repository and branch the clone is of
//! DIR/clone-N    the clone in use; a new one is made beside it and takes its place once it is complete.
//!                The one before stays until the next change of place, for whoever still reads it; any one stays while
//!                it has a commit that is kept (refs/flotilla/keep) and that the one in use has not.
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use gix::ObjectId;
use gix::objs::CommitRef;

use super::ask::{self, Told};
use super::clone::LocalClone;
use super::error::{CommitError, FetchError, OpenError};
use super::files::{GitFiles, TreeCache};
use super::spec::{GitSpec, History, Reference};
use super::{connection, transport};
use crate::folder;

/// The id of a commit: 40 lower-case hexadecimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitId(String);

/// A text that is no id of a commit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a commit id; it has 40 hexadecimal digits")]
pub struct CommitIdError(String);

impl FromStr for CommitId {
    type Err = CommitIdError;

    fn from_str(text: &str) -> Result<Self, CommitIdError> {
        ObjectId::from_hex(text.as_bytes())
            .map(|id| Self(id.to_string()))
            .map_err(|_| CommitIdError(text.to_owned()))
    }
}

impl CommitId {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first eight digits, for people.
    pub fn short(&self) -> &str {
        &self.0[..8]
    }

    fn object(&self) -> ObjectId {
        ObjectId::from_hex(self.0.as_bytes()).expect("checked when it was made")
    }
}

impl From<ObjectId> for CommitId {
    fn from(id: ObjectId) -> Self {
        Self(id.to_string())
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What people want to know of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    pub id: CommitId,
    /// The author's name.
    pub author: String,
    /// The author's address of mail. Neither is proved by anything but who may push.
    pub email: String,
    /// The first line of the message.
    pub subject: String,
    /// When it was committed, by the committer's clock.
    pub time: jiff::Timestamp,
}

/// One branch of one repository, cloned into a folder of its own. Its methods block.
pub struct GitRepo {
    dir: PathBuf,
    spec: GitSpec,
    config: Vec<String>,
    trees: Arc<TreeCache>,
    clone: Option<LocalClone>,
    /// Others, by number, that have what is kept and the one in use has not.
    older: BTreeMap<u64, LocalClone>,
    number: u64,
    /// A commit that makes even a new clone too large: not to be tried again at each fetch.
    too_large: Option<ObjectId>,
    /// One request may tell that nothing changed: not where a server was found not to answer such.
    asks: bool,
    lock: File,
}

impl GitRepo {
    /// Takes `dir` (made if absent) for the clone and opens the one that is there, if it is of this repository and
    /// branch and whole. Does not talk to the repository.
    pub fn open(dir: impl Into<PathBuf>, spec: GitSpec) -> Result<Self, OpenError> {
        let dir = dir.into();
        let failed = |source: io::Error| OpenError::Folder { path: dir.clone(), source };
        fs::create_dir_all(&dir).map_err(failed)?;
        let lock = File::create(dir.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { path: dir }),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let config = connection::config(&spec.limits);
        let trees = Arc::<TreeCache>::default();
        let number = clones(&dir).map_err(failed)?.into_iter().max().unwrap_or(0);
        let mut repo = Self {
            dir,
            spec,
            config,
            trees,
            clone: None,
            older: BTreeMap::new(),
            number,
            too_large: None,
            asks: true,
            lock,
        };
        repo.clone = repo.usable_clone();
        let cleaned = repo.find_older().and_then(|()| repo.remove_others());
        cleaned.map_err(|source| OpenError::Folder { path: repo.dir.clone(), source })?;
        Ok(repo)
    }

    /// A clone that is not usable is no error: the next fetch makes one.
    fn usable_clone(&self) -> Option<LocalClone> {
        let dir = self.clone_dir(self.number);
        if fs::read_to_string(self.dir.join("origin")).ok()? != self.origin() {
            return None;
        }
        LocalClone::remove_leftovers(&dir).ok()?;
        let clone = LocalClone::open(&dir, &self.config, self.trees.clone()).ok()?;
        clone.check_packs().ok()?;
        self.describe(&clone, clone.tip()?).ok()?;
        Some(clone)
    }

    fn origin(&self) -> String {
        // A full history of a branch is what there was first: its form stays, so that such clones stay too.
        let (url, reference) = (&self.spec.url, &self.spec.reference);
        match (reference, self.spec.history) {
            (Reference::Branch(branch), History::Full) => format!("{url}\n{branch}\n"),
            (_, history) => format!("{url}\n{reference:?}\n{history:?}\n"),
        }
    }

    fn clone_dir(&self, number: u64) -> PathBuf {
        self.dir.join(format!("clone-{number}"))
    }

    /// Other clones that have what is kept.
    fn find_older(&mut self) -> io::Result<()> {
        // One that is damaged may still have what is kept.
        let is_other = |number: &u64| *number != self.number || self.clone.is_none();
        for number in clones(&self.dir)?.into_iter().filter(is_other) {
            // What cannot be opened has nothing to give.
            let dir = self.clone_dir(number);
            let Ok(clone) = LocalClone::open(&dir, &self.config, self.trees.clone()) else { continue };
            if self.is_needed(&clone)? {
                self.older.insert(number, clone);
            }
        }
        Ok(())
    }

    /// Whether a clone has a commit that is kept, and that the one in use has not.
    fn is_needed(&self, other: &LocalClone) -> io::Result<bool> {
        let lacks = |id: &ObjectId| !self.clone.as_ref().is_some_and(|clone| clone.has(id));
        Ok(other.kept()?.iter().any(|id| lacks(id) && other.has(id)))
    }

    fn remove_others(&self) -> io::Result<()> {
        let is_other = |number: &u64| *number != self.number && !self.older.contains_key(number);
        for number in clones(&self.dir)?.into_iter().filter(is_other) {
            fs::remove_dir_all(self.clone_dir(number))?;
        }
        folder::remove(&self.dir.join("new"))
    }

    /// Keeps these commits readable, whatever the branch does and however often the clone is made anew; others are not
    /// kept any longer.
    ///
    /// # Errors
    /// Where that cannot be noted.
    pub fn keep(&mut self, commits: &BTreeSet<CommitId>) -> Result<(), OpenError> {
        let wanted: BTreeSet<ObjectId> = commits.iter().map(CommitId::object).collect();
        let note = || -> io::Result<()> {
            for clone in self.clone.iter().chain(self.older.values()) {
                let here = wanted.iter().filter(|id| clone.has(id)).copied().collect();
                clone.keep(&here)?;
            }
            Ok(())
        };
        note().map_err(|source| OpenError::Folder { path: self.dir.clone(), source })?;
        let mut older = std::mem::take(&mut self.older);
        let failed = |source| OpenError::Folder { path: self.dir.clone(), source };
        let mut needed = BTreeMap::new();
        while let Some((number, clone)) = older.pop_last() {
            if self.is_needed(&clone).map_err(failed)? {
                needed.insert(number, clone);
            }
        }
        // The folders of the others go with the next change of place: somebody may still read there.
        self.older = needed;
        Ok(())
    }

    pub fn spec(&self) -> &GitSpec {
        &self.spec
    }

    /// Brings the clone up to date with the branch and returns its newest commit. No objects travel when nothing
    /// changed; a forced push is followed; a damaged clone is replaced. `cancel` is looked at while objects travel
    /// and between steps, so that it takes up to 30 s where a server is silent.
    ///
    /// On an error everything that was fetched before stays readable.
    pub fn fetch(&mut self, cancel: &AtomicBool) -> Result<Commit, FetchError> {
        if let Some(clone) =
            self.clone.as_ref().filter(|clone| !clone.is_damaged() && !clone.wants_compaction())
        {
            let told = if self.asks { ask::tip(&self.spec) } else { Told::Nothing };
            if let (Told::Tip(told), Some(known)) = (told, clone.tip())
                && told == known
                && let Ok(commit) = self.describe(clone, known)
            {
                return Ok(commit);
            }
            self.asks = told != Told::Unsuited && self.asks;
            match self.update(clone, cancel) {
                Ok((commit, clone)) => {
                    if clone.is_some() {
                        self.clone = clone;
                    }
                    return Ok(commit);
                }
                // What piled up or broke here is gone with a new clone; what is the repository's fault comes again.
                Err(FetchError::Corrupt { .. } | FetchError::TooLarge { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.clone_anew(cancel)
    }

    fn update(
        &self,
        clone: &LocalClone,
        cancel: &AtomicBool,
    ) -> Result<(Commit, Option<LocalClone>), FetchError> {
        let received = transport::receive(
            &clone.repository(),
            clone.dir(),
            &self.spec,
            &mut self.too_large.clone(),
            cancel,
        )?;
        let corrupt = |reason: String| FetchError::Corrupt { url: self.spec.url.to_string(), reason };
        if !received.changed {
            return Ok((self.describe(clone, received.tip).map_err(corrupt)?, None));
        }
        let clone = clone.reopened(&self.config).map_err(|error| corrupt(error.to_string()))?;
        let commit = self.describe(&clone, received.tip).map_err(corrupt)?;
        Ok((commit, Some(clone)))
    }

    fn clone_anew(&mut self, cancel: &AtomicBool) -> Result<Commit, FetchError> {
        let url = || self.spec.url.to_string();
        let new = self.dir.join("new");
        let disk = |reason: String| FetchError::Disk { url: url(), path: new.clone(), reason };
        folder::remove(&new).map_err(|e| disk(e.to_string()))?;
        let fresh =
            LocalClone::init(&new, &self.config, self.trees.clone()).map_err(|e| disk(e.to_string()))?;
        let received = transport::receive(&fresh.repository(), &new, &self.spec, &mut self.too_large, cancel);
        if received.is_err() {
            // What is left is removed before the next attempt as well.
            fs::remove_dir_all(&new).ok();
        }
        let received = received?;
        drop(fresh);
        let place = self.clone_dir(self.number + 1);
        let take_place = || -> io::Result<()> {
            let is_old = |number: &u64| *number != self.number && !self.older.contains_key(number);
            for number in clones(&self.dir)?.into_iter().filter(is_old) {
                fs::remove_dir_all(self.clone_dir(number))?;
            }
            fs::write(self.dir.join("origin"), self.origin())?;
            fs::rename(&new, &place)
        };
        take_place().map_err(|e| disk(e.to_string()))?;
        let corrupt = |reason: String| FetchError::Corrupt { url: self.spec.url.to_string(), reason };
        let clone = LocalClone::open(&place, &self.config, self.trees.clone())
            .map_err(|error| corrupt(error.to_string()))?;
        let commit = self.describe(&clone, received.tip).map_err(corrupt)?;
        let before = self.clone.replace(clone);
        if let Some(before) = before {
            self.carry_over(&before).map_err(|e| disk(e.to_string()))?;
            if self.is_needed(&before).map_err(|e| disk(e.to_string()))? {
                self.older.insert(self.number, before);
            }
        }
        self.number += 1;
        Ok(commit)
    }

    /// What is kept in the clone before is kept in the new one, where that has it.
    fn carry_over(&self, before: &LocalClone) -> io::Result<()> {
        let Some(clone) = &self.clone else { return Ok(()) };
        let kept = before.kept()?.into_iter().filter(|id| clone.has(id)).collect();
        clone.keep(&kept)
    }

    /// The newest commit that was fetched, before a restart too; `None` where nothing was yet.
    pub fn newest(&self) -> Option<Commit> {
        let clone = self.clone.as_ref()?;
        self.describe(clone, clone.tip()?).ok()
    }

    /// A commit that is in the clone.
    pub fn commit(&self, id: &CommitId) -> Result<Commit, CommitError> {
        self.read(id).map(|(commit, _)| commit)
    }

    /// The files of a commit that is in the clone.
    pub fn tree(&self, id: &CommitId) -> Result<GitFiles, CommitError> {
        self.read(id).map(|(_, files)| files)
    }

    fn read(&self, id: &CommitId) -> Result<(Commit, GitFiles), CommitError> {
        let unreadable = |reason: String| CommitError::Unreadable {
            url: self.spec.url.to_string(),
            id: id.clone(),
            reason,
        };
        let not_fetched = || CommitError::NotFetched { url: self.spec.url.to_string(), id: id.clone() };
        let newest = self.clone.as_ref().ok_or_else(not_fetched)?;
        let object = id.object();
        let older = || self.older.values().rev().find(|clone| clone.has(&object));
        let clone = if newest.has(&object) { newest } else { older().unwrap_or(newest) };
        let content = clone.objects().commit(&object).map_err(unreadable)?.ok_or_else(not_fetched)?;
        let (commit, root) = parse_commit(id.object(), &content).map_err(unreadable)?;
        clone.objects().check_tree(&root).map_err(unreadable)?;
        Ok((commit, GitFiles::new(clone.objects().clone(), root, self.spec.limits.file_bytes)))
    }

    fn describe(&self, clone: &LocalClone, id: ObjectId) -> Result<Commit, String> {
        let id = clone.objects().peel(id)?;
        let content = clone.objects().commit(&id)?.ok_or_else(|| format!("commit {id} is missing"))?;
        let (commit, root) = parse_commit(id, &content)?;
        clone.objects().check_tree(&root)?;
        Ok(commit)
    }
}

impl Drop for GitRepo {
    fn drop(&mut self) {
        // A child between fork and exec holds a copy of the file, which would keep the lock beyond this.
        self.lock.unlock().ok();
    }
}

pub(super) fn parse_commit(id: ObjectId, content: &[u8]) -> Result<(Commit, ObjectId), String> {
    let unreadable = |error: gix::Error| format!("commit {id} cannot be parsed: {error}");
    let parsed = CommitRef::from_bytes(content, id.kind()).map_err(unreadable)?;
    let (author, email) =
        parsed.author().map(|author| (author.name.to_string(), author.email.to_string())).unwrap_or_default();
    let subject = parsed.message.to_string().lines().next().unwrap_or_default().trim().to_owned();
    // Times come from anybody's clock: one that cannot be is shown as the epoch and decides nothing.
    let seconds = parsed.time().map(|time| time.seconds).unwrap_or_default();
    let time = jiff::Timestamp::from_second(seconds).unwrap_or_default();
    Ok((Commit { id: CommitId(id.to_string()), author, email, subject, time }, parsed.tree()))
}

fn clones(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.strip_prefix("clone-")?.parse::<u64>().ok()));
    }
    Ok(numbers)
}
