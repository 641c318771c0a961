//! What a revision of a release is made of, packed for the agent: the chart as its record holds it, once for all releases of it, and
//! what is the release's own.

use bytes::Bytes;
use flotilla_core::Digest;
use flotilla_core::unit::Blob;
use flotilla_core::work::Work;
use flotilla_helm::chart::{self, File, Ignore};
use flotilla_helm::content::pack_chart;
use flotilla_helm::record::MAX_INFLATED;
use flotilla_kustomize::files::{Files, Kind, TreePath};

use super::request::ChartFiles;

/// Bytes that travel like an object's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    pub digest: Digest,
    pub bytes: Bytes,
}

impl Parcel {
    fn of(bytes: Vec<u8>) -> Self {
        Self { digest: Digest::of(&bytes), bytes: bytes.into() }
    }

    pub(crate) fn blob(&self) -> Blob {
        // Packed, it has a few MiB at most.
        Blob { digest: self.digest, size: u32::try_from(self.bytes.len()).unwrap_or(u32::MAX) }
    }
}

/// A revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// As [`flotilla_helm::Content::unpack`] reads it.
    pub content: Parcel,
    /// As [`flotilla_helm::content::unpack_chart`] reads it.
    pub chart: Parcel,
}

impl Packed {
    pub fn new(content: Vec<u8>, chart: Vec<u8>) -> Self {
        Self { content: Parcel::of(content), chart: Parcel::of(chart) }
    }

    pub(super) fn with_chart(content: Vec<u8>, chart: Parcel) -> Self {
        Self { content: Parcel::of(content), chart }
    }
}

/// How many folders may lie in each other in a chart, and how many files it may have.
const FOLDERS: usize = 32;
const FILES: usize = 10_000;
/// Comparisons of names with a chart's `.helmignore`: a quarter of a second's.
const IGNORING: u64 = 50_000_000;

/// The chart, packed.
///
/// # Errors
/// Why a record cannot hold it, or what of it cannot be read.
pub(crate) fn packed_chart(of: &ChartFiles) -> Result<Parcel, String> {
    let files = files_of(of)?;
    let chart = chart::chart(files, of.default_values.as_ref())
        .map_err(|error| format!("the chart cannot be put on record: {error}"))?;
    Ok(Parcel::of(pack_chart(&chart)))
}

/// What Helm takes of a chart's folder. Charts that it depends on are no part of its record.
fn files_of(of: &ChartFiles) -> Result<Vec<File>, String> {
    let said = |error: &dyn std::fmt::Display| format!("the chart cannot be read: {error}");
    let path = of.path.join(".helmignore").map_err(|error| said(&error))?;
    let rules = match of.files.entry(&path).map_err(|error| said(&error))? {
        Some(entry) if entry.kind == Kind::File => {
            let text = of.files.read(&path).map_err(|error| said(&error))?;
            Ignore::parse(&String::from_utf8_lossy(&text))
        }
        _ => Ignore::parse(""),
    };
    let mut walk = Walk {
        files: &*of.files,
        ignore: rules.map_err(|error| said(&error))?,
        found: Vec::new(),
        left: MAX_INFLATED,
        work: Work::new(IGNORING),
    };
    walk.folder(&of.path, "", FOLDERS)?;
    Ok(walk.found)
}

struct Walk<'a> {
    files: &'a dyn Files,
    ignore: Ignore,
    found: Vec<File>,
    /// Bytes that may still be read.
    left: usize,
    /// Comparisons with `ignore` that may still be made.
    work: Work,
}

impl Walk<'_> {
    fn folder(&mut self, folder: &TreePath, inside: &str, depth: usize) -> Result<(), String> {
        let said = |error: &dyn std::fmt::Display| format!("the chart cannot be read: {error}");
        if depth == 0 {
            return Err(format!("the chart has more than {FOLDERS} folders in each other"));
        }
        for (name, entry) in self.files.list(folder).map_err(|error| said(&error))? {
            let path = folder.join(&name).map_err(|error| said(&error))?;
            let inside = format!("{inside}{name}");
            match entry.kind {
                Kind::Folder if inside == "charts" => {}
                Kind::Folder => self.folder(&path, &format!("{inside}/"), depth - 1)?,
                Kind::File => {
                    let is_ignored = self.ignore.is_ignored(&inside, &mut self.work).map_err(|_| {
                        "the chart's .helmignore takes too long: write fewer and simpler patterns".to_owned()
                    })?;
                    if is_ignored {
                        continue;
                    }
                    let content = self.files.read(&path).map_err(|error| said(&error))?;
                    self.left = self.left.checked_sub(content.len()).filter(|_| self.found.len() < FILES).ok_or_else(
                        || {
                            format!(
                                "the chart has more than {FILES} files, or more than the {} MiB that a release record \
                                 can hold: leave files that no template uses out of it, by .helmignore",
                                MAX_INFLATED >> 20
                            )
                        },
                    )?;
                    self.found.push(File { path: inside, content: content.to_vec() });
                }
                // As where helm is given it: nothing outside of the chart is followed.
                _ => {}
            }
        }
        Ok(())
    }
}
