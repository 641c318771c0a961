//! A layer of an OCI image or a chart: whatever it holds, it is unpacked below its folder, or refused.

#![no_main]

use flotilla_kustomize::files::{Files, TreePath};
use flotilla_kustomize::ignore::Ignored;
use flotilla_source::FolderFiles;
use flotilla_source::flux::{SourceLimits, unpack};
use libfuzzer_sys::fuzz_target;
use std::sync::Arc;

fuzz_target!(|bytes: &[u8]| {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let inner = dir.path().join("in");
    std::fs::create_dir(&inner).expect("a folder");
    let limits = SourceLimits { file_bytes: 1 << 16, bytes: 1 << 20, files: 100 };
    let done = unpack(&inner, limits, bytes);
    assert_eq!(std::fs::read_dir(dir.path()).expect("it is there").count(), 1, "nothing leaves the folder");
    if done.is_ok() {
        let files = Arc::new(FolderFiles::open(&inner, limits.file_bytes).expect("it was filled"));
        let _ = files.entry(&TreePath::root());
        let _ = Ignored::new(files, None).and_then(|files| files.list(&TreePath::root()));
    }
});
