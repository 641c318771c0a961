use super::*;

type Strings = Log<String>;

fn open(folder: &Path) -> (Strings, Option<String>) {
    Log::open(folder.join("log"), "test 1")
}

fn put(log: &mut Strings, key: &str, value: &str) {
    log.append(key.to_owned(), Some(value.as_bytes())).unwrap();
}

fn content(log: &mut Strings) -> Vec<(String, String)> {
    let mut keys: Vec<String> = log.keys().cloned().collect();
    keys.sort();
    let mut read = |key: &String| String::from_utf8(log.get(key).ok()??.to_vec()).ok();
    keys.iter().filter_map(|key| Some((key.clone(), read(key)?))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn values_are_there_after_a_restart_and_the_last_one_counts() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, problem) = open(folder.path());
    assert_eq!(problem, None);
    put(&mut log, "a", "1");
    put(&mut log, "b", "");
    put(&mut log, "a", "2");
    put(&mut log, "c", "3");
    log.append("c".into(), None).unwrap();
    log.sync().unwrap();
    let (mut log, problem) = open(folder.path());
    assert_eq!(problem, None);
    assert_eq!(content(&mut log), pairs(&[("a", "2"), ("b", "")]));
}

/// Every length that a crash can leave, and every byte that a disk can change.
#[test]
fn whatever_is_cut_or_changed_costs_values_and_never_makes_any() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = open(folder.path());
    for (key, value) in [("a", "first"), ("b", "second"), ("c", "third")] {
        put(&mut log, key, value);
    }
    let whole = fs::read(folder.path().join("log")).unwrap();
    let all = pairs(&[("a", "first"), ("b", "second"), ("c", "third")]);
    let after = |bytes: &[u8]| {
        fs::write(folder.path().join("log"), bytes).unwrap();
        let (mut log, problem) = open(folder.path());
        let read = content(&mut log);
        put(&mut log, "d", "fourth");
        let (mut log, _) = open(folder.path());
        assert_eq!(log.get(&"d".into()).unwrap().as_deref(), Some(&b"fourth"[..]), "it goes on after that");
        (read, problem)
    };
    for length in 0..whole.len() {
        let (read, problem) = after(&whole[..length]);
        assert!(all.starts_with(&read), "{length}: {read:?}");
        let header = "flotilla test 1\n".len();
        let records = [header, header + 30, header + 61];
        assert_eq!(problem.is_none(), length <= header || records.contains(&length), "{length}: {problem:?}");
    }
    for byte in 0..whole.len() {
        let mut changed = whole.clone();
        changed[byte] ^= 0x10;
        let (read, _) = after(&changed);
        assert!(read.len() < 3 && read.iter().all(|pair| all.contains(pair)), "{byte}: {read:?}");
    }
}

#[test]
fn a_file_of_another_version_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("log"), "flotilla test 2\nnobody knows").unwrap();
    let (mut log, problem) = open(folder.path());
    assert!(problem.unwrap().contains("was set aside as"));
    assert_eq!(content(&mut log), []);
    let aside = fs::read_to_string(folder.path().join("log.unreadable")).unwrap();
    assert_eq!(aside, "flotilla test 2\nnobody knows");
}

#[test]
fn garbage_goes_when_it_is_more_than_half() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = open(folder.path());
    let large = "x".repeat(100 << 10);
    for key in ["a", "b", "c", "d", "e"] {
        put(&mut log, key, &large);
    }
    log.retain(|key| key != "e");
    log.compact().unwrap();
    assert!(fs::metadata(folder.path().join("log")).unwrap().len() > 500 << 10, "too little garbage");
    log.retain(|key| key == "b");
    log.compact().unwrap();
    assert!(fs::metadata(folder.path().join("log")).unwrap().len() < 101 << 10);
    put(&mut log, "f", "after");
    let (mut log, problem) = open(folder.path());
    assert_eq!((problem, content(&mut log)), (None, pairs(&[("b", &large), ("f", "after")])));
}

#[test]
fn a_disk_that_takes_nothing_is_an_error_and_what_was_there_reads_on() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = open(folder.path());
    put(&mut log, "a", "1");
    log.break_writes();
    assert_eq!(content(&mut log), pairs(&[("a", "1")]));
    assert!(log.append("b".into(), Some(b"2")).is_err());

    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let (mut log, problem) = Strings::open(file.join("log"), "test");
    assert!(problem.unwrap().contains("cannot read"));
    assert!(log.append("a".into(), Some(b"1")).is_err());
}
