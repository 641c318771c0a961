//! A whole tree in the format of `kustomize/tests/table`: `-- PATH` before each file, `-- PATH (escaped)` where it is no
//! plain text, `-- build FOLDER` where it is not the root that is built. Those files are the seeds.

use crate::inputs::{on_thread, unescape};
use flotilla_kustomize::files::{MemoryFiles, TreePath};
use flotilla_kustomize::{Options, build};

pub fn run(bytes: &[u8]) {
    on_thread(|| check(bytes));
}

fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for case in text.split("\n== ").take(4) {
        let mut files: Vec<(&str, String)> = Vec::new();
        let mut root = ".";
        for line in case.lines() {
            match line.strip_prefix("-- ") {
                Some(heading) => match heading.strip_prefix("build ") {
                    Some(folder) => root = folder,
                    None => files.push((heading, String::new())),
                },
                None => {
                    if let Some((_, content)) = files.last_mut() {
                        content.push_str(line);
                        content.push('\n');
                    }
                }
            }
        }
        let files = files.into_iter().map(|(path, content)| match path.strip_suffix(" (escaped)") {
            Some(path) => (path, unescape(&content)),
            None => (path, content.into_bytes()),
        });
        let Ok(root) = TreePath::root().join(root) else { continue };
        let options = Options { helm: true, ..Options::default() };
        if let Ok(output) = build(&MemoryFiles::new(files), &root, &options) {
            let Ok(text) = output.to_yaml() else { continue };
            // Line separators outside of quotes are written as kustomize does, and not read (docs/kustomize.md).
            let is_read = !text.contains(['\u{2028}', '\u{2029}']);
            assert!(!is_read || flotilla_yaml::parse(&text).is_ok());
        }
    }
}
