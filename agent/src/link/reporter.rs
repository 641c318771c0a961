//! What the hub is told of the units: all of it at first, then what changed, in messages of bounded size; and which
//! digest was applied and seen healthy. Pure.

use std::collections::BTreeMap;

use flotilla_core::report::{Event, Phase};
use flotilla_core::{DesiredState, Digest, UnitEntry, UnitId};
use flotilla_proto::MAX_MESSAGE;
use flotilla_proto::convert::digest_bytes;
use flotilla_proto::v1::{self, ack::Level, agent_message::Message};
use prost::Message as _;

use crate::sync::{Changes, Events};

/// What a message holds beside its frame.
const FULL: usize = MAX_MESSAGE / 2;
const LONGEST_TEXT: usize = 1_000;
const LARGEST_UNIT: usize = 128 << 10;

/// What was told on this stream.
#[derive(Debug, Default)]
pub(crate) struct Reporter {
    told_all: bool,
    /// The engine's version up to which the reports were told.
    pub(crate) version: u64,
    units: BTreeMap<UnitId, Reached>,
    acked: Option<(Digest, Level)>,
    problems: Option<Vec<String>>,
}

#[derive(Debug)]
struct Reached {
    phase: Phase,
    applied: Option<Digest>,
    healthy: Option<Digest>,
}

impl Reporter {
    /// The messages that tell the hub what it does not know yet.
    pub(crate) fn tell(
        &mut self,
        desired: Option<&DesiredState>,
        changes: Changes,
        events: Events,
        problems: Vec<String>,
    ) -> Vec<Message> {
        for report in &changes.reports {
            let reached = Reached { phase: report.phase, applied: report.applied, healthy: report.healthy };
            self.units.insert(report.unit.clone(), reached);
        }
        for unit in &changes.gone {
            self.units.remove(unit);
        }
        self.version = changes.version;
        let new_problems = (self.problems.as_ref() != Some(&problems)).then_some(problems);
        let mut messages = Vec::new();
        let quiet = changes.reports.is_empty() && changes.gone.is_empty() && events.events.is_empty();
        if !self.told_all || !quiet || events.missed > 0 || new_problems.is_some() {
            let reports = self.reports(desired, changes, events, new_problems);
            messages.extend(reports.into_iter().map(Message::Report));
        }
        messages.extend(desired.and_then(|desired| self.ack(desired)).map(Message::Ack));
        messages
    }

    fn reports(
        &mut self,
        desired: Option<&DesiredState>,
        changes: Changes,
        events: Events,
        problems: Option<Vec<String>>,
    ) -> Vec<v1::Report> {
        let complete = !std::mem::replace(&mut self.told_all, true);
        let head = v1::Report {
            root_digest: digest_bytes(desired.map(DesiredState::digest)),
            generation: desired.map_or(0, |state| state.generation.0),
            ..Default::default()
        };
        let mut reports = vec![v1::Report {
            complete,
            gone: changes.gone.iter().map(ToString::to_string).collect(),
            has_problems: problems.is_some(),
            problems: problems.iter().flatten().map(|line| clipped(line.clone())).collect(),
            ..head.clone()
        }];
        if let Some(problems) = problems {
            self.problems = Some(problems);
        }
        let mut size = 0;
        let mut room = |reports: &mut Vec<v1::Report>, more: usize| {
            if size + more > FULL && size > 0 {
                if let Some(full) = reports.last_mut() {
                    full.more = complete;
                }
                reports.push(head.clone());
                size = 0;
            }
            size += more;
            reports.len() - 1
        };
        for report in &changes.reports {
            let unit = bounded(report.into());
            let at = room(&mut reports, unit.encoded_len() + 8);
            reports[at].units.push(unit);
        }
        for event in missed(&events).iter().chain(&events.events) {
            let mut event = v1::Event::from(event);
            event.message = clipped(event.message);
            let at = room(&mut reports, event.encoded_len() + 8);
            reports[at].events.push(event);
        }
        reports
    }

    /// The highest level that holds for the desired state, if it was not told yet.
    fn ack(&mut self, desired: &DesiredState) -> Option<v1::Ack> {
        let level = self.level(desired)?;
        let digest = desired.digest();
        if self.acked == Some((digest, level)) || self.acked == Some((digest, Level::Healthy)) {
            return None;
        }
        self.acked = Some((digest, level));
        Some(v1::Ack {
            level: level.into(),
            root_digest: digest_bytes(Some(digest)),
            generation: desired.generation.0,
            ..Default::default()
        })
    }

    /// Held and suspended units stand for nothing here: they stay what they are.
    fn level(&self, desired: &DesiredState) -> Option<Level> {
        let mut level = Level::Healthy;
        for (id, entry) in desired.units() {
            match entry {
                UnitEntry::Present(unit) if !unit.spec.suspend => {
                    let reached = self.units.get(id)?;
                    if reached.applied != Some(unit.digest()) {
                        return None;
                    }
                    if reached.healthy != Some(unit.digest()) || reached.phase != Phase::Ready {
                        level = Level::Applied;
                    }
                }
                UnitEntry::Present(_) | UnitEntry::Hold(_) => {}
                UnitEntry::Removed(removal) if removal.suspended => {}
                // Before the engine's first word nothing is known of it.
                UnitEntry::Removed(_) if self.version == 0 || self.units.contains_key(id) => return None,
                UnitEntry::Removed(_) => {}
            }
        }
        Some(level)
    }
}

fn missed(events: &Events) -> Option<Event> {
    (events.missed > 0).then(|| Event {
        at: events.events.first().map_or(0, |event| event.at),
        unit: UnitId::root(),
        object: None,
        warning: true,
        reason: "EventsMissed".into(),
        message: format!("{} events were dropped while the hub was away", events.missed),
    })
}

/// A unit's report of bounded size: long texts are cut, then details left out.
fn bounded(mut unit: v1::UnitReport) -> v1::UnitReport {
    unit.message = clipped(unit.message);
    for finding in &mut unit.findings {
        finding.message = clipped(std::mem::take(&mut finding.message));
    }
    for field in unit.drift.iter_mut().flat_map(|drift| &mut drift.fields) {
        field.wanted = field.wanted.take().map(clipped);
        field.found = field.found.take().map(clipped);
    }
    for keep in [20, 5, 1] {
        if unit.encoded_len() <= LARGEST_UNIT {
            break;
        }
        unit.drift.truncate(keep);
        unit.drift.iter_mut().for_each(|drift| drift.fields.truncate(keep));
        unit.findings.truncate(keep);
        unit.kept.truncate(keep);
    }
    unit
}

fn clipped(mut text: String) -> String {
    if text.len() > LONGEST_TEXT {
        let end = (0..=LONGEST_TEXT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
#[path = "reporter_tests.rs"]
mod tests;
