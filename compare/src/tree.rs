//! A folder of files with the kustomization to build, as something that can be made, written, read and taken apart.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use flotilla_kustomize::files::MemoryFiles;

use crate::random::rng::Rng;
use crate::random::value::{Style, Value, documents};

/// The files by path, `/`-separated and relative, and the folder that is built.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tree {
    pub files: BTreeMap<String, Content>,
    pub root: String,
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// YAML documents. With a seed they are written in a random mixture of YAML's styles, else plainly.
    Documents {
        documents: Vec<Value>,
        style: Option<u64>,
    },
    Bytes(Vec<u8>),
}

impl Content {
    /// A file of JSON, which is YAML in flow style with quotes everywhere.
    pub fn json(value: &Value) -> Self {
        Self::Bytes(format!("{}\n", value.to_json()).into_bytes())
    }

    /// The file's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes.clone(),
            Self::Documents { documents: all, style } => {
                let mut style = style.map_or(Style::Plain, |seed| Style::Mixed(Box::new(Rng::new(seed))));
                documents(all, &mut style).into_bytes()
            }
        }
    }
}

impl Tree {
    /// Reads a folder as it stands; `root` is relative to it.
    ///
    /// # Errors
    /// If a file or folder cannot be read.
    pub fn read(folder: &Path, root: &str) -> Result<Self> {
        let mut tree = Self { files: BTreeMap::new(), root: root.to_owned() };
        read_below(folder, "", &mut tree.files)?;
        Ok(tree)
    }

    /// Writes the files below a folder.
    ///
    /// # Errors
    /// If a file or folder cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        for (path, content) in &self.files {
            let path = folder.join(path);
            let parent = path.parent().unwrap_or(folder);
            fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
            fs::write(&path, content.bytes()).with_context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }

    /// Whether a chart is in the tree, which has to be rendered.
    pub fn has_charts(&self) -> bool {
        self.files.keys().any(|path| path.ends_with("/Chart.yaml"))
    }

    /// The tree as our build reads it.
    pub fn to_memory(&self) -> MemoryFiles {
        MemoryFiles::new(self.files.iter().map(|(path, content)| (path.as_str(), content.bytes())))
    }

    /// All files as one text, each under its path: to read, and to compare generations of a seed.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (path, content) in &self.files {
            text += &format!("# ---- {path}\n{}", String::from_utf8_lossy(&content.bytes()));
        }
        text
    }
}

fn read_below(folder: &Path, at: &str, files: &mut BTreeMap<String, Content>) -> Result<()> {
    let list = || format!("list {}", folder.display());
    for entry in fs::read_dir(folder).with_context(list)? {
        let entry = entry.with_context(list)?;
        let path = entry.path();
        let name = format!("{at}{}", entry.file_name().to_string_lossy());
        if path.is_dir() {
            read_below(&path, &format!("{name}/"), files)?;
        } else {
            let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            files.insert(name, Content::Bytes(bytes));
        }
    }
    Ok(())
}
