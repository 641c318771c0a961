//! `flotilla secret encrypt|decrypt|edit|rotate|updatekeys`: files of a repository that SOPS encrypts, without `sops`.

mod config;

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::{Args, Subcommand};
use flotilla_sops::age::Recipient;
use flotilla_sops::{Format, Keys, Mac, Recipe};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::Context;
use crate::error::Error;
use crate::exit::Code;

/// How large a file may be.
const MOST_BYTES: u64 = flotilla_sops::MAX_BYTES as u64;

#[derive(Debug, Subcommand)]
pub(crate) enum SopsCommand {
    /// Encrypt a file, as `sops` does, by the rules in .sops.yaml or for --age keys
    Encrypt {
        #[command(flatten)]
        file: FileArgs,
        #[command(flatten)]
        recipe: RecipeArgs,
    },
    /// Print a file that SOPS encrypted in clear
    Decrypt {
        #[command(flatten)]
        file: FileArgs,
        #[command(flatten)]
        keys: KeyArgs,
    },
    /// Open an encrypted file in $EDITOR, and encrypt what it has become
    Edit {
        /// The file; one that does not exist is made
        file: PathBuf,
        #[command(flatten)]
        keys: KeyArgs,
        #[command(flatten)]
        recipe: RecipeArgs,
    },
    /// Encrypt a file anew with another data key, for the same keys
    Rotate {
        #[command(flatten)]
        file: FileArgs,
        #[command(flatten)]
        keys: KeyArgs,
    },
    /// Seal a file's data key for the keys in .sops.yaml, or for --age keys; its values stay as they are
    #[command(name = "updatekeys")]
    UpdateKeys {
        #[command(flatten)]
        file: FileArgs,
        #[command(flatten)]
        keys: KeyArgs,
        #[command(flatten)]
        recipe: RecipeArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// The file
    file: PathBuf,
    /// Write the file instead of printing the result
    #[arg(short, long)]
    in_place: bool,
}

/// For whom, and what.
#[derive(Debug, Args)]
pub(crate) struct RecipeArgs {
    /// A public key (age1…, or ssh-ed25519 …) instead of the rules in .sops.yaml; may be repeated
    #[arg(long, value_name = "KEY")]
    age: Vec<String>,
    /// Encrypt only values below keys that match, as '^(data|stringData)$'
    #[arg(long, value_name = "REGEX", requires = "age")]
    encrypted_regex: Option<String>,
    /// The rules; else .sops.yaml in the file's folder, or the nearest one above
    #[arg(long, value_name = "FILE", conflicts_with = "age")]
    config: Option<PathBuf>,
}

/// Where the secret keys are.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    /// File with age keys; else those of $SOPS_AGE_KEY_FILE, $SOPS_AGE_KEY and ~/.config/sops/age/keys.txt
    #[arg(long, value_name = "FILE")]
    age_key_file: Option<PathBuf>,
}

pub(crate) fn run(context: &Context, command: SopsCommand) -> Result<Code, Error> {
    match command {
        SopsCommand::Encrypt { file, recipe } => change(&file, |text, format| {
            let recipe = recipe.of(&file.file)?;
            encrypted(&file.file, flotilla_sops::encrypt(text, format, &recipe, &now(), &mut random))
        })?,
        SopsCommand::Decrypt { file, keys } => {
            let keys = keys.read()?;
            change(&file, |text, format| {
                let clear = flotilla_sops::decrypt(text, format, format, &keys, Mac::Verified);
                clear.map_err(|error| failed("decrypt", &file.file, error))
            })?;
        }
        SopsCommand::Edit { file, keys, recipe } => edit(context, &file, &keys, &recipe)?,
        SopsCommand::Rotate { file, keys } => {
            let keys = keys.read()?;
            change(&file, |text, format| {
                encrypted(&file.file, flotilla_sops::rotate(text, format, &keys, &now(), &mut random))
            })?;
        }
        SopsCommand::UpdateKeys { file, keys, recipe } => {
            let keys = keys.read()?;
            change(&file, |text, format| {
                let recipe = recipe.of(&file.file)?;
                encrypted(&file.file, flotilla_sops::update_keys(text, format, &keys, &recipe, &mut random))
            })?;
        }
    }
    Ok(Code::Done)
}

fn encrypted(path: &Path, result: Result<Vec<u8>, flotilla_sops::SopsError>) -> Result<Vec<u8>, Error> {
    result.map_err(|error| failed("encrypt", path, error))
}

fn failed(what: &str, path: &Path, error: flotilla_sops::SopsError) -> Error {
    Error::new(Code::Local, format!("cannot {what} {}", path.display())).because(error)
}

fn random(bytes: &mut [u8]) {
    SystemRandom::new().fill(bytes).expect("the system gives random bytes");
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Makes something else of a file, which is written or printed.
fn change(file: &FileArgs, make: impl FnOnce(&[u8], Format) -> Result<Vec<u8>, Error>) -> Result<(), Error> {
    let FileArgs { file: path, in_place } = file;
    let made = make(&read(path)?, format_of(path))?;
    if *in_place {
        return write(path, &made);
    }
    std::io::stdout().write_all(&made).map_err(|error| Error::io("print the result", error))
}

fn format_of(path: &Path) -> Format {
    Format::of_path(&path.to_string_lossy())
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let bad = |error| Error::io(format!("read {}", path.display()), error);
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(bad)?;
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(bad)?;
    if bytes.len() as u64 > MOST_BYTES {
        let message =
            format!("{} has more than {MOST_BYTES} bytes, the most that is encrypted", path.display());
        return Err(Error::new(Code::Local, message));
    }
    Ok(bytes)
}

/// Puts a file in the place of another one at once, with its mode.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let bad = |error| Error::io(format!("write {}", path.display()), error);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(bad)?;
    file.write_all(bytes).map_err(bad)?;
    if let Ok(old) = std::fs::metadata(path) {
        file.as_file().set_permissions(old.permissions()).map_err(bad)?;
    }
    file.as_file().sync_all().map_err(bad)?;
    file.persist(path).map(drop).map_err(|error| bad(error.error))
}

fn edit(context: &Context, path: &Path, keys: &KeyArgs, recipe: &RecipeArgs) -> Result<(), Error> {
    let format = format_of(path);
    let before = if path.exists() { Some(read(path)?) } else { None };
    let keys = if before.is_some() { keys.read()? } else { Keys::default() };
    let clear = match &before {
        Some(before) => flotilla_sops::decrypt(before, format, format, &keys, Mac::Verified)
            .map_err(|error| failed("decrypt", path, error))?,
        None => Vec::new(),
    };
    // A folder that nobody else can look into, gone again in the end.
    let folder = tempfile::tempdir().map_err(|error| Error::io("make a folder for the clear file", error))?;
    let name = path.file_name().ok_or_else(|| Error::usage(format!("{} names no file", path.display())))?;
    let open = folder.path().join(name);
    std::fs::write(&open, &clear).map_err(|error| Error::io(format!("write {}", open.display()), error))?;
    let editor = ["SOPS_EDITOR", "VISUAL", "EDITOR"].into_iter().find_map(|name| std::env::var(name).ok());
    let editor = editor.filter(|editor| !editor.trim().is_empty()).unwrap_or_else(|| "vi".to_owned());
    let mut words = editor.split_whitespace();
    let program = words.next().unwrap_or("vi");
    let ended = Command::new(program).args(words).arg(&open).status();
    let ended = ended.map_err(|error| Error::io(format!("run the editor '{editor}'"), error))?;
    if !ended.success() {
        return Err(Error::new(
            Code::Local,
            format!("the editor '{editor}' failed ({ended}); nothing was changed"),
        ));
    }
    let after = read(&open)?;
    if after == clear {
        context.terminal.note(&format!("{} did not change", path.display()));
        return Ok(());
    }
    let made = match &before {
        Some(before) => flotilla_sops::edit(before, &after, format, &keys, &now(), &mut random),
        None => flotilla_sops::encrypt(&after, format, &recipe.of(path)?, &now(), &mut random),
    };
    write(path, &encrypted(path, made)?)
}

impl RecipeArgs {
    /// For a file.
    fn of(&self, path: &Path) -> Result<Recipe, Error> {
        if self.age.is_empty() {
            return config::recipe(path, self.config.as_deref());
        }
        let keys = self
            .age
            .iter()
            .flat_map(|keys| keys.split(','))
            .map(|key| Recipient::parse(key).map_err(|error| Error::usage(format!("--age: {error}"))));
        let rule = self.encrypted_regex.clone().map(|text| ("encrypted_regex".to_owned(), text));
        Ok(Recipe { groups: vec![keys.collect::<Result<_, _>>()?], rule, ..Recipe::default() })
    }
}

impl KeyArgs {
    fn read(&self) -> Result<Keys, Error> {
        let mut keys = Keys::default();
        let mut add = |from: &str, text: &str| {
            let added = keys.add_age(text);
            added.map_err(|error| {
                Error::new(Code::Local, format!("cannot take the age keys of {from}: {error}"))
            })
        };
        let text = |path: &Path| {
            std::fs::read_to_string(path)
                .map_err(|error| Error::io(format!("read {}", path.display()), error))
        };
        if let Some(path) = &self.age_key_file {
            add(&path.display().to_string(), &text(path)?)?;
            return Ok(keys);
        }
        if let Ok(path) = std::env::var("SOPS_AGE_KEY_FILE") {
            add(&path, &text(Path::new(&path))?)?;
        }
        if let Ok(key) = std::env::var("SOPS_AGE_KEY") {
            add("$SOPS_AGE_KEY", &key)?;
        }
        let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
        let config = config.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".config")));
        let path = config.map(|config| config.join("sops/age/keys.txt"));
        if let Some(path) = path.filter(|path| path.exists()) {
            add(&path.display().to_string(), &text(&path)?)?;
        }
        if keys.is_empty() {
            return Err(Error::usage("there is no age key")
                .hint("name a file with one by --age-key-file, or in $SOPS_AGE_KEY_FILE"));
        }
        Ok(keys)
    }
}
