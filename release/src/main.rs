//! `flotilla-release`: what `cargo xtask image` and `cargo xtask release` run once the binaries are built.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use flotilla_release::architecture::Architecture;
use flotilla_release::bundle;
use flotilla_release::image::{Image, Origin, Program};
use flotilla_release::registry::{Credentials, Repository};

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
    /// Every file of a release
    All(AllArgs),
}

#[derive(Debug, Args)]
struct BuiltArgs {
    /// Folder with a folder of static binaries for each architecture, as `x86_64/flotilla-hub`
    #[arg(long, value_name = "DIR")]
    binaries: PathBuf,
    /// Where the files are written
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The commit that the binaries were built from
    #[arg(long, value_name = "COMMIT")]
    revision: String,
    /// When the commit was made, in seconds after 1970
    #[arg(long, value_name = "SECONDS")]
    seconds: u64,
}

impl BuiltArgs {
    fn origin(&self) -> Origin {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Origin { version, revision: self.revision.clone(), seconds: self.seconds }
    }

    fn make_out(&self) -> anyhow::Result<()> {
        std::fs::create_dir_all(&self.out).with_context(|| format!("cannot make {}", self.out.display()))
    }
}

#[derive(Debug, Args)]
struct AllArgs {
    #[command(flatten)]
    built: BuiltArgs,
    /// The folder deploy/ of that commit
    #[arg(long, value_name = "DIR")]
    deploy: PathBuf,
    /// Registry and path before the images' names
    #[arg(long, value_name = "PREFIX", default_value = "docker.io/library")]
    name: String,
    /// A file that belongs to the release as it is; may be repeated
    #[arg(long, value_name = "FILE")]
    with: Vec<PathBuf>,
    /// File with the key that signs the checksums: P-256, PKCS#8, PEM; without it they are not signed
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ImageArgs {
    #[command(flatten)]
    built: BuiltArgs,
    /// Registry and path before the images' names, by which a container runtime knows them once they are imported; as
    /// --push, or docker.io/library
    #[arg(long, value_name = "PREFIX")]
    name: Option<String>,
    /// Pushes them to this registry and path too, as `registry.example.com/fleet`, with this version as tag
    #[arg(long, value_name = "PREFIX")]
    push: Option<String>,
    /// User of the registry; without it what `docker login` left is used
    #[arg(long, value_name = "USER", requires = "push", requires = "password_file")]
    username: Option<String>,
    /// File with the user's password or token
    #[arg(long, value_name = "FILE", requires = "username")]
    password_file: Option<PathBuf>,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Image(args) => image(&args),
        Command::All(args) => all(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flotilla-release: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn image(args: &ImageArgs) -> anyhow::Result<()> {
    let origin = args.built.origin();
    let built = built(&args.built.binaries)?;
    let credentials = match &args.push {
        Some(prefix) => credentials(args, prefix)?,
        None => None,
    };
    args.built.make_out()?;
    for image in Image::ALL {
        let layout = image.build(&origin, &built)?;
        let prefix = args.name.as_ref().or(args.push.as_ref()).map_or("docker.io/library", String::as_str);
        let name = format!("{prefix}/{}:{}", image.name(), origin.version);
        let path = args.built.out.join(format!("{}-{}.oci.tar", image.name(), origin.version));
        let archive = layout.write(Vec::new(), &name, origin.seconds)?;
        std::fs::write(&path, &archive).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{:>6.2} MB  {}  {name}@{}", archive.len() as f64 / 1e6, path.display(), layout.digest());
        if let Some(prefix) = &args.push {
            let address = format!("{prefix}/{}", image.name());
            Repository::new(&address, credentials.clone())?.push(&layout, &origin.version)?;
            println!("        pushed  {address}:{}@{}", origin.version, layout.digest());
        }
    }
    Ok(())
}

fn all(args: &AllArgs) -> anyhow::Result<()> {
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    // Before anything is made: a key that does not serve is told at once.
    let key = args.key.as_deref().map(read).transpose()?;
    let signed = |text: &str| key.as_ref().map(|key| bundle::sign(key, text)).transpose();
    signed("")?;
    let mut more = bundle::Files::new();
    for path in &args.with {
        let name = path.file_name().with_context(|| format!("{} is not a file", path.display()))?;
        more.insert(name.to_string_lossy().into_owned(), read(path)?);
    }
    let built = built(&args.built.binaries)?;
    let mut files = bundle::files(&args.built.origin(), &built, &args.deploy, &args.name, more)?;
    let sums = bundle::sums(&files);
    if let Some(signature) = signed(&sums)? {
        files.insert(bundle::SIGNATURE.to_owned(), signature.into_bytes());
    }
    files.insert(bundle::SUMS.to_owned(), sums.into_bytes());
    args.built.make_out()?;
    for (name, content) in &files {
        let path = args.built.out.join(name);
        std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{:>6.2} MB  {}", content.len() as f64 / 1e6, path.display());
    }
    Ok(())
}

/// Those of the command line, or those that `docker login` left for the registry.
fn credentials(args: &ImageArgs, prefix: &str) -> anyhow::Result<Option<Credentials>> {
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    if let (Some(user), Some(file)) = (&args.username, &args.password_file) {
        let password = String::from_utf8(read(file)?)
            .with_context(|| format!("the password in {} is not text", file.display()))?;
        return Ok(Some(Credentials { user: user.clone(), password: password.trim_end().to_owned() }));
    }
    let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let folder = folder.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker")));
    let Some(path) = folder.map(|folder| folder.join("config.json")).filter(|path| path.exists()) else {
        return Ok(None);
    };
    let registry = prefix.split('/').next().unwrap_or_default();
    Credentials::from_docker_config(&read(&path)?, registry)
        .with_context(|| format!("cannot use {}", path.display()))
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
