//! The reference of the command line, `docs/cli-reference.md`, made from the definition that parses it.

use std::fmt::Write as _;

use clap::{Command, CommandFactory as _};

use crate::args::Cli;

/// The whole reference as Markdown.
fn markdown() -> String {
    let mut root = Cli::command().term_width(100).color(clap::ColorChoice::Never);
    root.build();
    let mut out = String::from(
        "# Reference of `flotilla`\n\nMade from the program's own help by `UPDATE=1 cargo test -p flotilla-cli \
         reference`; [cli.md](cli.md) explains it.\n",
    );
    section(&mut root, "", &mut out);
    out
}

fn section(command: &mut Command, above: &str, out: &mut String) {
    let name = format!("{above}{}", command.get_name());
    let help = command.render_long_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    let _ = write!(out, "\n## {name}\n\n```text\n{}\n```\n", help.join("\n").trim_end());
    for below in command.get_subcommands_mut() {
        section(below, &format!("{name} "), out);
    }
}

/// Compares a file of `docs/` with what it should hold, or writes it where UPDATE is set.
fn checked_in(name: &str, expected: &str) {
    let path = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs")).join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "docs/{name} is out of date: UPDATE=1 cargo test -p flotilla-cli reference");
}

#[test]
fn the_reference_is_up_to_date() {
    checked_in("cli-reference.md", &markdown());
}

#[test]
fn the_guide_holds_the_tables_of_exit_codes_and_variables() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cli.md");
    let guide = std::fs::read_to_string(path).unwrap();
    for table in [crate::exit::table(), crate::env::table()] {
        assert!(guide.contains(&table), "docs/cli.md lacks this:\n{table}");
    }
}
