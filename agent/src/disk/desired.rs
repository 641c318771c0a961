//! The desired state on disk: one file, checked, replaced atomically.
//!
//! `flotilla desired 2`, a line end, the BLAKE3 digest of the rest, and the state as the hub would send it
//! whole. What is in it was computed once already, and is computed again when it is read. In format 1 the enums were
//! numbered from 0.

use std::path::PathBuf;

use bytes::Bytes;
use flotilla_core::{ClusterName, DesiredState, Digest};
use flotilla_proto::v1;
use flotilla_runtime::chain;
use flotilla_runtime::files::{self, FileError};
use prost::Message;

use super::log::set_aside;
use crate::manifest::{self, Assembly, Bases, ManifestError};

const HEADER: &[u8] = b"flotilla desired 2\n";
const HEADER_1: &[u8] = b"flotilla desired 1\n";
const FAMILY: &[u8] = b"flotilla desired ";
const DIGEST: usize = 32;

#[derive(Clone, PartialEq, Message)]
struct Stored {
    #[prost(string, tag = "1")]
    cluster: String,
    #[prost(message, optional, tag = "2")]
    manifest: Option<v1::Manifest>,
}

/// A file that holds no state. It says nothing about what should run.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("it is not this program's")]
    Header,
    #[error("a newer version wrote it")]
    Newer,
    #[error("it is damaged")]
    Check,
    #[error("it does not decode")]
    Decode(#[from] prost::DecodeError),
    #[error("its content is not valid")]
    Manifest(#[from] ManifestError),
    #[error("its content names no cluster")]
    Cluster,
}

/// Where the desired state is kept.
pub(super) struct DesiredFile {
    path: PathBuf,
}

impl DesiredFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Reads the state. A file that cannot be used is set aside; what follows from it is nothing, and the
    /// second value tells people. Blocking.
    pub(super) fn load(&self) -> (Option<DesiredState>, Option<String>) {
        let bytes = match files::read_if_there(&self.path) {
            Ok(None) => return (None, None),
            Ok(Some(bytes)) => bytes,
            Err(error) => return (None, Some(chain(&error))),
        };
        match decode(&bytes.into()) {
            Ok(state) => (Some(state), None),
            Err(error) => {
                let path = self.path.display();
                let aside = match set_aside(&self.path) {
                    Ok(aside) => format!("it was set aside as {}", aside.display()),
                    Err(error) => format!("it could not be set aside: {error}"),
                };
                let what = format!("{path} cannot be used ({}); {aside}", chain(&error));
                (
                    None,
                    Some(format!("{what}. The cluster stays as it is until the hub sends its state again")),
                )
            }
        }
    }

    /// Replaces the state durably. Blocking.
    pub(super) fn save(&self, state: &DesiredState) -> Result<(), FileError> {
        files::write_atomic(&self.path, &encode(state), files::PRIVATE)
    }

    /// Removes the state durably. Blocking.
    pub(super) fn remove(&self) -> Result<(), FileError> {
        files::remove(&self.path)
    }

    #[cfg(test)]
    pub(super) fn path(&self) -> &std::path::Path {
        &self.path
    }
}

fn encode(state: &DesiredState) -> Vec<u8> {
    let stored = Stored { cluster: state.cluster.to_string(), manifest: Some(manifest::whole(state)) };
    let mut bytes = Vec::with_capacity(HEADER.len() + DIGEST + stored.encoded_len());
    bytes.extend_from_slice(HEADER);
    bytes.extend_from_slice(&[0; DIGEST]);
    stored.encode(&mut bytes).expect("a vector grows");
    let (head, payload) = bytes.split_at_mut(HEADER.len() + DIGEST);
    head[HEADER.len()..].copy_from_slice(Digest::of(payload).as_bytes());
    bytes
}

fn decode(bytes: &Bytes) -> Result<DesiredState, Unreadable> {
    let (rest, is_format_1) = if let Some(rest) = bytes.strip_prefix(HEADER) {
        (rest, false)
    } else if let Some(rest) = bytes.strip_prefix(HEADER_1) {
        (rest, true)
    } else {
        let newer =
            bytes.strip_prefix(FAMILY).is_some_and(|rest| rest.first().is_some_and(u8::is_ascii_digit));
        return Err(if newer { Unreadable::Newer } else { Unreadable::Header });
    };
    let Some((check, payload)) = rest.split_at_checked(DIGEST) else { return Err(Unreadable::Check) };
    if Digest::of(payload).as_bytes() != check {
        return Err(Unreadable::Check);
    }
    let stored = Stored::decode(bytes.slice_ref(payload))?;
    let cluster: ClusterName = stored.cluster.parse().map_err(|_| Unreadable::Cluster)?;
    let mut manifest = stored.manifest.unwrap_or_default();
    if is_format_1 {
        renumber(&mut manifest);
    }
    let mut assembly = Assembly::begin(&manifest, Bases(&[]))?;
    assembly.take(manifest)?;
    Ok(assembly.finish(cluster, Bases(&[]))?)
}

/// Gives the enums of a manifest of format 1 their numbers of today.
fn renumber(manifest: &mut v1::Manifest) {
    for unit in &mut manifest.units {
        if let Some(v1::unit_change::Entry::Removed(removal)) = &mut unit.entry {
            removal.policy = removal.policy.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::testing::state;
    use flotilla_core::desired::Generation;

    #[test]
    fn a_state_survives_and_anything_else_is_set_aside_without_a_word_on_what_should_run() {
        let folder = tempfile::tempdir().unwrap();
        let file = DesiredFile::new(folder.path().join("desired"));
        assert_eq!(file.load(), (None, None));
        let state =
            state(7, &[("root", &["a", "b"]), ("kustomization/x/held", &[]), ("kustomization/x/y", &["c"])]);
        file.save(&state).unwrap();
        assert_eq!(file.load(), (Some(state.clone()), None));

        let whole = encode(&state);
        let mut newer = whole.clone();
        newer[FAMILY.len()] = b'3';
        let damaged = |at: usize| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            bytes
        };
        for (bytes, reason) in [
            (newer, "a newer version wrote it"),
            (b"{}".to_vec(), "not this program's"),
            (Vec::new(), "not this program's"),
            (HEADER.to_vec(), "damaged"),
            (whole[..whole.len() - 1].to_vec(), "damaged"),
            (damaged(HEADER.len()), "damaged"),
            (damaged(whole.len() / 2), "damaged"),
            ([HEADER, Digest::of(b"\xff").as_bytes(), b"\xff"].concat(), "does not decode"),
            ([HEADER, Digest::of(b"").as_bytes()].concat(), "names no cluster"),
        ] {
            std::fs::write(file.path(), &bytes).unwrap();
            let (read, problem) = file.load();
            let problem = problem.unwrap();
            assert!(read.is_none() && problem.contains(reason), "{reason}: {problem}");
            assert!(problem.contains("stays as it is"), "{problem}");
            assert_eq!(std::fs::read(folder.path().join("desired.unreadable")).unwrap(), bytes);
            assert_eq!(file.load(), (None, None), "it is told once");
        }
        file.remove().unwrap();
    }

    #[test]
    fn a_removal_of_format_1_means_what_it_meant() {
        use flotilla_core::UnitEntry;
        use flotilla_core::desired::Removal;
        use flotilla_core::unit::DeletionPolicy::{Delete, MirrorPrune, Orphan, WaitForTermination};
        for (policy, number) in [(MirrorPrune, 0), (Delete, 1), (WaitForTermination, 2), (Orphan, 3)] {
            let mut units = state(7, &[("root", &["a"])]).units().clone();
            let removal = Removal { policy, prune: true, ..Removal::default() };
            units.insert("kustomization/x/y".parse().unwrap(), UnitEntry::Removed(removal));
            let state = DesiredState::new("staging".parse().unwrap(), Generation(7), "c0ffee", units);
            let file = |header: &[u8], number: i32| {
                let mut manifest = manifest::whole(&state);
                for unit in &mut manifest.units {
                    if let Some(v1::unit_change::Entry::Removed(removal)) = &mut unit.entry {
                        removal.policy = number;
                    }
                }
                let stored = Stored { cluster: "staging".into(), manifest: Some(manifest) }.encode_to_vec();
                Bytes::from([header, Digest::of(&stored).as_bytes(), &stored].concat())
            };
            assert_eq!(decode(&file(HEADER_1, number)).unwrap(), state);
            assert_eq!(decode(&file(HEADER, number + 1)).unwrap(), state);
            for (header, number) in [(HEADER, 0), (HEADER, 5), (HEADER_1, -1), (HEADER_1, 4)] {
                assert!(decode(&file(header, number)).is_err(), "{number} means nothing");
            }
        }
    }
}
