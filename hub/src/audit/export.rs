//! Copies of the audit log that no token reaches: lines of JSON in a file, and OpenTelemetry logs. Each copy has a cursor in
//! the store and goes on from there, so that nothing is left out while the hub or the receiver is away; a line may come twice.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flotilla_api::AuditEntry;
use flotilla_runtime::Backoff;
use flotilla_runtime::files::PRIVATE;
use flotilla_runtime::tasks::OnShutdown;

use super::otlp::{Collector, OtlpError};
use crate::state::{Hub, blocking};
use crate::store::{AUDIT, StoreError};

/// Lines that are sent together.
const BATCH: usize = 500;

/// Where copies go.
#[derive(Debug, Clone, Default)]
pub struct ExportOptions {
    pub file: Option<PathBuf>,
    /// Address of a collector's OTLP/HTTP.
    pub otlp: Option<String>,
    /// Headers for it, as NAME and value.
    pub otlp_headers: Vec<(String, String)>,
}

/// A line could not be copied; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot append to {}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("cannot send to the OpenTelemetry collector")]
    Otlp(#[from] OtlpError),
}

#[derive(Debug, Clone)]
enum Target {
    File(PathBuf),
    Otlp(Collector),
}

/// Starts a task for each copy.
///
/// # Errors
/// Where the collector's address or headers cannot be used.
pub fn spawn(hub: &Arc<Hub>, options: ExportOptions) -> Result<(), ExportError> {
    let ExportOptions { file, otlp, otlp_headers } = options;
    let collector = otlp.map(|address| Collector::new(&address, &otlp_headers)).transpose()?;
    let file = file.map(|path| ("file", Target::File(path)));
    for (name, target) in file.into_iter().chain(collector.map(|collector| ("otlp", Target::Otlp(collector))))
    {
        let shared = hub.clone();
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        // What was copied is noted before the hub ends: dropped in between, it would come twice.
        hub.tasks.spawn_loop(format!("audit to {name}"), OnShutdown::Wait, backoff, move || {
            copy(shared.clone(), name, target.clone())
        });
    }
    Ok(())
}

/// Copies what there is and what comes.
async fn copy(hub: Arc<Hub>, name: &'static str, target: Target) -> Result<(), ExportError> {
    let mut written = hub.records.store().watch(AUDIT);
    let stop = hub.tasks.shutdown();
    while !stop.is_cancelled() {
        written.mark_unchanged();
        if copy_some(&hub, name, &target).await? {
            continue;
        }
        tokio::select! {
            // The sender lives as long as the store.
            _ = written.changed() => {}
            () = stop.cancelled() => {}
        }
    }
    Ok(())
}

/// Copies the next lines; answers whether there were any.
async fn copy_some(hub: &Arc<Hub>, name: &'static str, target: &Target) -> Result<bool, ExportError> {
    let shared = hub.clone();
    let (next, lines) = blocking(move || {
        let from = shared.records.audit_cursor(name)?;
        shared.records.audit_after(from, BATCH)
    })
    .await?;
    let entries: Vec<AuditEntry> = lines.into_iter().map(|(sequence, line)| line.entry(sequence)).collect();
    if entries.is_empty() {
        return Ok(false);
    }
    let shared = hub.clone();
    match target {
        // In one step, which a shutdown does not cut in two.
        Target::File(path) => {
            let path = path.clone();
            blocking(move || {
                append(&path, &entries).map_err(|source| ExportError::File { path, source })?;
                shared.records.set_audit_cursor(name, next).map_err(ExportError::from)
            })
            .await?;
        }
        Target::Otlp(collector) => {
            tokio::select! {
                sent = collector.send(&entries, hub.now()) => sent?,
                () = hub.tasks.shutdown().cancelled() => return Ok(false),
            }
            blocking(move || shared.records.set_audit_cursor(name, next)).await?;
        }
    }
    Ok(true)
}

/// Appends durably. The file is opened anew each time, so that it may be moved away. Blocking.
fn append(path: &Path, entries: &[AuditEntry]) -> std::io::Result<()> {
    let mut file: File = OpenOptions::new().create(true).append(true).read(true).mode(PRIVATE).open(path)?;
    let mut text = Vec::new();
    // What was cut short must not swallow the next line.
    if file.seek(SeekFrom::End(0))? > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            text.push(b'\n');
        }
    }
    for entry in entries {
        serde_json::to_writer(&mut text, entry)?;
        text.push(b'\n');
    }
    file.write_all(&text)?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_appended_after_one_that_was_cut_short() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let entry = |sequence| AuditEntry { sequence, who: "ann".into(), ..AuditEntry::default() };
        append(&path, &[entry(1)]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 5]).unwrap();
        append(&path, &[entry(1), entry(2)]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let read: Vec<Option<AuditEntry>> =
            text.lines().map(|line| serde_json::from_str(line).ok()).collect();
        assert_eq!(read, [None, Some(entry(1)), Some(entry(2))]);
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
