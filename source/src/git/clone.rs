//! One bare clone on disk: opened, checked, read.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gix::ObjectId;
use gix::odb::pack;

use super::files::{Objects, TreeCache};

/// Where the fetched branch ends, whatever its name: one fixed ref, so that names never clash.
pub(super) const TIP: &str = "refs/flotilla/tip";

/// The refs of commits that are to stay readable, each by its id.
const KEEP: &str = "refs/flotilla/keep";

/// Packs that pile up, one a fetch, before a new clone makes one of them again.
const PACKS: usize = 500;

pub(super) struct LocalClone {
    dir: PathBuf,
    repo: gix::ThreadSafeRepository,
    objects: Arc<Objects>,
    trees: Arc<TreeCache>,
    damaged: Arc<AtomicBool>,
}

/// Without anybody's Git configuration or environment: what is fetched depends on the spec alone.
fn options(config: &[String]) -> gix::open::Options {
    gix::open::Options::isolated().config_overrides(config.iter().map(String::as_str)).open_path_as_is(true)
}

impl LocalClone {
    pub(super) fn init(dir: &Path, config: &[String], trees: Arc<TreeCache>) -> Result<Self, gix::Error> {
        let create = gix::create::Options::default();
        gix::ThreadSafeRepository::init_opts(dir, gix::create::Kind::Bare, create, options(config))?;
        Self::open(dir, config, trees)
    }

    pub(super) fn open(dir: &Path, config: &[String], trees: Arc<TreeCache>) -> Result<Self, gix::Error> {
        let repo = options(config).with(gix::sec::Trust::Full).open(dir)?;
        let damaged = Arc::new(AtomicBool::new(false));
        let objects = Arc::new(Objects::new(repo.objects.clone(), trees.clone(), damaged.clone()));
        Ok(Self { dir: dir.to_owned(), repo, objects, trees, damaged })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn objects(&self) -> &Arc<Objects> {
        &self.objects
    }

    pub(super) fn repository(&self) -> gix::Repository {
        self.repo.to_thread_local()
    }

    /// The newest commit that was fetched.
    pub(super) fn tip(&self) -> Option<ObjectId> {
        let repo = self.repository();
        let tip = repo.try_find_reference(TIP).ok()??;
        tip.try_id().map(gix::Id::detach)
    }

    /// The commits that are to stay readable, whatever the branch does.
    pub(super) fn kept(&self) -> io::Result<BTreeSet<ObjectId>> {
        let mut kept = BTreeSet::new();
        let entries = match fs::read_dir(self.dir.join(KEEP)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(kept),
            entries => entries?,
        };
        for entry in entries {
            kept.extend(ObjectId::from_hex(entry?.file_name().as_encoded_bytes()).ok());
        }
        Ok(kept)
    }

    /// Keeps commits by refs of ours, so that no other program takes their objects away.
    pub(super) fn keep(&self, commits: &BTreeSet<ObjectId>) -> io::Result<()> {
        let folder = self.dir.join(KEEP);
        let before = self.kept()?;
        for id in before.difference(commits) {
            fs::remove_file(folder.join(id.to_string()))?;
        }
        for id in commits.difference(&before) {
            fs::create_dir_all(&folder)?;
            let (new, place) = (folder.join(format!("{id}.lock")), folder.join(id.to_string()));
            fs::write(&new, format!("{id}\n")).and_then(|()| fs::rename(&new, &place))?;
        }
        Ok(())
    }

    /// Whether a commit is here.
    pub(super) fn has(&self, id: &ObjectId) -> bool {
        self.objects.commit(id).is_ok_and(|commit| commit.is_some())
    }

    /// A reader found an object missing or unreadable.
    pub(super) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Opens it again: the object database has room for the packs that were there when it was opened.
    pub(super) fn reopened(&self, config: &[String]) -> Result<Self, gix::Error> {
        Self::open(&self.dir, config, self.trees.clone())
    }

    /// Compares each pack and its index with their checksums: after a crash or on a failing disk they differ.
    pub(super) fn check_packs(&self) -> Result<(), String> {
        let never = AtomicBool::new(false);
        for path in packs(&self.dir).map_err(|e| e.to_string())? {
            let check = || -> Result<(), gix::Error> {
                let bundle = pack::Bundle::at(&path, gix::hash::Kind::Sha1)?;
                bundle.pack.verify_checksum(&mut gix::progress::Discard, &never)?;
                bundle.index.verify_checksum(&mut gix::progress::Discard, &never)?;
                Ok(())
            };
            check().map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(())
    }

    pub(super) fn wants_compaction(&self) -> bool {
        packs(&self.dir).is_ok_and(|packs| packs.len() > PACKS)
    }

    /// Takes away what a killed fetch left: nobody else uses the folder.
    pub(super) fn remove_leftovers(dir: &Path) -> io::Result<()> {
        for entry in fs::read_dir(dir.join("objects/pack"))? {
            let entry = entry?;
            if !entry.file_name().to_string_lossy().starts_with("pack-") {
                fs::remove_file(entry.path())?;
            }
        }
        for folder in [dir.to_owned(), dir.join("refs/flotilla"), dir.join(KEEP)] {
            let Ok(entries) = fs::read_dir(folder) else { continue };
            for entry in entries {
                let path = entry?.path();
                if path.extension().is_some_and(|extension| extension == "lock") {
                    fs::remove_file(path)?;
                }
            }
        }
        Ok(())
    }
}

fn packs(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut packs = Vec::new();
    for entry in fs::read_dir(dir.join("objects/pack"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "pack") {
            packs.push(path);
        }
    }
    Ok(packs)
}

/// Bytes of all packs, those still being received included.
pub(super) fn pack_bytes(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir.join("objects/pack")) else { return 0 };
    entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}
