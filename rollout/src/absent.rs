//! Stages of which it cannot be said that they are empty: none of their clusters has joined, or a cluster that may be in them cannot
//! be read. Nothing was tested there, so nothing passes them. They wait until that changes, or somebody overrides them by name. Once a
//! cluster has joined, those that have decide.

use crate::fleet::Fleet;
use crate::gates::Blocked;

/// How many clusters the sentence names.
const MAX_NAMED: usize = 3;

impl Fleet<'_> {
    /// What a stage waits for that has no cluster which joined, and may have clusters.
    pub(crate) fn joined(&self, stage: usize) -> Result<(), Blocked> {
        if !self.members[stage].is_empty() {
            return Ok(());
        }
        let absent = &self.absent[stage];
        if absent.is_empty() {
            let in_doubt = |at: &usize| self.cluster(*at).labels.is_none() && self.stage_of[*at].is_none();
            return match (0..self.stage_of.len()).find(in_doubt) {
                None => Ok(()),
                Some(at) => {
                    let name = &self.part(at).name;
                    let text = format!(
                        "it has no clusters as far as is known, and the definition of {name} cannot be read"
                    );
                    Err(Blocked::new(text, None))
                }
            };
        }
        let named: Vec<&str> = absent.iter().take(MAX_NAMED).map(|at| self.part(*at).name.as_str()).collect();
        let more = match absent.len() - named.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let text = format!(
            "none of its clusters has joined ({}{more}): let one join by `flotilla cluster add`, or take them out of the stage",
            named.join(", ")
        );
        Err(Blocked::new(text, None))
    }
}
