//! The images of the programs: each from scratch, with its static program, what that calls, and a user without rights.

use anyhow::{Context, bail};
use serde_json::json;

use crate::architecture::Architecture;
use crate::layout::{Blobs, CONFIG, LAYER, Layout, MANIFEST, digest};
use crate::tarball::Tree;

/// Which program an image is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    Agent,
    Hub,
    Cli,
}

/// A program's name and content.
pub type Program = (String, Vec<u8>);

/// What an image is made from, beside its programs.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Of the programs, as `0.1.0`.
    pub version: String,
    /// The commit that they were built from, in hex.
    pub revision: String,
    /// When it was made, in seconds after 1970: everything in the image has this time.
    pub seconds: u64,
}

/// Numeric, so that a kubelet can tell that it is not root; the manifests in `deploy/` say the same.
const USER: &str = "65532:65532";
const USERS: &str = "root:x:0:0:root:/:/sbin/nologin\nflotilla:x:65532:65532:flotilla:/tmp:/sbin/nologin\n";
const GROUPS: &str = "root:x:0:\nflotilla:x:65532:\n";

impl Image {
    pub const ALL: [Self; 3] = [Self::Agent, Self::Hub, Self::Cli];

    /// As the manifests in `deploy/` call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Agent => "flotilla-agent",
            Self::Hub => "flotilla-hub",
            Self::Cli => "flotilla",
        }
    }

    fn about(self) -> &'static str {
        match self {
            Self::Agent => "The agent of Flotilla: applies in a cluster what the hub says",
            Self::Hub => "The hub of Flotilla: renders a fleet repository for all clusters",
            Self::Cli => "The command line of Flotilla",
        }
    }

    /// What it calls as a program of its own: helm renders charts. (The agent calls nothing.)
    fn helpers(self) -> &'static [&'static str] {
        match self {
            Self::Agent => &[],
            Self::Hub | Self::Cli => &["helm"],
        }
    }

    /// The layers, from what changes seldom to what changes with each commit.
    fn layers(self, architecture: Architecture, programs: &[Program]) -> anyhow::Result<Vec<Tree>> {
        let mut layers = Vec::new();
        // The agent trusts the hub's CA and the cluster's only, and needs no user by name.
        if self != Self::Agent {
            let base = Tree::default().file("etc/passwd", USERS).file("etc/group", GROUPS);
            layers.push(base.folder("tmp", 0o1777).file("etc/ssl/certs/ca-certificates.crt", roots()));
        }
        let find = |name: &str| programs.iter().find(|(known, _)| known == name);
        for name in self.helpers().iter().copied().filter(|name| find(name).is_some()).chain([self.name()]) {
            let Some((_, content)) = find(name) else { bail!("there is no program {name}") };
            architecture.check(content).with_context(|| format!("{name} cannot be in an image"))?;
            layers.push(Tree::default().program(&format!("usr/local/bin/{name}"), content.as_slice()));
        }
        Ok(layers)
    }

    /// The image for some architectures, each with the programs that are built for it. A helper that is not among them
    /// is left out.
    ///
    /// # Errors
    /// Where the image's own program is missing, or a program is not static or for another architecture.
    pub fn build(self, origin: &Origin, built: &[(Architecture, Vec<Program>)]) -> anyhow::Result<Layout> {
        let created = jiff::Timestamp::from_second(i64::try_from(origin.seconds)?)?.to_string();
        let labels = json!({
            "org.opencontainers.image.created": created,
            "org.opencontainers.image.description": self.about(),
            "org.opencontainers.image.licenses": "Apache-2.0",
            "org.opencontainers.image.revision": origin.revision,
            "org.opencontainers.image.title": self.name(),
            "org.opencontainers.image.version": origin.version,
        });
        let mut blobs = Blobs::default();
        let mut manifests = Vec::new();
        for (architecture, programs) in built {
            let mut layers = Vec::new();
            let mut diff_ids = Vec::new();
            for tree in self.layers(*architecture, programs)? {
                diff_ids.push(digest(&tree.write(Vec::new(), origin.seconds)?));
                layers.push(blobs.add(LAYER, tree.gzip(origin.seconds)?));
            }
            let config = json!({
                "created": created,
                "architecture": architecture.oci(),
                "os": "linux",
                "config": {
                    "User": USER,
                    "Entrypoint": [format!("/usr/local/bin/{}", self.name())],
                    "Env": ["PATH=/usr/local/bin", "HOME=/tmp"],
                    "WorkingDir": "/",
                    "Labels": labels,
                },
                "rootfs": {"type": "layers", "diff_ids": diff_ids},
            });
            let config = blobs.add_json(CONFIG, &config);
            let mut manifest = blobs.add_json(
                MANIFEST,
                &json!({
                    "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers,
                    "annotations": labels,
                }),
            );
            manifest["platform"] = json!({"architecture": architecture.oci(), "os": "linux"});
            manifests.push(manifest);
        }
        Ok(blobs.index(&manifests, &labels))
    }
}

/// Mozilla's roots for servers, of the version that `Cargo.lock` names, as PEM.
fn roots() -> String {
    let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
    let lines = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    roots.map(|root| pem::encode_config(&pem::Pem::new("CERTIFICATE", root.as_ref()), lines)).collect()
}

#[cfg(test)]
#[path = "image_tests.rs"]
pub(crate) mod tests;
