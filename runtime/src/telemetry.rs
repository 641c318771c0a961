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
        LogFormat::Text => {
            fmt::layer().with_writer(writer).log_internal_errors(false).with_ansi(colour).boxed()
        }
        LogFormat::Json => {
            fmt::layer().with_writer(writer).log_internal_errors(false).json().flatten_event(true).boxed()
        }
    }
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

    fn logged(format: LogFormat, filter: &str) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer =
            layer(format, move || writer.clone(), false).with_filter(filter.parse::<LogFilter>().unwrap().0);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!(cluster = "staging", "connected");
            tracing::debug!("details");
        });
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn text_and_json_carry_the_fields_and_respect_the_level() {
        let text = logged(LogFormat::Text, "info");
        assert!(text.contains("connected") && text.contains("cluster=\"staging\""), "{text}");
        assert!(!text.contains("details") && !text.contains('\x1b'), "{text}");

        let json = logged(LogFormat::Json, "warn,flotilla_runtime=debug");
        let events: Vec<serde_json::Value> =
            json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(events.len(), 2);
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
