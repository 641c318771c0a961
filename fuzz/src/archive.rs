//! A layer of an OCI image, or an archive in a source, as a tar archive or as text (`-- PATH` before each file): whatever it
//! holds, it is unpacked below its folder, or refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::inputs::{files, gzip, tar};
use flotilla_core::source::{AliasPath, ArtifactGenerator, CopyRule, CopyStrategy, GeneratedArtifact};
use flotilla_kustomize::files::{Files, MemoryFiles, TreePath};
use flotilla_kustomize::ignore::Ignored;
use flotilla_render::Artifact;
use flotilla_render::generate::generate;
use flotilla_source::FolderFiles;
use flotilla_source::flux::{SourceLimits, unpack};

pub fn run(bytes: &[u8]) {
    let archive = match std::str::from_utf8(bytes) {
        Ok(text) if text.starts_with("-- ") => {
            let files = files(text).into_iter().map(|(path, content)| (path, content.into_bytes()));
            tar(&files.collect::<Vec<_>>())
        }
        _ => bytes.to_vec(),
    };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let inner = dir.path().join("in");
    std::fs::create_dir(&inner).expect("a folder");
    let limits = SourceLimits { file_bytes: 1 << 16, bytes: 1 << 20, files: 100 };
    let done = unpack(&inner, limits, &archive);
    assert_eq!(std::fs::read_dir(dir.path()).expect("it is there").count(), 1, "nothing leaves the folder");
    if done.is_ok() {
        let files = Arc::new(FolderFiles::open(&inner, limits.file_bytes).expect("it was filled"));
        let _ = files.entry(&TreePath::root());
        let _ = Ignored::new(files, None).and_then(|files| files.list(&TreePath::root()));
    }
    taken_apart(gzip(&archive));
}

/// The same archive as a file of a source that a generator takes apart.
fn taken_apart(packed: Vec<u8>) {
    let from = AliasPath { alias: "a".into(), path: "x.tar.gz".into() };
    let rule = CopyRule { from, to: "".into(), exclude: Vec::new(), strategy: CopyStrategy::Extract };
    let artifact =
        GeneratedArtifact { name: "made".into(), revision: None, origin_revision: None, copy: vec![rule] };
    let generator = ArtifactGenerator { inputs: Vec::new(), path_pattern: None, artifacts: vec![artifact] };
    let files = MemoryFiles::new([("x.tar.gz", packed)]);
    let source = Artifact::new(Arc::new(files), "main@sha1:1", "source");
    if let Ok(made) = generate(&generator, &BTreeMap::from([("a".to_owned(), source)])) {
        let files = &made["made"].files;
        for (name, _) in files.list(&TreePath::root()).expect("what was made can be listed") {
            assert!(TreePath::from_root(&name).is_ok_and(|path| path.name() == name), "{name}");
        }
    }
}
