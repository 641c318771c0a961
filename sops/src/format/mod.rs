//! The formats of encrypted files: from text to the tree of values and back.

mod dotenv;
pub(crate) mod flat;
mod ini;
mod json;
pub(crate) mod yaml;

use crate::error::SopsError;
use crate::tree::{File, Item, Value};

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Yaml,
    Json,
    Dotenv,
    Ini,
    /// Anything: it is one value of a JSON file.
    Binary,
}

impl Format {
    /// By the end of a file's name, as `sops` tells it.
    pub fn of_path(path: &str) -> Self {
        let end = |ends: &[&str]| ends.iter().any(|end| path.ends_with(end));
        match path {
            _ if end(&[".yaml", ".yml"]) => Self::Yaml,
            _ if end(&[".json"]) => Self::Json,
            _ if end(&[".env"]) => Self::Dotenv,
            _ if end(&[".ini"]) => Self::Ini,
            _ => Self::Binary,
        }
    }

    /// As messages name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Yaml => "YAML",
            Self::Json => "JSON",
            Self::Dotenv => "dotenv",
            Self::Ini => "INI",
            Self::Binary => "SOPS' form of a binary file",
        }
    }
}

/// The format of an encrypted text, by marks that its metadata has; `None`: it is not encrypted. As Flux tells it of the
/// values of Secrets.
pub fn marks_of(text: &[u8]) -> Option<Format> {
    let has = |mark: &str| text.windows(mark.len()).any(|part| part == mark.as_bytes());
    if has("\"mac\": \"ENC[") {
        // Either is a JSON file; of a binary one the only value is `data`.
        return Some(Format::Binary);
    }
    [("sops_mac=ENC[", Format::Dotenv), ("mac: ENC[", Format::Yaml)]
        .into_iter()
        .find_map(|(mark, format)| has(mark).then_some(format))
        .or_else(|| (has("[sops]") && has("ENC[")).then_some(Format::Ini))
}

pub(crate) fn read(text: &[u8], format: Format) -> Result<File, SopsError> {
    let syntax = |message: String| SopsError::Syntax { format: format.name(), message };
    let text = std::str::from_utf8(text).map_err(|error| syntax(error.to_string()))?;
    match format {
        Format::Yaml => yaml::read(text),
        Format::Json | Format::Binary => json::read(text).map_err(syntax),
        Format::Dotenv => dotenv::read(text).map_err(syntax),
        Format::Ini => ini::read(text).map_err(syntax),
    }
}

/// Reads a file that is not encrypted.
pub(crate) fn read_clear(text: &[u8], format: Format) -> Result<File, SopsError> {
    if format != Format::Binary {
        return read(text, format);
    }
    let data = match std::str::from_utf8(text) {
        Ok(text) => Value::Text(text.to_owned()),
        Err(_) => Value::Bytes(text.to_vec()),
    };
    Ok(File(vec![vec![Item::Entry("data".to_owned(), data)]]))
}

pub(crate) fn write(file: &File, format: Format) -> Result<Vec<u8>, SopsError> {
    let unwritable = |message: String| SopsError::Unwritable { format: format.name(), message };
    Ok(match format {
        Format::Yaml => yaml::write(file).into_bytes(),
        Format::Json => json::write(file).map_err(unwritable)?.into_bytes(),
        Format::Dotenv => dotenv::write(file).map_err(unwritable)?.into_bytes(),
        Format::Ini => ini::write(file).map_err(unwritable)?.into_bytes(),
        Format::Binary => binary(file).map_err(unwritable)?,
    })
}

/// The one value of a binary file.
fn binary(file: &File) -> Result<Vec<u8>, String> {
    let mut items = file.0.iter().flatten();
    let data = items.find_map(|item| match item {
        Item::Entry(key, Value::Text(text)) if key == "data" => Some(text.clone().into_bytes()),
        Item::Entry(key, Value::Bytes(bytes)) if key == "data" => Some(bytes.clone()),
        _ => None,
    });
    data.ok_or_else(|| "it has no text under `data`".to_owned())
}
