//! The records of a release: read, written and deleted as Secrets.

use bytes::Bytes;
use flotilla_core::drift::MANAGER;
use flotilla_core::live::{Live, Metadata};
use flotilla_helm::engine::machine::Answer;
use flotilla_helm::record::{Head, Record, RecordError, secret_name};
use http::Method;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::{Executor, Objects, failed};
use crate::cluster::path::{encoded, labels, segment};
use crate::cluster::request::{Call, Failure};

/// The newest so many are read: more than anybody keeps who does not keep all.
const NEWEST: usize = 16;
/// So many records may a release have; nobody knows which are the newest of more.
const MOST: usize = 2_000;
const PAGE: usize = 500;
const NAMES: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// Why nobody can tell what a release is.
#[derive(Debug, thiserror::Error)]
pub enum UnreadRecords {
    #[error(
        "cannot read the records of the release {release}, the Secrets in {namespace} with the label name={release}"
    )]
    Failure {
        release: String,
        namespace: String,
        #[source]
        source: Box<Failure>,
    },
    #[error("the record {namespace}/{secret} cannot be read; delete it if it is not needed, or restore it")]
    Record {
        namespace: String,
        secret: String,
        #[source]
        source: RecordError,
    },
    #[error(
        "the release {release} has more than {MOST} records in {namespace}; delete those that are not needed"
    )]
    TooMany { release: String, namespace: String },
}

#[derive(Deserialize)]
struct Item {
    metadata: Metadata,
}

impl<O: Objects> Executor<'_, O> {
    /// The newest records. One that is deleted meanwhile is left out.
    pub(super) async fn records(&self) -> Result<Vec<Record>, UnreadRecords> {
        let (release, namespace) = (self.target.name.as_str(), self.target.storage_namespace.as_str());
        let failure = |source: Failure| UnreadRecords::Failure {
            release: release.to_owned(),
            namespace: namespace.to_owned(),
            source: Box::new(source),
        };
        let mut found = Vec::new();
        let mut more = String::new();
        loop {
            let selector = labels(&format!("owner=helm,name={release}"));
            let path = format!("{}?{selector}&limit={PAGE}{more}", self.collection().map_err(failure)?);
            let mut call = Call::new(Method::GET, path);
            call.accept = NAMES;
            let list = self.cluster.ask_list::<Item>(call, "secrets").await.map_err(failure)?;
            for Item { metadata } in list.items {
                let head = Head::of_labels(&metadata.labels).map_err(|source| UnreadRecords::Record {
                    namespace: namespace.to_owned(),
                    secret: metadata.name.clone(),
                    source,
                })?;
                found.push((head.revision, metadata.name));
            }
            if found.len() > MOST {
                let (release, namespace) = (release.to_owned(), namespace.to_owned());
                return Err(UnreadRecords::TooMany { release, namespace });
            }
            if list.more.is_empty() {
                break;
            }
            more = format!("&continue={}", encoded(&list.more));
        }
        found.sort_unstable();
        let newest = found.split_off(found.len().saturating_sub(NEWEST));
        let mut records = Vec::with_capacity(newest.len());
        for (_, secret) in newest {
            let path = self.path(&secret).map_err(failure)?;
            let text = match self.cluster.send(Call::new(Method::GET, path)).await {
                Err(missing) if missing.is_not_found() => continue,
                text => text.map_err(failure)?,
            };
            let namespace = namespace.to_owned();
            let record = Record::of_secret(&text).map_err(|source| UnreadRecords::Record {
                namespace,
                secret,
                source,
            })?;
            records.push(record);
        }
        Ok(records)
    }

    pub(super) async fn write(&self, record: &Record) -> Answer {
        let secret = match record.to_secret(Timestamp::now()) {
            Ok(secret) => secret,
            Err(error) => return Answer::Refused(error.to_string()),
        };
        let is_new = record.resource_version.is_none();
        let name = secret_name(&record.release.name, record.release.revision);
        let path = if is_new { self.collection() } else { self.path(&name) };
        let path = match path {
            Ok(path) => format!("{path}?fieldManager={MANAGER}"),
            Err(failure) => return failed(&failure),
        };
        let method = if is_new { Method::POST } else { Method::PUT };
        let call = Call::new(method, path).body("application/json", Bytes::from(secret.to_string()));
        match self.cluster.ask_for::<Item>(call, "Secret", &name).await {
            Ok(Item { metadata }) => Answer::Written { resource_version: metadata.resource_version },
            // Somebody else wrote it, or we did and were not told.
            Err(failure) if failure.is_conflict() => Answer::Unknown,
            Err(failure) => failed(&failure),
        }
    }

    pub(super) async fn delete_record(&self, revision: u64, resource_version: Option<&str>) -> Answer {
        let path = match self.path(&secret_name(self.target.name.as_str(), revision)) {
            Ok(path) => path,
            Err(failure) => return failed(&failure),
        };
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions",
            "preconditions": {"resourceVersion": resource_version}});
        let call = Call::new(Method::DELETE, path).body("application/json", options.to_string());
        match self.cluster.ask::<Live>(call).await {
            Ok(live) if live.kind == "Status" && live.status == "Success" => Answer::Done,
            Err(failure) if failure.is_not_found() => Answer::Done,
            // Another answer is somebody else's, and says nothing of this record.
            Ok(_) | Err(_) => Answer::Unknown,
        }
    }

    fn collection(&self) -> Result<String, Failure> {
        Ok(format!("/api/v1/namespaces/{}/secrets", segment(self.target.storage_namespace.as_str())?))
    }

    fn path(&self, secret: &str) -> Result<String, Failure> {
        Ok(format!("{}/{}", self.collection()?, segment(secret)?))
    }
}
