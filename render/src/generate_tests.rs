use flotilla_core::source::AliasPath;

use super::*;

#[test]
fn two_stars_stand_for_any_number_of_parts() {
    for (pattern, text, expected) in [
        ("a/b", "a/b", true),
        ("a/*", "a/b/c", false),
        ("**", "", true),
        ("**", "a/b", true),
        ("a/**", "a", true),
        ("**/b", "a/c/b", true),
        ("**/b", "b/c", false),
        ("a/**/b/**/c", "a/x/b/y/b/z/c", true),
        ("a/**/b/**/c", "a/x/b/y/c/d", false),
        ("**/a/b", "a/a/b", true),
    ] {
        let parts = |text: &'static str| text.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>();
        assert_eq!(covers(&parts(pattern), &parts(text)), expected, "{pattern} on {text}");
    }
    // It is as many steps as both are long, multiplied.
    let (stars, deep) = (["**", "a"].repeat(5000), vec!["a"; 64]);
    assert!(!covers(&stars, &deep));
    assert!(covers(&vec!["**"; 100_000], &deep));
}

/// A folder that is in itself twice, as Git trees can have it.
struct Endless;

impl Files for Endless {
    fn entry(&self, path: &TreePath) -> Result<Option<Entry>, ReadError> {
        let is_file = path.name().ends_with(".yaml");
        let kind = if is_file { Kind::File } else { Kind::Folder };
        Ok(Some(Entry { kind, id: ContentId([1; 32]) }))
    }

    fn read(&self, _: &TreePath) -> Result<Arc<[u8]>, ReadError> {
        Ok(b"a: 1".as_slice().into())
    }

    fn list(&self, _: &TreePath) -> Result<Vec<(String, Entry)>, ReadError> {
        let folder = Entry { kind: Kind::Folder, id: ContentId([1; 32]) };
        Ok([("a".to_owned(), folder), ("b".to_owned(), folder)].into())
    }
}

#[test]
fn a_tree_that_never_ends_is_left() {
    let files: Arc<dyn Files> = Arc::new(Endless);
    let rule = |path: &str, strategy: CopyStrategy| CopyRule {
        from: AliasPath { alias: "in".into(), path: path.into() },
        to: String::new(),
        exclude: vec!["**/a/**".into()],
        strategy,
    };
    for (path, strategy) in [
        ("x", CopyStrategy::Overwrite),
        ("*/**", CopyStrategy::Overwrite),
        ("**/*.tgz", CopyStrategy::Extract),
    ] {
        let error = Draft { files: BTreeMap::new(), work: &mut Work::within(MOST) }
            .apply(&rule(path, strategy), &files)
            .unwrap_err();
        assert!(error.contains("deeper than 64 folders"), "{path}: {error}");
    }
    let many = vec!["*"; 60].join("/");
    assert!(
        Draft { files: BTreeMap::new(), work: &mut Work::within(MOST) }
            .apply(&rule(&many, CopyStrategy::Overwrite), &files)
            .unwrap_err()
            .contains("100000")
    );
}

/// Folders named by numbers, files in `all`, and an archive of 400 KiB.
struct Large {
    archive: Arc<[u8]>,
}

impl Files for Large {
    fn entry(&self, path: &TreePath) -> Result<Option<Entry>, ReadError> {
        let is_file = path.name().contains('.');
        let kind = if is_file { Kind::File } else { Kind::Folder };
        Ok(Some(Entry { kind, id: ContentId([1; 32]) }))
    }

    fn read(&self, _: &TreePath) -> Result<Arc<[u8]>, ReadError> {
        Ok(self.archive.clone())
    }

    fn list(&self, folder: &TreePath) -> Result<Vec<(String, Entry)>, ReadError> {
        let (kind, names): (Kind, Vec<String>) = match folder.as_str() {
            "" => (Kind::Folder, (100..110).map(|n| n.to_string()).chain(["all".to_owned()]).collect()),
            "all" => (Kind::File, (100..150).map(|n| format!("{n}.yaml")).collect()),
            _ => (Kind::File, vec!["a.yaml".to_owned()]),
        };
        Ok(names.into_iter().map(|name| (name, Entry { kind, id: ContentId([1; 32]) })).collect())
    }
}

#[test]
fn a_generator_multiplies_nothing_without_a_bound() {
    let mut packed =
        tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let zeros = vec![0; 400 << 10];
    let mut header = tar::Header::new_gnu();
    header.set_size(zeros.len() as u64);
    packed.append_data(&mut header, "zeros", &zeros[..]).unwrap();
    let archive = packed.into_inner().unwrap().finish().unwrap();
    let files: Arc<dyn Files> = Arc::new(Large { archive: archive.into() });
    let in_all = |strategy: CopyStrategy, from: &str, exclude: &[&str], times: usize| {
        let rule = CopyRule {
            from: AliasPath { alias: "in".into(), path: from.into() },
            to: "x/".into(),
            exclude: exclude.iter().map(|pattern| (*pattern).to_owned()).collect(),
            strategy,
        };
        let copy = vec![rule; times];
        GeneratedArtifact { name: "a-{n}".into(), revision: None, origin_revision: None, copy }
    };
    for (artifact, says) in [
        (in_all(CopyStrategy::Extract, "a.tgz", &[], 1), "unpacks and merges more than 1024 KiB in all"),
        (in_all(CopyStrategy::Overwrite, "all", &[], 1), "puts out more than 300 files"),
        (in_all(CopyStrategy::Overwrite, "all/1*", &["z"; 300], 1), "looks at more than 20000 files"),
        (in_all(CopyStrategy::Overwrite, "all/1*", &["z".repeat(4000).as_str()], 1), "looks at more than"),
        (in_all(CopyStrategy::Overwrite, "all/100.yaml", &[], 2_000), "puts out more than"),
    ] {
        let path_pattern = Some(AliasPath { alias: "in".into(), path: "{n}".into() });
        let generator = ArtifactGenerator { inputs: Vec::new(), path_pattern, artifacts: vec![artifact] };
        let inputs = [("in".to_owned(), Artifact::new(files.clone(), "1", "in"))].into();
        let most = Most { steps: 20_000, files: 300, bytes: 1 << 20 };
        let error = within(most, &generator, &inputs).unwrap_err().to_string();
        assert!(error.contains(says), "{says}: {error}");
    }
}
