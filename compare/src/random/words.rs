//! The words that objects are made of: few, so that they meet.

use super::rng::Rng;
use super::value::{Value, map, plain};

pub(super) const NAMES: [&str; 5] = ["web", "api", "db", "cache", "default"];

/// The name of something, which may be there.
pub(super) fn name(rng: &mut Rng) -> Value {
    rng.word(&NAMES).into()
}

/// A few labels or annotations.
pub(super) fn strings(rng: &mut Rng) -> Value {
    let mut strings = Value::Map(Vec::new());
    for _ in 0..rng.between(0, 3) {
        strings.set(
            rng.word(&["a", "b", "app", "tier", "x.y/z"]),
            rng.word(&["1", "on", "web", "true", "v v", "$(VAR)", "0x1f", "a-b/c"]),
        );
    }
    strings
}

/// A scalar of any kind, those that YAML's versions read differently among them.
pub(super) fn scalar(rng: &mut Rng) -> Value {
    const PLAIN: [&str; 21] = [
        "x",
        "yes",
        "on",
        "0644",
        "1e3",
        "null",
        "~",
        "10.5",
        "5",
        "true",
        "False",
        "1.50",
        "0",
        "-3",
        "0x1F",
        "2020-01-01",
        "1_000",
        "é",
        ".5",
        "12:30",
        "0o17",
    ];
    const TEXTS: [&str; 16] = [
        "", "it's", "a: b", "l1\nl2\n", " lead", "#x", "@x", "a\tb", "%d", "yes", "1", "null", "x\n\ny\n",
        "trail ", "- a", "{}",
    ];
    match rng.below(12) {
        0..=4 => plain(rng.word(&PLAIN)),
        5..=9 => rng.word(&TEXTS).into(),
        10 => "long ".repeat(30).into(),
        _ => Value::List(Vec::new()),
    }
}

/// A selector with some labels, perhaps with an expression.
pub(super) fn selector(rng: &mut Rng) -> Value {
    let mut selector = map([("matchLabels", strings(rng))]);
    if rng.chance(10) {
        let expression = map([("key", "a"), ("operator", "Exists")]);
        selector.set("matchExpressions", vec![expression]);
    }
    selector
}
