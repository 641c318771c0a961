//! A chart's files as helm is given them: read by our own rules, looked through, and written anew, so that helm sees
//! nothing that we have not seen. Charts that stand in a chart as archives (`charts/*.tgz`) are read like any other and
//! packed anew.
//!
//! Whoever wrote a chart is a stranger. What is in it has a bound on bytes, files, depth and length of names; a name or a
//! kind of entry that helm might read in another way than we do is refused, and with it the chart.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use flotilla_kustomize::files::{Files, Kind, TreePath};
use tar::{Builder, EntryType, Header};

use super::super::draws;
use super::super::lookup::without_lookup;
use super::super::request::HelmError;
use super::super::schema;
use super::notes;

/// How deep archives may stand in each other.
const ARCHIVES: u32 = 8;
/// How many folders may lie in each other, in a chart or an archive.
const FOLDERS: usize = 32;
/// Bytes of a name, and of a path.
const NAME: usize = 255;
const PATH: usize = 1024;

/// What a chart may still come to, and what was found in it.
#[derive(Debug)]
pub(super) struct Pass {
    /// Bytes of files, unpacked.
    bytes: u64,
    files: u64,
    /// Whether templates could draw at random or look at the clock.
    pub(super) draws: bool,
}

impl Pass {
    pub(super) fn new(bytes: u64, files: u64) -> Self {
        Self { bytes, files, draws: false }
    }

    fn take(&mut self, content: &[u8]) -> Result<(), HelmError> {
        let limit = |what: &str| HelmError::Limit(format!("has {what} in the chart"));
        self.files = self.files.checked_sub(1).ok_or_else(|| limit("too many files"))?;
        self.bytes =
            self.bytes.checked_sub(content.len() as u64).ok_or_else(|| limit("too many bytes of files"))?;
        self.draws = self.draws || draws::in_text(content);
        Ok(())
    }

    /// Writes the folder `from` of a tree to `to`, which is made.
    ///
    /// # Errors
    /// Where something in it is refused, or cannot be read or written.
    pub(super) fn write(&mut self, files: &dyn Files, from: &TreePath, to: &Path) -> Result<(), HelmError> {
        self.folder(files, from, to, "")?;
        let own = to.join(notes::FILE);
        if to.join(notes::NOTES).is_file() && !own.exists() {
            fs::write(&own, notes::template())
                .map_err(|error| HelmError::Machine(format!("cannot write {}: {error}", own.display())))?;
        }
        Ok(())
    }

    /// `inside` is the path in the chart, with a `/` behind it where it is not the chart itself.
    fn folder(
        &mut self,
        files: &dyn Files,
        from: &TreePath,
        to: &Path,
        inside: &str,
    ) -> Result<(), HelmError> {
        let machine =
            |error: io::Error| HelmError::Machine(format!("cannot write {}: {error}", to.display()));
        let source = |error: &dyn std::fmt::Display| HelmError::Chart(error.to_string());
        fs::create_dir(to).map_err(machine)?;
        for (name, entry) in files.list(from).map_err(|error| source(&error))? {
            let path = from.join(&name).map_err(|error| source(&error))?;
            let (inside, target) = (format!("{inside}{name}"), to.join(&name));
            checked(&inside)?;
            match entry.kind {
                Kind::Folder => self.folder(files, &path, &target, &format!("{inside}/"))?,
                Kind::File => {
                    let content = files.read(&path).map_err(|error| source(&error))?;
                    self.take(&content)?;
                    let given = self.given(content.to_vec(), &inside, &inside, 0)?;
                    fs::write(&target, given).map_err(machine)?;
                }
                // Nothing outside of the chart is followed.
                _ => {}
            }
        }
        Ok(())
    }

    /// A file without what must not be done at the hub. `shown` is its path for people, `path` that in its chart.
    fn given(&mut self, content: Vec<u8>, shown: &str, path: &str, depth: u32) -> Result<Vec<u8>, HelmError> {
        match Role::of(path) {
            Role::Chart => self.packed_anew(&content, shown, depth),
            Role::Schema => {
                schema::within(&content).map_err(|error| HelmError::Chart(format!("{shown}: {error}")))
            }
            Role::Template => Ok(match String::from_utf8(content) {
                Ok(text) => without_lookup(&text).into_owned().into_bytes(),
                Err(not_text) => not_text.into_bytes(),
            }),
            Role::Other => Ok(content),
        }
    }

    /// An archive of a chart, with its files as helm is given them.
    fn packed_anew(&mut self, packed: &[u8], shown: &str, depth: u32) -> Result<Vec<u8>, HelmError> {
        if depth == ARCHIVES {
            let message = format!("{shown}: archives stand in each other more than {ARCHIVES} deep");
            return Err(HelmError::Chart(message));
        }
        let wrong = |error: io::Error| HelmError::Chart(format!("{shown}: {error}"));
        let mut out = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        let mut names = BTreeSet::new();
        // Entries without content take time too.
        let mut unzipped =
            MultiGzDecoder::new(packed).take(self.bytes.saturating_mul(2).saturating_add(1 << 20));
        flotilla_archive::each(&mut unzipped, wrong, |name, entry| {
            let refused = |what: &str, name: &str| HelmError::Chart(format!("{shown}: {what}: {name:?}"));
            let name = String::from_utf8(name).map_err(|error| {
                refused("a name is not UTF-8", &String::from_utf8_lossy(error.as_bytes()))
            })?;
            match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous => {}
                // Helm follows no links and makes no folders.
                EntryType::Directory | EntryType::Symlink | EntryType::Link | EntryType::XGlobalHeader => {
                    self.files = self.files.saturating_sub(1);
                    return Ok(());
                }
                _ => return Err(refused("an entry is not a file, folder or link", &name)),
            }
            if name.ends_with('/') {
                return Ok(());
            }
            let said = format!("{shown}:{name}");
            checked(&name).map_err(|error| HelmError::Chart(format!("{shown}: {error}")))?;
            // Helm takes the first part off, whatever it is.
            let path = name.split_once('/').map_or("", |(_, path)| path);
            if !names.insert(path.to_owned()) {
                return Err(refused("two entries have one name", &name));
            }
            let mut content = Vec::new();
            entry.take(self.bytes.saturating_add(1)).read_to_end(&mut content).map_err(wrong)?;
            self.take(&content)?;
            let given = self.given(content, &said, path, depth + 1)?;
            let mut header = Header::new_gnu();
            header.set_size(given.len() as u64);
            header.set_mode(0o644);
            out.append_data(&mut header, &name, &*given).map_err(wrong)
        })?;
        // What was cut off there looks like its end.
        if unzipped.limit() == 0 {
            return Err(HelmError::Limit(format!("has too many bytes in {shown}")));
        }
        out.into_inner().and_then(GzEncoder::finish).map_err(wrong)
    }
}

/// A path that everybody reads alike.
fn checked(path: &str) -> Result<(), HelmError> {
    let refused = |why: &str| {
        let shown: String = path.chars().take(200).collect();
        Err(HelmError::Chart(format!(
            "the chart has a file named {shown:?}, which is not given to helm: {why}"
        )))
    };
    if path.len() > PATH || path.split('/').any(|part| part.len() > NAME) {
        return refused("the name is too long");
    }
    if path.split('/').count() > FOLDERS {
        return refused("it lies too deep");
    }
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return refused("a part of it is empty or dots");
    }
    if path.contains(|c: char| c == '\\' || c.is_control()) {
        return refused("it has a backslash or a control character");
    }
    Ok(())
}

/// What helm takes a file of a chart for.
#[derive(Debug, PartialEq, Eq)]
enum Role {
    /// An archive with a chart that this one depends on.
    Chart,
    Schema,
    Template,
    Other,
}

impl Role {
    /// `path` is in the chart. Charts in `charts/` have files of each kind themselves.
    fn of(path: &str) -> Self {
        let mut rest = path;
        while let Some(below) = rest.strip_prefix("charts/") {
            match below.split_once('/') {
                Some((_, inside)) => rest = inside,
                None if below.ends_with(".tgz") && !below.starts_with(['.', '_']) => return Self::Chart,
                None => return Self::Other,
            }
        }
        match rest {
            "values.schema.json" => Self::Schema,
            _ if rest.starts_with("templates/") => Self::Template,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
#[path = "chart_tests.rs"]
mod tests;
