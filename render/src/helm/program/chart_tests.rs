use flotilla_kustomize::files::MemoryFiles;

use super::*;

fn packed(files: &[(&str, &[u8])]) -> Vec<u8> {
    packed_as(&files.iter().map(|(path, content)| (*path, *content, b'0')).collect::<Vec<_>>())
}

/// With the kinds of entries.
fn packed_as(files: &[(&str, &[u8], u8)]) -> Vec<u8> {
    let mut out = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, content, kind) in files {
        let mut header = Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_entry_type(EntryType::new(*kind));
        // Whatever the name is: the library makes no bad ones.
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        out.append(&header, *content).unwrap();
    }
    out.into_inner().unwrap().finish().unwrap()
}

fn files(packed: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(MultiGzDecoder::new(packed));
    let read = |entry: io::Result<tar::Entry<_>>| {
        let mut entry: tar::Entry<MultiGzDecoder<&[u8]>> = entry.unwrap();
        let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (path, content)
    };
    archive.entries().unwrap().map(read).collect()
}

fn anew(packed: &[u8], bytes: u64, files: u64) -> Result<Vec<u8>, HelmError> {
    Pass::new(bytes, files).packed_anew(packed, "charts/x.tgz", 0)
}

#[test]
fn archives_of_archives_are_looked_through() {
    let call = &br#"a: {{ lookup "v1" "Secret" "n" "x" }}"#[..];
    let inner = packed(&[("inner/Chart.yaml", b"name: inner"), ("inner/templates/a.yaml", call)]);
    let outer = packed_as(&[
        ("outer", b"", b'5'),
        ("outer/values.yaml", b"lookup: {{ lookup }}", b'0'),
        ("outer/charts/inner-1.0.0.tgz", &inner, b'0'),
        ("outer/link", b"", b'2'),
        ("outer/charts/other/values.schema.json", br#"{"$ref": "http://inside.example.com"}"#, b'0'),
    ]);
    let read = files(&anew(&outer, 1 << 20, 100).unwrap());
    assert_eq!(read[0], ("outer/values.yaml".into(), b"lookup: {{ lookup }}".to_vec()), "no template");
    assert_eq!((read[2].1.as_slice(), read.len()), (&b"{}"[..], 3));
    let inner = files(&read[1].1);
    assert_eq!(inner[1].1, br#"a: {{ fail "v1" "Secret" "n" "x" }}"#);
}

#[test]
fn what_helm_could_read_otherwise_is_refused() {
    let schema = &br#"{"$ref": "http://inside.example.com"}"#[..];
    for (name, kind, says) in [
        ("x\\values.schema.json", b'0', "backslash"),
        ("x/values.schema.json/.", b'0', "empty or dots"),
        ("x/./values.schema.json", b'0', "empty or dots"),
        ("x//values.schema.json", b'0', "empty or dots"),
        ("/x/values.schema.json", b'0', "empty or dots"),
        ("x/../../etc/passwd", b'0', "empty or dots"),
        ("x/values.schema.json", b'Z', "not a file, folder or link"),
        ("x/values.schema.json", b'S', "cannot be read"),
        ("x/values.schema.json", b'3', "not a file, folder or link"),
        ("x/a\nb", b'0', "control character"),
    ] {
        let error = anew(&packed_as(&[(name, schema, kind)]), 1 << 20, 100).unwrap_err().to_string();
        assert!(error.contains(says), "{name}: {error}");
    }
    let twice = packed(&[("x/values.schema.json", b"{}"), ("y/values.schema.json", schema)]);
    assert!(anew(&twice, 1 << 20, 100).unwrap_err().to_string().contains("two entries"));
}

#[test]
fn what_cannot_be_read_or_is_too_large_is_refused() {
    let large = packed(&[("x/templates/a.yaml", &[b'a'; 1000]), ("x/b", b"")]);
    assert!(anew(&large, 1000, 2).is_ok());
    assert!(matches!(anew(&large, 999, 2), Err(HelmError::Limit(_))));
    assert!(matches!(anew(&large, 1000, 1), Err(HelmError::Limit(_))));
    for broken in [&b"no archive"[..], &large[..large.len() / 2]] {
        assert!(matches!(anew(broken, 5000, 100), Err(HelmError::Chart(_))));
    }
    let mut deep = packed(&[("x/templates/a.yaml", b"a")]);
    for _ in 0..ARCHIVES {
        deep = packed(&[("x/charts/x.tgz", &deep)]);
    }
    assert!(matches!(anew(&deep, 1 << 20, 100), Err(HelmError::Chart(_))));
}

#[test]
fn a_tree_has_the_same_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, name: &str, files: u64| {
        let tree = MemoryFiles::new([(path, "x")]);
        Pass::new(100, files).write(&tree, &TreePath::root(), &folder.path().join(name))
    };
    write("web/templates/a.yaml", "plain", 1).unwrap();
    assert_eq!(fs::read(folder.path().join("plain/web/templates/a.yaml")).unwrap(), b"x");
    for (path, files, says) in [
        ("a", 0, "too many files"),
        (&*format!("{}a", "d/".repeat(FOLDERS)), 1, "too deep"),
        (r"x\values.schema.json", 1, "backslash"),
    ] {
        let error = write(path, &format!("refused-{files}-{}", path.len()), files).unwrap_err().to_string();
        assert!(error.contains(says), "{path}: {error}");
    }
}

#[test]
fn a_file_is_to_us_what_it_is_to_helm() {
    for (path, expected) in [
        ("charts/a.tgz", Role::Chart),
        ("charts/web/charts/a-1.2.tgz", Role::Chart),
        ("charts/_a.tgz", Role::Other),
        ("charts/a.zip", Role::Other),
        ("files/charts/a.tgz", Role::Other),
        ("templates/charts/a.tgz", Role::Template),
        ("charts/a/b.tgz", Role::Other),
        ("values.schema.json", Role::Schema),
        ("charts/a/values.schema.json", Role::Schema),
        ("charts/a/charts/b/values.schema.json", Role::Schema),
        ("files/values.schema.json", Role::Other),
        ("charts/values.schema.json", Role::Other),
        ("templates/x.yaml", Role::Template),
        ("charts/a/templates/x.yaml", Role::Template),
        ("", Role::Other),
    ] {
        assert_eq!(Role::of(path), expected, "{path}");
    }
}

#[test]
fn names_in_entries_of_their_own_are_bounded() {
    let name = format!("x/templates/{}.yaml", "n".repeat(150));
    let long = packed_as(&[("l", name.as_bytes(), b'L'), ("x/short", b"a: b", b'0')]);
    assert_eq!(files(&anew(&long, 1 << 20, 100).unwrap()), [(name, b"a: b".to_vec())]);
    for kind in [b'L', b'K', b'x'] {
        let packed = packed_as(&[("l", &[b'x'; 70_000], kind), ("x/a", b"", b'0')]);
        let error = anew(&packed, 1 << 20, 100).unwrap_err().to_string();
        assert!(error.contains("what is noted of a file has 70000 bytes"), "{error}");
    }
}
