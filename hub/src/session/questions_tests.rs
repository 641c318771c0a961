//! What a session asks of its agent about the cluster, and what it takes for an answer.

use std::collections::BTreeSet;
use std::sync::Arc;

use flotilla_core::question::{Question, Reply};
use flotilla_core::template::ValuesKind;
use flotilla_core::{Capabilities, Digest};
use flotilla_proto::body::Encoded;
use flotilla_proto::question;
use flotilla_proto::v1::{self, agent_message, hub_message};

use super::machine::{AgentState, Fact, Machine};

fn machine() -> Machine {
    let agent = AgentState { capabilities: Capabilities::ours(), ..AgentState::default() };
    let mut machine = Machine::new(agent, v1::Welcome::default(), Vec::new(), false);
    assert!(matches!(next(&mut machine), Some(hub_message::Message::Welcome(_))));
    machine
}

fn next(machine: &mut Machine) -> Option<hub_message::Message> {
    machine.next(|body| Arc::new(Encoded::of(body.content, None)))?.message
}

fn secret(name: &str) -> Question {
    Question::of(ValuesKind::Secret, "n", name, None)
}

fn all(questions: &[Question]) -> Arc<BTreeSet<Question>> {
    Arc::new(questions.iter().cloned().collect())
}

fn says(machine: &mut Machine, question: &Question, reply: &Reply) -> Result<Option<Fact>, String> {
    let reply = question::reply(question::question(question, None), reply);
    let message = v1::AgentMessage { message: Some(agent_message::Message::Reply(reply)) };
    machine.receive(message, 0, 0).map_err(|error| error.to_string())
}

#[test]
fn the_newest_questions_are_asked_with_what_is_known_and_only_their_replies_count() {
    let mut machine = machine();
    machine.ask(all(&[]), |_| None);
    assert_eq!(next(&mut machine), None, "nothing to ask");
    let (a, b, known) = (secret("a"), secret("b"), Digest::of(b"known"));
    machine.ask(all(std::slice::from_ref(&a)), |_| None);
    machine.ask(all(&[a.clone(), b.clone()]), |question| (*question == b).then_some(known));
    let asked = [question::question(&a, None), question::question(&b, Some(known))].to_vec();
    assert_eq!(next(&mut machine), Some(hub_message::Message::Questions(v1::Questions { questions: asked })));
    assert_eq!(next(&mut machine), None, "once, however often they changed meanwhile");

    let absent = Reply::Absent;
    assert_eq!(says(&mut machine, &a, &absent), Ok(Some(Fact::Reply(a.clone(), absent.clone()))));
    assert_eq!(says(&mut machine, &secret("c"), &absent), Ok(None), "nobody asked");
    machine.ask(all(&[b]), |_| None);
    assert_eq!(says(&mut machine, &a, &absent), Ok(None), "nobody asks any more");
    machine.ask(all(&[]), |_| None);
    let none = v1::Questions { questions: Vec::new() };
    assert_eq!(
        next(&mut machine),
        Some(hub_message::Message::Questions(none)),
        "so that nothing is watched any more"
    );
}

#[test]
fn an_answer_to_something_else_ends_the_session_before_a_value_of_a_secret_is_taken() {
    let mut machine = machine();
    machine.ask(all(&[secret("a")]), |_| None);
    let values = Reply::Data([("password".to_owned(), "hunter2".to_owned())].into());
    let error = says(&mut machine, &secret("a"), &values).unwrap_err();
    assert_eq!(error, "field reply.answer of a message: it is to another kind of question");
}
