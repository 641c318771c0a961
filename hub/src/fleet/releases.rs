//! What helm rendered, on disk by key: rendered once, whatever restarts, so that what a chart draws at random (a
//! password, a CA) stays what it was.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use flotilla_core::Digest;
use flotilla_render::helm::{Helm, HelmError, Renders, TemplateRequest};
use flotilla_runtime::files::{self, FileError};
use flotilla_runtime::tasks::chain;

/// Of the folder in the hub's data folder.
const FOLDER: &str = "helm";
/// No release is larger: helm's own output is limited below that.
const MAX_BYTES: usize = 256 << 20;

/// Kept manifests, and the helm that makes more.
pub struct Releases {
    folder: PathBuf,
    helm: Box<dyn Helm>,
    /// Requests that helm refuses, as it would again. What failed for another reason is here for one round.
    failed: Mutex<HashMap<Digest, HelmError>>,
}

impl Releases {
    /// Keeps manifests below the hub's data folder.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub fn open(data: &std::path::Path, helm: Box<dyn Helm>) -> Result<Self, FileError> {
        let folder = data.join(FOLDER);
        files::private_folder(&folder)?;
        Ok(Self { folder, helm, failed: Mutex::default() })
    }

    /// Lets what failed for want of something on this machine be tried again.
    pub(super) fn begin_round(&self) {
        self.failed().retain(|_, error| !error.is_transient());
    }

    /// Runs helm for all of them, as many at once as there are processors. Blocking.
    pub(super) fn render(&self, requests: BTreeMap<Digest, TemplateRequest>) {
        let workers = thread::available_parallelism().map_or(1, NonZero::get).min(requests.len());
        let queue = Mutex::new(requests.into_iter());
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        // A panic of one of them is a panic here: the scope passes it on.
        thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    while let Some((key, request)) = next() {
                        self.render_one(key, &request);
                    }
                });
            }
        });
    }

    fn render_one(&self, key: Digest, request: &TemplateRequest) {
        let kept = self
            .helm
            .template(request)
            .and_then(|text| self.keep(key, &text).map_err(|error| HelmError::Machine(chain(&error))));
        match kept {
            Ok(()) => {
                tracing::info!(release = request.name, namespace = request.namespace, "rendered by helm")
            }
            Err(error) => {
                tracing::warn!(release = request.name, namespace = request.namespace, "{error}");
                self.failed().insert(key, error);
            }
        }
    }

    /// Flushed before anybody uses it. It may hold Secrets: only the hub's user can read it.
    fn keep(&self, key: Digest, text: &str) -> Result<(), FileError> {
        let packed = zstd::bulk::compress(text.as_bytes(), 3).unwrap_or_default();
        files::write_atomic(&self.path(key), &packed, files::PRIVATE)
    }

    fn path(&self, key: Digest) -> PathBuf {
        self.folder.join(format!("{key}.zst"))
    }

    fn failed(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, HelmError>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Renders for Releases {
    fn get(&self, key: Digest) -> Option<Result<Arc<str>, String>> {
        if let Some(error) = self.failed().get(&key) {
            return Some(Err(error.to_string()));
        }
        let path = self.path(key);
        let damaged = |what: &str| {
            let hint = "restore it from a backup, or remove it and the release is rendered anew";
            Some(Err(format!(
                "what helm rendered before cannot be read ({}: {what}); {hint}",
                path.display()
            )))
        };
        let packed = match files::read_if_there(&path) {
            Ok(packed) => packed?,
            Err(error) => return damaged(&chain(&error)),
        };
        match zstd::bulk::decompress(&packed, MAX_BYTES).map(String::from_utf8) {
            Ok(Ok(text)) if !packed.is_empty() => Some(Ok(text.into())),
            _ => damaged("it is damaged"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_kustomize::files::{MemoryFiles, TreePath};
    use flotilla_render::helm::{Capabilities, ChartFiles};
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Fake(Arc<AtomicUsize>);

    impl Helm for Fake {
        fn template(&self, request: &TemplateRequest) -> Result<String, HelmError> {
            let run = self.0.fetch_add(1, Ordering::SeqCst);
            match request.name.as_str() {
                "refused" => Err(HelmError::Template("no".into())),
                "unlucky" => Err(HelmError::Machine("not now".into())),
                name => Ok(format!("{name} {run}")),
            }
        }
    }

    fn request(name: &str) -> (Digest, TemplateRequest) {
        let chart = ChartFiles {
            files: Arc::new(MemoryFiles::default()),
            path: TreePath::root(),
            digest: Digest::of(b"chart"),
            default_values: None,
        };
        let request = TemplateRequest {
            chart,
            name: name.to_owned(),
            namespace: "n".to_owned(),
            values: Default::default(),
            capabilities: Capabilities { kube_version: "v1.36.3".to_owned(), api_versions: Vec::new() },
            crds: true,
            no_hooks: false,
            skip_schema: false,
        };
        (request.key(), request)
    }

    #[test]
    fn what_was_rendered_stays_what_it_was() {
        let data = tempfile::tempdir().unwrap();
        let runs = Arc::new(AtomicUsize::new(0));
        let open = || Releases::open(data.path(), Box::new(Fake(runs.clone()))).unwrap();
        let releases = open();
        let all: BTreeMap<_, _> = ["web", "refused", "unlucky"].map(request).into();
        let key = |name: &str| request(name).0;
        assert_eq!(releases.get(key("web")), None);
        releases.render(all);
        let web = releases.get(key("web")).unwrap().unwrap();
        assert!(web.starts_with("web "), "{web}");
        assert_eq!(releases.get(key("refused")), Some(Err("helm: no".into())));
        assert_eq!(releases.get(key("unlucky")), Some(Err("not now".into())));
        releases.begin_round();
        assert!(releases.get(key("refused")).is_some(), "it would be refused again");
        assert_eq!(releases.get(key("unlucky")), None, "it is tried again");

        let again = open();
        assert_eq!(again.get(key("web")), Some(Ok(web)), "a restart runs nothing again");
        assert_eq!(runs.load(Ordering::SeqCst), 3);
        std::fs::write(again.path(key("web")), b"broken").unwrap();
        let said = again.get(key("web")).unwrap().unwrap_err();
        assert!(said.contains("damaged"), "unknown is not absent: {said}");
    }
}
