//! Logs: structured events to stderr, as text or as one JSON object a line.

use std::io::{self, IsTerminal};
use std::str::FromStr;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// How events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people; coloured on a terminal.
    #[default]
    Text,
    /// For collectors: one object a line with timestamp, level, target, message and fields.
    Json,
}

/// Options on logging, for a binary to flatten into its own.
#[derive(Clone, Debug, clap::Args)]
pub struct LogArgs {
    /// Level (error, warn, info, debug, trace), or levels by module: info,flotilla_hub=debug
    #[arg(long, env = "FLOTILLA_LOG", default_value = "info", value_name = "LEVEL", global = true,
          value_parser = LogFilter::from_str)]
    pub log_level: LogFilter,
    /// How to write log lines
    #[arg(long, env = "FLOTILLA_LOG_FORMAT", default_value = "text", global = true)]
    pub log_format: LogFormat,
}

/// Which events are written.
#[derive(Clone, Debug)]
pub struct LogFilter(Targets);

/// A log level that does not parse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("use error, warn, info, debug, trace or off, also by module as in info,flotilla_hub=debug")]
pub struct LogFilterError;

impl FromStr for LogFilter {
    type Err = LogFilterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The parser takes an unknown level for the name of a module and logs all of it.
        let level_of = |part: &str| part.rsplit('=').next().unwrap_or(part).parse::<LevelFilter>();
        if text.split(',').any(|part| level_of(part).is_err()) {
            return Err(LogFilterError);
        }
        text.parse().map(Self).map_err(|_| LogFilterError)
    }
}

/// Logging is set up already.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up logging")]
pub struct TelemetryError(#[source] TryInitError);

/// Sends the process's events to stderr. Once per process, first thing in `main`.
pub fn init(args: &LogArgs) -> Result<(), TelemetryError> {
    let layer = layer(args.log_format, io::stderr, io::stderr().is_terminal());
    tracing_subscriber::registry()
        .with(layer.with_filter(args.log_level.0.clone()))
        .try_init()
        .map_err(TelemetryError)?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// A panic as an event like others, with its place: who catches it goes on.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let said = crate::tasks::panic_message(panic.payload());
    tracing::error!(thread = thread.name().unwrap_or_default(), place, "panicked: {said}");
}

fn layer<W>(format: LogFormat, writer: W, colour: bool) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'a> fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    match format {
        LogFormat::Text => fmt::layer()
            .with_writer(OneLine { writer, colour })
            .log_internal_errors(false)
            .with_ansi(colour)
            .boxed(),
        LogFormat::Json => {
            fmt::layer().with_writer(writer).log_internal_errors(false).json().flatten_event(true).boxed()
        }
    }
}

/// Keeps each event on its line, and terminals as they are: what Git, a server or an agent said must not look like an event of its
/// own.
struct OneLine<M> {
    writer: M,
    /// Changes of colour are let through.
    colour: bool,
}

impl<'a, M: fmt::MakeWriter<'a>> fmt::MakeWriter<'a> for OneLine<M> {
    type Writer = OneLine<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        OneLine { writer: self.writer.make_writer(), colour: self.colour }
    }
}

impl<W: io::Write> io::Write for OneLine<W> {
    /// Takes one event.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let (mut rest, end) = text.strip_suffix('\n').map_or((&*text, ""), |text| (text, "\n"));
        let mut line = String::with_capacity(event.len());
        while let Some(c) = rest.chars().next() {
            let colour = if self.colour { colour_at_start(rest) } else { 0 };
            let taken = colour.max(c.len_utf8());
            match c {
                _ if colour > 0 => line.push_str(&rest[..taken]),
                c if c != '\t' && (c.is_control() || turns_text(c)) => line.extend(c.escape_default()),
                c => line.push(c),
            }
            rest = &rest[taken..];
        }
        self.writer.write_all((line + end).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// How many bytes a change of colour at the start has: `ESC [ 1 ; 31 m`.
fn colour_at_start(text: &str) -> usize {
    let Some(rest) = text.strip_prefix("\x1b[") else { return 0 };
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != ';');
    end.filter(|end| rest[*end..].starts_with('m')).map_or(0, |end| end + 3)
}

/// Whether a character changes the direction of the text that follows, by which a line can be shown as another one: those that embed,
/// override and isolate, and the marks (Unicode Standard Annex 9).
pub fn turns_text(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, filter: &str, colour: bool) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer =
            layer(format, move || writer.clone(), colour).with_filter(filter.parse::<LogFilter>().unwrap().0);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!(cluster = "staging", "connected");
            tracing::debug!("details");
            let said = "no such branch\n2026-12-03T00:00:00Z  INFO all is well\r\u{202e}\x1b[2J\u{9b}2J";
            tracing::warn!(why = %said, "cannot fetch: {said}");
        });
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn text_and_json_carry_the_fields_and_respect_the_level() {
        let text = logged(LogFormat::Text, "info", false);
        assert!(text.contains("connected") && text.contains("cluster=\"staging\""), "{text}");
        assert!(!text.contains("details") && !text.contains('\x1b'), "{text}");
        assert_eq!(text.lines().count(), 2, "{text}");
        assert_eq!(
            text.matches("no such branch\\n2026-12-03T00:00:00Z  INFO all is well\\r\\u{202e}").count(),
            2,
            "{text}"
        );

        let json = logged(LogFormat::Json, "warn,flotilla_runtime=debug", false);
        let events: Vec<serde_json::Value> =
            json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(events.len(), 3);
        assert_eq!((&events[0]["message"], &events[0]["cluster"]), (&"connected".into(), &"staging".into()));
    }

    #[test]
    fn a_bad_level_is_refused_with_what_is_right() {
        #[derive(Parser, Debug)]
        struct Binary {
            #[command(flatten)]
            log: LogArgs,
        }
        let error = Binary::try_parse_from(["flotilla-hub", "--log-level", "loud"]).unwrap_err().to_string();
        assert!(error.contains("--log-level") && error.contains("use error, warn, info"), "{error}");
        let binary =
            Binary::try_parse_from(["flotilla-hub", "--log-level", "debug", "--log-format", "json"]).unwrap();
        assert_eq!(binary.log.log_format, LogFormat::Json);
    }
}
