//! Join tokens with enrolment, and API tokens. Only hashes of secrets are stored.

use std::collections::BTreeMap;
use std::convert::Infallible;

use flotilla_core::ClusterName;
use flotilla_core::nodes::{NodeFacts, UnnamedNode};
use flotilla_core::report::Timestamp;
use flotilla_runtime::token::SecretHash;

use super::clusters::{cluster_key, deleted_key};
use super::records::{Records, encode};
use super::{
    ApiTokenRecord, AuditRecord, ClusterRecord, JoinTokenRecord, Outcome, StoreError, TokenUse, TokenUsed,
    Txn, UpdateError,
};

/// What [`Records::claim`] is told of the first API token. A restore leaves it out.
pub const FIRST_TOKEN_CLAIM: &str = "first-token";
/// Where API tokens are kept, by hash; a watch of it ticks when one is made or revoked.
pub const API_TOKENS: &str = "api/";
const TOKENS_USED: &str = "apiused/";
/// Where claims are kept.
pub(super) const CLAIMS: &str = "meta/";

/// Why nobody joined. The texts are for whoever holds the token.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "the hub does not know this join token: it was never made here, or its cluster has been deleted since"
    )]
    UnknownToken,
    #[error("the join token was used already; make a new one")]
    UsedToken,
    #[error("the join token has expired; make a new one")]
    ExpiredToken,
    #[error(
        "cluster {0} is enrolled already; to let this agent take its place make a token with --replace, or \
         delete the cluster first"
    )]
    Enrolled(ClusterName),
    #[error("the join token names cluster '{0}', which is not a valid name")]
    Name(String),
    #[error(transparent)]
    Unnamed(#[from] UnnamedNode),
    #[error("the join token has let in the {0} nodes that it was made for; make a new one")]
    Full(u32),
    #[error(
        "another node is enrolled as cluster {0}, and a token for many takes nobody's place: if this is that node, installed \
         anew, delete the cluster first; else make a token that names nodes by {{uid}}"
    )]
    NameTaken(ClusterName),
}

impl JoinTokenRecord {
    /// The cluster that a node becomes with this token.
    pub fn cluster_of(&self, node: &NodeFacts) -> Result<ClusterName, EnrolError> {
        match &self.many {
            Some(many) => Ok(many.names.name(node)?),
            None => self.cluster.parse().map_err(|_| EnrolError::Name(self.cluster.clone())),
        }
    }

    /// Notes that a node joined, or says that none may any more. `old` is the record of the cluster that it becomes.
    fn admit(
        &mut self,
        name: &ClusterName,
        old: Option<&ClusterRecord>,
        public_key: &str,
        now: Timestamp,
    ) -> Result<Admitted, EnrolError> {
        if now >= self.expires_at {
            return Err(EnrolError::ExpiredToken);
        }
        // Its answer was lost.
        let again = old.is_some_and(|old| old.public_key == public_key && old.revoked_at.is_none());
        match (&mut self.many, &self.used) {
            (Some(_), _) if again => return Ok(Admitted::Before),
            (Some(_), _) if old.is_some() => return Err(EnrolError::NameTaken(name.clone())),
            (Some(many), _) if many.joined >= many.count => return Err(EnrolError::Full(many.count)),
            (Some(many), _) => many.joined += 1,
            (None, Some(used)) if again && used.public_key == public_key => return Ok(Admitted::Before),
            (None, Some(_)) => return Err(EnrolError::UsedToken),
            (None, None) if old.is_some() && !self.replace => return Err(EnrolError::Enrolled(name.clone())),
            (None, None) => self.used = Some(TokenUse { at: now, public_key: public_key.to_owned() }),
        }
        Ok(Admitted::Now)
    }
}

enum Admitted {
    Now,
    /// With the same key; what was pinned then stays.
    Before,
}

impl Records {
    pub fn put_join_token(
        &self,
        hash: SecretHash,
        token: &JoinTokenRecord,
        audit: &AuditRecord,
    ) -> Result<(), StoreError> {
        let mut txn = Txn::default();
        txn.put(format!("join/{hash}"), encode(token));
        // Used and expired ones have done their duty once nobody can present them any more.
        for (old, record) in self.join_tokens()? {
            if record.expires_at < audit.at {
                txn.remove(format!("join/{old}"));
            }
        }
        self.commit(txn, Some(audit)).map(|_| ())
    }

    /// The join token with this secret, used and expired ones too.
    pub fn join_token(&self, hash: SecretHash) -> Result<Option<JoinTokenRecord>, StoreError> {
        self.read(&format!("join/{hash}"))
    }

    /// Ends a join token by the hash of its secret; `false` if there is none.
    pub fn revoke_join_token(&self, hash: SecretHash, audit: &AuditRecord) -> Result<bool, StoreError> {
        let key = format!("join/{hash}");
        loop {
            let Some(bytes) = self.store.get(&key)? else { return Ok(false) };
            let mut txn = Txn::default();
            txn.expect(&key, Some(bytes));
            txn.remove(&key);
            if self.commit(txn, Some(audit))? == Outcome::Committed {
                return Ok(true);
            }
        }
    }

    /// All join tokens, by the hash of their secret.
    pub fn join_tokens(&self) -> Result<Vec<(String, JoinTokenRecord)>, StoreError> {
        self.list("join/")
    }

    /// Revokes a cluster. Join tokens of it that nobody has used are void from then on: they would let their holder take
    /// its place.
    pub fn revoke_cluster(
        &self,
        name: &ClusterName,
        now: Timestamp,
        audit: &AuditRecord,
    ) -> Result<(), StoreError> {
        let key = cluster_key(name);
        loop {
            let Some(old) = self.store.get(&key)? else { return Ok(()) };
            let mut record: ClusterRecord = super::records::decode(&key, &old)?;
            record.revoked_at.get_or_insert(now);
            let mut txn = Txn::default();
            txn.expect(&key, Some(old));
            txn.put(&key, encode(&record));
            for (hash, token) in self.join_tokens()? {
                if token.cluster == name.as_str() && token.used.is_none() {
                    txn.remove(format!("join/{hash}"));
                }
            }
            if self.commit(txn, Some(audit))? == Outcome::Committed {
                return Ok(());
            }
        }
    }

    /// Trades a join token for a cluster's record: marks the token used and stores the record, both or
    /// neither. The same key may come again with its token (its answer was lost), and gets the record of the first time.
    /// `record` gives the record, from the token.
    pub fn enrol(
        &self,
        secret: SecretHash,
        node: &NodeFacts,
        public_key: &str,
        now: Timestamp,
        record: impl Fn(&JoinTokenRecord) -> ClusterRecord,
    ) -> Result<(ClusterName, ClusterRecord), EnrolError> {
        let token_key = format!("join/{secret}");
        loop {
            let token_bytes = self.store.get(&token_key)?.ok_or(EnrolError::UnknownToken)?;
            let mut token: JoinTokenRecord = super::records::decode(&token_key, &token_bytes)?;
            let name = token.cluster_of(node)?;
            let key = cluster_key(&name);
            let old_bytes = self.store.get(&key)?;
            let old: Option<ClusterRecord> =
                old_bytes.as_ref().map(|bytes| super::records::decode(&key, bytes)).transpose()?;
            if let (Admitted::Before, Some(old)) = (token.admit(&name, old.as_ref(), public_key, now)?, old) {
                return Ok((name, old));
            }
            let new = record(&token);
            let mut txn = Txn::default();
            txn.expect(&token_key, Some(token_bytes));
            txn.expect(&key, old_bytes);
            txn.put(&token_key, encode(&token));
            txn.put(&key, encode(&new));
            // Its key may be the one that it had before its cluster was deleted.
            txn.remove(deleted_key(public_key));
            let audit = AuditRecord::new(now, format!("agent/{name}"), "cluster.enrol", &name)
                .detail(format!("with a token of {}", token.created_by));
            if self.commit(txn, Some(&audit))? == Outcome::Committed {
                return Ok((name, new));
            }
        }
    }

    // Tokens for the API

    /// Stores a token; answers `false` if its name is taken.
    pub fn put_api_token(
        &self,
        hash: SecretHash,
        token: &ApiTokenRecord,
        audit: &AuditRecord,
    ) -> Result<bool, StoreError> {
        let mut txn = Txn::default();
        let name = format!("apiname/{}", token.name);
        txn.expect(&name, None);
        txn.put(&name, encode(&ByName { hash: hash.to_string() }));
        txn.put(format!("{API_TOKENS}{hash}"), encode(token));
        Ok(self.commit(txn, Some(audit))? == Outcome::Committed)
    }

    /// The token with this secret, if it is good at `now`.
    pub fn api_token(&self, hash: SecretHash, now: Timestamp) -> Result<Option<ApiTokenRecord>, StoreError> {
        let token: Option<ApiTokenRecord> = self.read(&format!("{API_TOKENS}{hash}"))?;
        Ok(token.filter(|token| token.expires_at.is_none_or(|end| now < end)))
    }

    /// All tokens by name, with when each was last used.
    pub fn api_tokens(&self) -> Result<Vec<(ApiTokenRecord, Option<Timestamp>)>, StoreError> {
        let used: BTreeMap<String, TokenUsed> = self.list(TOKENS_USED)?.into_iter().collect();
        let tokens: Vec<(String, ApiTokenRecord)> = self.list(API_TOKENS)?;
        let mut tokens: Vec<_> =
            tokens.into_iter().map(|(hash, token)| (token, used.get(&hash).map(|used| used.at))).collect();
        tokens.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        Ok(tokens)
    }

    /// Notes that a token was used.
    pub fn note_token_used(&self, hash: SecretHash, at: Timestamp) -> Result<(), StoreError> {
        let mut txn = Txn::default();
        let key = format!("{API_TOKENS}{hash}");
        // Revoked in this moment, it leaves nothing behind.
        let Some(token) = self.store.get(&key)? else { return Ok(()) };
        txn.expect(&key, Some(token));
        txn.put(format!("{TOKENS_USED}{hash}"), encode(&TokenUsed { at }));
        self.commit(txn, None).map(|_| ())
    }

    /// Revokes a token by name; answers `false` if there is none.
    pub fn revoke_api_token(&self, name: &str, audit: &AuditRecord) -> Result<bool, StoreError> {
        let by_name = format!("apiname/{name}");
        loop {
            let Some(bytes) = self.store.get(&by_name)? else { return Ok(false) };
            let ByName { hash } = super::records::decode(&by_name, &bytes)?;
            let mut txn = Txn::default();
            txn.expect(&by_name, Some(bytes));
            txn.remove(&by_name);
            txn.remove(format!("{API_TOKENS}{hash}"));
            txn.remove(format!("{TOKENS_USED}{hash}"));
            if self.commit(txn, Some(audit))? == Outcome::Committed {
                return Ok(true);
            }
        }
    }

    /// Whether [`Records::claim`] was called for `what` in the life of this store.
    pub fn claimed(&self, what: &str) -> Result<bool, StoreError> {
        Ok(self.store.get(&format!("{CLAIMS}{what}"))?.is_some())
    }

    /// Notes that something was done that happens once in the life of a store; `true` for the first caller.
    pub fn claim(&self, what: &str) -> Result<bool, StoreError> {
        let mut first = false;
        let result = self.update(&format!("{CLAIMS}{what}"), None, |old: Option<Claimed>| {
            first = old.is_none();
            Ok::<_, Infallible>(Some(Claimed {}))
        });
        match result {
            Ok(_) => Ok(first),
            Err(UpdateError::Store(error)) => Err(error),
            Err(UpdateError::Refused(never)) => match never {},
        }
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
struct ByName {
    hash: String,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Claimed {}

#[cfg(test)]
mod tests {
    use super::super::{ManyNodesRecord, MemoryStore};
    use super::*;
    use flotilla_api::Role;
    use flotilla_runtime::token::TokenSecret;
    use std::sync::Arc;

    fn audit() -> AuditRecord {
        AuditRecord::new(0, "ann", "test", "x")
    }

    fn token(cluster: &str, replace: bool) -> JoinTokenRecord {
        JoinTokenRecord {
            cluster: cluster.into(),
            created_at: 0,
            created_by: "ann".into(),
            expires_at: 100,
            replace,
            labels: Default::default(),
            used: None,
            many: None,
        }
    }

    #[test]
    fn a_join_token_admits_one_key_once_before_its_end() {
        let records = Records::open(Arc::new(MemoryStore::default())).unwrap();
        let make = |cluster: &str, replace| {
            let hash = TokenSecret::generate().hash();
            records.put_join_token(hash, &token(cluster, replace), &audit()).unwrap();
            hash
        };
        let enrol = |hash, key: &str, now| {
            let record = |_: &JoinTokenRecord| ClusterRecord { public_key: key.into(), ..Default::default() };
            records.enrol(hash, &NodeFacts::default(), key, now, record)
        };
        let name: ClusterName = "staging".parse().unwrap();
        assert!(matches!(enrol(TokenSecret::generate().hash(), "k1", 1), Err(EnrolError::UnknownToken)));
        let first = make("staging", false);
        assert!(matches!(enrol(first, "k1", 100), Err(EnrolError::ExpiredToken)));
        assert_eq!(enrol(first, "k1", 1).unwrap().0, name);
        assert_eq!(enrol(first, "k1", 2).unwrap().0, name, "the answer was lost");
        assert!(matches!(enrol(first, "k2", 2), Err(EnrolError::UsedToken)));

        let second = make("staging", false);
        assert!(matches!(enrol(second, "k2", 3), Err(EnrolError::Enrolled(_))));
        let replacing = make("staging", true);
        assert_eq!(enrol(replacing, "k2", 4).unwrap().1.public_key, "k2");
        assert!(matches!(enrol(first, "k1", 5), Err(EnrolError::UsedToken)), "its place is taken");

        records.change_cluster(&name, None, |record| record.revoked_at = Some(6)).unwrap();
        assert!(matches!(enrol(replacing, "k2", 7), Err(EnrolError::UsedToken)), "revoked stays revoked");
        let open = make("staging", true);
        records.revoke_cluster(&name, 7, &audit()).unwrap();
        assert!(matches!(enrol(open, "k3", 8), Err(EnrolError::UnknownToken)), "revoked with its cluster");
        assert!(matches!(enrol(replacing, "k2", 8), Err(EnrolError::UsedToken)), "who is revoked stays out");
        let open = make("staging", true);
        records.forget_cluster(&name, &audit()).unwrap();
        assert!(matches!(enrol(open, "k3", 8), Err(EnrolError::UnknownToken)), "deleted with its cluster");
    }

    #[test]
    fn a_token_for_many_admits_so_many_and_takes_nobodys_place() {
        let records = Records::open(Arc::new(MemoryStore::default())).unwrap();
        let names = "edge-{hostname}".parse().unwrap();
        let many = ManyNodesRecord { group: "edge".into(), names, count: 2, joined: 0 };
        let record = JoinTokenRecord { many: Some(many), ..token("", false) };
        let hash = TokenSecret::generate().hash();
        records.put_join_token(hash, &record, &audit()).unwrap();
        let enrol = |host: &str, key: &str, now| {
            let node = NodeFacts { hostname: host.into(), ..NodeFacts::default() };
            let record = |_: &JoinTokenRecord| ClusterRecord { public_key: key.into(), ..Default::default() };
            records.enrol(hash, &node, key, now, record).map(|(name, _)| name.to_string())
        };
        let joined = || records.join_token(hash).unwrap().unwrap().many.unwrap().joined;
        assert!(matches!(enrol("a", "k1", 100), Err(EnrolError::ExpiredToken)));
        assert!(matches!(enrol("", "k1", 1), Err(EnrolError::Unnamed(_))));
        assert_eq!(enrol("a", "k1", 1).unwrap(), "edge-a");
        assert_eq!((enrol("a", "k1", 2).unwrap().as_str(), joined()), ("edge-a", 1), "the answer was lost");
        assert!(matches!(enrol("a", "k2", 2), Err(EnrolError::NameTaken(_))));
        records.change_cluster(&"edge-a".parse().unwrap(), None, |it| it.revoked_at = Some(3)).unwrap();
        assert!(matches!(enrol("a", "k1", 3), Err(EnrolError::NameTaken(_))), "revoked stays revoked");
        assert_eq!(enrol("b", "k3", 4).unwrap(), "edge-b");
        assert!(matches!(enrol("c", "k4", 5), Err(EnrolError::Full(2))));
        assert_eq!(enrol("b", "k3", 6).unwrap(), "edge-b", "who is in already may still ask again");
        assert!(!records.join_token(hash).unwrap().unwrap().is_open(5));
        assert!(records.revoke_join_token(hash, &audit()).unwrap());
        assert!(!records.revoke_join_token(hash, &audit()).unwrap());
        assert!(matches!(enrol("b", "k3", 6), Err(EnrolError::UnknownToken)));
    }

    #[test]
    fn api_tokens_are_known_by_their_secret_until_revoked_or_over() {
        let records = Records::open(Arc::new(MemoryStore::default())).unwrap();
        let hash = TokenSecret::generate().hash();
        let token = ApiTokenRecord {
            name: "ci".into(),
            role: Role::Operate,
            created_at: 0,
            created_by: "ann".into(),
            expires_at: Some(10),
            scope: Default::default(),
        };
        assert!(records.put_api_token(hash, &token, &audit()).unwrap());
        assert!(!records.put_api_token(TokenSecret::generate().hash(), &token, &audit()).unwrap());
        assert_eq!(records.api_token(hash, 9).unwrap(), Some(token.clone()));
        assert_eq!(records.api_tokens().unwrap(), [(token.clone(), None)]);
        records.note_token_used(hash, 7).unwrap();
        assert_eq!(records.api_tokens().unwrap(), [(token, Some(7))]);
        assert_eq!(records.api_token(hash, 10).unwrap(), None);
        assert!(records.revoke_api_token("ci", &audit()).unwrap());
        assert!(!records.revoke_api_token("ci", &audit()).unwrap());
        records.note_token_used(hash, 8).unwrap();
        assert!(records.store().scan(TOKENS_USED).unwrap().is_empty());
        assert_eq!(records.api_token(hash, 1).unwrap(), None);
        assert!(records.api_tokens().unwrap().is_empty());
        assert!(!records.claimed(FIRST_TOKEN_CLAIM).unwrap());
        assert!(records.claim(FIRST_TOKEN_CLAIM).unwrap() && !records.claim(FIRST_TOKEN_CLAIM).unwrap());
        assert!(records.claimed(FIRST_TOKEN_CLAIM).unwrap());
    }
}
