//! What people and scripts see: data on stdout in the form they asked for, everything else on stderr.

mod style;
mod table;
mod time;

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

use crate::args::{Color, Format};
use crate::env;
use crate::error::Error;
use crate::exit::Code;

pub(crate) use style::{Tone, clean, paint, visible};
pub(crate) use table::{Cell, Table};
pub(crate) use time::{age, date, now, span};

/// Where output goes and what it can show.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terminal {
    /// stdout shows colours.
    pub(crate) color: bool,
    /// stdout is read by a person.
    pub(crate) interactive: bool,
    error_color: bool,
}

impl Terminal {
    pub(crate) fn of_process(color: Color) -> Self {
        let interactive = io::stdout().is_terminal();
        let wanted = |terminal: bool| match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && env::system(env::NO_COLOR).is_none(),
        };
        Self { color: wanted(interactive), interactive, error_color: wanted(io::stderr().is_terminal()) }
    }

    /// Data, to stdout.
    pub(crate) fn print(&self, text: &str) -> Result<(), Error> {
        let text = if self.interactive { &style::harmless(text) } else { text };
        let mut stdout = io::stdout().lock();
        stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush())
            .map_err(|error| Error::io("write the output", error))
    }

    /// What was done, or is going on.
    pub(crate) fn note(&self, text: &str) {
        self.say("", None, text);
    }

    pub(crate) fn warn(&self, text: &str) {
        self.say("warning: ", Some(Tone::Warn), text);
    }

    pub(crate) fn error(&self, text: &str) {
        self.say("error: ", Some(Tone::Bad), text);
    }

    pub(crate) fn hint(&self, text: &str) {
        self.say("hint: ", Some(Tone::Note), text);
    }

    fn say(&self, label: &str, tone: Option<Tone>, text: &str) {
        let label = style::paint(label, tone.filter(|_| self.error_color));
        let text: Vec<String> = text.lines().map(style::clean).collect();
        // Nobody is left to tell.
        let _ = writeln!(io::stderr().lock(), "{label}{}", text.join("\n"));
    }

    /// Data for scripts in their form, for people as `human` makes it.
    pub(crate) fn show<T: Serialize>(
        &self,
        format: Format,
        data: &T,
        human: impl FnOnce(bool) -> String,
    ) -> Result<(), Error> {
        let text = match format {
            Format::Table => human(false),
            Format::Wide => human(true),
            Format::Json | Format::Yaml => document(format, data)?,
        };
        self.print(&text)
    }
}

/// Data as one document, JSON or YAML.
pub(crate) fn document<T: Serialize>(format: Format, data: &T) -> Result<String, Error> {
    let failed =
        |e: serde_json::Error| Error::new(Code::HubFailed, "cannot write the answer as JSON").because(e);
    if format == Format::Yaml {
        let value = serde_json::to_value(data).map_err(failed)?;
        return Ok(flotilla_yaml::write(&flotilla_yaml::Node::from_json(&value)));
    }
    let mut text = serde_json::to_string_pretty(data).map_err(failed)?;
    text.push('\n');
    Ok(text)
}

/// Data as one of several documents that follow each other: a line of JSON, or YAML behind `---`.
pub(crate) fn part<T: Serialize>(format: Format, data: &T) -> Result<String, Error> {
    if format == Format::Yaml {
        return Ok(format!("---\n{}", document(format, data)?));
    }
    let line = serde_json::to_string(data)
        .map_err(|e| Error::new(Code::HubFailed, "cannot write the answer as JSON").because(e))?;
    Ok(line + "\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_stand_alone_and_parts_follow_each_other() {
        let data = json!({"b": [1, "two"], "a": {"on": "yes"}});
        assert_eq!(
            document(Format::Json, &data).unwrap(),
            "{\n  \"a\": {\n    \"on\": \"yes\"\n  },\n  \"b\": [\n    1,\n    \"two\"\n  ]\n}\n"
        );
        assert_eq!(document(Format::Yaml, &data).unwrap(), "a:\n  \"on\": \"yes\"\nb:\n- 1\n- two\n");
        assert_eq!(part(Format::Json, &data).unwrap(), "{\"a\":{\"on\":\"yes\"},\"b\":[1,\"two\"]}\n");
        assert_eq!(part(Format::Yaml, &json!({"x": 1})).unwrap(), "---\nx: 1\n");
    }
}
