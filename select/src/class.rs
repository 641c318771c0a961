//! Classes of characters, in the syntax of the `regex` crate.

/// The ranges of a class that is named after a backslash: `\d`.
pub(crate) fn perl(letter: char) -> Option<&'static str> {
    Some(match letter {
        'd' => "[0-9]",
        'D' => "[^0-9]",
        's' => "[\\t\\n\\x0C\\r ]",
        'S' => "[^\\t\\n\\x0C\\r ]",
        'w' => "[0-9A-Za-z_]",
        'W' => "[^0-9A-Za-z_]",
        _ => return None,
    })
}

/// That of a class that is named between brackets and colons: `alpha`, `^alpha`.
pub(crate) fn posix(name: &str) -> Option<String> {
    let (not, name) = name.strip_prefix('^').map_or(("", name), |name| ("^", name));
    let ranges = match name {
        "alnum" => "0-9A-Za-z",
        "alpha" => "A-Za-z",
        "ascii" => "\\x00-\\x7F",
        "blank" => "\\t ",
        "cntrl" => "\\x00-\\x1F\\x7F",
        "digit" => "0-9",
        "graph" => "!-~",
        "lower" => "a-z",
        "print" => " -~",
        "punct" => "!-/:-@\\[-`\\{-~",
        "space" => "\\t-\\r ",
        "upper" => "A-Z",
        "word" => "0-9A-Za-z_",
        "xdigit" => "0-9A-Fa-f",
        _ => return None,
    };
    Some(format!("[{not}{ranges}]"))
}

/// A range of code points. Halves of surrogate pairs are characters to Go, and never in a text.
pub(crate) fn range(low: u32, high: u32) -> String {
    let surrogate = |code: u32| (0xd800..0xe000).contains(&code);
    let low = if surrogate(low) { 0xe000 } else { low };
    let high = if surrogate(high) { 0xd7ff } else { high };
    if low > high { String::new() } else { format!("\\x{{{low:X}}}-\\x{{{high:X}}}") }
}

/// The class of these parts, or of all but these.
pub(crate) fn whole(parts: &str, negated: bool) -> String {
    const ALL: &str = "\\x{0}-\\x{10FFFF}";
    match (parts, negated) {
        ("", false) => format!("[^{ALL}]"),
        ("", true) => format!("[{ALL}]"),
        (parts, false) => format!("[{parts}]"),
        (parts, true) => format!("[^{parts}]"),
    }
}
