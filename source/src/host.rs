//! The host of an address, in one spelling.
//!
//! Programs read hosts differently: `2130706433`, `0x7f.1`, `0177.0.0.1`, `%31%32%37.0.0.1` and `127.0.0.1.` are names to
//! some and 127.0.0.1 to others. Whatever is decided about a host is decided about what the URL standard of browsers
//! (<https://url.spec.whatwg.org/#host-parsing>) makes of it, and that spelling is the one that is connected to.

use url::Host;

/// Why a text is not a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{shown}' is not a valid host: {reason}")]
pub struct HostError {
    pub shown: String,
    pub reason: String,
}

/// The host that a text means. An IPv6 address may stand in brackets or without them.
pub(crate) fn canonical(text: &str) -> Result<Host, HostError> {
    let wrong = |reason: String| HostError { shown: text.to_owned(), reason };
    let is_bare_v6 = text.contains(':') && !text.starts_with('[');
    let host = if is_bare_v6 { Host::parse(&format!("[{text}]")) } else { Host::parse(text) };
    let host = host.map_err(|error| wrong(error.to_string()))?;
    if let Host::Domain(name) = &host {
        let labels = name.strip_suffix('.').unwrap_or(name);
        if labels.split('.').any(str::is_empty) {
            return Err(wrong("a part between its dots is empty".to_owned()));
        }
        if labels.len() > 253 || labels.split('.').any(|label| label.len() > 63) {
            return Err(wrong("it is longer than a DNS name can be".to_owned()));
        }
    }
    Ok(host)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Ways to write an address that is not public, each with what it means.
    pub(crate) const SPELLINGS: &[(&str, &str)] = &[
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("017700000001", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("0x7F.1", "127.0.0.1"),
        ("0177.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("127.0.1", "127.0.0.1"),
        ("0x7f.0.0.0x1", "127.0.0.1"),
        ("%31%32%37.0.0.1", "127.0.0.1"),
        ("127%2E0%2e0.1", "127.0.0.1"),
        ("①②⑦.0.0.1", "127.0.0.1"),
        ("127。0。0。1", "127.0.0.1"),
        ("0", "0.0.0.0"),
        ("0.0.0.0", "0.0.0.0"),
        ("2852039166", "169.254.169.254"),
        ("0xa9fea9fe", "169.254.169.254"),
        ("0251.0376.0251.0376", "169.254.169.254"),
        ("169.254.43518", "169.254.169.254"),
        ("167772161", "10.0.0.1"),
        ("[::1]", "[::1]"),
        ("[::]", "[::]"),
        ("[0:0:0:0:0:0:0:1]", "[::1]"),
        ("[::ffff:127.0.0.1]", "[::ffff:7f00:1]"),
        ("[::ffff:7f00:1]", "[::ffff:7f00:1]"),
        ("[::127.0.0.1]", "[::7f00:1]"),
        ("[64:ff9b::7f00:1]", "[64:ff9b::7f00:1]"),
        ("[64:ff9b:1::7f00:1]", "[64:ff9b:1::7f00:1]"),
        ("[2002:7f00:1::]", "[2002:7f00:1::]"),
        ("[2001:0:7f00:1::]", "[2001:0:7f00:1::]"),
        ("[fd00::1]", "[fd00::1]"),
        ("[FE80::1]", "[fe80::1]"),
    ];

    /// Names that the resolver of a machine gives a loopback address.
    pub(crate) const LOCAL_NAMES: &[&str] = &["localhost", "LOCALHOST", "ｌｏｃａｌｈｏｓｔ", "local%68ost"];

    #[test]
    fn every_spelling_of_an_address_is_that_address() {
        for (text, means) in SPELLINGS {
            assert_eq!(canonical(text).map(|host| host.to_string()).as_deref(), Ok(*means), "{text}");
        }
        for text in LOCAL_NAMES {
            assert_eq!(canonical(text), Ok(Host::Domain("localhost".into())), "{text}");
        }
        assert_eq!(canonical("::1").unwrap().to_string(), "[::1]");
        for (text, means) in [("Git.Example.", "git.example."), ("bücher.example", "xn--bcher-kva.example")]
        {
            assert_eq!(canonical(text), Ok(Host::Domain(means.into())), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_host() {
        let long = "a".repeat(64);
        for text in [
            "",
            ".",
            "a..b",
            "a b",
            "a/b",
            "a\\b",
            "a@b",
            "a:80",
            "a#b",
            "a?b",
            "%00",
            "%2f",
            "256.0.0.1",
            "1.2.3.4.5",
            "4294967296",
            "0x7f.0x0.0x0.0x100",
            "127.0.0.1x.9",
            "[::1",
            "[fe80::1%25eth0]",
            "[fe80::1%eth0]",
            "[1.2.3.4]",
            &long,
        ] {
            assert!(canonical(text).is_err(), "{text}: {:?}", canonical(text));
        }
    }
}
