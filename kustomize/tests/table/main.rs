//! Small cases, each a few files and what comes out, in `*.txt` beside this:
//!
//! ```text
//! == what the case is about
//! -- overlay/kustomization.yaml
//! resources: [a.yaml]
//! -- odd.yaml (escaped)     (`\xFF` is a byte, `\u{85}` a character, `\r`, `\t`, `\\`; a `\` at a line's end joins lines)
//! -- at /srv/tree           (the absolute path of the tree, where a file names it)
//! -- helm                   (charts are rendered, as `chart.rs` says)
//! -- build overlay          (the tree's root where it is left out)
//! -- expected               (what `kustomize build` 5.8.1 prints)
//! -- expected here alone    (kustomize fails, or gives something else, by what the case's name says)
//! -- error                  (how the message begins; kustomize fails too)
//! -- error here alone       (kustomize builds it, by what the case's name says)
//! -- notices                (what is said beside the documents)
//! ```
//!
//! `KUSTOMIZE=/path/to/kustomize cargo test -p flotilla-kustomize --test table` takes all that is `expected` from
//! that command anew, and fails where the files changed by it.

mod chart;
mod format;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use flotilla_kustomize::files::{Entry, Files, MemoryFiles, ReadError, TreePath};
use flotilla_kustomize::{Answers, BuildError, Options, Output, Request, build_with};
use flotilla_yaml::{Node, Value};
use format::{Case, ERROR, EXPECTED};

/// The files of a case, at their place.
struct Placed {
    files: MemoryFiles,
    place: Option<String>,
}

impl Files for Placed {
    fn entry(&self, path: &TreePath) -> Result<Option<Entry>, ReadError> {
        self.files.entry(path)
    }

    fn read(&self, path: &TreePath) -> Result<std::sync::Arc<[u8]>, ReadError> {
        self.files.read(path)
    }

    fn list(&self, folder: &TreePath) -> Result<Vec<(String, Entry)>, ReadError> {
        self.files.list(folder)
    }

    fn absolute(&self, path: &str) -> Option<TreePath> {
        let below = path.strip_prefix(self.place.as_ref()?.as_str())?;
        (below.is_empty() || below.starts_with('/')).then(|| TreePath::from_root(below).ok())?
    }
}

impl Case {
    fn root(&self) -> &str {
        self.root.as_deref().unwrap_or(".")
    }

    /// Builds it here, with charts rendered where it needs any.
    fn build(&self) -> Result<Output, BuildError> {
        let files = MemoryFiles::new(self.files.iter().map(|file| (file.path.as_str(), &file.content)));
        let tree = Placed { files, place: self.place.clone() };
        let root = match self.root() {
            "." => TreePath::root(),
            root => TreePath::from_root(root).expect("a path"),
        };
        let options = Options { helm: self.helm, ..Options::default() };
        let mut answers = Answers::new();
        loop {
            match build_with(&tree, &root, &options, &answers) {
                Err(BuildError::Needs(needs)) if self.helm => {
                    for need in needs {
                        let Request::Helm(request) = &need else { panic!("{need} is needed") };
                        let answer = chart::answer(&tree, request)?;
                        answers.insert(need, answer);
                    }
                }
                done => return done,
            }
        }
    }

    /// What is wrong with how it comes out here.
    fn check(&self) -> Option<String> {
        let expected = &self.outcome.1;
        match self.build() {
            Ok(output) => {
                if let Some(node) = output.documents.iter().find_map(|d| unplaced(&output, &d.node)) {
                    return Some(format!("nobody set {:?}", flotilla_yaml::write(node)));
                }
                let notices: String = output.notices.iter().map(|notice| format!("{notice}\n")).collect();
                if let Some(expected) = self.notices.as_ref().filter(|expected| **expected != notices) {
                    return Some(format!("notices\n{notices}\nexpected\n{expected}"));
                }
                match output.to_yaml() {
                    Ok(_) if self.is_error() => Some("built, where an error is expected".into()),
                    Ok(text) => (text != *expected).then(|| format!("got\n{text}\nexpected\n{expected}")),
                    Err(error) => self.check_error(&error.to_string()),
                }
            }
            Err(error) => self.check_error(&error.to_string()),
        }
    }

    fn check_error(&self, error: &str) -> Option<String> {
        let expected = &self.outcome.1;
        let is_right = self.is_error() && error.starts_with(expected.trim_end());
        (!is_right).then(|| format!("failed: {error}\n{expected}"))
    }

    /// What the command makes of it, or why it fails.
    fn by_command(&self, command: &Path) -> Result<String, String> {
        let folder = std::env::temp_dir().join(format!("flotilla-kustomize-table-{}", std::process::id()));
        let tree = folder.join("tree");
        for file in &self.files {
            let path = tree.join(&file.path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            let content = match &self.place {
                Some(place) => {
                    let text = str::from_utf8(&file.content).expect("text in a case with a place");
                    text.replace(place, &tree.to_string_lossy()).into_bytes()
                }
                None => file.content.clone(),
            };
            fs::write(path, content).expect("a file");
        }
        let mut run = Command::new(command);
        run.args(["build", self.root()]).current_dir(&tree);
        if self.helm {
            let helm = chart::program(&folder);
            run.arg("--enable-helm").arg("--helm-command").arg(helm).env("CHARTS", tree.join(chart::REMOTE));
        }
        let output = run.output();
        fs::remove_dir_all(&folder).expect("the folder of the case");
        let output = output.expect("the command runs");
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).expect("text"))
        } else {
            // Errors repeat what is wrong, bytes that are no text among it.
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
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
    let entries = fs::read_dir(folder).expect("the table").map(|e| e.expect("an entry").path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "txt")).collect();
    files.sort();
    let command = std::env::var_os("KUSTOMIZE").map(PathBuf::from);
    let (mut wrong, mut count) = (Vec::new(), 0);
    for file in files {
        let text = fs::read_to_string(&file).expect("a file of cases");
        let mut cases = format::read(&text);
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
        let written = format::write(&cases);
        if written != text && command.is_some() {
            fs::write(&file, written).expect("a file of cases");
            wrong.push(format!("{} was written anew", file.display()));
        } else if written != text {
            wrong
                .push(format!("{} is not as it would be written: write it with KUSTOMIZE=…", file.display()));
        }
    }
    println!("{count} cases");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
