//! What the hub asks of the agent, and the answers.

use flotilla_core::answer::Found;
use flotilla_proto::FOUND_MINOR;
use flotilla_proto::answer::{action, origin};
use flotilla_proto::convert::{Invalid, digest, optional_digest, parsed};
use flotilla_proto::question::read_question;
use flotilla_proto::v1::Rehearse;
use flotilla_proto::v1::{self, agent_message::Message as Out};

use crate::link::errands::Errand;
use crate::sync::RehearsedBody;

use super::{Asked, Effect, Session};

impl Session {
    pub(super) fn take_questions(&mut self, v1::Questions { questions }: v1::Questions) -> Effect {
        let mut wanted = Vec::with_capacity(questions.len());
        for question in questions {
            match read_question(&question) {
                Ok(Some(read)) => wanted.push(read),
                Ok(None) => self.send(Out::Reply(v1::Reply { question: Some(question), answer: None })),
                Err(invalid) => tracing::warn!("the hub's request is not valid: {invalid}"),
            }
        }
        Effect::Questions(wanted)
    }

    pub(super) fn take_request(&mut self, request: v1::Request) -> Vec<Effect> {
        use v1::request::Kind;
        let asked = match request.kind {
            Some(Kind::Reconcile(reconcile)) => match reconcile.unit.as_str() {
                "" => Ok(Asked::Reconcile(None)),
                unit => parsed("reconcile.unit", unit).map(|unit| Asked::Reconcile(Some(unit))),
            },
            Some(Kind::Approve(approve)) => digest("approve.approval", &approve.approval).map(Asked::Approve),
            Some(Kind::RemoveAll(remove)) if remove.confirm == self.info.cluster.as_str() => {
                Ok(Asked::RemoveAll)
            }
            Some(Kind::RemoveAll(remove)) => Err(Invalid::new(
                "remove_all.confirm",
                format!(
                    "the request names cluster '{}', and this is cluster '{}'",
                    remove.confirm, self.info.cluster
                ),
            )),
            Some(Kind::RenewNow(_)) => Ok(Asked::RenewNow),
            Some(Kind::Adopt(adopt)) => adoption(&adopt),
            Some(Kind::Fetch(fetch)) => fetching(fetch),
            Some(Kind::Rehearse(rehearse)) => parsed("rehearse.unit", &rehearse.unit)
                .map(|unit| Asked::Errand(Errand::Rehearse(unit, rehearsed(rehearse)))),
            None => {
                self.answer(request.id, v1::answer::Outcome::Unsupported, "");
                return Vec::new();
            }
        };
        match asked {
            Ok(asked) => vec![Effect::Asked(request.id, asked)],
            Err(invalid) => {
                self.answer(request.id, v1::answer::Outcome::Failed, invalid.to_string());
                Vec::new()
            }
        }
    }

    /// Answers a request.
    pub(crate) fn answer(&mut self, request: u64, outcome: v1::answer::Outcome, message: impl Into<String>) {
        let (outcome, message) = (outcome.into(), message.into());
        self.send(Out::Answer(v1::Answer { request, outcome, message, found: None }));
    }

    /// Answers a request with what was found.
    pub(crate) fn found(&mut self, request: u64, found: Found) {
        let outcome = v1::answer::Outcome::Done.into();
        let mut answer = v1::Answer { request, outcome, ..v1::Answer::default() };
        if self.hub_minor >= FOUND_MINOR {
            answer.found = Some(found.into());
        } else {
            // Its maps have text keys, so it always has a JSON text.
            answer.message = serde_json::to_string(&found).unwrap_or_default();
        }
        self.send(Out::Answer(answer));
    }
}

fn fetching(fetch: v1::Fetch) -> Result<Asked, Invalid> {
    let object = fetch.object.ok_or_else(|| Invalid::new("fetch.object", "missing"))?;
    Ok(Asked::Errand(Errand::Fetch(parsed("fetch.unit", &fetch.unit)?, object.into())))
}

fn rehearsed(Rehearse { bodies, templates, .. }: Rehearse) -> Vec<RehearsedBody> {
    let bodies = bodies.into_iter().enumerate();
    let mark =
        |(at, body)| RehearsedBody { body, template: templates.iter().any(|place| *place as usize == at) };
    bodies.map(mark).collect()
}

/// What a newer hub asks for in words of its own is refused, rather than taken for something else.
fn adoption(adopt: &v1::Adopt) -> Result<Asked, Invalid> {
    let origin = origin("adopt.origin", adopt.origin)?;
    let action = action("adopt.action", adopt.action)?;
    Ok(Asked::Errand(Errand::Adopt(origin, action, optional_digest("adopt.plan", &adopt.plan)?)))
}
