//! A fleet repo and its files that do what a test says (fail, panic, hang), and a fleet loop over them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flotilla_kustomize::files::{Entry, Files, MemoryFiles, ReadError, TreePath};
use flotilla_render::helm::{Limits, Program};
use flotilla_source::{Commit, CommitError, CommitId, FetchError, OpenError};

use super::{FleetConfig, FleetRepo, Patience, Releases, Worker};
use crate::attempts::Attempts;
use crate::desired::Board;
use crate::metrics::Metrics;
use crate::sources::{Library, SourceSettings, Vault};
use crate::store::faulty::FaultyStore;
use crate::store::{AuditRecord, ClusterRecord, MemoryStore, Records};

/// What goes wrong where a file or folder is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Fails,
    Panics,
    /// The process ends where what stands there is read.
    Aborts,
    /// Until it is healed.
    Hangs,
}

/// Faults by the beginning of a path.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults(Arc<Mutex<BTreeMap<String, Fault>>>);

impl Faults {
    pub(crate) fn set(&self, path: &str, fault: Fault) {
        self.0.lock().unwrap().insert(path.to_owned(), fault);
    }

    pub(crate) fn heal(&self) {
        self.0.lock().unwrap().clear();
    }

    fn at(&self, path: &TreePath, is_read: bool) -> Result<(), ReadError> {
        let find = || {
            let faults = self.0.lock().unwrap();
            faults
                .iter()
                .find(|(begin, _)| path.as_str().starts_with(begin.as_str()))
                .map(|(_, fault)| *fault)
        };
        while let Some(fault) = find() {
            match fault {
                Fault::Fails => {
                    return Err(ReadError { path: path.clone(), reason: "the disk failed".to_owned() });
                }
                Fault::Panics => panic!("over {path}"),
                Fault::Aborts if is_read => std::process::abort(),
                Fault::Aborts => return Ok(()),
                Fault::Hangs => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        Ok(())
    }
}

struct FaultyFiles(MemoryFiles, Faults);

impl Files for FaultyFiles {
    fn entry(&self, path: &TreePath) -> Result<Option<Entry>, ReadError> {
        self.1.at(path, false)?;
        self.0.entry(path)
    }

    fn read(&self, path: &TreePath) -> Result<Arc<[u8]>, ReadError> {
        self.1.at(path, true)?;
        self.0.read(path)
    }

    fn list(&self, folder: &TreePath) -> Result<Vec<(String, Entry)>, ReadError> {
        self.1.at(folder, true)?;
        self.0.list(folder)
    }
}

pub(crate) type Tree = BTreeMap<String, String>;

/// Commits one after the other.
#[derive(Clone, Default)]
pub(crate) struct FakeRepo {
    commits: Arc<Mutex<Vec<Tree>>>,
    /// The commits that the hub keeps.
    pub(crate) kept: Arc<Mutex<BTreeSet<usize>>>,
    pub(crate) files: Faults,
    /// At "fetch": of a fetch; at "tree": of looking into a commit.
    pub(crate) git: Faults,
}

impl FakeRepo {
    pub(crate) fn commit(&self, files: &[(&str, &str)]) {
        self.commit_tree(files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect());
    }

    pub(crate) fn commit_tree(&self, tree: Tree) {
        self.commits.lock().unwrap().push(tree);
    }

    fn commit_at(n: usize) -> Commit {
        Commit {
            id: format!("{n:040x}").parse().unwrap(),
            author: "t".to_owned(),
            email: "t@example.org".to_owned(),
            subject: format!("commit {n}"),
            time: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    fn fault(&self, what: &str) -> bool {
        self.git.at(&TreePath::from_root(what).unwrap(), true).is_err()
    }
}

impl FleetRepo for FakeRepo {
    fn names(&self) -> (String, String) {
        ("https://example.com/fleet".to_owned(), "main".to_owned())
    }

    fn fetch(&mut self, _: &AtomicBool) -> Result<Commit, FetchError> {
        let (url, reason) = (self.names().0, "the network failed".to_owned());
        let newest = self.commits.lock().unwrap().len().checked_sub(1);
        let newest = newest.filter(|_| !self.fault("fetch"));
        newest.map(Self::commit_at).ok_or(FetchError::Unreachable { url, reason })
    }

    fn newest(&self) -> Option<Commit> {
        self.commits.lock().unwrap().len().checked_sub(1).map(Self::commit_at)
    }

    fn tree(&self, id: &CommitId) -> Result<Arc<dyn Files>, CommitError> {
        let not_fetched = || CommitError::NotFetched { url: self.names().0, id: id.clone() };
        if self.fault("tree") {
            return Err(not_fetched());
        }
        let n = usize::from_str_radix(id.as_str(), 16).unwrap();
        let commits = self.commits.lock().unwrap();
        let files = MemoryFiles::new(commits.get(n).ok_or_else(not_fetched)?);
        Ok(Arc::new(FaultyFiles(files, self.files.clone())))
    }

    fn keep(&mut self, commits: &BTreeSet<CommitId>) -> Result<(), OpenError> {
        let of = |id: &CommitId| usize::from_str_radix(id.as_str(), 16).unwrap();
        *self.kept.lock().unwrap() = commits.iter().map(of).collect();
        Ok(())
    }
}

/// A hub's fleet loop over them.
pub(crate) struct FakeHub {
    folder: tempfile::TempDir,
    /// Where it marks what it works on.
    pub(crate) data: PathBuf,
    pub(crate) repo: FakeRepo,
    pub(crate) store: Arc<FaultyStore>,
    pub(crate) records: Arc<Records>,
    pub(crate) board: Arc<Board>,
    pub(crate) patience: Patience,
    pub(crate) metrics: Metrics,
}

impl FakeHub {
    pub(crate) fn new(repo: FakeRepo) -> Self {
        let store = Arc::new(FaultyStore::new(MemoryStore::default(), 1));
        let records = Arc::new(Records::open(store.clone()).unwrap());
        let (folder, board) = (tempfile::tempdir().unwrap(), Arc::new(Board::new()));
        let (patience, metrics) = (Patience::default(), Metrics::default());
        Self { data: folder.path().to_owned(), folder, repo, store, records, board, patience, metrics }
    }

    pub(crate) fn enrol(&self, cluster: &str) {
        let audit = AuditRecord::new(1, "test", "enrol", cluster);
        let cluster = cluster.parse().unwrap();
        assert!(self.records.adopt_cluster(&cluster, &ClusterRecord::default(), &audit).unwrap());
    }

    /// The hub is started again: its memory is gone.
    pub(crate) fn restart(&mut self) -> Worker {
        self.board = Arc::new(Board::new());
        self.worker()
    }

    pub(crate) fn worker(&self) -> Worker {
        let helm = Program::new("helm", Limits::default());
        let vault = {
            // The vault's own records are not what fails here.
            let records = Arc::new(Records::open(Arc::new(MemoryStore::default())).unwrap());
            Arc::new(Vault::open(self.folder.path(), records).unwrap())
        };
        let releases = Arc::new(Releases::open(self.folder.path(), Box::new(helm), vault.clone()).unwrap());
        let sources =
            Library::new(self.folder.path().join("sources"), SourceSettings::default(), Some(vault));
        let config = FleetConfig {
            path: TreePath::root(),
            clusters: TreePath::from_root("clusters").unwrap(),
            poll_interval: Duration::from_secs(60),
            patience: self.patience,
            budget: flotilla_render::Budget::default(),
            strict: true,
            change_policy: flotilla_core::change::Policy::default(),
            attempts: Attempts::open(&self.data).unwrap(),
        };
        let (board, ledger) = (self.board.clone(), self.records.clone());
        let metrics = self.metrics.clone();
        Worker::new(config, self.repo.clone(), releases, Arc::new(sources), board, ledger, metrics)
    }

    /// The units of a cluster's published state.
    pub(crate) fn shown(&self, cluster: &str) -> String {
        use flotilla_core::UnitEntry;
        let Some(published) = self.board.current(&cluster.parse().unwrap()) else {
            return "nothing".to_owned();
        };
        let units = published.state.units().iter().map(|(id, entry)| {
            let name = if id.name.is_empty() { "root" } else { &id.name };
            match entry {
                UnitEntry::Present(unit) => format!("{name} {}", unit.objects.len()),
                UnitEntry::Hold(_) => format!("{name} held"),
                UnitEntry::Removed(_) => format!("{name} removed"),
            }
        });
        units.collect::<Vec<_>>().join(", ")
    }
}

pub(crate) fn unit(name: &str, path: &str) -> String {
    format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: {name}, namespace: \
         flux-system}}\nspec:\n  path: {path}\n  prune: true\n  interval: 1m\n  sourceRef: {{kind: GitRepository, name: \
         flux-system}}\n"
    )
}

pub(crate) fn config_map(name: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: default}}\n")
}
