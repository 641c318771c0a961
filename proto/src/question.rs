//! Questions about a cluster and their replies, between wire and domain.

use std::collections::BTreeSet;

use flotilla_core::names::{is_dns_label, is_dns_subdomain};
use flotilla_core::question::{Apis, Question, Reply, Subject};
use flotilla_core::reported::Nodes;
use flotilla_core::template::ValuesKind;
use flotilla_core::text::shorten;
use flotilla_core::{Digest, ServiceAccount};

use crate::convert::{Invalid, digest_bytes, optional_digest};
use crate::v1::{self, question::Subject as Wire, reply::Answer};

/// Why something cannot be told is kept up to here, in bytes.
const MAX_WHY: usize = 1 << 10;

/// Writes a question, with the digest of the reply that is known.
pub fn question(question: &Question, have: Option<Digest>) -> v1::Question {
    let (subject, namespace, name) = match &question.subject {
        Subject::Apis => (Wire::Apis, String::new(), String::new()),
        Subject::Nodes => (Wire::Nodes, String::new(), String::new()),
        Subject::Values(reference) => {
            let subject = match reference.kind {
                ValuesKind::ConfigMap => Wire::ConfigMap,
                ValuesKind::Secret => Wire::Secret,
            };
            (subject, reference.namespace.clone(), reference.name.clone())
        }
    };
    let account = question.account.clone();
    let account = account.map(|ServiceAccount { namespace, name }| v1::Account { namespace, name });
    v1::Question { subject: subject.into(), namespace, name, account, have: digest_bytes(have) }
}

/// Reads a question; `None`: about something that a newer hub asks about.
///
/// # Errors
/// A name that no object can have.
pub fn read_question(question: &v1::Question) -> Result<Option<(Question, Option<Digest>)>, Invalid> {
    let have = optional_digest("question.have", &question.have)?;
    let account = question.account.as_ref().map(|account| {
        let v1::Account { namespace, name } = account.clone();
        named("question.account", &namespace, &name)?;
        Ok(ServiceAccount { namespace, name })
    });
    let account = account.transpose()?;
    let kind = match Wire::try_from(question.subject) {
        Ok(Wire::Apis) => return Ok(Some((Question { subject: Subject::Apis, account }, have))),
        Ok(Wire::Nodes) => return Ok(Some((Question { subject: Subject::Nodes, account }, have))),
        Ok(Wire::ConfigMap) => ValuesKind::ConfigMap,
        Ok(Wire::Secret) => ValuesKind::Secret,
        Ok(Wire::Unspecified) => return Err(Invalid::new("question.subject", "it is not set")),
        Err(_) => return Ok(None),
    };
    named("question", &question.namespace, &question.name)?;
    Ok(Some((Question::of(kind, &question.namespace, &question.name, account), have)))
}

fn named(field: &'static str, namespace: &str, name: &str) -> Result<(), Invalid> {
    if is_dns_label(namespace) && is_dns_subdomain(name) {
        return Ok(());
    }
    let shown = shorten(&format!("{namespace}/{name}"), MAX_WHY);
    Err(Invalid::new(field, format!("'{shown}' names no object in a namespace")))
}

/// Writes a reply.
pub fn reply(question: v1::Question, reply: &Reply) -> v1::Reply {
    let answer = match reply.clone() {
        Reply::Absent => Answer::Absent(v1::Absent {}),
        Reply::Data(data) => Answer::Data(v1::Data { data: data.into_iter().collect() }),
        Reply::Keys(keys) => Answer::Keys(v1::Keys { keys: keys.into_iter().collect() }),
        Reply::Apis(Apis { served, stale }) => {
            let api = |(version, kinds): (String, BTreeSet<String>)| v1::Api {
                version,
                kinds: kinds.into_iter().collect(),
            };
            Answer::Apis(v1::Apis {
                served: served.into_iter().map(api).collect(),
                stale: stale.into_iter().collect(),
            })
        }
        Reply::Nodes(Nodes { count, architectures, regions }) => Answer::Nodes(v1::Nodes {
            count,
            architectures: architectures.into_iter().collect(),
            regions: regions.into_iter().collect(),
        }),
        Reply::Refused(why) => Answer::Refused(shorten(&why, MAX_WHY)),
        Reply::Failed(why) => Answer::Failed(shorten(&why, MAX_WHY)),
    };
    v1::Reply { question: Some(question), answer: Some(answer) }
}

/// Reads a reply, and what it is to.
///
/// # Errors
/// One to no question, to another kind of question, or larger than any.
pub fn read_reply(reply: v1::Reply) -> Result<(Question, Reply), Invalid> {
    let asked = reply.question.ok_or_else(|| Invalid::new("reply.question", "missing"))?;
    let (question, _) = read_question(&asked)?
        .ok_or_else(|| Invalid::new("reply.question", format!("{} is unknown", asked.subject)))?;
    let answer = match reply.answer {
        None => Reply::Refused("this agent does not know what is asked: upgrade it".to_owned()),
        Some(Answer::Absent(_)) => Reply::Absent,
        Some(Answer::Data(v1::Data { data })) => Reply::Data(data.into_iter().collect()),
        Some(Answer::Keys(v1::Keys { keys })) => Reply::Keys(keys.into_iter().collect()),
        Some(Answer::Apis(v1::Apis { served, stale })) => {
            let api = |api: v1::Api| (api.version, api.kinds.into_iter().collect());
            Reply::Apis(Apis {
                served: served.into_iter().map(api).collect(),
                stale: stale.into_iter().collect(),
            })
        }
        Some(Answer::Nodes(v1::Nodes { count, architectures, regions })) => Reply::Nodes(Nodes {
            count,
            architectures: architectures.into_iter().collect(),
            regions: regions.into_iter().collect(),
        }),
        Some(Answer::Refused(why)) => Reply::Refused(shorten(&why, MAX_WHY)),
        Some(Answer::Failed(why)) => Reply::Failed(shorten(&why, MAX_WHY)),
    };
    if !answer.is_about(&question.subject) {
        return Err(Invalid::new("reply.answer", "it is to another kind of question"));
    }
    if let Some(excess) = answer.excess() {
        return Err(Invalid::new("reply.answer", excess));
    }
    Ok((question, answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Option<ServiceAccount> {
        Some(ServiceAccount { namespace: "team".into(), name: "deployer".into() })
    }

    #[test]
    fn questions_and_replies_survive_the_wire() {
        let text = |text: &str| text.to_owned();
        let served = [(text("apps/v1"), [text("Deployment")].into()), (text("v1"), [].into())].into();
        let have = Some(Digest::of(b"x"));
        for (asked, answer) in [
            (Question::apis(), Reply::Apis(Apis { served, stale: [text("a.io")].into() })),
            (
                Question::of(ValuesKind::ConfigMap, "n", "a.b", None),
                Reply::Data([(text("a"), text("1"))].into()),
            ),
            (Question::of(ValuesKind::Secret, "n", "b", account()), Reply::Keys([text("k")].into())),
            (Question::of(ValuesKind::Secret, "n", "b", account()), Reply::Absent),
            (Question::of(ValuesKind::Secret, "n", "b", account()), Reply::Refused(text("no"))),
            (Question::apis(), Reply::Failed(text("500"))),
            (
                Question::nodes(),
                Reply::Nodes(Nodes {
                    count: 3,
                    architectures: [text("arm64")].into(),
                    regions: [text("eu")].into(),
                }),
            ),
        ] {
            let wire = question(&asked, have);
            assert_eq!(read_question(&wire), Ok(Some((asked.clone(), have))));
            assert_eq!(read_reply(reply(wire, &answer)), Ok((asked, answer)));
        }
    }

    #[test]
    fn what_is_no_question_or_no_reply_to_it_is_refused() {
        let secret = question(&Question::of(ValuesKind::Secret, "n", "b", None), None);
        for (wire, why) in [
            (v1::Question { subject: 0, ..secret.clone() }, "it is not set"),
            (v1::Question { name: "../b".into(), ..secret.clone() }, "names no object"),
            (v1::Question { namespace: String::new(), ..secret.clone() }, "names no object"),
            (v1::Question { account: Some(v1::Account::default()), ..secret.clone() }, "names no object"),
            (v1::Question { have: vec![1].into(), ..secret.clone() }, "not a digest"),
        ] {
            let error = read_question(&wire).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        // Of a newer hub: it is answered, and said to be unknown.
        assert_eq!(read_question(&v1::Question { subject: 77, ..secret.clone() }), Ok(None));
        let unknown = read_reply(v1::Reply { question: Some(secret.clone()), answer: None }).unwrap().1;
        assert!(matches!(unknown, Reply::Refused(why) if why.contains("upgrade")));
        let values = Reply::Data([("password".to_owned(), "x".to_owned())].into());
        let error = read_reply(reply(secret.clone(), &values)).unwrap_err();
        assert_eq!(error.to_string(), "field reply.answer of a message: it is to another kind of question");
        let long = Reply::Refused("x".repeat(10_000));
        let Ok((_, Reply::Refused(why))) = read_reply(reply(secret, &long)) else { panic!() };
        assert!(why.len() < 2 * MAX_WHY);
    }
}
