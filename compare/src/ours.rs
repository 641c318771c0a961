//! Our build, with the options that the plain command has.

use std::path::Path;
use std::process::Command;

use flotilla_kustomize::files::{Files, TreePath};
use flotilla_kustomize::{
    Answer, Answers, BuildError, HelmRequest, LoadRestrictor, Options, Request, build, build_with,
};

use crate::tree::Tree;
use crate::verdict::Outcome;

/// What our build puts out for a tree, or why it fails. A panic is a failure that says so.
pub fn outcome(tree: &Tree, options: &Options) -> Outcome {
    let files = tree.to_memory();
    let result = std::panic::catch_unwind(|| text(&files, &tree.root, options));
    result.unwrap_or_else(|_| Err("panicked".to_owned()))
}

/// As [`outcome`], with charts rendered by a program in place of helm.
pub fn outcome_with_charts(tree: &Tree, helm: &Path) -> Outcome {
    let files = tree.to_memory();
    let result = std::panic::catch_unwind(|| with_charts(&files, &tree.root, helm));
    result.unwrap_or_else(|_| Err("panicked".to_owned()))
}

fn with_charts(files: &dyn Files, root: &str, helm: &Path) -> Outcome {
    let root = TreePath::from_root(root).map_err(|error| error.to_string())?;
    let options = Options { helm: true, ..Options::default() };
    let mut answers = Answers::new();
    loop {
        let needs = match build_with(files, &root, &options, &answers) {
            Ok(output) => return output.to_yaml().map_err(|error| error.to_string()),
            Err(BuildError::Needs(needs)) => needs,
            Err(error) => return Err(error.to_string()),
        };
        for need in needs {
            let Request::Helm(request) = &need else { return Err(format!("{need} is needed")) };
            let answer = Answer::Text(render(files, request, helm)?.into());
            answers.insert(need, answer);
        }
    }
}

/// What the program prints for a chart of the tree.
fn render(files: &dyn Files, request: &HelmRequest, helm: &Path) -> Outcome {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let chart = request.chart_folder().map_err(|error| words(&error))?;
    let values = chart.join("values.yaml").map_err(|error| words(&error))?;
    let values = files.read(&values).ok();
    let folder = tempfile::tempdir().map_err(|error| words(&error))?;
    let mut command = Command::new(helm);
    command.arg("template");
    for (n, text) in request.values(values.as_deref()).map_err(|error| words(&error))?.iter().enumerate() {
        let path = folder.path().join(n.to_string());
        std::fs::write(&path, text).map_err(|error| words(&error))?;
        command.arg("-f").arg(path);
    }
    let output = command.output().map_err(|error| words(&error))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// The text of a build.
///
/// # Errors
/// Why it failed, in words.
pub fn text(files: &dyn Files, root: &str, options: &Options) -> Outcome {
    let root = TreePath::from_root(root).map_err(|error| error.to_string())?;
    let output = build(files, &root, options).map_err(|error| error.to_string())?;
    output.to_yaml().map_err(|error| error.to_string())
}

/// As `--load-restrictor LoadRestrictionsNone`.
pub fn unrestricted() -> Options {
    Options { load_restrictor: LoadRestrictor::None, ..Options::default() }
}
