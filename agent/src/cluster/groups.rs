//! The API server's answer to aggregated discovery: as far as kinds are applied, and whole for who asks what is served.

use std::collections::HashSet;

use flotilla_core::question::Apis;
use http::Method;
use kube::core::discovery::v2::ACCEPT_AGGREGATED_DISCOVERY_V2;
use serde::Deserialize;

use super::Cluster;
use super::discovery::Resource;
use super::request::{Call, Failure};

impl Cluster {
    /// Reads which groups are served: the core group, and all others.
    pub(super) async fn groups(&self) -> Result<[Groups; 2], Failure> {
        let read = async |path: &str| {
            let mut call = Call::new(Method::GET, path);
            call.accept = ACCEPT_AGGREGATED_DISCOVERY_V2;
            let groups: Groups = self.itself().ask(call).await?;
            // Of an answer of another kind nothing could be read, and nothing would seem to be served.
            if groups.kind != "APIGroupDiscoveryList" {
                return Err(Failure::NoList("API groups by aggregated discovery".into()));
            }
            Ok(groups)
        };
        Ok([read("/api").await?, read("/apis").await?])
    }

    /// Reads which APIs are served, by the names of versions and kinds. Nothing of it is kept here.
    pub(crate) async fn apis(&self) -> Result<Apis, Failure> {
        let mut apis = Apis::default();
        for groups in self.groups().await? {
            groups.names(&mut apis);
        }
        Ok(apis)
    }
}

/// What was read at once.
#[derive(Default)]
pub(super) struct Read {
    pub(super) resources: Vec<Resource>,
    pub(super) unpatchable: Vec<Resource>,
    pub(super) stale: HashSet<String>,
}

// Of the answer, `APIGroupDiscoveryList`, only what is needed.

#[derive(Deserialize)]
pub(super) struct Groups {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    items: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    metadata: Name,
    #[serde(default)]
    versions: Vec<Version>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Name {
    name: String,
}

#[derive(Deserialize)]
struct Version {
    version: String,
    #[serde(default)]
    freshness: String,
    #[serde(default)]
    resources: Vec<Served>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Served {
    resource: String,
    #[serde(default)]
    response_kind: Option<Kind>,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    subresources: Vec<Subresource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subresource {
    #[serde(default)]
    response_kind: Option<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(default)]
    kind: String,
}

impl Groups {
    pub(super) fn collect(self, read: &mut Read) {
        for group in self.items {
            for version in group.versions {
                if version.freshness == "Stale" {
                    read.stale.insert(group.metadata.name.clone());
                }
                for served in version.resources {
                    let Some(kind) = served.response_kind.filter(|kind| !kind.kind.is_empty()) else {
                        continue;
                    };
                    let can = |verb: &str| served.verbs.iter().any(|served| served == verb);
                    // What cannot be patched is not an object that could be applied. What can only be read is drawn up for
                    // who asks, as metrics are.
                    let list = match (can("patch"), can("list") && (can("create") || can("delete"))) {
                        (true, _) => &mut read.resources,
                        (false, true) => &mut read.unpatchable,
                        (false, false) => continue,
                    };
                    list.push(Resource {
                        group: group.metadata.name.clone(),
                        version: version.version.clone(),
                        kind: kind.kind,
                        plural: served.resource,
                        namespaced: served.scope == "Namespaced",
                    });
                }
            }
        }
    }

    fn names(self, apis: &mut Apis) {
        for Group { metadata: Name { name: group }, versions } in self.items {
            for version in versions {
                if version.freshness == "Stale" {
                    apis.stale.insert(group.clone());
                }
                let name = match group.as_str() {
                    "" => version.version,
                    group => format!("{group}/{}", version.version),
                };
                let kinds = apis.served.entry(name).or_default();
                for served in version.resources {
                    let of_parts = served.subresources.into_iter().map(|part| part.response_kind);
                    let named = std::iter::once(served.response_kind).chain(of_parts).flatten();
                    kinds.extend(named.map(|kind| kind.kind).filter(|kind| !kind.is_empty()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn all_that_is_served_is_named() {
        let answer = json!({"items": [
            {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [
                {"resource": "deployments", "responseKind": {"kind": "Deployment"}, "verbs": ["patch"],
                    "subresources": [{"subresource": "scale", "responseKind": {"kind": "Scale"}}, {"subresource": "status"}]},
                {"resource": "figures", "responseKind": {"kind": "Figure"}, "verbs": ["get"]}]}]},
            {"metadata": {"name": "away.io"}, "versions": [{"version": "v1", "freshness": "Stale"}]},
            {"versions": [{"version": "v1", "resources": [{"resource": "pods", "responseKind": {"kind": "Pod"}}]}]}]});
        let mut apis = Apis::default();
        serde_json::from_value::<Groups>(answer).unwrap().names(&mut apis);
        let names: Vec<String> = apis.names().collect();
        assert_eq!(
            names,
            [
                "apps/v1",
                "apps/v1/Deployment",
                "apps/v1/Figure",
                "apps/v1/Scale",
                "away.io/v1",
                "v1",
                "v1/Pod"
            ]
        );
        assert_eq!(apis.stale, ["away.io".to_owned()].into());
    }
}
