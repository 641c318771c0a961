//! The task that writes the inventory into the cluster, and what it does about others who write there.

use flotilla_runtime::chain;
use futures::StreamExt;
use http::Method;
use serde_json::json;

use super::super::discovery::Resource;
use super::super::request::{Call, Failure};
use super::super::{Cluster, SYSTEM_NAMESPACE};
use super::pages::{ConfigMap, Key, name_of};
use super::{InventoryWriter, KEY, LAZY, MARK, Trouble};

/// From look to look at a namespace that is being deleted, or that is about to be made.
const NAMESPACE_PAUSE: std::time::Duration = std::time::Duration::from_millis(300);

impl InventoryWriter {
    /// Writes what changed, for ever.
    pub(crate) async fn write(&self, cluster: &Cluster) {
        let mut backoff = flotilla_runtime::Backoff::new(
            std::time::Duration::from_millis(200),
            std::time::Duration::from_secs(20),
        );
        loop {
            tokio::select! {
                () = self.asked.notified() => {}
                () = self.wake.notified() => {
                    // Uids and removals: whoever changes more within this time joins the write.
                    tokio::select! {
                        () = self.asked.notified() => {}
                        () = tokio::time::sleep(LAZY) => {}
                    }
                }
            }
            tokio::task::yield_now().await;
            while let Err(failure) = self.write_once(cluster).await {
                let is_away = failure.is_away();
                let why = chain(&failure);
                let why = if is_away { why } else { format!("cannot write the inventory: {why}") };
                self.trouble.send_replace(Some(Trouble { why, is_away }));
                // Somebody deleted the namespace: the inventory is needed again the moment that is done.
                if failure.is_not_found() || failure.is_terminating() {
                    tokio::time::sleep(NAMESPACE_PAUSE).await;
                } else {
                    backoff.wait().await;
                }
            }
            backoff.reset();
            self.trouble.send_if_modified(|trouble| trouble.take().is_some());
        }
    }

    async fn write_once(&self, cluster: &Cluster) -> Result<(), Failure> {
        let (change, dirty) = {
            let pages = self.pages();
            let dirty: Vec<Key> =
                pages.parts.iter().filter(|(_, part)| part.dirty).map(|(key, _)| *key).collect();
            (pages.change, dirty)
        };
        let writes = dirty.into_iter().map(|key| self.write_part(cluster, key));
        let results: Vec<Result<(), Failure>> =
            futures::stream::iter(writes).buffer_unordered(4).collect().await;
        let failed = results.into_iter().find_map(Result::err);
        if let Some(failure) = failed {
            return Err(failure);
        }
        self.written.send_replace(change);
        Ok(())
    }

    async fn write_part(&self, cluster: &Cluster, key: Key) -> Result<(), Failure> {
        // Made only now: with what changed since, and no more of them in memory than are on their way.
        let (content, version) = {
            let mut pages = self.pages();
            let content = pages.content(key);
            let Some(part) = pages.parts.get_mut(&key) else { return Ok(()) };
            part.dirty = false;
            part.sends(&content);
            (content, part.version.clone())
        };
        let result = self.replace(cluster, key, &content, &version).await;
        let failure = {
            let mut pages = self.pages();
            let Some(part) = pages.parts.get_mut(&key) else { return Ok(()) };
            match result {
                Ok(version) => {
                    part.wrote(&content, version);
                    return Ok(());
                }
                Err(failure) => {
                    part.dirty = true;
                    failure
                }
            }
        };
        if failure.is_conflict() {
            self.settle(cluster, key).await?;
        }
        if failure.is_not_found() {
            // Either the namespace is not there yet, or somebody deleted the ConfigMap: it is made anew.
            make_namespace(cluster).await?;
            if let Some(part) = self.pages().parts.get_mut(&key) {
                part.version.clear();
            }
        }
        Err(failure)
    }

    async fn replace(
        &self,
        cluster: &Cluster,
        key: Key,
        content: &str,
        version: &str,
    ) -> Result<String, Failure> {
        let name = name_of(key);
        let mut metadata = json!({"name": name, "namespace": SYSTEM_NAMESPACE, "labels": {MARK: "1"}});
        let path =
            if version.is_empty() { Resource::inventory_path("") } else { Resource::inventory_path(&name) };
        let method = if version.is_empty() { Method::POST } else { Method::PUT };
        if !version.is_empty() {
            metadata["resourceVersion"] = version.into();
        }
        let body =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {KEY: content}});
        let call = Call::new(method, path.trim_end_matches('/')).body("application/json", body.to_string());
        let answer: flotilla_core::live::Live = cluster.ask_for(call, "ConfigMap", &name).await?;
        Ok(answer.metadata.resource_version)
    }

    /// After a conflict: looks who wrote.
    async fn settle(&self, cluster: &Cluster, key: Key) -> Result<(), Failure> {
        let name = name_of(key);
        let call = Call::new(Method::GET, Resource::inventory_path(&name));
        let there: Option<ConfigMap> = match cluster.ask_for(call, "ConfigMap", &name).await {
            Err(failure) if failure.is_not_found() => None,
            other => Some(other?),
        };
        self.pages().take_conflict(key, there);
        Ok(())
    }
}

/// Makes the agent's namespace where it is missing; looks first, so that nothing is written for nothing.
pub(in crate::cluster) async fn make_namespace(cluster: &Cluster) -> Result<(), Failure> {
    let path = format!("/api/v1/namespaces/{SYSTEM_NAMESPACE}");
    match cluster.get_path::<flotilla_core::live::Live>(path).await {
        Err(failure) if failure.is_not_found() => {}
        other => return other.map(drop),
    }
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM_NAMESPACE}});
    match cluster
        .send(Call::new(Method::POST, "/api/v1/namespaces").body("application/json", body.to_string()))
        .await
    {
        Err(failure) if !failure.is_conflict() => Err(failure),
        _ => Ok(()),
    }
}
