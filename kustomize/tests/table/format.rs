//! The text of a file of cases, in and out.

use std::fmt::Write as _;

/// One case.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) files: Vec<File>,
    pub(crate) root: Option<String>,
    /// The absolute path of the tree, which files may name.
    pub(crate) place: Option<String>,
    /// Whether charts are rendered.
    pub(crate) helm: bool,
    /// The heading under which the outcome stands, and its text.
    pub(crate) outcome: (String, String),
    /// Whether notices stand with it.
    pub(crate) notices: Option<String>,
}

pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) content: Vec<u8>,
    /// The content as it stands in the table.
    text: String,
    escaped: bool,
}

pub(crate) const EXPECTED: &str = "expected";
pub(crate) const HERE_ALONE: &str = "expected here alone";
pub(crate) const ERROR: &str = "error";
const ERROR_HERE_ALONE: &str = "error here alone";

impl Case {
    pub(crate) fn is_error(&self) -> bool {
        matches!(self.outcome.0.as_str(), ERROR | ERROR_HERE_ALONE)
    }
}

enum Into {
    Nothing,
    File,
    Outcome { escaped: bool },
    Notices,
}

pub(crate) fn read(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut into = Into::Nothing;
    for line in text.split_terminator('\n') {
        if let Some(name) = line.strip_prefix("== ") {
            let (files, outcome) = (Vec::new(), Default::default());
            let name = name.to_owned();
            cases.push(Case { name, files, root: None, place: None, helm: false, outcome, notices: None });
            into = Into::Nothing;
            continue;
        }
        let Some(case) = cases.last_mut() else { panic!("'{line}' stands before the first case") };
        if let Some(heading) = line.strip_prefix("-- ") {
            into = head(case, heading);
            continue;
        }
        let (to, escaped) = match &into {
            Into::Nothing => {
                assert!(line.is_empty(), "'{line}' belongs to no file");
                continue;
            }
            Into::File => {
                let file = case.files.last_mut().expect("a file after its heading");
                file.text.push_str(line);
                file.text.push('\n');
                continue;
            }
            Into::Outcome { escaped } => (&mut case.outcome.1, *escaped),
            Into::Notices => (case.notices.get_or_insert_default(), false),
        };
        to.push_str(&if escaped {
            String::from_utf8(unescape(line)).expect("text")
        } else {
            line.to_owned()
        });
        to.push('\n');
    }
    for file in cases.iter_mut().flat_map(|case| &mut case.files) {
        file.content = if file.escaped { unescape(&file.text) } else { file.text.clone().into_bytes() };
    }
    cases
}

fn head(case: &mut Case, heading: &str) -> Into {
    let (name, escaped) = match heading.strip_suffix(" (escaped)") {
        Some(name) => (name, true),
        None => (heading, false),
    };
    match name {
        EXPECTED | HERE_ALONE | ERROR | ERROR_HERE_ALONE => {
            name.clone_into(&mut case.outcome.0);
            return Into::Outcome { escaped };
        }
        "notices" => {
            case.notices = Some(String::new());
            return Into::Notices;
        }
        "helm" => case.helm = true,
        name => {
            if let Some(root) = name.strip_prefix("build ") {
                case.root = Some(root.to_owned());
            } else if let Some(place) = name.strip_prefix("at ") {
                case.place = Some(place.to_owned());
            } else {
                let path = name.to_owned();
                case.files.push(File { path, content: Vec::new(), text: String::new(), escaped });
                return Into::File;
            }
        }
    }
    Into::Nothing
}

pub(crate) fn write(cases: &[Case]) -> String {
    let mut text = String::new();
    for case in cases {
        writeln!(text, "== {}", case.name).unwrap();
        for file in &case.files {
            let mark = if file.escaped { " (escaped)" } else { "" };
            write!(text, "-- {}{mark}\n{}", file.path, file.text).unwrap();
        }
        if let Some(place) = &case.place {
            writeln!(text, "-- at {place}").unwrap();
        }
        if case.helm {
            text.push_str("-- helm\n");
        }
        if let Some(root) = &case.root {
            writeln!(text, "-- build {root}").unwrap();
        }
        let (heading, outcome) = &case.outcome;
        let odd = |c: char| c != '\n' && (c.is_control() || "\u{2028}\u{2029}\u{feff}".contains(c));
        if outcome.contains(odd) {
            let lines: String = outcome.split_inclusive('\n').map(escape).collect();
            write!(text, "-- {heading} (escaped)\n{lines}").unwrap();
        } else {
            write!(text, "-- {heading}\n{outcome}").unwrap();
        }
        if let Some(notices) = &case.notices {
            write!(text, "-- notices\n{notices}").unwrap();
        }
    }
    text
}

fn escape(line: &str) -> String {
    let mut escaped = String::new();
    for c in line.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push('\n'),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            c if c.is_control() || "\u{2028}\u{2029}\u{feff}".contains(c) => {
                write!(escaped, "\\u{{{:x}}}", u32::from(c)).unwrap();
            }
            c => escaped.push(c),
        }
    }
    escaped
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let (what, mut next) = after.split_at(after.chars().next().map_or(0, char::len_utf8));
        match what {
            "r" => bytes.push(b'\r'),
            "t" => bytes.push(b'\t'),
            "\\" => bytes.push(b'\\'),
            "\n" => {}
            "x" => {
                bytes.push(u8::from_str_radix(&next[..2], 16).expect("two digits after \\x"));
                next = &next[2..];
            }
            "u" => {
                let (code, after) = next.strip_prefix('{').and_then(|n| n.split_once('}')).expect("\\u{...}");
                let c = u32::from_str_radix(code, 16).ok().and_then(char::from_u32).expect("a character");
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                next = after;
            }
            other => panic!("'\\{other}' is no escape of the table"),
        }
        rest = next;
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}
