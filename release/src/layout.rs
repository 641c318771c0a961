//! An OCI image layout in one archive: what `skopeo`, `podman`, `ctr images import` and k3s' `agent/images` read.
//!
//! Formats: image layout, image index, manifest and configuration of the OCI Image Format Specification 1.1.

use std::collections::BTreeMap;
use std::io::Write;

use serde_json::{Value, json};

use crate::tarball::Tree;

pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// `sha256:` and the digest in hex.
#[must_use]
pub fn digest(content: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, content);
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Contents by digest, and the one that all others hang on.
#[derive(Debug, Clone)]
pub struct Layout {
    blobs: BTreeMap<String, Vec<u8>>,
    /// Descriptor of the image index of all architectures.
    root: Value,
}

/// The contents of a layout that is being made.
#[derive(Debug, Default)]
pub struct Blobs(BTreeMap<String, Vec<u8>>);

impl Blobs {
    /// Adds a content, and gives its descriptor.
    pub fn add(&mut self, media_type: &str, content: Vec<u8>) -> Value {
        let (digest, size) = (digest(&content), content.len());
        self.0.insert(digest.clone(), content);
        json!({"mediaType": media_type, "digest": digest, "size": size})
    }

    /// Adds a document. Its keys are written in their order by name, so that the same document is the same content.
    pub fn add_json(&mut self, media_type: &str, document: &Value) -> Value {
        self.add(media_type, document.to_string().into_bytes())
    }

    /// The layout of an image index with these manifests, whose descriptors have a `platform`.
    #[must_use]
    pub fn index(mut self, manifests: &[Value], annotations: &Value) -> Layout {
        let index = json!({
            "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests, "annotations": annotations,
        });
        let root = self.add_json(INDEX, &index);
        Layout { blobs: self.0, root }
    }
}

impl Layout {
    /// The digest by which a registry knows the image.
    #[must_use]
    pub fn digest(&self) -> &str {
        self.root["digest"].as_str().unwrap_or_default()
    }

    /// Digest and content of what is no manifest: layers and configurations.
    pub fn contents(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let manifests = self.manifests();
        let blobs = self.blobs.iter().map(|(digest, content)| (digest.as_str(), content.as_slice()));
        blobs.filter(move |(digest, _)| *digest != self.digest() && !manifests.iter().any(|it| it == digest))
    }

    /// Digests of the manifests, one an architecture.
    #[must_use]
    pub fn manifests(&self) -> Vec<String> {
        let index = self.blob(self.digest()).and_then(|index| serde_json::from_slice(index).ok());
        let manifests = index.as_ref().and_then(|index: &Value| index["manifests"].as_array());
        let digests = manifests.into_iter().flatten().filter_map(|manifest| manifest["digest"].as_str());
        digests.map(str::to_owned).collect()
    }

    /// The content with a digest.
    #[must_use]
    pub fn blob(&self, digest: &str) -> Option<&[u8]> {
        self.blobs.get(digest).map(Vec::as_slice)
    }

    /// Writes the archive. `name` is how a container runtime knows the image once it is imported, with registry and tag
    /// (`docker.io/library/flotilla-agent:0.1.0`).
    ///
    /// # Errors
    /// Where `out` fails.
    pub fn write<W: Write>(&self, out: W, name: &str, seconds: u64) -> anyhow::Result<W> {
        let mut root = self.root.clone();
        let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        root["annotations"] =
            json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag});
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [root]});
        let tree = Tree::default()
            .file("oci-layout", json!({"imageLayoutVersion": "1.0.0"}).to_string())
            .file("index.json", index.to_string());
        let tree = self.blobs.iter().fold(tree, |tree, (digest, content)| {
            tree.file(&format!("blobs/{}", digest.replace(':', "/")), content.as_slice())
        });
        tree.write(out, seconds)
    }
}
