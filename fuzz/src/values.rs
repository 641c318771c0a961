//! Values of a release: lines `{…}` that are laid over what is there, `PATH=VALUE` that are put at a path, and `PATH:=TEXT`
//! with the text as it is. The first mapping is the release's own.

use crate::inputs::on_thread;
use flotilla_render::helm::values::Values;
use serde_json::{Map, Value};

pub fn run(bytes: &[u8]) {
    on_thread(|| check(bytes));
}

fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mapping = |line: &str| -> Option<Map<String, Value>> { serde_json::from_str(line).ok() };
    let mut lines = text.lines().peekable();
    let mut values =
        Values::new(lines.next_if(|line| line.starts_with('{')).and_then(mapping).unwrap_or_default());
    for line in lines.take(50) {
        if let Some((path, value)) = line.split_once(":=") {
            let _ = values.set(path, value, true);
        } else if let Some(over) = mapping(line) {
            values.lay(over);
        } else if let Some((path, value)) = line.split_once('=') {
            let _ = values.set(path, value, false);
        }
    }
    let _ = serde_json::to_vec(&values.finish()).expect("values have a text");
}
