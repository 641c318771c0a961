use super::*;
use crate::files::MemoryFiles;

fn path(text: &str) -> TreePath {
    TreePath::from_root(text).unwrap()
}

#[test]
fn patterns_match_as_in_source_controller() {
    for (patterns, path_text, is_folder, left_out) in [
        ("*.md", "README.md", false, true),
        ("*.md", "docs/a/README.md", false, true),
        ("docs/", "docs", true, true),
        ("docs/", "docs", false, false),
        ("docs/", "docs/a.yaml", false, true),
        ("docs/", "x/docs/a.yaml", false, true),
        ("/docs/", "x/docs/a.yaml", false, false),
        ("/docs", "docs/a.yaml", false, true),
        ("a/b", "a/b/c", false, true),
        ("a/b", "x/a/b", false, false),
        ("a/b", "a", true, false),
        ("**/b", "x/y/b", false, true),
        ("**/b", "b", false, true),
        ("a/**/d.yaml", "a/b/c/d.yaml", false, true),
        ("a/**/d.yaml", "b/c/d.yaml", false, false),
        ("a/**", "a/b/c", false, true),
        ("a/b**/c", "a/bx/c", false, false),
        ("/*\n!/deploy/", "deploy/a.yaml", false, false),
        ("/*\n!/deploy/", "deploy/x/a.yaml", false, false),
        ("/*\n!/deploy/", "other/a.yaml", false, true),
        ("/*\n!/a/b/", "a/b/c.yaml", false, false),
        ("/*\n!/a/b/", "a/x.yaml", false, true),
        ("*.yaml\n!keep.yaml", "x/keep.yaml", false, false),
        ("!keep.yaml\n*.yaml", "keep.yaml", false, true),
        ("# no\n\n  \na", "a", false, true),
        ("a  ", "a", false, true),
        ("a\\ ", "a ", false, true),
        ("\\!a", "!a", false, true),
        ("file[0-9].yaml", "file7.yaml", false, true),
        ("file[^0-9].yaml", "file7.yaml", false, false),
        ("file[a", "filea", false, false),
        ("a?c*e", "abcdxe", false, true),
        ("a*b*c", "axxbyybzc", false, true),
        ("a*b*c", "axxbyybz", false, false),
    ] {
        let mut rules = Rules::default();
        rules.add(patterns, &TreePath::root());
        assert_eq!(rules.leave_out(&path(path_text), is_folder), left_out, "{patterns:?} on {path_text}");
    }
}

#[test]
fn a_tree_without_what_is_left_out() {
    let tree = MemoryFiles::new([
        (".github/w.yaml", "x"),
        (".gitlab-ci.yml", "x"),
        (".sourceignore", "/docs/\n"),
        ("apps/.sops.yaml", "x"),
        ("apps/.sourceignore", "secret.yaml\n!/logo.png\n"),
        ("apps/a.yaml", "x"),
        ("apps/logo.png", "x"),
        ("apps/secret.yaml", "x"),
        ("docs/a.yaml", "x"),
        ("logo.png", "x"),
        ("secret.yaml", "x"),
        ("test/a.yaml", "x"),
    ]);
    let names = |spec: Option<&str>| -> Vec<String> {
        fn walk(files: &Ignored, folder: &TreePath, out: &mut Vec<String>) {
            for (name, entry) in files.list(folder).unwrap() {
                let path = folder.join(&name).unwrap();
                assert_eq!(files.entry(&path).unwrap(), Some(entry));
                if entry.kind == Kind::Folder { walk(files, &path, out) } else { out.push(path.to_string()) }
            }
        }
        let (files, mut out) = (Ignored::new(Arc::new(tree.clone()), spec).unwrap(), Vec::new());
        walk(&files, &TreePath::root(), &mut out);
        out
    };
    let kept = [".sourceignore", "apps/.sourceignore", "apps/a.yaml", "apps/logo.png", "secret.yaml"];
    assert_eq!(names(None), [&kept[..], &["test/a.yaml"]].concat());
    assert_eq!(names(Some("test/")), kept);
    assert_eq!(names(Some("/*\n!/docs/\n")), ["docs/a.yaml"]);

    let files = Ignored::new(Arc::new(tree), None).unwrap();
    assert!(files.read(&path("docs/a.yaml")).unwrap_err().reason.contains("left out"));
    assert_eq!(files.entry(&path("docs")).unwrap(), None);
    assert_eq!(&*files.read(&path("apps/a.yaml")).unwrap(), b"x");
}

#[test]
fn a_memory_gives_the_rules_of_each_tree() {
    let first = [(".sourceignore", "/docs/"), ("apps/web/deep/.sourceignore", "b.yaml"), ("x/y/a", "x")];
    let second = [(".sourceignore", "/docs/"), ("apps/web/deep/.sourceignore", "c.yaml"), ("x/y/a", "x")];
    let third = [("apps/web/deep/c.yaml", "b.yaml"), ("x/y/a", "x"), ("x/y/.sourceignore", "a")];
    let mut memory = RulesMemory::default();
    for tree in [first, second, first, third, second].map(MemoryFiles::new) {
        let rules = memory.rules(&tree).unwrap();
        assert_eq!(rules.digest, Rules::of(&tree, None).unwrap().digest);
    }
    assert!(memory.folders.keys().map(TreePath::as_str).all(|path| ["apps/web", "x/y"].contains(&path)));
}

#[test]
fn the_id_of_a_folder_changes_with_the_rules() {
    let tree = Arc::new(MemoryFiles::new([("a/b.yaml", "x"), ("a/c.yaml", "y")]));
    let id =
        |spec: &str| Ignored::new(tree.clone(), Some(spec)).unwrap().entry(&path("a")).unwrap().unwrap().id;
    assert_eq!(id("c.yaml"), id("c.yaml"));
    assert_ne!(id("c.yaml"), id("b.yaml"));
}

/// Each path of a tree is held against all of it.
#[test]
fn patterns_have_a_number_and_a_length_wherever_they_stand() {
    let empty = MemoryFiles::default();
    let many = "a\n".repeat(MAX_PATTERNS);
    for (text, says) in [
        (many.as_str(), "with its spec.ignore there are more than 10000 patterns"),
        (&"*a".repeat(MAX_BYTES / 2), "with its spec.ignore there are more than 262144 bytes of patterns"),
    ] {
        let error = Rules::of(&empty, Some(text)).map(|_| ()).unwrap_err();
        assert!(error.reason.starts_with(says), "{error:?}");
        let file = MemoryFiles::new([("a/.sourceignore", text)]);
        let error = Rules::of(&file, None).map(|_| ()).unwrap_err();
        assert!(error.reason.starts_with(&says.replace("spec.ignore", FILE)), "{error:?}");
    }
}
