//! A program that answers a line of JSON with a line of JSON, for as long as it is asked.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result};
use serde_json::Value;

/// A running program; it ends when this is dropped.
#[derive(Debug)]
pub struct Answering {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Answering {
    /// # Errors
    /// If the program cannot be started.
    pub fn start(program: &Path, arguments: &[&str]) -> Result<Self> {
        let mut child = Command::new(program)
            .args(arguments)
            // It lives for thousands of questions: less collecting is worth some memory here.
            .env("GOGC", "400")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let stdin = child.stdin.take().context("the program has no stdin")?;
        let stdout = BufReader::new(child.stdout.take().context("the program has no stdout")?);
        Ok(Self { child, stdin, stdout })
    }

    /// The line that answers a question; `None` if the program crashed over it.
    pub fn ask(&mut self, question: &Value) -> Option<String> {
        let line = format!("{question}\n");
        self.stdin.write_all(line.as_bytes()).and_then(|()| self.stdin.flush()).ok()?;
        let mut answer = String::new();
        let length = self.stdout.read_line(&mut answer).ok()?;
        (length > 0).then_some(answer)
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        // It may be gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
