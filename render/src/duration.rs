//! Durations as Go writes them (`10m`, `1h30m0s`, `500ms`), which is what Flux's fields hold.

/// Reads a Go duration, in seconds, rounded up.
pub fn seconds(text: &str) -> Result<u32, String> {
    let bad = || format!("'{text}' is not a duration: expected a form like 30s, 10m or 1h30m");
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(0);
    }
    let mut total = 0_f64;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let number: f64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        total += number
            * match &rest[..unit] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" | "μs" => 1e-6,
                "ns" => 1e-9,
                _ => return Err(bad()),
            };
        rest = &rest[unit..];
    }
    if total > f64::from(u32::MAX) {
        return Err(format!("'{text}' is too long a duration"));
    }
    Ok(total.ceil() as u32)
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn go_durations() {
        for (text, expected) in [
            ("10m", Some(600)),
            ("1h30m0s", Some(5400)),
            ("1m30.5s", Some(91)),
            ("500ms", Some(1)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("", None),
            ("10", None),
            ("m", None),
            ("-5s", None),
            ("5d", None),
            ("999999999h", None),
        ] {
            assert_eq!(seconds(text).ok(), expected, "{text}");
        }
    }
}
