//! `flotilla-release`: what `cargo xtask image` runs once the binaries are built.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use flotilla_release::architecture::Architecture;
use flotilla_release::image::{Image, Origin, Program};

#[derive(Debug, Parser)]
#[command(about = "Makes what a release consists of, from binaries that are built", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Container images of agent, hub and CLI, as OCI archives
    Image(ImageArgs),
}

#[derive(Debug, Args)]
struct ImageArgs {
    /// Folder with a folder of static binaries for each architecture, as `x86_64/flotilla-hub`
    #[arg(long, value_name = "DIR")]
    binaries: PathBuf,
    /// Where the archives are written
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Registry and path before the images' names, by which a container runtime knows them once they are imported
    #[arg(long, value_name = "PREFIX", default_value = "docker.io/library")]
    name: String,
    /// The commit that the binaries were built from
    #[arg(long, value_name = "COMMIT")]
    revision: String,
    /// When the commit was made, in seconds after 1970
    #[arg(long, value_name = "SECONDS")]
    seconds: u64,
}

fn main() -> ExitCode {
    let Command::Image(args) = Cli::parse().command;
    match image(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flotilla-release: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn image(args: &ImageArgs) -> anyhow::Result<()> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let origin = Origin { version, revision: args.revision.clone(), seconds: args.seconds };
    let built = built(&args.binaries)?;
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    for image in Image::ALL {
        let layout = image.build(&origin, &built)?;
        let name = format!("{}/{}:{}", args.name, image.name(), origin.version);
        let path = args.out.join(format!("{}-{}.oci.tar", image.name(), origin.version));
        let archive = layout.write(Vec::new(), &name, origin.seconds)?;
        std::fs::write(&path, &archive).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{:>6.2} MB  {}  {name}@{}", archive.len() as f64 / 1e6, path.display(), layout.digest());
    }
    Ok(())
}

/// What there is for each architecture.
fn built(folder: &Path) -> anyhow::Result<Vec<(Architecture, Vec<Program>)>> {
    let mut built = Vec::new();
    for architecture in Architecture::ALL {
        let folder = folder.join(architecture.rust());
        if !folder.is_dir() {
            continue;
        }
        let mut programs = Vec::new();
        for entry in
            std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?
        {
            let path = entry?.path();
            let content = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            programs.push((name, content));
        }
        built.push((architecture, programs));
    }
    if built.is_empty() {
        bail!(
            "{} has no folder {}",
            folder.display(),
            Architecture::ALL.map(Architecture::rust).join(" or ")
        );
    }
    Ok(built)
}
