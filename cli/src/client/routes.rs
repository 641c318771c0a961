//! What the hub can be asked, a function each.

use flotilla_api::{
    Adopt, Adoption, Approve, AuditEntry, ChangeFinding, Cluster, Definition, Done, Event, EventPage,
    HiddenSecrets, HideSecrets, HistoryEntry, JoinToken, MadeToken, Manifests, NewJoinToken, NewSecret,
    NewToken, OpenJoinToken, Pipeline, Prune, Reconcile, ReconcileSource, Reconciled, ReconciledSource,
    Resume, RolloutRequest, SecretInfo, SecretUse, Source, Status, Suspend, Token, Tree, Unit, WhoAmI,
};
use flotilla_core::{ClusterName, UnitId};
use reqwest::Method;

use super::{ANSWER, BACKUP, Client, PAGE, PRUNE, escape};
use crate::error::Error;

/// Which events are asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct EventFilter {
    pub(crate) cluster: Option<ClusterName>,
    pub(crate) unit: Option<UnitId>,
    /// In seconds since 1970; from then on.
    pub(crate) since: Option<i64>,
    pub(crate) warnings: bool,
    /// The newest so many.
    pub(crate) limit: usize,
}

impl EventFilter {
    fn query(&self) -> Vec<(&'static str, Option<String>)> {
        let Self { cluster, unit, since, warnings, limit: _ } = self;
        vec![
            ("cluster", cluster.as_ref().map(ToString::to_string)),
            ("unit", unit.as_ref().map(ToString::to_string)),
            ("since", since.as_ref().map(ToString::to_string)),
            ("warnings", warnings.then(|| "true".to_owned())),
        ]
    }
}

/// Which clusters, or units, are asked for; the hub chooses.
#[derive(Debug, Clone, Default)]
pub(crate) struct Choice {
    /// Parameters of the query.
    pub(crate) query: Vec<(&'static str, Option<String>)>,
    /// Show at most this many.
    pub(crate) limit: Option<usize>,
}

const NO_BODY: Option<&()> = None;

impl Client {
    pub(crate) async fn who_am_i(&self) -> Result<WhoAmI, Error> {
        self.get("ask who I am", "whoami", &[]).await
    }

    pub(crate) async fn metrics(&self) -> Result<String, Error> {
        self.text("read the metrics", "metrics").await
    }

    /// What `flotilla-hub restore` takes.
    pub(crate) async fn backup(&self) -> Result<Vec<u8>, Error> {
        self.bytes("take the hub's backup", "backup", BACKUP).await
    }

    pub(crate) async fn status(&self) -> Result<Status, Error> {
        self.get("read the status", "status", &[]).await
    }

    pub(crate) async fn clusters(&self, choice: &Choice) -> Result<Vec<Cluster>, Error> {
        self.list("read the clusters", "clusters", &choice.query, choice.limit).await
    }

    pub(crate) async fn cluster(&self, name: &ClusterName) -> Result<Cluster, Error> {
        self.get(&format!("read cluster {name}"), &cluster(name, ""), &[]).await
    }

    /// Units of one cluster, or of all.
    pub(crate) async fn units(
        &self,
        cluster: Option<&ClusterName>,
        choice: &Choice,
    ) -> Result<Vec<Unit>, Error> {
        let mut query = vec![("cluster", cluster.map(ToString::to_string))];
        query.extend(choice.query.iter().cloned());
        self.list("read the units", "units", &query, choice.limit).await
    }

    pub(crate) async fn unit(&self, name: &ClusterName, unit: &UnitId) -> Result<Unit, Error> {
        let path = cluster(name, &format!("/units/{}", escape(&unit.to_string())));
        self.get(&format!("read {unit} of cluster {name}"), &path, &[]).await
    }

    /// The Flux objects that a cluster has, of a kind or all.
    pub(crate) async fn definitions(
        &self,
        name: &ClusterName,
        kind: Option<&str>,
        namespace: Option<&str>,
        object: Option<&str>,
    ) -> Result<Vec<Definition>, Error> {
        let text = |text: Option<&str>| text.map(str::to_owned);
        let query = [("kind", text(kind)), ("namespace", text(namespace)), ("name", text(object))];
        self.list(
            &format!("read the objects of cluster {name}"),
            &cluster(name, "/definitions"),
            &query,
            None,
        )
        .await
    }

    pub(crate) async fn reconcile_source(&self, body: &ReconcileSource) -> Result<ReconciledSource, Error> {
        let what = format!("fetch {}/{}/{}", body.kind, body.namespace, body.name);
        self.send(&what, Method::POST, "sources/reconcile", Some(body), ANSWER).await
    }

    pub(crate) async fn sources(&self) -> Result<Vec<Source>, Error> {
        self.list("read the sources", "sources", &[], None).await
    }

    /// The newest events, the newest last, and the cursor from which to go on.
    pub(crate) async fn events(&self, filter: &EventFilter) -> Result<(Vec<Event>, String), Error> {
        let (mut items, mut cursor, mut older): (Vec<Event>, _, _) = (Vec::new(), None, None);
        while items.len() < filter.limit {
            let mut query = filter.query();
            let wanted = PAGE.min(filter.limit - items.len());
            query.extend([("limit", Some(wanted.to_string())), ("continue", older)]);
            let page: EventPage = self.get("read the events", "events", &query).await?;
            items.extend(page.items);
            cursor.get_or_insert(page.cursor);
            older = page.next;
            if older.is_none() {
                break;
            }
        }
        items.truncate(filter.limit);
        items.reverse();
        Ok((items, cursor.unwrap_or_default()))
    }

    /// The events after a cursor, the newest last, and the cursor from which to go on.
    pub(crate) async fn events_after(
        &self,
        filter: &EventFilter,
        cursor: &str,
    ) -> Result<(Vec<Event>, String), Error> {
        let (mut items, mut cursor) = (Vec::new(), cursor.to_owned());
        loop {
            let mut query = filter.query();
            query.extend([("limit", Some(PAGE.to_string())), ("cursor", Some(cursor))]);
            let page: EventPage = self.get("read the events", "events", &query).await?;
            let is_all = page.items.len() < PAGE;
            items.extend(page.items);
            cursor = page.cursor;
            if is_all {
                return Ok((items, cursor));
            }
        }
    }

    pub(crate) async fn tree(&self, name: &ClusterName) -> Result<Tree, Error> {
        self.get(&format!("read the tree of cluster {name}"), &cluster(name, "/tree"), &[]).await
    }

    /// The states that a cluster was sent, the newest last.
    pub(crate) async fn history(&self, name: &ClusterName) -> Result<Vec<HistoryEntry>, Error> {
        self.list(&format!("read the history of cluster {name}"), &cluster(name, "/history"), &[], None).await
    }

    pub(crate) async fn manifests(&self, name: &ClusterName) -> Result<Manifests, Error> {
        self.get(&format!("read what cluster {name} should run"), &cluster(name, "/manifests"), &[]).await
    }

    pub(crate) async fn hide_secrets(
        &self,
        name: &ClusterName,
        body: &HideSecrets,
    ) -> Result<HiddenSecrets, Error> {
        let path = cluster(name, "/hide-secrets");
        self.send("compare values of Secrets", Method::POST, &path, Some(body), ANSWER).await
    }

    pub(crate) async fn reconcile(&self, body: &Reconcile) -> Result<Reconciled, Error> {
        self.send("reconcile", Method::POST, "reconcile", Some(body), ANSWER).await
    }

    pub(crate) async fn suspend(&self, name: &ClusterName, body: &Suspend) -> Result<Done, Error> {
        self.send(&format!("suspend {name}"), Method::POST, &cluster(name, "/suspend"), Some(body), ANSWER)
            .await
    }

    pub(crate) async fn resume(&self, name: &ClusterName, body: &Resume) -> Result<Done, Error> {
        self.send(&format!("resume {name}"), Method::POST, &cluster(name, "/resume"), Some(body), ANSWER)
            .await
    }

    pub(crate) async fn approve(&self, name: &ClusterName, approval: &str) -> Result<Done, Error> {
        let body = Approve { approval: approval.to_owned() };
        self.send(
            &format!("approve on {name}"),
            Method::POST,
            &cluster(name, "/approve"),
            Some(&body),
            ANSWER,
        )
        .await
    }

    /// What the newest commit takes away.
    pub(crate) async fn changes(&self) -> Result<Vec<ChangeFinding>, Error> {
        self.list("read the changes", "changes", &[], None).await
    }

    pub(crate) async fn approve_change(&self, digest: &str) -> Result<Done, Error> {
        let path = format!("changes/{}/approve", escape(digest));
        self.send(&format!("approve the change {digest}"), Method::POST, &path, NO_BODY, ANSWER).await
    }

    pub(crate) async fn pipelines(&self) -> Result<Vec<Pipeline>, Error> {
        self.list("read the pipelines", "pipelines", &[], None).await
    }

    pub(crate) async fn ask_pipeline(
        &self,
        name: &str,
        is_approval: bool,
        body: &RolloutRequest,
    ) -> Result<Done, Error> {
        let path = format!("pipelines/{}/{}", escape(name), if is_approval { "approval" } else { "rollout" });
        let what = format!("{} in the pipeline {name}", body.action);
        self.send(&what, Method::POST, &path, Some(body), ANSWER).await
    }

    pub(crate) async fn forget_pipeline(&self, name: &str) -> Result<Done, Error> {
        let path = format!("pipelines/{}/forget", escape(name));
        self.send(&format!("forget the pipeline {name}"), Method::POST, &path, NO_BODY, ANSWER).await
    }

    pub(crate) async fn join_token(&self, body: &NewJoinToken) -> Result<JoinToken, Error> {
        let whom = match &body.many {
            Some(many) => format!("group {}", many.group),
            None => format!("cluster {}", body.cluster),
        };
        let what = format!("make a join token for {whom}");
        self.send(&what, Method::POST, "join-tokens", Some(body), ANSWER).await
    }

    pub(crate) async fn join_tokens(&self) -> Result<Vec<OpenJoinToken>, Error> {
        self.list("read the join tokens", "join-tokens", &[], None).await
    }

    pub(crate) async fn revoke_join_token(&self, id: &str) -> Result<Done, Error> {
        let path = format!("join-tokens/{}", escape(id));
        self.send(&format!("revoke the join token {id}"), Method::DELETE, &path, NO_BODY, ANSWER).await
    }

    pub(crate) async fn revoke_cluster(&self, name: &ClusterName) -> Result<Done, Error> {
        self.send(&format!("revoke cluster {name}"), Method::POST, &cluster(name, "/revoke"), NO_BODY, ANSWER)
            .await
    }

    /// Deletes everything that the agent manages in the cluster.
    pub(crate) async fn prune_cluster(&self, name: &ClusterName, body: &Prune) -> Result<Done, Error> {
        self.send(&format!("prune cluster {name}"), Method::POST, &cluster(name, "/prune"), Some(body), PRUNE)
            .await
    }

    /// Takes over what another tool runs in the cluster, or gives it back.
    pub(crate) async fn adopt(&self, name: &ClusterName, body: &Adopt) -> Result<Adoption, Error> {
        self.send(&format!("adopt cluster {name}"), Method::POST, &cluster(name, "/adopt"), Some(body), PRUNE)
            .await
    }

    /// Deletes the cluster at the hub; its objects stay.
    pub(crate) async fn delete_cluster(&self, name: &ClusterName) -> Result<Done, Error> {
        self.send(&format!("delete cluster {name}"), Method::DELETE, &cluster(name, ""), NO_BODY, ANSWER)
            .await
    }

    pub(crate) async fn tokens(&self) -> Result<Vec<Token>, Error> {
        self.list("read the API tokens", "tokens", &[], None).await
    }

    pub(crate) async fn create_token(&self, body: &NewToken) -> Result<MadeToken, Error> {
        self.send(&format!("make the API token {}", body.name), Method::POST, "tokens", Some(body), ANSWER)
            .await
    }

    pub(crate) async fn revoke_token(&self, name: &str) -> Result<Done, Error> {
        let path = format!("tokens/{}", escape(name));
        self.send(&format!("revoke the API token {name}"), Method::DELETE, &path, NO_BODY, ANSWER).await
    }

    pub(crate) async fn secrets(&self) -> Result<Vec<SecretInfo>, Error> {
        self.list("read the secrets", "secrets", &[], None).await
    }

    /// Where a Secret of this name is used, or made.
    pub(crate) async fn secret_uses(
        &self,
        name: &str,
        namespace: Option<&str>,
        cluster: Option<&ClusterName>,
    ) -> Result<Vec<SecretUse>, Error> {
        let query =
            [("namespace", namespace.map(str::to_owned)), ("cluster", cluster.map(ToString::to_string))];
        let path = format!("secret-uses/{}", escape(name));
        self.list(&format!("look for uses of the secret {name}"), &path, &query, None).await
    }

    pub(crate) async fn put_secret(&self, body: &NewSecret) -> Result<Done, Error> {
        self.send(&format!("keep the secret {}", body.name), Method::POST, "secrets", Some(body), ANSWER)
            .await
    }

    pub(crate) async fn remove_secret(
        &self,
        scope: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Done, Error> {
        let path = format!("secrets/{}/{}/{}", escape(scope), escape(namespace), escape(name));
        self.send(&format!("remove the secret {name}"), Method::DELETE, &path, NO_BODY, ANSWER).await
    }

    pub(crate) async fn audit(&self, limit: usize) -> Result<Vec<AuditEntry>, Error> {
        self.list("read the audit log", "audit", &[], Some(limit)).await
    }
}

fn cluster(name: &ClusterName, rest: &str) -> String {
    format!("clusters/{name}{rest}")
}
