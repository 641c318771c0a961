//! A line for each step, with the time it took; on a terminal it moves while the step goes on.

use std::future::Future;
use std::io::{IsTerminal, Write};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

const FRAMES: [char; 4] = ['|', '/', '-', '\\'];
const FRAME: Duration = Duration::from_millis(120);
/// How often a log that is no terminal hears of a step that goes on.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// What a step says of itself while it goes on. Clones write to the same line.
#[derive(Debug, Clone, Default)]
pub(super) struct Note(Arc<Mutex<String>>);

impl Note {
    pub(super) fn set(&self, text: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    fn get(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The steps so far.
#[derive(Debug)]
pub(super) struct Steps {
    terminal: bool,
    done: usize,
}

impl Steps {
    pub(super) fn new() -> Self {
        Self { terminal: std::io::stdout().is_terminal(), done: 0 }
    }

    /// How many steps ended well.
    pub(super) fn done(&self) -> usize {
        self.done
    }

    /// Does one step and prints how it went.
    pub(super) async fn run<T>(&mut self, what: &str, step: impl Future<Output = Result<T>>) -> Result<T> {
        self.run_noted(what, &Note::default(), step).await
    }

    /// As [`Steps::run`], for a step that says what it is at.
    pub(super) async fn run_noted<T>(
        &mut self,
        what: &str,
        note: &Note,
        step: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let start = Instant::now();
        let mut step = pin!(step);
        let mut ticks = tokio::time::interval(if self.terminal { FRAME } else { SIGN_OF_LIFE });
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut frames = FRAMES.iter().cycle();
        // The first tick comes at once.
        let mut first = true;
        let outcome = loop {
            tokio::select! {
                outcome = &mut step => break outcome,
                _ = ticks.tick() => {
                    if self.terminal || !first {
                        self.going_on(*frames.next().unwrap_or(&' '), what, &note.get(), start.elapsed());
                    }
                    first = false;
                }
            }
        };
        self.line(if outcome.is_ok() { "ok" } else { "FAILED" }, what, start.elapsed());
        self.done += usize::from(outcome.is_ok());
        outcome.with_context(|| what.to_owned())
    }

    /// Leaves the line of a step that will not end.
    pub(super) fn interrupted(&self) {
        if self.terminal {
            self.print("\r\x1b[K");
        }
        self.print("interrupted, cleaning up\n");
    }

    fn going_on(&self, frame: char, what: &str, note: &str, took: Duration) {
        let note = if note.is_empty() { String::new() } else { format!(": {note}") };
        let seconds = took.as_secs();
        if self.terminal {
            self.print(&format!("\r\x1b[K   {frame}    {what}{note}  {seconds} s"));
        } else {
            self.print(&format!("   ...  {what}{note}  {seconds} s\n"));
        }
    }

    fn line(&self, mark: &str, what: &str, took: Duration) {
        let back = if self.terminal { "\r\x1b[K" } else { "" };
        self.print(&format!("{back}{mark:>6}  {what:<66} {:>7.2} s\n", took.as_secs_f64()));
    }

    fn print(&self, text: &str) {
        let mut stdout = std::io::stdout().lock();
        // Whoever listened has gone; the demo's exit code says the rest.
        let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    }
}
