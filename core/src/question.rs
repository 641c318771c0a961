//! What the hub asks of a cluster by its agent, and what the agent answers: what only the cluster can tell.
//!
//! ```text
//!   render ──► questions ──► hub ──► agent ── reads, as the account of whoever asks ──► API server
//!     ▲                       │ kept by cluster and question          │ watched
//!     └────── replies ◄───────┴───────────── again whenever it is another ◄───┘
//! ```
//!
//! The account is a part of the question, so a reply for one account is never given to another. Values of Secrets are in no
//! reply. What could not be read is never absent: a request that failed takes no earlier reply away.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::Digest;
use crate::reported::{self, Nodes};
use crate::template::{ValuesKind, ValuesRef};
use crate::unit::ServiceAccount;

/// The data of a larger ConfigMap is not told, in bytes of keys and values.
pub const MAX_DATA: usize = 512 << 10;
/// More APIs than any cluster serves, kinds counted.
pub const MAX_APIS: usize = 10_000;
/// A longer name of an API, or of a key, is none.
const MAX_NAME: usize = 400;

/// One question.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Question {
    pub subject: Subject,
    /// In whose name it is read; `None`: as the agent itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<ServiceAccount>,
}

/// What is asked about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Subject {
    /// Whether a ConfigMap is there, and its data; or whether a Secret is there, and its keys.
    Values(ValuesRef),
    /// Which APIs the cluster serves.
    Apis,
    /// What its nodes are.
    Nodes,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reply {
    /// The API server says that there is no such object.
    Absent,
    /// The `data` of a ConfigMap.
    Data(BTreeMap<String, String>),
    /// The keys of a Secret.
    Keys(BTreeSet<String>),
    Apis(Apis),
    Nodes(Nodes),
    /// It may not be read, or not be told, and will not be until somebody changes something: why.
    Refused(String),
    /// It could not be read this time: why. Nothing is known.
    Failed(String),
}

/// What a cluster serves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Apis {
    /// The kinds by group and version, as `apps/v1`; `v1` of the core group.
    pub served: BTreeMap<String, BTreeSet<String>>,
    /// Groups whose servers did not answer: what they serve is not known.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub stale: BTreeSet<String>,
}

impl Question {
    /// About a ConfigMap or Secret.
    pub fn of(kind: ValuesKind, namespace: &str, name: &str, account: Option<ServiceAccount>) -> Self {
        let reference = ValuesRef { kind, namespace: namespace.to_owned(), name: name.to_owned() };
        Self { subject: Subject::Values(reference), account }
    }

    /// About the APIs that are served.
    pub fn apis() -> Self {
        Self { subject: Subject::Apis, account: None }
    }

    /// About the nodes.
    pub fn nodes() -> Self {
        Self { subject: Subject::Nodes, account: None }
    }

    /// Under which it is kept.
    pub fn digest(&self) -> Digest {
        digest_of(self)
    }
}

impl Reply {
    /// By which replies are compared: of what is told, not of when.
    pub fn digest(&self) -> Digest {
        digest_of(self)
    }

    /// Whether it answers a question about this.
    pub fn is_about(&self, subject: &Subject) -> bool {
        let kind = match subject {
            Subject::Values(reference) => Some(reference.kind),
            Subject::Apis | Subject::Nodes => None,
        };
        match self {
            Self::Refused(_) | Self::Failed(_) => true,
            Self::Absent => kind.is_some(),
            Self::Data(_) => kind == Some(ValuesKind::ConfigMap),
            Self::Keys(_) => kind == Some(ValuesKind::Secret),
            Self::Apis(_) => *subject == Subject::Apis,
            Self::Nodes(_) => *subject == Subject::Nodes,
        }
    }

    /// Why it is larger than any that an agent may give.
    pub fn excess(&self) -> Option<String> {
        let is_long = |text: &String| text.len() > MAX_NAME;
        let size = self.size();
        match self {
            Self::Data(_) | Self::Keys(_) if size > MAX_DATA => {
                Some(format!("has {size} bytes, more than the {MAX_DATA} that are told"))
            }
            Self::Data(data) if data.keys().any(is_long) => Some("has a key that is too long".to_owned()),
            Self::Keys(keys) if keys.iter().any(is_long) => Some("has a key that is too long".to_owned()),
            Self::Apis(Apis { served, stale }) => {
                let kinds = served.values().map(BTreeSet::len).sum::<usize>();
                let count = served.len() + kinds + stale.len();
                let mut names =
                    served.iter().flat_map(|(version, kinds)| kinds.iter().chain([version])).chain(stale);
                (count > MAX_APIS || size > MAX_DATA || names.any(is_long)).then(|| {
                    format!("are {count} APIs, more than {MAX_APIS}, or have names that are too long")
                })
            }
            Self::Nodes(Nodes { architectures, regions, .. }) => {
                let is_excess = |values: &BTreeSet<String>| {
                    values.len() > reported::MAX_VALUES || values.iter().any(is_long)
                };
                (is_excess(architectures) || is_excess(regions)).then(|| {
                    "are of more kinds than any cluster has, or have names that are too long".to_owned()
                })
            }
            _ => None,
        }
    }

    /// How much there is to keep, in bytes.
    pub fn size(&self) -> usize {
        match self {
            Self::Absent => 0,
            Self::Data(data) => data.iter().map(|(key, value)| key.len() + value.len()).sum(),
            Self::Keys(keys) => keys.iter().map(String::len).sum(),
            Self::Apis(Apis { served, .. }) => served
                .iter()
                .flat_map(|(version, kinds)| kinds.iter().chain([version]))
                .map(String::len)
                .sum(),
            Self::Nodes(Nodes { architectures, regions, .. }) => {
                architectures.iter().chain(regions).map(String::len).sum()
            }
            // For people, and short.
            Self::Refused(_) | Self::Failed(_) => 0,
        }
    }

    /// What is known once this came after `before`; `None`: what was known before. A request that failed says nothing, and
    /// what an API group serves whose server did not answer is what it served before.
    pub fn after(self, before: Option<&Self>) -> Option<Self> {
        match (self, before) {
            (Self::Failed(_), Some(known)) if !matches!(known, Self::Failed(_)) => None,
            (Self::Apis(mut now), Some(Self::Apis(before))) => {
                let unknown =
                    before.served.iter().filter(|(version, _)| now.stale.contains(group_of(version)));
                for (version, kinds) in unknown {
                    now.served.entry(version.clone()).or_default().extend(kinds.iter().cloned());
                }
                Some(Self::Apis(now))
            }
            (new, _) => Some(new),
        }
    }
}

impl Apis {
    /// As charts ask for them: `apps/v1` and `apps/v1/Deployment`.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.served.iter().flat_map(|(version, kinds)| {
            let of_kinds = kinds.iter().map(move |kind| format!("{version}/{kind}"));
            std::iter::once(version.clone()).chain(of_kinds)
        })
    }
}

fn group_of(version: &str) -> &str {
    version.split_once('/').map_or("", |(group, _)| group)
}

fn digest_of(value: &impl Serialize) -> Digest {
    // Maps in it have text keys and are sorted, so equal values are equal text.
    Digest::of(&serde_json::to_vec(value).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apis(served: &[(&str, &[&str])], stale: &[&str]) -> Reply {
        let kinds = |kinds: &[&str]| kinds.iter().map(|kind| (*kind).to_owned()).collect();
        Reply::Apis(Apis {
            served: served.iter().map(|(version, of)| ((*version).to_owned(), kinds(of))).collect(),
            stale: kinds(stale),
        })
    }

    fn data(value: &str) -> Reply {
        Reply::Data([("a".to_owned(), value.to_owned())].into())
    }

    #[test]
    fn what_fails_takes_nothing_away() {
        let (failed, refused) = (Reply::Failed("500".into()), Reply::Refused("403".into()));
        for (new, before, known) in [
            (failed.clone(), None, Some(failed.clone())),
            (failed.clone(), Some(Reply::Failed("timeout".into())), Some(failed.clone())),
            (failed.clone(), Some(data("1")), None),
            (failed.clone(), Some(Reply::Absent), None),
            (failed.clone(), Some(refused.clone()), None),
            (refused.clone(), Some(data("1")), Some(refused)),
            (Reply::Absent, Some(data("1")), Some(Reply::Absent)),
            (data("2"), Some(data("1")), Some(data("2"))),
        ] {
            assert_eq!(new.clone().after(before.as_ref()), known, "{new:?} after {before:?}");
        }
    }

    #[test]
    fn a_group_whose_server_is_away_serves_what_it_did() {
        let before = apis(&[("v1", &["Pod"]), ("a.io/v1", &["A"]), ("b.io/v1", &["B"])], &[]);
        let now = apis(&[("v1", &["Pod", "Node"]), ("a.io/v1", &[])], &["a.io"]);
        let known = apis(&[("v1", &["Pod", "Node"]), ("a.io/v1", &["A"])], &["a.io"]);
        assert_eq!(now.clone().after(Some(&before)), Some(known), "b.io is gone, a.io is not known to be");
        assert_eq!(now.clone().after(None), Some(now));
        let Reply::Apis(before) = before else { unreachable!() };
        let names: Vec<String> = before.names().collect();
        assert_eq!(names, ["a.io/v1", "a.io/v1/A", "b.io/v1", "b.io/v1/B", "v1", "v1/Pod"]);
    }

    #[test]
    fn replies_are_bounded_and_about_what_was_asked() {
        let config_map = Question::of(ValuesKind::ConfigMap, "n", "x", None).subject;
        let secret = Question::of(ValuesKind::Secret, "n", "x", None).subject;
        let keys = Reply::Keys(["a".to_owned()].into());
        for (reply, of) in [
            (data("1"), [true, false, false, false]),
            (keys, [false, true, false, false]),
            (apis(&[], &[]), [false, false, true, false]),
            (Reply::Nodes(Nodes::default()), [false, false, false, true]),
            (Reply::Absent, [true, true, false, false]),
            (Reply::Refused(String::new()), [true, true, true, true]),
        ] {
            assert_eq!(
                [&config_map, &secret, &Subject::Apis, &Subject::Nodes]
                    .map(|subject| reply.is_about(subject)),
                of,
                "{reply:?}"
            );
            assert_eq!(reply.excess(), None);
        }
        assert!(data(&"x".repeat(MAX_DATA)).excess().unwrap().starts_with("has 524289 bytes"));
        let kinds: BTreeSet<String> = (0..MAX_APIS).map(|n| n.to_string()).collect();
        let many = Apis { served: [("v1".to_owned(), kinds)].into(), stale: BTreeSet::new() };
        assert!(Reply::Apis(many).excess().unwrap().starts_with("are 10001 APIs"));
        assert!(apis(&[("v1", &[&"x".repeat(500)])], &[]).excess().is_some());
        let regions = (0..=reported::MAX_VALUES).map(|n| n.to_string()).collect();
        assert!(Reply::Nodes(Nodes { regions, ..Nodes::default() }).excess().is_some());
    }

    #[test]
    fn whose_question_it_is_counts() {
        let account = |name: &str| Some(ServiceAccount { namespace: "n".into(), name: name.into() });
        let ask = |account| Question::of(ValuesKind::ConfigMap, "n", "x", account).digest();
        assert_ne!(ask(account("a")), ask(account("b")));
        assert_ne!(ask(account("a")), ask(None));
        assert_eq!(ask(account("a")), ask(account("a")));
    }
}
