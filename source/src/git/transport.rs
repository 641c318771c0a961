//! One conversation with the remote: connect, prove who asks, receive, within limits.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use gix::ObjectId;
use gix::credentials::helper::Action;
use gix::credentials::protocol::Outcome;
use gix::progress::Discard;
use gix::protocol::handshake::Ref;
use gix::protocol::transport::client;
use gix::protocol::transport::client::blocking_io::http;
use gix::remote::{Direction, fetch};

use super::clone::{TIP, pack_bytes};
use super::connection::{Backend, SSH_LOG, check_program, check_reach, http_backend, ssh_command};
use super::error::FetchError;
use super::spec::{Branch, Credentials, GitSpec, History, Reference};
use crate::reach::{Reach, ReachError};

pub(super) struct Received {
    pub(super) tip: ObjectId,
    pub(super) changed: bool,
}

/// Receives what the branch has and `repo` (in `dir`) lacks. Nothing is received where the branch still ends at
/// `refused`, a commit that was too large before; a commit that proves too large is put there.
pub(super) fn receive(
    repo: &gix::Repository,
    dir: &Path,
    spec: &GitSpec,
    refused: &mut Option<ObjectId>,
    cancel: &AtomicBool,
) -> Result<Received, FetchError> {
    let talk = Talk::begin(repo, dir, spec, *refused)?;
    let (result, stopped) = watched(dir, spec, cancel, |stop| talk.fetch(stop));
    match stopped {
        Some(error @ FetchError::TooLarge { .. }) => {
            *refused = talk.tip.get();
            Err(error)
        }
        // What was complete when the flag rose is taken.
        Some(error) if result.is_err() => Err(error),
        _ => result,
    }
}

/// The names of the tags at the remote. `dir` is of `repo`.
pub(super) fn tags(
    repo: &gix::Repository,
    dir: &Path,
    spec: &GitSpec,
    cancel: &AtomicBool,
) -> Result<Vec<String>, FetchError> {
    let talk = Talk::begin(repo, dir, spec, None)?;
    let (result, stopped) = watched(dir, spec, cancel, |_| talk.names("refs/tags/"));
    match stopped {
        Some(error) if result.is_err() => Err(error),
        _ => result,
    }
}

pub(super) struct Talk<'a> {
    pub(super) repo: gix::Repository,
    dir: &'a Path,
    pub(super) spec: &'a GitSpec,
    refused: Option<ObjectId>,
    /// The server asked who we are.
    asked: Cell<bool>,
    /// Where the branch ends.
    tip: Cell<Option<ObjectId>>,
    backend: Backend,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Stage {
    Connect,
    Ask,
    Receive,
}

impl<'a> Talk<'a> {
    pub(super) fn begin(
        repo: &'a gix::Repository,
        dir: &'a Path,
        spec: &'a GitSpec,
        refused: Option<ObjectId>,
    ) -> Result<Self, FetchError> {
        check_program(spec)?;
        let address = check_reach(spec)?;
        // One that is not there is as good as removed; one that cannot be removed only blurs a reason.
        drop(std::fs::remove_file(dir.with_file_name(SSH_LOG)));
        let (asked, tip) = (Cell::new(false), Cell::new(None));
        let mut repo = repo.clone();
        if spec.url.is_ssh() {
            let command = ssh_command(spec, dir, address);
            let unusable =
                |error: String| FetchError::Unreachable { url: spec.url.to_string(), reason: error };
            let mut config = repo.config_snapshot_mut();
            config
                .set_raw_value("core.sshCommand", command.as_str())
                .map_err(|error| unusable(error.to_string()))?;
            config.commit().map_err(|error| unusable(error.to_string()))?;
        }
        Ok(Self { repo, dir, spec, refused, asked, tip, backend: http_backend(spec)? })
    }

    fn fetch(&self, stop: &AtomicBool) -> Result<Received, FetchError> {
        let failed = |stage| move |error: gix::Error| self.classify(&error, stage);
        let name = self
            .spec
            .reference
            .remote_name()
            .map_err(|error| self.no_such(format!("such reference ({error})")))?;
        let wanted = format!("+{name}:{TIP}");
        let remote = self.remote(&wanted).map_err(failed(Stage::Connect))?;
        let connection = self.connect(&remote).map_err(failed(Stage::Connect))?;
        let mut prepared = connection
            .prepare_fetch(Discard, gix::remote::ref_map::Options::default())
            .map_err(failed(Stage::Ask))?;
        if self.spec.history == History::Shallow {
            prepared = prepared.with_shallow(fetch::Shallow::DepthAtRemote(NonZeroU32::MIN));
        }
        let found = prepared.ref_map().mappings.first();
        let Some(tip) = found.and_then(|mapping| mapping.remote.as_id()).map(ToOwned::to_owned) else {
            drop(prepared);
            return Err(self.no_such_reference());
        };
        self.tip.set(Some(tip));
        let url = || self.spec.url.to_string();
        if self.refused == Some(tip) {
            return Err(FetchError::TooLarge { url: url(), limit: self.spec.limits.clone_bytes });
        }
        if stop.load(Ordering::Relaxed) {
            return Err(FetchError::Cancelled { url: url() });
        }
        let outcome = prepared.receive(Discard, stop).map_err(failed(Stage::Receive))?;
        Ok(Received { tip, changed: matches!(outcome.status, fetch::Status::Change { .. }) })
    }

    fn remote(&self, refspec: &str) -> Result<gix::Remote<'_>, gix::Error> {
        let remote = self.repo.remote_at_without_url_rewrite(self.spec.url.gix().clone())?;
        remote.with_fetch_tags(fetch::Tags::None).with_refspecs([refspec], Direction::Fetch)
    }

    fn connect<'r>(
        &'r self,
        remote: &'r gix::Remote<'r>,
    ) -> Result<gix::remote::Connection<'r, 'r, 'r, Box<dyn client::blocking_io::Transport + Send>>, gix::Error>
    {
        let connection = remote.connect(Direction::Fetch)?;
        Ok(connection
            .with_transport_options(Box::new(self.options()))
            .with_credentials(|action| Ok(self.authenticate(action))))
    }

    pub(super) fn options(&self) -> http::Options {
        let mut options = http::Options { backend: self.backend.clone(), ..http::Options::default() };
        if self.spec.reach != Reach::Anything {
            // Nobody could look at where a redirect leads.
            options.follow_redirects = http::options::FollowRedirects::None;
        }
        if let Some(Credentials::Bearer(token)) = self.spec.credentials()
            && !self.spec.url.is_in_clear()
        {
            options.extra_headers = vec![format!("Authorization: Bearer {token}")];
        }
        options
    }

    /// Answers with the credentials of the spec, and to the host of the spec only: a redirect gets none.
    pub(super) fn authenticate(&self, action: Action) -> Option<Outcome> {
        let Action::Get(context) = action else { return None };
        self.asked.set(true);
        let Some(Credentials::Basic { username, password }) = self.spec.credentials() else { return None };
        if self.spec.url.is_in_clear() {
            return None;
        }
        let asking = gix::url::parse(context.url.as_deref()?).ok()?;
        let own = self.spec.url.gix();
        if (&asking.scheme, asking.host(), asking.port_or_default())
            != (&own.scheme, own.host(), own.port_or_default())
        {
            return None;
        }
        let identity = gix::sec::identity::Account {
            username: username.clone(),
            password: password.clone(),
            oauth_refresh_token: None,
        };
        Some(Outcome { identity, next: context.into() })
    }

    fn no_such(&self, what: String) -> FetchError {
        FetchError::NoSuchReference { url: self.spec.url.to_string(), what }
    }

    fn no_such_reference(&self) -> FetchError {
        match &self.spec.reference {
            Reference::Branch(branch) => self.no_such_branch(branch),
            _ => self.missing(),
        }
    }

    fn missing(&self) -> FetchError {
        match &self.spec.reference {
            Reference::Branch(branch) => self.no_such(format!("branch '{branch}'")),
            Reference::Head => FetchError::Empty { url: self.spec.url.to_string() },
            Reference::Tag(tag) => self.no_such(format!("tag '{tag}'")),
            Reference::Name(name) => self.no_such(format!("ref '{name}'")),
            Reference::Commit(id) => self.no_such(format!("commit {id}")),
        }
    }

    fn no_such_branch(&self, branch: &Branch) -> FetchError {
        let url = self.spec.url.to_string();
        match self.names("refs/heads/") {
            Err(error) => error,
            Ok(existing) if existing.is_empty() => FetchError::Empty { url },
            Ok(existing) => FetchError::NoSuchBranch { url, branch: branch.to_string(), existing },
        }
    }

    /// The names of the refs below a prefix.
    fn names(&self, prefix: &str) -> Result<Vec<String>, FetchError> {
        let failed = |stage| move |error: gix::Error| self.classify(&error, stage);
        let remote =
            self.remote(&format!("+{prefix}*:refs/flotilla/names/*")).map_err(failed(Stage::Connect))?;
        let connection = self.connect(&remote).map_err(failed(Stage::Connect))?;
        let options = gix::remote::ref_map::Options::default();
        let (map, _) = connection.ref_map(Discard, options).map_err(failed(Stage::Ask))?;
        let name = |reference: &Ref| reference.unpack().0.to_string().strip_prefix(prefix).map(str::to_owned);
        Ok(map.remote_refs.iter().filter_map(name).collect())
    }

    /// The last line of what the `ssh` program said in this conversation, which is why it ended.
    fn ssh_said(&self) -> Option<String> {
        let said = std::fs::read(self.dir.with_file_name(SSH_LOG)).ok().filter(|_| self.spec.url.is_ssh())?;
        let said = String::from_utf8_lossy(&said);
        said.lines().map(str::trim).rfind(|line| !line.is_empty()).map(str::to_owned)
    }

    pub(super) fn classify(&self, error: &gix::Error, stage: Stage) -> FetchError {
        let url = self.spec.url.to_string();
        let reason = causes(error);
        let says = |parts: &[&str]| parts.iter().any(|part| reason.contains(part));
        let io_kind = |kinds: &[std::io::ErrorKind]| {
            error.downcast_any_ref::<std::io::Error>().is_some_and(|error| kinds.contains(&error.kind()))
        };
        if let Some(refused) = error.downcast_any_ref::<ReachError>() {
            return FetchError::OutOfReach { url, reason: refused.to_string() };
        }
        // A server on this machine ends while it is still spoken to.
        let is_cut_off = stage == Stage::Receive
            && self.spec.url.is_file()
            && matches!(self.spec.reference, Reference::Commit(_))
            && io_kind(&[std::io::ErrorKind::BrokenPipe]);
        if says(&["not our ref"]) || is_cut_off {
            return self.missing();
        }
        if let Some(said) = self.ssh_said() {
            let reason = format!("ssh: {said}");
            return if ["Permission denied", "Host key verification failed"].iter().any(|it| said.contains(it))
            {
                FetchError::CredentialsRefused { url, reason }
            } else {
                FetchError::Unreachable { url, reason }
            };
        }
        if self.asked.get() && stage != Stage::Receive {
            match self.spec.credentials() {
                None => return FetchError::CredentialsMissing { url },
                Some(_) if self.spec.url.is_in_clear() => return FetchError::CredentialsInClear { url },
                Some(_) => {}
            }
        }
        if says(&["HTTP status 404", "HTTP status 410"])
            || (self.spec.url.is_file() && stage == Stage::Connect)
        {
            return FetchError::NoRepository { url, reason };
        }
        if says(&["HTTP status 401", "HTTP status 403", "Permission denied", "Host key verification failed"])
            || (self.asked.get() && stage != Stage::Receive && error.is_unauthenticated())
        {
            return FetchError::CredentialsRefused { url, reason };
        }
        if says(&["too large to fit in memory"]) {
            return FetchError::ObjectTooLarge { url, limit: self.spec.limits.object_bytes };
        }
        if says(&["certificate", "Certificate"]) {
            return FetchError::Certificate { url, reason };
        }
        use std::io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        if io_kind(&[StorageFull, QuotaExceeded, ReadOnlyFilesystem]) {
            return FetchError::Disk { url, path: self.dir.to_owned(), reason };
        }
        let broken_off =
            ["error sending request", "response body", "timed out", "HTTP status", "expected packet"];
        use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut, UnexpectedEof};
        if stage != Stage::Receive
            || says(&broken_off)
            || io_kind(&[BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut, UnexpectedEof])
        {
            return FetchError::Unreachable { url, reason };
        }
        FetchError::Corrupt { url, reason }
    }
}

/// Each cause once, outermost first.
fn causes(error: &gix::Error) -> String {
    let mut causes: Vec<String> = Vec::new();
    for error in error.iter_errors() {
        let mut next = Some(error);
        while let Some(cause) = next {
            let text = cause.to_string();
            if !causes.iter().any(|known| known.contains(&text)) {
                causes.push(text);
            }
            next = cause.source();
        }
    }
    causes.join(": ")
}

/// Runs `work` with a flag that rises on `cancel`, when time is up, or when the clone grows too large. What made it
/// rise comes back.
pub(super) fn watched<T>(
    dir: &Path,
    spec: &GitSpec,
    cancel: &AtomicBool,
    work: impl FnOnce(&AtomicBool) -> T,
) -> (T, Option<FetchError>) {
    const LOOK: Duration = Duration::from_millis(50);
    let url = || spec.url.to_string();
    let (timeout, limit) = (spec.limits.timeout, spec.limits.clone_bytes);
    let began = Instant::now();
    let stop = AtomicBool::new(false);
    let reason = || {
        if cancel.load(Ordering::Relaxed) {
            Some(FetchError::Cancelled { url: url() })
        } else if began.elapsed() > timeout {
            Some(FetchError::TimedOut { url: url(), timeout })
        } else {
            (pack_bytes(dir) > limit).then(|| FetchError::TooLarge { url: url(), limit })
        }
    };
    std::thread::scope(|scope| {
        let (done, finished) = mpsc::channel::<()>();
        let (reason, stop, url) = (&reason, &stop, &url);
        let watcher = scope.spawn(move || {
            loop {
                if let Some(reason) = reason() {
                    stop.store(true, Ordering::Relaxed);
                    return Some(reason);
                }
                if finished.recv_timeout(LOOK) == Err(RecvTimeoutError::Disconnected) {
                    // Too large is too large, also when it was there before anybody looked.
                    return (pack_bytes(dir) > limit).then(|| FetchError::TooLarge { url: url(), limit });
                }
            }
        });
        let result = work(stop);
        drop(done);
        let stopped = watcher.join().expect("the watcher does not panic");
        (result, stopped)
    })
}
