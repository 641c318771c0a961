//! Tokens with which agents join: one cluster's, or one for many nodes of a group that name themselves.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use flotilla_api::{Done, JoinToken, ManyNodes, NewJoinToken, OpenJoinToken, Page};
use flotilla_core::ClusterName;
use flotilla_core::names::is_dns_label;
use flotilla_core::reported::is_reported;
use flotilla_runtime::token::{self, SecretHash, TokenSecret};

use super::auth::Caller;
use super::clusters::{Answer, done};
use super::error::{ApiError, Body, Name, digest_prefix};
use super::reach::{Reach, outside};
use crate::state::{Hub, blocking};
use crate::store::{JoinTokenRecord, ManyNodesRecord, StoreError};

/// The default life of a join token, in seconds.
const JOIN_LIFE: u64 = 24 * 3600;
const MAX_JOIN_LIFE: u64 = 30 * 24 * 3600;
/// The most nodes that one token lets in.
const MAX_NODES: u32 = 10_000;
/// So many digits of the hash of its secret name a token.
const ID_DIGITS: usize = 16;

pub(super) async fn make(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
    Body(body): Body<NewJoinToken>,
) -> Answer<JoinToken> {
    let reach = caller.reach(&hub);
    let to = Invited::of(&body)?;
    match &to {
        Invited::Cluster(name) => reach.need_cluster(name)?,
        Invited::Many(many) if reach.group(&many.group) => {}
        Invited::Many(many) => return Err(outside(&format!("this concerns the group {}", many.group))),
    }
    let life = body.expires_in.unwrap_or(JOIN_LIFE);
    if !(1..=MAX_JOIN_LIFE).contains(&life) {
        return Err(ApiError::bad_request(format!("a join token lives 1 to {MAX_JOIN_LIFE} seconds")));
    }
    if let Some(key) = body.labels.keys().find(|key| is_reported(key)) {
        return Err(ApiError::bad_request(format!(
            "'{key}' is a label that the cluster's agent reports; use another name"
        )));
    }
    let (now, secret) = (hub.now(), TokenSecret::generate());
    let cluster = to.cluster().map(ToString::to_string).unwrap_or_default();
    let record = JoinTokenRecord {
        cluster: cluster.clone(),
        created_at: now,
        created_by: caller.name.clone(),
        expires_at: now + life as i64,
        replace: body.replace,
        labels: body.labels,
        used: None,
        many: to.many().cloned(),
    };
    caller.may_write(&hub)?;
    let (target, detail) = match &to {
        Invited::Cluster(name) if body.replace => {
            (name.to_string(), "replaces the enrolled agent".to_owned())
        }
        Invited::Cluster(name) => (name.to_string(), String::new()),
        Invited::Many(many) => {
            (format!("group {}", many.group), format!("{} nodes that are called {}", many.count, many.names))
        }
    };
    let audit = caller.audit(&hub, "cluster.token", &target).detail(detail);
    let (shared, name, stored, hash) = (hub.clone(), to.cluster().cloned(), record.clone(), secret.hash());
    let enrolled = blocking(move || {
        let enrolled = match &name {
            Some(name) => shared.records.cluster(name)?.is_some(),
            None => false,
        };
        if !enrolled || stored.replace {
            shared.records.put_join_token(hash, &stored, &audit)?;
        }
        Ok::<_, StoreError>(enrolled)
    })
    .await?;
    if enrolled && !record.replace {
        return Err(ApiError::conflict(format!("cluster {cluster} is enrolled already")).hint(
            "to let another agent take its place ask for a token with --replace, or delete the cluster first",
        ));
    }
    to.cluster().into_iter().for_each(|name| hub.changes.cluster(name));
    let token = token::JoinToken {
        cluster: cluster.clone(),
        hubs: hub.authority.addresses().to_vec(),
        cas: hub.authority.pins(),
        secret,
    };
    Ok(Json(JoinToken {
        cluster,
        token: token.encode(),
        expires_at: record.expires_at,
        cas: token.cas.iter().map(ToString::to_string).collect(),
        addresses: token.hubs.iter().map(ToString::to_string).collect(),
        many: record.many.as_ref().map(shown),
    }))
}

/// Whom a token lets in.
#[derive(Debug)]
enum Invited {
    Cluster(ClusterName),
    Many(ManyNodesRecord),
}

impl Invited {
    fn of(body: &NewJoinToken) -> Result<Self, ApiError> {
        let bad = |error: String| Err(ApiError::bad_request(error));
        let Some(many) = &body.many else {
            let name = body.cluster.parse();
            return name.map(Self::Cluster).map_err(|error: flotilla_core::names::InvalidName| {
                ApiError::bad_request(error.to_string())
            });
        };
        if !body.cluster.is_empty() || body.replace {
            return bad("a token for many nodes names no cluster, and replaces no agent".to_owned());
        }
        if !body.labels.is_empty() {
            return bad("a token for many nodes has no labels: Git gives them to the clusters of its group"
                .to_owned());
        }
        if !(1..=MAX_NODES).contains(&many.count) {
            return bad(format!("a token lets in 1 to {MAX_NODES} nodes"));
        }
        if !is_dns_label(&many.group) {
            return bad(format!("'{}' is not the name of a ClusterGroup", many.group));
        }
        match many.names.parse() {
            Ok(names) => {
                let (group, count) = (many.group.clone(), many.count);
                Ok(Self::Many(ManyNodesRecord { group, names, count, joined: 0 }))
            }
            Err(error) => bad(format!("{error}")),
        }
    }

    fn cluster(&self) -> Option<&ClusterName> {
        match self {
            Self::Cluster(name) => Some(name),
            Self::Many(_) => None,
        }
    }

    fn many(&self) -> Option<&ManyNodesRecord> {
        match self {
            Self::Cluster(_) => None,
            Self::Many(many) => Some(many),
        }
    }
}

fn shown(many: &ManyNodesRecord) -> ManyNodes {
    ManyNodes { count: many.count, group: many.group.clone(), names: many.names.to_string() }
}

fn in_reach(reach: &Reach, record: &JoinTokenRecord) -> bool {
    match &record.many {
        Some(many) => reach.group(&many.group),
        None => record.cluster.parse().is_ok_and(|name| reach.whole_cluster(&name)),
    }
}

/// The tokens that are good and in the caller's reach, by the hash of their secret.
async fn open(hub: &Arc<Hub>, caller: &Caller) -> Result<BTreeMap<String, JoinTokenRecord>, ApiError> {
    let (reach, now, shared) = (caller.reach(hub), hub.now(), hub.clone());
    let all = blocking(move || shared.records.join_tokens()).await?;
    Ok(all.into_iter().filter(|(_, record)| record.is_open(now) && in_reach(&reach, record)).collect())
}

fn id(hash: &str) -> String {
    hash.chars().take(ID_DIGITS).collect()
}

pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
) -> Answer<Page<OpenJoinToken>> {
    let tokens = open(&hub, &caller).await?;
    let mut items: Vec<OpenJoinToken> = tokens
        .into_iter()
        .map(|(hash, record)| OpenJoinToken {
            id: id(&hash),
            cluster: record.cluster,
            joined: record.many.as_ref().map_or(0, |many| many.joined),
            many: record.many.as_ref().map(shown),
            created_at: record.created_at,
            created_by: record.created_by,
            expires_at: record.expires_at,
        })
        .collect();
    items.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
    Ok(Json(Page { items, next: None }))
}

pub(super) async fn revoke(
    State(hub): State<Arc<Hub>>,
    Extension(caller): Extension<Caller>,
    Name(named): Name<String>,
) -> Answer<Done> {
    let digits = digest_prefix("a join token", &named)?;
    let tokens = open(&hub, &caller).await?;
    let mut found = tokens.iter().filter(|(hash, _)| hash.starts_with(&digits));
    let (Some((hash, record)), None) = (found.next(), found.next()) else {
        return Err(ApiError::not_found(format!(
            "no valid join token, or more than one, has the id {named}"
        ))
        .hint("`flotilla cluster tokens` lists them"));
    };
    let hash: SecretHash = hash.parse().map_err(|_| ApiError::not_found("the token has no valid hash"))?;
    caller.may_write(&hub)?;
    let whose = match &record.many {
        Some(many) => format!("group {}", many.group),
        None => record.cluster.clone(),
    };
    let audit = caller.audit(&hub, "cluster.token-revoke", &whose);
    let shared = hub.clone();
    if !blocking(move || shared.records.revoke_join_token(hash, &audit)).await? {
        return Err(ApiError::not_found(format!(
            "the join token {named} was used up or revoked at this moment"
        )));
    }
    if let Ok(name) = record.cluster.parse() {
        hub.changes.cluster(&name);
    }
    Ok(done(format!("the join token for {whose} is revoked; clusters that joined with it stay")))
}
