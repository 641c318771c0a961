//! `flotilla debug bundle`: what somebody who helps needs to see, in one archive.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use flate2::Compression;
use flate2::write::GzEncoder;
use flotilla_core::ClusterName;
use flotilla_runtime::files;
use serde::Serialize;

use crate::Context;
use crate::client::{Choice, EventFilter};
use crate::error::Error;
use crate::exit::Code;
use crate::output::now;

/// How many events.
const EVENTS: usize = 2_000;

/// Collect what a person who helps needs to see
#[derive(Debug, Subcommand)]
pub(crate) enum DebugCommand {
    Bundle(BundleArgs),
}

/// Write an archive with the state of hub and clusters, without secrets
///
/// It has what `flotilla status`, `get`, `events` and `metrics` show, as JSON: names, addresses of sources, problems with file and line.
/// It has no contents of objects, no audit log, no tokens. What cannot be read is listed in errors.txt. Look through it before you give
/// it to others.
#[derive(Debug, Args)]
pub(crate) struct BundleArgs {
    /// A cluster whose units, objects and history are added; may be repeated
    #[arg(long = "cluster", short, value_name = "CLUSTER")]
    clusters: Vec<ClusterName>,
    /// File to write
    #[arg(long, value_name = "FILE", default_value = "flotilla-debug.tar.gz")]
    out: PathBuf,
}

/// The files of the bundle, and what could not be read.
#[derive(Debug, Default)]
struct Bundle {
    files: Vec<(String, Vec<u8>)>,
    errors: String,
    /// Nothing could be asked of a hub.
    first: Option<Error>,
}

impl Bundle {
    fn json(&mut self, name: &str, read: Result<impl Serialize, Error>) {
        let text = read.and_then(|read| {
            serde_json::to_vec_pretty(&read)
                .map_err(|error| Error::new(Code::Local, format!("cannot write {name}")).because(error))
        });
        self.file(name, text);
    }

    fn file(&mut self, name: &str, content: Result<Vec<u8>, Error>) {
        match content {
            Ok(content) => self.files.push((name.to_owned(), content)),
            Err(error) => {
                self.errors += &format!("{name}: {}\n", error.chain());
                self.first.get_or_insert(error);
            }
        }
    }

    fn archive(mut self) -> std::io::Result<Vec<u8>> {
        let errors = std::mem::take(&mut self.errors);
        self.files.push(("errors.txt".to_owned(), errors.into_bytes()));
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
        let at = u64::try_from(now()).unwrap_or_default();
        for (name, content) in &self.files {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o600);
            header.set_mtime(at);
            header.set_size(content.len() as u64);
            archive.append_data(&mut header, format!("flotilla-debug/{name}"), content.as_slice())?;
        }
        archive.into_inner()?.finish()
    }
}

pub(crate) async fn run(context: &Context, command: DebugCommand) -> Result<Code, Error> {
    let DebugCommand::Bundle(args) = command;
    let client = context.hub()?;
    let mut bundle = Bundle::default();
    let about = serde_json::json!({"client": env!("CARGO_PKG_VERSION"), "madeAt": now()});
    bundle.json("about.json", Ok(about));
    bundle.json("status.json", client.status().await);
    bundle.json("whoami.json", client.who_am_i().await);
    bundle.json("clusters.json", client.clusters(&Choice::default()).await);
    bundle.json("units.json", client.units(None, &Choice::default()).await);
    bundle.json("sources.json", client.sources().await);
    bundle.json("changes.json", client.changes().await);
    bundle.json("pipelines.json", client.pipelines().await);
    let events = EventFilter { limit: EVENTS, ..EventFilter::default() };
    bundle.json("events.json", client.events(&events).await.map(|(events, _)| events));
    bundle.file("metrics.txt", client.metrics().await.map(String::into_bytes));
    for name in &args.clusters {
        bundle.json(&format!("clusters/{name}.json"), client.tree(name).await);
    }
    let (files_made, failed) = (bundle.files.len(), bundle.errors.lines().count());
    if files_made == 1
        && let Some(error) = bundle.first.take()
    {
        return Err(error);
    }
    let path = args.out.display().to_string();
    let write = |error| Error::io(format!("write {path}"), error);
    let archive = bundle.archive().map_err(write)?;
    // What stands in it is nobody else's business on this machine.
    files::write_atomic(&args.out, &archive, files::PRIVATE)
        .map_err(|error| Error::new(Code::Local, format!("cannot write {path}")).because(error))?;
    context
        .terminal
        .note(&format!("wrote {path}: {files_made} files; look through it before you give it to others"));
    if failed > 0 {
        context.terminal.warn(&format!("{failed} parts could not be read: its errors.txt says why"));
    }
    Ok(Code::Done)
}
