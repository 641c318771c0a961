//! A `Pipeline` as the engine works on it: which units, through which stages, under what conditions.
//!
//! Whoever reads it from YAML has checked it; what can only be right by its type is a type. All durations are whole
//! seconds, all times seconds since 1970.

use std::fmt;

use flotilla_core::selector::Selector;
use serde::{Deserialize, Serialize};

pub use crate::selection::{UnitPattern, UnitSelection};
pub use crate::window::{Day, Period, Window, WindowKind, Zone};

/// Whole seconds.
pub type Seconds = i64;

/// The most stages that a pipeline may have.
pub const MAX_STAGES: usize = 32;

/// The path of a candidate through groups of clusters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pipeline {
    pub name: String,
    /// Which units it promotes. What it does not select, each cluster runs as Git has it now.
    pub units: UnitSelection,
    /// In the order in which a candidate passes them; names are distinct. A cluster that several select is in the first.
    pub stages: Vec<Stage>,
    /// Windows that hold for every stage, beside each stage's own.
    pub windows: Vec<Window>,
    pub on_change: OnChange,
}

impl Pipeline {
    pub fn stage(&self, name: &str) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.name == name)
    }
}

/// What becomes of a stage's run when the stage's strategy or gates are edited. Who is in which stage is always as edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnChange {
    /// A run ends under the strategy and gates that it began with; the next one has the new ones.
    #[default]
    Freeze,
    /// The run begins anew under the new ones: its gates are asked again; clusters that run the candidate keep it.
    Restart,
    /// The new ones hold at once for a run that gave no cluster its candidate yet; another one ends as it began.
    Unstarted,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    pub name: String,
    pub clusters: Selector,
    pub strategy: Strategy,
    /// What has to hold before the first cluster gets a candidate.
    pub before: Gates,
    /// What has to hold, with every cluster of the stage on the candidate, before it has passed.
    pub after: Gates,
    /// When clusters may be given something new.
    pub windows: Vec<Window>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strategy {
    /// How many clusters may be in flight at once: given a candidate, and neither healthy on it, failed nor written off. A
    /// share is of the clusters that the stage had when its run began, rounded up, and at least one.
    pub max_concurrent: Amount,
    pub order: Order,
    /// How many clusters may have failed at once before the candidate has failed. A share is rounded down.
    pub max_failed: Amount,
    /// After how long in flight, and connected, a cluster has failed. `None`: only what it reports counts.
    pub progress_deadline: Option<Seconds>,
    pub on_failure: OnFailure,
    pub offline: Offline,
    pub join: Join,
    /// Whether a newer candidate takes the place of one that has not passed yet. Otherwise the stage finishes or fails
    /// it first, so that a commit a minute lets none pass.
    pub supersede: bool,
}

impl Default for Strategy {
    /// One cluster at a time, by name; the first failure stops it.
    fn default() -> Self {
        Self {
            max_concurrent: Amount::Count(1),
            order: Order::Name,
            max_failed: Amount::Count(0),
            progress_deadline: Some(30 * 60),
            on_failure: OnFailure::Pause,
            offline: Offline::default(),
            join: Join::LastPassed,
            supersede: false,
        }
    }
}

/// A number of clusters, or a share of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Amount {
    Count(u32),
    /// Of a hundred; at most 100.
    Percent(u8),
}

impl Amount {
    /// As a number that lets things go on: rounded up, and at least 1.
    pub fn at_least_one_of(self, all: usize) -> usize {
        match self {
            Self::Count(count) => count.max(1) as usize,
            Self::Percent(share) => (all * usize::from(share)).div_ceil(100).max(1),
        }
    }

    /// As a number that is tolerated: rounded down.
    pub fn at_most_of(self, all: usize) -> usize {
        match self {
            Self::Count(count) => count as usize,
            Self::Percent(share) => all * usize::from(share) / 100,
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(share) => write!(f, "{share}%"),
        }
    }
}

/// Which clusters of a stage come first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    #[default]
    Name,
    /// By this label's value, numbers as numbers, then by name; those without the label last.
    Label(String),
    /// As if shuffled, in another order for each candidate.
    Spread,
}

/// What happens when more than `max_failed` clusters have failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// No further cluster gets the candidate; those that have it keep it. A newer candidate may be admitted.
    #[default]
    Pause,
    /// As `Pause`, and every cluster that got the candidate in this run goes back to its last healthy digest.
    Rollback,
    /// The stage's other clusters get it too; it has failed all the same, and no later stage gets it.
    Continue,
}

/// What a cluster that is not connected means for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offline {
    /// How long it may be away before `then` holds.
    pub after: Seconds,
    pub then: WhenOffline,
}

impl Default for Offline {
    fn default() -> Self {
        Self { after: 10 * 60, then: WhenOffline::Wait }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenOffline {
    /// The run waits for it, and it stays in flight if it may have the candidate.
    Wait,
    /// It is written off: the run goes on without it. Back again, it gets the stage's candidate of that time.
    Skip,
    /// It has failed, and counts towards `max_failed`.
    Fail,
}

/// What a cluster gets that comes to a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Join {
    /// What passed the stage last; then it waits its turn.
    #[default]
    LastPassed,
    /// What the stage is giving to its clusters now, in turn with them.
    Candidate,
}

/// Conditions, all of which have to hold. None at all holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Gates {
    /// How long, in seconds, the clusters have to be healthy on end: after a stage, each of its clusters on this candidate; before
    /// one, the clusters of the stage before on theirs.
    pub healthy_for: Option<Seconds>,
    pub approval: Option<Approval>,
    /// Names are distinct within a stage.
    pub checks: Vec<Check>,
}

impl Gates {
    pub fn is_empty(&self) -> bool {
        self.healthy_for.is_none() && self.approval.is_none() && self.checks.is_empty()
    }
}

/// People have to agree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Whose approval counts: names of people, or roles. Empty: of all who may approve.
    pub from: Vec<String>,
    /// Of how many people.
    pub count: u32,
    /// The author of the candidate's commit does not count.
    pub not_author: bool,
    /// After how long an approval that was not used yet counts no more.
    pub expires: Option<Seconds>,
}

/// Something that is measured again and again by the hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    pub name: String,
    pub probe: Probe,
    /// How often, in seconds; at least 1.
    pub every: Seconds,
    /// How many times on end it has to be right; at least 1.
    pub successes: u32,
    /// After how many times on end that it was wrong the candidate has failed, after a stage; at least 1. Before one it
    /// waits. An answer that does not come is neither right nor wrong.
    pub failures: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// A query to a Prometheus server; every value in the answer has to be as `is` says. No value is no answer.
    Metric { server: String, query: String, is: Threshold },
    /// A GET request; the answer's status has to be one of these.
    Http { url: String, status: Vec<u16> },
}

/// What a value has to be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    pub than: Comparison,
    pub value: f64,
}

/// A threshold is a number: its reader refuses NaN.
impl Eq for Threshold {}

impl Threshold {
    /// Whether a value is as it has to be. NaN never is.
    pub fn holds(&self, value: f64) -> bool {
        match self.than {
            Comparison::Less => value < self.value,
            Comparison::AtMost => value <= self.value,
            Comparison::AtLeast => value >= self.value,
            Comparison::Greater => value > self.value,
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.than {
            Comparison::Less => "<",
            Comparison::AtMost => "<=",
            Comparison::AtLeast => ">=",
            Comparison::Greater => ">",
        };
        write!(f, "{sign} {}", self.value)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Comparison {
    #[serde(rename = "<")]
    Less,
    #[serde(rename = "<=")]
    AtMost,
    #[serde(rename = ">=")]
    AtLeast,
    #[serde(rename = ">")]
    Greater,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_to_the_safe_side() {
        for (amount, all, goes_on, tolerated) in [
            (Amount::Count(3), 10, 3, 3),
            (Amount::Count(0), 10, 1, 0),
            (Amount::Percent(25), 10, 3, 2),
            (Amount::Percent(1), 10, 1, 0),
            (Amount::Percent(0), 10, 1, 0),
            (Amount::Percent(100), 10, 10, 10),
            (Amount::Percent(50), 0, 1, 0),
        ] {
            assert_eq!(amount.at_least_one_of(all), goes_on, "{amount} of {all}");
            assert_eq!(amount.at_most_of(all), tolerated, "{amount} of {all}");
        }
    }

    #[test]
    fn what_is_no_number_never_holds() {
        for than in [Comparison::Less, Comparison::AtMost, Comparison::AtLeast, Comparison::Greater] {
            assert!(!Threshold { than, value: 1.0 }.holds(f64::NAN), "{than:?}");
        }
        assert!(Threshold { than: Comparison::AtMost, value: 1.0 }.holds(1.0));
    }
}
