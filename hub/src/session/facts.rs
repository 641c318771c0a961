//! What an agent's messages tell, in the domain's types.

use flotilla_core::answer::Found;
use flotilla_core::desired::Removal;
use flotilla_core::question::{Question, Reply};
use flotilla_core::report::{Event, UnitReport};
use flotilla_core::unit::Render;
use flotilla_core::{Digest, Generation, UnitId};
use flotilla_proto::convert::{self, Invalid};
use flotilla_proto::v1::{self};

use super::machine::ProtocolError;

/// What the caller has to do or to know.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fact {
    /// Everything the agent has.
    Units(Vec<HaveUnit>),
    Ack(AckFact),
    Report(Box<ReportFact>),
    /// What the agent says of its cluster.
    Reply(Question, Reply),
    /// The agent answered a request.
    Answer {
        request: u64,
        done: bool,
        message: String,
        found: Option<Found>,
    },
}

/// A unit that the agent has. What it does not say of a unit is not known to be nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HaveUnit {
    pub id: UnitId,
    pub parent: Option<UnitId>,
    pub removal: Option<Removal>,
    pub render: Option<Render>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AckFact {
    pub level: v1::ack::Level,
    pub digest: Option<Digest>,
    pub generation: Generation,
    pub message: String,
    /// The agent runs it and its disk has not taken it.
    pub in_memory: bool,
}

/// A report in the domain's types; the first that could not be read is in `invalid`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ReportFact {
    pub complete: bool,
    pub more: bool,
    pub digest: Option<Digest>,
    pub units: Vec<UnitReport>,
    pub gone: Vec<UnitId>,
    pub events: Vec<Event>,
    /// `None`: as before.
    pub problems: Option<Vec<String>>,
    pub invalid: Option<Invalid>,
}

pub(super) fn read_report(report: v1::Report) -> Result<ReportFact, ProtocolError> {
    let mut fact = ReportFact {
        complete: report.complete,
        more: report.more,
        digest: convert::optional_digest("report.root_digest", &report.root_digest)?,
        problems: report.has_problems.then_some(report.problems),
        ..ReportFact::default()
    };
    // One unit that a newer agent describes in new words must not hide the others.
    for unit in report.units {
        match UnitReport::try_from(unit) {
            Ok(unit) => fact.units.push(unit),
            Err(invalid) => _ = fact.invalid.get_or_insert(invalid),
        }
    }
    for unit in report.gone {
        match convert::parsed("report.gone", &unit) {
            Ok(unit) => fact.gone.push(unit),
            Err(invalid) => _ = fact.invalid.get_or_insert(invalid),
        }
    }
    for event in report.events {
        match Event::try_from(event) {
            Ok(event) => fact.events.push(event),
            Err(invalid) => _ = fact.invalid.get_or_insert(invalid),
        }
    }
    Ok(fact)
}
