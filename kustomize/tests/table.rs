//! Small cases, each a few files and what comes out, in `table/*.txt`:
//!
//! ```text
//! == what the case is about
//! -- overlay/kustomization.yaml
//! resources: [a.yaml]
//! -- build overlay          (the tree's root where it is left out)
//! -- expected               (what `kustomize build` 5.8.1 prints)
//! -- expected here alone    (kustomize fails, or gives something else, by what the case's name says)
//! -- error                  (how the message begins)
//! ```
//!
//! `KUSTOMIZE=/path/to/kustomize cargo test -p flotilla-kustomize --test table` takes all that is `expected` from
//! that command anew, and fails where the files changed by it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use flotilla_kustomize::files::{MemoryFiles, TreePath};
use flotilla_kustomize::{Options, Output, build};
use flotilla_yaml::{Node, Value};

struct Case {
    name: String,
    files: Vec<(String, String)>,
    root: Option<String>,
    /// The heading under which it stands, and the text.
    outcome: (String, String),
}

const EXPECTED: &str = "expected";
const HERE_ALONE: &str = "expected here alone";
const ERROR: &str = "error";

fn read(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut into: Option<&mut String> = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("== ") {
            cases.push(Case {
                name: name.to_owned(),
                files: Vec::new(),
                root: None,
                outcome: Default::default(),
            });
            into = None;
        } else if let Some(heading) = line.strip_prefix("-- ") {
            let case = cases.last_mut().expect("a case before its files");
            into = match heading {
                EXPECTED | HERE_ALONE | ERROR => {
                    case.outcome.0 = heading.to_owned();
                    Some(&mut case.outcome.1)
                }
                heading => match heading.strip_prefix("build ") {
                    Some(root) => {
                        case.root = Some(root.to_owned());
                        None
                    }
                    None => {
                        case.files.push((heading.to_owned(), String::new()));
                        case.files.last_mut().map(|(_, text)| text)
                    }
                },
            };
        } else if let Some(into) = &mut into {
            into.push_str(line);
            into.push('\n');
        } else {
            assert!(line.is_empty(), "'{line}' belongs to no file");
        }
    }
    cases
}

fn write(cases: &[Case]) -> String {
    let mut text = String::new();
    for case in cases {
        writeln!(text, "== {}", case.name).unwrap();
        for (path, content) in &case.files {
            write!(text, "-- {path}\n{content}").unwrap();
        }
        if let Some(root) = &case.root {
            writeln!(text, "-- build {root}").unwrap();
        }
        write!(text, "-- {}\n{}", case.outcome.0, case.outcome.1).unwrap();
    }
    text
}

impl Case {
    fn root(&self) -> &str {
        self.root.as_deref().unwrap_or(".")
    }

    /// What is wrong with how it comes out here.
    fn check(&self) -> Option<String> {
        let tree = MemoryFiles::new(self.files.iter().map(|(path, text)| (path.as_str(), text)));
        let root = match self.root() {
            "." => TreePath::root(),
            root => TreePath::from_root(root).expect("a path"),
        };
        let (heading, expected) = &self.outcome;
        match build(&tree, &root, &Options::default()) {
            Ok(_) if heading == ERROR => Some("built, where an error is expected".into()),
            Ok(output) => {
                if let Some(node) = output.documents.iter().find_map(|d| unplaced(&output, &d.node)) {
                    return Some(format!("nobody set {:?}", flotilla_yaml::write(node)));
                }
                let text = output.to_yaml().expect("a document");
                (text != *expected).then(|| format!("got\n{text}\nexpected\n{expected}"))
            }
            Err(error) if heading == ERROR && error.to_string().starts_with(expected.trim_end()) => None,
            Err(error) => Some(format!("failed: {error}\n{expected}")),
        }
    }

    /// What the command makes of it, or why it fails.
    fn by_command(&self, command: &Path) -> Result<String, String> {
        let folder = std::env::temp_dir().join(format!("flotilla-kustomize-table-{}", std::process::id()));
        for (path, text) in &self.files {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        let output = Command::new(command).args(["build", self.root()]).current_dir(&folder).output();
        fs::remove_dir_all(&folder).expect("the folder of the case");
        let output = output.expect("the command runs");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }
}

/// The first value without an origin.
fn unplaced<'a>(output: &Output, node: &'a Node) -> Option<&'a Node> {
    if output.origin_of(node).file.is_none() {
        return Some(node);
    }
    match &node.value {
        Value::Scalar(_) => None,
        Value::Seq(seq) => seq.iter().find_map(|n| unplaced(output, n)),
        Value::Map(map) => map.values().find_map(|n| unplaced(output, n)),
    }
}

#[test]
fn small_cases() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/table");
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).expect("the table").map(|e| e.expect("an entry").path()).collect();
    files.sort();
    let command = std::env::var_os("KUSTOMIZE").map(PathBuf::from);
    let (mut wrong, mut count) = (Vec::new(), 0);
    for file in files {
        let text = fs::read_to_string(&file).expect("a file of cases");
        let mut cases = read(&text);
        for case in &mut cases {
            let mut named = |what: String| wrong.push(format!("{}: {}: {what}", file.display(), case.name));
            if let Some(command) = &command {
                match (case.by_command(command), case.outcome.0.as_str()) {
                    (Ok(text), EXPECTED) => case.outcome.1 = text,
                    (Err(error), EXPECTED) => named(format!("kustomize fails: {error}")),
                    (Ok(_), ERROR) => named("kustomize builds it".into()),
                    _ => {}
                }
            }
            if let Some(what) = case.check() {
                wrong.push(format!("{}: {}: {what}", file.display(), case.name));
            }
            count += 1;
        }
        let written = write(&cases);
        if written != text {
            fs::write(&file, written).expect("a file of cases");
            wrong.push(format!("{} was written anew", file.display()));
        }
    }
    println!("{count} cases");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
