//! What agents answered about their clusters: an index for each cluster, by which it is compared, and each reply by itself.
//!
//! A reply has no end: it counts until the agent gives another one. While a cluster is away, nothing is applied to it either.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::question::{Question, Reply, Subject};
use flotilla_core::report::Timestamp;
use flotilla_core::{ClusterName, Digest};
use serde::{Deserialize, Serialize};

use super::parts::Large;
use super::records::ATTEMPTS;
use super::{Outcome, Records, StoreError, Txn};

/// What is kept of what is asked in the names of accounts about one namespace, in bytes; and of all else of a cluster.
const OF_NAMESPACE: usize = 2 << 20;
const OF_CLUSTER: usize = 16 << 20;

/// What is known of one cluster, by the digest of the question.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    replies: BTreeMap<Digest, ToldRecord>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ToldRecord {
    /// Of the reply as the agent gave it.
    digest: Digest,
    /// When it became this one.
    at: Timestamp,
    size: usize,
    /// Asked in the name of an account, about this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ReplyRecord {
    question: Question,
    reply: Reply,
}

fn index_key(cluster: &ClusterName) -> String {
    format!("told/{cluster}")
}

fn reply_key(cluster: &ClusterName, question: Digest) -> String {
    format!("reply/{cluster}/{question}")
}

/// Whose share a reply is of.
fn share(question: &Question) -> Option<String> {
    match (&question.subject, &question.account) {
        (Subject::Values(reference), Some(_)) => Some(reference.namespace.clone()),
        _ => None,
    }
}

impl Records {
    /// The digests of all replies of a cluster, as its agent gave them, by the digests of their questions.
    pub fn replies(&self, cluster: &ClusterName) -> Result<BTreeMap<Digest, Digest>, StoreError> {
        let told: Told = self.read_large(&index_key(cluster))?.record.unwrap_or_default();
        Ok(told.replies.into_iter().map(|(question, told)| (question, told.digest)).collect())
    }

    /// What is known of an answer; `None`: the agent has given none.
    pub fn reply(&self, cluster: &ClusterName, question: &Question) -> Result<Option<Reply>, StoreError> {
        let record: Option<ReplyRecord> = self.read_large(&reply_key(cluster, question.digest()))?.record;
        Ok(record.filter(|record| record.question == *question).map(|record| record.reply))
    }

    /// Takes a reply; a request that failed takes nothing away that was known.
    pub fn note_reply(
        &self,
        cluster: &ClusterName,
        question: &Question,
        reply: &Reply,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let asked = question.digest();
        let (index, key) = (index_key(cluster), reply_key(cluster, asked));
        for _ in 0..ATTEMPTS {
            let (old, before) = (self.read_large::<Told>(&index)?, self.read_large::<ReplyRecord>(&key)?);
            let mut told = old.record.unwrap_or_default();
            let digest = reply.digest();
            let Some(mut known) = reply.clone().after(before.record.map(|record| record.reply).as_ref())
            else {
                return Ok(());
            };
            let namespace = share(question);
            let others =
                told.replies.iter().filter(|(other, told)| **other != asked && told.namespace == namespace);
            let used: usize = others.map(|(_, told)| told.size).sum();
            let limit = if namespace.is_some() { OF_NAMESPACE } else { OF_CLUSTER };
            if used + known.size() > limit {
                let of = namespace
                    .as_ref()
                    .map_or("the cluster".to_owned(), |name| format!("the namespace {name}"));
                known = Reply::Refused(format!(
                    "what the agent reports of {of} has more than {limit} bytes together"
                ));
            }
            let record = ToldRecord { digest, at: now, size: known.size(), namespace };
            told.replies.insert(asked, record);
            let mut txn = Txn::default();
            txn.expect(&index, old.head);
            txn.expect(&key, before.head);
            self.put_large(&index, &told, &mut txn)?;
            self.put_large(&key, &ReplyRecord { question: question.clone(), reply: known }, &mut txn)?;
            if self.commit(txn, None)? == Outcome::Committed {
                return Ok(());
            }
        }
        Err(StoreError::Contended(index))
    }

    /// Forgets the replies to all questions but these.
    pub fn forget_replies(
        &self,
        cluster: &ClusterName,
        asked: &BTreeSet<Question>,
    ) -> Result<(), StoreError> {
        let asked: BTreeSet<Digest> = asked.iter().map(Question::digest).collect();
        let index = index_key(cluster);
        for _ in 0..ATTEMPTS {
            let Large { head, record: Some(mut told) } = self.read_large::<Told>(&index)? else {
                return Ok(());
            };
            let mut txn = Txn::default();
            for question in told.replies.keys().filter(|question| !asked.contains(*question)) {
                self.remove_large(&reply_key(cluster, *question), &mut txn)?;
            }
            told.replies.retain(|question, _| asked.contains(question));
            if txn.writes.is_empty() {
                return Ok(());
            }
            txn.expect(&index, head);
            self.put_large(&index, &told, &mut txn)?;
            if self.commit(txn, None)? == Outcome::Committed {
                return Ok(());
            }
        }
        Err(StoreError::Contended(index))
    }

    /// All of a cluster's, with the cluster.
    pub(super) fn remove_replies(&self, cluster: &ClusterName, txn: &mut Txn) -> Result<(), StoreError> {
        self.remove_large(&index_key(cluster), txn)?;
        for (key, _) in self.store.scan(&format!("reply/{cluster}/"))? {
            txn.remove(key);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{AuditRecord, MemoryStore};
    use flotilla_core::ServiceAccount;
    use flotilla_core::question::MAX_DATA;
    use flotilla_core::template::ValuesKind;
    use std::sync::Arc;

    fn data(value: &str) -> Reply {
        Reply::Data([("a".to_owned(), value.to_owned())].into())
    }

    fn ask(name: &str, namespace: &str, account: Option<&str>) -> Question {
        let account = account.map(|name| ServiceAccount { namespace: namespace.into(), name: name.into() });
        Question::of(ValuesKind::ConfigMap, namespace, name, account)
    }

    #[test]
    fn replies_are_kept_by_cluster_and_question_and_a_failure_takes_none_away() {
        let store = Arc::new(MemoryStore::default());
        let records = Records::open(store.clone()).unwrap();
        let [one, other]: [ClusterName; 2] = ["one", "other"].map(|name| name.parse().unwrap());
        let (a, b) = (ask("a", "n", None), ask("a", "n", Some("deployer")));
        records.note_reply(&one, &a, &data("1"), 1).unwrap();
        records.note_reply(&one, &a, &Reply::Failed("500".into()), 2).unwrap();
        assert_eq!(records.reply(&one, &a).unwrap(), Some(data("1")));
        assert_eq!(records.reply(&one, &b).unwrap(), None, "another account's");
        assert_eq!(records.reply(&other, &a).unwrap(), None, "another cluster's");
        assert_eq!(records.replies(&one).unwrap(), [(a.digest(), data("1").digest())].into());
        records.note_reply(&one, &b, &Reply::Failed("500".into()), 2).unwrap();
        records.note_reply(&one, &b, &Reply::Absent, 3).unwrap();
        // Another process has them, and a cluster that is deleted leaves none.
        let records = Records::open(store).unwrap();
        assert_eq!(records.reply(&one, &b).unwrap(), Some(Reply::Absent));
        records.forget_replies(&one, &[b.clone()].into()).unwrap();
        assert_eq!((records.reply(&one, &a).unwrap(), records.replies(&one).unwrap().len()), (None, 1));
        records.forget_cluster(&one, &AuditRecord::new(4, "t", "delete", "one")).unwrap();
        assert_eq!((records.reply(&one, &b).unwrap(), records.replies(&one).unwrap().len()), (None, 0));
        assert!(records.store().scan("reply/").unwrap().is_empty());
    }

    #[test]
    fn a_namespace_has_its_share_and_takes_nobody_elses() {
        let records = Records::open(Arc::new(MemoryStore::default())).unwrap();
        let cluster: ClusterName = "one".parse().unwrap();
        let large = data(&"x".repeat(MAX_DATA - 1));
        let told = |question: &Question| {
            records.note_reply(&cluster, question, &large, 1).unwrap();
            records.reply(&cluster, question).unwrap().unwrap()
        };
        for n in 0..4 {
            assert!(told(&ask(&n.to_string(), "team", Some("a"))) == large);
        }
        let excess = told(&ask("4", "team", Some("b")));
        assert!(matches!(&excess, Reply::Refused(why) if why.contains("the namespace team")), "{excess:?}");
        assert!(told(&ask("0", "team", Some("a"))) == large, "again");
        assert!(told(&ask("4", "other", Some("b"))) == large);
        assert!(told(&ask("4", "team", None)) == large);
        // What takes more room written than it has.
        let odd = data(&"\u{1}".repeat(MAX_DATA - 1));
        let question = ask("odd", "odd", Some("b"));
        records.note_reply(&cluster, &question, &odd, 1).unwrap();
        assert!(records.reply(&cluster, &question).unwrap() == Some(odd));
        let longest = records.store().scan("").unwrap().into_iter().map(|(_, value)| value.len()).max();
        assert!(longest <= Some(1 << 20), "{longest:?}");
        records.forget_replies(&cluster, &BTreeSet::new()).unwrap();
        assert!(records.store().scan("reply/").unwrap().is_empty());
    }
}
