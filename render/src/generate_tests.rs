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
        let error = Draft::default().apply(&rule(path, strategy), &files).unwrap_err();
        assert!(error.contains("deeper than 64 folders"), "{path}: {error}");
    }
    let many = vec!["*"; 60].join("/");
    assert!(
        Draft::default().apply(&rule(&many, CopyStrategy::Overwrite), &files).unwrap_err().contains("100000")
    );
}
