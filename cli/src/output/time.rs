//! Times for people: how long ago in tables, the date in UTC elsewhere.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

/// How long something took or will take: `42s`, `17m`, `5h`, `12d`.
pub(crate) fn span(seconds: i64) -> String {
    match seconds {
        ..0 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

/// How long ago it was; empty if it never was.
pub(crate) fn age(now: i64, at: Option<i64>) -> String {
    at.map(|at| span(now - at)).unwrap_or_default()
}

/// `2026-08-01T12:00:00Z`
pub(crate) fn date(at: i64) -> String {
    jiff::Timestamp::from_second(at).map_or_else(|_| at.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short() {
        for (seconds, expected) in
            [(-5, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h"), (172_800, "2d")]
        {
            assert_eq!(span(seconds), expected);
        }
        assert_eq!((age(100, None).as_str(), age(100, Some(70)).as_str()), ("", "30s"));
        assert_eq!(date(1_785_585_600), "2026-08-01T12:00:00Z");
        assert_eq!(date(i64::MAX), i64::MAX.to_string());
    }
}
