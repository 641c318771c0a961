//! Dates and times in plain scalars, as go-yaml sees them: RFC 3339 with one or two digits for each part but the
//! year, a date and time separated by a space and without zone, or a date alone.

/// The time in the text as Go's `time.RFC3339Nano` writes it; `None` if it is none.
pub(crate) fn parse(text: &str) -> Option<String> {
    let mut rest = Cursor(text.as_bytes());
    let year = rest.digits(4, 4)?;
    rest.take(b'-')?;
    let month = rest.digits(1, 2)?;
    rest.take(b'-')?;
    let day = rest.digits(1, 2)?;
    if !(1..=12).contains(&month) || day < 1 || day > days(year, month) {
        return None;
    }
    let date = format!("{year:04}-{month:02}-{day:02}");
    if rest.0.is_empty() {
        return Some(format!("{date}T00:00:00Z"));
    }
    let zoned = match rest.0 {
        [b'T' | b't', ..] => true,
        [b' ', ..] => false,
        _ => return None,
    };
    rest.0 = &rest.0[1..];
    let hour = rest.digits(1, 2).filter(|h| *h < 24)?;
    rest.take(b':')?;
    let minute = rest.digits(1, 2).filter(|m| *m < 60)?;
    rest.take(b':')?;
    let second = rest.digits(1, 2).filter(|s| *s < 60)?;
    let fraction = rest.fraction();
    let zone = if zoned { rest.zone()? } else { "Z".into() };
    rest.0.is_empty().then(|| format!("{date}T{hour:02}:{minute:02}:{second:02}{fraction}{zone}"))
}

fn days(year: u32, month: u32) -> u32 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take(&mut self, byte: u8) -> Option<()> {
        self.0 = self.0.strip_prefix(&[byte])?;
        Some(())
    }

    /// A number of at least `min` digits; takes at most `max`.
    fn digits(&mut self, min: usize, max: usize) -> Option<u32> {
        let count = self.0.iter().take(max).take_while(|b| b.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at(count);
        self.0 = rest;
        (count >= min).then(|| digits.iter().fold(0, |n, b| n * 10 + u32::from(b - b'0')))
    }

    /// `.5` to at most nanoseconds, without zeros at the end; nothing if there is no fraction.
    fn fraction(&mut self) -> String {
        let [b'.' | b',', rest @ ..] = self.0 else { return String::new() };
        let count = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        if count == 0 {
            return String::new();
        }
        let nanos: String = rest[..count.min(9)].iter().map(|b| char::from(*b)).collect();
        self.0 = &rest[count..];
        match nanos.trim_end_matches('0') {
            "" => String::new(),
            digits => format!(".{digits}"),
        }
    }

    /// `Z` or `+hh:mm`.
    fn zone(&mut self) -> Option<String> {
        if self.take(b'Z').is_some() {
            return Some("Z".into());
        }
        let sign = match self.0 {
            [b'+', ..] => '+',
            [b'-', ..] => '-',
            _ => return None,
        };
        self.0 = &self.0[1..];
        let hours = self.digits(2, 2).filter(|h| *h < 24)?;
        self.take(b':')?;
        let minutes = self.digits(2, 2).filter(|m| *m < 60)?;
        Some(if hours == 0 && minutes == 0 { "Z".into() } else { format!("{sign}{hours:02}:{minutes:02}") })
    }
}
