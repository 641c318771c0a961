//! How two builds of one tree compare.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::tree::Tree;

/// What a build came to: its text, or why it failed.
pub type Outcome = std::result::Result<String, String>;

/// How our outcome compares with the real one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// The same bytes.
    Same,
    /// Both fail; the words may differ.
    BothFail,
    OtherText,
    FailsOnlyHere,
    FailsOnlyThere,
}

impl Verdict {
    pub const ALL: [Self; 5] =
        [Self::Same, Self::BothFail, Self::OtherText, Self::FailsOnlyHere, Self::FailsOnlyThere];

    /// Compares our outcome with the real one.
    pub fn of(ours: &Outcome, real: &Outcome) -> Self {
        match (ours, real) {
            (Ok(ours), Ok(real)) if ours == real => Self::Same,
            (Ok(_), Ok(_)) => Self::OtherText,
            (Err(_), Err(_)) => Self::BothFail,
            (Err(_), Ok(_)) => Self::FailsOnlyHere,
            (Ok(_), Err(_)) => Self::FailsOnlyThere,
        }
    }

    /// Whether there is nothing to explain.
    pub fn agrees(self) -> bool {
        matches!(self, Self::Same | Self::BothFail)
    }

    /// As in figures and lists.
    pub fn name(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::BothFail => "both_fail",
            Self::OtherText => "differ",
            Self::FailsOnlyHere => "fails_only_here",
            Self::FailsOnlyThere => "fails_only_there",
        }
    }
}

/// Keeps a tree with both outcomes in a folder of its own: `tree/`, `ours.*`, `real.*` and a line that says what is
/// the matter.
///
/// # Errors
/// If something cannot be written.
pub fn keep(folder: &Path, tree: &Tree, ours: &Outcome, real: &Outcome) -> Result<()> {
    tree.write(&folder.join("tree"))?;
    for (name, outcome) in [("ours", ours), ("real", real)] {
        let (end, text) = match outcome {
            Ok(text) => ("yaml", text),
            Err(text) => ("error", text),
        };
        let path = folder.join(format!("{name}.{end}"));
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    let reason = format!("{}: {}\n", Verdict::of(ours, real).name(), first_difference(ours, real));
    let path = folder.join("reason");
    fs::write(&path, reason).with_context(|| format!("write {}", path.display()))
}

/// One line that says where two outcomes part.
pub fn first_difference(ours: &Outcome, real: &Outcome) -> String {
    match (ours, real) {
        (Ok(ours), Ok(real)) => {
            let mut ours = ours.lines();
            for (number, line) in real.lines().enumerate() {
                let here = ours.next();
                if here != Some(line) {
                    let here = here.map_or("nothing".to_owned(), |here| format!("'{here}'"));
                    return format!("line {}: {here} here, '{line}' there", number + 1);
                }
            }
            ours.next().map_or("the same".to_owned(), |line| format!("'{line}' only here"))
        }
        (Err(error), _) | (_, Err(error)) => error.lines().next().unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_compare() {
        let (a, b): (Outcome, Outcome) = (Ok("x\na\n".into()), Ok("x\nb\n".into()));
        let failed: Outcome = Err("no".into());
        for (ours, real, expected, says) in [
            (&a, &a, Verdict::Same, "the same"),
            (&a, &b, Verdict::OtherText, "line 2: 'a' here, 'b' there"),
            (&a, &failed, Verdict::FailsOnlyThere, "no"),
            (&failed, &a, Verdict::FailsOnlyHere, "no"),
            (&failed, &failed, Verdict::BothFail, "no"),
        ] {
            assert_eq!(Verdict::of(ours, real), expected);
            assert_eq!(first_difference(ours, real), says);
        }
    }
}
