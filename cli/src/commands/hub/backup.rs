//! `flotilla hub backup`: the hub's backup by its API, to a file or into a folder with others.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use flotilla_runtime::files;

use crate::Context;
use crate::client::Client;
use crate::error::Error;
use crate::exit::Code;
use crate::output;

const ENDING: &str = ".flotilla-backup";

/// Write a backup of the hub: what Git and the agents cannot restore
///
/// `flotilla-hub restore` takes it. It holds the keys of the fleet's CA and the secrets of sources: keep it as you keep a key. The token
/// needs the role admin.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("to").required(true).args(["file", "into"]))]
pub(crate) struct BackupArgs {
    /// File to write, which must not be there yet
    file: Option<PathBuf>,
    /// Folder in which the backup gets a name by the time
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Delete the oldest backups in the folder, but for so many
    #[arg(long, value_name = "COUNT", requires = "into", value_parser = clap::value_parser!(u16).range(1..))]
    keep: Option<u16>,
}

pub(crate) async fn run(context: &Context, args: BackupArgs) -> Result<Code, Error> {
    let client = context.hub()?;
    let (file, folder) = match (args.file, args.into) {
        (Some(file), _) => (file, None),
        (None, Some(folder)) => (folder.join(name_at(output::now())), Some(folder)),
        (None, None) => return Err(Error::usage("say where the backup is to be written")),
    };
    take(context, &client, &file).await?;
    if let (Some(folder), Some(keep)) = (folder, args.keep) {
        prune(context, &folder, usize::from(keep))?;
    }
    Ok(Code::Done)
}

/// Writes a backup, durably, to a file that is not there yet.
pub(super) async fn take(context: &Context, client: &Client, file: &Path) -> Result<(), Error> {
    let cannot = || format!("cannot write the backup {}", file.display());
    // Looked at first: a large backup would be fetched for nothing.
    if files::is_there(file).map_err(|error| Error::new(Code::Local, cannot()).because(error))? {
        return Err(Error::usage(format!("{} is there already", file.display())).hint("name another file"));
    }
    let content = client.backup().await?;
    files::write_atomic(file, &content, files::PRIVATE)
        .map_err(|error| Error::new(Code::Local, cannot()).because(error))?;
    context.terminal.note(&format!(
        "wrote the backup {} ({} KB)",
        file.display(),
        content.len().div_ceil(1000)
    ));
    Ok(())
}

/// A name that sorts by time: `20261203T101500Z.flotilla-backup`.
pub(super) fn name_at(seconds: i64) -> String {
    let time: String = output::date(seconds).chars().filter(char::is_ascii_alphanumeric).collect();
    format!("{time}{ENDING}")
}

/// Deletes all but the newest backups of a folder. Only what is named as we name them counts and goes.
fn prune(context: &Context, folder: &Path, keep: usize) -> Result<(), Error> {
    let failed = |error: files::FileError| {
        Error::new(Code::Local, format!("cannot delete old backups in {}", folder.display())).because(error)
    };
    let mut found: Vec<PathBuf> = files::list(folder).map_err(failed)?;
    found.retain(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(is_ours));
    found.sort();
    for path in found.iter().take(found.len().saturating_sub(keep)) {
        files::remove(path).map_err(failed)?;
        context.terminal.note(&format!("deleted {}", path.display()));
    }
    Ok(())
}

fn is_ours(name: &str) -> bool {
    let time = name.strip_suffix(ENDING).unwrap_or_default().as_bytes();
    time.len() == name_at(0).len() - ENDING.len()
        && time.iter().enumerate().all(|(at, byte)| match at {
            8 => *byte == b'T',
            15 => *byte == b'Z',
            _ => byte.is_ascii_digit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_time_and_only_they_are_ours() {
        assert_eq!(name_at(1_800_000_000), "20270115T080000Z.flotilla-backup");
        for (name, ours) in [
            ("20270115T080000Z.flotilla-backup", true),
            ("fleet.flotilla-backup", false),
            ("2027x115T080000Z.flotilla-backup", false),
            ("20270115T080000Z", false),
            ("20270115T080000Z.flotilla-backup.old", false),
        ] {
            assert_eq!(is_ours(name), ours, "{name}");
        }
    }
}
