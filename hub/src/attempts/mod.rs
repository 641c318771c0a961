//! What the hub works on, marked on disk, so that an input that it dies over does not kill it at each start.
//!
//! ```text
//!   begin ──► mark: attempts/mark-N ──► work ──► mark taken back ──► an orderly end removes all marks
//!                     │ the process dies
//!                     ▼ the next one finds it
//!                 suspected: worked on once more, with everything else waiting ──► done: no suspicion
//!                     │ the process dies
//!                     ▼ the next one finds it
//!                 set aside, until something that was seen of it changes, the hub is another version, or a person asks
//! ```
//!
//! A stack that overflows cannot be caught, nor can memory that is refused. Nobody tells a process what ended the one
//! before it, so a kill from outside, a power cut or a machine without memory leave marks too: those are only
//! suspicions, and each ends with the first attempt that is survived.
//!
//! Marks are written without a sync: what dies is the process, not the machine. They protect from inputs, so where one cannot
//! be written or read, the hub goes on without.

mod gate;
mod judge;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use flotilla_core::{ClusterName, Digest, UnitId};
use flotilla_render::Attempts as _;
use flotilla_render::attempts::{Attempt, Input, Seen};
use flotilla_runtime::chain;
use flotilla_runtime::files::{self, FileError};
use flotilla_runtime::lock;

use gate::{Gate, Pass};
use judge::{Inputs, Left, Mark, SetAside, judge};

/// The folder in the hub's data.
pub const FOLDER: &str = "attempts";
const STATE: &str = "inputs.json";
const MARK: &str = "mark-";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What is read of a mark. What was seen beyond it is left out: then fewer changes end the setting aside.
const MARK_BYTES: u64 = 4 << 20;

/// A cluster, if it is of one, and what was to be worked on.
type ForWhom = (Option<String>, String);

/// All that is worked on.
pub struct Attempts {
    folder: PathBuf,
    known: Mutex<Inputs>,
    /// Nothing is suspected or set aside.
    is_quiet: AtomicBool,
    gate: Gate,
    marks: Mutex<Marks>,
    /// What was not worked on, by whom it was for.
    refused: Mutex<BTreeMap<ForWhom, BTreeSet<Digest>>>,
}

impl fmt::Debug for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempts").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// The files of marks.
#[derive(Default)]
struct Marks {
    free: Vec<Arc<File>>,
    made: usize,
    is_closed: bool,
    has_failed: bool,
}

impl Attempts {
    /// Takes what the process before left in a hub's data folder. Blocking.
    ///
    /// # Errors
    /// Where the folder cannot be used.
    pub fn open(data: &Path) -> Result<Arc<Self>, FileError> {
        let folder = data.join(FOLDER);
        files::private_folder(&folder)?;
        let known = match files::read_if_there(&folder.join(STATE))? {
            Some(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                tracing::warn!("what is known of inputs that the hub died over cannot be read: {error}");
                Inputs::default()
            }),
            None => Inputs::default(),
        };
        let mut left = Vec::new();
        let mut paths = Vec::new();
        for path in files::list(&folder)? {
            if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(MARK)) {
                continue;
            }
            left.extend(read_mark(&files::read(&path)?));
            paths.push(path);
        }
        let judged = judge(known.clone(), left, VERSION);
        if judged != known {
            write_state(&folder, &judged)?;
        }
        paths.iter().try_for_each(|path| files::remove(path))?;
        for mark in &judged.suspects {
            tracing::warn!(
                what = mark.what,
                cluster = mark.cluster.as_deref(),
                commit = mark.commit,
                "the hub before this one died while it worked on this; it is worked on with nothing beside it once"
            );
        }
        for SetAside { mark, .. } in &judged.set_aside {
            let (what, cluster) = (&mark.what, mark.cluster.as_deref());
            tracing::error!(what, cluster, commit = mark.commit, "set aside: the hub died over it twice");
        }
        Ok(Arc::new(Self {
            folder,
            is_quiet: AtomicBool::new(judged == Inputs::default()),
            known: Mutex::new(judged),
            gate: Gate::default(),
            marks: Mutex::default(),
            refused: Mutex::default(),
        }))
    }

    /// The process ends in order: what is still under way did not end it.
    pub fn close(&self) {
        let mut marks = locked(&self.marks);
        marks.is_closed = true;
        for n in 0..marks.made {
            if let Err(error) = files::remove(&self.mark(n)) {
                tracing::warn!("{}", chain(&error));
            }
        }
    }

    /// Works once more on what is set aside: of a unit, of a cluster, or the definitions of all clusters. True where there
    /// was something.
    ///
    /// # Errors
    /// Where that cannot be noted.
    pub fn retry(&self, cluster: Option<&ClusterName>, unit: Option<&UnitId>) -> Result<bool, FileError> {
        let (cluster, unit) = (cluster.map(ToString::to_string), unit.map(ToString::to_string));
        let is_meant = |of: &Option<String>, what: &String| {
            *of == cluster && unit.as_ref().is_none_or(|unit| unit == what)
        };
        let mut keys = BTreeSet::new();
        locked(&self.refused).retain(|(of, what), refused| {
            let is_meant = is_meant(of, what);
            keys.extend(refused.iter().filter(|_| is_meant).copied());
            !is_meant
        });
        if keys.is_empty() {
            return Ok(false);
        }
        self.change(|known| {
            let again = |aside: &SetAside| keys.contains(&aside.mark.key);
            let marks = known.set_aside.iter().filter(|aside| again(aside)).map(|aside| aside.mark.clone());
            known.suspects.extend(marks);
            known.set_aside.retain(|aside| !again(aside));
        })?;
        Ok(true)
    }

    /// For the render of one cluster at a commit, or (`None`) for what is not of one cluster.
    pub(crate) fn of(&self, cluster: Option<&ClusterName>, commit: &str) -> Doing<'_> {
        Doing {
            attempts: self,
            cluster: cluster.map(ToString::to_string),
            commit: commit.to_owned(),
            now: Mutex::new(Now { file: self.file(), ..Now::default() }),
        }
    }

    /// Decodes what a source sent.
    ///
    /// # Errors
    /// Why it is set aside: nothing is done with it.
    pub(crate) fn decode(&self, source: &str, content: Digest, work: &mut dyn FnMut()) -> Result<(), String> {
        let doing = self.of(None, &content.short());
        let key = Digest::of_parts([b"received", &content.as_bytes()[..]]);
        let _attempt = doing.begin(&Input { what: source.to_owned(), key, is_same: &|_| true })?;
        work();
        Ok(())
    }

    fn mark(&self, n: usize) -> PathBuf {
        self.folder.join(format!("{MARK}{n}"))
    }

    fn file(&self) -> Option<Arc<File>> {
        let mut marks = locked(&self.marks);
        if marks.is_closed {
            return None;
        }
        if let Some(file) = marks.free.pop() {
            return Some(file);
        }
        let mut options = OpenOptions::new();
        let made =
            options.write(true).create(true).truncate(true).mode(files::PRIVATE).open(self.mark(marks.made));
        match made {
            Ok(file) => {
                marks.made += 1;
                Some(Arc::new(file))
            }
            Err(error) => {
                failed(&mut marks, &error);
                None
            }
        }
    }

    /// Why an input is not worked on.
    fn refusal(&self, cluster: Option<&String>, input: &Input<'_>) -> Option<String> {
        if self.is_quiet.load(Ordering::Relaxed) {
            return None;
        }
        let known = locked(&self.known);
        let of_input = known.set_aside.iter().rev().filter(|aside| aside.mark.key == input.key).cloned();
        let of_input: Vec<SetAside> = of_input.collect();
        drop(known);
        let aside = of_input.iter().find(|aside| aside.seen.iter().all(input.is_same))?;
        let again = match cluster {
            None => "flotilla reconcile".to_owned(),
            Some(cluster) if input.what.parse::<UnitId>().is_ok() => {
                format!("flotilla reconcile {cluster} {}", input.what)
            }
            Some(cluster) => format!("flotilla reconcile {cluster}"),
        };
        let for_whom = (cluster.cloned(), input.what.clone());
        locked(&self.refused).entry(for_whom).or_default().insert(input.key);
        Some(format!(
            "set aside: the hub died twice while it worked on this, the last time at revision {}; what runs is kept until \
             something that was read for it changes, or whoever operates the fleet asks for another attempt by `{again}`",
            aside.mark.commit
        ))
    }

    fn is_suspect(&self, key: Digest) -> bool {
        !self.is_quiet.load(Ordering::Relaxed)
            && locked(&self.known).suspects.iter().any(|mark| mark.key == key)
    }

    fn change(&self, change: impl FnOnce(&mut Inputs)) -> Result<(), FileError> {
        let mut known = locked(&self.known);
        change(&mut known);
        self.is_quiet.store(*known == Inputs::default(), Ordering::Relaxed);
        write_state(&self.folder, &known)
    }
}

/// Work for one render, or one search for clusters: one input at a time, each within the one before.
pub(crate) struct Doing<'a> {
    attempts: &'a Attempts,
    cluster: Option<String>,
    commit: String,
    now: Mutex<Now<'a>>,
}

#[derive(Default)]
struct Now<'a> {
    /// The outermost first; the last is marked.
    marks: Vec<Mark>,
    pass: Option<Pass<'a>>,
    /// The mark that stands in the file says that nothing else is worked on.
    stands_alone: bool,
    /// `None` where no mark can be written.
    file: Option<Arc<File>>,
    /// What was seen since the mark was written, where that is noted.
    seen: BTreeSet<Vec<u8>>,
    /// Where the next of it is written.
    end: u64,
}

/// One input.
struct Step<'a, 'd> {
    doing: &'a Doing<'d>,
    key: Digest,
    alone: bool,
}

impl Doing<'_> {
    /// The whole of what is done, as far as it is not of one input in particular.
    ///
    /// # Errors
    /// Why it is set aside.
    pub(crate) fn whole(&self, tree: Digest) -> Result<Box<dyn Attempt + '_>, String> {
        let cluster = self.cluster.as_deref().unwrap_or_default();
        let key = Digest::of_parts([b"whole", cluster.as_bytes(), tree.as_bytes()]);
        self.begin(&Input { what: "the cluster as a whole".to_owned(), key, is_same: &|_| true })
    }

    /// Waits for something: nothing is worked on meanwhile.
    pub(crate) fn pausing<T>(&self, wait: impl FnOnce() -> T) -> T {
        {
            let mut now = locked(&self.now);
            now.write(&self.attempts.marks, b"\n", false);
            now.pass = None;
        }
        let done = wait();
        self.resume(&mut locked(&self.now));
        done
    }
}

impl<'a> Doing<'a> {
    /// Goes on with the last of the marks, if there is one.
    fn resume(&self, now: &mut Now<'a>) {
        if now.stands_alone {
            // Another may be alone as soon as this one is not: of two such marks one would be wrong.
            now.write(&self.attempts.marks, b"\n", false);
        }
        now.pass = None;
        let Some(mark) = now.marks.last() else {
            now.write(&self.attempts.marks, b"\n", false);
            return;
        };
        let (alone, mut text) = (mark.alone, serde_json::to_vec(mark).expect("a mark has a JSON text"));
        text.push(b'\n');
        now.pass = self.attempts.gate.try_enter(alone);
        if now.pass.is_none() {
            // What waits did not end the process.
            now.write(&self.attempts.marks, b"\n", false);
            now.pass = Some(self.attempts.gate.enter(alone));
        }
        now.write(&self.attempts.marks, &text, alone);
    }
}

impl flotilla_render::Attempts for Doing<'_> {
    fn begin<'b>(&'b self, input: &Input<'_>) -> Result<Box<dyn Attempt + 'b>, String> {
        if let Some(reason) = self.attempts.refusal(self.cluster.as_ref(), input) {
            return Err(reason);
        }
        let alone = self.attempts.is_suspect(input.key);
        let mark = Mark {
            version: VERSION.to_owned(),
            what: input.what.clone(),
            key: input.key,
            cluster: self.cluster.clone(),
            commit: self.commit.clone(),
            alone,
        };
        let mut now = locked(&self.now);
        now.marks.push(mark);
        self.resume(&mut now);
        Ok(Box::new(Step { doing: self, key: input.key, alone }))
    }
}

impl Attempt for Step<'_, '_> {
    fn saw(&self, seen: Seen) {
        if !self.alone {
            return;
        }
        let mut line = serde_json::to_vec(&seen).expect("what was seen has a JSON text");
        line.push(b'\n');
        let mut now = locked(&self.doing.now);
        if now.end + line.len() as u64 <= MARK_BYTES && now.seen.insert(line.clone()) {
            now.append(&self.doing.attempts.marks, &line);
        }
    }
}

impl Drop for Step<'_, '_> {
    fn drop(&mut self) {
        let mut now = locked(&self.doing.now);
        now.marks.pop();
        if self.alone {
            // It was survived.
            let survived =
                self.doing.attempts.change(|known| known.suspects.retain(|mark| mark.key != self.key));
            if let Err(error) = survived {
                tracing::warn!("{}", chain(&error));
            }
        }
        self.doing.resume(&mut now);
    }
}

impl Drop for Doing<'_> {
    fn drop(&mut self) {
        let mut now = locked(&self.now);
        now.write(&self.attempts.marks, b"\n", false);
        now.pass = None;
        let mut marks = locked(&self.attempts.marks);
        marks.free.extend(now.file.take());
    }
}

impl Now<'_> {
    /// Writes a line in the place of what stands in the file. What is behind it is not read unless more is to be noted.
    fn write(&mut self, marks: &Mutex<Marks>, line: &[u8], alone: bool) {
        self.seen.clear();
        self.end = 0;
        self.stands_alone = alone;
        if alone {
            self.put(marks, |file, _| file.set_len(0));
        }
        self.append(marks, line);
    }

    fn append(&mut self, marks: &Mutex<Marks>, line: &[u8]) {
        self.put(marks, |file, end| file.write_all_at(line, end));
        self.end += line.len() as u64;
    }

    fn put(&self, marks: &Mutex<Marks>, write: impl FnOnce(&File, u64) -> io::Result<()>) {
        if let Some(file) = &self.file
            && let Err(error) = write(file, self.end)
        {
            failed(&mut locked(marks), &error);
        }
    }
}

/// Says once that marks cannot be written.
fn failed(marks: &mut Marks, error: &io::Error) {
    if !std::mem::replace(&mut marks.has_failed, true) {
        tracing::warn!(
            "cannot mark what is worked on ({error}): an input that ends the hub will not be known as that"
        );
    }
}

/// What a file of marks says, if a process left something in it.
fn read_mark(text: &[u8]) -> Option<Left> {
    let text = &text[..text.len().min(MARK_BYTES as usize)];
    let mut lines = text.split(|byte| *byte == b'\n');
    let mark: Mark = serde_json::from_slice(lines.next().filter(|line| !line.is_empty())?)
        .inspect_err(|error| tracing::warn!("a mark of what the hub worked on cannot be read: {error}"))
        .ok()?;
    // The last line may be cut off.
    let seen = lines.filter(|_| mark.alone).map_while(|line| serde_json::from_slice(line).ok());
    let seen = seen.collect();
    Some(Left { mark, seen })
}

fn write_state(folder: &Path, known: &Inputs) -> Result<(), FileError> {
    let text = serde_json::to_vec(known).expect("what is known of inputs has a JSON text");
    files::write_atomic(&folder.join(STATE), &text, files::PRIVATE)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    lock(mutex)
}
