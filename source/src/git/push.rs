//! Refs of a remote, set to commits that it has: one conversation of Git's push protocol, without any objects.
//!
//! `gix` speaks the receiving side only. What it lacks is small where no object travels: the list of commands, the empty
//! pack that the protocol asks for all the same, and the report (gitprotocol-pack(5), "Reference Update Request and Packfile
//! Transfer" and "Report Status").

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use flotilla_core::names::is_dns_label;
use gix::ObjectId;
use gix::progress::Discard;
use gix::protocol::handshake::Ref;
use gix::protocol::transport::client::blocking_io::{ReadlineBufRead, Transport, connect};
use gix::protocol::transport::client::{MessageKind, TransportWithoutIO, WriteMode};
use gix::protocol::transport::packetline::PacketLineRef;
use gix::protocol::transport::{Protocol, Service};
use gix::remote::Direction;

use super::clone::LocalClone;
use super::connection;
use super::error::{FetchError, OpenError};
use super::repo::CommitId;
use super::spec::GitSpec;
use super::transport::{Stage, Talk, watched};
use crate::folder;

/// A pack of no objects: its head, and the SHA-1 of that.
const EMPTY_PACK: [u8; 32] = *b"PACK\0\0\0\x02\0\0\0\0\
\x02\x9d\x08\x82\x3b\xd8\xa8\xea\xb5\x10\xad\x6a\xc7\x5c\x82\x3c\xfd\x3e\xd3\x1e";

/// Characters that are shown of what a server says.
const SAID: usize = 200;

/// The ref of a pipeline's stage, `refs/flotilla/PIPELINE/STAGE`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StageRef(String);

impl StageRef {
    /// `None` where one of them is no DNS label: only of such is it certain that they name no other ref.
    pub fn new(pipeline: &str, stage: &str) -> Option<Self> {
        let are_labels = is_dns_label(pipeline) && is_dns_label(stage);
        are_labels.then(|| Self(format!("refs/flotilla/{pipeline}/{stage}")))
    }
}

impl fmt::Display for StageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Refs could not be pushed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    #[error(transparent)]
    Talk(#[from] FetchError),
    #[error("the Git repository {url} did not accept the push: {reason}")]
    Unpack { url: String, reason: String },
    #[error("the Git repository {url} does not report the result of a push; refs cannot be pushed to it")]
    NoReport { url: String },
}

/// What became of a push.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Refs that are as asked and were not before.
    pub moved: usize,
    /// Refs that the server refused, with what it said.
    pub refused: BTreeMap<StageRef, String>,
}

/// Pushes refs of stages to a repository. Its methods block.
pub struct RefPusher {
    spec: GitSpec,
    /// Without objects: what conversations are configured by.
    clone: LocalClone,
}

impl RefPusher {
    /// Takes `dir` (made if absent) for itself.
    ///
    /// # Errors
    /// Where the folder cannot be used.
    pub fn open(dir: impl Into<PathBuf>, spec: GitSpec) -> Result<Self, OpenError> {
        let dir = dir.into();
        let failed = |source: io::Error| OpenError::Folder { path: dir.clone(), source };
        let folder = dir.join("empty");
        // It holds nothing, and a whole one is made faster than an old one is judged.
        folder::remove(&folder).map_err(failed)?;
        std::fs::create_dir_all(&dir).map_err(failed)?;
        let clone = LocalClone::init(&folder, &connection::config(&spec.limits), Arc::default());
        let clone = clone.map_err(|error| failed(io::Error::other(error.to_string())))?;
        Ok(Self { spec, clone })
    }

    /// Sets each ref to its commit, which the remote has, wherever it pointed before; other refs stay.
    ///
    /// # Errors
    /// Where the server could not be spoken to, or took nothing. What one ref is refused for is in the answer.
    pub fn push(
        &self,
        refs: &BTreeMap<StageRef, CommitId>,
        cancel: &AtomicBool,
    ) -> Result<Pushed, PushError> {
        let repo = self.clone.repository();
        let talk = Talk::begin(&repo, self.clone.dir(), &self.spec, None)?;
        let (result, stopped) = watched(self.clone.dir(), &self.spec, cancel, |_| talk.push(refs));
        match stopped {
            Some(error) if result.is_err() => Err(error.into()),
            _ => result,
        }
    }
}

impl Talk<'_> {
    fn push(&self, refs: &BTreeMap<StageRef, CommitId>) -> Result<Pushed, PushError> {
        let failed = |error: gix::Error| self.classify(&error, Stage::Ask);
        let mut transport = self.receive_pack().map_err(|error| self.classify(&error, Stage::Connect))?;
        let authenticate = |action| Ok(self.authenticate(action));
        let handshake = gix::protocol::handshake(
            &mut transport,
            Service::ReceivePack,
            authenticate,
            Vec::new(),
            &mut Discard,
        );
        let handshake = handshake.map_err(failed)?;
        let url = || self.spec.url.to_string();
        if !handshake.capabilities.contains("report-status") {
            return Err(PushError::NoReport { url: url() });
        }
        let commands = commands(refs, &handshake.refs.unwrap_or_default());
        let mut exchange = || -> Result<Option<String>, gix::Error> {
            let mut request =
                transport.request(WriteMode::OneLfTerminatedLinePerWriteCall, MessageKind::Flush, false)?;
            for line in &commands {
                request.write_all(line.as_bytes()).map_err(broken)?;
            }
            request.write_message(MessageKind::Flush).map_err(broken)?;
            if commands.is_empty() {
                return Ok(None);
            }
            let (mut pack, mut answer) = request.into_parts();
            pack.write_all(&EMPTY_PACK).map_err(broken)?;
            pack.flush().map_err(broken)?;
            drop(pack);
            read(&mut *answer, commands.len() + 1).map(Some)
        };
        match exchange().map_err(failed)? {
            None => Ok(Pushed::default()),
            Some(report) => judge(&report, refs, commands.len())
                .map_err(|reason| PushError::Unpack { url: url(), reason }),
        }
    }

    fn receive_pack(&self) -> Result<Box<dyn Transport + Send>, gix::Error> {
        let remote = self.repo.remote_at_without_url_rewrite(self.spec.url.gix().clone())?;
        let (url, _) = remote.sanitized_url_and_version(Direction::Fetch)?;
        let is_ssh = self.spec.url.is_ssh();
        let ssh = is_ssh.then(|| self.repo.ssh_connect_options()).transpose()?.unwrap_or_default();
        // There is no version 2 of pushing.
        let options = connect::Options { version: Protocol::V1, ssh, trace: false };
        let mut transport = connect::connect(url, options)?;
        transport.configure(&self.options())?;
        Ok(transport)
    }
}

fn broken(error: io::Error) -> gix::Error {
    gix::Error::from_error(error)
}

/// `OLD NEW REF` of each ref that is not as asked; the first with what the answer is to have.
fn commands(refs: &BTreeMap<StageRef, CommitId>, known: &[Ref]) -> Vec<String> {
    let known: BTreeMap<String, ObjectId> = known
        .iter()
        .filter_map(|known| {
            let (name, target, peeled) = known.unpack();
            // A ref to a tag object stands as that object.
            Some((name.to_string(), peeled.and(target).or(target)?.to_owned()))
        })
        .collect();
    let none = "0".repeat(40);
    let moves = refs.iter().filter_map(|(name, commit)| {
        let before = known.get(&name.0).map_or_else(|| none.clone(), ToString::to_string);
        (before != commit.as_str()).then(|| format!("{before} {commit} {name}"))
    });
    let mut commands: Vec<String> = moves.collect();
    if let Some(first) = commands.first_mut() {
        first.push_str("\0report-status agent=flotilla");
    }
    commands
}

/// At most so many lines of an answer.
fn read(answer: &mut (impl ReadlineBufRead + ?Sized), lines: usize) -> Result<String, gix::Error> {
    let mut report = String::new();
    for _ in 0..lines {
        let Some(line) = answer.readline() else { break };
        let PacketLineRef::Data(line) = line.map_err(broken)?? else { break };
        report.push_str(String::from_utf8_lossy(line).trim_end());
        report.push('\n');
    }
    Ok(report)
}

/// What a report says of as many commands.
fn judge(report: &str, refs: &BTreeMap<StageRef, CommitId>, commands: usize) -> Result<Pushed, String> {
    let mut lines = report.lines();
    match lines.next().and_then(|line| line.strip_prefix("unpack ")) {
        Some("ok") => {}
        Some(reason) => return Err(shown(reason)),
        None => return Err("its answer is none".to_owned()),
    }
    let mut pushed = Pushed::default();
    for line in lines {
        let mut words = line.splitn(3, ' ');
        let (word, name, rest) = (words.next(), words.next().unwrap_or_default(), words.next());
        let Some(name) = refs.keys().find(|known| known.0 == name) else { continue };
        match word {
            Some("ok") => pushed.moved += 1,
            _ => drop(pushed.refused.insert(name.clone(), shown(rest.unwrap_or("without a reason")))),
        }
    }
    if pushed.moved + pushed.refused.len() < commands {
        return Err("its answer does not speak of every ref".to_owned());
    }
    Ok(pushed)
}

fn shown(said: &str) -> String {
    said.chars().filter(|it| !it.is_control()).take(SAID).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "0123456789abcdef0123456789abcdef01234567";
    const B: &str = "1123456789abcdef0123456789abcdef01234567";

    fn name(stage: &str) -> StageRef {
        StageRef::new("shop", stage).unwrap()
    }

    fn refs() -> BTreeMap<StageRef, CommitId> {
        [("edge", A), ("staging", B)].map(|(stage, id)| (name(stage), id.parse().unwrap())).into()
    }

    #[test]
    fn only_labels_make_a_ref() {
        assert_eq!(name("staging").to_string(), "refs/flotilla/shop/staging");
        for (pipeline, stage) in [
            ("", "a"),
            ("a", ""),
            ("..", "a"),
            ("a", "../../heads/main"),
            ("a b", "c"),
            ("-a", "b"),
            ("a", "b\n"),
        ] {
            assert_eq!(StageRef::new(pipeline, stage), None, "{pipeline:?} {stage:?}");
        }
    }

    #[test]
    fn only_what_is_not_as_asked_is_a_command() {
        let direct = |name: &str, id: &str| Ref::Direct {
            full_ref_name: name.into(),
            object: ObjectId::from_hex(id.as_bytes()).unwrap(),
        };
        let none = "0".repeat(40);
        let caps = "\0report-status agent=flotilla";
        let [edge, staging] =
            [format!("{A} refs/flotilla/shop/edge"), format!("{B} refs/flotilla/shop/staging")];
        for (known, expected) in [
            (vec![], vec![format!("{none} {edge}{caps}"), format!("{none} {staging}")]),
            (
                vec![direct("refs/flotilla/shop/edge", A), direct("refs/flotilla/shop/staging", A)],
                vec![format!("{A} {staging}{caps}")],
            ),
            (vec![direct("refs/flotilla/shop/edge", A), direct("refs/flotilla/shop/staging", B)], vec![]),
        ] {
            assert_eq!(commands(&refs(), &known), expected);
        }
    }

    #[test]
    fn a_report_is_taken_whole() {
        let refused =
            |reason: &str| Pushed { moved: 1, refused: [(name("staging"), reason.to_owned())].into() };
        for (report, expected) in [
            (
                "unpack ok\nok refs/flotilla/shop/edge\nok refs/flotilla/shop/staging\n",
                Ok(Pushed { moved: 2, ..Pushed::default() }),
            ),
            (
                "unpack ok\nok refs/flotilla/shop/edge\nng refs/flotilla/shop/staging hook\u{1b} declined\n",
                Ok(refused("hook declined")),
            ),
            (
                "unpack ok\nok refs/flotilla/shop/edge\nng refs/flotilla/shop/staging",
                Ok(refused("without a reason")),
            ),
            ("unpack index-pack failed\n", Err("index-pack failed")),
            (
                "unpack ok\nok refs/flotilla/shop/edge\nok refs/heads/main\n",
                Err("its answer does not speak of every ref"),
            ),
            ("", Err("its answer is none")),
        ] {
            assert_eq!(judge(report, &refs(), 2), expected.map_err(str::to_owned), "{report}");
        }
    }
}
