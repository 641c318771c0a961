//! What helm rendered, on disk by key: rendered once, whatever restarts, so that what a chart draws at random (a
//! password, a CA) stays what it was.
//!
//! ```text
//!   round ── ask(requests) ──► waiting ──► run: helm, a few at once ──► KEY.sealed ──► a tick that wakes a round
//!     ▲                                                                    │
//!     └── get(key): the manifests, or why not (being rendered, refused, lost, damaged) ◄┘
//! ```
//!
//! A round waits for new requests a moment only: one slow chart holds its own unit and nothing else. Tenants take turns,
//! and what fails is tried again later and later: see [`super::queue`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use flotilla_core::{ClusterName, Digest, UnitId};
use flotilla_render::helm::release::AGAIN;
use flotilla_render::helm::{Asked, Helm, HelmError, Manifests, Renders, TemplateRequest};
use flotilla_runtime::files::{self, FileError};
use flotilla_runtime::lock;
use flotilla_runtime::tasks::chain;
use tokio::sync::watch;

use super::queue::{Queue, Tenant};
use crate::sources::Vault;
use crate::store::backup::HELM_FOLDER;

const SUFFIX: &str = ".sealed";
/// No release is larger: helm's own output is limited below that.
const MAX_BYTES: usize = 256 << 20;
/// So many answers are known to be good for others too.
const MOST_ANSWERS: usize = 100_000;
/// What failed for want of something on this machine is tried again after this time, then after twice as long, and so on.
const RETRY: Duration = Duration::from_secs(30);
const RETRY_MOST: Duration = Duration::from_secs(600);
/// What helm refused is tried again after this time: there may be APIs now that the chart asks for.
const RETRY_REFUSED: Duration = Duration::from_secs(600);
const RETRY_REFUSED_MOST: Duration = Duration::from_secs(2 * 3600);
/// So is what took too much time, memory or room.
const RETRY_LIMIT_MOST: Duration = Duration::from_secs(6 * 3600);
/// How often it is looked for what nobody uses any more.
const SWEEP: Duration = Duration::from_secs(3600);
/// A file that is used is marked so often as of now.
const MARK: Duration = Duration::from_secs(24 * 3600);
/// What nobody used for so long is removed. A revert within that time gets the same passwords back.
const KEPT_UNUSED: Duration = Duration::from_secs(30 * 24 * 3600);
/// And not before this process found for so long that nobody uses it: the machine's clock may jump by years, and right after
/// a start not all that is used is known.
const SEEN_UNUSED: Duration = Duration::from_secs(24 * 3600);

/// Kept manifests, and the helm that makes more.
pub struct Releases {
    folder: PathBuf,
    helm: Box<dyn Helm>,
    /// It seals the files: they hold Secrets.
    vault: Arc<Vault>,
    inner: Mutex<Inner>,
    /// Wakes who waits for a render.
    ended: Condvar,
    /// Counts requests.
    asked: watch::Sender<u64>,
    /// Counts what a render of the fleet may come out differently by.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Inner {
    waiting: Queue,
    /// What is asked for those that wait.
    requests: HashMap<Digest, TemplateRequest>,
    running: BTreeMap<Digest, Tenant>,
    /// What helm refused, or failed otherwise.
    failed: HashMap<Digest, Failure>,
    /// The digests of what was read or kept by this process.
    contents: HashMap<Digest, Digest>,
    /// Under which key the answer to a question is kept, where helm would answer alike again.
    answered: HashMap<Digest, Digest>,
    /// Of those that wait or failed, which this round has asked for.
    wanted: BTreeSet<Digest>,
    swept: Option<Instant>,
    /// Since when what nobody uses is known to be unused.
    unused: HashMap<Digest, Instant>,
}

struct Failure {
    error: HelmError,
    /// How often in a row.
    times: u32,
    /// When it is tried again.
    due: Instant,
}

impl Failure {
    fn new(error: HelmError, before: u32) -> Self {
        let (first, most) = match &error {
            error if error.is_transient() => (RETRY, RETRY_MOST),
            HelmError::Limit(_) => (RETRY_REFUSED, RETRY_LIMIT_MOST),
            _ => (RETRY_REFUSED, RETRY_REFUSED_MOST),
        };
        let pause = first.saturating_mul(1 << before.min(16)).min(most);
        Self { error, times: before + 1, due: Instant::now() + pause }
    }

    fn is_due(&self) -> bool {
        self.due <= Instant::now()
    }
}

impl Releases {
    /// Keeps manifests below the hub's data folder.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub fn open(data: &std::path::Path, helm: Box<dyn Helm>, vault: Arc<Vault>) -> Result<Self, FileError> {
        let folder = data.join(HELM_FOLDER);
        files::private_folder(&folder)?;
        let zero = || watch::Sender::new(0);
        let (inner, ended) = (Mutex::default(), Condvar::new());
        Ok(Self { folder, helm, vault, inner, ended, asked: zero(), changed: zero() })
    }

    /// Ticks when a render ended that a round did not wait for.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(super) fn requests(&self) -> watch::Receiver<u64> {
        self.asked.subscribe()
    }

    /// Begins to note what is wanted.
    pub(super) fn begin_round(&self) {
        self.lock().wanted.clear();
    }

    /// Drops requests that nobody makes any more, and what is known of them.
    pub(super) fn end_round(&self) {
        let mut inner = self.lock();
        let wanted = std::mem::take(&mut inner.wanted);
        inner.waiting.retain(|key| wanted.contains(key));
        inner.requests.retain(|key, _| wanted.contains(key));
        inner.failed.retain(|key, _| wanted.contains(key));
    }

    /// Asks for renders, and waits for them until `deadline`. Blocking.
    pub(super) fn ask(&self, cluster: &ClusterName, requests: BTreeMap<Digest, Asked>, deadline: Instant) {
        let keys: BTreeSet<Digest> = requests.keys().copied().collect();
        let mut inner = self.lock();
        for (key, Asked { unit, request }) in requests {
            inner.wanted.insert(key);
            if !inner.running.contains_key(&key) {
                inner.waiting.push(&(cluster.clone(), unit.namespace.clone()), key);
                inner.requests.entry(key).or_insert(request);
            }
        }
        self.asked.send_modify(|count| *count += 1);
        while keys.iter().any(|key| inner.is_pending(*key)) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            inner = self.ended.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The next request to be rendered, which counts as running from now on.
    pub(super) fn next(&self) -> Option<(Digest, TemplateRequest)> {
        let mut inner = self.lock();
        let (tenant, key) = inner.waiting.pop()?;
        let request = inner.requests.remove(&key)?;
        inner.running.insert(key, tenant);
        Some((key, request))
    }

    /// Renders and keeps. `slot` is dropped when helm has ended. Blocking.
    pub(super) fn render<S>(&self, key: Digest, request: &TemplateRequest, slot: S) {
        // One chart that makes us panic must not take the others along.
        let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let manifests = match self.answered(request) {
                Some(manifests) => Ok(manifests),
                None => self.helm.template(request),
            };
            drop(slot);
            let Manifests { text, draws } = manifests?;
            self.keep(key, &text)?;
            if !draws {
                self.lock().answered.insert(request.question(), key);
            }
            Ok(())
        }));
        let made = made.unwrap_or_else(|_| {
            Err(HelmError::Machine("rendering it went wrong inside of the hub; see its log".into()))
        });
        let mut inner = self.lock();
        let took_too_much = matches!(made, Err(HelmError::Limit(_)));
        if let Some(tenant) = inner.running.remove(&key) {
            inner.waiting.done(&tenant, key, took_too_much);
        }
        let (release, namespace) = (request.name.as_str(), request.namespace.as_str());
        match made {
            Ok(()) => {
                tracing::info!(release, namespace, "rendered by helm");
                inner.failed.remove(&key);
            }
            Err(error) => {
                tracing::warn!(release, namespace, "{error}");
                let before = inner.failed.get(&key).map_or(0, |failure| failure.times);
                inner.failed.insert(key, Failure::new(error, before));
            }
        }
        let is_idle = inner.is_idle();
        drop(inner);
        self.ended.notify_all();
        if is_idle {
            self.helm.rest();
        }
    }

    /// What helm gave to the release in another cluster that asks the same, of a chart that draws nothing: what it would give
    /// again.
    fn answered(&self, request: &TemplateRequest) -> Option<Manifests> {
        let key = {
            let mut inner = self.lock();
            if inner.answered.len() > MOST_ANSWERS {
                inner.answered.clear();
            }
            inner.answered.get(&request.question()).copied()?
        };
        let text = self.get(key)?.ok()?;
        Some(Manifests { text: text.to_string(), draws: false })
    }

    /// Whether [`Releases::next`] gives anything.
    pub(super) fn is_waiting(&self) -> bool {
        self.lock().waiting.may_pop()
    }

    /// Whether nothing is being rendered or waits for it.
    pub(super) fn is_idle(&self) -> bool {
        self.lock().is_idle()
    }

    pub(super) fn tell(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Ends what is running: the hub stops.
    pub(super) fn stop(&self) {
        self.helm.stop();
    }

    /// Flushed before anybody uses it.
    fn keep(&self, key: Digest, text: &str) -> Result<(), HelmError> {
        let failed = |why: String| HelmError::Machine(format!("cannot keep what helm rendered: {why}"));
        let packed = zstd::bulk::compress(text.as_bytes(), 3).map_err(|error| failed(error.to_string()))?;
        let sealed = self.vault.seal(&place(key), packed).map_err(|error| failed(chain(&error)))?;
        files::write_atomic(&self.path(key), &sealed, files::PRIVATE)
            .map_err(|error| failed(chain(&error)))?;
        self.lock().contents.insert(key, Digest::of(text.as_bytes()));
        Ok(())
    }

    /// Now and then removes what nobody has used for long. `used` says what somebody may still use; where it does not
    /// know, nothing goes. `now` is by the machine's clock, which files go by, and `at` by the one that never jumps. Blocking.
    pub(super) fn sweep(
        &self,
        used: impl FnOnce() -> Option<BTreeSet<Digest>>,
        now: SystemTime,
        at: Instant,
    ) {
        let mut inner = self.lock();
        if inner.swept.is_some_and(|last| at.duration_since(last) < SWEEP) {
            return;
        }
        inner.swept = Some(at);
        drop(inner);
        let Some(used) = used() else {
            self.lock().unused.clear();
            return;
        };
        self.lock().unused.retain(|key, _| !used.contains(key));
        match files::list(&self.folder) {
            Ok(paths) => paths.iter().for_each(|path| self.sweep_one(path, &used, now, at)),
            Err(error) => tracing::warn!("{}", chain(&error)),
        }
    }

    /// A file's time is when it was last known to be used, to the day.
    fn sweep_one(&self, path: &std::path::Path, used: &BTreeSet<Digest>, now: SystemTime, at: Instant) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(key) = name.strip_suffix(SUFFIX).and_then(|key| key.parse::<Digest>().ok()) else { return };
        let result = (|| -> std::io::Result<()> {
            let age = now.duration_since(std::fs::metadata(path)?.modified()?).unwrap_or_default();
            if used.contains(&key) {
                if age > MARK {
                    std::fs::File::open(path)?.set_modified(now)?;
                }
                return Ok(());
            }
            let since = *self.lock().unused.entry(key).or_insert(at);
            if age > KEPT_UNUSED && at.duration_since(since) >= SEEN_UNUSED {
                std::fs::remove_file(path)?;
                let mut inner = self.lock();
                inner.contents.remove(&key);
                inner.unused.remove(&key);
                tracing::info!(%key, "removed what helm rendered: nothing has used it for long");
            }
            Ok(())
        })();
        if let Err(error) = result {
            tracing::warn!(path = %path.display(), %error, "cannot look after what helm rendered");
        }
    }

    fn path(&self, key: Digest) -> PathBuf {
        self.folder.join(format!("{key}{SUFFIX}"))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }
}

impl Inner {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    fn is_pending(&self, key: Digest) -> bool {
        self.running.contains_key(&key) || self.requests.contains_key(&key)
    }
}

/// Where a sealed file belongs: moved elsewhere it does not open.
fn place(key: Digest) -> String {
    format!("{HELM_FOLDER}/{key}")
}

impl Renders for Releases {
    fn get(&self, key: Digest) -> Option<Result<Arc<str>, String>> {
        let mut inner = self.lock();
        if inner.is_pending(key) {
            inner.wanted.insert(key);
            return Some(Err("helm is rendering the release".to_owned()));
        }
        // One that is due is asked for anew.
        if let Some(reason) =
            inner.failed.get(&key).filter(|failure| !failure.is_due()).map(|f| f.error.to_string())
        {
            inner.wanted.insert(key);
            return Some(Err(reason));
        }
        drop(inner);
        let path = self.path(key);
        let damaged = |what: &str| {
            Some(Err(format!(
                "what helm rendered before cannot be read ({}: {what}); restore it from a backup, or set the \
                 annotation {AGAIN} of the HelmRelease to have it rendered anew",
                path.display()
            )))
        };
        let sealed = match files::read_if_there(&path) {
            Ok(Some(sealed)) => sealed,
            Ok(None) => return None,
            Err(error) => return damaged(&chain(&error)),
        };
        let packed = self.vault.unseal(&place(key), &sealed);
        let text = packed.and_then(|packed| zstd::bulk::decompress(&packed, MAX_BYTES).ok());
        match text.map(String::from_utf8) {
            Some(Ok(text)) => {
                self.lock().contents.insert(key, Digest::of(text.as_bytes()));
                Some(Ok(text.into()))
            }
            Some(Err(_)) | None => damaged("it is damaged, or sealed with another hub's key"),
        }
    }

    fn is_pending(&self, key: Digest) -> bool {
        self.lock().is_pending(key)
    }

    fn content(&self, key: Digest) -> Option<Result<Digest, String>> {
        let content = self.lock().contents.get(&key).copied();
        content.map(Ok).or_else(|| Some(self.get(key)?.map(|text| Digest::of(text.as_bytes()))))
    }
}

/// What helm rendered, as far as one cluster may be given it: nothing comes in the place of what it runs.
pub(super) struct ClusterRenders<'a> {
    pub(super) releases: &'a Releases,
    /// By key, the content that the cluster runs, or may.
    pub(super) runs: HashMap<Digest, Digest>,
    /// The keys of what its units run, or may.
    pub(super) units: HashMap<UnitId, Digest>,
    /// Whether nothing else can run there.
    pub(super) is_heard: bool,
    /// Whether any cluster runs what was rendered under a key.
    pub(super) is_known: &'a (dyn Fn(Digest) -> bool + Send + Sync),
}

impl Renders for ClusterRenders<'_> {
    fn get(&self, key: Digest) -> Option<Result<Arc<str>, String>> {
        self.releases.get(key)
    }

    fn runs(&self, unit: &UnitId, key: Digest) -> bool {
        self.units.get(unit) == Some(&key)
    }

    fn is_pending(&self, key: Digest) -> bool {
        self.releases.is_pending(key)
    }

    fn content(&self, key: Digest) -> Option<Result<Digest, String>> {
        let lost = format!(
            "what helm rendered for this release is lost, and rendered anew it might differ from what runs: restore \
             the hub's backup, or set the annotation {AGAIN} of the HelmRelease to have it rendered anew"
        );
        let unheard =
            "the cluster's agent has not said yet what it runs; the release is rendered when it has";
        match (self.releases.content(key), self.runs.get(&key)) {
            (Some(Ok(content)), Some(runs)) if content != *runs => Some(Err(lost)),
            (None | Some(Ok(_)), None) if !self.is_heard => Some(Err(unheard.to_owned())),
            (None, _) if (self.is_known)(key) => Some(Err(lost)),
            (found, _) => found,
        }
    }
}

#[cfg(test)]
#[path = "releases_tests.rs"]
mod tests;
