//! What an agent's messages mean for its session.

use std::collections::BTreeMap;

use flotilla_core::answer::Found;
use flotilla_core::desired::Removal;
use flotilla_core::unit::{DeletionPolicy, Render};
use flotilla_core::{Digest, Generation, UnitId, UnitKind};
use flotilla_proto::convert::{self, Invalid};
use flotilla_proto::question::read_reply;
use flotilla_proto::v1::{self, agent_message, hub_message};

use super::super::facts::{AckFact, Fact, HaveUnit, read_report};
use super::{MAX_FAILURES, MAX_NEEDS, Machine, ProtocolError, Refused};

impl Machine {
    /// Takes a message of the agent. `hub_time` is in seconds since 1970, for the answer to a heartbeat.
    pub(crate) fn receive(
        &mut self,
        message: v1::AgentMessage,
        now: u64,
        hub_time: i64,
    ) -> Result<Option<Fact>, ProtocolError> {
        use agent_message::Message;
        match message.message {
            Some(Message::Hello(_)) => Err(ProtocolError::SecondHello),
            Some(Message::Units(units)) => self.take_units(units, now).map(Some),
            Some(Message::Need(need)) => self.take_need(need, now).map(|()| None),
            Some(Message::Ack(ack)) => self.take_ack(ack, now),
            Some(Message::Report(report)) => Ok(Some(Fact::Report(Box::new(read_report(report)?)))),
            Some(Message::Heartbeat(_)) => {
                let pending = |message: &_| matches!(message, hub_message::Message::Heartbeat(_));
                if !self.control.iter().any(pending) {
                    let answer = v1::Heartbeat { now: hub_time };
                    self.control.push_back(hub_message::Message::Heartbeat(answer));
                }
                Ok(None)
            }
            Some(Message::Answer(answer)) => {
                use v1::answer::Outcome;
                let outcome = Outcome::try_from(answer.outcome);
                if outcome == Ok(Outcome::Unspecified) {
                    return Err(Invalid::new("answer.outcome", "it is not set").into());
                }
                let mut done = outcome == Ok(Outcome::Done);
                let mut message = match outcome {
                    Ok(Outcome::Unsupported) if answer.message.is_empty() => {
                        "this agent does not know the request: upgrade it".to_owned()
                    }
                    // It may have been done or not.
                    Err(_) => format!(
                        "the agent answers in a way ({}) that this hub does not know: upgrade the hub; {}",
                        answer.outcome, answer.message
                    ),
                    Ok(_) => answer.message,
                };
                let found = answer.found.map(Found::try_from).transpose().unwrap_or_else(|invalid| {
                    done = false;
                    message = format!(
                        "it was done, and this hub cannot read what the agent found ({invalid}): upgrade the hub"
                    );
                    None
                });
                Ok(Some(Fact::Answer { request: answer.request, done, message, found }))
            }
            Some(Message::WantManifest(want)) => self.send_whole(&want, now).map(|()| None),
            Some(Message::Reply(reply)) => {
                let (question, reply) = read_reply(reply)?;
                let is_asked = self.questions.contains(&question);
                // What was asked before may have been on its way.
                Ok(is_asked.then_some(Fact::Reply(question, reply)))
            }
            // A kind of a newer agent: nothing of ours.
            None => Ok(None),
        }
    }

    fn take_units(&mut self, units: v1::Units, now: u64) -> Result<Fact, ProtocolError> {
        let mut have = BTreeMap::new();
        let mut known = Vec::with_capacity(units.units.len());
        for unit in units.units {
            let id = UnitId::read_any(&unit.id).map_err(|error| Invalid::new("units.id", error))?;
            if id.kind == UnitKind::Other {
                // Of a newer agent: nothing here will name it, so it stays what it is.
                continue;
            }
            // A held unit, or one being removed, may have no digest.
            if let Some(digest) = convert::optional_digest("units.digest", &unit.digest)? {
                have.insert(id.clone(), digest);
            }
            let parent = match unit.parent.as_str() {
                "" => None,
                parent => {
                    Some(UnitId::read_any(parent).map_err(|error| Invalid::new("units.parent", error))?)
                }
            };
            let removal = match &unit.removal {
                // A way that a newer agent knows: the one that deletes nothing, and what else keeps the objects.
                Some(removal) if v1::removal::Policy::try_from(removal.policy).is_err() => Some(Removal {
                    policy: DeletionPolicy::Orphan,
                    suspended: removal.suspended,
                    moved: removal.moved,
                    ..Removal::default()
                }),
                removal => removal.as_ref().map(Removal::try_from).transpose()?,
            };
            let key = convert::optional_digest("units.render_key", &unit.render_key)?;
            let content = convert::optional_digest("units.render_content", &unit.render_content)?;
            let render = key.zip(content).map(|(key, content)| Render { key, content });
            known.push(HaveUnit { id, parent, removal, render });
        }
        self.have = Some(have);
        self.advance(now);
        Ok(Fact::Units(known))
    }

    fn take_need(&mut self, need: v1::Need, now: u64) -> Result<(), ProtocolError> {
        if self.needs.len() + need.bodies.len() > MAX_NEEDS {
            return Err(ProtocolError::TooManyNeeds);
        }
        for wanted in need.bodies {
            let digest = convert::digest("need.digest", &wanted.digest)?;
            let base = convert::optional_digest("need.base", &wanted.base)?;
            self.needs.push_back((digest, base.filter(|base| *base != digest)));
        }
        if let Some(flight) = &mut self.in_flight {
            flight.since = now;
        }
        Ok(())
    }

    fn take_ack(&mut self, ack: v1::Ack, now: u64) -> Result<Option<Fact>, ProtocolError> {
        let level = match v1::ack::Level::try_from(ack.level) {
            Ok(v1::ack::Level::Unspecified) => return Err(Invalid::new("ack.level", "it is not set").into()),
            Ok(level) => level,
            // Of a newer agent: it says what this version has no use for.
            Err(_) => return Ok(None),
        };
        let digest = convert::optional_digest("ack.root_digest", &ack.root_digest)?;
        let generation = Generation(ack.generation);
        match level {
            v1::ack::Level::Received => {
                self.agent.root = digest;
                self.agent.generation = self.agent.generation.max(generation);
                if let Some(flight) = self.in_flight.take_if(|flight| Some(flight.digest) == digest) {
                    self.agent.generation = self.agent.generation.max(flight.generation);
                    self.whole = false;
                    self.failures = 0;
                    // The units by digest are those of another state now.
                    self.have = None;
                    self.asked_units = false;
                    self.forget_older(digest);
                }
            }
            v1::ack::Level::Refused => {
                if let Some(flight) = self.in_flight.take_if(|flight| Some(flight.digest) == digest) {
                    self.refused = Some(Refused { digest: flight.digest, since: now });
                }
                // It has seen a higher generation than it told: the same state goes again above that.
                if generation > self.agent.generation {
                    self.agent.generation = generation;
                    self.refused = None;
                }
            }
            v1::ack::Level::Applied | v1::ack::Level::Healthy | v1::ack::Level::Unspecified => {}
        }
        self.advance(now);
        let v1::Ack { message, in_memory, .. } = ack;
        Ok(Some(Fact::Ack(AckFact { level, digest, generation, message, in_memory })))
    }

    fn send_whole(&mut self, want: &v1::WantManifest, now: u64) -> Result<(), ProtocolError> {
        let digest = convert::optional_digest("want_manifest.root_digest", &want.root_digest)?;
        self.fail(digest)?;
        self.in_flight = None;
        self.whole = true;
        // It has the state, and did not understand all of it when that came.
        self.agent.root.take_if(|root| Some(*root) == digest);
        self.advance(now);
        Ok(())
    }

    fn fail(&mut self, digest: Option<Digest>) -> Result<(), ProtocolError> {
        self.failures += 1;
        if self.failures <= MAX_FAILURES {
            return Ok(());
        }
        Err(ProtocolError::CannotTake(digest.map_or_else(|| "?".into(), |digest| digest.short())))
    }
}
