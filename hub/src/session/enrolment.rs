//! Joining and renewing: what an agent must show, and what it gets. Blocking, without a network.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use flotilla_core::ClusterName;
use flotilla_core::nodes::NodeFacts;
use flotilla_core::report::Timestamp;
use flotilla_proto::v1;
use flotilla_runtime::lock;
use flotilla_runtime::tls::{Csr, PeerIdentity, TlsError};
use flotilla_runtime::token::TokenSecret;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

use crate::state::Hub;
use crate::store::{AuditRecord, ClusterRecord, EnrolError, StoreError};

/// The longest uid, version or name that is taken from an agent.
const MAX_TEXT: usize = 253;
/// Of an agent's X25519 key.
const SEALING_KEY: usize = 32;
/// Certificates start this long before they are issued.
const BACKDATED: Timestamp = 300;

/// Why an agent is turned away. The texts reach its log.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Csr(TlsError),
    #[error("the hub cannot issue a certificate")]
    Issue(#[source] TlsError),
    #[error("the join token's secret is malformed")]
    Secret,
    #[error("{0} is missing or too long")]
    Text(&'static str),
    #[error("the key for sealed secrets has {0} bytes instead of {SEALING_KEY}")]
    SealingKey(usize),
    #[error("'{0}' names no cluster")]
    Name(String),
    /// To somebody who has not shown a certificate: the same words whatever it is, so that nobody learns which clusters
    /// there are, and which were revoked.
    #[error(
        "no certificate of '{0}' is renewed for this key: the cluster was deleted, revoked or taken over by another \
         agent, or never joined; the hub's `flotilla get clusters` says which"
    )]
    NotRenewed(String),
    #[error("cluster {0} is not enrolled here: it was deleted, or never joined; join again with a new token")]
    NotEnrolled(ClusterName),
    #[error("cluster {0} was deleted at the hub")]
    Deleted(String),
    #[error("cluster {0} was revoked; a new join token (with --replace) lets its agent come back")]
    Revoked(ClusterName),
    #[error("the key is not the one that was enrolled for cluster {0}: another agent took its place")]
    OtherKey(ClusterName),
    #[error(
        "the certificate of cluster {cluster} ended more than {days} days ago; join again with a new token"
    )]
    TooLate { cluster: ClusterName, days: u64 },
    #[error(
        "this agent runs in another Kubernetes cluster than the one that was enrolled as {0} (its kube-system \
         namespace has another uid): is this a copy of the agent's disk? Join it under a name of its own"
    )]
    OtherCluster(ClusterName),
    #[error(
        "this Kubernetes cluster has joined as {other} already, and two agents would work against each other; \
         `flotilla cluster delete {other}` ends that one's work, then this one may join as {cluster}"
    )]
    JoinedAs { cluster: ClusterName, other: ClusterName },
    #[error(
        "the join token is for clusters of the group {group}, and Git does not say that {cluster} is one of them; a Cluster \
         object of this name with labels that the group selects lets the node in"
    )]
    OtherGroup { cluster: ClusterName, group: String },
    #[error(
        "the hub has not read the fleet repo yet, and does not know which clusters are in the token's group"
    )]
    FleetUnknown,
    #[error("a client certificate is needed, and none was shown")]
    NoCertificate,
}

impl Refusal {
    /// Whether the hub is to blame.
    pub(super) fn is_ours(&self) -> bool {
        matches!(self, Self::Store(_) | Self::Enrol(EnrolError::Store(_)) | Self::Issue(_))
    }

    pub(super) fn status(&self) -> Status {
        let text = flotilla_runtime::chain(self);
        match self {
            Self::Store(_) | Self::Enrol(EnrolError::Store(_)) | Self::Issue(_) => Status::internal(text),
            Self::Csr(_) | Self::Secret | Self::Text(_) | Self::SealingKey(_) | Self::Name(_) => {
                Status::invalid_argument(text)
            }
            Self::NoCertificate => Status::unauthenticated(text),
            Self::FleetUnknown => Status::unavailable(text),
            Self::Deleted(_) => deleted(text),
            Self::Enrol(_)
            | Self::NotEnrolled(_)
            | Self::NotRenewed(_)
            | Self::Revoked(_)
            | Self::OtherKey(_)
            | Self::TooLate { .. }
            | Self::JoinedAs { .. }
            | Self::OtherGroup { .. }
            | Self::OtherCluster(_) => Status::permission_denied(text),
        }
    }
}

/// The refusal that ends an agent's work.
pub(super) fn deleted(text: String) -> Status {
    let mut trailers = MetadataMap::new();
    trailers.insert(flotilla_proto::REFUSAL, MetadataValue::from_static(flotilla_proto::DELETED));
    Status::with_metadata(Code::PermissionDenied, text, trailers)
}

fn text(what: &'static str, value: &str) -> Result<(), Refusal> {
    if value.is_empty() || value.len() > MAX_TEXT { Err(Refusal::Text(what)) } else { Ok(()) }
}

/// Of what an agent says of its node, so much as can stand in a name.
fn short(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

/// Whether a token for this group's nodes lets one in under this name: a stranger chose it, and Git gives it content.
fn may_join(hub: &Hub, cluster: &ClusterName, group: &str) -> Result<(), Refusal> {
    let fleet = hub.fleet.view();
    if fleet.round == 0 {
        return Err(Refusal::FleetUnknown);
    }
    match fleet.clusters.get(cluster) {
        Some(facts) if facts.assigned && facts.groups.contains(group) => Ok(()),
        _ => Err(Refusal::OtherGroup { cluster: cluster.clone(), group: group.to_owned() }),
    }
}

fn secret(request: &v1::EnrolRequest) -> Result<TokenSecret, Refusal> {
    let text = URL_SAFE_NO_PAD.encode(&request.secret);
    TokenSecret::decode(&text).ok_or(Refusal::Secret)
}

/// Whether the hub made the request's token; cheap, and before anything else.
pub(super) fn known_token(hub: &Hub, request: &v1::EnrolRequest) -> Result<(), Refusal> {
    let token = hub.records.join_token(secret(request)?.hash())?;
    token.map(|_| ()).ok_or(Refusal::Enrol(EnrolError::UnknownToken))
}

/// Trades a join token for a certificate.
pub(super) fn enrol(hub: &Hub, request: &v1::EnrolRequest) -> Result<v1::Credentials, Refusal> {
    text("cluster_uid", &request.cluster_uid)?;
    if request.sealing_key.len() != SEALING_KEY {
        return Err(Refusal::SealingKey(request.sealing_key.len()));
    }
    let secret = secret(request)?;
    let csr = Csr::parse(&request.csr).map_err(Refusal::Csr)?;
    let public_key = STANDARD.encode(csr.public_key());
    let now = hub.now();
    let node = NodeFacts {
        hostname: short(&request.hostname),
        machine_id: short(&request.machine_id),
        cluster_uid: request.cluster_uid.clone(),
    };
    // Whoever holds a token that is good for nothing learns no names.
    if let Some(token) = hub.records.join_token(secret.hash())?
        && token.is_open(now)
    {
        let cluster = token.cluster_of(&node)?;
        if let Some(many) = &token.many {
            may_join(hub, &cluster, &many.group)?;
        }
        if let Some(other) = hub.joined.other(hub, &cluster, &request.cluster_uid)? {
            return Err(Refusal::JoinedAs { cluster, other });
        }
    }
    let (cluster, record) =
        hub.records.enrol(secret.hash(), &node, &public_key, now, |token| ClusterRecord {
            public_key: public_key.clone(),
            sealing_key: STANDARD.encode(&request.sealing_key),
            uid: request.cluster_uid.clone(),
            enrolled_at: now,
            enrolled_by: token.created_by.clone(),
            labels: token.labels.clone(),
            ..ClusterRecord::default()
        })?;
    // Asked again with the same key, it is the cluster that it was.
    if record.uid != request.cluster_uid {
        return Err(Refusal::OtherCluster(cluster));
    }
    hub.joined.note(&cluster, &record.uid);
    // An agent whose place was taken must not go on with its stream.
    hub.sessions.cut(&cluster, super::EndReason::Replaced);
    hub.changes.cluster(&cluster);
    hub.metrics.enrolments.inc();
    issue(hub, &csr, &cluster)
}

/// Which Kubernetes cluster joined under which names, by its uid: under more than one, where all but one were revoked. A hint:
/// the records of those names decide. Read from the store once, as thousands of agents may join at the same time.
#[derive(Debug, Default)]
pub struct Joined(Mutex<Option<HashMap<String, BTreeSet<ClusterName>>>>);

impl Joined {
    /// The other name under which this uid has joined, if that may connect.
    fn other(&self, hub: &Hub, cluster: &ClusterName, uid: &str) -> Result<Option<ClusterName>, StoreError> {
        let found = {
            let mut names = lock(&self.0);
            if names.is_none() {
                let mut all: HashMap<String, BTreeSet<ClusterName>> = HashMap::new();
                for (name, record) in hub.records.clusters()? {
                    all.entry(record.uid).or_default().insert(name);
                }
                *names = Some(all);
            }
            names.as_ref().and_then(|names| names.get(uid)).cloned().unwrap_or_default()
        };
        for name in found.into_iter().filter(|name| name != cluster) {
            let record = hub.records.cluster(&name)?;
            if record.is_some_and(|record| record.uid == uid && record.revoked_at.is_none()) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    fn note(&self, cluster: &ClusterName, uid: &str) {
        if let Some(names) = &mut *lock(&self.0) {
            names.entry(uid.to_owned()).or_default().insert(cluster.clone());
        }
    }
}

/// A request for a certificate whose sender holds the enrolled key.
#[derive(Debug)]
pub(super) struct Proof {
    pub cluster: ClusterName,
    csr: Csr,
}

/// Whether a renewal's sender holds the key of the cluster that it names, and may have a certificate.
pub(super) fn prove(hub: &Hub, request: &v1::RenewRequest) -> Result<Proof, Refusal> {
    let name: String = request.cluster.chars().take(MAX_TEXT).collect();
    let not_renewed = || Refusal::NotRenewed(name.clone());
    let cluster: ClusterName = request.cluster.parse().map_err(|_| Refusal::Name(name.clone()))?;
    let csr = Csr::parse(&request.csr).map_err(Refusal::Csr)?;
    // Who holds the key may know.
    was_deleted(hub, &csr.public_key())?;
    let record = hub.records.cluster(&cluster)?.ok_or_else(not_renewed)?;
    match check(&record, &cluster, &csr.public_key(), &request.cluster_uid) {
        Ok(()) => {}
        // The key was the right one.
        Err(refusal @ Refusal::OtherCluster(_)) => return Err(refusal),
        Err(_) => return Err(not_renewed()),
    }
    let grace = hub.settings.renew_grace.as_secs();
    if hub.now() - record.certificate.expires_at > grace as Timestamp {
        return Err(Refusal::TooLate { cluster, days: grace / 86_400 });
    }
    Ok(Proof { cluster, csr })
}

/// A new certificate for the enrolled key.
pub(super) fn renew(hub: &Hub, proof: &Proof) -> Result<v1::Credentials, Refusal> {
    hub.metrics.renewals.inc();
    issue(hub, &proof.csr, &proof.cluster)
}

fn issue(hub: &Hub, csr: &Csr, cluster: &ClusterName) -> Result<v1::Credentials, Refusal> {
    let (pem, certificate) = hub.authority.issue_agent(csr, cluster).map_err(Refusal::Issue)?;
    let key = STANDARD.encode(csr.public_key());
    let record = hub.records.change_cluster(cluster, None, |record| {
        if record.public_key == key {
            record.certificate = certificate.clone();
        }
    })?;
    // Revoked or deleted in this moment: the certificate must not leave.
    let record = record.ok_or_else(|| Refusal::NotEnrolled(cluster.clone()))?;
    check(&record, cluster, &csr.public_key(), &record.uid)?;
    let trust = hub.authority.trust().borrow().clone();
    Ok(v1::Credentials { cluster: cluster.to_string(), certificate: pem, trust: Some(trust), now: hub.now() })
}

/// Whether the bearer of a verified certificate may have its cluster's stream.
pub(super) fn admit(hub: &Hub, peer: &PeerIdentity, uid: &str) -> Result<ClusterName, Refusal> {
    text("cluster_uid", uid)?;
    let cluster: ClusterName = peer.cluster.parse().map_err(|_| Refusal::Name(peer.cluster.clone()))?;
    was_deleted(hub, &peer.certificate.public_key)?;
    let record = match hub.records.cluster(&cluster)? {
        Some(record) => record,
        None => adopt(hub, &cluster, peer, uid)?,
    };
    check(&record, &cluster, &peer.certificate.public_key, uid)?;
    Ok(cluster)
}

/// Refuses the agent of a cluster that was deleted, though another may have its name by now.
fn was_deleted(hub: &Hub, key: &[u8]) -> Result<(), Refusal> {
    match hub.records.deleted(&STANDARD.encode(key))? {
        Some(deleted) => Err(Refusal::Deleted(deleted.cluster)),
        None => Ok(()),
    }
}

fn check(record: &ClusterRecord, cluster: &ClusterName, key: &[u8], uid: &str) -> Result<(), Refusal> {
    if record.public_key != STANDARD.encode(key) {
        return Err(Refusal::OtherKey(cluster.clone()));
    }
    if record.revoked_at.is_some() {
        return Err(Refusal::Revoked(cluster.clone()));
    }
    if record.uid != uid {
        return Err(Refusal::OtherCluster(cluster.clone()));
    }
    Ok(())
}

/// A cluster without a record whose certificate was issued after the backup that this store was restored from
/// has joined since then: it is taken in again. Any other one was deleted.
fn adopt(hub: &Hub, cluster: &ClusterName, peer: &PeerIdentity, uid: &str) -> Result<ClusterRecord, Refusal> {
    let unknown = || Refusal::NotEnrolled(cluster.clone());
    let restored = hub.records.restored()?.ok_or_else(unknown)?;
    let seconds = |at: std::time::SystemTime| {
        at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs() as Timestamp
    };
    let issued_at = seconds(peer.certificate.not_before) + BACKDATED;
    let forgotten = (restored.backup_at..=restored.restored_at).contains(&issued_at);
    // A deletion since the backup counts, whatever the certificate says.
    let deleted = hub.records.audit_log()?.into_iter().any(|(_, line)| {
        line.action == "cluster.delete" && line.target == cluster.as_str() && line.at >= restored.backup_at
    });
    if !forgotten || deleted {
        return Err(unknown());
    }
    let record = ClusterRecord {
        public_key: STANDARD.encode(&peer.certificate.public_key),
        uid: uid.to_owned(),
        enrolled_at: issued_at,
        enrolled_by: "restore".into(),
        certificate: crate::store::Certificate {
            serial: peer.certificate.serial.clone(),
            issued_at,
            expires_at: seconds(peer.certificate.not_after),
            ca: String::new(),
        },
        ..ClusterRecord::default()
    };
    let audit = AuditRecord::new(hub.now(), "hub", "cluster.adopt", cluster)
        .detail("it joined after the backup that this hub was restored from");
    hub.records.adopt_cluster(cluster, &record, &audit)?;
    hub.joined.note(cluster, uid);
    Ok(record)
}
