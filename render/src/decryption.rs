//! Where the keys are for what SOPS encrypted.
//!
//! ```text
//!   in the cluster   objects travel as they are, and the agent opens them
//!   at the hub       files that generators and patches name are opened as they are read, objects after the build
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use flotilla_core::Digest;
use flotilla_core::decrypt::{encrypted, keys_in};
use flotilla_core::template::ValuesRef;
use flotilla_kustomize::NAMES;
use flotilla_kustomize::files::{Entry, Files, ReadError, TreePath};
use flotilla_sops::service::{Answer, Ask};
use flotilla_sops::{Format, Keys, Mac, SopsError, marks_of};
use flotilla_yaml::Node;

use crate::lock::lock;

pub(crate) enum Decryption {
    InCluster(ValuesRef),
    AtHub { place: ValuesRef, keys: Keys, digest: Digest },
}

impl Decryption {
    /// By a Secret that the hub has.
    ///
    /// # Errors
    /// Where it holds no key that can be read.
    pub(crate) fn of_hub(place: &ValuesRef, data: BTreeMap<String, Vec<u8>>) -> Result<Self, String> {
        let digest = Digest::of_parts(data.iter().flat_map(|(name, value)| [name.as_bytes(), value]));
        // What is no text is no age key.
        let texts = data.into_iter().filter_map(|(name, value)| Some((name, String::from_utf8(value).ok()?)));
        let keys = keys_in(&texts.collect()).map_err(|message| format!("{place} of the hub: {message}"))?;
        Ok(Self::AtHub { place: place.clone(), keys, digest })
    }

    /// Tells what is built with it from what is built otherwise.
    pub(crate) fn key(&self) -> Vec<u8> {
        match self {
            Self::InCluster(place) => format!("in {place}").into_bytes(),
            Self::AtHub { digest, .. } => digest.as_bytes().to_vec(),
        }
    }

    pub(crate) fn at_hub(&self) -> Option<&Keys> {
        match self {
            Self::InCluster(_) => None,
            Self::AtHub { keys, .. } => Some(keys),
        }
    }
}

/// What a key service answers.
pub(crate) type AskKeys<'a> = &'a (dyn Fn(&Ask) -> Answer + Sync);

/// A tree whose encrypted files are in clear, but for objects: these are opened after the build, which may change them. Patches are
/// opened though they look like objects, as their values go into others.
pub(crate) struct Opened<'a> {
    files: &'a dyn Files,
    keys: &'a Keys,
    ask: AskKeys<'a>,
    /// Files that a kustomization which was read names as patches: it is read before them.
    patches: Mutex<BTreeSet<TreePath>>,
    /// The first file that does not open, and why.
    shut: Mutex<Option<(TreePath, String)>>,
}

impl<'a> Opened<'a> {
    pub(crate) fn new(files: &'a dyn Files, keys: &'a Keys, ask: AskKeys<'a>) -> Self {
        Self { files, keys, ask, patches: Mutex::default(), shut: Mutex::default() }
    }

    pub(crate) fn shut(&self) -> Option<(TreePath, String)> {
        lock(&self.shut).clone()
    }
}

impl Files for Opened<'_> {
    fn entry(&self, path: &TreePath) -> Result<Option<Entry>, ReadError> {
        self.files.entry(path)
    }

    fn list(&self, folder: &TreePath) -> Result<Vec<(String, Entry)>, ReadError> {
        self.files.list(folder)
    }

    fn read(&self, path: &TreePath) -> Result<Arc<[u8]>, ReadError> {
        let content = self.files.read(path)?;
        if NAMES.contains(&path.name()) {
            lock(&self.patches).extend(patches_of(path, &content));
        }
        let is_meant = |_: &Format| lock(&self.patches).contains(path) || !is_object(&content);
        let Some(format) = marks_of(&content).filter(is_meant) else { return Ok(content) };
        // A JSON file and the envelope of any other look the same.
        let to = if format == Format::Binary { Format::of_path(path.as_str()) } else { format };
        let open = |keys: &Keys| flotilla_sops::decrypt(&content, format, to, keys, Mac::Verified);
        match self.keys.asking(open, SopsError::asks, self.ask) {
            Ok(clear) => Ok(clear.into()),
            Err(error) => {
                lock(&self.shut).get_or_insert_with(|| (path.clone(), error.to_string()));
                Ok(content)
            }
        }
    }
}

/// The files that a kustomization names as patches; none where it cannot be read, which the build says.
fn patches_of(path: &TreePath, content: &[u8]) -> Vec<TreePath> {
    let text = String::from_utf8_lossy(content);
    let Some(folder) = path.parent().filter(|_| text.contains("patches")) else { return Vec::new() };
    let Ok(documents) = flotilla_yaml::parse(&text) else { return Vec::new() };
    let list = |name: &str| documents.first().and_then(|node| node.get(name)).and_then(Node::as_seq);
    let (patches, merges) = (list("patches"), list("patchesStrategicMerge"));
    let files = patches.iter().flat_map(|list| list.iter()).filter_map(|patch| patch.get("path"));
    let files = files.chain(merges.iter().flat_map(|list| list.iter()));
    files.filter_map(|file| folder.join(file.text()?).ok()).collect()
}

/// Whether a file is an object of Kubernetes that was encrypted as a whole.
fn is_object(content: &[u8]) -> bool {
    let text = String::from_utf8_lossy(content);
    let has = |key: &str| text.contains(key);
    if !has("apiVersion") || !has("kind") {
        return false;
    }
    let is_one = |node: &Node| node.get("apiVersion").is_some() && encrypted(node).is_some();
    flotilla_yaml::parse(&text).is_ok_and(|documents| documents.iter().any(is_one))
}
