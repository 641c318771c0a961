//! What the marks mean that a process left behind when it died.

use flotilla_core::Digest;
use flotilla_render::attempts::Seen;
use serde::{Deserialize, Serialize};

/// So many inputs are suspected, and set aside, at most: the oldest are forgotten.
const MOST: usize = 100;

/// What was worked on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Of the hub. Another one may do better.
    pub(super) version: String,
    /// A unit, a source, a cluster or the fleet's definition.
    pub(super) what: String,
    pub(super) key: Digest,
    /// `None` where clusters are looked for.
    pub(super) cluster: Option<String>,
    pub(super) commit: String,
    /// Nothing else was worked on meanwhile.
    pub(super) alone: bool,
}

/// An input that is not worked on while what was seen of it is the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SetAside {
    pub(super) mark: Mark,
    pub(super) seen: Vec<Seen>,
}

/// A mark that was left, with what had been seen by then.
pub(super) type Left = SetAside;

/// What is known of inputs that a process died over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Inputs {
    /// A process died while these were worked on, others too perhaps. The next time each is alone.
    pub(super) suspects: Vec<Mark>,
    pub(super) set_aside: Vec<SetAside>,
}

/// What follows from the marks that a process left. It may have died of anything: a signal, the machine's memory, an input.
/// What it worked on is suspected; what it died over though nothing else was worked on, and though another process had
/// died over it before, is set aside.
pub(super) fn judge(mut known: Inputs, left: Vec<Left>, version: &str) -> Inputs {
    known.suspects.retain(|mark| mark.version == version);
    known.set_aside.retain(|aside| aside.mark.version == version);
    for left in left.into_iter().filter(|left| left.mark.version == version) {
        let is_suspect = |mark: &Mark| mark.key == left.mark.key;
        if !left.mark.alone {
            if !known.suspects.iter().any(is_suspect) {
                known.suspects.push(left.mark);
            }
            continue;
        }
        known.suspects.retain(|mark| !is_suspect(mark));
        known.set_aside.retain(|aside| !(is_suspect(&aside.mark) && aside.seen == left.seen));
        known.set_aside.push(left);
    }
    let (suspects, set_aside) = (known.suspects.len(), known.set_aside.len());
    known.suspects.drain(..suspects.saturating_sub(MOST));
    known.set_aside.drain(..set_aside.saturating_sub(MOST));
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `name`, and `!` where it was alone, `~` where another version of the hub left it.
    fn mark(text: &str) -> Mark {
        let name = text.trim_end_matches(['!', '~']);
        Mark {
            version: if text.ends_with('~') { "0" } else { "1" }.to_owned(),
            what: name.to_owned(),
            key: Digest::of(name.as_bytes()),
            cluster: Some("one".to_owned()),
            commit: "c0ffee".to_owned(),
            alone: text.contains('!'),
        }
    }

    fn aside(text: &str) -> SetAside {
        let (name, file) = text.split_once(' ').unwrap_or((text, "a.yaml"));
        SetAside { mark: mark(name), seen: vec![Seen::File { path: file.to_owned(), id: None }] }
    }

    fn shown(inputs: &Inputs) -> (Vec<&str>, Vec<&str>) {
        let suspects = inputs.suspects.iter().map(|mark| mark.what.as_str());
        (suspects.collect(), inputs.set_aside.iter().map(|aside| aside.mark.what.as_str()).collect())
    }

    type Case<'a> = (&'a str, &'a [&'a str], &'a [&'a str], &'a [&'a str], (&'a [&'a str], &'a [&'a str]));

    #[test]
    fn one_death_is_a_suspicion_and_one_alone_is_enough() {
        let cases: &[Case<'_>] = &[
            ("nothing was left", &[], &[], &[], (&[], &[])),
            ("all that was worked on is suspected", &[], &[], &["a", "b"], (&["a", "b"], &[])),
            ("died again, not alone: still suspected", &["a"], &[], &["a"], (&["a"], &[])),
            ("died again, alone", &["a", "b"], &[], &["a!"], (&["b"], &["a"])),
            ("others stay", &["b"], &["c"], &["a"], (&["b", "a"], &["c"])),
            ("of another version, then", &["a~"], &["b~"], &[], (&[], &[])),
            ("of another version, now", &[], &[], &["a~", "b!~"], (&[], &[])),
            ("the same once more", &["a"], &["a"], &["a!"], (&[], &["a"])),
            ("the same, of other files", &["a"], &["a b.yaml"], &["a!"], (&[], &["a", "a"])),
        ];
        for (name, suspects, set_aside, left, expected) in cases {
            let known = Inputs {
                suspects: suspects.iter().map(|text| mark(text)).collect(),
                set_aside: set_aside.iter().map(|text| aside(text)).collect(),
            };
            let judged = judge(known, left.iter().map(|text| aside(text)).collect(), "1");
            let (suspects, set_aside) = shown(&judged);
            assert_eq!((suspects.as_slice(), set_aside.as_slice()), *expected, "{name}");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let names: Vec<String> = (0..MOST + 5).map(|n| format!("u{n}")).collect();
        let left = names.iter().map(|name| aside(name)).collect();
        let judged = judge(Inputs::default(), left, "1");
        assert_eq!((judged.suspects.len(), judged.suspects[0].what.as_str()), (MOST, "u5"));
    }
}
