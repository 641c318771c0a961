//! Helm's releases: what they hold, and their Secrets set apart, so that no `helm uninstall` finds objects that are
//! Flotilla's by now. Nothing is deleted: the label by which Helm looks for them gets another value.

use std::collections::BTreeMap;
use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flate2::read::GzDecoder;
use flotilla_core::live::Metadata;
use flotilla_core::{ObjectId, adopt, drift};
use flotilla_runtime::chain;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::cluster::path::{labels, segment};
use crate::cluster::request::{Call, Failure};

const OWNER: &str = "owner";
const HELM: &str = "helm";
const APART: &str = "helm-before-flotilla";
/// A release's manifest has at most so many bytes; the API server takes less than 2 MB, compressed.
const LONGEST: u64 = 64 << 20;

/// A release and the Secrets of its revisions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Release {
    pub(super) secrets: Vec<String>,
    /// The Secret with what runs.
    deployed: Option<String>,
}

/// Namespace and name.
pub(super) type ReleaseName = (String, String);

#[derive(Deserialize)]
struct Item {
    metadata: Metadata,
}

fn path(namespace: &str, name: &str) -> Result<String, Failure> {
    Ok(format!("/api/v1/namespaces/{}/secrets/{}", segment(namespace)?, segment(name)?))
}

/// All releases that Helm knows, by their Secrets' labels.
pub(super) async fn list(cluster: &Cluster) -> Result<BTreeMap<ReleaseName, Release>, Failure> {
    let mut call = Call::new(Method::GET, format!("/api/v1/secrets?{}", labels(&format!("{OWNER}={HELM}"))));
    call.accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let list = cluster.ask_list(call, "secrets").await?;
    let mut releases: BTreeMap<ReleaseName, Release> = BTreeMap::new();
    for Item { metadata } in list.items {
        let Some(name) = metadata.labels.get("name") else { continue };
        let release = releases.entry((metadata.namespace.clone(), name.clone())).or_default();
        if metadata.labels.get("status").is_some_and(|status| status == "deployed") {
            release.deployed = Some(metadata.name.clone());
        }
        release.secrets.push(metadata.name);
    }
    Ok(releases)
}

/// The release that a HelmRelease of Flux made.
pub(super) fn of_flux(release: &Value) -> Option<ReleaseName> {
    let text = |pointer: &str| release.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let (namespace, name) = (text("/metadata/namespace")?, text("/metadata/name")?);
    let target = text("/spec/targetNamespace");
    // What Flux has noted is what it did, however it came to the name.
    let noted = text("/status/history/0/name");
    let named = noted.or_else(|| text("/spec/releaseName"));
    let name = named.unwrap_or_else(|| match &target {
        Some(target) => format!("{target}-{name}"),
        None => name,
    });
    let storage = text("/status/storageNamespace").or_else(|| text("/spec/storageNamespace"));
    Some((storage.unwrap_or(namespace), name))
}

/// Why it is not known what a release holds.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("it has no release in it")]
    Empty,
    #[error("it is not base64")]
    Base64(#[from] base64::DecodeError),
    #[error("it cannot be unpacked")]
    Gzip(#[from] std::io::Error),
    #[error("it unpacks to more than {} MiB", LONGEST >> 20)]
    Long,
    #[error("it is not a release's JSON")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Manifest(#[from] adopt::ManifestError),
}

/// The objects of what runs of a release; none where Helm does not say what that is. What it says and cannot be read is
/// not known, which is the inner error.
pub(super) async fn objects(
    cluster: &Cluster,
    name: &ReleaseName,
    release: &Release,
) -> Result<Result<Vec<ObjectId>, String>, Failure> {
    #[derive(Deserialize)]
    struct Secret {
        data: Option<BTreeMap<String, String>>,
    }
    let Some(secret) = &release.deployed else { return Ok(Ok(Vec::new())) };
    let call = Call::new(Method::GET, path(&name.0, secret)?);
    let found: Secret = match cluster.ask_for(call, "Secret", secret).await {
        Err(failure) if failure.is_not_found() => return Ok(Ok(Vec::new())),
        other => other?,
    };
    let stored = found.data.and_then(|mut data| data.remove("release")).unwrap_or_default();
    let complete = |object: flotilla_core::ObjectRef| {
        let scope = cluster.discovery().any_version(&object);
        let bare = object.id.namespace.is_empty() && scope.is_some_and(|resource| resource.namespaced);
        if bare { object.id.in_namespace(&name.0) } else { object.id }
    };
    let objects = manifest(&stored).and_then(|text| Ok(adopt::manifest_objects(&text)?));
    Ok(match objects {
        Ok(objects) => Ok(objects.into_iter().map(complete).collect()),
        Err(error) => Err(format!("its Secret {secret} cannot be read: {}", chain(&error))),
    })
}

/// The manifest of a release as Helm stores it: JSON, compressed, in base64, and once more as a value of a Secret.
fn manifest(stored: &str) -> Result<String, Unreadable> {
    #[derive(Deserialize)]
    struct Stored {
        manifest: String,
    }
    if stored.is_empty() {
        return Err(Unreadable::Empty);
    }
    let packed = STANDARD.decode(STANDARD.decode(stored)?)?;
    let mut json = Vec::new();
    GzDecoder::new(&packed[..]).take(LONGEST + 1).read_to_end(&mut json)?;
    if json.len() as u64 > LONGEST {
        return Err(Unreadable::Long);
    }
    Ok(serde_json::from_slice::<Stored>(&json)?.manifest)
}

/// Hides a Secret of a release from Helm, or shows it again.
pub(super) async fn set_apart(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    apart: bool,
) -> Result<(), Failure> {
    let body = json!({"metadata": {"labels": {OWNER: if apart { APART } else { HELM }}}});
    let path = format!("{}?fieldManager={}", path(namespace, name)?, drift::MANAGER);
    let call = Call::new(Method::PATCH, path);
    match cluster.send(call.body("application/merge-patch+json", Bytes::from(body.to_string()))).await {
        // Helm keeps so many revisions and no more.
        Err(failure) if failure.is_not_found() => Ok(()),
        other => other.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_of_a_helm_release() {
        for (release, expected) in [
            (json!({}), ("apps", "web")),
            (json!({"spec": {"releaseName": "shop"}}), ("apps", "shop")),
            (json!({"spec": {"targetNamespace": "prod"}}), ("apps", "prod-web")),
            (json!({"spec": {"targetNamespace": "prod", "storageNamespace": "kept"}}), ("kept", "prod-web")),
            (
                json!({"spec": {"releaseName": "new"}, "status": {"storageNamespace": "at", "history": [{"name": "old"}]}}),
                ("at", "old"),
            ),
        ] {
            let mut object = release.clone();
            object["metadata"] = json!({"name": "web", "namespace": "apps"});
            assert_eq!(of_flux(&object), Some((expected.0.to_owned(), expected.1.to_owned())), "{release}");
        }
    }

    #[test]
    fn a_manifest_is_unpacked_or_not_known() {
        use std::io::Write;
        let packed = |json: &str| {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            gzip.write_all(json.as_bytes()).unwrap();
            gzip.finish().unwrap()
        };
        let stored = |packed: &[u8]| STANDARD.encode(STANDARD.encode(packed));
        let whole = packed(r#"{"name":"web","manifest":"---\nkind: X\n"}"#);
        assert_eq!(manifest(&stored(&whole)).unwrap(), "---\nkind: X\n");
        let cut = stored(&whole[..whole.len() / 2]);
        for bad in ["", "nothing", &STANDARD.encode("?"), &cut, &stored(&packed(r#"{"name":"web"}"#))] {
            assert!(manifest(bad).is_err(), "{bad}");
        }
    }
}
