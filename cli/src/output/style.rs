//! Colours by meaning, and text from elsewhere made safe for a terminal.

use anstyle::{AnsiColor, Style};
use flotilla_runtime::telemetry::turns_text;

/// What a colour says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Warn,
    Bad,
    Note,
    Faint,
    Strong,
}

impl Tone {
    fn style(self) -> Style {
        match self {
            Self::Good => AnsiColor::Green.on_default(),
            Self::Warn => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default(),
            Self::Note => AnsiColor::Cyan.on_default(),
            Self::Faint => Style::new().dimmed(),
            Self::Strong => Style::new().bold(),
        }
    }
}

/// The text in a tone, or plain.
pub(crate) fn paint(text: &str, tone: Option<Tone>) -> String {
    match tone {
        Some(tone) if !text.is_empty() => {
            let style = tone.style();
            format!("{style}{text}{style:#}")
        }
        _ => text.to_owned(),
    }
}

/// One line without control characters and those that turn the direction of text: what clusters and Git say must not drive somebody's terminal.
pub(crate) fn clean(text: &str) -> String {
    visible(&text.trim_end().replace(['\n', '\t'], " "))
}

/// As [`clean`], with all white space as it is.
pub(crate) fn visible(text: &str) -> String {
    text.chars()
        .map(|c| if c != '\t' && (c.is_control() || turns_text(c)) { '\u{fffd}' } else { c })
        .collect()
}

/// What is printed on a terminal, colours and all, without what drives it otherwise: JSON and YAML write some characters as they are.
pub(crate) fn harmless(text: &str) -> String {
    let drives = |c: char| matches!(c, '\u{7f}'..='\u{9f}') || turns_text(c);
    text.chars().map(|c| if drives(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_do_not_get_through() {
        assert_eq!(clean("a\nb\tc\x1b[31md\r\u{9b}"), "a b c\u{fffd}[31md\u{fffd}\u{fffd}");
        assert_eq!(clean("image: \u{202e}1.v\u{2066}\u{200f}"), "image: \u{fffd}1.v\u{fffd}\u{fffd}");
        let painted = paint("x", Some(Tone::Bad));
        assert_eq!(
            harmless(&format!("{painted}\n\t\u{9b}31m\u{202e}")),
            format!("{painted}\n\t\u{fffd}31m\u{fffd}")
        );
        assert_eq!(paint("x", Some(Tone::Bad)), "\u{1b}[31mx\u{1b}[0m");
        assert_eq!(paint("x", None), "x");
        assert_eq!(paint("", Some(Tone::Bad)), "");
    }
}
