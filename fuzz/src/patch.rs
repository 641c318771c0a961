//! Resources, a line `=====`, and a patch for all of them: strategic merge or JSON 6902.

use crate::inputs::on_thread;
use flotilla_kustomize::files::{MemoryFiles, TreePath};
use flotilla_kustomize::{Options, build};

const KUSTOMIZATION: &str = "resources: [r.yaml]\npatches:\n- path: p.yaml\n  target: {kind: .*}\n";

pub fn run(bytes: &[u8]) {
    on_thread(|| check(bytes));
}

fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some((resources, patch)) = text.split_once("\n=====\n") else { return };
    let files = [("kustomization.yaml", KUSTOMIZATION), ("r.yaml", resources), ("p.yaml", patch)];
    if let Ok(output) = build(&MemoryFiles::new(files), &TreePath::root(), &Options::default()) {
        let _ = output.to_yaml();
    }
}
