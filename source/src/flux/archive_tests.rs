use flate2::Compression;
use flate2::write::GzEncoder;
use flotilla_kustomize::files::Kind;

use super::*;

fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        // By hand: the builder refuses names that lead out.
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        tar.append(&header, content.as_bytes()).unwrap();
    }
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    tar.append_link(&mut link, "link", "/etc/passwd").unwrap();
    tar.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// One file with a name in an entry of its own.
fn long_named(name: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(name.len() as u64 + 1);
    header.set_cksum();
    tar.append(&header, [name.as_bytes(), &[0]].concat().as_slice()).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    header.set_cksum();
    tar.append(&header, &b"x"[..]).unwrap();
    tar.into_inner().unwrap()
}

/// Files of which each stands at the end of folders of its own: the inodes are many times the files.
#[test]
fn folders_are_counted_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let limits = SourceLimits::default();
    let mut tree = Tree { root: dir.path().into(), limits, files: 0, bytes: 0, folders: HashSet::new() };
    // As if they had been made: the disk has better to do.
    for n in 0..MAX_FOLDERS - 10 {
        tree.folders.insert(TreePath::from_root(&format!("{n}")).unwrap());
    }
    let deep = |name: &str| format!("{name}/{}f", "d/".repeat(8));
    tree.add(&deep("a"), &mut &b"x"[..]).unwrap();
    let error = tree.add(&deep("b"), &mut &b"x"[..]).unwrap_err();
    assert!(matches!(error, SourceError::TooManyFolders(MAX_FOLDERS)), "{error}");
}

#[test]
fn long_names_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path().join("s"), SourceLimits::default());
    let name = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    let mut pax = tar::Builder::new(Vec::new());
    pax.append_pax_extensions([("mtime", &b"1"[..]), ("path", name.as_bytes())]).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_path("short").unwrap();
    header.set_size(1);
    header.set_cksum();
    pax.append(&header, &b"x"[..]).unwrap();
    for (n, archive) in [long_named(&name), pax.into_inner().unwrap()].iter().enumerate() {
        let (_, files) = store.put(n.to_string(), "".into(), |tree| tree.unpack(archive, &Untold)).unwrap();
        assert_eq!(&*files.read(&TreePath::from_root(&name).unwrap()).unwrap(), b"x");
    }
}

/// A header of this kind before a file `short`, with what is noted of it.
fn noted(kind: tar::EntryType, notes: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (kind, content) in [(kind, notes), (tar::EntryType::Regular, &b"x"[..])] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_path("short").unwrap();
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append(&header, content).unwrap();
    }
    tar.into_inner().unwrap()
}

/// A tree with less in it than the archive has would prune what is left out.
#[test]
fn no_part_of_an_archive_is_passed_over_in_silence() {
    let dir = tempfile::tempdir().unwrap();
    let limits = SourceLimits { file_bytes: 100, bytes: 256, files: 2 };
    let store = Store::new(dir.path().join("s"), limits);
    let put = |archive: &[u8]| {
        let put = store.put("1".into(), "".into(), |tree| tree.unpack(archive, &Untold));
        let names = put.map(|(_, files)| files.list(&TreePath::root()).unwrap());
        names.map(|names| names.into_iter().map(|(name, _)| name).collect::<Vec<_>>())
    };
    let two = tar(&[("a", "a"), ("b", "b")]);
    let (first, second) = two.split_at(1024);
    assert_eq!(put(&[gzip(first), gzip(second)].concat()).unwrap(), ["a", "b"], "in two members of gzip");
    assert_eq!(put(&noted(tar::EntryType::Continuous, b"")).unwrap(), ["short"]);
    let mut links = tar::Builder::new(Vec::new());
    for _ in 0..2100 {
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        links.append_link(&mut link, "link", "a").unwrap();
    }
    let links = [links.into_inner().unwrap().split_off(0)[..2100 * 512].to_vec(), two.clone()].concat();
    for (archive, reason) in [
        (gzip(&links), "limit of 256 bytes"),
        (noted(tar::EntryType::GNUSparse, b""), "sparse"),
        (noted(tar::EntryType::XHeader, b"22 GNU.sparse.major=1\n"), "sparse"),
        (noted(tar::EntryType::XHeader, b"10 size=0\n"), "size"),
        ([gzip(first), b"rest".to_vec()].concat(), "cannot be read"),
    ] {
        let error = put(&archive).unwrap_err().to_string();
        assert!(error.contains(reason), "{reason}: {error}");
    }
    let twice = noted(tar::EntryType::XHeader, b"10 path=a\n10 path=b\n");
    assert_eq!(put(&twice).unwrap(), ["b"], "as Flux reads it");
}

#[test]
fn archives_become_trees_within_limits() {
    let dir = tempfile::tempdir().unwrap();
    let limits = SourceLimits { file_bytes: 100, bytes: 20, files: 2 };
    let mut store = Store::new(dir.path().join("s"), limits);
    store.keep(&BTreeSet::new()).unwrap();
    let store = store;
    let put = |revision: &str, archive: &[u8]| {
        store
            .put(revision.into(), "known".into(), |tree| tree.unpack(archive, &Untold))
            .map(|(_, files)| files)
    };
    let good = tar(&[("./a/b.yaml", "b"), ("/c.yaml", "c")]);
    for archive in [good.clone(), gzip(&good)] {
        let files = put("1", &archive).unwrap();
        let names: Vec<_> =
            files.list(&TreePath::root()).unwrap().into_iter().map(|(n, e)| (n, e.kind)).collect();
        assert_eq!(names, [("a".to_owned(), Kind::Folder), ("c.yaml".to_owned(), Kind::File)]);
    }
    for (archive, reason) in [
        (tar(&[("../x", "x")]), "leads out"),
        (tar(&[("a", "x"), ("b", "x"), ("c", "x")]), "more than 2 files"),
        (gzip(&long_named(&"d/".repeat(1900))), "deeper than 64 folders"),
        (gzip(&long_named(&"x".repeat(5000))), "deeper than 64 folders, or longer"),
        (gzip(&long_named(&"x/".repeat(100_000))), "what is noted of a file has 200001 bytes"),
        (tar(&[("a", "0123456789"), ("b", "01234567890")]), "limit of 20 bytes"),
        (b"no archive at all, but longer than a header".repeat(20), "cannot be read"),
        (gzip(&good)[..30].to_vec(), "cannot be read"),
    ] {
        let error = put("2", &archive).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains(reason), "{reason}: {error}");
    }
    // What failed changed nothing; a newer revision leaves the one before for its readers.
    let (state, before) = store.recall().unwrap();
    assert_eq!((state.revision.as_str(), state.known.as_str()), ("1", "known"));
    put("3", &tar(&[("a/b.yaml", "new")])).unwrap();
    let path = TreePath::from_root("a/b.yaml").unwrap();
    assert_eq!(&*before.read(&path).unwrap(), b"b");
    assert_eq!(&*store.recall().unwrap().1.read(&path).unwrap(), b"new");
    put("4", &good).unwrap();
    assert!(before.read(&path).is_err(), "two revisions are kept");
}

#[test]
fn what_is_used_stays_and_what_nobody_knows_of_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::new(dir.path().join("s"), SourceLimits::default());
    let put = |store: &Store, revision: &str| {
        let tree = tar(&[("a", revision)]);
        store.put(revision.into(), "".into(), |to| to.unpack(&tree, &Untold)).map(|_| ()).unwrap();
    };
    let there = |store: &Store| -> String {
        let is_there = |revision: &&str| store.at(revision).is_some();
        ["1", "2", "3", "4", "5"].into_iter().filter(is_there).collect()
    };
    ["1", "2", "3"].into_iter().for_each(|revision| put(&store, revision));
    assert_eq!(there(&store), "123", "as after a start: nobody has said yet what is used");
    store.keep(&["1".to_owned()].into()).unwrap();
    assert_eq!(there(&store), "13");
    ["4", "5"].into_iter().for_each(|revision| put(&store, revision));
    assert_eq!(there(&store), "145", "and the one before");
    let path = TreePath::from_root("a").unwrap();
    assert_eq!(&*store.at("1").unwrap().read(&path).unwrap(), b"1");
    store.keep(&BTreeSet::new()).unwrap();
    assert_eq!(there(&store), "5");
}
