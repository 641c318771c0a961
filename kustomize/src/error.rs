//! Why a build failed, and what it needs from outside.
//!
//! Inside the crate an error carries a [`Pos`], whose `source` is the number of the file in the build's list of
//! files; the path is put in where the error leaves the crate.

use std::fmt;

use flotilla_yaml::Pos;

use crate::files::{ReadError, TreePath};
use crate::request::Request;

/// Why a build failed: where, and in the words that users of kustomize know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The file that has to be changed, as far as it is known.
    pub file: Option<TreePath>,
    /// Line in the file, from 1; 0 where it is not known.
    pub line: u32,
    /// Column in the line, from 1; 0 where it is not known.
    pub column: u32,
    /// The field of the kustomization or object, as `patches[2].path`.
    pub field: Option<String>,
    /// What went wrong.
    pub message: String,
    /// What to do about it, where that is not plain from the message.
    pub hint: Option<String>,
}

impl Error {
    /// The message with the hint.
    pub fn explained(&self) -> String {
        let message = self.message.trim_end();
        self.hint.as_ref().map_or_else(|| message.to_owned(), |hint| format!("{message}; {hint}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}:")?;
            for number in [self.line, self.column].into_iter().take_while(|n| *n > 0) {
                write!(f, "{number}:")?;
            }
            f.write_str(" ")?;
        }
        if let Some(field) = &self.field {
            write!(f, "{field}: ")?;
        }
        f.write_str(&self.explained())
    }
}

impl std::error::Error for Error {}

/// How a build ended without documents.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The input is wrong.
    #[error(transparent)]
    Failed(#[from] Error),
    /// The build refers to something outside the tree: fetch it and build again with the answers.
    #[error("the build needs {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Needs(Vec<Request>),
}

/// An error on its way out.
#[derive(Debug, Clone)]
pub(crate) struct Fail {
    pub(crate) pos: Pos,
    pub(crate) field: Option<String>,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    /// Another place that has to do with it, after some words.
    pub(crate) other: Option<(&'static str, Pos)>,
}

pub(crate) type Res<T> = Result<T, Fail>;

impl Fail {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { pos: Pos::default(), field: None, message: message.into(), hint: None, other: None }
    }

    /// The place, unless a closer one is known.
    pub(crate) fn at(mut self, pos: Pos) -> Self {
        if self.pos.source == 0 {
            self.pos = pos;
        }
        self
    }

    /// The field, unless a closer one is known.
    pub(crate) fn field(mut self, field: impl Into<String>) -> Self {
        if self.field.is_none() {
            self.field = Some(field.into());
        }
        self
    }

    /// Words in front of the message, as kustomize wraps errors.
    pub(crate) fn context(mut self, words: impl fmt::Display) -> Self {
        self.message = format!("{words}: {}", self.message);
        self
    }

    /// What to do, unless a closer place has said so.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Another place that the hint ends with, after these words.
    pub(crate) fn see(mut self, words: &'static str, pos: Pos) -> Self {
        self.other = Some((words, pos));
        self
    }

    /// `shown` is how people know a path of the tree (see [`Files::shown`](crate::files::Files::shown)).
    pub(crate) fn into_error(self, sources: &[TreePath], shown: &dyn Fn(&TreePath) -> String) -> Error {
        let file_of = |pos: Pos| (pos.source as usize).checked_sub(1).and_then(|n| sources.get(n)).cloned();
        let file = file_of(self.pos);
        let (line, column) = if file.is_some() { (self.pos.line, self.pos.column) } else { (0, 0) };
        let other = self.other.and_then(|(words, pos)| {
            let file = file_of(pos)?;
            Some(format!("{words} {}:{}", shown(&file), pos.line))
        });
        let hint = [self.hint, other].into_iter().flatten().reduce(|hint, other| format!("{hint}; {other}"));
        Error { file, line, column, field: self.field, message: self.message, hint }
    }
}

impl From<ReadError> for Fail {
    fn from(error: ReadError) -> Self {
        Fail::new(error.to_string())
    }
}

/// `Err` with a formatted message.
macro_rules! fail {
    ($($arg:tt)*) => { Err($crate::error::Fail::new(format!($($arg)*))) };
}
pub(crate) use fail;
