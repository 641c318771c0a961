//! Scalars of every style and shape, alone and over several lines.

use super::super::rng::Rng;

/// A value that is a string whoever reads it.
pub(super) fn text(rng: &mut Rng, indent: usize) -> String {
    let text = match rng.below(10) {
        0..=4 => return block_scalar(rng, indent),
        5 => rng.word(&["x", "x y", "é", "a.b/c", "it's"]).to_owned(),
        6 => format!("'{}'", one_line(rng).replace('\'', "''")),
        7 => broken(rng, indent + 2),
        _ => {
            let text = shape(rng);
            double_quoted(rng, &text)
        }
    };
    let end = rng.word(&["\n", "\n", "\n", " \n", " # c\n", "\t# c\n", "  # {}\n"]);
    format!(" {text}{end}")
}

/// A text of one line that can stand between single quotes.
fn one_line(rng: &mut Rng) -> String {
    shape(rng).replace(['\n', '\r', '\u{7f}', '\u{85}', '\u{feff}'], " ")
}

/// A text in double quotes on several lines.
fn broken(rng: &mut Rng, indent: usize) -> String {
    let between = rng.word(&["\n", "\n\n", "\\\n", "\t\n", "\n\\ ", " \u{2028} ", "\u{85}"]);
    let indent = " ".repeat(rng.below(indent + 2));
    format!("\"one{}two\"", between.replace('\n', &format!("\n{indent}")))
}

pub(super) fn tag(rng: &mut Rng) -> &'static str {
    rng.word(&[
        "!!str ",
        "!!str ",
        "!!int ",
        "!!float ",
        "!!bool ",
        "!!null ",
        "!!binary ",
        "!!timestamp ",
        "!x ",
        "! ",
    ])
}

const WORDS: [&str; 14] = [
    "one",
    "two words",
    "a: b",
    "# no",
    "it's",
    "\"q\"",
    "é",
    "😀",
    "- x",
    "\ttab",
    "in\tside",
    "x ",
    "{",
    "a \u{a0}",
];

/// A literal or folded block of random lines.
pub(super) fn block_scalar(rng: &mut Rng, indent: usize) -> String {
    let header = rng.word(&["|", "|", "|-", "|+", ">", ">", ">", ">-", ">+"]);
    let mut lines = Vec::new();
    for _ in 0..rng.between(0, 2) {
        lines.push(String::new());
    }
    for _ in 0..rng.between(1, 5) {
        let deeper = rng.word(&["", "", "", " ", "  ", "   "]);
        lines.push(match rng.below(6) {
            0 => String::new(),
            1 => format!("{deeper}{} {}", rng.word(&WORDS), rng.word(&WORDS)),
            _ => format!("{deeper}{}", rng.word(&WORDS)),
        });
    }
    for _ in 0..rng.below(3) {
        lines.push(String::new());
    }
    if rng.chance(4) {
        lines.push("long words ".repeat(12).trim_end().to_owned());
    }
    // The first line says how deep all are, unless a number does.
    let first = lines.iter().find(|line| !line.is_empty()).cloned().unwrap_or_default();
    let number = if first.starts_with([' ', '\t']) || rng.chance(5) { "2" } else { "" };
    let comment = if rng.chance(4) { " # c" } else { "" };
    let tag = if rng.chance(4) { rng.word(&["!!str ", "!x ", "! "]) } else { "" };
    let mut text = format!(" {tag}{}{number}{}{comment}\n", &header[..1], &header[1..]);
    for line in lines {
        if line.is_empty() {
            text.push('\n');
        } else {
            text += &format!("{}{line}\n", " ".repeat(indent + 2));
        }
    }
    text
}

/// A text of any shape.
pub(super) fn shape(rng: &mut Rng) -> String {
    match rng.below(8) {
        0 => rng
            .word(&[
                "",
                " ",
                "1",
                "yes",
                "null",
                "2020-01-02",
                "0644",
                "1e3",
                "~",
                "12:30",
                "<<",
                "=",
                "1_000",
            ])
            .to_owned(),
        1 => rng
            .word(&[
                "a\u{85}b",
                "a \u{85} b",
                "a\u{2028}b",
                "a \u{2029}b",
                "\u{feff}a",
                "a\u{feff}",
                "a\u{a0}",
                "a\u{7f}",
                "\u{fffd}",
                "\u{10ffff}",
                "a\u{2028}",
            ])
            .to_owned(),
        2 => rng
            .word(&[
                "a\nb",
                "a\n",
                "\na",
                "a\n\n",
                " a\nb",
                "a\n b\nc\n",
                "a \nb",
                "a\tb\n",
                "\n",
                "\t",
                "a\r\nb",
                "a\u{2028}b\n",
            ])
            .to_owned(),
        3 => "a long text of words ".repeat(rng.between(4, 9)),
        _ => format!("{}{}{}", rng.word(&WORDS), rng.word(&["", " ", "\n", "\n\n"]), rng.word(&WORDS)),
    }
}

pub(super) fn double_quoted(rng: &mut Rng, text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out += "\\\"",
            '\\' => out += "\\\\",
            '\n' => out += "\\n",
            '\r' => out += "\\r",
            '\t' if rng.chance(50) => out += "\\t",
            c if c.is_control() || "\u{2028}\u{2029}\u{feff}".contains(c) => {
                out += &format!("\\u{:04x}", u32::from(c))
            }
            c => out.push(c),
        }
    }
    out + "\""
}

/// A scalar that may go on on the next line.
pub(super) fn scalar(rng: &mut Rng, indent: usize) -> String {
    const PLAIN: [&str; 44] = [
        "",
        "x",
        "x y",
        "~",
        "null",
        "Null",
        "true",
        "False",
        "yes",
        "NO",
        "on",
        "y",
        "n",
        "0",
        "-0",
        "+5",
        "0644",
        "08",
        "0o17",
        "0x1F",
        "0b11",
        "1_000",
        "1.",
        ".5",
        "1.50",
        "1e3",
        "1E+3",
        "1e400",
        ".inf",
        "-.INF",
        ".nan",
        "2020-01-02",
        "2020-1-2",
        "2020-01-02T03:04:05Z",
        "2020-01-02 03:04:05.60",
        "12:30",
        "9007199254740993",
        "9223372036854775808",
        "18446744073709551616",
        "1000000",
        "1234567.5",
        "=",
        "<<",
        "é",
    ];
    match rng.below(10) {
        0..=3 => rng.word(&PLAIN).to_owned(),
        4 => format!(
            "one{}two",
            rng.word(&["\n", "\n\n", " \n "]).replace('\n', &format!("\n{}", " ".repeat(indent)))
        ),
        5 | 6 => format!("'{}'", one_line(rng).replace('\'', "''")),
        7 => broken(rng, indent),
        _ => {
            let text = shape(rng);
            double_quoted(rng, &text)
        }
    }
}
