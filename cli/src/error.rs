//! What can go wrong, with the exit code it leads to and what to do about it.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use crate::exit::Code;
use crate::output::Terminal;

type Source = Box<dyn StdError + Send + Sync>;

/// Why a command did not work. The message says what was attempted, on what; the reason is its source.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Error {
    code: Code,
    message: String,
    hint: Option<String>,
    source: Option<Source>,
}

impl Error {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, source: None }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message)
    }

    /// A file or stream of this machine.
    pub(crate) fn io(attempt: impl fmt::Display, source: io::Error) -> Self {
        let code = if source.kind() == io::ErrorKind::BrokenPipe { Code::OutputClosed } else { Code::Local };
        Self::new(code, format!("cannot {attempt}")).because(source)
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A hint beside the one that there is.
    pub(crate) fn or_hint(self, other: &str) -> Self {
        let hint = self.hint.as_ref().map_or_else(|| other.to_owned(), |hint| format!("{hint}; {other}"));
        self.hint(hint)
    }

    pub(crate) fn because(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    pub(crate) fn code(&self) -> Code {
        self.code
    }

    /// The message with its reasons, each said once.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut reason = self.source();
        while let Some(error) = reason {
            let said = error.to_string();
            // Some libraries repeat their source in their own message.
            if !text.ends_with(&said) {
                text = format!("{text}: {said}");
            }
            reason = error.source();
        }
        text
    }

    /// To stderr, with the hint.
    pub(crate) fn show(&self, terminal: &Terminal) {
        // Nobody is left to tell.
        if self.code == Code::OutputClosed {
            return;
        }
        terminal.error(&self.chain());
        if let Some(hint) = &self.hint {
            terminal.hint(hint);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_says_each_reason_once() {
        let inner = io::Error::other("disk on fire");
        let outer = io::Error::other(format!("flush: {inner}"));
        let error = Error::new(Code::Local, "cannot write x").because(outer);
        assert_eq!(error.chain(), "cannot write x: flush: disk on fire");
        let error = Error::io("read y", io::Error::from(io::ErrorKind::NotFound));
        assert_eq!((error.chain().as_str(), error.code()), ("cannot read y: entity not found", Code::Local));
        let closed = Error::io("write", io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(closed.code(), Code::OutputClosed);
    }
}
