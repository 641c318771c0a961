//! A chart, as text (`-- PATH` before each file; `-- charts/x.tgz>x/Chart.yaml` for one in an archive, and deeper) or as a
//! tar archive that stands in it: what helm is given stays in its folder, and is taken again as it is.

use std::collections::BTreeMap;
use std::path::Path;

use crate::inputs::{files, gzip, on_thread, tar};
use flotilla_kustomize::files::{MemoryFiles, TreePath};
use flotilla_render::helm::Limits;
use flotilla_render::helm::program::write_chart;
use flotilla_source::FolderFiles;

pub fn run(bytes: &[u8]) {
    on_thread(|| check(bytes));
}

fn check(bytes: &[u8]) {
    let chart: Vec<(String, Vec<u8>)> = match std::str::from_utf8(bytes) {
        Ok(text) if text.starts_with("-- ") => {
            packed(files(text).into_iter().map(|(path, content)| (path, content.into_bytes())).collect())
        }
        _ => vec![("charts/x.tgz".to_owned(), gzip(bytes))],
    };
    let limits = Limits { chart: 4 << 20, files: 200, ..Limits::default() };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let given = write_chart(&MemoryFiles::new(chart), &TreePath::root(), &first, &limits);
    assert!(std::fs::read_dir(dir.path()).expect("it is there").count() <= 1, "nothing leaves the folder");
    if given.is_err() {
        return;
    }
    // Packed anew, archives have a few bytes more.
    let limits = Limits { chart: 8 << 20, ..limits };
    let again = FolderFiles::open(&first, limits.chart).expect("it was written");
    let draws =
        write_chart(&again, &TreePath::root(), &second, &limits).expect("what is given is taken again");
    // What is left out on the way may have been all that draws.
    assert!(given.expect("it was given") || !draws);
    assert_eq!(contents(&second), contents(&first));
}

/// Puts what stands in archives into archives, the innermost first.
fn packed(files: Vec<(String, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    let mut here = Vec::new();
    let mut archives: BTreeMap<String, Vec<(String, Vec<u8>)>> = BTreeMap::new();
    for (path, content) in files {
        match path.split_once('>') {
            Some((archive, inner)) => {
                archives.entry(archive.to_owned()).or_default().push((inner.to_owned(), content));
            }
            None => here.push((path, content)),
        }
    }
    here.extend(archives.into_iter().map(|(path, files)| (path, gzip(&tar(&packed(files))))));
    here
}

fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).expect("it is there") {
            let path = entry.expect("it can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("it is in it").display().to_string();
                found.insert(name, std::fs::read(&path).expect("it was written"));
            }
        }
    }
    found
}
