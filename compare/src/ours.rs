//! Our build, with the options that the plain command has.

use flotilla_kustomize::files::{Files, TreePath};
use flotilla_kustomize::{LoadRestrictor, Options, build};

use crate::tree::Tree;
use crate::verdict::Outcome;

/// What our build puts out for a tree, or why it fails. A panic is a failure that says so.
pub fn outcome(tree: &Tree, options: &Options) -> Outcome {
    let files = tree.to_memory();
    let result = std::panic::catch_unwind(|| text(&files, &tree.root, options));
    result.unwrap_or_else(|_| Err("panicked".to_owned()))
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
