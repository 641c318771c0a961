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

/// Go's categories, without those that have what is not assigned.
const CATEGORIES: [&str; 74] = [
    "casedletter",
    "cc",
    "cf",
    "closepunctuation",
    "cntrl",
    "co",
    "combiningmark",
    "connectorpunctuation",
    "control",
    "currencysymbol",
    "dashpunctuation",
    "decimalnumber",
    "digit",
    "enclosingmark",
    "finalpunctuation",
    "format",
    "initialpunctuation",
    "l",
    "lc",
    "letter",
    "letternumber",
    "lineseparator",
    "ll",
    "lm",
    "lo",
    "lowercaseletter",
    "lt",
    "lu",
    "m",
    "mark",
    "mathsymbol",
    "mc",
    "me",
    "mn",
    "modifierletter",
    "modifiersymbol",
    "n",
    "nd",
    "nl",
    "no",
    "nonspacingmark",
    "number",
    "openpunctuation",
    "otherletter",
    "othernumber",
    "otherpunctuation",
    "othersymbol",
    "p",
    "paragraphseparator",
    "pc",
    "pd",
    "pe",
    "pf",
    "pi",
    "po",
    "privateuse",
    "ps",
    "punct",
    "punctuation",
    "s",
    "sc",
    "separator",
    "sk",
    "sm",
    "so",
    "spaceseparator",
    "spacingmark",
    "symbol",
    "titlecaseletter",
    "uppercaseletter",
    "z",
    "zl",
    "zp",
    "zs",
];

/// Go's scripts of one word.
const SCRIPTS: [&str; 117] = [
    "adlam",
    "ahom",
    "arabic",
    "armenian",
    "avestan",
    "balinese",
    "bamum",
    "batak",
    "bengali",
    "bhaiksuki",
    "bopomofo",
    "brahmi",
    "braille",
    "buginese",
    "buhid",
    "carian",
    "chakma",
    "cham",
    "cherokee",
    "chorasmian",
    "common",
    "coptic",
    "cuneiform",
    "cypriot",
    "cyrillic",
    "deseret",
    "devanagari",
    "dogra",
    "duployan",
    "elbasan",
    "elymaic",
    "ethiopic",
    "georgian",
    "glagolitic",
    "gothic",
    "grantha",
    "greek",
    "gujarati",
    "gurmukhi",
    "han",
    "hangul",
    "hanunoo",
    "hatran",
    "hebrew",
    "hiragana",
    "inherited",
    "javanese",
    "kaithi",
    "kannada",
    "katakana",
    "kawi",
    "kharoshthi",
    "khmer",
    "khojki",
    "khudawadi",
    "lao",
    "latin",
    "lepcha",
    "limbu",
    "lisu",
    "lycian",
    "lydian",
    "mahajani",
    "makasar",
    "malayalam",
    "mandaic",
    "manichaean",
    "marchen",
    "medefaidrin",
    "miao",
    "modi",
    "mongolian",
    "mro",
    "multani",
    "myanmar",
    "nabataean",
    "nandinagari",
    "newa",
    "nko",
    "nushu",
    "ogham",
    "oriya",
    "osage",
    "osmanya",
    "palmyrene",
    "phoenician",
    "rejang",
    "runic",
    "samaritan",
    "saurashtra",
    "sharada",
    "shavian",
    "siddham",
    "sinhala",
    "sogdian",
    "soyombo",
    "sundanese",
    "syriac",
    "tagalog",
    "tagbanwa",
    "takri",
    "tamil",
    "tangsa",
    "tangut",
    "telugu",
    "thaana",
    "thai",
    "tibetan",
    "tifinagh",
    "tirhuta",
    "toto",
    "ugaritic",
    "vai",
    "vithkuqi",
    "wancho",
    "yezidi",
    "yi",
];

/// That of a class of Unicode by its name (`Lu`, `Letter`, `Greek`), as Go 1.26 reads it: loose in case, spaces, hyphens and
/// underscores, but with tables of Unicode 15.0, and scripts of two words are unknown to it. All names were compared with Go
/// over a sample of characters and the ends of all ranges: what differs is U+1171E, and two capitals of Unicode 16 with their small letters where case is ignored.
pub(crate) fn unicode(name: &str, negated: bool) -> Option<String> {
    let is_bound = |c: &char| !matches!(c, '_' | '-' | ' ');
    let name: String = name.chars().filter(is_bound).map(|c| c.to_ascii_lowercase()).collect();
    let not = if negated { "^" } else { "" };
    Some(match name.as_str() {
        "any" => whole("", !negated),
        "ascii" => format!("[{not}\\x00-\\x7F]"),
        "cs" | "surrogate" => whole("", negated),
        // What came after is assigned to nothing.
        "c" | "other" | "cn" | "unassigned" => format!("[{not}\\p{{gc={name}}}\\P{{age=15.0}}]"),
        "assigned" => format!("[{not}\\P{{gc=cn}}&&\\p{{age=15.0}}]"),
        name => {
            let property = if CATEGORIES.contains(&name) {
                "gc"
            } else if SCRIPTS.contains(&name) {
                "sc"
            } else {
                return None;
            };
            format!("[{not}\\p{{{property}={name}}}&&\\p{{age=15.0}}]")
        }
    })
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
