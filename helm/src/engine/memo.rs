//! What the engine writes beside a revision that it made, so that whoever goes on after it was killed knows what was under way, what
//! failed how often, and which tests passed. It stands in an annotation of the record. Helm drops annotations where it writes a
//! record itself, so a revision without one is somebody else's work.

use flotilla_core::Digest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The annotation of a record that holds a [`Memo`] as JSON.
pub const MEMO: &str = "flotilla.dev/release-memo";
/// A label of the records of releases that the engine installed or took over. Helm gives a revision the labels of the one before,
/// so they say whose the release is even after somebody upgraded it by hand.
pub const MANAGED: &str = "flotilla.dev/managed";
/// More than any memo needs.
const MAX_LENGTH: usize = 8 << 10;

/// What is done to a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Attempt {
    Install,
    Upgrade,
    Rollback { to: u64 },
    Uninstall,
}

/// Why it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Cause {
    /// The release is not there.
    Absent,
    /// It is there, and was never ours.
    Adopted,
    /// It was ours, and somebody else changed it since.
    Foreign,
    /// Another revision is wanted.
    Changed,
    /// The attempt before failed.
    Retry,
    /// It puts right what an attempt left that failed.
    Remedy,
    /// A release of another chart makes room.
    Replaced,
    /// Nobody wants the release any more.
    Removed,
}

/// The action whose options say what follows a failure: the install or upgrade that was tried last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Release {
    Install,
    Upgrade,
}

/// How often a definition could not be installed or upgraded to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failures {
    pub install: u32,
    pub upgrade: u32,
}

/// How far an attempt is. What is done once is written before the next thing begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// The hooks that run before anything changes.
    Before,
    /// The objects are applied, or deleted.
    Objects,
    /// What the last revision had and this one has not is deleted.
    Leaving,
    /// The objects become ready, or go.
    Wait,
    After,
    Test,
    /// The records of an uninstalled release are deleted.
    Records,
}

/// An attempt that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub stage: Stage,
    /// Since when it is in this stage.
    pub since: Timestamp,
    /// So many of the stage's hooks are done.
    #[serde(default)]
    pub hooks: usize,
    /// The hook after those, once its object is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Run>,
}

/// A run of a hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub started: Timestamp,
    /// The uid of its object.
    pub made: String,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Memo {
    pub attempt: Attempt,
    pub cause: Cause,
    pub of: Release,
    /// The definition under which it was begun: [`super::Wanted::spec`].
    pub spec: Digest,
    /// What the revision is made of: [`super::Wanted::digest`]. `None` where it went back to a revision that is not ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Digest>,
    /// When it was begun. With the revision it names the attempt.
    pub begun: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// Of this definition, this attempt included once it failed.
    #[serde(default)]
    pub failures: Failures,
    /// How many rollbacks or uninstalls in a row failed.
    #[serde(default)]
    pub failed_remedies: u32,
    /// Whether its tests passed; `None` before they ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tested: Option<bool>,
    /// `None` when nothing is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

impl Memo {
    /// Reads the annotation. One that is damaged is nobody's word: the revision counts as somebody else's, which is upgraded
    /// and never deleted.
    pub fn read(annotation: &str) -> Option<Self> {
        if annotation.len() > MAX_LENGTH { None } else { serde_json::from_str(annotation).ok() }
    }

    /// What [`Memo::read`] reads.
    ///
    /// # Panics
    /// Never: texts and numbers are JSON.
    pub fn write(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers are JSON")
    }
}

impl Failures {
    pub fn of(self, release: Release) -> u32 {
        match release {
            Release::Install => self.install,
            Release::Upgrade => self.upgrade,
        }
    }

    #[must_use]
    pub fn and_one_more(mut self, release: Release) -> Self {
        let count = match release {
            Release::Install => &mut self.install,
            Release::Upgrade => &mut self.upgrade,
        };
        *count = count.saturating_add(1);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memo_is_read_as_it_was_written_and_a_damaged_one_is_none() {
        let at = Timestamp::from_second(1_800_000_000).unwrap();
        let memo = Memo {
            attempt: Attempt::Rollback { to: 3 },
            cause: Cause::Remedy,
            of: Release::Upgrade,
            spec: Digest::of(b"spec"),
            content: Some(Digest::of(b"content")),
            begun: at,
            ended: None,
            failures: Failures { install: 0, upgrade: 2 },
            failed_remedies: 1,
            tested: Some(false),
            progress: Some(Progress {
                stage: Stage::After,
                since: at,
                hooks: 2,
                run: Some(Run { started: at, made: "a-uid".to_owned() }),
            }),
        };
        let text = memo.write();
        assert!(text.len() < MAX_LENGTH / 2, "{}", text.len());
        assert_eq!(Memo::read(&text), Some(memo));

        let long = format!("{text}{}", " ".repeat(MAX_LENGTH));
        for damaged in ["", "{}", "null", &text[1..], &text.replace("rollback", "rollforth"), &long] {
            assert_eq!(Memo::read(damaged), None, "{damaged}");
        }
    }
}
