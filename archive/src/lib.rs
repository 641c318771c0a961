//! The entries of a tar archive that a stranger packed, with the names that they have whoever reads it.
//!
//! Read raw: what an archive notes of a file in entries of its own, names above all, would otherwise be read whole, however
//! long it is. What would give a file another name or content than stands here is refused.

use std::io::{self, Read};

use tar::{Archive, Entry, PaxExtensions};

/// Bytes of what an archive notes of one file: its long name, its times.
pub const NOTES: u64 = 64 << 10;

/// Gives each entry that is no note of another one, with its name. `take` looks at its kind, and may read it.
///
/// # Errors
/// What `take` gives, or `wrong` of an archive that cannot be read. One that is cut off between two entries looks whole: who
/// bounds `archive` asks after it whether that bound was reached.
pub fn each<R: Read, E>(
    archive: R,
    wrong: impl Fn(io::Error) -> E,
    mut take: impl FnMut(Vec<u8>, &mut Entry<'_, R>) -> Result<(), E>,
) -> Result<(), E> {
    let mut long = None;
    for entry in Archive::new(archive).entries().map_err(&wrong)?.raw(true) {
        let mut entry = entry.map_err(&wrong)?;
        let kind = entry.header().entry_type();
        if kind.is_gnu_longname() || kind.is_pax_local_extensions() || kind.is_gnu_longlink() {
            long = long_name(&mut entry).map_err(&wrong)?.or(long);
            continue;
        }
        let name = long.take().unwrap_or_else(|| entry.path_bytes().into_owned());
        take(name, &mut entry)?;
    }
    Ok(())
}

/// Why a sparse file is not taken: its name and content would not be what stands in the archive.
pub fn sparse() -> io::Error {
    refused("it holds a sparse file; pack it without `--sparse`".to_owned())
}

/// The name of the next entry, where this one holds it: a long name, or other notes of a file.
fn long_name(entry: &mut Entry<'_, impl Read>) -> io::Result<Option<Vec<u8>>> {
    if entry.size() > NOTES {
        return Err(refused(format!(
            "what is noted of a file has {} bytes, more than {NOTES}",
            entry.size()
        )));
    }
    let kind = entry.header().entry_type();
    if kind.is_gnu_longlink() {
        return Ok(None);
    }
    let mut notes = Vec::new();
    entry.read_to_end(&mut notes)?;
    if !kind.is_pax_local_extensions() {
        notes.truncate(notes.iter().position(|byte| *byte == 0).unwrap_or(notes.len()));
        return Ok(Some(notes));
    }
    let mut path = None;
    for note in PaxExtensions::new(&notes) {
        let note = note?;
        match note.key_bytes() {
            // Of two the last counts, as for Flux.
            b"path" => path = Some(note.value_bytes().to_vec()),
            // Where its content ends would be told here, and read from elsewhere.
            b"size" => {
                return Err(refused(
                    "the size of a file stands beside its header; pack it without".to_owned(),
                ));
            }
            key if key.starts_with(b"GNU.sparse.") => return Err(sparse()),
            _ => {}
        }
    }
    Ok(path)
}

fn refused(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
