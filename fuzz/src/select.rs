//! Ways to choose: the first line is a regular expression, a selector of labels, a range of versions, a pattern of names and
//! one of `.sourceignore`, all in one; the rest are texts to choose from. Each is refused or has an answer, in a time that
//! the length of both decides.

use crate::inputs::on_thread;
use flotilla_core::glob::Pattern;
use flotilla_kustomize::files::TreePath;
use flotilla_kustomize::ignore::Rules;
use flotilla_select::{Labels, Regexp};
use flotilla_source::{Range, loose, strict};

pub fn run(bytes: &[u8]) {
    on_thread(|| check(bytes));
}

fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (pattern, rest) = text.split_once('\n').unwrap_or((text, ""));
    // What an open `\Q` quotes is everything to the end, so the anchor too: there it is a pattern only as it is.
    if let (Ok(regexp), Ok(anchored)) = (Regexp::new(pattern), Regexp::anchored(pattern)) {
        for line in rest.lines() {
            assert!(
                regexp.is_match(line) || !anchored.is_match(line),
                "{pattern:?} matches all of {line:?} only"
            );
        }
    }
    if let Ok(labels) = Labels::parse(pattern) {
        let value = |key: &str| rest.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        labels.matches(value);
    }
    if let Ok(range) = pattern.parse::<Range>() {
        for parse in [strict, loose] {
            let newest = range.newest(rest.lines(), parse);
            assert!(newest.is_none_or(|name| parse(name).is_some_and(|version| range.matches(&version))));
        }
    }
    let glob = Pattern::new(pattern);
    let mut rules = Rules::defaults();
    rules.add(pattern, &TreePath::root());
    for line in rest.lines() {
        glob.matches(line);
        if let Ok(path) = TreePath::from_root(line) {
            rules.leave_out(&path, false);
            rules.leave_out(&path, true);
        }
    }
}
