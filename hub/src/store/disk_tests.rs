//! The store on disks that fail: full, torn by a power cut, truncated, altered.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use redb::StorageBackend;

use super::*;

fn put(key: &str, value: &[u8]) -> Txn {
    let mut txn = Txn::default();
    txn.put(key, value.to_vec());
    txn
}

fn filled(folder: &Path) {
    let store = DiskStore::open(folder).unwrap();
    for n in 0..200_u8 {
        assert_eq!(store.txn(&put(&format!("a/{n:03}"), &[n; 500])).unwrap(), Outcome::Committed);
    }
}

#[test]
fn what_was_committed_is_there_after_the_store_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    {
        let store = DiskStore::open(folder.path()).unwrap();
        assert_eq!(store.txn(&put("a/1", b"x")).unwrap(), Outcome::Committed);
        assert!(matches!(DiskStore::open(folder.path()), Err(StoreError::InUse(_))));
    }
    let store = open_again(folder.path());
    assert_eq!(store.get("a/1").unwrap().as_deref(), Some(&b"x"[..]));
    let mode = fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// Links in a circle stand for a disk that cannot say whether the file is there.
#[test]
fn a_store_that_cannot_be_looked_at_is_an_error_and_no_new_one() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path());
    let (file, kept) = (folder.path().join(FILE), folder.path().join("kept"));
    fs::rename(&file, &kept).unwrap();
    std::os::unix::fs::symlink(&file, &file).unwrap();
    assert!(matches!(DiskStore::open(folder.path()), Err(StoreError::Open { .. })));
    assert!(fs::symlink_metadata(&file).unwrap().is_symlink(), "it was replaced");
    fs::rename(&kept, &file).unwrap();
    assert_eq!(open_again(folder.path()).scan("").unwrap().len(), 200);
}

#[test]
fn a_store_of_the_former_format_is_refused_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(FORMER_FILE), "sled's").unwrap();
    let error = DiskStore::open(folder.path()).unwrap_err();
    assert!(matches!(error, StoreError::Former(_)) && error.to_string().contains("backup"), "{error}");
    assert!(!folder.path().join(FILE).exists(), "nothing is begun beside it");
}

#[test]
fn a_file_that_was_cut_or_altered_is_an_error_and_never_other_records() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    filled(&whole);
    let good = open_again(&whole).scan("").unwrap();
    let bytes = fs::read(whole.join(FILE)).unwrap();
    let mut random = StdRng::seed_from_u64(5);
    let (mut errors, copy) = (0, folder.path().join("copy"));
    for n in 0..60 {
        let mut bytes = bytes.clone();
        match n {
            0 => bytes.clear(),
            1..20 => bytes.truncate(random.random_range(1..bytes.len())),
            _ => {
                let at = random.random_range(0..bytes.len() / 512) * 512;
                random.fill(&mut bytes[at..at + 512]);
            }
        }
        fs::create_dir_all(&copy).unwrap();
        fs::write(copy.join(FILE), bytes).unwrap();
        match DiskStore::open(&copy) {
            Ok(store) => assert_eq!(store.scan("").unwrap(), good, "case {n}"),
            Err(StoreError::InUse(_)) => {}
            Err(error) => {
                errors += 1;
                assert!(!matches!(error, StoreError::Former(_)), "{error}");
            }
        }
        fs::remove_dir_all(&copy).unwrap();
    }
    assert!(errors >= 30, "{errors} of 60");
}

/// A disk in memory. What was written since the last sync may be lost at a crash, in any part; it may be full, or fail.
#[derive(Debug, Clone, Default)]
struct FlakyDisk(Arc<Mutex<Flaky>>);

#[derive(Debug, Default)]
struct Flaky {
    bytes: Vec<u8>,
    synced: Vec<u8>,
    /// Offset and content of writes since the last sync, in order.
    unsynced: Vec<(usize, Vec<u8>)>,
    /// Operations until everything fails, as at a power cut.
    budget: Option<u64>,
    full: bool,
}

impl Flaky {
    fn spend(&mut self) -> std::io::Result<()> {
        match &mut self.budget {
            Some(0) => Err(std::io::Error::other("the power is gone")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// What a disk may hold after a power cut: of what was not synced some sectors, in any order, some of them torn.
    fn crash(&mut self, random: &mut StdRng) {
        let mut image = self.synced.clone();
        for (offset, bytes) in std::mem::take(&mut self.unsynced) {
            for (n, sector) in bytes.chunks(512).enumerate() {
                let at = offset + n * 512;
                let kept = match random.random_range(0..4) {
                    0 => 0,
                    1 => random.random_range(0..=sector.len()),
                    _ => sector.len(),
                };
                if image.len() < at + kept {
                    image.resize(at + kept, 0);
                }
                image[at..at + kept].copy_from_slice(&sector[..kept]);
            }
        }
        self.bytes = image.clone();
        self.synced = image;
        self.budget = None;
    }
}

impl StorageBackend for FlakyDisk {
    fn len(&self) -> std::io::Result<u64> {
        Ok(lock(&self.0).bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        let disk = lock(&self.0);
        let from = disk.bytes.get(offset as usize..).and_then(|rest| rest.get(..out.len()));
        out.copy_from_slice(from.ok_or_else(|| std::io::Error::other("beyond the end"))?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        let mut disk = lock(&self.0);
        disk.spend()?;
        if disk.full && len as usize > disk.bytes.len() {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        disk.bytes.resize(len as usize, 0);
        // Lengths are metadata, which journals keep in order.
        disk.synced.resize(len as usize, 0);
        disk.unsynced.retain(|(offset, bytes)| offset + bytes.len() <= len as usize);
        Ok(())
    }

    fn sync_data(&self) -> std::io::Result<()> {
        let mut disk = lock(&self.0);
        disk.spend()?;
        disk.synced = disk.bytes.clone();
        disk.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        let mut disk = lock(&self.0);
        disk.spend()?;
        if disk.full {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        let (from, to) = (offset as usize, offset as usize + data.len());
        if disk.bytes.len() < to {
            disk.bytes.resize(to, 0);
        }
        disk.bytes[from..to].copy_from_slice(data);
        disk.unsynced.push((from, data.to_vec()));
        Ok(())
    }
}

fn on(disk: &FlakyDisk) -> Result<DiskStore, StoreError> {
    let disk = disk.clone();
    let open = move || {
        let opened = Builder::new().set_check_integrity_on_open(true).create_with_backend(disk.clone());
        let db =
            opened.map_err(|error| StoreError::Open { path: "flaky".into(), source: Arc::new(error) })?;
        let made = || -> Result<(), redb::Error> {
            let txn = db.begin_write()?;
            txn.open_table(RECORDS)?;
            Ok(txn.commit()?)
        };
        made().map_err(|source| StoreError::Io { attempt: "write", source: Arc::new(source) })?;
        Ok(db)
    };
    DiskStore::with(Path::new("flaky"), Box::new(open))
}

#[test]
fn a_full_disk_refuses_writes_until_it_has_room_and_loses_nothing() {
    let disk = FlakyDisk::default();
    let store = on(&disk).unwrap();
    assert_eq!(store.txn(&put("a", b"1")).unwrap(), Outcome::Committed);
    lock(&disk.0).full = true;
    for _ in 0..3 {
        assert!(store.txn(&put("b", b"2")).is_err());
    }
    lock(&disk.0).full = false;
    assert_eq!(store.get("a").unwrap().as_deref(), Some(&b"1"[..]), "without a restart");
    assert_eq!(store.txn(&put("b", b"3")).unwrap(), Outcome::Committed);
    drop(store);
    let there = on(&disk).unwrap().scan("").unwrap();
    assert_eq!(there, [("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"3".to_vec())]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    /// After a power cut at any moment, with any part of what was not synced on the disk: what was acknowledged is there,
    /// and each transaction is there wholly or not at all.
    #[test]
    fn a_power_cut_loses_nothing_that_was_acknowledged(seed: u64, budgets in prop::collection::vec(0_u64..120, 1..4)) {
        let mut random = StdRng::seed_from_u64(seed);
        let disk = FlakyDisk::default();
        drop(on(&disk).unwrap());
        // Both keys of a pair are written by one transaction.
        let (mut acknowledged, mut attempted) = (BTreeMap::<u8, u64>::new(), BTreeMap::<u8, Vec<u64>>::new());
        let mut number = 0;
        for budget in budgets {
            let Ok(store) = on(&disk) else { prop_assert!(false, "it does not open after a cut"); return Ok(()) };
            for (pair, at) in &acknowledged {
                let read = |half: &str| {
                    let value = store.get(&format!("{half}/{pair}")).unwrap().unwrap();
                    (u64::from_le_bytes(value[..8].try_into().unwrap()), value.len())
                };
                let (left, right) = (read("left"), read("right"));
                prop_assert_eq!(left.0, right.0, "half of a transaction");
                let later = attempted[pair].iter().filter(|n| **n >= *at).any(|n| *n == left.0);
                prop_assert!(later, "pair {} has {}, and {} was acknowledged", pair, left.0, at);
            }
            lock(&disk.0).budget = Some(budget);
            for _ in 0..20 {
                number += 1;
                let pair: u8 = random.random_range(0..6);
                let size = random.random_range(8..3_000);
                let mut value = vec![pair; size];
                value[..8].copy_from_slice(&u64::to_le_bytes(number));
                let mut txn = Txn::default();
                txn.put(format!("left/{pair}"), value.clone());
                txn.put(format!("right/{pair}"), value);
                attempted.entry(pair).or_default().push(number);
                if store.txn(&txn).is_ok() {
                    acknowledged.insert(pair, number);
                }
            }
            drop(store);
            lock(&disk.0).crash(&mut random);
        }
        prop_assert!(on(&disk).is_ok());
    }
}

#[test]
fn many_writers_share_a_sync_and_each_gets_its_own_answer() {
    let folder = tempfile::tempdir().unwrap();
    let store = DiskStore::open(folder.path()).unwrap();
    let committed = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for n in 0..8_u8 {
            let (store, committed) = (&store, &committed);
            scope.spawn(move || {
                // Eight want each of the keys; one gets it.
                for key in 0..10 {
                    let mut txn = put(&format!("k/{key}"), &[n]);
                    txn.expect(format!("k/{key}"), None);
                    if store.txn(&txn).unwrap() == Outcome::Committed {
                        committed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!((committed.into_inner(), store.scan("k/").unwrap().len()), (10, 10));
}
