//! What the hub asks of the cluster that only the cluster can tell: read as the account in whose name it is asked, and
//! watched for as long as it is wanted. Nothing is kept but a digest of each.

use std::collections::BTreeSet;

use flotilla_core::question::{Question, Reply, Subject};
use flotilla_core::template::{ValuesKind, ValuesRef};
use flotilla_runtime::tasks::chain;
use serde_json::Value;
use tokio::sync::watch;

use super::engine::Engine;
use super::followed::News;
use super::template::object_of;
use crate::cluster::Cluster;
use crate::cluster::request::Failure;

impl Engine {
    /// Watches these, and nothing else that was watched for whoever asked.
    pub fn follow(&self, wanted: BTreeSet<ValuesRef>) {
        if self.shared.followed.set(wanted) {
            self.shared.wake.notify_one();
        }
    }

    /// Changes whenever [`Engine::news`] has something.
    pub fn followed(&self) -> watch::Receiver<u64> {
        self.shared.followed.ticks()
    }

    /// What happened since the last call.
    pub fn news(&self) -> News {
        self.shared.followed.take_news()
    }

    /// Answers a question from the API server, in the name of the question's account.
    pub async fn reply(&self, question: &Question) -> Reply {
        let tools = self.shared.tools.borrow().clone();
        let Some(tools) = tools else {
            return Reply::Failed("the agent has not read its cluster yet".to_owned());
        };
        let _seat = tools.seat().await;
        let cluster = tools.cluster.acting_as(question.account.as_ref());
        let read = match &question.subject {
            Subject::Apis => cluster.apis().await.map(Reply::Apis),
            Subject::Nodes => cluster.nodes().await.map(Reply::Nodes),
            Subject::Values(reference) => read(&cluster, reference).await,
        };
        let reply = read.unwrap_or_else(|failure| match failure.code() {
            403 => Reply::Refused(chain(&failure)),
            _ => Reply::Failed(chain(&failure)),
        });
        match reply.excess() {
            Some(excess) => Reply::Refused(excess),
            None => reply,
        }
    }
}

async fn read(cluster: &Cluster, reference: &ValuesRef) -> Result<Reply, Failure> {
    let object = object_of(reference);
    let resource = cluster.resource(&object).await?;
    let Some(found) = cluster.fetch::<Value>(&resource, &object.id).await? else { return Ok(Reply::Absent) };
    let data = found["data"].as_object().into_iter().flatten();
    Ok(match reference.kind {
        ValuesKind::ConfigMap => {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            Reply::Data(data.map(|(key, value)| (key.clone(), text(value))).collect())
        }
        ValuesKind::Secret => Reply::Keys(data.map(|(key, _)| key.clone()).collect()),
    })
}
