//! Tests that are left out, because the machine lacks something that they need: nobody shall take them for passed.
//!
//! ```text
//!   a test ── lacks something of the machine ──► CI is set: it fails
//!          │                                └─► else ─┐
//!          └─ lacks what is no part of the repository ─┴─► a line in the file that FLOTILLA_LEFT_OUT names
//!                                                          └─► `cargo xtask test` counts them
//! ```

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The file that lines are added to; `cargo xtask test` sets it.
pub const FILE: &str = "FLOTILLA_LEFT_OUT";
/// Set where tests must not be left out.
pub const CI: &str = "CI";
/// What a machine is known to lack, by name, with commas between: for want of that they may be.
pub const ALLOWED: &str = "FLOTILLA_LEFT_OUT_OK";

/// Notes that the calling test is left out for want of `lacking`; `remedy` is what to do about it.
///
/// # Panics
/// In CI, unless [`ALLOWED`] names it: there a test that does not run is one that fails.
pub fn note(lacking: &str, remedy: &str) {
    let in_ci = std::env::var_os(CI).is_some_and(|value| !value.is_empty());
    let is_allowed =
        std::env::var(ALLOWED).is_ok_and(|allowed| allowed.split(',').any(|name| name == lacking));
    assert!(
        !in_ci || is_allowed,
        "there is no {lacking}, and in CI no test is left out: {remedy} (or name it in {ALLOWED})"
    );
    count(lacking, remedy);
}

fn count(lacking: &str, remedy: &str) {
    let thread = std::thread::current();
    let line = format!("{lacking}\t{}\n", thread.name().unwrap_or_default());
    eprint!("left out, as there is no {lacking} ({remedy}): {line}");
    if let Some(file) = std::env::var_os(FILE) {
        // One write: several test programs add to it.
        let written = OpenOptions::new().create(true).append(true).open(&file);
        let written = written.and_then(|mut file| file.write_all(line.as_bytes()));
        written.unwrap_or_else(|error| panic!("cannot add to {}: {error}", Path::new(&file).display()));
    }
}

/// A folder of material that stands outside of the repository: in the folder that `FLOTILLA_SHARED` names, or in `shared`
/// beside the clone. Where it is missing that is counted; it fails nowhere, as no clone brings it.
pub fn shared(folder: &str) -> Option<PathBuf> {
    let path = shared_if_there(folder);
    if path.is_none() {
        count(&format!("shared/{folder}"), "put it beside the clone, or set FLOTILLA_SHARED");
    }
    path
}

/// The same, for a look that is no test of its own.
pub fn shared_if_there(folder: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let path = std::env::var_os("FLOTILLA_SHARED").map_or_else(beside, PathBuf::from).join(folder);
    path.is_dir().then_some(path)
}
